from __future__ import annotations

from datetime import UTC, datetime

import pytest

from vodkeep.publish.quota import Bucket, BucketState, Cost, cost_of, day_of, reset_after


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "day", "reset"),
    [
        ("2026-11-24T07:59:59", "2026-11-23", "2026-11-24T08:00:00"),
        ("2026-11-24T08:00:00", "2026-11-24", "2026-11-25T08:00:00"),
        ("2026-07-01T06:59:00", "2026-06-30", "2026-07-01T07:00:00"),
        # The clocks go forward on 8 March: that day has 23 hours, and back on 1 November: that one has 25.
        ("2026-03-08T08:00:00", "2026-03-08", "2026-03-09T07:00:00"),
        ("2026-11-01T07:00:00", "2026-11-01", "2026-11-02T08:00:00"),
        ("2026-12-31T23:00:00", "2026-12-31", "2027-01-01T08:00:00"),
    ],
)
def test_a_day_ends_at_midnight_on_the_pacific_coast(now: str, day: str, reset: str) -> None:
    assert day_of(utc(now)) == day
    assert reset_after(utc(now)) == utc(reset)


def test_uploads_are_counted_apart() -> None:
    assert cost_of("videos.insert") == Cost(Bucket.UPLOADS, 1)
    assert cost_of("thumbnails.set") == Cost(Bucket.UNITS, 50)
    with pytest.raises(KeyError):
        cost_of("videos.delete")


def test_what_youtube_calls_used_up_is_used_up() -> None:
    reset = utc("2026-11-24T08:00:00")
    assert BucketState(Bucket.UNITS, 100, 40, False, reset).left == 60
    assert BucketState(Bucket.UNITS, 100, 140, False, reset).left == 0
    assert BucketState(Bucket.UNITS, 100, 40, True, reset).left == 0
