"""A clock that stands still until a test moves it.

``FakeClock`` owns ``now``, ``monotonic`` and ``sleep`` together: moving time moves all three, and a sleeper wakes
at exactly its instant, in order. A plugin: tests that ask for the fixture ``clock`` get a fresh one.
"""

from __future__ import annotations

import heapq
import itertools
from datetime import UTC, datetime, timedelta

import anyio
import anyio.lowlevel
import pytest

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

# How long, in real seconds, a test waits for something that should have happened; only a broken test gets there.
_PATIENCE_S = 60.0

# Rounds of the event loop a woken task gets before time moves on. A task that only touches memory needs a few;
# one that goes to a thread is waited for with `until_sleeping` or an event of its own.
_SETTLING_ROUNDS = 25


class FakeClock:
    """Implements ``vodkeep.clock.Clock``; ``advance`` is the only thing that makes time pass."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._elapsed = timedelta()
        self._order = itertools.count()
        self._sleepers: list[tuple[timedelta, int, anyio.Event]] = []
        self._changed = anyio.Event()

    def now(self) -> datetime:
        """The wall clock as an aware datetime in UTC."""
        return self._start + self._elapsed

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._elapsed.total_seconds()

    async def sleep(self, seconds: float) -> None:
        """Wait until a test has moved time by ``seconds``; zero or less only yields to other tasks."""
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        awake = anyio.Event()
        entry = (self._elapsed + timedelta(seconds=seconds), next(self._order), awake)
        heapq.heappush(self._sleepers, entry)
        self._notice()
        try:
            await awake.wait()
        finally:
            if entry in self._sleepers:
                self._sleepers.remove(entry)
                heapq.heapify(self._sleepers)
            self._notice()

    @property
    def sleeping(self) -> int:
        """How many tasks sleep on this clock."""
        return len(self._sleepers)

    def next_wake_s(self) -> float | None:
        """Seconds until the first sleeper wakes, or ``None`` when nobody sleeps."""
        return (self._sleepers[0][0] - self._elapsed).total_seconds() if self._sleepers else None

    async def until_sleeping(self, count: int = 1) -> None:
        """Wait, in real time, until at least ``count`` tasks sleep on this clock."""
        with anyio.fail_after(_PATIENCE_S):
            while len(self._sleepers) < count:
                await self._changed.wait()

    async def advance(self, seconds: float) -> None:
        """Move time by ``seconds``, waking each sleeper at its own instant and letting it run before going on."""
        target = self._elapsed + timedelta(seconds=seconds)
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            wake_at, _, awake = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, wake_at)
            awake.set()
            await self._settle()
        self._elapsed = target

    def jump(self, seconds: float) -> None:
        """Move time like a suspended machine: everybody overslept, nobody has run in between.

        Sleepers whose time has come wake afterwards, all at the new instant.
        """
        self._elapsed += timedelta(seconds=seconds)
        while self._sleepers and self._sleepers[0][0] <= self._elapsed:
            heapq.heappop(self._sleepers)[2].set()

    async def _settle(self) -> None:
        for _ in range(_SETTLING_ROUNDS):
            await anyio.lowlevel.checkpoint()

    def _notice(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


@pytest.fixture
def clock() -> FakeClock:
    """A clock at 2026-11-23 12:00 UTC that stands still."""
    return FakeClock()
