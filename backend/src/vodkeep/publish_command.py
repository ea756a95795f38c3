"""``vodkeep publish preview``: what would be sent to YouTube."""

from __future__ import annotations

from rich.console import Console

from vodkeep.bootstrap import build_previewer
from vodkeep.catalog.model import item_id_from
from vodkeep.opening import need_kept_database
from vodkeep.printing import say
from vodkeep.publish.chapters import timestamp
from vodkeep.settings import Settings
from vodkeep.web.publication_preview import PublicationPreview, VideoPreview, preview_of


async def show_preview(settings: Settings, address: str, console: Console, *, as_json: bool) -> int:
    """Print what would be sent for an item, by id or address; raises `UnknownItem`."""
    database = await need_kept_database(settings)
    try:
        preview = preview_of(await build_previewer(settings, database).preview(item_id_from(address)))
    finally:
        database.dispose()
    if as_json:
        console.print_json(preview.model_dump_json())
    else:
        _print(preview, console)
    return 0


def _print(preview: PublicationPreview, console: Console) -> None:
    for video in preview.videos:
        for line in _lines(video):
            say(console, line)
        say(console, "")
    say(console, f"Thumbnail: {preview.thumbnail or 'none'}")
    for note in [*preview.notes, *(note for video in preview.videos for note in video.notes)]:
        say(console, f"Note: {note}")


def _lines(video: VideoPreview) -> list[str]:
    return [
        f"Video {video.part} of {video.parts}: {timestamp(video.start_ms)} to {timestamp(video.end_ms)}",
        f"Title: {video.title}",
        f"Tags: {', '.join(video.tags) or 'none'}",
        f"Privacy: {video.privacy}",
        f"Category: {video.category_id}",
        f"Made for kids: {'yes' if video.made_for_kids else 'no'}",
        f"Language: {video.language or 'not told'}",
        f"Recorded: {video.recorded_at.isoformat() if video.recorded_at is not None else 'not known'}",
        f"Playlist: {video.playlist or 'none'}",
        "Description:",
        *(f"  {line}".rstrip() for line in video.description.split("\n")),
    ]
