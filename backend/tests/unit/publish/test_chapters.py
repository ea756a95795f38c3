from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.publish.chapters import Chapter, chapters_text, timestamp, youtube_chapters

CHAPTERS = st.lists(
    st.builds(Chapter, st.integers(0, 400_000), st.text(st.sampled_from("ab \n"), max_size=3)), max_size=12
)


def read_as_youtube(text: str, duration_s: int) -> list[int] | None:
    """The beginnings in seconds, or None where the rules of the help page are broken."""
    starts = []
    for line in text.splitlines():
        stamp, _, title = line.partition(" ")
        if not title.strip():
            return None
        seconds = 0
        for number in stamp.split(":"):
            seconds = 60 * seconds + int(number)
        starts.append(seconds)
    lengths = [end - start for start, end in zip(starts, [*starts[1:], duration_s], strict=True)]
    fine = len(starts) >= 3 and starts[0] == 0 and all(length >= 10 for length in lengths)
    return starts if fine else None


@given(CHAPTERS, st.integers(0, 200_000), st.integers(1, 300_000))
def test_whatever_is_written_youtube_takes(chapters: list[Chapter], start_ms: int, length_ms: int) -> None:
    made = youtube_chapters(chapters, start_ms, start_ms + length_ms)
    text = chapters_text(made)
    assert not text or read_as_youtube(text, length_ms // 1000) is not None
    assert all(one.title != other.title for one, other in pairwise(made))


@given(CHAPTERS, st.integers(0, 200_000), st.integers(1, 300_000))
def test_a_long_chapter_of_its_own_title_is_always_there(
    chapters: list[Chapter], start_ms: int, length_ms: int
) -> None:
    end_ms = start_ms + length_ms
    made = youtube_chapters(chapters, start_ms, end_ms)
    starts = sorted({chapter.start_ms for chapter in chapters} | {end_ms})
    for chapter in chapters:
        if not made or not start_ms < chapter.start_ms < end_ms or not chapter.title.strip():
            continue
        following = next(moment for moment in starts if moment > chapter.start_ms)
        alone = sum(other.start_ms == chapter.start_ms for other in chapters) == 1
        if alone and min(following, end_ms) - chapter.start_ms >= 12_000:
            second = (chapter.start_ms - start_ms) // 1000 * 1000
            under_way = [one for one in made if one.start_ms <= second]
            assert under_way[-1].title == " ".join(chapter.title.split())


@pytest.mark.parametrize(
    ("starts_s", "text"),
    [
        ([0, 60, 120], "0:00 a\n1:00 b\n2:00 c"),
        ([0, 60], ""),
        ([30, 60, 120], "0:00 Start\n0:30 a\n1:00 b\n2:00 c"),
        ([4, 60, 120], "0:00 a\n1:00 b\n2:00 c"),
        ([0, 60, 65, 120], "0:00 a\n1:05 c\n2:00 d"),
        ([0, 3, 60, 120], "0:00 b\n1:00 c\n2:00 d"),
        ([0, 60, 120, 179], "0:00 a\n1:00 b\n2:00 c"),
        ([0, 60, 120, 180], "0:00 a\n1:00 b\n2:00 c"),
    ],
    ids=["plain", "two", "late", "a little late", "short", "short first", "short last", "behind the end"],
)
def test_chapters_of_a_broadcast_of_three_minutes(starts_s: list[int], text: str) -> None:
    chapters = [Chapter(start * 1000, "abcd"[number]) for number, start in enumerate(starts_s)]
    assert chapters_text(youtube_chapters(chapters, 0, 180_000)) == text


def test_a_part_has_its_own_beginning() -> None:
    chapters = [Chapter(moment * 60_000, name) for moment, name in ((0, "a"), (50, "b"), (70, "c"), (90, "d"))]
    assert chapters_text(youtube_chapters(chapters, 3_600_000, 6_000_000)) == "0:00 b\n10:00 c\n30:00 d"


def test_an_hour_has_three_numbers() -> None:
    assert [timestamp(moment) for moment in (0, 59_999, 3_599_000, 3_600_000)] == ["0:00", "0:59", "59:59", "1:00:00"]
