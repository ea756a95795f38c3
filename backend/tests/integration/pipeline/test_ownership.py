"""Who may do what only one process may do: the leases of a process and the work they guard."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import update

from support.clock import FakeClock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.leases import PROCESS_PREFIX, Lease, LeaseStore
from vodkeep.db.tables import leases
from vodkeep.errors import DatabaseUnavailable
from vodkeep.pipeline.ownership import SHARED, Ownership, new_holder
from vodkeep.telemetry.log import get_logger

pytestmark = pytest.mark.anyio

LIFETIME_S = SHARED.lifetime.total_seconds()
PATIENCE_S = 60.0


class Guarded:
    """Work that goes on until it is canceled or told to end."""

    def __init__(self) -> None:
        self.begun = 0
        self.canceled = 0
        self.end = anyio.Event()
        self.step: Callable[[], object] | None = None
        self._changed = anyio.Event()

    async def __call__(self) -> None:
        self.begun += 1
        self._note()
        try:
            await self.end.wait()
        except anyio.get_cancelled_exc_class():
            self.canceled += 1
            self._note()
            raise

    async def until(self, *, begun: int = 0, canceled: int = 0) -> None:
        with anyio.fail_after(PATIENCE_S):
            while self.begun < begun or self.canceled < canceled:
                await self._changed.wait()

    def _note(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class Away:
    """A database that can be taken away, and given back."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_away = False
        self.hangs: threading.Event | None = None
        real = database.unit_of_work

        @contextmanager
        def unit_of_work(**options: object) -> Iterator[UnitOfWork]:
            if self.hangs is not None:
                self.hangs.wait(PATIENCE_S)
            if self.is_away:
                raise DatabaseUnavailable("The database is away.")
            with real(**options) as unit:  # type: ignore[arg-type]
                yield unit

        monkeypatch.setattr(database, "unit_of_work", unit_of_work)


@asynccontextmanager
async def process(database: Database, clock: FakeClock, holder: str = "a") -> AsyncIterator[Ownership]:
    """One process and its leases."""
    async with Ownership(database, clock, get_logger("test"), holder, note=f"{holder} says") as ownership:
        yield ownership


@asynccontextmanager
async def keeping(
    ownership: Ownership,
    name: str,
    work: Guarded,
    *,
    detail: str = "",
    wanted: Callable[[Collection[Lease]], bool] = lambda _live: True,
) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(ownership.keep, name, work, detail=detail, wanted=wanted))
        yield
        tasks.cancel_scope.cancel()


def live(database: Database) -> dict[str, str]:
    """The holder of each lease that is held, lives left out."""
    with database.unit_of_work(write=False) as unit:
        held = LeaseStore(unit.connection).live()
    return {lease.name: lease.holder for lease in held if not lease.name.startswith(PROCESS_PREFIX)}


def give_to(database: Database, name: str, holder: str) -> None:
    """As if ``holder`` had buried the process "a" and taken the lease."""
    run_out(database, "worker:a")
    with database.unit_of_work() as unit:
        store = LeaseStore(unit.connection)
        store.bury()
        assert store.take(f"worker:{holder}", holder, timedelta(minutes=1))
        assert store.take_all({name: ""}, holder)
        unit.commit()


def run_out(database: Database, name: str) -> None:
    with database.unit_of_work() as unit:
        past = datetime(2020, 1, 1, tzinfo=UTC)
        unit.connection.execute(update(leases).where(leases.c.name == name).values(expires_at=past))
        unit.commit()


def lives(database: Database, holder: str) -> bool:
    with database.unit_of_work(write=False) as unit:
        return any(lease.holder == holder for lease in LeaseStore(unit.connection).live(PROCESS_PREFIX))


async def until_held(database: Database, expected: dict[str, str]) -> None:
    """Wait for the database to say so; what is to be seen there comes without any clock."""
    with anyio.fail_after(PATIENCE_S):
        while await anyio.to_thread.run_sync(live, database) != expected:
            pass


async def test_work_begins_at_once_and_only_where_the_lease_is(database: Database, clock: FakeClock) -> None:
    first, second = Guarded(), Guarded()
    async with (
        process(database, clock) as a,
        process(database, clock, "b") as b,
        keeping(a, "planner", first, detail="me"),
    ):
        await first.until(begun=1)
        assert a.holds("planner")
        async with keeping(b, "planner", second):
            for _ in range(5):
                await clock.until_sleeping(4)
                await clock.advance(2)
            assert (second.begun, b.holds("planner")) == (0, False)
            assert [(lease.name, lease.detail) for lease in b.others] == [("worker:a", "a says")]
    assert first.canceled == 1


