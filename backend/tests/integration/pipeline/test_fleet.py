"""What a fleet promises about processes: real ones, on a real PostgreSQL, killed, frozen and stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import anyio
import pytest
from sqlalchemy import URL

from support.engines import Crew, cancel_row
from support.fleet_worker import Member, member
from support.pgbouncer import needs_pgbouncer, pgbouncer
from support.postgres import PostgresServer, fresh_database
from support.queue_rows import Rows
from vodkeep.db.engine import Database
from vodkeep.pipeline.model import Stage

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

PATIENCE_S = 60.0

_FETCHED_TICKET = """
    INSERT INTO procrastinate_jobs (queue_name, task_name, lock, queueing_lock, status, args)
    VALUES ('capture', 'vodkeep:capture', 'vod:1', 'vod:1', 'doing', jsonb_build_object(
        'stage', 'capture', 'item_id', '1', 'channel', 'chan', 'probe', false, 'generation', 0))
"""


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, migrated_postgres_template: str) -> Iterator[URL]:
    with fresh_database(postgres_server, migrated_postgres_template) as name:
        yield postgres_server.url(name)


@pytest.fixture
def database(postgres_url: URL) -> Iterator[Database]:
    """A migrated PostgreSQL database."""
    database = Database(postgres_url)
    yield database
    database.dispose()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other things may take longer than the two seconds in which a job ends."""
    for module in ("engine", "fleet.engine"):
        monkeypatch.setattr(f"vodkeep.pipeline.{module}.CANCEL_LIMIT_S", 20.0)


class Fleet:
    """Worker processes, and the planner in this one."""

    def __init__(self, url: URL, folder: Path, database: Database) -> None:
        self._dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self.folder = folder
        self.database = database
        self.planner = Crew("fleet", database, works=False, holder="planner")
        self.rows = Rows(database)

    def member(self, name: str, slots: int = 1) -> AbstractContextManager[Member]:
        return member(self._dsn, name, self.folder, slots)

    def told(self, what: str, item_id: str) -> list[str]:
        """The names of the processes that said this of the item."""
        return sorted(path.name.rpartition("-")[2] for path in self.folder.glob(f"{what}-{item_id}-*"))

    def finish(self, *item_ids: str) -> None:
        """Let the captures of these items end."""
        for item_id in item_ids:
            (self.folder / f"finish-{item_id}").touch()

    async def until_told(self, what: str, item_id: str, count: int = 1) -> list[str]:
        """The names, once so many processes have said it."""
        with anyio.fail_after(PATIENCE_S):
            while len(names := self.told(what, item_id)) < count:  # noqa: ASYNC110 - told by another process
                await anyio.sleep(0.02)
        return names

    async def until_ready(self, *names: str) -> None:
        with anyio.fail_after(PATIENCE_S):
            while not all((self.folder / f"ready-{name}").exists() for name in names):  # noqa: ASYNC110
                await anyio.sleep(0.02)

    async def until_state(self, item_id: str, state: str) -> None:
        with anyio.fail_after(PATIENCE_S):
            while self.rows.get(item_id)["download_state"] != state:  # noqa: ASYNC110 - moved by another process
                await anyio.sleep(0.05)

    async def until_listening(self) -> None:
        query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        with anyio.fail_after(PATIENCE_S), self.database.unit_of_work(write=False) as unit:
            while not unit.connection.exec_driver_sql(query.replace("%", "%%")).scalar_one():
                unit.connection.rollback()
                await anyio.sleep(0.02)

    async def until_idle(self) -> None:
        with anyio.fail_after(PATIENCE_S):
            await self.planner.until(lambda jobs: jobs == [])


@pytest.fixture
def fleet(postgres_url: URL, database: Database, tmp_path: Path) -> Fleet:
    return Fleet(postgres_url, tmp_path, database)


def children_of(process: Member) -> list[int]:
    pid = process.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def until_it_has_children(process: Member, count: int = 1) -> list[int]:
    with anyio.fail_after(PATIENCE_S):
        while len(children := children_of(process)) < count or not all(map(is_bound, children)):  # noqa: ASYNC110
            await anyio.sleep(0.02)
    return children


