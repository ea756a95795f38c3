"""How far back the catalog goes: the newest so many videos, and none older than so many days."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from vodkeep.catalog.model import Video


@dataclass(frozen=True, slots=True)
class CatalogLimits:
    """``None`` means no limit."""

    max_vods: int | None = None  # VOD_CATALOG_MAX: counted from the newest video on
    max_age: timedelta | None = None  # VOD_CATALOG_MAX_AGE_DAYS: by the start of the broadcast

    @classmethod
    def from_settings(cls, max_vods: int | None, max_age_days: int | None) -> CatalogLimits:
        """The limits as configured; more than a century is no limit, and no date to compute with either."""
        if max_age_days is None or max_age_days > 36_500:
            return cls(max_vods, None)
        return cls(max_vods, timedelta(days=max_age_days))


@dataclass(frozen=True, slots=True)
class Taken:
    """What one page contributes."""

    videos: tuple[Video, ...]
    ended: bool  # the limits exclude everything on the pages after this one


def take(videos: Sequence[Video], *, seen: int, limits: CatalogLimits, now: datetime) -> Taken:
    """The videos of a page, newest first, that lie within the limits; ``seen`` were on the pages before it.

    A single old video in the middle of the list (a date that was corrected) is left out without ending the list.
    """
    room = len(videos) if limits.max_vods is None else max(0, limits.max_vods - seen)
    ended = limits.max_vods is not None and room <= len(videos)
    wanted = list(videos[:room])
    if limits.max_age is not None:
        oldest = now - limits.max_age
        ended = ended or (bool(videos) and videos[-1].created_at < oldest)
        wanted = [video for video in wanted if video.created_at >= oldest]
    return Taken(tuple(wanted), ended)


def backfill_is_due(*, cursor: str | None, done_at: datetime | None, interval: timedelta, now: datetime) -> bool:
    """Whether a channel's whole list should be read: never done, interrupted, asked for, or long ago.

    A time in the future is a clock that was set back, and would otherwise postpone the pass by as much.
    """
    if cursor is not None or done_at is None:
        return True
    return not (now - interval < done_at <= now)