async def test_who_stops_leaves_its_leases_to_the_next_without_a_wait(database: Database, clock: FakeClock) -> None:
    first, second = Guarded(), Guarded()
    async with process(database, clock) as a, keeping(a, "planner", first), keeping(a, "periodic", first):
        await first.until(begun=2)
    assert live(database) == {}

    async with process(database, clock, "b") as b, keeping(b, "planner", second):
        await second.until(begun=1)
    assert clock.monotonic() == 0


async def test_work_that_is_given_up_frees_its_lease_while_the_process_goes_on(
    database: Database, clock: FakeClock
) -> None:
    work, other = Guarded(), Guarded()
    async with process(database, clock) as a, keeping(a, "periodic", other):
        async with keeping(a, "planner", work):
            await work.until(begun=1)
            await other.until(begun=1)
        await until_held(database, {"periodic": "a"})
        async with keeping(a, "planner", work):
            await work.until(begun=2)
    assert clock.monotonic() == 0


async def test_work_that_ends_by_itself_frees_its_lease(database: Database, clock: FakeClock) -> None:
    work = Guarded()
    async with process(database, clock) as a:
        work.end.set()
        with anyio.fail_after(PATIENCE_S):
            await a.keep("planner", work)
        await until_held(database, {})
    assert (work.begun, work.canceled) == (1, 0)


async def test_renewal_keeps_the_lease_for_as_long_as_it_takes(database: Database, clock: FakeClock) -> None:
    work = Guarded()
    async with process(database, clock) as a, keeping(a, "planner", work):
        await work.until(begun=1)
        for _ in range(10):
            await clock.until_sleeping(2)  # the next renewal, and the end of the lease
            run_out(database, "worker:a")
            await clock.advance(2)
            with anyio.fail_after(PATIENCE_S):
                while not await anyio.to_thread.run_sync(lives, database, "a"):
                    pass
        assert a.holds("planner")
    assert (work.begun, clock.monotonic()) == (1, 20)


async def test_a_lease_that_somebody_else_took_ends_the_work_until_it_is_free_again(
    database: Database, clock: FakeClock
) -> None:
    work = Guarded()
    async with process(database, clock) as a, keeping(a, "planner", work):
        await work.until(begun=1)
        await clock.until_sleeping(2)
        give_to(database, "planner", "b")
        await clock.advance(2)
        await work.until(canceled=1)
        assert not a.holds("planner")

        await clock.until_sleeping(1)
        await clock.advance(2)
        await clock.until_sleeping(1)
        assert work.begun == 1
        run_out(database, "worker:b")
        await clock.advance(2)
        await work.until(begun=2)


