"""The schema's way up and down, with data, alone and in a crowd."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import URL, insert, inspect, make_url, select, text

import vodkeep
from support.postgres import PostgresServer
from vodkeep.db import migrate
from vodkeep.db.engine import Database
from vodkeep.db.events import EventLog
from vodkeep.db.kv import KvStore
from vodkeep.db.tables import (
    channels,
    leases,
    metadata,
    oauth_flows,
    oauth_tokens,
    publications,
    quota_uses,
    retention_entries,
    retention_plans,
    scrubs,
    vods,
)
from vodkeep.errors import DatabaseUnavailable, SettingsError

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def table_names(database: Database) -> set[str]:
    with database.unit_of_work(write=False) as unit:
        return set(inspect(unit.connection).get_table_names())


def execute(database: Database, sql: str) -> None:
    with database.unit_of_work() as unit:
        unit.connection.exec_driver_sql(sql)
        unit.commit()


def fill(database: Database) -> None:
    with database.unit_of_work() as unit:
        unit.connection.execute(insert(channels).values(login="c", broadcaster_id="1"))
        unit.connection.execute(insert(vods), [{"twitch_vod_id": f"{n}", "channel": "c"} for n in range(50)])
        unit.connection.execute(insert(quota_uses).values(project="one", day="2026-11-24", bucket="units"))
        unit.connection.execute(insert(oauth_tokens).values(provider="youtube", access_token="a"))
        flow = {"provider": "youtube", "channel": "", "browser": "b", "secret": "s", "interval_s": 5}
        unit.connection.execute(insert(oauth_flows).values(id="f", next_poll_at=AT, expires_at=AT, **flow))
        part = {"part": 1, "parts": 1, "start_ms": 0, "end_ms": 1, "source_name": "video.mp4", "size_bytes": 1}
        scrub = {"twitch_vod_id": "1", "checked_at": AT, "verdict": "fine"}
        unit.connection.execute(insert(scrubs).values(scrub))
        unit.connection.execute(insert(publications).values(twitch_vod_id="1", checksum="sha256:0", **part))
        plan = {"at": AT, "going": 1, "going_bytes": 1, "staying": 0}
        decided = {"plan_id": 1, "path": "c/video.mp4", "size_bytes": 1, "generation": 0, "reason": "Old."}
        unit.connection.execute(insert(retention_plans).values(plan))
        unit.connection.execute(
            insert(retention_entries).values(twitch_vod_id="1", created_at=AT, updated_at=AT, **decided)
        )
        unit.connection.execute(insert(leases).values(name="planner", holder="a", token=1, expires_at=AT))
        KvStore(unit.connection).set("circuit_state", "open", AT)
        EventLog(unit.connection).append("1", at=AT, kind="discovered")
        unit.commit()


def count_of_each_table(database: Database) -> dict[str, int]:
    with database.unit_of_work(write=False) as unit:
        return {table.name: len(unit.connection.execute(select(table)).all()) for table in metadata.sorted_tables}


def test_up_fill_down_and_up_again(empty_database: Database) -> None:
    migrate.upgrade(empty_database)
    assert migrate.current(empty_database) == migrate.head()
    fill(empty_database)
    assert all(count_of_each_table(empty_database).values())

    migrate.downgrade(empty_database, "base")
    assert migrate.current(empty_database) is None
    assert table_names(empty_database) == {"alembic_version"}

    migrate.upgrade(empty_database)
    assert not any(count_of_each_table(empty_database).values())
    fill(empty_database)


def test_migrating_twice_changes_nothing(database: Database) -> None:
    fill(database)
    before = count_of_each_table(database)

    migrate.upgrade(database)

    assert count_of_each_table(database) == before


def test_the_migrated_schema_is_the_one_of_the_code(database: Database) -> None:
    """Only tables of the job engine may be there besides."""
    execute(database, "CREATE TABLE procrastinate_anything (id INTEGER)")
    assert differences(database) == []

    execute(database, "ALTER TABLE vods ADD COLUMN surprise TEXT")
    assert [kind for kind, *_ in differences(database)] == ["remove_column"]


def differences(database: Database) -> list[Any]:
    with database.unit_of_work(write=False) as unit:
        context = MigrationContext.configure(unit.connection, opts={"include_name": migrate.MAIN.include_name})
        return list(compare_metadata(context, metadata))


def test_the_migrated_schema_has_the_same_defaults_and_constraints(
    database: Database, empty_database: Database
) -> None:
    """What Alembic does not compare: checks, defaults, keys, exact types."""
    with empty_database.unit_of_work() as unit:
        metadata.create_all(unit.connection)
        unit.commit()

    described = describe(database)

    assert described["vods"]["checks"]
    assert described == describe(empty_database)


def describe(database: Database) -> dict[str, dict[str, Any]]:
    with database.unit_of_work(write=False) as unit:
        inspector = inspect(unit.connection)
        return {
            name: {
                "columns": [
                    (each["name"], str(each["type"]), each["nullable"], each["default"])
                    for each in inspector.get_columns(name)
                ],
                "primary key": inspector.get_pk_constraint(name),
                "unique": inspector.get_unique_constraints(name),
                "checks": sorted(
                    (str(each["name"]), each["sqltext"]) for each in inspector.get_check_constraints(name)
                ),
                "indexes": sorted(
                    (str(each["name"]), each["column_names"], each["unique"]) for each in inspector.get_indexes(name)
                ),
            }
            for name in metadata.tables
        }


def test_a_failing_migration_leaves_nothing_behind(empty_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """All in one transaction, on SQLite too: the crash comes after the last table."""

    def crash(*_: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr("alembic.runtime.migration.HeadMaintainer.update_to_step", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        migrate.upgrade(empty_database)
    assert table_names(empty_database) == set()

    monkeypatch.undo()
    migrate.upgrade(empty_database)
    assert migrate.current(empty_database) == migrate.head()


def test_a_database_of_a_newer_version_is_refused_in_one_sentence(database: Database) -> None:
    execute(database, "UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(SettingsError) as refused:
        migrate.upgrade(database)

    (problem,) = refused.value.problems
    assert "newer version of vodkeep (schema 9999, this version knows up to 0001)" in problem
    assert database.address.name in problem


def test_a_database_of_another_program_is_refused_untouched(empty_database: Database) -> None:
    execute(empty_database, "CREATE TABLE vods (id INTEGER)")

    with pytest.raises(SettingsError, match="tables of another program \\(vods\\)"):
        migrate.upgrade(empty_database)

    assert table_names(empty_database) == {"vods"}


def names_of_the_job_engine(database: Database) -> set[str]:
    """Tables, sequences, types and functions."""
    query = (
        "SELECT relname FROM pg_class WHERE starts_with(relname, 'procrastinate_') UNION"
        " SELECT typname FROM pg_type WHERE starts_with(typname, 'procrastinate_') UNION"
        " SELECT proname FROM pg_proc WHERE starts_with(proname, 'procrastinate_')"
    )
    with database.unit_of_work(write=False) as unit:
        return set(unit.connection.exec_driver_sql(query).scalars())


@pytest.mark.postgres
def test_the_job_engines_tables_come_and_go_with_ours(postgres_dsn: str) -> None:
    database = Database(make_url(postgres_dsn))
    migrate.upgrade(database)
    made = names_of_the_job_engine(database)
    assert {"procrastinate_jobs", "procrastinate_job_status", "procrastinate_fetch_job_v2"} <= made
    execute(database, "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('capture', 'a ticket')")

    migrate.downgrade(database, "base")
    assert names_of_the_job_engine(database) == set()

    migrate.upgrade(database)
    assert names_of_the_job_engine(database) == made
    database.dispose()


@pytest.mark.postgres
def test_a_database_with_the_job_engine_of_another_program_is_refused(postgres_dsn: str) -> None:
    database = Database(make_url(postgres_dsn))
    execute(database, "CREATE TABLE procrastinate_jobs (id INTEGER)")
    with pytest.raises(SettingsError, match="tables of another program \\(procrastinate_jobs\\)"):
        migrate.upgrade(database)
    database.dispose()


@pytest.mark.postgres
def test_a_database_that_cannot_hold_every_title_is_refused(postgres_server: PostgresServer) -> None:
    with postgres_server.connect() as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    database = Database(postgres_server.url("latin"))
    try:
        with pytest.raises(SettingsError, match="encoding LATIN1"):
            migrate.upgrade(database)
    finally:
        database.dispose()
        with postgres_server.connect() as connection:
            connection.execute("DROP DATABASE latin")


@pytest.mark.postgres
def test_a_user_without_rights_is_told_which(postgres_server: PostgresServer, postgres_dsn: str) -> None:
    name = postgres_dsn.rpartition("/")[2]
    with postgres_server.connect(name) as connection:
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    database = Database(postgres_server.url(name).set(username="guest", password="guest"))
    try:
        with pytest.raises(SettingsError, match="GRANT CREATE, USAGE ON SCHEMA public"):
            migrate.upgrade(database)
    finally:
        database.dispose()
        with postgres_server.connect() as connection:
            connection.execute("DROP ROLE guest")


@pytest.mark.postgres
def test_a_migration_gives_up_on_a_table_that_stays_locked(
    postgres_server: PostgresServer, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queries of a running service queue behind a waiting migration, so it must not wait for long."""
    monkeypatch.setattr(migrate, "_DDL_LOCK_MS", 100)
    name = postgres_dsn.rpartition("/")[2]
    database = Database(postgres_server.url(name))
    migrate.upgrade(database)
    with postgres_server.connect(name) as reader, reader.transaction():
        reader.execute("SELECT * FROM vods")
        with pytest.raises(DatabaseUnavailable, match="lock timeout"):
            migrate.downgrade(database, "base")
    assert migrate.current(database) == migrate.head()
    database.dispose()


