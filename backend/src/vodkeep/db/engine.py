"""The connection to the database: one ``Database`` per process, one ``UnitOfWork`` per transaction.

The core is blocking. ``Database.run`` takes a function that works on a unit of work into a worker thread, so that the
event loop never waits for a disk or a server; the threads are the database's own and few. Every wait is bounded:
for a connection, a lock, a statement, an answer. Errors that mean "the database cannot be used now" leave as
``DatabaseUnavailable``; violated constraints leave as SQLAlchemy raises them, for the store that knows their meaning.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import psycopg
import sqlalchemy
from sqlalchemy import URL, Connection, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from vodkeep.db import postgresql, sqlite
from vodkeep.db.postgresql import Patience
from vodkeep.db.unavailable import Reason
from vodkeep.errors import DatabaseUnavailable

T = TypeVar("T")

PING_LIMIT_S = 2.0
"""A database that does not answer within this time counts as away."""

_CHECKOUT_LIMIT_S = 5.0
_WRITE = "vodkeep_write"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is; holds no secret."""

    host: str | None  # None: a file or a local socket
    port: int | None
    name: str  # database name, or the path of the SQLite file

    def __str__(self) -> str:
        if self.host is None:
            return self.name
        return f"{self.name} at {self.host}:{self.port}" if self.port else f"{self.name} at {self.host}"


class UnitOfWork:
    """One transaction; nothing lasts without ``commit()``.

    After ``commit()`` the next statement begins another transaction of the same kind, which needs its own commit.
    """

    __slots__ = ("connection",)

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def commit(self) -> None:
        """Make everything since the last commit last."""
        self.connection.commit()


