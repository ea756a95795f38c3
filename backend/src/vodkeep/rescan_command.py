"""``vodkeep rescan``: make the database again from the folders, with the network off."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio.to_thread
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vodkeep.clock import Clock
from vodkeep.errors import SettingsError
from vodkeep.opening import hold_archive, open_kept_database
from vodkeep.pipeline.identity import find_archive_problem
from vodkeep.pipeline.model import Asked, Asker, QueueItem
from vodkeep.pipeline.rescan import Outcome, Rescan, Result, Seen, judge, look_through, settle_doubles
from vodkeep.pipeline.store import QueueStore
from vodkeep.printing import say
from vodkeep.settings import Settings
from vodkeep.telemetry.correlation import new_corr

_WIDTH = max(len(outcome) for outcome in Outcome)


@dataclass(frozen=True, slots=True)
class RescanOptions:
    """What the command line asks for."""

    dry_run: bool = False
    as_json: bool = False


class _Ended(Exception):
    """Nobody waits for the result any more."""


async def rescan(settings: Settings, clock: Clock, options: RescanOptions, console: Console) -> int:
    """Enter every folder; returns the exit code, 1 when one was left alone or could not be read whole.

    Raises `SettingsError` while a service works on the same SQLite file, and for a folder of another archive.
    """
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    shows_bars = console.is_terminal and not options.as_json
    library = settings.storage.data_dir
    if not library.is_dir():
        raise SettingsError([f"There is no folder {library}: is DATA_DIR right, and its disk mounted?"])
    with bars if shows_bars else nullcontext():
        look = partial(look_through, library, partial(bars.advance, bars.add_task("looking", total=None)))
        seen = await anyio.to_thread.run_sync(look)
        if options.dry_run:
            rows = await _known(settings)
            results = [judge(each, _row(rows, each), library) for each in settle_doubles(seen, rows)]
        else:
            results = await _enter_all(settings, clock, seen, bars)
    _tell(results, options, console)
    return 1 if any(result.sentence for result in results) else 0


async def _enter_all(settings: Settings, clock: Clock, seen: Sequence[Seen], bars: Progress) -> list[Result]:
    ended = threading.Event()

    def check() -> None:
        if ended.is_set():
            raise _Ended

    results = []
    async with hold_archive(settings, clock.now(), "the rescan") as (database, chat):
        work = Rescan(database, chat, settings.storage.data_dir, Asked(Asker.CLI, new_corr()))
        rows = await anyio.to_thread.run_sync(work.rows)
        folders = settle_doubles(seen, rows)
        bar = bars.add_task("entering", total=len(folders))
        try:
            for each in folders:
                enter = partial(work.enter, each, clock.now(), check)
                results.append(await anyio.to_thread.run_sync(enter, abandon_on_cancel=True))
                bars.advance(bar)
        finally:
            ended.set()
    return results


async def _known(settings: Settings) -> dict[str, QueueItem]:
    """The rows there are, without making a database where there is none."""
    database = await open_kept_database(settings)
    if database is None:
        return {}
    try:
        problem = await anyio.to_thread.run_sync(find_archive_problem, database, settings.storage.data_dir)
        if problem is not None:
            raise SettingsError([problem])
        items = await database.run(lambda unit: QueueStore(unit.connection).load_placed(), write=False)
        return {item.twitch_vod_id: item for item in items}
    finally:
        database.dispose()


def _row(rows: Mapping[str, QueueItem], seen: Seen) -> QueueItem | None:
    return rows.get(seen.manifest.video_id) if seen.manifest is not None else None


def _tell(results: Sequence[Result], options: RescanOptions, console: Console) -> None:
    counts = Counter(result.outcome for result in results)
    if options.as_json:
        document = {
            "dry_run": options.dry_run,
            "folders": [_as_object(result) for result in results],
            "counts": {str(outcome): counts[outcome] for outcome in Outcome},
            "messages": sum(result.messages for result in results),
        }
        console.print_json(json.dumps(document, ensure_ascii=False))
        return
    for result in results:
        if result.sentence:
            say(console, f"{result.outcome:<{_WIDTH}}  {result.seen.path}: {result.sentence}.")
    parts = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome)
    would = " Nothing was changed (--dry-run)." if options.dry_run else ""
    messages = sum(result.messages for result in results)
    chat = f" {messages} messages of chat came in." if messages else ""
    say(console, f"{len(results)} {'folder' if len(results) == 1 else 'folders'}: {parts}.{chat}{would}")


def _as_object(result: Result) -> dict[str, Any]:
    manifest = result.seen.manifest
    return {
        "path": str(result.seen.path),
        "id": manifest.video_id if manifest is not None else None,
        "outcome": str(result.outcome),
        "problem": result.sentence or None,
        "messages": result.messages,
    }