async def test_the_work_ends_when_the_database_was_away_for_a_lifetime_and_begins_again_after(
    database: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Away(database, monkeypatch)
    work = Guarded()
    async with process(database, clock) as a, keeping(a, "planner", work):
        await work.until(begun=1)
        await clock.until_sleeping(2)
        away.is_away = True
        await clock.advance(LIFETIME_S - 0.1)
        assert a.holds("planner")
        assert work.canceled == 0
        await clock.advance(0.1)
        assert not a.holds("planner")
        await work.until(canceled=1)

        away.is_away = False
        await clock.until_sleeping(1)
        await clock.advance(2)
        await work.until(begun=2)


async def test_a_database_that_hangs_does_not_hold_up_the_end_of_the_work(
    database: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Away(database, monkeypatch)
    work = Guarded()
    async with process(database, clock) as a, keeping(a, "planner", work):
        await work.until(begun=1)
        await clock.until_sleeping(2)
        away.hangs = threading.Event()
        await clock.advance(LIFETIME_S)
        await work.until(canceled=1)
        away.hangs.set()


async def test_who_was_stopped_learns_of_it_before_it_does_anything_more(database: Database, clock: FakeClock) -> None:
    """The work's own timer comes first when the process goes on, and still it does nothing."""
    done: list[float] = []
    stopped = anyio.Event()

    async with process(database, clock) as a:

        async def work() -> None:
            try:
                while True:
                    await a.confirm("planner")
                    done.append(clock.monotonic())
                    await clock.sleep(0.5)
            finally:
                stopped.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(a.keep, "planner", work)
            with anyio.fail_after(PATIENCE_S):
                while not done:
                    await anyio.lowlevel.checkpoint()
            await clock.until_sleeping(3)
            await clock.advance(1)
            assert done == [0, 0.5, 1]
            give_to(database, "planner", "b")
            clock.jump(60)
            with anyio.fail_after(PATIENCE_S):
                await stopped.wait()
            assert done == [0, 0.5, 1]
            tasks.cancel_scope.cancel()


async def test_what_is_no_longer_wanted_here_is_given_away_after_its_work_has_ended(
    database: Database, clock: FakeClock
) -> None:
    wanted = {"a": True, "b": False}
    first, second = Guarded(), Guarded()
    async with (
        process(database, clock) as a,
        process(database, clock, "b") as b,
        keeping(a, "channel:x", first, wanted=lambda _live: wanted["a"]),
        keeping(b, "channel:x", second, wanted=lambda _live: wanted["b"]),
    ):
        await first.until(begun=1)
        wanted.update(a=False, b=True)
        await clock.until_sleeping(4)
        await clock.advance(2)
        await first.until(canceled=1)
        await until_held(database, {})
        await clock.until_sleeping(4)
        await clock.advance(2)
        await second.until(begun=1)
        assert live(database) == {"channel:x": "b"}
    assert first.begun == 1


async def test_who_asks_is_told_what_the_others_hold(database: Database, clock: FakeClock) -> None:
    asked: list[list[str]] = []

    def wanted(live: Collection[Lease]) -> bool:
        asked.append([lease.name for lease in live])
        return True

    give_to(database, "periodic", "b")
    work = Guarded()
    async with process(database, clock) as a, keeping(a, "planner", work, wanted=wanted):
        await work.until(begun=1)
    assert asked[0] == ["worker:b"]


def test_no_two_processes_have_one_name() -> None:
    assert new_holder() != new_holder()
    assert new_holder().count(":") == 2


async def test_what_somebody_took_by_hand_is_noticed_though_not_at_once(database: Database, clock: FakeClock) -> None:
    work, other = Guarded(), Guarded()
    async with process(database, clock) as a, keeping(a, "planner", work), keeping(a, "periodic", other):
        await work.until(begun=1)
        await other.until(begun=1)
        with database.unit_of_work() as unit:
            unit.connection.execute(update(leases).where(leases.c.name == "planner").values(holder="b"))
            unit.commit()
        with anyio.fail_after(PATIENCE_S):
            while work.canceled == 0:
                await clock.until_sleeping(2)
                await clock.advance(2)
        assert clock.monotonic() <= 40
        assert (other.begun, other.canceled) == (1, 0)


async def test_what_was_taken_in_a_round_whose_answer_was_lost_is_held_or_free(
    database: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that nobody told of its lease must not have it for ever."""
    real = database.unit_of_work
    lost: list[str] = []

    @contextmanager
    def unit_of_work(**options: object) -> Iterator[UnitOfWork]:
        with real(**options) as unit:  # type: ignore[arg-type]
            yield unit
        if not lost and options.get("write", True):
            lost.append("answer")
            raise DatabaseUnavailable("The answer was lost.")

    work = Guarded()
    async with process(database, clock) as a:
        await clock.until_sleeping(2)
        with monkeypatch.context() as patch:
            patch.setattr(database, "unit_of_work", unit_of_work)
            async with keeping(a, "planner", work):
                await until_held(database, {"planner": "a"})
                await clock.until_sleeping(2)
        assert (lost, work.begun) == (["answer"], 0)
        await clock.advance(1)
        await until_held(database, {})


async def test_a_thousand_leases_are_taken_in_portions_and_all_renewed(database: Database, clock: FakeClock) -> None:
    names = [f"channel:{number:04}" for number in range(1000)]
    work = Guarded()
    async with process(database, clock) as a, anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(a.keep, name, work)
        await work.until(begun=len(names))
        assert clock.monotonic() == 0, "no portion waited for the next renewal"
        for _ in range(4):
            await clock.until_sleeping(2)
            await clock.advance(2)
            await until_held(database, dict.fromkeys(names, "a"))
        assert all(a.holds(name) for name in names)
        tasks.cancel_scope.cancel()
