"""The SQLite file: closed to others, durable, usable by several processes, and honest about what is wrong with it."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import structlog
from sqlalchemy import URL, insert, select, update
from structlog.testing import LogCapture

import vodkeep
from support.clock import FakeClock
from vodkeep.db import migrate
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.kv import KvStore
from vodkeep.db.tables import vods
from vodkeep.db.wait import prepare_database
from vodkeep.errors import DatabaseUnavailable

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def sqlite_database(path: Path) -> Database:
    return Database(URL.create("sqlite", database=str(path)))


def test_the_file_and_its_companions_are_closed_to_other_users(tmp_path: Path) -> None:
    path = tmp_path / "data" / "vodkeep.db"
    before = os.umask(0)
    try:
        database = sqlite_database(path)
        with database.unit_of_work() as unit:
            unit.connection.exec_driver_sql("CREATE TABLE t (x)")
            unit.commit()
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    finally:
        os.umask(before)
    database.dispose()

    assert modes == {"vodkeep.db": 0o640, "vodkeep.db-wal": 0o640, "vodkeep.db-shm": 0o640}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750


def test_another_program_that_comes_and_goes_does_not_take_the_log_away(tmp_path: Path) -> None:
    """An operator looks into the database with a shell of their own while the service has several connections."""
    path = tmp_path / "vodkeep.db"
    database = sqlite_database(path)
    with database.unit_of_work() as unit:
        unit.connection.exec_driver_sql("CREATE TABLE t (x)")
        unit.commit()
    with database.unit_of_work(write=False) as one, database.unit_of_work(write=False) as two:
        for unit in (one, two):
            unit.connection.exec_driver_sql("SELECT * FROM t").all()
    look = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM t').fetchone()[0])"

    def counted_by_another_program() -> str:
        return subprocess.run(
            [sys.executable, "-c", look, str(path)], check=True, capture_output=True, text=True
        ).stdout

    assert counted_by_another_program() == "0\n"
    with database.unit_of_work() as unit:
        unit.connection.exec_driver_sql("INSERT INTO t VALUES (1)")
        unit.commit()
    assert path.with_name("vodkeep.db-wal").exists()
    assert counted_by_another_program() == "1\n"
    database.dispose()


def test_every_connection_is_durable_and_checks_references(tmp_path: Path) -> None:
    database = sqlite_database(tmp_path / "vodkeep.db")
    with database.unit_of_work() as one, database.unit_of_work(write=False) as two:
        for unit in (one, two):
            pragmas = {
                name: unit.connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
            assert pragmas == {
                "journal_mode": "wal",
                "synchronous": 2,  # FULL
                "foreign_keys": 1,
                "busy_timeout": 10_000,
            }
    database.dispose()


def test_a_new_file_is_opened_by_many_at_once(tmp_path: Path) -> None:
    """SQLite does not wait when two connections switch a file to write-ahead logging."""
    for number in range(20):
        start = threading.Barrier(6)

        def open_it(path: Path = tmp_path / f"{number}.db", start: threading.Barrier = start) -> None:
            database = sqlite_database(path)
            start.wait()
            with database.unit_of_work() as unit:
                unit.commit()
            database.dispose()

        with ThreadPoolExecutor(6) as pool:
            for opened in [pool.submit(open_it) for _ in range(6)]:
                opened.result()


def test_a_command_line_tool_beside_the_service_loses_no_update(tmp_path: Path) -> None:
    """Two ``Database`` objects on one file, as two processes have: each reads a number and writes it back plus one."""
    path = tmp_path / "vodkeep.db"
    service, tool = sqlite_database(path), sqlite_database(path)
    migrate.upgrade(service)
    with service.unit_of_work() as unit:
        unit.connection.execute(insert(vods).values(twitch_vod_id="1", channel="c"))
        unit.commit()
    start = threading.Barrier(2)

    def add_40(database: Database) -> None:
        start.wait()
        for _ in range(40):
            with database.unit_of_work() as unit:
                seen = unit.connection.execute(select(vods.c.generation)).scalar_one()
                unit.connection.execute(update(vods).values(generation=seen + 1))
                unit.commit()

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(add_40, service), pool.submit(add_40, tool)]:
            done.result()

    with service.unit_of_work(write=False) as unit:
        assert unit.connection.execute(select(vods.c.generation)).scalar_one() == 80
    service.dispose()
    tool.dispose()


@pytest.mark.anyio
async def test_waiting_writers_leave_threads_for_readers_and_ping(tmp_path: Path) -> None:
    """More writers than there are threads wait behind one; reading and health go on."""
    database = sqlite_database(tmp_path / "vodkeep.db")
    migrate.upgrade(database)
    writing, may_end = threading.Event(), threading.Event()

    def slow(unit: UnitOfWork) -> None:
        writing.set()
        may_end.wait(30)
        unit.commit()

    async with anyio.create_task_group() as group:
        group.start_soon(database.run, slow)
        await anyio.to_thread.run_sync(writing.wait)
        for _ in range(12):
            group.start_soon(database.run, lambda unit: unit.commit())
        await anyio.lowlevel.checkpoint()
        with anyio.fail_after(60):
            await database.run(lambda unit: KvStore(unit.connection).all(), write=False)
            await database.ping()
        may_end.set()
    database.dispose()


def test_a_file_held_by_another_program_is_unavailable_and_then_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vodkeep.db.sqlite.BUSY_TIMEOUT_S", 0.05)
    database = sqlite_database(tmp_path / "vodkeep.db")
    migrate.upgrade(database)
    other = sqlite3.connect(tmp_path / "vodkeep.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable, match="another process holds it locked"):
        database.unit_of_work().__enter__()

    other.execute("ROLLBACK")
    other.close()
    with database.unit_of_work() as unit:
        KvStore(unit.connection).set("a", "1", AT)
        unit.commit()
    database.dispose()


def test_a_full_disk_is_said_plainly(tmp_path: Path) -> None:
    database = sqlite_database(tmp_path / "vodkeep.db")
    migrate.upgrade(database)

    def grow() -> None:
        with database.unit_of_work() as unit:
            # What SQLite reports when it may not grow is what it reports when it cannot.
            unit.connection.exec_driver_sql("PRAGMA max_page_count=1")
            KvStore(unit.connection).set("a", "x" * 1_000_000, AT)

    with pytest.raises(DatabaseUnavailable, match="the disk is full") as full:
        grow()
    assert full.value.code == "database_full"
    database.dispose()


@pytest.mark.parametrize("contents", [b"this is a picture, honestly" * 300, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_damaged_file_is_said_plainly(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / "vodkeep.db").write_bytes(contents)
    database = sqlite_database(tmp_path / "vodkeep.db")
    with pytest.raises(DatabaseUnavailable, match="damaged or not a database") as damaged:
        migrate.upgrade(database)
    assert damaged.value.code == "database_damaged"
    database.dispose()


def test_a_file_that_cannot_be_created_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    database = sqlite_database(tmp_path / "data" / "vodkeep.db")
    with pytest.raises(DatabaseUnavailable, match="cannot be created"):
        database.unit_of_work().__enter__()


@pytest.mark.anyio
async def test_the_start_waits_for_a_folder_that_cannot_be_written(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    database = sqlite_database(tmp_path / "data" / "vodkeep.db")
    written = LogCapture()
    log = structlog.wrap_logger(None, processors=[written], wrapper_class=structlog.stdlib.BoundLogger)
    async with anyio.create_task_group() as group:
        group.start_soon(prepare_database, database, clock, log)
        await clock.until_sleeping()
        (tmp_path / "data").unlink()
        await clock.advance(30)

    assert migrate.current(database) == migrate.head()
    waiting, _back = written.entries
    assert waiting["event"] == "waiting for the database"
    assert "the file cannot be created (Not a directory)" in waiting["reason"]
    assert waiting["database"] == str(tmp_path / "data" / "vodkeep.db")
    database.dispose()


def test_a_writer_that_waits_for_itself_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writing unit inside a writing unit can never get its turn."""
    monkeypatch.setattr("vodkeep.db.sqlite.BUSY_TIMEOUT_S", 0.05)
    database = sqlite_database(tmp_path / "vodkeep.db")
    with (
        database.unit_of_work(),
        pytest.raises(DatabaseUnavailable, match="another part of the service is still writing"),
    ):
        database.unit_of_work().__enter__()
    with database.unit_of_work() as unit:
        unit.commit()
    database.dispose()


