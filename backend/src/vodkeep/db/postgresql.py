"""What is particular to PostgreSQL: how to connect, how long to wait, and what its errors mean.

Everything here works behind pgbouncer in transaction mode, where two transactions of one client may meet two
different servers: no prepared statements, no session settings, limits are set anew in every transaction.
"""

from __future__ import annotations

import re
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import URL, Connection

from vodkeep.db.unavailable import Reason

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a transaction may take."""

    statement_s: float = 30.0  # one statement, enforced by the server
    lock_s: float = 10.0  # waiting for one lock, enforced by the server
    idle_s: float = 60.0  # doing nothing inside a transaction: no network call belongs in one
    grace_s: float = 5.0  # how much later than the server we give up ourselves
    deadline: float | None = None  # time.monotonic() after which nothing is waited for any more

    def left_s(self) -> float:
        """Seconds one answer may take from now; more than the server's own limit, whose words say more than ours."""
        allowed = self.statement_s + self.grace_s
        return allowed if self.deadline is None else min(allowed, self.deadline - time.monotonic())


_ORDINARY = Patience()

# Nothing is lost by it: what arrives ends the wait at once.
_LISTEN_INTERVAL_S = 5.0

patience: ContextVar[Patience] = ContextVar("database_patience", default=_ORDINARY)
"""The patience of the transaction at hand; set by ``Database.unit_of_work``."""


class PatientConnection(psycopg.Connection[Any]):
    """A connection whose every wait ends.

    A server that is stopped, swapped out or behind a silent firewall enforces no ``statement_timeout``, and its kernel
    goes on acknowledging packets, so that neither keepalives nor ``tcp_user_timeout`` notice. Only the client can.
    """

    def wait(self, gen: PQGen[_T], interval: float = 0.1, timeout: float | None = None) -> _T:
        """Wait as the parent does, no longer than the current ``patience``; the connection is closed after that."""
        left = patience.get().left_s()
        limit = left if timeout is None else min(left, timeout)
        until = time.monotonic() + limit
        try:
            return super().wait(gen, interval, max(limit, 0.001))
        except psycopg.OperationalError as error:
            if timeout is not None or time.monotonic() < until:
                raise
            # The answer may still come one day; this connection must not be used when it does.
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {max(limit, 0):.0f} s") from error


def connect(*args: Any, **parameters: Any) -> PatientConnection:
    """Connect within the current ``patience``; at most ``connect_timeout`` (s) per address.

    Raises ``psycopg.OperationalError`` without trying when the deadline has passed.
    """
    deadline = patience.get().deadline
    if deadline is not None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise psycopg.OperationalError("no answer in time")
        # libpq and psycopg know whole seconds only, and no less than two.
        parameters["connect_timeout"] = max(2, min(int(left), int(parameters["connect_timeout"])))
    return PatientConnection.connect(*args, **parameters)


class ListeningConnection(psycopg.AsyncConnection[Any]):
    """A connection that waits for what the server says, for hours, without getting up ten times a second to look."""

    async def wait(
        self,
        gen: PQGen[_T],
        interval: float = _LISTEN_INTERVAL_S,
        timeout: float | None = None,  # noqa: ASYNC109 - the parent's
    ) -> _T:
        """Wait as the parent does, whose ``interval`` (s) is meant for calls that block."""
        return await super().wait(gen, _LISTEN_INTERVAL_S, timeout)


async def connect_to_listen(url: URL) -> ListeningConnection:
    """A connection outside of every pool, in autocommit, for ``LISTEN``; raises ``psycopg.OperationalError``."""
    _, parameters = url.get_dialect()().create_connect_args(url)
    return await ListeningConnection.connect(**{**parameters, **connect_arguments(url)}, autocommit=True)


def connect_arguments(url: URL) -> dict[str, Any]:
    """Connection parameters for psycopg; what the DSN says itself wins."""
    ours: dict[str, Any] = {
        "prepare_threshold": None,  # pgbouncer in transaction mode hands each transaction to another server
        "connect_timeout": 5,  # s
        "keepalives": 1,
        "keepalives_idle": 30,  # s
        "keepalives_interval": 10,  # s
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,  # ms
        "application_name": "vodkeep",
        "client_encoding": "utf8",  # else text from a SQL_ASCII database arrives as bytes
    }
    return {name: url.query.get(name, value) for name, value in ours.items()}


def begin(connection: Connection, *, write: bool) -> None:
    """Give the transaction that starts its limits; they end with it (``SET LOCAL``)."""
    current = patience.get()
    settings = {
        "statement_timeout": f"{round(current.statement_s * 1000)}",
        "lock_timeout": f"{round(current.lock_s * 1000)}",
        "idle_in_transaction_session_timeout": f"{round(current.idle_s * 1000)}",
    }
    if not write:
        settings["transaction_read_only"] = "on"
    calls = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())
    connection.exec_driver_sql(f"SELECT {calls}")


