"""What is particular to SQLite: the file, its pragmas, its transactions and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection

from vodkeep.db.unavailable import Reason

BUSY_TIMEOUT_S = 10.0
"""How long a writer waits for another process that writes (a command line tool beside the service)."""

_PRAGMAS = (
    "PRAGMA foreign_keys=ON",
    # With NORMAL a committed transaction can be gone after a power cut (never after kill -9). A decision to delete or
    # an upload session that was stored "before" must not be undone after the fact, so every commit is on the disk.
    "PRAGMA synchronous=FULL",
    # After a burst the write-ahead log shrinks back to this many bytes.
    "PRAGMA journal_size_limit=67108864",
)


def ensure_file(path: Path) -> None:
    """Create the database file and its folder, closed to other users; an existing file keeps its mode.

    SQLite gives its ``-wal`` and ``-shm`` files the mode of the database.

    An existing file is never opened here: closing it would drop the locks that this process holds on it
    (https://www.sqlite.org/howtocorrupt.html, section 2.2). The next program that closes the database would then take
    itself for its last user and delete the log we write to. For that reason, too, the caller lets no other thread
    connect meanwhile.
    """
    if path.exists():
        return
    # Looked at first, because mkdir calls a file in the folder's place "File exists".
    if not path.parent.exists():
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    # Another process may have been faster.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))


def prepare(connection: sqlite3.Connection) -> None:
    """Set up a new connection: our own BEGIN, write-ahead log, full durability, foreign keys."""
    # The standard module would begin transactions behind our back, and only before some statements; with None it
    # leaves BEGIN to us. commit() and rollback() still work.
    connection.isolation_level = None
    _use_write_ahead_log(connection)
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL once; two processes that meet a new file both try, and SQLite lets neither wait."""
    give_up = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            if mode != "wal":
                (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError as error:
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
            continue
        if mode != "wal":
            raise sqlite3.OperationalError("write-ahead logging does not work on this file system")
        return


def begin(connection: Connection, *, write: bool) -> None:
    """Begin as a writer at once, or as a reader that cannot write.

    A transaction that reads first and writes later fails when somebody else wrote in between, however long it waits;
    one that begins IMMEDIATE waits for its turn instead.
    """
    connection.exec_driver_sql(f"PRAGMA query_only={'OFF' if write else 'ON'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _primary_code(error: sqlite3.Error) -> int:
    """The primary result code; the extended ones carry details in the upper bits (https://www.sqlite.org/rescode.html)."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def reason(error: sqlite3.Error, *, write: bool) -> Reason | None:
    """Why ``error`` means that the database is unavailable; ``None`` when it means something else."""
    match _primary_code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return Reason("another process holds it locked", remedy="End the other program that uses the file.")
        case sqlite3.SQLITE_FULL:
            return Reason("the disk is full", "database_full", "Free space on the disk of DATA_DIR.")
        case sqlite3.SQLITE_IOERR:
            return Reason("the disk reports an error", "database_io", "Check the disk and the kernel log.")
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return Reason("the file cannot be opened", remedy="Check that the service may read and write DATA_DIR.")
        case sqlite3.SQLITE_READONLY if write:
            return Reason("the file is read-only", remedy="Check that the service may write DATA_DIR.")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return Reason(
                "the file is damaged or not a database",
                "database_damaged",
                "Put it aside and restore a backup.",
            )
        case _ if "write-ahead logging" in str(error):
            return Reason(str(error), remedy="Put DATA_DIR on a local file system, or use PostgreSQL (DB_DSN).")
        case _:
            return None