class Database:
    """SQLite or PostgreSQL behind one face; thread-safe. Nothing is opened before the first use.

    ``pool_size`` is the number of threads and connections for work; two more connections are for ``ping`` and for the
    one writer of SQLite, so that a busy service is not reported as dead. ``pool_timeout_s`` bounds the wait for one.
    """

    def __init__(self, url: URL, *, pool_size: int = 5, pool_timeout_s: float = 10.0) -> None:
        self.is_sqlite = url.get_backend_name() == "sqlite"
        if self.is_sqlite and url.database in (None, "", ":memory:"):
            raise ValueError("a database in memory keeps nothing; name a file")
        self.url = url.set(drivername="sqlite" if self.is_sqlite else "postgresql+psycopg")
        self.address = _address(self.url)
        self._pool_size = pool_size
        self._pool_timeout_s = pool_timeout_s
        # One writer at a time in this process, first come first served; SQLite's own waiting is a lottery.
        self._write_turn = threading.Lock()
        # While the file is being created nobody of this process may hold it open.
        self._creation = threading.Lock()
        self._limiters: dict[str, anyio.lowlevel.RunVar[anyio.CapacityLimiter]] = {
            kind: anyio.lowlevel.RunVar(f"database_{kind}") for kind in ("work", "write", "ping")
        }
        self._engine = sqlalchemy.create_engine(
            self.url,
            connect_args=self._connect_arguments(),
            pool_size=pool_size,
            max_overflow=2,
            pool_timeout=pool_timeout_s,
            pool_pre_ping=not self.is_sqlite,
            pool_use_lifo=True,
            # Errors end up in logs, and parameters hold tokens.
            hide_parameters=True,
            **({} if self.is_sqlite else {"use_native_hstore": False}),
        )
        event.listen(self._engine, "do_connect", self._on_do_connect)
        event.listen(self._engine, "begin", self._on_begin)
        if self.is_sqlite:
            event.listen(self._engine, "connect", _on_sqlite_connect)

    @property
    def path(self) -> Path:
        """The SQLite file; raises ``ValueError`` on PostgreSQL."""
        if not self.is_sqlite or self.url.database is None:
            raise ValueError("only SQLite keeps its database in a file")
        return Path(self.url.database)

    @contextmanager
    def unit_of_work(self, *, write: bool = True, patience: Patience | None = None) -> Iterator[UnitOfWork]:
        """A transaction in the calling thread, which it blocks; leaving without ``commit()`` rolls back.

        ``write=False`` reads one consistent state (SQLite) and refuses to write (both databases). No network
        call belongs inside, and no second writing unit. Raises ``DatabaseUnavailable``.
        """
        wanted = patience or postgresql.patience.get()
        # A pooled connection is asked whether it still works; that answer is not worth a whole statement's time.
        token = postgresql.patience.set(replace(wanted, statement_s=0.0, grace_s=_CHECKOUT_LIMIT_S))
        try:
            with self._turn(write), self._engine.connect() as connection:
                postgresql.patience.set(wanted)
                connection.execution_options(**{_WRITE: write})
                connection.begin()
                yield UnitOfWork(connection)
        except (DBAPIError, PoolTimeoutError, sqlite3.Error, psycopg.Error, OSError) as error:
            unavailable = self._unavailable(error, write=write)
            if unavailable is None:
                raise
            raise unavailable from error
        finally:
            postgresql.patience.reset(token)

    async def run(self, work: Callable[[UnitOfWork], T], *, write: bool = True, patience: Patience | None = None) -> T:
        """Call ``work`` with a unit of work in a worker thread; ``work`` commits itself.

        A cancellation is delivered after ``work`` has ended, whose commit then stands. Raises
        ``DatabaseUnavailable`` and whatever ``work`` raises.
        """

        def in_thread() -> T:
            with self.unit_of_work(write=write, patience=patience) as unit:
                return work(unit)

        if write and self.is_sqlite:
            # Writers wait here for their turn, not in the threads that readers need.
            return await anyio.to_thread.run_sync(in_thread, limiter=self._limiter("write", 1))
        return await anyio.to_thread.run_sync(in_thread, limiter=self._limiter("work", self._pool_size))

    async def ping(self) -> None:
        """Raise ``DatabaseUnavailable`` unless the database answers within about ``PING_LIMIT_S``."""
        limiter = self._limiter("ping", 1)
        try:
            with anyio.fail_after(PING_LIMIT_S + 0.5):
                await anyio.to_thread.run_sync(self._ping, abandon_on_cancel=True, limiter=limiter)
        except TimeoutError as error:
            raise self._as_unavailable(Reason(f"no answer within {PING_LIMIT_S:.0f} s")) from error

    def dispose(self) -> None:
        """Close the connections that are not in use; the database can be used again afterwards."""
        self._engine.dispose()

    def purge(self) -> bool:
        """Write the SQLite file anew, without a trace of what was deleted; ``False`` when its log may still hold some.

        That is so while somebody goes on reading what was before. Blocking, and for as long as it takes to copy the
        file, for which there must be room twice; writers wait meanwhile. Raises ``DatabaseUnavailable``.
        """
        assert self.is_sqlite
        try:
            with self._turn(write=True), closing(self._engine.raw_connection()) as pooled:
                connection = pooled.driver_connection
                assert connection is not None
                connection.execute("PRAGMA query_only=OFF")
                connection.execute("VACUUM")
                (is_busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            unavailable = self._unavailable(error, write=True)
            if unavailable is None:
                raise
            raise unavailable from error
        return not is_busy

    def _ping(self) -> None:
        deadline = time.monotonic() + PING_LIMIT_S
        if self.is_sqlite and not self.path.exists():
            # Open connections would go on writing into a file that nobody can find any more.
            raise self._as_unavailable(Reason("the file does not exist"))
        with self.unit_of_work(write=False, patience=replace(Patience(), deadline=deadline)) as unit:
            unit.connection.exec_driver_sql("PRAGMA schema_version" if self.is_sqlite else "SELECT 1")

    def _limiter(self, kind: str, tokens: int) -> anyio.CapacityLimiter:
        """The limiter of the running event loop; one made in another loop cannot be waited for."""
        variable = self._limiters[kind]
        limiter = variable.get(None)
        if limiter is None:
            limiter = anyio.CapacityLimiter(tokens)
            variable.set(limiter)
        return limiter

    @contextmanager
    def _turn(self, write: bool) -> Iterator[None]:
        if not (write and self.is_sqlite):
            yield
            return
        if not self._write_turn.acquire(timeout=sqlite.BUSY_TIMEOUT_S):
            raise self._as_unavailable(Reason("another part of the service is still writing"))
        try:
            yield
        finally:
            self._write_turn.release()

    def _connect_arguments(self) -> dict[str, Any]:
        if self.is_sqlite:
            return {"timeout": sqlite.BUSY_TIMEOUT_S}
        return postgresql.connect_arguments(self.url)

    def _on_do_connect(self, _dialect: Any, _record: Any, args: Any, parameters: Any) -> Any:
        if self.is_sqlite:
            with self._creation:
                sqlite.ensure_file(self.path)
            return None  # SQLAlchemy goes on with its own connect
        return postgresql.connect(*args, **parameters)

    def _on_begin(self, connection: Connection) -> None:
        write = connection.get_execution_options().get(_WRITE, True)
        if self.is_sqlite:
            sqlite.begin(connection, write=write)
        else:
            postgresql.begin(connection, write=write)

    def _unavailable(self, error: Exception, *, write: bool) -> DatabaseUnavailable | None:
        """What ``error`` says about the database; ``None`` when it is about something else."""
        original = error.orig if isinstance(error, DBAPIError) else error
        reason: Reason | None = None
        if isinstance(error, PoolTimeoutError):
            reason = Reason(f"no connection was free within {self._pool_timeout_s:g} s")
        elif isinstance(original, sqlite3.Error):
            reason = sqlite.reason(original, write=write)
        elif isinstance(original, psycopg.Error):
            reason = postgresql.reason(original, write=write, secret=self.url.password)
        elif isinstance(original, OSError) and self.is_sqlite and _names(original, self.path):
            reason = Reason(
                f"the file cannot be created ({original.strerror})",
                remedy="Check that the service may write DATA_DIR.",
            )
        if reason is None and isinstance(error, DBAPIError) and error.connection_invalidated:
            reason = Reason("the connection broke")
        return None if reason is None else self._as_unavailable(reason)

    def _as_unavailable(self, reason: Reason) -> DatabaseUnavailable:
        sentence = f"The database {self.address} is not available: {reason.sentence}."
        return DatabaseUnavailable(sentence, code=reason.code, remedy=reason.remedy)


def _on_sqlite_connect(connection: sqlite3.Connection, _record: Any) -> None:
    sqlite.prepare(connection)


def _names(error: OSError, path: Path) -> bool:
    """Whether ``error`` is about the database file or one of its folders, and not about the work inside a unit."""
    if error.filename is None:
        return False
    named = Path(error.filename)
    return named == path or named in path.parents


def _address(url: URL) -> Address:
    if url.get_backend_name() == "sqlite":
        return Address(None, None, str(url.database))
    host = url.host
    if host is None:
        asked = url.query.get("host")
        host = asked if isinstance(asked, str) else ",".join(asked) if asked else None
    return Address(host or "local socket", url.port or 5432, url.database or url.username or "")
