"""``vodkeep verify``: whether what was kept is still what was kept; needs no service and disturbs none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio.to_thread
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.text import Text

from vodkeep.catalog.model import item_id_from
from vodkeep.chat.database import chat_database
from vodkeep.clock import Clock
from vodkeep.db.engine import Database
from vodkeep.errors import SettingsError
from vodkeep.opening import open_kept_database
from vodkeep.pipeline.identity import find_archive_problem
from vodkeep.pipeline.mending import mend
from vodkeep.pipeline.model import Asked, Asker
from vodkeep.pipeline.recheck import (
    Finding,
    Subject,
    Verdict,
    is_unplugged,
    look,
    plan_all,
    plan_one,
    reconsider,
)
from vodkeep.pipeline.store import QueueStore
from vodkeep.printing import say
from vodkeep.settings import Settings
from vodkeep.telemetry.correlation import new_corr

_T = TypeVar("_T")

_STYLES = {
    Verdict.FINE: "green",
    Verdict.DAMAGED: "bold red",
    Verdict.MISSING: "bold red",
    Verdict.NOT_KEPT: "yellow",
    Verdict.BUSY: "yellow",
}
_WIDTH = max(len(verdict) for verdict in Verdict)


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What the command line asks for."""

    address: str | None  # one item, by id or address; None: all
    deep: bool = False  # also read every packet of the videos, and decode some
    repair: bool = False  # make what is bad due again
    as_json: bool = False


async def verify(settings: Settings, clock: Clock, options: VerifyOptions, console: Console) -> int:
    """Check items of the library; returns the exit code, 0 when all that was looked at is as it should be.

    Raises `DatabaseUnavailable`, and `SettingsError` for a database of another version or another archive.
    """
    database = await open_kept_database(settings)
    try:
        if database is not None:
            problem = await anyio.to_thread.run_sync(find_archive_problem, database, settings.storage.data_dir)
            if problem is not None:
                raise SettingsError([problem])
        return await _Verify(settings.storage.data_dir, clock, database, options, console).run()
    finally:
        if database is not None:
            database.dispose()


class _Verify:
    """One run of the command."""

    def __init__(
        self, library: Path, clock: Clock, database: Database | None, options: VerifyOptions, console: Console
    ) -> None:
        self._library = library
        self._clock = clock
        self._database = database
        self._options = options
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._shows_bars = console.is_terminal and not options.as_json

    async def run(self) -> int:
        subjects = await self._subjects()
        if self._options.repair and await anyio.to_thread.run_sync(is_unplugged, subjects, self._library):
            raise SettingsError(
                [
                    f"Not one of the folders that the database names is there. If {self._library} is the right place"
                    " and its disk is mounted, repair the items one by one."
                ]
            )
        told: list[dict[str, object]] = []
        counts: Counter[Verdict] = Counter()
        bad = False
        with self._bars if self._shows_bars else nullcontext():
            total = sum(subject.size_bytes for subject in subjects)
            bar = self._bars.add_task("verifying", total=total)
            for subject in subjects:
                self._bars.update(bar, description=f"verifying {subject.video_id}")
                finding = await self._check(subject, lambda size: self._bars.advance(bar, size))
                done = await self._repair(finding) if self._options.repair and finding.is_bad else None
                counts[finding.verdict] += 1
                bad |= finding.is_bad
                told.append(_as_object(finding, done))
                if not self._options.as_json:
                    self._tell(finding, done)
        if self._options.as_json:
            counted = {str(verdict): counts[verdict] for verdict in Verdict}
            self._console.print_json(json.dumps({"items": told, "counts": counted}, ensure_ascii=False))
        elif self._options.address is None:
            say(self._console, _summary(counts))
        return 1 if bad else 0

    async def _subjects(self) -> Sequence[Subject]:
        if self._options.address is None:
            rows = await self._load(QueueStore.load_placed) or []
            return await anyio.to_thread.run_sync(plan_all, rows, self._library)
        video_id = item_id_from(self._options.address)
        row = await self._load(lambda store: store.find(video_id))
        return [await anyio.to_thread.run_sync(plan_one, video_id, row, self._library)]

    async def _check(self, subject: Subject, on_bytes: Callable[[int], None]) -> Finding:
        finding = await look(subject, self._library, deep=self._options.deep, on_bytes=on_bytes)
        if not finding.is_bad or subject.row is None:
            return finding
        return reconsider(finding, await self._load(lambda store: store.find(subject.video_id)))

    async def _repair(self, finding: Finding) -> str:
        if self._database is None:
            return "There is no database, so nothing can be put in its queue."
        now = self._clock.now()

        chat = chat_database(self._database)
        asked = Asked(Asker.CLI, new_corr())
        try:
            work = partial(mend, self._database, chat, finding, self._library, now, asked)
            return await anyio.to_thread.run_sync(work)
        finally:
            chat.dispose()

    async def _load(self, question: Callable[[QueueStore], _T]) -> _T | None:
        if self._database is None:
            return None
        return await self._database.run(lambda unit: question(QueueStore(unit.connection)), write=False)

    def _tell(self, finding: Finding, done: str | None) -> None:
        subject = finding.subject
        line = Text(f"{finding.verdict:<{_WIDTH}}  ", style=_STYLES[finding.verdict])
        line.append(subject.video_id, style="bold not dim")
        if subject.folder is not None and str(subject.folder) != subject.video_id:
            line.append(f"  {subject.folder}", style="not bold default")
        self._console.print(line, soft_wrap=True)
        for sentence in (*finding.problems, *finding.notes):
            say(self._console, f"{'':<{_WIDTH}}  {sentence}")
        if done is not None:
            say(self._console, f"{'':<{_WIDTH}}  {done}")


def _summary(counts: Counter[Verdict]) -> str:
    if not counts:
        return "There is nothing in the library yet."
    parts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
    total = counts.total()
    return f"{total} {'item' if total == 1 else 'items'}: {parts}."


def _as_object(finding: Finding, done: str | None) -> dict[str, object]:
    folder = finding.subject.folder
    return {
        "id": finding.subject.video_id,
        "path": str(folder) if folder is not None else None,
        "verdict": str(finding.verdict),
        "problems": list(finding.problems),
        "notes": list(finding.notes),
        "repair": done,
    }
