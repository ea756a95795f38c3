"""The recorder's core: takes lines from the connections, and sees to it that each is stored once.

A line is in the journal (``chat/journal.py``) when `Recording.lines` returns, and then nothing but the loss of the disk
loses it. Another task brings what is in the journal into the database (``chat/flushing.py``), 250 ms after it came, or
as soon as there is much. Nothing else lies between the two: when the database is away, the journal grows and memory
does not, and when a process was killed, another one goes on from the position that its last transaction wrote. Both
work in threads of their own, so that the event loop waits for neither disk nor database.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import anyio
import anyio.abc
import anyio.to_thread

from vodkeep.chat.flushing import PRE_ROLL_MS, Flusher, FlushMetrics
from vodkeep.chat.journal import FOLDER, JOINED, LEFT, PIECE_BYTES, Journal, Position, encode_event, encode_lines
from vodkeep.chat.sessions import Session
from vodkeep.clock import Clock
from vodkeep.db.engine import Database
from vodkeep.errors import DatabaseUnavailable, TransientError
from vodkeep.telemetry.log import Logger

T = TypeVar("T")

FLUSH_S = 0.25
"""As long a line may wait for others to be written with."""

# Also while nothing comes: presence moves on, and another process may have died.
_IDLE_S = 10.0

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 5.0
_DISK_WAIT_S = 1.0
_LAST_FLUSH_S = 10.0


@dataclass(frozen=True, slots=True)
class RecordingState:
    """How the recorder is doing."""

    stored: int  # messages and events written since the start
    spool_bytes: int  # in the journal and not in the database
    stored_at_ms: int | None  # when the database last took something; None: not yet
    database_problem: str | None  # why the journal grows instead
    disk_problem: str | None  # why nothing more is taken at all


class Recording:
    """Records what comes from the connections; an async context manager, whose end stores what is left if it can.

    ``recorder`` is a name that no other process has or had. Raises `TransientError` where the journal cannot be made.
    """

    def __init__(
        self, database: Database, data_dir: Path, recorder: str, clock: Clock, log: Logger, metrics: FlushMetrics
    ) -> None:
        self._database = database
        self._root = data_dir / FOLDER
        self._recorder = recorder
        self._clock = clock
        self._log = log
        self._metrics = metrics
        self._appending = anyio.CapacityLimiter(1)
        self._flushing = anyio.CapacityLimiter(1)
        self._arrived = anyio.Event()
        self._enough = anyio.Event()
        self._stored = anyio.Event()
        self._unseen_bytes = 0  # appended since the last look into the journal
        self._appended_bytes = 0
        self._measured_at = 0  # what was appended when the spool was measured
        self._stored_at_ms: int | None = None
        self._database_problem: str | None = None
        self._disk_problem: str | None = None
        self._spool_bytes = 0
        self._hurries = 0  # how many wait for all to be stored

    async def __aenter__(self) -> Self:
        self._journal = await anyio.to_thread.run_sync(partial(Journal, self._root, self._recorder))
        self._flusher = Flusher(self._database, self._journal, self._clock, self._log, self._metrics)
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._run)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        with anyio.move_on_after(_LAST_FLUSH_S, shield=True):
            # What the database does not take now is taken from the journal by the next process.
            await self._until_stored(self._journal.end)
        self._tasks.cancel_scope.cancel()
        try:
            return await self._tasks.__aexit__(kind, error, trace)
        finally:
            with anyio.CancelScope(shield=True):
                await self._in_flushing_thread(self._flusher.close)
                await anyio.to_thread.run_sync(self._journal.close, limiter=self._appending)

    async def lines(self, lines: Sequence[bytes], received_ms: int) -> None:
        """Take whole lines without their ends, in the order in which one connection received them.

        Returns when they are safe; while the disk is full this waits, and whoever calls reads no more meanwhile.
        """
        await self._append(encode_lines(lines, received_ms))

    async def joined(self, channel: str, at_ms: int) -> None:
        """We receive the channel since ``at_ms``."""
        await self._append(encode_event(JOINED, at_ms, channel))

    async def left(self, channel: str, at_ms: int, reason: str) -> None:
        """We no longer receive the channel: not since ``at_ms``."""
        await self._append(encode_event(LEFT, at_ms, channel, reason))

    async def begin(self, channel: str, session: Session) -> None:
        """From now on the channel's messages belong to ``session``, and so do those of the last three minutes.

        Only those that were sent since its stream began. Returns when the latter are stored, however long the
        database is away; beginning again changes nothing.
        """
        if self._flusher.has_begun(channel, session):
            return
        since_ms = self._now_ms() - PRE_ROLL_MS
        await self._until_stored(self._journal.end)
        count = await self._persistently(partial(self._flusher.begin, channel, session, since_ms))
        self._log.info("chat of a stream is recorded", channel=channel, session=session.id, earlier=count)

    async def end(self, channel: str, at_ms: int | None = None) -> None:
        """The channel's stream is over, since ``at_ms`` (``None``: now).

        Returns when all that came until now is stored, however long the database is away.
        """
        await self._until_stored(self._journal.end)
        at_ms = self._now_ms() if at_ms is None else at_ms
        await self._persistently(partial(self._flusher.end, channel, at_ms))

    async def release(self, channel: str) -> None:
        """Leave the channel to another process: its session stays as it is, with all that came until now."""
        await self._until_stored(self._journal.end)
        await self._in_flushing_thread(partial(self._flusher.release, channel))

    def state(self) -> RecordingState:
        """How it is at this moment."""
        return RecordingState(
            stored=self._flusher.stored,
            spool_bytes=self._spool_bytes + self._appended_bytes - self._measured_at,
            stored_at_ms=self._stored_at_ms,
            database_problem=self._database_problem,
            disk_problem=self._disk_problem,
        )

    async def _append(self, data: bytes) -> None:
        if not data:
            return
        while True:
            try:
                await anyio.to_thread.run_sync(self._journal.append, data, limiter=self._appending)
            except TransientError as error:
                if self._disk_problem is None:
                    self._log.error("chat cannot be kept and is not read on", error=str(error), remedy=error.remedy)
                self._disk_problem = str(error)
                await self._clock.sleep(_DISK_WAIT_S)
            else:
                break
        if self._disk_problem is not None:
            self._disk_problem = None
            self._log.info("chat is kept again")
        self._appended_bytes += len(data)
        self._unseen_bytes += len(data)
        self._arrived.set()
        if self._unseen_bytes >= PIECE_BYTES:
            self._enough.set()

    async def _run(self) -> None:
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                await self._in_flushing_thread(self._flusher.find_dead)
                await self._store_all()
            except DatabaseUnavailable as error:
                await self._note_absence(error)
                await self._clock.sleep(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
                continue
            except Exception:  # noqa: BLE001  # whatever it is, the lines are safe and the connections go on
                self._log.exception("storing chat failed; it is kept in the journal and tried again")
                await self._clock.sleep(_LONGEST_WAIT_S)
                continue
            wait_s = _FIRST_WAIT_S
            await self._wait_for_more()

    async def _store_all(self) -> None:
        """Flush until nothing is left, in this journal and in those of the dead."""
        more = True
        while more:
            self._unseen_bytes = 0
            more = await self._in_flushing_thread(self._flusher.flush)
            if self._database_problem is not None:
                self._database_problem = None
                self._log.info("chat is stored again")
            await self._measure_spool()
            if more:
                self._stored_at_ms = self._now_ms()
            self._tell_stored()
            more = await self._in_flushing_thread(self._flusher.adopt) or more

    async def _wait_for_more(self) -> None:
        """Return when something has come and was given time to become more, or after a while without."""
        if not self._unseen_bytes and not self._hurries:
            self._arrived = anyio.Event()
            with anyio.move_on_after(_IDLE_S):
                await self._arrived.wait()
        if self._unseen_bytes < PIECE_BYTES and not self._hurries:
            self._enough = anyio.Event()
            with anyio.move_on_after(FLUSH_S):
                await self._enough.wait()

    async def _until_stored(self, position: Position) -> None:
        """Wait until all before ``position`` is in the database."""
        self._hurries += 1
        try:
            while self._flusher.position < position:
                self._arrived.set()
                self._enough.set()
                await self._stored.wait()
        finally:
            self._hurries -= 1

    def _tell_stored(self) -> None:
        self._stored.set()
        self._stored = anyio.Event()

    async def _persistently(self, work: Callable[[], T]) -> T:
        """Do ``work`` in the flushing thread, as soon as the database is there."""
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                return await self._in_flushing_thread(work)
            except DatabaseUnavailable as error:
                await self._note_absence(error)
            await self._clock.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    async def _note_absence(self, error: DatabaseUnavailable) -> None:
        if self._database_problem is None:
            self._log.warning("chat waits in the journal for the database", error=str(error), remedy=error.remedy)
        self._database_problem = str(error)
        await self._measure_spool()
        # Now it is all there is. A disk that refuses will say so when something is appended, too.
        with suppress(TransientError):
            await anyio.to_thread.run_sync(self._journal.sync, limiter=self._appending)

    async def _measure_spool(self) -> None:
        appended = self._appended_bytes  # More may come meanwhile.
        self._spool_bytes = await self._in_flushing_thread(self._flusher.left)
        self._measured_at = appended
        self._metrics.chat_spool_bytes(self._spool_bytes)

    async def _in_flushing_thread(self, work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(work, limiter=self._flushing)

    def _now_ms(self) -> int:
        return round(self._clock.now().timestamp() * 1000)
