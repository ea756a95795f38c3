"""What calls to YouTube cost, and when the day of a Google project ends; pure.

Source: https://developers.google.com/youtube/v3/determine_quota_cost, read in November 2026. Since 1 June 2026
(https://developers.google.com/youtube/v3/revision_history) ``videos.insert`` has a bucket of its own, 100 calls a day;
before December 2025 one upload cost 1,600 of the 10,000 units that everything else still shares. Both are renewed at
midnight Pacific time, which is 07:00 or 08:00 UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

_PACIFIC = ZoneInfo("America/Los_Angeles")


class Bucket(StrEnum):
    """What is counted together."""

    UNITS = "units"
    UPLOADS = "uploads"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call takes out of which bucket."""

    bucket: Bucket
    amount: int


_COSTS: Mapping[str, Cost] = {
    "videos.insert": Cost(Bucket.UPLOADS, 1),
    "videos.update": Cost(Bucket.UNITS, 50),
    "thumbnails.set": Cost(Bucket.UNITS, 50),
    "playlistItems.insert": Cost(Bucket.UNITS, 50),
    "videos.list": Cost(Bucket.UNITS, 1),
    "channels.list": Cost(Bucket.UNITS, 1),
    "playlistItems.list": Cost(Bucket.UNITS, 1),
}


def cost_of(method: str) -> Cost:
    """What a call of the method costs; raises KeyError for one that is not in the table."""
    return _COSTS[method]


def day_of(now: datetime) -> str:
    """The day that ``now`` (aware) counts for, as ``2026-11-24``."""
    return now.astimezone(_PACIFIC).date().isoformat()


def reset_after(now: datetime) -> datetime:
    """When the quota of the present day is renewed, in UTC: the next midnight on the Pacific coast."""
    tomorrow = now.astimezone(_PACIFIC).date() + timedelta(days=1)
    return datetime.combine(tomorrow, time(), _PACIFIC).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class BucketState:
    """How much of a bucket is used today."""

    bucket: Bucket
    limit: int
    used: int  # may be over the limit when that was lowered
    is_exhausted: bool  # YouTube itself said so, whatever we counted
    renewed_at: datetime  # UTC

    @property
    def left(self) -> int:
        """What can still be spent."""
        return 0 if self.is_exhausted else max(0, self.limit - self.used)
