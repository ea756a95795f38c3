"""A database that is away, slow, frozen or misconfigured: bounded waits, plain words, and recovery by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator

import anyio
import pytest
import structlog
from sqlalchemy import URL, func, select, update
from structlog.testing import LogCapture

from support.clock import FakeClock
from support.postgres import PostgresServer, fresh_database
from vodkeep.db import migrate
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.postgresql import Patience
from vodkeep.db.tables import channels
from vodkeep.db.wait import prepare_database, wait_for_database
from vodkeep.errors import DatabaseUnavailable

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, migrated_postgres_template: str) -> Iterator[URL]:
    with fresh_database(postgres_server, migrated_postgres_template) as name:
        yield postgres_server.url(name)


@pytest.fixture
def postgres(postgres_url: URL) -> Iterator[Database]:
    """A migrated PostgreSQL database with one channel, ``c``."""
    database = Database(postgres_url)
    with database.unit_of_work() as unit:
        unit.connection.execute(channels.insert().values(login="c"))
        unit.commit()
    yield database
    database.dispose()


def count(unit: UnitOfWork) -> int:
    return unit.connection.execute(select(func.count()).select_from(channels)).scalar_one()


class Capture:
    """A logger and what was written to it."""

    def __init__(self) -> None:
        self._written = LogCapture()
        self.log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
            None, processors=[self._written], wrapper_class=structlog.stdlib.BoundLogger
        )

    @property
    def entries(self) -> list[dict[str, object]]:
        return [dict(entry) for entry in self._written.entries]


@pytest.fixture
def capture() -> Capture:
    return Capture()


class TestPing:
    async def test_a_frozen_server_is_found_out_in_time(
        self, postgres: Database, postgres_server: PostgresServer
    ) -> None:
        """Its kernel still acknowledges packets, so that no timeout of the connection notices."""
        await postgres.ping()
        postgres_server.freeze()
        for _ in range(2):  # with a connection in the pool, and without one
            started = time.monotonic()
            with pytest.raises(DatabaseUnavailable):
                await postgres.ping()
            assert time.monotonic() - started < 20.0

        postgres_server.resume()
        await postgres.ping()

    async def test_a_stopped_server_is_away_and_then_back(
        self, postgres: Database, postgres_server: PostgresServer
    ) -> None:
        await postgres.ping()
        postgres_server.stop()
        with pytest.raises(DatabaseUnavailable, match="connection refused"):
            await postgres.ping()

        postgres_server.start()
        await postgres.ping()

    async def test_a_busy_service_is_not_a_dead_one(self, postgres: Database) -> None:
        """Every thread for work is taken."""
        started, may_end = anyio.Event(), anyio.Event()
        count_running = 0

        async def announce() -> None:
            nonlocal count_running
            count_running += 1
            if count_running == 5:
                started.set()

        def work(unit: UnitOfWork) -> None:
            count(unit)
            anyio.from_thread.run(announce)
            anyio.from_thread.run(may_end.wait)

        async with anyio.create_task_group() as group:
            for _ in range(9):
                group.start_soon(lambda: postgres.run(work, write=False))
            await started.wait()
            await postgres.ping()
            may_end.set()


class TestRecovery:
    async def test_pooled_connections_survive_a_restart_of_the_server(
        self, postgres: Database, postgres_server: PostgresServer
    ) -> None:
        with postgres.unit_of_work() as one, postgres.unit_of_work() as two, postgres.unit_of_work() as three:
            assert (count(one), count(two), count(three)) == (1, 1, 1)
        postgres_server.restart()

        for _ in range(4):
            assert await postgres.run(count, write=False) == 1

    async def test_a_unit_that_meets_the_restart_fails_as_unavailable(
        self, postgres: Database, postgres_server: PostgresServer
    ) -> None:
        def interrupted(unit: UnitOfWork) -> None:
            unit.connection.execute(channels.insert().values(login="lost"))
            postgres_server.restart()
            unit.commit()

        with pytest.raises(DatabaseUnavailable) as unavailable:
            await postgres.run(interrupted)

        assert unavailable.value.__cause__ is not None
        assert await postgres.run(count, write=False) == 1

    async def test_a_server_that_freezes_within_a_unit_holds_nobody_for_ever(
        self, postgres: Database, postgres_server: PostgresServer
    ) -> None:

        def freeze_halfway() -> None:
            with postgres.unit_of_work(patience=Patience(statement_s=0.2, grace_s=0.3)) as unit:
                assert count(unit) == 1
                postgres_server.freeze()
                count(unit)

        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable, match="no answer"):
            freeze_halfway()
        assert time.monotonic() - started < 20

        # The late answer went to a closed connection; the next unit gets its own answer.
        postgres_server.resume()
        assert await postgres.run(count, write=False) == 1

    async def test_a_connection_that_went_silent_in_the_pool_is_found_out_before_work_begins(
        self, postgres: Database, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The check is not given the time of a statement (30 s)."""
        monkeypatch.setattr("vodkeep.db.engine._CHECKOUT_LIMIT_S", 0.2)
        assert await postgres.run(count, write=False) == 1
        postgres_server.freeze()
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            await postgres.run(count, write=False)
        assert time.monotonic() - started < 20  # the check, and one connect that gets no answer either

        postgres_server.resume()
        assert await postgres.run(count, write=False) == 1


