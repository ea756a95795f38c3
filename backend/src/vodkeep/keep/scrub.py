"""Which item is read again next, and when: rules over plain values.

The archive is read evenly: after each item there is a pause as long as its share of the interval, so that a disk is
never kept busy for days. What is beyond its time goes without a pause, as fast as the reading may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

# A round is planned to be a little shorter than the interval: the reading itself takes time, and so do restarts.
_ROUND = 0.9

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Shelved:
    """An item in the library that nobody works on."""

    video_id: str
    size_bytes: int
    checked_at: datetime | None  # UTC; None: never
    was_mended: bool = False  # found damaged, and what was to mend it has ended: only a look tells how


@dataclass(frozen=True, slots=True)
class Turn:
    """What is read next."""

    item: Shelved
    at: datetime  # UTC, not before


def in_turn(items: Sequence[Shelved]) -> list[Shelved]:
    """The items in the order in which they are read: never checked, then the oldest check first.

    What was mended goes before all, since it is known as damaged until it has been looked at.
    """
    return sorted(
        items, key=lambda item: (not item.was_mended, item.checked_at is not None, _time(item), item.video_id)
    )


def is_due(item: Shelved, interval: timedelta, now: datetime) -> bool:
    """Whether the item has not been read within ``interval``."""
    return item.was_mended or item.checked_at is None or item.checked_at + interval <= now


def next_turn(items: Sequence[Shelved], interval: timedelta, now: datetime) -> Turn | None:
    """What is read next, and when; None when there is nothing to read."""
    if not items:
        return None
    first = in_turn(items)[0]
    latest = max((item for item in items if item.checked_at is not None), key=_time, default=None)
    is_late = any(item.checked_at is not None and is_due(item, interval, now) for item in items)
    if latest is None or is_late:
        return Turn(first, now)
    total = sum(item.size_bytes for item in items)
    # Half by its size and half as one of so many: also the smallest is followed by a pause.
    by_size = latest.size_bytes / total if total else 1 / len(items)
    share = (by_size + 1 / len(items)) / 2
    return Turn(first, max(now, _time(latest) + _ROUND * share * interval))


def _time(item: Shelved) -> datetime:
    return item.checked_at or _NEVER
