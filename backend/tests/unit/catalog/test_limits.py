from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from vodkeep.catalog.limits import CatalogLimits, backfill_is_due, take
from vodkeep.catalog.model import BroadcasterId, Video, VodId

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOURS_6 = timedelta(hours=6)


def video(age_days: float) -> Video:
    return Video(VodId(f"{int(age_days * 100) + 1}"), BroadcasterId("1"), NOW - timedelta(days=age_days))


PAGE = [video(age) for age in (1, 2, 3, 4)]


def test_without_limits_everything_is_taken() -> None:
    taken = take(PAGE, seen=10_000, limits=CatalogLimits(), now=NOW)
    assert taken.videos == tuple(PAGE)
    assert not taken.ended


@pytest.mark.parametrize(
    ("seen", "count", "ended"), [(0, 4, False), (5, 4, False), (6, 4, True), (8, 2, True), (10, 0, True), (99, 0, True)]
)
def test_the_newest_so_many_are_taken_over_all_pages(seen: int, count: int, ended: bool) -> None:
    taken = take(PAGE, seen=seen, limits=CatalogLimits(max_vods=10), now=NOW)
    assert taken.videos == tuple(PAGE[:count])
    assert taken.ended is ended


def test_older_videos_are_left_out_and_end_the_list() -> None:
    taken = take(PAGE, seen=0, limits=CatalogLimits(max_age=timedelta(days=2)), now=NOW)
    assert taken.videos == tuple(PAGE[:2])
    assert taken.ended


def test_one_old_video_among_newer_ones_does_not_end_the_list() -> None:
    page = [PAGE[0], video(400), PAGE[1]]
    taken = take(page, seen=0, limits=CatalogLimits(max_age=timedelta(days=30)), now=NOW)
    assert taken.videos == (page[0], page[2])
    assert not taken.ended


def test_an_empty_page_ends_nothing_by_itself() -> None:
    assert not take([], seen=0, limits=CatalogLimits(max_vods=5, max_age=HOURS_6), now=NOW).ended


def test_settings_become_limits_and_a_century_is_none() -> None:
    assert CatalogLimits.from_settings(None, None) == CatalogLimits()
    assert CatalogLimits.from_settings(50, 30) == CatalogLimits(50, timedelta(days=30))
    assert take(PAGE, seen=0, limits=CatalogLimits.from_settings(None, 999_999_999), now=NOW).videos == tuple(PAGE)


@pytest.mark.parametrize(
    ("cursor", "done_ago", "due"),
    [
        (None, None, True),
        ("c", timedelta(0), True),
        (None, timedelta(0), False),
        (None, timedelta(hours=5, minutes=59), False),
        (None, HOURS_6, True),
        (None, timedelta(days=90), True),
        (None, timedelta(hours=-1), True),
    ],
)
def test_a_pass_is_due_when_never_done_interrupted_long_ago_or_in_the_future(
    cursor: str | None, done_ago: timedelta | None, due: bool
) -> None:
    done_at = None if done_ago is None else NOW - done_ago
    assert backfill_is_due(cursor=cursor, done_at=done_at, interval=HOURS_6, now=NOW) is due