# Errors of a running statement are told apart by SQLSTATE
# (https://www.postgresql.org/docs/current/errcodes-appendix.html).
_READ_ONLY = "25006"
_BY_SQLSTATE = {
    _READ_ONLY: Reason("it is a read-only replica", remedy="Point DB_DSN at the primary server."),
    "40001": Reason("two transactions got into each other's way (serialization failure)"),
    "40P01": Reason("two transactions waited for each other (deadlock)"),
    "53100": Reason("its disk is full", "database_full", "Free space where PostgreSQL keeps its data."),
    "53300": Reason("it has no connection left", remedy="Raise max_connections or close other clients."),
    "55P03": Reason("a lock was not free in time (lock timeout)"),
    "57014": Reason("a statement took too long and was canceled (statement timeout)"),
    "57P01": Reason("it is shutting down or an administrator closed the connection"),
    "57P02": Reason("it crashed and is recovering"),
    "57P03": Reason("it is starting up or shutting down"),
}

# While connecting, libpq leaves only text. Where the server's messages are translated (lc_messages), the text itself is
# shown.
_BY_TEXT: tuple[tuple[re.Pattern[str], str, str, str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), sentence, code, remedy)
    for pattern, sentence, code, remedy in (
        (
            r'password authentication failed for user "([^"]*)"',
            'the password for user "{0}" is wrong',
            "database_credentials",
            "Correct user and password in DB_DSN.",
        ),
        (
            r"SASL authentication failed",  # pgbouncer's words
            "user or password is wrong",
            "database_credentials",
            "Correct user and password in DB_DSN.",
        ),
        (
            r"server_login_retry|server login (?:has been failing|failed)|query_wait_timeout",
            "pgbouncer does not reach the server behind it",
            "database",
            "",
        ),
        (
            r"no password supplied",
            "it asks for a password and DB_DSN has none",
            "database_credentials",
            "Write DB_DSN as postgresql://user:password@host/name.",
        ),
        (
            r'role "([^"]*)" (?:does not exist|is not permitted to log in)',
            'it knows no user "{0}" that may log in',
            "database_credentials",
            "Create the user or correct DB_DSN.",
        ),
        (
            r'database "([^"]*)" does not exist',
            'there is no database "{0}" on it',
            "database_missing",
            "Create it (CREATE DATABASE name ENCODING 'UTF8') or correct DB_DSN.",
        ),
        (
            r'permission denied for database "([^"]*)"',
            'the user may not connect to database "{0}"',
            "database_credentials",
            "GRANT CONNECT ON DATABASE to the user of DB_DSN.",
        ),
        (
            r"no pg_hba\.conf entry for (.*)",
            "it does not let us in from here (no pg_hba.conf entry for {0})",
            "database_credentials",
            "Add a line to pg_hba.conf on the server.",
        ),
        (r"connection refused", "nothing listens there (connection refused)", "database", ""),
        (
            r"failed to resolve host|could not translate host name|name or service not known",
            "the host name is unknown",
            "database",
            "Correct the host in DB_DSN.",
        ),
        (
            r"no such file or directory",
            "no server listens on that socket",
            "database",
            "",
        ),
        (r"timeout expired|connection timed out", "it does not answer (connect timeout)", "database", ""),
        (r"no route to host|network is unreachable", "there is no route to it", "database", ""),
        (r"starting up|not yet accepting", "it is starting up", "database", ""),
        (r"shutting down", "it is shutting down", "database", ""),
        (r"in recovery mode|recovery state", "it is recovering from a crash", "database", ""),
        (
            r"too many clients|remaining connection slots|too many connections|no more connections",
            "it has no connection left",
            "database",
            "Raise max_connections or close other clients.",
        ),
        (
            r"server does not support SSL",
            "it does not speak TLS and DB_DSN demands it",
            "database",
            "Change sslmode in DB_DSN.",
        ),
        (
            r"certificate verify failed|SSL error",
            "its TLS certificate is not accepted",
            "database",
            "Check sslmode and sslrootcert in DB_DSN.",
        ),
        (
            r"consuming input failed|server closed the connection|connection (?:is|was) (?:lost|closed)"
            r"|no connection to the server",
            "the connection broke",
            "database",
            "",
        ),
    )
)


def reason(error: psycopg.Error, *, write: bool, secret: str | None) -> Reason | None:
    """Why ``error`` means that the database is unavailable; ``None`` when it means something else.

    ``write`` tells whether the unit may write: in one that only reads, an attempt to write is a bug of ours.
    ``secret`` (the password) is masked, should the driver ever repeat it.
    """
    sqlstate = error.sqlstate
    if sqlstate == _READ_ONLY and not write:
        return None
    if sqlstate in _BY_SQLSTATE:
        return _BY_SQLSTATE[sqlstate]
    if not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return None
    text = str(error)
    if secret:
        text = text.replace(secret, "***")
    for pattern, sentence, code, remedy in _BY_TEXT:
        if found := pattern.search(text):
            return Reason(sentence.format(*(group.strip() for group in found.groups())), code, remedy)
    first_line = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return Reason(first_line[:200])
