"""When the disk will be full, from what was free on it within the last days: pure rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

WINDOW = timedelta(days=7)
"""What is older says nothing of the present."""

_BETWEEN = timedelta(hours=3)
_ENOUGH = timedelta(hours=12)
_DAY_S = 86_400.0
# A disk that takes longer than this to fill is not filling.
_FAR = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class DiskSample:
    """What was free on the disk at one moment."""

    at: datetime  # UTC
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """How the disk fills."""

    bytes_per_day: int  # negative: it empties
    full_at: datetime | None  # UTC; None: never, as things go


def keep_sample(before: Sequence[DiskSample], sample: DiskSample) -> list[DiskSample]:
    """The samples with a new one, if it is due; the newest is always less than three hours old."""
    if before and timedelta() <= sample.at - before[-1].at < _BETWEEN:
        return list(before)
    return [each for each in before if timedelta() < sample.at - each.at <= WINDOW] + [sample]


def forecast(samples: Sequence[DiskSample]) -> Forecast | None:
    """The trend of the samples (least squares); None as long as they span less than half a day."""
    if not samples or samples[-1].at - samples[0].at < _ENOUGH:
        return None
    last = samples[-1]
    days = [(each.at - last.at).total_seconds() / _DAY_S for each in samples]
    mean_day = sum(days) / len(days)
    mean_free = sum(each.free_bytes for each in samples) / len(samples)
    spread = sum((day - mean_day) ** 2 for day in days)
    slope = sum((day - mean_day) * (each.free_bytes - mean_free) for day, each in zip(days, samples, strict=True))
    bytes_per_day = round(-slope / spread)
    if bytes_per_day <= 0 or last.free_bytes / bytes_per_day > _FAR.days:
        return Forecast(bytes_per_day, None)
    return Forecast(bytes_per_day, last.at + timedelta(days=last.free_bytes / bytes_per_day))
