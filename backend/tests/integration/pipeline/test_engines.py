"""What every engine promises, on real databases, in one process.

Promises about several processes are kept in `test_fleet`.
"""

from __future__ import annotations

import anyio
import pytest

from support.engines import Crew, announce, cancel_row
from support.postgres import PostgresServer
from support.queue_rows import Rows
from vodkeep.child import run_child
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.pipeline.model import Job, QueueItem, Stage

pytestmark = pytest.mark.anyio


@pytest.fixture(
    params=[
        ("in process", "sqlite"),
        pytest.param(("in process", "postgres"), marks=pytest.mark.postgres),
        pytest.param(("fleet", "postgres"), marks=pytest.mark.postgres),
    ],
    ids=lambda pair: f"{pair[0]} on {pair[1]}".replace(" ", "-"),
)
def kinds(request: pytest.FixtureRequest) -> tuple[str, str]:
    """An engine and a database that go together."""
    pair: tuple[str, str] = request.param
    return pair


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other things may take longer than the two seconds in which a job ends."""
    for module in ("engine", "fleet.engine"):
        monkeypatch.setattr(f"vodkeep.pipeline.{module}.CANCEL_LIMIT_S", 20.0)


@pytest.fixture
def kind(kinds: tuple[str, str]) -> str:
    """Which engine."""
    return kinds[0]


@pytest.fixture
def database_kind(kinds: tuple[str, str]) -> str:
    """Which database; takes the place of the fixture that tests without engines use."""
    return kinds[1]


def leftovers(database: Database) -> list[str]:
    """Tickets, and leases of runs that somebody holds."""
    if database.is_sqlite:
        return []

    def look(unit: UnitOfWork) -> list[str]:
        return list(
            unit.connection.exec_driver_sql(
                "SELECT 'ticket ' || id || ' ' || status FROM procrastinate_jobs UNION ALL"
                " SELECT name FROM leases WHERE starts_with(name, 'run:') AND holder != ''"
            ).scalars()
        )

    with database.unit_of_work(write=False) as unit:
        return look(unit)


async def test_an_item_is_run_once_and_leaves_nothing_behind(database: Database, rows: Rows, kind: str) -> None:
    rows.add("1")
    crew = Crew(kind, database)
    async with crew.working():
        assert await crew.start("1")
        capturing = await crew.capture.nth(1)
        assert not await crew.start("1"), "it runs"
        assert await crew.engine.running() == [Job(Stage.CAPTURE, "1", "chan", probe=False)]
        capturing.end()
        await crew.until(lambda jobs: jobs == [])
        await crew.bell.wait()
    row = rows.get("1")
    assert (row["download_state"], row["generation"], row["processed"]) == ("done", 1, 1)
    assert len(crew.capture.begun) == 1
    assert leftovers(database) == []


async def test_of_many_who_start_the_same_item_one_does(database: Database, rows: Rows, kind: str) -> None:
    rows.add("1")
    crew = Crew(kind, database, slots=3)
    planners = [crew, crew, crew]
    if kind == "fleet":
        planners = [crew, *(Crew(kind, database, works=False, holder=f"planner {n}") for n in (1, 2))]
    item = await crew.item("1")
    async with crew.working():
        started: list[bool] = []

        async def start(engine: Crew) -> None:
            started.append(await engine.engine.start(Stage.CAPTURE, item))

        async with anyio.create_task_group() as tasks:
            for planner in planners:
                tasks.start_soon(start, planner)
        assert any(started)
        (await crew.capture.nth(1)).end()
        await crew.until(lambda jobs: jobs == [])
    assert len(crew.capture.begun) == 1
    assert rows.get("1")["generation"] == 1
    assert leftovers(database) == []


async def test_a_ticket_of_yesterday_starts_nothing(database: Database, rows: Rows, kind: str) -> None:
    """The item was taken by another run after it was planned."""
    rows.add("1", "2")
    crew = Crew(kind, database)
    planned = await crew.item("1")
    async with crew.working():
        rows.execute("UPDATE vods SET generation = 7 WHERE twitch_vod_id = '1'")
        assert await crew.engine.start(Stage.CAPTURE, planned)
        await crew.until(lambda jobs: jobs == [])
        assert await crew.start("2")
        assert (await crew.capture.nth(1)).item.twitch_vod_id == "2"
    assert rows.get("1")["generation"] == 7


async def test_slots_are_a_limit(database: Database, rows: Rows, kind: str) -> None:
    rows.add("1", "2", "3")
    crew = Crew(kind, database, slots=2)
    async with crew.working():
        assert (await crew.engine.slots())[Stage.CAPTURE] == 2
        assert await crew.start("1")
        assert await crew.start("2")
        assert not await crew.start("3")
        first, _ = await crew.capture.nth(1), await crew.capture.nth(2)
        assert {job.twitch_vod_id for job in await crew.engine.running()} == {"1", "2"}
        first.end()
        await crew.until(lambda jobs: len(jobs) == 1)
        assert await crew.start("3")
        await crew.capture.nth(3)


async def test_a_stage_that_nobody_works_on_never_starts(database: Database, rows: Rows, kind: str) -> None:
    rows.add("1")
    crew = Crew(kind, database)
    async with crew.working():
        assert not await crew.engine.start(Stage.PUBLISH, await crew.item("1"))
        assert await crew.engine.running() == []


class WithChild:
    """A capture that is a program of the machine, as most of a real one is."""

    def __init__(self) -> None:
        self.began = anyio.Event()
        self.child_ended = False

    async def run(self, item: QueueItem, *, probe: bool = False) -> object:
        self.began.set()
        try:
            await run_child(["sleep", "600"], deadline_s=None)
        finally:
            self.child_ended = True
        return None


async def test_cancel_ends_the_job_with_its_children_and_leaves_others_alone(
    database: Database, rows: Rows, kind: str
) -> None:
    rows.add("1", "2")
    runner = WithChild()
    crew = Crew(kind, database, slots=2, runner=runner)
    async with crew.working():
        await crew.start("1", probe=True)
        await crew.start("2")
        await runner.began.wait()
        assert {job.twitch_vod_id: job.probe for job in await crew.engine.running()} == {"1": True, "2": False}
        cancel_row(database, "1")
        assert await crew.engine.cancel("1")
        assert runner.child_ended
        assert [job.twitch_vod_id for job in await crew.engine.running()] == ["2"]
        assert await crew.engine.cancel("unknown")


async def test_a_canceled_run_hands_nothing_back_and_counts_nothing(database: Database, rows: Rows, kind: str) -> None:
    rows.add("1", download_retries=1)
    crew = Crew(kind, database)
    async with crew.working():
        await crew.start("1")
        capturing = await crew.capture.nth(1)
        cancel_row(database, "1")
        assert await crew.engine.cancel("1")
        assert capturing.canceled
    row = rows.get("1")
    assert (row["download_state"], row["download_retries"]) == ("canceled", 1)
    assert leftovers(database) == []


async def test_a_canceled_item_can_be_started_again_at_once(database: Database, rows: Rows, kind: str) -> None:
    rows.add("1")
    crew = Crew(kind, database)
    async with crew.working():
        await crew.start("1")
        await crew.capture.nth(1)
        cancel_row(database, "1")
        assert await crew.engine.cancel("1")
        rows.execute("UPDATE vods SET download_state='pending', processing_error=NULL WHERE twitch_vod_id='1'")
        assert await crew.start("1")
        (await crew.capture.nth(2)).end()
        await crew.until(lambda jobs: jobs == [])
    assert rows.get("1")["download_state"] == "done"


async def test_leaving_the_block_hands_everything_back(database: Database, rows: Rows, kind: str) -> None:
    rows.add("1", "2")
    crew = Crew(kind, database, slots=2)
    async with crew.working():
        await crew.start("1")
        await crew.start("2")
        both = [await crew.capture.nth(n) for n in (1, 2)]
    assert [capturing.canceled for capturing in both] == [True, True]
    assert [rows.get(item_id)["download_state"] for item_id in ("1", "2")] == ["pending", "pending"]
    assert [rows.get(item_id)["download_retries"] for item_id in ("1", "2")] == [0, 0]
    assert leftovers(database) == []


class Clumsy:
    """A runner with a bug in it, for one item."""

    def __init__(self) -> None:
        self.ran = anyio.Event()

    async def run(self, item: QueueItem, *, probe: bool = False) -> object:
        if item.twitch_vod_id == "1":
            raise ZeroDivisionError("by design")
        self.ran.set()
        return None


async def test_a_bug_in_a_runner_is_told_and_the_engine_goes_on(database: Database, rows: Rows, kind: str) -> None:
    rows.add("1", "2")
    runner = Clumsy()
    crew = Crew(kind, database, slots=2, runner=runner)
    async with crew.working():
        await crew.start("1")
        await crew.hears("a job ended in a bug")
        assert not await crew.start("1"), "it keeps its slot for a while, so that it cannot spin"
        await crew.start("2")
        await runner.ran.wait()


@pytest.mark.parametrize("database_kind", [pytest.param("postgres", marks=pytest.mark.postgres)])
@pytest.mark.parametrize("kind", ["in process", "fleet"])
async def test_a_run_outlives_a_restart_of_the_database(
    database: Database, rows: Rows, kind: str, postgres_server: PostgresServer
) -> None:
    """For longer than a lease lasts; the run's result waits, nothing is lost, nothing is done twice."""
    rows.add("1", "2")
    crew = Crew(kind, database)
    async with crew.working() as engine, anyio.create_task_group() as tasks:
        tasks.start_soon(engine.tend)
        await crew.start("1")
        capturing = await crew.capture.nth(1)
        await anyio.to_thread.run_sync(postgres_server.stop)
        await anyio.sleep(7)
        capturing.end()
        await capturing.ended.wait()
        await anyio.to_thread.run_sync(postgres_server.start)
        await crew.hears("vod processed")
        await crew.until(lambda jobs: jobs == [])
        assert await crew.start("2"), "the engine works on"
        (await crew.capture.nth(2)).end()
        await crew.hears("vod processed", 2)
        tasks.cancel_scope.cancel()
    assert rows.get("1")["generation"] == 1
    assert [one.item.twitch_vod_id for one in crew.capture.begun] == ["1", "2"]