@pytest.mark.anyio
async def test_a_file_that_vanished_fails_the_ping(tmp_path: Path) -> None:
    """Open connections would go on writing into a file without a name."""
    database = sqlite_database(tmp_path / "vodkeep.db")
    migrate.upgrade(database)
    await database.ping()
    (tmp_path / "vodkeep.db").rename(tmp_path / "elsewhere.db")
    with pytest.raises(DatabaseUnavailable, match="does not exist"):
        await database.ping()
    database.dispose()


def test_a_database_in_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="in memory"):
        Database(URL.create("sqlite", database=":memory:"))


WRITE_PAIRS = """
import sys
from datetime import UTC, datetime
from sqlalchemy import URL
from vodkeep.db import migrate
from vodkeep.db.engine import Database
from vodkeep.db.kv import KvStore

database = Database(URL.create("sqlite", database=sys.argv[1]))
migrate.upgrade(database)
number = 0
while True:
    number += 1
    with database.unit_of_work() as unit:
        store = KvStore(unit.connection)
        store.set("left", str(number), datetime.now(UTC))
        store.set("right", str(number), datetime.now(UTC))
        unit.commit()
    print(number, flush=True)
"""


def test_kill_9_loses_no_acknowledged_commit_and_leaves_no_half_one(tmp_path: Path) -> None:
    path = tmp_path / "vodkeep.db"
    for kill_after in (1, 7, 23):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE_PAIRS, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(Path(vodkeep.__file__).parents[1])},
        )
        assert process.stdout is not None
        for _ in range(kill_after):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        acknowledged = [int(line) for line in process.communicate()[0].split()] or [kill_after]

        database = sqlite_database(path)
        with database.unit_of_work(write=False) as unit:
            stored = KvStore(unit.connection).all()
            assert unit.connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        database.dispose()
        assert stored["left"] == stored["right"]
        assert int(stored["left"]) in (acknowledged[-1], acknowledged[-1] + 1)
