"""What only one process at a time may do, among any number of processes on one database.

Each process keeps asking for the leases it could use (:mod:`vodkeep.db.leases`), which are bound to its life, and
renews that every two seconds: one row, however many leases it has. The life of a process that was killed runs out after
six; another buries it and takes over, within ten. One that cannot renew (it was stopped, or the database is away) ends
the guarded work by its own clock, which began to run before the database's: it is never the last to know.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from types import TracebackType
from typing import Self, TypeVar

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread

from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.leases import PROCESS_PREFIX, Lease, LeaseStore
from vodkeep.db.postgresql import Patience
from vodkeep.errors import DatabaseUnavailable
from vodkeep.pipeline.running import Bell
from vodkeep.telemetry.log import Logger

T = TypeVar("T")

# A database that does not answer within this time is asked again; the leases outlive two such failures.
_ANSWER_LIMIT_S = 1.5

# So many are taken in one round, and the rest in the next: a round that takes too long brings nothing at all.
_MOST_AT_ONCE = 200

_LATE = "it was not renewed in time"
_TAKEN = "another process has it"
_BURIED = "the others took this process for dead"

# So many rounds apart the database is asked for every single lease of ours: somebody may have changed one by hand.
_ROUNDS_OF_TRUST = 15

# A line of the log names so many leases at most.
_MOST_NAMES = 5


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a process says that it lives, and how long it counts as alive without."""

    renew_s: float
    lifetime: timedelta


SHARED = Pace(2.0, timedelta(seconds=6))
"""Among several processes: the end of one is noticed within ``lifetime``, and made good one renewal later."""

ALONE = Pace(30.0, timedelta(seconds=90))
"""For a process that is alone on its database by other means, and should let its disk sleep."""


def new_holder() -> str:
    """A name for this process that no other process has or had: host, pid, and a random part."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def _always(_live: Collection[Lease]) -> bool:
    return True


@dataclass(slots=True, eq=False)
class _Keeping:
    """A lease that is wanted or held here, and the work it guards."""

    name: str
    detail: str
    wanted: Callable[[Collection[Lease]], bool]
    lease: Lease | None = None
    scope: anyio.CancelScope | None = None  # of the work while it runs
    gained: anyio.Event = field(default_factory=anyio.Event)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the database said in one round."""

    alive: bool  # nobody had buried us
    kept: Collection[str]  # which of our leases are still ours
    others: list[Lease]  # the lives of the other processes
    taken: list[Lease]
    more: bool  # there is more to take


