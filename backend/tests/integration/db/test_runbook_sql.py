"""The SQL that the operations page tells an operator to run, character for character, with the plain drivers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import psycopg
import pytest
from sqlalchemy import insert, select

from support.postgres import PostgresServer
from vodkeep.db.engine import Database
from vodkeep.db.kv import KvStore
from vodkeep.db.tables import kv, vods

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

REPROCESS = "UPDATE vods SET processed=0, processing_error=NULL, youtube_url=NULL WHERE twitch_vod_id='...'"
CLOSE_BREAKER = "DELETE FROM kv WHERE key IN ('circuit_state','circuit_failures','circuit_open_until');"
LIST_QUEUE = "SELECT twitch_vod_id, processed, processing_error FROM vods ORDER BY date;"


class Shell(Protocol):
    """An operator's prompt: runs a statement, commits, returns the rows."""

    def __call__(self, sql: str) -> list[tuple[Any, ...]]: ...


@pytest.fixture
def shell(database: Database, request: pytest.FixtureRequest) -> Iterator[Shell]:
    """``sqlite3`` or ``psql``, without anything of ours in between."""
    if database.is_sqlite:
        file = sqlite3.connect(database.path)

        def on_sqlite(sql: str) -> list[tuple[Any, ...]]:
            rows = file.execute(sql).fetchall()
            file.commit()
            return rows

        yield on_sqlite
        file.close()
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    assert database.url.database is not None
    with psycopg.connect(server.dsn(database.url.database), autocommit=True) as connection:

        def on_postgres(sql: str) -> list[tuple[Any, ...]]:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

        yield on_postgres


@pytest.fixture(autouse=True)
def _queue(database: Database) -> None:
    """Three items, catalogued out of order: done and published, failed, new."""
    rows = [
        {
            "twitch_vod_id": "2000002",
            "date": START + timedelta(days=1),
            "processed": 0,
            "processing_error": "The segment 17 is missing.",
            "youtube_url": None,
            "download_state": "failed",
            "download_retries": 3,
        },
        {
            "twitch_vod_id": "2000001",
            "date": START,
            "processed": 1,
            "processing_error": None,
            "youtube_url": "https://youtu.be/x",
            "download_state": "done",
            "download_retries": 0,
        },
        {
            "twitch_vod_id": "2000003",
            "date": START + timedelta(days=1, microseconds=1),
            "processed": 0,
            "processing_error": None,
            "youtube_url": None,
            "download_state": "pending",
            "download_retries": 0,
        },
    ]
    with database.unit_of_work() as unit:
        unit.connection.execute(insert(vods), [{"channel": "c", "title": "t", **row} for row in rows])
        unit.commit()


def test_an_item_is_reset_for_processing(shell: Shell, database: Database) -> None:
    shell(REPROCESS.replace("...", "2000001"))
    shell(REPROCESS.replace("...", "2000002"))

    with database.unit_of_work(write=False) as unit:
        columns = (vods.c.processed, vods.c.processing_error, vods.c.youtube_url)
        rows = unit.connection.execute(select(*columns)).all()
    assert [tuple(row) for row in rows] == [(0, None, None)] * 3


def test_the_breaker_is_closed_by_deleting_its_keys_for_every_channel(shell: Shell, database: Database) -> None:
    with database.unit_of_work() as unit:
        store = KvStore(unit.connection)
        for channel in ("", "one", "two"):
            for key in ("circuit_state", "circuit_failures", "circuit_open_until", "avg_download_ms"):
                store.set(key, "1", START, channel)
        unit.commit()

    shell(CLOSE_BREAKER)

    with database.unit_of_work(write=False) as unit:
        rows = unit.connection.execute(select(kv.c.channel, kv.c.key).order_by(kv.c.channel)).all()
    assert [tuple(row) for row in rows] == [
        ("", "avg_download_ms"),
        ("one", "avg_download_ms"),
        ("two", "avg_download_ms"),
    ]


def test_the_queue_is_listed_oldest_first(shell: Shell) -> None:
    assert shell(LIST_QUEUE) == [
        ("2000001", 1, None),
        ("2000002", 0, "The segment 17 is missing."),
        ("2000003", 0, None),
    ]


def test_states_and_retry_counters_can_be_inspected(shell: Shell) -> None:
    query = "SELECT download_state, download_retries, upload_retries FROM vods ORDER BY date"
    assert shell(query) == [("done", 0, 0), ("failed", 3, 0), ("pending", 0, 0)]


@pytest.mark.parametrize("key", ["avg_download_ms", "avg_upload_ms", "avg_total_ms"])
def test_moving_averages_are_found_by_key(shell: Shell, database: Database, key: str) -> None:
    with database.unit_of_work() as unit:
        KvStore(unit.connection).set(key, "1234.5", START)
        unit.commit()

    assert shell(f"SELECT value FROM kv WHERE key='{key}'") == [("1234.5",)]


def test_the_token_table_is_there(shell: Shell) -> None:
    assert shell("SELECT provider, channel, access_token, refresh_token FROM oauth_tokens") == []


def test_rows_written_by_hand_need_only_what_nobody_can_guess(shell: Shell, database: Database) -> None:
    shell("INSERT INTO vods (twitch_vod_id, channel) VALUES ('77', 'c')")
    shell("INSERT INTO kv (key, value) VALUES ('note', 'hello')")
    shell("INSERT INTO oauth_tokens (provider, access_token) VALUES ('youtube', 'secret')")
    shell("INSERT INTO events (twitch_vod_id, kind) VALUES ('77', 'note')")
    shell("INSERT INTO channels (login) VALUES ('c')")

    with database.unit_of_work(write=False) as unit:
        row = unit.connection.execute(select(vods).where(vods.c.twitch_vod_id == "77")).one()
        assert KvStore(unit.connection).get("note") == "hello"
    assert (row.processed, row.download_state, row.download_retries, row.title) == (0, "pending", 0, "")
    assert abs(datetime.now(UTC) - row.created_at) < timedelta(minutes=1)
    assert row.created_at.tzinfo is UTC


def test_times_written_by_hand_are_understood_or_refused(shell: Shell, database: Database) -> None:
    """``tomorrow`` in a column that the service reads would stop it, so it is refused at the prompt."""
    shell("UPDATE vods SET not_before='2026-12-24 18:30:00+00:00' WHERE twitch_vod_id='2000003'")
    with pytest.raises((sqlite3.IntegrityError, psycopg.DataError)):
        shell("UPDATE vods SET not_before='in an hour' WHERE twitch_vod_id='2000003'")

    with database.unit_of_work(write=False) as unit:
        query = select(vods.c.not_before).where(vods.c.twitch_vod_id == "2000003")
        assert unit.connection.execute(query).scalar_one() == datetime(2026, 12, 24, 18, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE vods SET processed=2",
        "UPDATE vods SET download_state='dwnloaded'",
        "UPDATE vods SET skip_upload=-1",
    ],
)
def test_values_that_mean_nothing_are_refused(shell: Shell, sql: str) -> None:
    with pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError)):
        shell(sql)