class TestLimits:
    async def test_a_statement_that_takes_too_long_is_canceled_by_the_server(self, postgres: Database) -> None:
        with (
            pytest.raises(DatabaseUnavailable, match="statement timeout"),
            postgres.unit_of_work(patience=Patience(statement_s=0.05)) as unit,
        ):
            unit.connection.execute(select(func.pg_sleep(30)))

    async def test_a_lock_is_not_waited_for_without_end(self, postgres: Database) -> None:
        change = update(channels).values(display_name="C")
        with postgres.unit_of_work() as first:
            first.connection.execute(change)
            with (
                pytest.raises(DatabaseUnavailable, match="lock timeout"),
                postgres.unit_of_work(patience=Patience(lock_s=0.05)) as second,
            ):
                second.connection.execute(change)

    async def test_limits_and_read_only_end_with_the_transaction(self, postgres_url: URL) -> None:
        """Behind pgbouncer the next transaction on this connection may be somebody else's."""
        database = Database(postgres_url, pool_size=1)
        with database.unit_of_work(write=False, patience=Patience(statement_s=7)) as unit:
            assert unit.connection.exec_driver_sql("SHOW statement_timeout").scalar_one() == "7s"
            raw = unit.connection.connection.driver_connection
            for _ in range(10):  # often enough for psycopg to prepare it by default
                count(unit)
        assert raw is not None
        raw.rollback()
        shown = [raw.execute(f"SHOW {name}").fetchone()[0] for name in SESSION_SETTINGS]
        assert shown == ["0", "0", "0", "off"]
        assert raw.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
        raw.rollback()
        database.dispose()


SESSION_SETTINGS = (
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "default_transaction_read_only",
)


class TestWaiting:
    async def test_the_start_waits_for_a_database_that_is_down(
        self,
        empty_postgres: Database,
        postgres_server: PostgresServer,
        clock: FakeClock,
        capture: Capture,
    ) -> None:
        postgres_server.stop()
        async with anyio.create_task_group() as group:
            group.start_soon(prepare_database, empty_postgres, clock, capture.log)
            for _ in range(12):
                await clock.until_sleeping()
                await clock.advance(clock.next_wake_s() or 0)
            await clock.until_sleeping()
            postgres_server.start()
            await clock.advance(30)

        assert migrate.current(empty_postgres) == migrate.head()
        *attempts, back = capture.entries
        assert len(attempts) == 13
        assert back["event"] == "database is back"
        assert {entry["event"] for entry in attempts} == {"waiting for the database"}
        assert {entry["log_level"] for entry in attempts} == {"warning"}
        first = attempts[0]
        assert (first["host"], first["port"]) == ("127.0.0.1", postgres_server.port)
        assert first["database"] == empty_postgres.address.name
        assert "nothing listens there (connection refused)" in str(first["reason"])
        waits = [float(str(entry["retry_in_s"])) for entry in attempts]
        assert waits[0] <= 0.5
        assert all(15 <= wait <= 30 for wait in waits[-5:]), waits
        assert postgres_server.password not in str(capture.entries)

    async def test_a_wrong_password_is_named_and_mended_while_we_wait(
        self, postgres_url: URL, postgres_server: PostgresServer, clock: FakeClock, capture: Capture
    ) -> None:
        with postgres_server.connect() as connection:
            connection.execute("CREATE ROLE keeper LOGIN PASSWORD 'the old one'")
            database = Database(postgres_url.set(username="keeper", password="hunter2-secret"))
            async with anyio.create_task_group() as group:
                group.start_soon(wait_for_database, database, clock, capture.log)
                await clock.until_sleeping()
                connection.execute("ALTER ROLE keeper PASSWORD 'hunter2-secret'")
                await clock.advance(30)
            database.dispose()
            connection.execute("DROP ROLE keeper")

        waiting, _back = capture.entries
        assert 'the password for user "keeper" is wrong' in str(waiting["reason"])
        assert waiting["code"] == "database_credentials"
        assert "DB_DSN" in str(waiting["remedy"])
        assert "hunter2" not in str(capture.entries)

    async def test_a_missing_database_is_named_and_created_while_we_wait(
        self, postgres_server: PostgresServer, clock: FakeClock, capture: Capture
    ) -> None:
        database = Database(postgres_server.url("not_yet_there"))
        async with anyio.create_task_group() as group:
            group.start_soon(wait_for_database, database, clock, capture.log)
            await clock.until_sleeping()
            with postgres_server.connect() as connection:
                connection.execute("CREATE DATABASE not_yet_there")
            await clock.advance(30)
        database.dispose()
        with postgres_server.connect() as connection:
            connection.execute("DROP DATABASE not_yet_there")

        waiting, _back = capture.entries
        assert 'there is no database "not_yet_there" on it' in str(waiting["reason"])
        assert waiting["code"] == "database_missing"

    async def test_a_database_that_answers_is_not_worth_a_line(
        self, postgres: Database, clock: FakeClock, capture: Capture
    ) -> None:
        await wait_for_database(postgres, clock, capture.log)
        assert capture.entries == []


@pytest.fixture
def empty_postgres(postgres_dsn: str, postgres_server: PostgresServer) -> Iterator[Database]:
    database = Database(postgres_server.url(postgres_dsn.rpartition("/")[2]))
    yield database
    database.dispose()
