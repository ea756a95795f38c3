"""Copies of a database: SQLite through its online backup, PostgreSQL through ``pg_dump``, of one moment each.

Writers go on meanwhile. A copy holds what the database holds, encrypted tokens included, and is for its owner only.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from vodkeep.child import ChildResult, run_child
from vodkeep.db.engine import Database
from vodkeep.disk import sync
from vodkeep.errors import PermanentError, RequestRefused

_MODE = 0o600
# A dump of a large chat is silent on both pipes for as long as it takes.
_LONGEST_S = 24 * 3600.0
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")

# What belongs to the processes that ran: their rights, and the jobs that are made again from the rows of `vods`.
_OF_PROCESSES = ("leases", "procrastinate_jobs", "procrastinate_events", "procrastinate_workers")

_PLACED: LiteralString = "SELECT twitch_vod_id, downloaded_path FROM vods WHERE downloaded_path IS NOT NULL ORDER BY 1"

BESIDE = "public_before_"
"""How the schemas begin that a forced restore kept."""


def copy_sqlite(source: Path, target: Path) -> None:
    """Write a copy of the file as it is at one moment, one file that needs no other, durable and checked. Blocking.

    Raises ``sqlite3.Error``.
    """
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))
    with closing(sqlite3.connect(source)) as opened, closing(sqlite3.connect(target)) as copy:
        opened.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
        (verdict,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise PermanentError(
                f"The copy of {source} is damaged: {verdict}.",
                code="database_damaged",
                remedy="Check the disk; the database itself may be damaged as well (PRAGMA integrity_check).",
            )
    sync(target)


def fold_sqlite_log(path: Path) -> None:
    """Make the file one that needs no other; raises `RequestRefused` while somebody has it open. Blocking."""
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(path)) as opened:
            opened.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.OperationalError as error:
        raise RequestRefused(
            f"The database {path} is in use ({error}).", code="in_use", remedy="End the program that has it open."
        ) from error


def set_sqlite_aside(path: Path, suffix: str) -> Path | None:
    """Rename a file that `fold_sqlite_log` has seen; where it is now, None when there was none. Blocking."""
    if not path.exists():
        return None
    aside = path.with_name(f"{path.name}{suffix}")
    path.rename(aside)
    sync(path.parent)
    return aside


def count_sqlite(path: Path, tables: Sequence[str]) -> dict[str, int]:
    """How many rows each of the tables has, of those that there are."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as opened:
        there = {name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return {
            name: opened.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]  # noqa: S608 - names of ours
            for name in tables
            if name in there
        }


def placed_in_sqlite(path: Path) -> list[tuple[str, str]]:
    """Id and path of every item with a folder."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as opened:
        return [(str(row[0]), str(row[1])) for row in opened.execute(_PLACED)]


class PostgresSnapshot:
    """One moment of a PostgreSQL database, for as long as the transaction lasts that shows it."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]], name: str) -> None:
        self._connection = connection
        self.name = name

    def count(self, tables: Sequence[str]) -> dict[str, int]:
        """How many rows each of the tables has, of those that there are."""
        return count_postgres(self._connection, tables)

    def placed(self) -> list[tuple[str, str]]:
        """Id and path of every item with a folder."""
        return [(str(row[0]), str(row[1])) for row in self._connection.execute(_PLACED)]

    @property
    def server_version(self) -> int:
        """The major version of the server."""
        return self._connection.info.server_version // 10_000


@contextmanager
def postgres_snapshot(database: Database) -> Iterator[PostgresSnapshot]:
    """Hold a moment of the database; blocking."""
    with psycopg.connect(address_of(database), connect_timeout=10, prepare_threshold=None) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        row = connection.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None
        yield PostgresSnapshot(connection, str(row[0]))


def count_postgres(connection: psycopg.Connection[tuple[Any, ...]], tables: Sequence[str]) -> dict[str, int]:
    """How many rows each of the tables has, of those that there are."""
    counts = {}
    for name in tables:
        there = connection.execute("SELECT to_regclass(%s)", [f"public.{name}"]).fetchone()
        if there is not None and there[0] is not None:
            counted = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("public", name)))
            row = counted.fetchone()
            counts[name] = int(row[0]) if row is not None else 0
    return counts


