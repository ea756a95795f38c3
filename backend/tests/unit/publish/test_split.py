from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.publish.split import CannotSplit, CutPoint, Limits, Part, plan_parts

HOUR = 3_600_000


def every(step_ms: int, duration_ms: int, bytes_per_s: int = 1000) -> list[CutPoint]:
    return [CutPoint(moment, moment * bytes_per_s // 1000) for moment in range(0, duration_ms, step_ms)]


@st.composite
def films(draw: st.DrawFn) -> tuple[int, int, list[CutPoint]]:
    """Duration, size and key frames, at uneven distances and with uneven sizes."""
    gaps = draw(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=60))
    moment = size = 0
    points = []
    for length, weight in gaps:
        points.append(CutPoint(moment, size))
        moment += length
        size += weight
    return moment, size, points


@given(films(), st.lists(st.integers(0, 3000), max_size=8), st.integers(1, 300), st.integers(1, 300))
def test_parts_cover_everything_once_within_the_limits_and_are_as_few_as_can_be(
    film: tuple[int, int, list[CutPoint]], chapters: list[int], longest: int, largest: int
) -> None:
    duration_ms, size_bytes, points = film
    limits = Limits(longest, largest)
    before = {0: 0, duration_ms: size_bytes} | {point.at_ms: point.bytes_before for point in points}
    fewest = _fewest(before, duration_ms, limits)
    if fewest is None:
        with pytest.raises(CannotSplit):
            plan_parts(duration_ms, size_bytes, chapters, points, limits)
        return
    parts = plan_parts(duration_ms, size_bytes, chapters, points, limits)
    assert parts[0].start_ms == 0
    assert parts[-1].end_ms == duration_ms
    assert all(one.end_ms == other.start_ms for one, other in pairwise(parts))
    assert [(part.number, part.parts) for part in parts] == [(n + 1, len(parts)) for n in range(len(parts))]
    assert len(parts) == fewest
    for part in parts:
        assert 0 < part.duration_ms <= longest
        assert before[part.end_ms] - before[part.start_ms] <= largest


def _fewest(before: dict[int, int], duration_ms: int, limits: Limits) -> int | None:
    """By trying everything: the fewest parts that reach each place."""
    fewest = {0: 0}
    for end in sorted(before)[1:]:
        counts = [
            count
            for start, count in fewest.items()
            if end - start <= limits.duration_ms and before[end] - before[start] <= limits.size_bytes
        ]
        if counts:
            fewest[end] = min(counts) + 1
    return fewest.get(duration_ms)


def test_what_is_within_the_limits_stays_one_video() -> None:
    assert plan_parts(12 * HOUR, 100, [], [], Limits(12 * HOUR, 100)) == [Part(1, 1, 0, 12 * HOUR)]


def test_without_chapters_the_parts_are_even() -> None:
    parts = plan_parts(26 * HOUR, 0, [], every(2000, 26 * HOUR, 0), Limits(12 * HOUR, 1))
    assert [part.duration_ms for part in parts] == pytest.approx([26 * HOUR / 3] * 3, abs=2000)


def test_a_cut_is_at_the_key_frame_of_a_chapter_near_the_middle() -> None:
    chapters = [10 * 60_000, 6 * HOUR + 1500, 7 * HOUR + 500, 12 * HOUR]
    parts = plan_parts(13 * HOUR, 0, chapters, every(2000, 13 * HOUR, 0), Limits(12 * HOUR, 1))
    assert [part.start_ms for part in parts] == [0, 6 * HOUR + 2000]


def test_a_chapter_far_from_the_middle_makes_no_tiny_part() -> None:
    parts = plan_parts(13 * HOUR, 0, [2 * HOUR], every(2000, 13 * HOUR, 0), Limits(12 * HOUR, 1))
    assert [part.start_ms for part in parts] == [0, 6 * HOUR + HOUR // 2]


def test_size_alone_can_ask_for_parts() -> None:
    points = [CutPoint(0, 0), CutPoint(1000, 10), CutPoint(2000, 90), CutPoint(3000, 95)]
    parts = plan_parts(4000, 100, [], points, Limits(HOUR, 90))
    assert [(part.start_ms, part.end_ms) for part in parts] == [(0, 2000), (2000, 4000)]


def test_a_part_that_cannot_be_is_told_with_the_settings() -> None:
    with pytest.raises(CannotSplit, match="no key frame within the 10 s") as caught:
        plan_parts(60_000, 0, [], [CutPoint(0, 0), CutPoint(5000, 0)], Limits(10_000, 1))
    assert "UPLOAD_PART_DURATION" in caught.value.remedy
