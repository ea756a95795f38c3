"""Behind pgbouncer in transaction mode: fewer server connections than clients, and no session to rely on."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import URL

from support.postgres import PostgresServer, fresh_database
from vodkeep.db import migrate
from vodkeep.db.engine import Database
from vodkeep.db.kv import KvStore
from vodkeep.db.postgresql import Patience

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="pgbouncer is not installed"),
]

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def pgbouncer_url(postgres_server: PostgresServer) -> Iterator[URL]:
    """An empty database behind a pgbouncer with two server connections and its own defaults."""
    program = shutil.which("pgbouncer")
    assert program is not None
    with (
        fresh_database(postgres_server) as name,
        tempfile.TemporaryDirectory(prefix="vodkeep-pgbouncer-") as text,
        socket.socket() as probe,
    ):
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        folder = Path(text)
        folder.chmod(0o755)
        (folder / "users").write_text(f'"{postgres_server.url(name).username}" "{postgres_server.password}"\n')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={postgres_server.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {folder}/users\n"
            "pool_mode = transaction\ndefault_pool_size = 2\n"
        )
        account = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}
        process = subprocess.Popen([program, str(folder / "pgbouncer.ini")], **account)  # type: ignore[call-overload]
        try:
            _wait_for_port(port)
            yield postgres_server.url(name).set(port=port)
        finally:
            process.terminate()
            process.wait(10)


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


def _wait_for_port(port: int) -> None:
    give_up = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < give_up, "pgbouncer does not listen"
            time.sleep(0.02)
        else:
            return
