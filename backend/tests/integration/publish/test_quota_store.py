"""The ledger of the quota, the same on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from support.clock import FakeClock
from vodkeep.db.engine import Database
from vodkeep.errors import LimitReached
from vodkeep.publish.quota import Bucket
from vodkeep.publish.quota_store import QuotaLedger, QuotaStore

RESET = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)  # the clock begins on the 23rd, 12:00 UTC


def ledger(database: Database, clock: FakeClock, project: str = "one") -> QuotaLedger:
    return QuotaLedger(database, project=project, units=120, uploads=2, clock=clock)


@pytest.mark.anyio
async def test_nothing_is_spent_beyond_the_limit_until_the_reset(database: Database, clock: FakeClock) -> None:
    mine = ledger(database, clock)
    await mine.spend("thumbnails.set")
    await mine.spend("videos.update")
    with pytest.raises(LimitReached) as failure:
        await mine.spend("playlistItems.insert")
    assert (failure.value.until, failure.value.code) == (RESET, "quota_exhausted")
    assert "YOUTUBE_QUOTA" in failure.value.remedy
    await mine.spend("videos.list")  # 20 units are left, and uploads are counted apart
    await mine.spend("videos.insert")
    assert [(state.bucket, state.used, state.left) for state in await mine.states()] == [
        (Bucket.UNITS, 101, 19),
        (Bucket.UPLOADS, 1, 1),
    ]
    # A restart forgets nothing, and another project has a quota of its own.
    assert [state.used for state in await ledger(database, clock).states()] == [101, 1]
    assert [state.used for state in await ledger(database, clock, "two").states()] == [0, 0]
    clock.jump((RESET - clock.now()).total_seconds())
    await mine.spend("playlistItems.insert")
    assert [state.used for state in await mine.states()] == [50, 0]


@pytest.mark.anyio
async def test_what_youtube_says_counts_whatever_was_counted(database: Database, clock: FakeClock) -> None:
    mine = ledger(database, clock)
    assert await mine.exhausted("videos.insert") == RESET
    with pytest.raises(LimitReached, match="uploads"):
        await mine.spend("videos.insert")
    await mine.spend("videos.list")
    assert [state.left for state in await mine.states()] == [119, 0]
    clock.jump(86_400)
    await mine.spend("videos.insert")


def test_racing_processes_never_go_over_the_limit(database: Database) -> None:
    def spend(_: int) -> bool:
        with database.unit_of_work() as unit:
            counted = QuotaStore(unit.connection, "one").spend("2026-11-23", Bucket.UNITS, 1, 5)
            unit.commit()
        return counted

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(spend, range(12))) == 5
