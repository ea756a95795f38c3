"""The tests' own PostgreSQL: from the system or from the wheel, and gone with the run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import postgres
from support.postgres import PostgresServer, find_binaries, remove_leftovers
from vodkeep.db import migrate
from vodkeep.db.engine import Database

pytestmark = pytest.mark.postgres


def test_the_wheel_is_enough_where_no_server_is_installed() -> None:
    server = PostgresServer(find_binaries("wheel"))
    try:
        server.start()
        with server.connect() as connection:
            connection.execute("CREATE DATABASE kept TEMPLATE template0")
        database = Database(server.url("kept"))
        migrate.upgrade(database)
        server.restart()
        assert migrate.current(database) == migrate.head()
        database.dispose()
    finally:
        server.close()
    assert not server.folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the server to another account")
def test_binaries_in_a_closed_folder_are_copied(tmp_path: Path) -> None:
    """A clone in root's home cannot be read by the account that the server runs as."""
    closed = tmp_path / "closed"
    install = find_binaries("wheel").parent
    package = install.parent
    shutil.copytree(install, closed / package.name / install.name, symlinks=True)
    if (libraries := package.with_name(f"{package.name}.libs")).exists():
        shutil.copytree(libraries, closed / libraries.name)
    closed.chmod(0o700)

    server = PostgresServer(closed / package.name / install.name / "bin")
    try:
        server.start()
        server.connect().close()
    finally:
        server.close()


START_A_SERVER = """
from support.postgres import PostgresServer, find_binaries

server = PostgresServer(find_binaries())
server.start()
print(server.pid, server.folder, flush=True)
input()
"""


def test_a_killed_test_run_leaves_nothing_running_and_the_next_one_tidies_up() -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", START_A_SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(Path(postgres.__file__).parents[1]), "PATH": os.environ["PATH"]},
    )
    assert run.stdout is not None
    pid, folder = run.stdout.readline().split()
    remove_leftovers()
    assert Path(folder).exists(), "a living run's server is nobody's leftover"

    run.send_signal(signal.SIGKILL)
    run.communicate()
    give_up = time.monotonic() + 20
    while _runs(pid):
        assert time.monotonic() < give_up, "the server outlived the run that started it"
        time.sleep(0.02)

    remove_leftovers()
    assert not Path(folder).exists()


def _runs(pid: str) -> bool:
    """Whether the process exists and is no zombie that nobody collects."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
