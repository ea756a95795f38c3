"""Scrubbing: every file that was kept is read again in turn, slowly, and compared with its checksum.

What is found of an item is recorded in one transaction, together with what is begun to mend it: a process that dies
before that reads the item again, and one that dies after it has said everything. A damaged video is fetched again while
Twitch may have it, a damaged chat is written again from the database, and what cannot be mended stays reported. After
a repair the item is read once more; damaged even then, it waits for its next turn, so that a bad disk does not fetch
forever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import anyio.to_thread

from vodkeep.catalog.lifetime import KEPT, kept_until
from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.events import EventLog
from vodkeep.errors import ArchiveAway, UnknownItem, VodkeepError
from vodkeep.keep.library import load_manifest_quietly
from vodkeep.keep.scrub import Shelved, in_turn, is_due, next_turn
from vodkeep.pipeline.identity import MOUNT_IT
from vodkeep.pipeline.mending import write_chat_again
from vodkeep.pipeline.model import Asked, QueueItem
from vodkeep.pipeline.recheck import FETCHED, Finding, Subject, Verdict, folder_of, look, plan_one, reconsider, repair
from vodkeep.pipeline.scrub_store import Scrubbed, ScrubStore
from vodkeep.pipeline.store import QueueStore
from vodkeep.rate import RateLimiter
from vodkeep.telemetry.correlation import new_corr
from vodkeep.telemetry.log import Logger

LEASE = "scrub"
"""The lease of the process that does this."""

KIND = "scrub"
"""``events.kind`` of damage that was found or mended."""

MENDED = "mended"
"""The code of the event that ends a damage; that of the damage is its verdict, ``damaged`` or ``missing``."""

_LOOK_AGAIN_S = 600.0
_MOST_PROBLEMS = 1_000  # characters

_WRITTEN = "Its chat is written again from the database."
_AGAIN = "It was mended just before: look at the disk. It is not mended again before its next turn."
_TOO_OLD = (
    "Twitch has deleted it by now: put its folder back from a backup. What was published of it is still on YouTube."
)
_NO_REPAIR = "SCRUB_REPAIR is off: `vodkeep verify --repair` with its id has it mended."
_ELSEWHERE = "`vodkeep rescan` enters where its folder is."


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of one look at an item."""

    finding: Finding
    done: str = ""  # what was done about it, or a person can do; a sentence
    is_recorded: bool = True  # False: it changed while it was read, which says nothing of it


