"""What an item would be on YouTube: its parts, and what is said about each. The stage and the preview both ask here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anyio.to_thread
from sqlalchemy import select

from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.tables import channels, vods
from vodkeep.errors import PermanentError, UnknownItem
from vodkeep.keep.library import load_manifest_quietly
from vodkeep.keep.manifest import Manifest
from vodkeep.pipeline.film_parts import measure_film, read_cut_points
from vodkeep.pipeline.recheck import folder_of
from vodkeep.pipeline.store import QueueStore
from vodkeep.publish.chapters import Chapter
from vodkeep.publish.metadata import PublishSubject, PublishTemplates, Rendering, Stretch, render
from vodkeep.publish.publication import marker_of
from vodkeep.publish.split import Limits, Part, is_too_much, plan_parts
from vodkeep.publish.store import PublicationStore
from vodkeep.publish.thumbnail import THUMBNAIL_NAME, refusal_of

VIDEO_NAME = "video.mp4"
_VOD_URL = "https://www.twitch.tv/videos/"


@dataclass(frozen=True, slots=True)
class PublishItem:
    """An item that is to be published, or looked at as if it were."""

    subject: PublishSubject
    folder: Path | None  # with its video; None while it is not kept
    round: int  # of its present publication, or of the one that would be planned now
    links: dict[int, str]  # YouTube's ids of the parts that are there, by number
    planned: tuple[Part, ...]  # as they were decided; empty when they were not yet


@dataclass(frozen=True, slots=True)
class PlannedVideo:
    """One video of an item."""

    part: Part
    marker: str
    rendering: Rendering


@dataclass(frozen=True, slots=True)
class Preview:
    """Everything that would be sent for an item."""

    item_id: str
    is_kept: bool
    videos: tuple[PlannedVideo, ...]
    thumbnail: str | None  # the file's name; None without one that YouTube takes
    notes: tuple[str, ...]  # sentences about the item as a whole


def load_publish_item(unit: UnitOfWork, item_id: str, library: Path) -> PublishItem:
    """The item with all that is said about it; blocking. Raises `UnknownItem`."""
    item = QueueStore(unit.connection).find(item_id)
    row = unit.connection.execute(
        select(vods.c.description, vods.c.custom_description, channels.c.display_name)
        .select_from(vods.outerjoin(channels, channels.c.login == vods.c.channel))
        .where(vods.c.twitch_vod_id == item_id)
    ).one_or_none()
    if item is None or row is None:
        raise UnknownItem(f"There is no item {item_id}.")
    folder = folder_of(item)
    manifest = load_manifest_quietly(library / folder) if folder is not None else None
    if manifest is not None and manifest.video_id != item_id:
        manifest = None
    told = manifest.channel_name if manifest is not None else ""
    subject = PublishSubject(
        vod_id=item_id,
        channel=item.channel,
        name=row.display_name or told or item.channel,
        title=item.title,
        date=item.date,
        duration_ms=manifest.duration_ms if manifest is not None else (item.duration_seconds or 0) * 1000,
        url=f"{_VOD_URL}{item_id}" if item_id.isascii() and item_id.isdigit() else "",
        description=row.custom_description if row.custom_description is not None else row.description,
    )
    store = PublicationStore(unit.connection)
    current = store.current(item_id)
    return PublishItem(
        subject=_with_manifest(subject, manifest) if manifest is not None else subject,
        folder=library / folder if manifest is not None and folder is not None else None,
        round=current[0].round if current else store.next_round(item_id),
        links={each.part: each.youtube_id for each in current if each.youtube_id is not None},
        planned=tuple(Part(each.part, each.parts, each.start_ms, each.end_ms) for each in current),
    )


def _with_manifest(subject: PublishSubject, manifest: Manifest) -> PublishSubject:
    return replace(
        subject,
        chapters=tuple(Chapter(entry.start_ms, entry.title) for entry in manifest.chapters),
        missing=tuple(Stretch(entry.start_ms, entry.end_ms) for entry in manifest.ledger if entry.source == "missing"),
        muted=tuple(Stretch(entry.start_ms, entry.end_ms) for entry in manifest.ledger if entry.reason == "muted"),
    )


def plan_item(item: PublishItem, limits: Limits) -> tuple[Part, ...]:
    """The parts of the item: those that were decided, else as few as the limits allow; blocking.

    Raises `CannotSplit`, and `PermanentError`: ``film_damaged`` when the film cannot be read, ``no_picture``.
    """
    if item.planned:
        return item.planned
    if item.folder is None:
        return (Part(1, 1, 0, item.subject.duration_ms),)
    video = item.folder / VIDEO_NAME
    length = measure_film(video)
    if not length.has_picture:
        raise PermanentError(
            "YouTube takes no broadcast without a picture, and of this one only the sound is kept.",
            code="no_picture",
            remedy="Mark it with vodkeep skip-upload.",
        )
    points = read_cut_points(video) if is_too_much(length.duration_ms, length.size_bytes, limits) else []
    starts = [chapter.start_ms for chapter in item.subject.chapters]
    return tuple(plan_parts(length.duration_ms, length.size_bytes, starts, points, limits))


def render_parts(item: PublishItem, parts: tuple[Part, ...], templates: PublishTemplates) -> tuple[PlannedVideo, ...]:
    """What YouTube is told about each part."""
    videos = []
    for part in parts:
        marker = marker_of(item.subject.vod_id, item.round, part.number)
        rendering = render(templates, item.subject, marker=marker, part=part, links=item.links)
        videos.append(PlannedVideo(part, marker, rendering))
    return tuple(videos)


class Previewer:
    """Answers what would be sent, without an account and without changing anything."""

    def __init__(self, database: Database, library: Path, templates: PublishTemplates, limits: Limits) -> None:
        self._database = database
        self._library = library
        self._templates = templates
        self._limits = limits

    async def preview(self, item_id: str) -> Preview:
        """What would be sent for an item; raises `UnknownItem` and `DatabaseUnavailable`."""
        item = await self._database.run(lambda unit: load_publish_item(unit, item_id, self._library), write=False)
        return await anyio.to_thread.run_sync(partial(self._look, item))

    def _look(self, item: PublishItem) -> Preview:
        notes = []
        try:
            parts = plan_item(item, self._limits)
        except PermanentError as error:
            notes.append(str(error))
            parts = (Part(1, 1, 0, item.subject.duration_ms),)
        except OSError as error:
            notes.append(f"The video cannot be read: {error.strerror or error}.")
            parts = (Part(1, 1, 0, item.subject.duration_ms),)
        thumbnail = None
        if item.folder is None:
            notes.append("It is not kept yet: chapters, gaps and the division into parts are not known.")
        else:
            refusal = refusal_of(item.folder / THUMBNAIL_NAME)
            thumbnail = THUMBNAIL_NAME if refusal is None else None
            notes += [refusal] if refusal is not None else []
        videos = render_parts(item, parts, self._templates)
        return Preview(item.subject.vod_id, item.folder is not None, videos, thumbnail, tuple(notes))