class Ownership:
    """This process's leases; an async context manager, whose end lets go of all of them.

    ``holder`` is this process's name (:func:`new_holder`); no other may ever use it. ``note`` is what it says about
    itself to the others, with its life.
    """

    def __init__(
        self, database: Database, clock: Clock, log: Logger, holder: str, *, note: str = "", pace: Pace = SHARED
    ) -> None:
        self.holder = holder
        self._note = note
        self._life = PROCESS_PREFIX + holder
        self._database = database
        self._clock = clock
        self._log = log
        self._pace = pace
        self._keepings: dict[str, _Keeping] = {}
        self._dropped: set[str] = set()
        self._others: tuple[Lease, ...] = ()
        self._until = 0.0  # Our own clock; from then on all leases count as lost.
        self._rounds = 0
        self._unsure = True  # Whether the database may say other than we think.
        self._away = False
        self._bell = Bell()
        self._renewed = anyio.Event()
        self._tasks: anyio.abc.TaskGroup | None = None
        # Of its own: the threads that do the ordinary work may all be waiting for a lock.
        self._limiter = anyio.CapacityLimiter(1)

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._run_rounds)
        self._tasks.start_soon(self._watch_the_clock)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        tasks, self._tasks = self._tasks, None
        assert tasks is not None
        tasks.cancel_scope.cancel()
        try:
            return await tasks.__aexit__(kind, error, trace)
        finally:
            with anyio.CancelScope(shield=True):
                await self._let_go_of_all()

    async def keep(
        self,
        name: str,
        work: Callable[[], Awaitable[object]],
        *,
        detail: str = "",
        wanted: Callable[[Collection[Lease]], bool] = _always,
    ) -> None:
        """Run ``work`` whenever, and only while, the lease ``name`` is ours; returns when ``work`` returns.

        When the lease is lost, ``work`` is canceled, and begins anew once the lease is ours again. ``wanted`` is asked
        with the lives of all other processes: while it says no, the lease is left or given to others. ``work``
        calls :meth:`confirm` before it does what two at once must not do.
        """
        assert name not in self._keepings, name
        keeping = self._keepings[name] = _Keeping(name, detail, wanted)
        self._dropped.discard(name)
        self._bell.ring()
        try:
            while True:
                await keeping.gained.wait()
                keeping.gained = anyio.Event()
                if keeping.lease is None:  # Lost before we woke up.
                    continue
                finished = False
                with anyio.CancelScope() as keeping.scope:
                    await work()
                    finished = True
                keeping.scope = None
                if keeping.lease is not None:
                    # Nobody else may begin before our work has ended, so only now.
                    keeping.lease = None
                    self._drop(name)
                if finished:
                    return
        finally:
            del self._keepings[name]
            if keeping.lease is not None:
                self._drop(name)

    def holds(self, name: str) -> bool:
        """Whether the lease is ours at this moment, by our own clock."""
        keeping = self._keepings.get(name)
        return (
            keeping is not None
            and keeping.lease is not None
            and keeping.scope is not None
            and not keeping.scope.cancel_called
            and self._clock.monotonic() < self._until
        )

    async def confirm(self, name: str) -> None:
        """Return if the lease is ours; else end the work it guards, which this must be called from.

        A process that was stopped learns of it here, before its timers have had their turn.
        """
        keeping = self._keepings[name]
        if self._clock.monotonic() >= self._until:
            self._lose([keeping], _LATE)
        if keeping.lease is None:
            await anyio.lowlevel.checkpoint()

    @property
    def others(self) -> tuple[Lease, ...]:
        """The lives of the other processes, when this one last looked, by name."""
        return self._others

    async def _run_rounds(self) -> None:
        while True:
            try:
                await self._round()
            except DatabaseUnavailable as error:
                if not self._away:
                    self._log.warning("leases are not renewed", error=str(error))
                self._away = True
                await self._clock.sleep(self._pace.renew_s / 2)
                continue
            self._away = False
            await self._bell.wait_up_to(self._pace.renew_s, self._clock)

    async def _round(self) -> None:
        """Say that we live, let go of what is no longer wanted, and take what is free."""
        held = {name: one for name, one in self._keepings.items() if one.lease is not None}
        # In one order in all processes: two that take several at once must not wait for each other.
        asking = sorted(
            (one for one in self._keepings.values() if one.lease is None and one.scope is None),
            key=lambda one: one.name,
        )
        dropped, self._dropped = self._dropped, set()
        thorough = self._unsure or self._rounds % _ROUNDS_OF_TRUST == 0
        self._unsure = False
        self._rounds += 1
        ttl = self._pace.lifetime
        started = self._clock.monotonic()

        def work(unit: UnitOfWork) -> _Answer:
            store = LeaseStore(unit.connection)
            alive = bool(store.renew(self.holder, ttl, [self._life]))
            if not alive:
                store.take(self._life, self.holder, ttl, self._note)
            store.bury()
            ours = store.bound_to(self.holder) if thorough or not alive else held.keys()
            kept = held.keys() & ours if alive else set()
            # Whatever we do not know of is left from a round whose answer never came.
            if unwanted := dropped | (ours - kept):
                store.release(self.holder, unwanted)
            others = store.live(PROCESS_PREFIX, besides=self.holder)
            free = {one.name: one.detail for one in asking if one.wanted(others)}
            for name in store.held_by_others(free, self.holder) if free else ():
                del free[name]
            portion = dict(islice(free.items(), _MOST_AT_ONCE))
            taken = store.take_all(portion, self.holder)
            unit.commit()
            return _Answer(alive, kept, others, taken, more=len(free) > _MOST_AT_ONCE)

        try:
            answer = await self._ask(work)
        except BaseException:
            self._dropped |= dropped
            self._unsure = True
            raise
        self._until = started + ttl.total_seconds()
        self._others = tuple(answer.others)
        self._lose((one for name, one in held.items() if name not in answer.kept), _TAKEN if answer.alive else _BURIED)
        for lease in answer.taken:
            one = self._keepings.get(lease.name)
            if one is None:  # It was given up meanwhile.
                self._drop(lease.name)
                continue
            one.lease = lease
            one.gained.set()
            self._log.debug("lease taken", lease=lease.name, token=lease.token)
        for one in held.values():
            if one.lease is not None and one.scope is not None and not one.wanted(self._others):
                self._log.debug("lease given away", lease=one.name)
                one.scope.cancel()
        self._renewed.set()
        self._renewed = anyio.Event()
        if answer.more:
            self._bell.ring()

    async def _watch_the_clock(self) -> None:
        """End what a lease guards when its time is over, however long the database takes to answer."""
        while True:
            await self._clock.sleep(self._until - self._clock.monotonic())
            if self._clock.monotonic() >= self._until:
                self._lose(self._keepings.values(), _LATE)
                await self._renewed.wait()

    def _lose(self, keepings: Iterable[_Keeping], reason: str) -> None:
        lost = [one for one in keepings if one.lease is not None]
        for one in lost:
            one.lease = None
            if one.scope is not None:
                one.scope.cancel()
        if lost:
            self._unsure = True
            names = sorted(one.name for one in lost)
            self._log.warning("leases lost", leases=names[:_MOST_NAMES], total=len(names), reason=reason)

    def _drop(self, name: str) -> None:
        self._dropped.add(name)
        self._bell.ring()

    async def _ask(self, work: Callable[[UnitOfWork], T]) -> T:
        """Like ``Database.run``, and soon: an answer that comes late is of no use."""

        def in_thread() -> T:
            patience = Patience(
                statement_s=_ANSWER_LIMIT_S, lock_s=_ANSWER_LIMIT_S, deadline=time.monotonic() + _ANSWER_LIMIT_S
            )
            with self._database.unit_of_work(patience=patience) as unit:
                return work(unit)

        return await anyio.to_thread.run_sync(in_thread, limiter=self._limiter)

    async def _let_go_of_all(self) -> None:
        def work(unit: UnitOfWork) -> None:
            LeaseStore(unit.connection).release(self.holder)
            unit.commit()

        try:
            await self._ask(work)
        except DatabaseUnavailable as error:
            self._log.debug("the leases run out by themselves", error=str(error))
