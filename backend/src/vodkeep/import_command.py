"""``vodkeep import``: take recordings of other programs into the archive."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio.to_thread
from rich.console import Console

from vodkeep.capture.tools import find_ffmpeg
from vodkeep.clock import Clock
from vodkeep.errors import SettingsError, VodkeepError
from vodkeep.keep.library import Library
from vodkeep.keep.origins import Origin
from vodkeep.keep.recordings import Found, Recording, find_recordings
from vodkeep.opening import hold_archive
from vodkeep.pipeline.chat_library import ChatLibrary
from vodkeep.pipeline.importing import Importer, Taken, Wishes, read_tags
from vodkeep.printing import say
from vodkeep.settings import Settings


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What the command line asks for."""

    origin: Origin
    paths: tuple[Path, ...]
    wishes: Wishes
    dry_run: bool = False
    as_json: bool = False


@dataclass(slots=True)
class _Report:
    """What became of everything that was found."""

    taken: list[Taken] = field(default_factory=list)
    would_take: list[Recording] = field(default_factory=list)
    refused: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return 1 if self.refused or not (self.taken or self.would_take) else 0


async def import_recordings(settings: Settings, clock: Clock, options: ImportOptions, console: Console) -> int:
    """Take in what lies below the paths; returns the exit code, 1 when something was left out or nothing was found.

    Raises `SettingsError` for a path that is not there, and while a service works on the same SQLite file.
    """
    found = await anyio.to_thread.run_sync(_find, options)
    if len(found.recordings) > 1 and options.wishes.video_id is not None:
        raise SettingsError([f"--id names one VOD, and {len(found.recordings)} recordings were found."])
    report = _Report(refused=list(found.passed_over))
    async with _importer(settings, clock, options) as importer:
        for recording in found.recordings:
            await _take(importer, recording, options, report, console)
    if options.as_json:
        console.print_json(json.dumps(_as_object(report, options)))
        return report.exit_code
    for path, reason in report.refused:
        say(console, f"Left out: {path}: {reason}")
    verb = "would be taken in" if options.dry_run else "were taken in"
    say(console, f"{len(report.taken) + len(report.would_take)} recordings {verb}, {len(report.refused)} left out.")
    return report.exit_code


async def _take(
    importer: Importer, recording: Recording, options: ImportOptions, report: _Report, console: Console
) -> None:
    if options.dry_run:
        reason = await importer.refusal(recording)
        if reason is not None:
            report.refused.append((recording.video, reason))
            return
        named = importer.named(recording)
        report.would_take.append(named)
        if not options.as_json:
            chat = f", with its chat {named.chat.name}" if named.chat is not None else ""
            say(console, f"{named.video}: VOD {named.video_id} of {named.channel}, {named.title!r}{chat}")
        return
    try:
        taken = await importer.take(recording)
    except VodkeepError as error:
        report.refused.append((recording.video, f"{error} {error.remedy}".strip()))
        return
    report.taken.append(taken)
    if options.as_json:
        return
    chat = f", {taken.chat.added} messages" if taken.chat is not None else ""
    part = "" if taken.completeness >= 1.0 else f", {taken.completeness:.2%} of the broadcast"
    say(console, f"{recording.video} is item {taken.video_id} in {taken.path}{part}{chat}.")
    if taken.chat_problem:
        say(console, f"Its chat did not come with it: {taken.chat_problem}")


def _find(options: ImportOptions) -> Found:
    found = Found()
    for path in options.paths:
        if not path.exists():
            raise SettingsError([f"There is nothing at {path}."])
        part = find_recordings(options.origin, path.absolute(), read_tags=read_tags)
        found.recordings += part.recordings
        found.passed_over += part.passed_over
    return found


@asynccontextmanager
async def _importer(settings: Settings, clock: Clock, options: ImportOptions) -> AsyncIterator[Importer]:
    data_dir = settings.storage.data_dir
    async with hold_archive(settings, clock.now(), "the import") as (database, chat):
        ffmpeg = find_ffmpeg(settings.tools.ffmpeg_path)
        yield Importer(
            database=database,
            chats=ChatLibrary(database, chat, data_dir),
            library=Library(data_dir, settings.storage.folder_template),
            clock=clock,
            ffmpeg=ffmpeg.path if ffmpeg is not None else "ffmpeg",
            wishes=options.wishes,
        )


def _as_object(report: _Report, options: ImportOptions) -> dict[str, Any]:
    return {
        "dry_run": options.dry_run,
        "taken": [
            {
                "vod_id": taken.video_id,
                "path": str(taken.path),
                "completeness": taken.completeness,
                "messages": taken.chat.added if taken.chat is not None else None,
                "chat_problem": taken.chat_problem or None,
            }
            for taken in report.taken
        ],
        "would_take": [
            {
                "vod_id": one.video_id,
                "channel": one.channel,
                "title": one.title,
                "date": one.date.isoformat() if one.date is not None else None,
                "video": str(one.video),
                "chat": str(one.chat) if one.chat is not None else None,
            }
            for one in report.would_take
        ],
        "refused": [{"path": str(path), "reason": reason} for path, reason in report.refused],
    }
