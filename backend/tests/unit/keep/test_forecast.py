"""When a disk will be full, as things go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from vodkeep.keep.forecast import WINDOW, DiskSample, Forecast, forecast, keep_sample

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
GB = 10**9


def test_a_disk_that_fills_steadily_is_full_when_it_says() -> None:
    samples = [DiskSample(NOW + 6 * HOUR * number, 100 * GB - 5 * GB * number) for number in range(5)]
    assert forecast(samples) == Forecast(20 * GB, NOW + 24 * HOUR + timedelta(days=4))


def test_a_disk_that_empties_or_stands_still_is_never_full() -> None:
    for step in (0, 5 * GB):
        samples = [DiskSample(NOW + 6 * HOUR * number, 100 * GB + step * number) for number in range(5)]
        assert forecast(samples) == Forecast(-4 * step, None)


def test_nothing_is_said_of_less_than_half_a_day() -> None:
    assert forecast([]) is None
    assert forecast([DiskSample(NOW, 1)]) is None
    assert forecast([DiskSample(NOW, 2), DiskSample(NOW + 11 * HOUR, 1)]) is None


def test_samples_are_taken_now_and_then_and_forgotten() -> None:
    samples: list[DiskSample] = []
    for minute in range(0, 24 * 60 * 20, 10):
        samples = keep_sample(samples, DiskSample(NOW + timedelta(minutes=minute), minute))
    ages = [samples[-1].at - each.at for each in samples]
    assert ages == sorted(ages, reverse=True)
    assert max(ages) <= WINDOW
    assert 50 <= len(samples) <= 57
    # A clock that was set back begins anew.
    assert keep_sample(samples, DiskSample(NOW - timedelta(days=1), 5)) == [DiskSample(NOW - timedelta(days=1), 5)]
