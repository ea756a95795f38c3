"""A pgbouncer in front of the test run's PostgreSQL, in transaction mode and with its own defaults otherwise."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.postgres import PostgresServer

needs_pgbouncer = pytest.mark.skipif(
    shutil.which("pgbouncer") is None, reason="pgbouncer is not installed (Debian package pgbouncer)"
)


@contextmanager
def pgbouncer(server: PostgresServer, server_connections: int) -> Iterator[int]:
    """The port of a pgbouncer with so many connections to ``server`` for all of its clients."""
    program = shutil.which("pgbouncer")
    assert program is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="vodkeep-pgbouncer-") as text:
        folder = Path(text)
        folder.chmod(0o755)
        (folder / "users").write_text(f'"{server.url("").username}" "{server.password}"\n')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {folder}/users\n"
            f"pool_mode = transaction\ndefault_pool_size = {server_connections}\n"
        )
        account = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}
        process = subprocess.Popen(
            [program, str(folder / "pgbouncer.ini")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **account,  # type: ignore[call-overload]
        )
        try:
            _wait_for_port(port)
            yield port
        finally:
            process.terminate()
            process.wait(10)


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
