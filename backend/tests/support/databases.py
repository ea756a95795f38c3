"""Databases for tests: new for each test, migrated once per test process and copied."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from support.postgres import PostgresServer, fresh_database
from vodkeep.chat.database import CHAT
from vodkeep.chat.database import chat_database as beside
from vodkeep.db.engine import Database
from vodkeep.db.migrate import upgrade

_TEMPLATE = "vodkeep_template"


@pytest.fixture(scope="session")
def migrated_sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("database") / "template.db"
    database = Database(_sqlite_url(path))
    upgrade(database)
    database.dispose()
    return path


@pytest.fixture(scope="session")
def migrated_chat_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file of chat to copy."""
    path = tmp_path_factory.mktemp("database") / "chat.db"
    database = Database(_sqlite_url(path))
    upgrade(database, CHAT)
    database.dispose()
    return path


@pytest.fixture(scope="session")
def migrated_postgres_template(running_postgres: PostgresServer) -> str:
    """The name of a migrated PostgreSQL database to copy; nobody may be connected to it."""
    with running_postgres.connect() as connection:
        connection.execute(f"CREATE DATABASE {_TEMPLATE} TEMPLATE template0")
    database = Database(running_postgres.url(_TEMPLATE))
    upgrade(database)
    upgrade(database, CHAT)
    database.dispose()
    return _TEMPLATE


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Which database a test runs on; every test that uses it, directly or not, runs on both."""
    kind: str = request.param
    return kind


@pytest.fixture
def database_url(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[URL]:
    """Where a new, migrated database is."""
    if database_kind == "sqlite":
        path = tmp_path / "vodkeep.db"
        shutil.copyfile(request.getfixturevalue("migrated_sqlite_file"), path)
        path.chmod(0o640)
        yield _sqlite_url(path)
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with fresh_database(server, request.getfixturevalue("migrated_postgres_template")) as name:
        yield server.url(name)


@pytest.fixture
def empty_database_url(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[URL]:
    """Where a new database without any table is (on SQLite not even the file exists)."""
    if database_kind == "sqlite":
        yield _sqlite_url(tmp_path / "empty.db")
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with fresh_database(server) as name:
        yield server.url(name)


@pytest.fixture
def database(database_url: URL) -> Iterator[Database]:
    """A new, migrated database; the test runs once on SQLite and once on PostgreSQL."""
    database = Database(database_url)
    yield database
    database.dispose()


@pytest.fixture
def chat_database(database: Database, request: pytest.FixtureRequest) -> Iterator[Database]:
    """The database of chat beside ``database``, new and migrated: another file on SQLite, the same on PostgreSQL."""
    chat = beside(database)
    if chat.is_sqlite:
        shutil.copyfile(request.getfixturevalue("migrated_chat_file"), chat.path)
        chat.path.chmod(0o640)
    yield chat
    chat.dispose()


@pytest.fixture
def empty_database(empty_database_url: URL) -> Iterator[Database]:
    """A new database without any table; the test runs once on SQLite and once on PostgreSQL."""
    database = Database(empty_database_url)
    yield database
    database.dispose()


def _sqlite_url(path: Path) -> URL:
    return URL.create("sqlite", database=str(path))