MIGRATE_EACH_LINE = """
import sys
from sqlalchemy import make_url
from vodkeep.db import migrate
from vodkeep.db.engine import Database

for line in sys.stdin:
    database = Database(make_url(line.strip()))
    migrate.upgrade(database)
    print(migrate.current(database), flush=True)
    database.dispose()
"""


@pytest.fixture
def two_processes() -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that migrate each database whose URL they read."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", MIGRATE_EACH_LINE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(Path(vodkeep.__file__).parents[1])},
        )
        for _ in range(2)
    ]
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def test_two_processes_migrate_at_once(two_processes: list[subprocess.Popen[str]], empty_database_url: URL) -> None:
    """Several rounds; the first also meets a SQLite file that does not exist yet."""
    database = Database(empty_database_url)
    for _ in range(6):
        for process in two_processes:
            assert process.stdin is not None
            process.stdin.write(empty_database_url.render_as_string(hide_password=False) + "\n")
            process.stdin.flush()
        for process in two_processes:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == migrate.head(), process.communicate()[1]
        fill(database)
        migrate.downgrade(database, "base")
        database.dispose()
        if database.is_sqlite:
            for path in database.path.parent.glob(f"{database.path.name}*"):
                path.unlink()


def test_the_version_table_survives_beside_foreign_tables(empty_database: Database) -> None:
    """Somebody else's tables in the same database are none of our business."""
    execute(empty_database, "CREATE TABLE guests (name TEXT)")
    migrate.upgrade(empty_database)
    migrate.downgrade(empty_database, "base")
    with empty_database.unit_of_work(write=False) as unit:
        assert unit.connection.execute(text("SELECT count(*) FROM guests")).scalar_one() == 0