def is_bound(pid: int) -> bool:
    """Whether the process has become its program, which it does only once it is bound to end with its parent."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "sleep"
    except FileNotFoundError:
        return False


async def until_gone(pids: list[int]) -> None:
    with anyio.fail_after(PATIENCE_S):
        while any(runs(pid) for pid in pids):  # noqa: ASYNC110 - strangers tell nobody
            await anyio.sleep(0.02)


def runs(pid: int) -> bool:
    """Whether the process is there, and not only the memory of it that its new parent has not asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_the_work_of_a_killed_process_is_taken_over(fleet: Fleet) -> None:
    fleet.rows.add("1")
    with fleet.member("a") as first, fleet.member("b") as second:
        members = {"a": first, "b": second}
        async with fleet.planner.planning():
            await fleet.until_ready("a", "b")
            (name,) = await fleet.until_told("begun", "1")
            children = await until_it_has_children(members[name])
            members[name].kill()
            assert await fleet.until_told("begun", "1", 2) == ["a", "b"]
            await until_gone(children)
            fleet.finish("1")
            await fleet.until_state("1", "done")
            await fleet.until_idle()
    row = fleet.rows.get("1")
    assert (row["generation"], row["download_retries"]) == (2, 0)
    assert ("downloading", "downloading", "resumed") in fleet.rows.events("1")


async def test_a_process_that_was_frozen_does_no_harm_when_it_wakes_up(fleet: Fleet) -> None:
    """It wakes up with its capture finished, right before the library: the other one has placed the item by then."""
    fleet.rows.add("1", "2")
    with fleet.member("a") as first, fleet.member("b") as second:
        members = {"a": first, "b": second}
        async with fleet.planner.planning():
            await fleet.until_ready("a", "b")
            (frozen,) = await fleet.until_told("begun", "1")
            await fleet.until_told("begun", "2")
            members[frozen].freeze()
            fleet.finish("2")
            await fleet.until_told("begun", "1", 2)
            fleet.finish("1")
            await fleet.until_state("1", "done")
            members[frozen].thaw()
            await fleet.until_told("ended", "1", 2)
            await fleet.until_idle()
    successor = {"a": "b", "b": "a"}[frozen]
    assert fleet.told("placed", "1") == [successor]
    assert fleet.rows.get("1")["generation"] == 2
    assert [event for event in fleet.rows.events("1") if event[1] == "done"] == [("downloaded", "done", None)]
    assert "Traceback" not in members[frozen].log()


async def test_a_process_that_is_stopped_hands_its_work_over_at_once(fleet: Fleet) -> None:
    fleet.rows.add("1")
    with fleet.member("a") as first, fleet.member("b") as second:
        members = {"a": first, "b": second}
        async with fleet.planner.planning():
            await fleet.until_ready("a", "b")
            (name,) = await fleet.until_told("begun", "1")
            assert await anyio.to_thread.run_sync(members[name].stop) == 0
            assert fleet.told("canceled", "1") == [name]
            await fleet.until_told("begun", "1", 2)
            fleet.finish("1")
            await fleet.until_state("1", "done")
    assert ("downloading", "pending", "released") in fleet.rows.events("1")
    assert ("downloading", "downloading", "resumed") not in fleet.rows.events("1")


async def test_a_cancel_reaches_any_process(fleet: Fleet) -> None:
    """Its programs included; the other items go on."""
    fleet.rows.add("1", "2")
    with fleet.member("a", slots=2) as only:
        async with fleet.planner.planning() as engine:
            await fleet.until_told("begun", "1")
            await fleet.until_told("begun", "2")
            before = await until_it_has_children(only, 2)
            cancel_row(fleet.database, "1")
            assert await engine.cancel("1")
            assert fleet.told("canceled", "1") == ["a"]
            assert len(children_of(only)) == len(before) - 1
            assert [job.twitch_vod_id for job in await engine.running()] == ["2"]
    assert fleet.rows.get("1")["download_state"] == "canceled"


async def test_planners_that_race_start_everything_once(fleet: Fleet) -> None:
    """Only one should plan at a time, but one that was frozen may not know that it no longer does."""
    ids = [str(number) for number in range(12)]
    fleet.rows.add(*ids)
    fleet.finish(*ids)
    others = [Crew("fleet", fleet.database, works=False, holder=f"planner {n}") for n in (1, 2)]
    with fleet.member("a", slots=2), fleet.member("b", slots=2):
        async with fleet.planner.planning(), others[0].planning(), others[1].planning():
            for item_id in ids:
                await fleet.until_state(item_id, "done")
            await fleet.until_idle()
    assert [len(fleet.told("placed", item_id)) for item_id in ids] == [1] * 12
    assert [fleet.rows.get(item_id)["generation"] for item_id in ids] == [1] * 12


