"""Several processes watch the channels between them, and each notices what another did to the queue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.to_thread
import pytest

from support.clock import FakeClock
from support.queue_items import NOW
from vodkeep.db.engine import Database
from vodkeep.db.events import EventLog
from vodkeep.db.leases import LeaseStore
from vodkeep.errors import DatabaseUnavailable
from vodkeep.pipeline.ownership import Ownership
from vodkeep.pipeline.queue_watch import LOOK_S, watch_queue
from vodkeep.pipeline.roles import ProcessNote, Role, fingerprint
from vodkeep.pipeline.running import Bell
from vodkeep.pipeline.shares import ChannelShares
from vodkeep.telemetry.log import get_logger

pytestmark = pytest.mark.anyio

PATIENCE_S = 60.0
ROUND_S = 2.0


class Process:
    """A process that watches, as far as its leases go."""

    def __init__(self, database: Database, clock: FakeClock, holder: str, *channels: str) -> None:
        note = ProcessNote("host", 1, (Role.WATCH,), {}, fingerprint(channels))
        self.ownership = Ownership(database, clock, get_logger("test"), holder, note=note.write())
        self.channels = channels

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        shares = ChannelShares(self.channels, self.ownership.holder)
        async with self.ownership, anyio.create_task_group() as tasks:
            keep = self.ownership.keep
            for login in self.channels:
                tasks.start_soon(partial(keep, f"channel:{login}", anyio.sleep_forever, wanted=shares.wants(login)))
            yield
            tasks.cancel_scope.cancel()


def owners(database: Database) -> dict[str, str]:
    with database.unit_of_work(write=False) as unit:
        return {lease.name[8:]: lease.holder for lease in LeaseStore(unit.connection).live("channel:")}


async def until_owned(database: Database, clock: FakeClock, expected: dict[str, str]) -> None:
    """Move time on, round by round, until the channels are watched like that."""
    processes = len(set(expected.values()))
    with anyio.fail_after(PATIENCE_S):
        while await anyio.to_thread.run_sync(owners, database) != expected:
            # Each has its next renewal and the end of its leases before it, or it is still asking the database.
            await clock.until_sleeping(2 * processes)
            await clock.advance(ROUND_S)


async def test_processes_that_watch_the_same_channels_share_them_and_take_over(
    database: Database, clock: FakeClock
) -> None:
    names = ("u", "v", "w", "x", "y")
    one, two = (Process(database, clock, holder, *names) for holder in ("1", "2"))
    async with one.running():
        await until_owned(database, clock, dict.fromkeys(names, "1"))
        async with two.running():
            await until_owned(database, clock, {"u": "1", "v": "2", "w": "1", "x": "2", "y": "1"})
        await until_owned(database, clock, dict.fromkeys(names, "1"))


async def test_a_process_with_other_channels_leaves_no_channel_unwatched(database: Database, clock: FakeClock) -> None:
    one, two = Process(database, clock, "1", "u", "v"), Process(database, clock, "2", "v", "w")
    async with one.running():
        await until_owned(database, clock, {"u": "1", "v": "1"})
        async with two.running():
            await until_owned(database, clock, {"u": "1", "v": "1", "w": "2"})


class Listener:
    """Counts how often the bell rang."""

    def __init__(self, clock: FakeClock) -> None:
        self.bell = Bell()
        self._clock = clock
        self._rung = 0

    async def listen(self) -> None:
        while True:
            await self.bell.wait()
            self._rung += 1

    async def heard(self) -> bool:
        """Whether it rang since the last answer, once the watch has gone to sleep."""
        await self._clock.until_sleeping()
        await self._clock.advance(0)
        rung, self._rung = self._rung, 0
        return rung > 0


def write_event(database: Database) -> None:
    with database.unit_of_work() as unit:
        EventLog(unit.connection).append("1", at=NOW, kind="state")
        unit.commit()


async def test_the_bell_rings_soon_after_another_process_changed_the_queue(
    database: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener(clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.listen)
        tasks.start_soon(watch_queue, database, clock, listener.bell)
        assert await listener.heard(), "what happened before the start is not known"

        await clock.advance(LOOK_S)
        assert not await listener.heard(), "nothing happened"

        write_event(database)
        await clock.advance(LOOK_S)
        assert await listener.heard()

        with monkeypatch.context() as patch:
            patch.setattr(database, "unit_of_work", _away)
            await clock.advance(LOOK_S)
            assert not await listener.heard()
        write_event(database)
        await clock.advance(LOOK_S)
        assert await listener.heard()
        tasks.cancel_scope.cancel()


def _away(**_options: object) -> object:
    raise DatabaseUnavailable("The database is away.")
