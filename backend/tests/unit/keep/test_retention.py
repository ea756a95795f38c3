"""Which videos may go, and why the others stay."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.keep.retention import Limits, Policy, PublishedPart, RetentionItem, plan_retention, why_unproven

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)

PART = PublishedPart(
    part=1, parts=1, state="processed", start_ms=0, end_ms=60_000, youtube_duration_ms=61_000,
    processed_at=NOW - 5 * DAY, checked_at=NOW - DAY,
)  # fmt: skip
ITEM = RetentionItem("1", "otter", "otter/a/video.mp4", 100, NOW - 40 * DAY, parts=(PART,))
FIRST = replace(PART, parts=2)
SECOND = replace(PART, part=2, parts=2, start_ms=60_000, end_ms=120_000)


def going(items: list[RetentionItem], policy: Policy) -> list[str]:
    return [each.item.video_id for each in plan_retention(items, policy, NOW).going]


def aged(*days: float) -> list[RetentionItem]:
    return [replace(ITEM, video_id=f"{day:g}", date=NOW - day * DAY) for day in days]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        pytest.param(Limits(), [], id="no limit"),
        pytest.param(Limits(keep_days=30), ["50", "40", "30.5"], id="older than 30 days"),
        pytest.param(Limits(keep_count=2), ["50", "40", "30.5"], id="beyond the newest two"),
        pytest.param(Limits(keep_bytes=399), ["50", "40"], id="beyond the newest that fit"),
        pytest.param(Limits(keep_days=35, keep_count=2), ["50", "40"], id="each limit has to let it go"),
        pytest.param(Limits(keep_days=30, keep_count=4, keep_bytes=100), ["50"], id="all three of them"),
    ],
)
def test_limits_let_the_oldest_go(limits: Limits, expected: list[str]) -> None:
    items = aged(1, 29.5, 30.5, 40, 50)
    assert going(items, Policy(limits)) == expected
    assert going(items[::-1], Policy(limits)) == expected
    assert going(items, Policy(Limits(keep_days=1), channels={"otter": limits})) == expected
    assert going(items, Policy(limits, channels={"otter": Limits()})) == []


def test_channels_are_counted_apart() -> None:
    items = [*aged(40, 50), *(replace(item, video_id=f"b{item.video_id}", channel="b") for item in aged(45, 55))]
    assert going(items, Policy(Limits(keep_count=1))) == ["b55", "50"]


@pytest.mark.parametrize("change", [{"is_protected": True}, {"is_settled": False}, {"is_in_trash": True}])
def test_some_stay_whatever_the_limits_say(change: dict[str, Any]) -> None:
    assert going([replace(ITEM, **change)], Policy(Limits(keep_days=1), only_copy=True)) == []


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(None, id="could not be read"),
        pytest.param((), id="never published"),
        pytest.param((FIRST,), id="a part is missing"),
        pytest.param((SECOND,), id="the first part is missing"),
        pytest.param((FIRST, FIRST), id="a part twice"),
        pytest.param((FIRST, replace(SECOND, parts=3)), id="of another number of parts"),
        pytest.param((FIRST, replace(SECOND, start_ms=70_000)), id="a gap between them"),
        pytest.param((replace(PART, start_ms=3_000),), id="its beginning is missing"),
        pytest.param((replace(PART, state="uploaded"),), id="not processed"),
        pytest.param((FIRST, replace(SECOND, state="rejected")), id="a part rejected"),
        pytest.param((replace(PART, state="superseded"),), id="asked for anew"),
        pytest.param((replace(PART, reason_code="made_private"),), id="in trouble"),
        pytest.param((replace(PART, youtube_duration_ms=None),), id="no length"),
        pytest.param((replace(PART, youtube_duration_ms=57_999),), id="shorter"),
        pytest.param((replace(PART, processed_at=None),), id="never said to be processed"),
        pytest.param((replace(PART, checked_at=None),), id="never looked at"),
        pytest.param((replace(PART, checked_at=NOW - 4.5 * DAY),), id="not looked at again"),
        pytest.param((replace(PART, checked_at=NOW + DAY),), id="looked at in the future"),
    ],
)
def test_what_is_not_proven_stays(parts: tuple[PublishedPart, ...] | None) -> None:
    item = replace(ITEM, parts=parts)
    assert why_unproven(parts, Policy(), NOW) is not None
    assert going([item], Policy(Limits(keep_days=1))) == []
    assert going([item], Policy(Limits(keep_days=1), only_copy=True)) == ["1"]


def test_a_length_that_is_not_known_is_not_called_another_one() -> None:
    unknown = why_unproven((replace(PART, youtube_duration_ms=None),), Policy(), NOW)
    assert unknown == "The video on YouTube has a length that nobody has asked for yet."


def test_what_is_proven_goes_in_one_part_or_several() -> None:
    policy = Policy(Limits(keep_days=1))
    assert going([ITEM, replace(ITEM, video_id="2", parts=(SECOND, FIRST))], policy) == ["1", "2"]
    (judged, _) = plan_retention([ITEM, replace(ITEM, video_id="2")], policy, NOW).going
    assert judged.reason == "Older than 1 days; last seen on YouTube at 2026-11-22 12:00 UTC."


@given(
    days=st.lists(st.integers(0, 60), min_size=1, max_size=8),
    limits=st.builds(
        Limits,
        st.none() | st.integers(1, 50),
        st.none() | st.integers(1, 5),
        st.none() | st.integers(1, 600),
    ),
    seen=st.data(),
)
def test_who_sees_less_never_lets_more_go(days: list[int], limits: Limits, seen: st.DataObject) -> None:
    """Rows that a query left out, and publications that it did not find, can only keep videos."""
    items = [replace(ITEM, video_id=str(number), date=NOW - day * DAY) for number, day in enumerate(days)]
    fewer = [item for item in items if seen.draw(st.booleans())]
    blind = [replace(item, parts=()) if seen.draw(st.booleans()) else item for item in fewer]
    everything = set(going(items, Policy(limits)))
    assert set(going(fewer, Policy(limits))) <= everything
    assert set(going(blind, Policy(limits))) <= set(going(fewer, Policy(limits)))