async def test_a_database_that_is_away_for_long_ends_nothing(fleet: Fleet, postgres_server: PostgresServer) -> None:
    """Twenty seconds, in which every lease runs out: nobody is taken for dead, and all go on afterwards."""
    fleet.rows.add("1", "2")
    with fleet.member("a") as first, fleet.member("b") as second:
        async with fleet.planner.planning():
            await fleet.until_told("begun", "1")
            await fleet.until_told("begun", "2")
            await anyio.to_thread.run_sync(postgres_server.stop)
            fleet.finish("2")
            await anyio.sleep(20)
            await anyio.to_thread.run_sync(postgres_server.start)
            await fleet.until_state("2", "done")
            await anyio.sleep(8)
            assert (len(fleet.told("begun", "1")), fleet.told("canceled", "1")) == (1, [])
            fleet.finish("1")
            await fleet.until_state("1", "done")
            fleet.rows.add("3")
            await fleet.until_told("begun", "3")
        assert "Traceback" not in first.log() + second.log()
    assert [fleet.rows.get(item_id)["generation"] for item_id in ("1", "2", "3")] == [1, 1, 1]


async def test_a_ticket_that_lost_its_worker_holds_nobody_up(fleet: Fleet) -> None:
    """It was fetched by a process that died before its run began."""
    fleet.rows.add("1")
    with fleet.member("a"):
        await fleet.until_ready("a")
        async with fleet.planner.working() as engine:
            fleet.rows.execute(_FETCHED_TICKET)
            assert not await engine.start(Stage.CAPTURE, await fleet.planner.item("1"))
        async with Crew("fleet", fleet.database, works=False, holder="another planner").planning():
            await fleet.until_told("begun", "1")


_OPEN_TRANSACTIONS = """
    SELECT pid, xact_start FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'vodkeep' AND pid != pg_backend_pid()
"""


async def test_no_connection_is_held_while_captures_run_and_their_number_is_bounded(
    fleet: Fleet, postgres_server: PostgresServer
) -> None:
    """A transaction that is seen at the beginning and at the end of three seconds would last as long as a capture."""
    fleet.rows.add("1", "2", "3")
    worker = Crew("fleet", fleet.database, slots=3)
    name = fleet.database.address.name
    async with worker.planning():
        for number in (1, 2, 3):
            await worker.capture.nth(number)
        with postgres_server.connect(name) as outside:
            looks: list[dict[object, object]] = []
            for _ in range(30):
                rows = outside.execute(_OPEN_TRANSACTIONS).fetchall()
                looks.append({row[0]: row[1] for row in rows})
                await anyio.sleep(0.1)
    held = [pid for pid, began in looks[0].items() if began is not None and looks[-1].get(pid) == began]
    assert held == []
    assert max(len(look) for look in looks) <= 8, "seven of the pool, one that listens"


@needs_pgbouncer
async def test_a_fleet_works_behind_pgbouncer_in_transaction_mode(
    postgres_url: URL, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """Three processes on two connections of the server: starting, finishing, canceling, and taking over."""
    with pgbouncer(postgres_server, 2) as port:
        url = postgres_url.set(port=port)
        database = Database(url)
        fleet = Fleet(url, tmp_path, database)
        fleet.rows.add("1", "2", "3")
        with fleet.member("a", slots=2) as first, fleet.member("b") as second:
            members = {"a": first, "b": second}
            async with fleet.planner.planning() as engine:
                for item_id in ("1", "2", "3"):
                    await fleet.until_told("begun", item_id)
                fleet.finish("1")
                await fleet.until_state("1", "done")
                cancel_row(fleet.database, "2")
                assert await engine.cancel("2")
                assert len(fleet.told("canceled", "2")) == 1
                (name,) = fleet.told("begun", "3")
                members[name].kill()
                await fleet.until_told("begun", "3", 2)
                fleet.finish("3")
                await fleet.until_state("3", "done")
                await fleet.until_idle()
        database.dispose()
        assert "notifications do not come through a connection pooler" in first.log()


async def test_a_ticket_is_heard_of_and_not_only_found(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without notifications a worker would look for the first time after an hour."""
    for name in ("_POLL_S", "_POLL_HEARING_S"):
        monkeypatch.setattr(f"vodkeep.pipeline.fleet.engine.{name}", 3600.0)
    fleet.rows.add("1", "2")
    worker = Crew("fleet", fleet.database, slots=2)
    async with worker.working() as engine:
        await fleet.until_listening()
        await worker.start("1")
        await worker.start("2")
        capturing = [await worker.capture.nth(number) for number in (1, 2)]
        (ticket,) = [one for one in capturing if one.item.twitch_vod_id == "1"]
        # What another process does to a ticket of this one.
        fleet.rows.execute("UPDATE procrastinate_jobs SET abort_requested = true WHERE lock = 'vod:1'")
        await ticket.ended.wait()
        assert ticket.canceled
        assert [job.twitch_vod_id for job in await engine.running() if job.twitch_vod_id != "1"] == ["2"]
