"""Chapters as YouTube reads them out of a description.

Its rules (support.google.com/youtube/answer/9884579, "Add your own chapters", read in November 2026): the first
timestamp is 0:00, there are at least three of them in ascending order, and each chapter lasts at least ten seconds. A
list that breaks one of them is no list of chapters at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

FEWEST_CHAPTERS = 3
SHORTEST_S = 10
BEGINNING = "Start"
"""The name of what comes before the first chapter of a broadcast whose list begins late."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """A named stretch, which lasts until the next one begins."""

    start_ms: int
    title: str  # one line, not empty


def youtube_chapters(chapters: Iterable[Chapter], start_ms: int, end_ms: int) -> tuple[Chapter, ...]:
    """The chapters of the stretch from ``start_ms`` to ``end_ms``, counted from its start, in whole seconds.

    Neighbours of the same title are one. One that would be too short gives its time to the one before it, the first
    one to the next. Empty when fewer than three are left, which YouTube would not take.
    """
    found = _within(chapters, start_ms, end_ms)
    settled: list[Chapter] = []
    for (second, title), (end, _) in pairwise([*found, ((end_ms - start_ms) // 1000, "")]):
        begin = second if settled else 0
        if end - begin >= SHORTEST_S and not (settled and settled[-1].title == title):
            settled.append(Chapter(begin * 1000, title))
    return tuple(settled) if len(settled) >= FEWEST_CHAPTERS else ()


def _within(chapters: Iterable[Chapter], start_ms: int, end_ms: int) -> list[tuple[int, str]]:
    """Second and title of those that begin in the stretch, and of the one that is under way when it begins."""
    found: list[tuple[int, str]] = []
    for chapter in sorted(chapters, key=lambda chapter: chapter.start_ms):
        title = " ".join(chapter.title.split())
        if chapter.start_ms >= end_ms:
            break
        if chapter.start_ms <= start_ms:
            found = [(0, title or BEGINNING)]
        elif title:
            found.append(((chapter.start_ms - start_ms) // 1000, title))
    if found and found[0][0] > 0:
        found.insert(0, (0, BEGINNING))
    return found


def chapters_text(chapters: Sequence[Chapter]) -> str:
    """A line for each of what `youtube_chapters` made; empty without any."""
    return "\n".join(f"{timestamp(chapter.start_ms)} {chapter.title}" for chapter in chapters)


def timestamp(moment_ms: int) -> str:
    """A moment as YouTube links it, such as ``0:00``, ``59:59`` or ``1:00:00``."""
    minutes, seconds = divmod(moment_ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
