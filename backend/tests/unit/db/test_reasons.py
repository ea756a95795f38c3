"""What PostgreSQL's and SQLite's errors mean, on messages recorded from servers and libpq."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest
from sqlalchemy import make_url

from vodkeep.db import postgresql, sqlite
from vodkeep.db.engine import Database

_AT = 'connection failed: connection to server at "10.0.0.7", port 5432 failed: '


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            _AT + 'FATAL:  password authentication failed for user "keeper"',
            'the password for user "keeper" is wrong',
        ),
        (_AT + 'FATAL:  database "vodkeep" does not exist', 'there is no database "vodkeep" on it'),
        (_AT + 'FATAL:  role "keeper" does not exist', 'it knows no user "keeper" that may log in'),
        (_AT + "fe_sendauth: no password supplied", "it asks for a password and DB_DSN has none"),
        (
            _AT + 'FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "keeper", database "v", SSL off',
            'it does not let us in from here (no pg_hba.conf entry for host "10.0.0.9", user "keeper",'
            ' database "v", SSL off)',
        ),
        (
            _AT + "Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?",
            "nothing listens there (connection refused)",
        ),
        (
            "failed to resolve host 'db.invalid': [Errno -2] Name or service not known",
            "the host name is unknown",
        ),
        (
            'connection failed: connection to server on socket "/run/postgresql/.s.PGSQL.5432" failed: No such file'
            " or directory\n\tIs the server running locally and accepting connections on that socket?",
            "no server listens on that socket",
        ),
        ("connection timeout expired", "it does not answer (connect timeout)"),
        (_AT + "FATAL:  the database system is starting up", "it is starting up"),
        (_AT + "FATAL:  the database system is shutting down", "it is shutting down"),
        (_AT + "FATAL:  sorry, too many clients already", "it has no connection left"),
        (_AT + "FATAL:  SASL authentication failed", "user or password is wrong"),
        (
            "server login has been failing, try again later (server_login_retry)",
            "pgbouncer does not reach the server behind it",
        ),
        (
            _AT + "server does not support SSL, but SSL was required",
            "it does not speak TLS and DB_DSN demands it",
        ),
        (
            "consuming input failed: server closed the connection unexpectedly\n\tThis probably means",
            "the connection broke",
        ),
        (
            _AT + "FATAL:  Passwort-Authentifizierung für Benutzer fehlgeschlagen\nmore",
            _AT + "FATAL:  Passwort-Authentifizierung für Benutzer fehlgeschlagen",
        ),
        ("", "OperationalError"),
    ],
    ids=lambda value: value.removeprefix(_AT)[:40] if isinstance(value, str) else None,
)
def test_connection_failures_are_told_plainly(text: str, sentence: str) -> None:
    reason = postgresql.reason(psycopg.OperationalError(text), write=True, secret=None)
    assert reason is not None
    assert reason.sentence == sentence


def test_a_password_that_a_driver_repeats_is_masked() -> None:
    error = psycopg.OperationalError('invalid dsn: "host=x password=hunter2"')
    reason = postgresql.reason(error, write=True, secret="hunter2")
    assert reason is not None
    assert reason.sentence == 'invalid dsn: "host=x password=***"'


def test_a_long_message_is_cut() -> None:
    reason = postgresql.reason(psycopg.OperationalError("x" * 5000), write=True, secret=None)
    assert reason is not None
    assert len(reason.sentence) == 200


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.UniqueViolation("duplicate key"),
        psycopg.errors.UndefinedTable('relation "vodz" does not exist'),
        psycopg.errors.SyntaxError("syntax error"),
        psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_our_own_mistakes_are_no_outage(error: psycopg.Error) -> None:
    assert postgresql.reason(error, write=True, secret=None) is None


def test_a_replica_is_an_outage_for_a_writer_and_a_bug_for_a_reader() -> None:
    error = psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction")
    assert postgresql.reason(error, write=False, secret=None) is None
    reason = postgresql.reason(error, write=True, secret=None)
    assert reason is not None
    assert reason.sentence == "it is a read-only replica"


def test_a_mistake_in_sql_is_no_outage_of_sqlite() -> None:
    with sqlite3.connect(":memory:") as connection, pytest.raises(sqlite3.OperationalError) as error:
        connection.execute("SELECT * FROM vodz")
    connection.close()
    assert sqlite.reason(error.value, write=True) is None


@pytest.mark.parametrize(
    ("dsn", "address"),
    [
        ("postgresql://u:secret@db.example:6432/vodkeep", "vodkeep at db.example:6432"),
        ("postgresql://u:secret@db.example/vodkeep", "vodkeep at db.example:5432"),
        ("postgresql://u:secret@/vodkeep?host=/run/postgresql", "vodkeep at /run/postgresql:5432"),
        ("postgresql:///vodkeep", "vodkeep at local socket:5432"),
        ("sqlite:////data/vodkeep.db", "/data/vodkeep.db"),
    ],
)
def test_an_address_says_where_and_no_secret(dsn: str, address: str) -> None:
    assert str(Database(make_url(dsn)).address) == address


def test_what_the_dsn_says_wins_over_our_defaults() -> None:
    arguments = postgresql.connect_arguments(make_url("postgresql://h/d?connect_timeout=30&application_name=me"))
    assert (arguments["connect_timeout"], arguments["application_name"]) == ("30", "me")
    assert arguments["prepare_threshold"] is None