def set_postgres_aside(database: Database, name: str, *, force: bool) -> bool:
    """See to it that the schema ``public`` is empty; a full one is kept under ``name`` with ``force``.

    Tells whether there was anything. Raises `RequestRefused` without ``force``. What was installed as an extension goes
    on to the new schema. Blocking.
    """
    with psycopg.connect(address_of(database), connect_timeout=10) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')"
        ).fetchone()
        if row is None or row[0] == 0:
            return False
        if not force:
            raise RequestRefused(
                f"The database {database.address} is not empty.",
                code="not_empty",
                remedy=f"Name an empty one in DB_DSN, or give --force: its tables are then kept in the schema {name}.",
            )
        extensions = connection.execute(
            "SELECT extname FROM pg_extension WHERE extnamespace = 'public'::regnamespace AND extrelocatable"
        ).fetchall()
        connection.execute(sql.SQL("ALTER SCHEMA public RENAME TO {}").format(sql.Identifier(name)))
        connection.execute("CREATE SCHEMA public")
        for (extension,) in extensions:
            connection.execute(sql.SQL("ALTER EXTENSION {} SET SCHEMA public").format(sql.Identifier(str(extension))))
    return True


async def dump_postgres(database: Database, program: str, snapshot: PostgresSnapshot, target: Path) -> None:
    """Write a dump in ``pg_dump``'s own form, and read it back to its end."""
    await _require_version(program, snapshot.server_version)
    left_out = [f"--exclude-table-data=public.{name}" for name in _OF_PROCESSES]
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))
    dumped = await run_child(
        [
            *(program, "--format=custom", f"--snapshot={snapshot.name}", f"--file={target}", "--no-password"),
            *("--no-owner", "--no-privileges", f"--exclude-schema={BESIDE}*", *left_out),
            f"--dbname={_address_without_password(database)}",
        ],
        deadline_s=_LONGEST_S,
        env=_environment(database),
    )
    _require_success(dumped, program)
    restorer = find_pg_restore(program)
    _require_success(await run_child([restorer, f"--file={os.devnull}", str(target)], deadline_s=_LONGEST_S), restorer)
    sync(target)


async def load_postgres(database: Database, program: str, source: Path) -> None:
    """Bring a dump into a database whose schema ``public`` is empty; all of it or nothing."""
    restorer = find_pg_restore(program)
    restored = await run_child(
        [
            *(restorer, "--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges", "--no-password"),
            *(f"--dbname={_address_without_password(database)}", str(source)),
        ],
        deadline_s=_LONGEST_S,
        env=_environment(database),
    )
    _require_success(restored, restorer)


def find_pg_dump(wanted: str | None) -> str:
    """The program, PG_DUMP_PATH or that on the search path; raises `PermanentError`."""
    found = wanted or shutil.which("pg_dump")
    if found is None:
        raise PermanentError(
            "pg_dump is not installed, and a PostgreSQL database is copied with it.",
            code="tool_missing",
            remedy="Install PostgreSQL's client programs, of the server's version or newer, or set PG_DUMP_PATH.",
        )
    return found


def find_pg_restore(pg_dump: str) -> str:
    """The program beside ``pg_dump``; raises `PermanentError`."""
    beside = Path(pg_dump).with_name("pg_restore")
    found = str(beside) if beside.exists() else shutil.which("pg_restore")
    if found is None:
        raise PermanentError(
            f"There is no pg_restore beside {pg_dump}.",
            code="tool_missing",
            remedy="Install all of PostgreSQL's client programs.",
        )
    return found


def address_of(database: Database) -> str:
    """The address as libpq reads it, password included: for nobody's eyes."""
    return database.url.set(drivername="postgresql").render_as_string(hide_password=False)


def _address_without_password(database: Database) -> str:
    return database.url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)


def _environment(database: Database) -> Mapping[str, str]:
    """The password in the environment: every process of the machine may read arguments."""
    password = {"PGPASSWORD": str(database.url.password)} if database.url.password is not None else {}
    return {**os.environ, **password}


async def _require_version(program: str, server: int) -> None:
    """``pg_dump`` reads servers of its own major version and older ones (postgresql.org, "pg_dump", Notes)."""
    told = _VERSION.search((await run_child([program, "--version"], deadline_s=30.0)).stdout.decode("utf-8", "replace"))
    if told is not None and int(told[1]) < server:
        raise PermanentError(
            f"{program} is of PostgreSQL {told[1]}, and the server of {server}: it has to be at least as new.",
            code="tool_too_old",
            remedy=f"Install the client programs of PostgreSQL {server}, and name their pg_dump in PG_DUMP_PATH.",
        )


def _require_success(result: ChildResult, program: str) -> None:
    if result.returncode != 0:
        reason = " ".join(result.stderr.split())[-400:] or f"it ended with {result.returncode}"
        raise PermanentError(f"{Path(program).name} failed: {reason}", code="tool_failed")
