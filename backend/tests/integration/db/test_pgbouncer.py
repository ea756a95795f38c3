"""Behind pgbouncer in transaction mode: fewer server connections than clients, and no session to rely on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import URL

from support.pgbouncer import needs_pgbouncer, pgbouncer
from support.postgres import PostgresServer, fresh_database
from vodkeep.db import migrate
from vodkeep.db.engine import Database
from vodkeep.db.kv import KvStore
from vodkeep.db.postgresql import Patience

pytestmark = [pytest.mark.postgres, needs_pgbouncer]

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def pgbouncer_url(postgres_server: PostgresServer) -> Iterator[URL]:
    """An empty database behind a pgbouncer with two server connections."""
    with fresh_database(postgres_server) as name, pgbouncer(postgres_server, 2) as port:
        yield postgres_server.url(name).set(port=port)


def test_units_share_server_connections_without_a_trace(pgbouncer_url: URL) -> None:
    """Six threads on two connections, each with limits of its own that no other may ever see."""
    database = Database(pgbouncer_url, pool_size=6)
    migrate.upgrade(database)

    def work(number: int) -> None:
        patience = Patience(statement_s=7 + number)
        for turn in range(30):
            with database.unit_of_work(patience=patience) as unit:
                shown = unit.connection.exec_driver_sql("SHOW statement_timeout").scalar_one()
                assert shown == f"{7 + number}s"
                KvStore(unit.connection).set(f"{number} {turn}", "x", AT)
                unit.commit()
            with database.unit_of_work(write=False) as unit:
                assert KvStore(unit.connection).get(f"{number} {turn}") == "x"

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(work, number) for number in range(6)]:
            done.result()

    with database.unit_of_work(write=False) as unit:
        assert len(KvStore(unit.connection).all()) == 180
    database.dispose()
