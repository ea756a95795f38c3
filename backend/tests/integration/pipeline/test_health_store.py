"""Breakers, averages and job times in ``kv``, under the keys of the operations page."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import pytest

from support.queue_items import NOW
from support.queue_rows import Rows
from vodkeep.db.engine import Database
from vodkeep.pipeline.breaker import CLOSED, Breaker, BreakerPhase, BreakerPolicy, Verdict, after_attempt
from vodkeep.pipeline.health_store import AVG_DOWNLOAD_MS, AVG_TOTAL_MS, HealthStore

T = TypeVar("T")
UNTIL = NOW + timedelta(minutes=5, microseconds=17)
POLICY = BreakerPolicy(threshold=99, cooldown=timedelta(minutes=5))

# The statement of the operations page, letter for letter.
CLOSE_SQL = "DELETE FROM kv WHERE key IN ('circuit_state','circuit_failures','circuit_open_until');"


def _write(database: Database, work: Callable[[HealthStore], T]) -> T:
    with database.unit_of_work() as unit:
        result = work(HealthStore(unit.connection))
        unit.commit()
        return result


@pytest.mark.parametrize(
    "breaker",
    [
        Breaker(BreakerPhase.CLOSED, 2, None),
        Breaker(BreakerPhase.OPEN, 5, UNTIL),
        Breaker(BreakerPhase.HALF_OPEN, 5, UNTIL),
    ],
    ids=lambda breaker: str(breaker.phase),
)
def test_a_breaker_is_read_as_it_was_written(database: Database, rows: Rows, breaker: Breaker) -> None:
    _write(database, lambda health: health.save_breaker("a", breaker, NOW))
    assert _write(database, lambda health: health.load_breakers()) == {"a": breaker}
    assert _write(database, lambda health: health.lock_breaker("a")) == breaker
    assert _write(database, lambda health: health.lock_breaker("b")) == CLOSED
    assert rows.kv("a")["circuit_state"] == breaker.phase
    assert rows.kv("a")["circuit_failures"] == str(breaker.failures)


def test_a_closed_breaker_leaves_nothing_behind(database: Database, rows: Rows) -> None:
    _write(database, lambda health: health.save_breaker("a", Breaker(BreakerPhase.OPEN, 5, UNTIL), NOW))
    assert rows.kv("a")["circuit_open_until"] == "2026-11-23T12:05:00.000017Z"
    _write(database, lambda health: health.save_breaker("a", Breaker(BreakerPhase.CLOSED, 1, None), NOW))
    assert rows.kv("a") == {"circuit_state": "closed", "circuit_failures": "1"}
    _write(database, lambda health: health.save_breaker("a", CLOSED, NOW))
    assert rows.kv("a") == {}


def test_the_runbooks_statement_closes_every_breaker(database: Database, rows: Rows) -> None:
    for channel in ("a", "b"):
        opened = Breaker(BreakerPhase.OPEN, 5, UNTIL)
        _write(database, lambda health, channel=channel, opened=opened: health.save_breaker(channel, opened, NOW))  # type: ignore[misc]
    rows.execute(CLOSE_SQL)
    assert _write(database, lambda health: health.load_breakers()) == {}


@pytest.mark.parametrize(
    ("values", "breaker"),
    [
        ({"circuit_state": "nonsense", "circuit_failures": "7"}, Breaker(BreakerPhase.CLOSED, 7, None)),
        ({"circuit_failures": "many"}, CLOSED),
        ({"circuit_failures": "-3"}, CLOSED),
        ({"circuit_open_until": "2026-11-23T12:05:00Z"}, CLOSED),
        ({"circuit_state": "open", "circuit_open_until": "soon"}, Breaker(BreakerPhase.OPEN, 0, None)),
        (
            {"circuit_state": "open", "circuit_open_until": "2026-11-23 12:00:00"},
            Breaker(BreakerPhase.OPEN, 0, NOW),
        ),
    ],
)
def test_what_a_hand_wrote_never_stops_the_service(
    database: Database, rows: Rows, values: dict[str, str], breaker: Breaker
) -> None:
    for key, value in values.items():
        rows.execute(
            "INSERT INTO kv (channel, key, value, updated_at)"
            f" VALUES ('a', '{key}', '{value}', '2026-11-23T12:00:00.000000Z')"
        )
    assert _write(database, lambda health: health.load_breakers())["a"] == breaker


def test_failures_counted_side_by_side_are_all_counted(database: Database) -> None:
    barrier = threading.Barrier(4)

    def fail_often() -> None:
        barrier.wait(20)
        for _ in range(5):

            def fail(health: HealthStore) -> None:
                before = health.lock_breaker("a")
                after = after_attempt(before, Verdict.SYSTEMIC, NOW, POLICY, probe=False)
                health.save_breaker("a", after, NOW)

            _write(database, fail)

    threads = [threading.Thread(target=fail_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert _write(database, lambda health: health.lock_breaker("a")).failures == 20


def test_averages_move_by_a_fifth_per_channel_and_in_all(database: Database, rows: Rows) -> None:
    def sample(channel: str, ms: float) -> None:
        _write(database, lambda health: health.average_in(AVG_DOWNLOAD_MS, ms, NOW, channel=channel))

    sample("a", 1000)
    sample("a", 2000)
    sample("b", 200)
    assert rows.kv("a") == {"avg_download_ms": "1200"}
    assert rows.kv("b") == {"avg_download_ms": "200"}
    assert rows.kv() == {"avg_download_ms": "1000"}
    rows.execute("INSERT INTO kv (channel, key, value) VALUES ('c', 'avg_download_ms', 'nonsense')")
    averages = _write(database, lambda health: health.load_averages())
    assert {channel: one[AVG_DOWNLOAD_MS] for channel, one in averages.items()} == {"": 1000, "a": 1200, "b": 200}
    assert AVG_TOTAL_MS not in rows.kv()


def test_when_the_last_cycle_ran(database: Database, rows: Rows) -> None:
    assert _write(database, lambda health: health.last_cycle()) is None
    _write(database, lambda health: health.note_cycle(NOW))
    assert _write(database, lambda health: health.last_cycle()) == NOW
    assert rows.kv()["job_vod_process_last"] == "2026-11-23T12:00:00.000000Z"