class Scrubber:
    """Reads one item after the other; several at once do no harm."""

    def __init__(
        self,
        *,
        database: Database,
        chat: Database,
        library: Path,
        clock: Clock,
        log: Logger,
        interval: timedelta,
        rate_bytes_s: int | None,
        require_archive: Callable[[], None],
        repairs: bool = True,
    ) -> None:
        """``interval`` is how old a look at an item may become. ``require_archive`` raises `ArchiveAway`.

        Without ``repairs`` what is found is only told.
        """
        self._database = database
        self._chat = chat
        self._library = library
        self._clock = clock
        self._log = log
        self._interval = interval
        self._rate = RateLimiter(rate_bytes_s)
        self._require_archive = require_archive
        self._repairs = repairs

    async def run_forever(self) -> None:
        """Read what has its turn, until canceled; begins a while after the start, which has other things to do."""
        wait_s = _LOOK_AGAIN_S
        while True:
            await self._clock.sleep(wait_s)
            wait_s = _LOOK_AGAIN_S
            try:
                wait_s = await self.take_turn()
            except VodkeepError as error:
                self._log.warning("scrubbing waits", code=error.code, error=str(error), remedy=error.remedy)
            except Exception:  # noqa: BLE001 - one item ends here
                self._log.exception("scrubbing ended in a bug")

    async def take_turn(self) -> float:
        """Read the item whose turn it is, if it has come; returns after how many seconds to ask again.

        Raises `DatabaseUnavailable`, and `ArchiveAway` while the disk of the library is not mounted.
        """
        now = self._clock.now()
        turn = next_turn(await self._shelved(), self._interval, now)
        if turn is None:
            return _LOOK_AGAIN_S
        if turn.at > now:
            return min(_LOOK_AGAIN_S, (turn.at - now).total_seconds())
        checked = await self.check(turn.item.video_id, was_mended=turn.item.was_mended)
        return 0.0 if checked.is_recorded else _LOOK_AGAIN_S

    async def due(self) -> list[str]:
        """The ids of the items that nobody has read within the interval, in their order."""
        now = self._clock.now()
        return [item.video_id for item in in_turn(await self._shelved()) if is_due(item, self._interval, now)]

    async def everything(self) -> list[str]:
        """The ids of all items that can be read, in their order."""
        return [item.video_id for item in in_turn(await self._shelved())]

    async def check(self, video_id: str, *, was_mended: bool = False, asked: Asked | None = None) -> Checked:
        """Read one item, record what is found, and mend it as far as that is wanted and possible.

        ``was_mended`` says that this look is to tell how a repair ended. Raises `DatabaseUnavailable`, and
        `ArchiveAway` while the disk is not mounted; then nothing is recorded.
        """
        asked = asked or Asked(None, new_corr())
        await anyio.to_thread.run_sync(self._require_archive)
        row = await self._database.run(lambda unit: QueueStore(unit.connection).find(video_id), write=False)
        subject = await anyio.to_thread.run_sync(plan_one, video_id, row, self._library)
        finding = await look(subject, self._library, rate=self._rate)
        if row is None:
            return Checked(finding, is_recorded=False)
        if finding.is_bad:
            finding = await anyio.to_thread.run_sync(self._look_twice, finding)
        if finding.verdict is Verdict.BUSY:
            return Checked(finding, is_recorded=False)

        def work(unit: UnitOfWork) -> Checked:
            checked = self._record(unit, finding, self._clock.now(), asked, was_mended=was_mended)
            unit.commit()
            return checked

        checked = await self._database.run(work)
        if checked.is_recorded and checked.finding.is_bad:
            problems = _spelled(checked.finding)
            self._log.error(
                "damage found", vod_id=video_id, code=checked.finding.verdict, reason=problems, remedy=checked.done
            )
        return await self._mend_chat(checked, asked) if checked.done == _WRITTEN else checked

    # --- how it is done ----------------------------------------------------------------------------------------------

    async def _shelved(self) -> list[Shelved]:
        return await self._database.run(lambda unit: ScrubStore(unit.connection).load_shelved(), write=False)

    def _look_twice(self, finding: Finding) -> Finding:
        """A bad finding, if the disk is there and nobody has written into the folder meanwhile; blocking."""
        self._require_archive()
        subject = finding.subject
        if finding.verdict is Verdict.NOT_KEPT:
            # Its row names a place outside the library.
            return replace(finding, verdict=Verdict.MISSING, not_mended=_ELSEWHERE)
        if finding.verdict is Verdict.MISSING:
            self._require_neighbours(subject)
        elif subject.folder is not None and load_manifest_quietly(self._library / subject.folder) != subject.manifest:
            return replace(finding, verdict=Verdict.BUSY, problems=(), notes=("it was changed meanwhile",))
        return finding

    def _require_neighbours(self, subject: Subject) -> None:
        """Raise `ArchiveAway` when no folder beside the missing one is there: they may have a disk of their own."""
        assert subject.folder is not None
        top = subject.folder.parts[0]
        with self._database.unit_of_work(write=False) as unit:
            rows = QueueStore(unit.connection).load_placed()
        folders = {folder for row in rows if (folder := folder_of(row)) is not None and folder.parts[0] == top}
        if len(folders) > 1 and not any((self._library / folder).exists() for folder in folders):
            raise ArchiveAway(
                f'Not one of the {len(folders)} folders below "{self._library / top}" is there.', remedy=MOUNT_IT
            )

    def _record(self, unit: UnitOfWork, finding: Finding, now: datetime, asked: Asked, *, was_mended: bool) -> Checked:
        """Write down what was found, with what is begun to mend it; the caller commits."""
        video_id = finding.subject.video_id
        try:
            row = QueueStore(unit.connection).lock(video_id)
        except UnknownItem:
            return Checked(finding, is_recorded=False)
        finding = reconsider(finding, row)
        if finding.verdict is Verdict.BUSY:
            return Checked(finding, is_recorded=False)
        store = ScrubStore(unit.connection)
        if not finding.is_bad:
            before = store.find(video_id)
            store.record(video_id, Scrubbed(now, Verdict.FINE))
            if before is not None and before.problems:
                _tell(unit, video_id, now, asked, MENDED, "All its files are what its manifest says again.")
            return Checked(finding)
        plan = self._plan(finding, row, now, was_mended=was_mended)
        if plan == FETCHED:
            repair(unit, finding, now, asked, kind=KIND)
        else:
            sentence = f"Found {finding.verdict} when it was read again: {_spelled(finding)}"
            _tell(unit, video_id, now, asked, str(finding.verdict), sentence, plan)
        is_repairing = plan in (FETCHED, _WRITTEN)
        store.record(video_id, Scrubbed(now, finding.verdict, _spelled(finding), plan, is_repairing))
        return Checked(finding, plan)

    def _plan(self, finding: Finding, row: QueueItem, now: datetime, *, was_mended: bool) -> str:
        """What is done about a damage, or a person can do."""
        if not self._repairs:
            return _NO_REPAIR
        if finding.only_chat:
            return _WRITTEN
        if finding.not_mended:
            return finding.not_mended
        if was_mended:
            return _AGAIN
        return _TOO_OLD if row.date is not None and row.date < kept_until(KEPT[-1], now) else FETCHED

    async def _mend_chat(self, checked: Checked, asked: Asked) -> Checked:
        """Write the chat again, and record how that ended."""
        finding = checked.finding
        is_whole, done = await anyio.to_thread.run_sync(
            partial(write_chat_again, self._database, self._chat, finding, self._library, self._require_archive)
        )
        now, video_id = self._clock.now(), finding.subject.video_id

        def work(unit: UnitOfWork) -> None:
            found = Scrubbed(now, Verdict.FINE) if is_whole else Scrubbed(now, finding.verdict, _spelled(finding), done)
            ScrubStore(unit.connection).record(video_id, found)
            if is_whole:
                _tell(unit, video_id, now, asked, MENDED, done)
            unit.commit()

        await self._database.run(work)
        self._log.info("chat looked after", vod_id=video_id, reason=done)
        return Checked(finding, done)


def _tell(
    unit: UnitOfWork, video_id: str, now: datetime, asked: Asked, code: str, sentence: str, remedy: str = ""
) -> None:
    EventLog(unit.connection).append(
        video_id, at=now, kind=KIND, code=code, sentence=sentence, remedy=remedy, corr=asked.corr, asked_by=asked.by
    )


def _spelled(finding: Finding) -> str:
    return f"{'; '.join(finding.problems)}."[:_MOST_PROBLEMS]