@pytest.mark.parametrize("database_kind", [pytest.param("postgres", marks=pytest.mark.postgres)])
@pytest.mark.parametrize("kind", ["in process", "fleet"])
async def test_a_stop_does_not_wait_for_a_database_that_is_away(
    database: Database, rows: Rows, kind: str, postgres_server: PostgresServer
) -> None:
    """The item is not handed back then; its row says that somebody was at work on it, and it is due again."""
    rows.add("1")
    crew = Crew(kind, database)
    async with crew.working():
        await crew.start("1")
        capturing = await crew.capture.nth(1)
        await anyio.to_thread.run_sync(postgres_server.stop)
        # Long enough for every part to have noticed.
        await anyio.sleep(3)
    assert capturing.canceled
    assert not [line for line in crew.lines.lines if line.get("exc_info")]
    postgres_server.start()
    assert rows.get("1")["download_state"] == "downloading"


@pytest.mark.postgres
@pytest.mark.parametrize("kinds", [("fleet", "postgres")])
async def test_a_waiting_ticket_is_canceled_before_anybody_fetches_it(
    database: Database, rows: Rows, kind: str
) -> None:
    rows.add("1", "2")
    announce(database, "a worker that is slow", 2)
    planner = Crew(kind, database, works=False, holder="planner")
    async with planner.working():
        assert await planner.start("1")
        assert [job.twitch_vod_id for job in await planner.engine.running()] == ["1"]
        cancel_row(database, "1")
        assert await planner.engine.cancel("1")
        assert await planner.engine.running() == []
        assert await planner.start("2")
    worker = Crew(kind, database, slots=2)
    async with worker.working():
        assert (await worker.capture.nth(1)).item.twitch_vod_id == "2"
        assert [job.twitch_vod_id for job in await worker.engine.running()] == ["2"]
