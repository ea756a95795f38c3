"""Where a broadcast that is too long or too large for one video is cut: pure planning over its key frames.

YouTube takes 12 hours or 256 GB, whichever is less (support.google.com/youtube/answer/71673, "Upload videos longer
than 15 minutes", read in November 2026).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vodkeep.errors import PermanentError

# A cut so close to the beginning of a chapter begins the chapter, for those who watch.
_NEAR_MS = 15_000
# For the sake of a chapter a part may differ from an even one by this fraction of it, and not by more.
_UNEVEN = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one video may be."""

    duration_ms: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CutPoint:
    """A key frame: a part can begin here."""

    at_ms: int
    bytes_before: int  # of the film's bytes, those of everything that comes before; 0 for the first


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of the broadcast that is one video."""

    number: int  # 1..parts
    parts: int
    start_ms: int
    end_ms: int

    @property
    def duration_ms(self) -> int:
        """How long it is."""
        return self.end_ms - self.start_ms


class CannotSplit(PermanentError):
    """No part between two key frames is within the limits."""

    code = "cannot_split"


def is_too_much(duration_ms: int, size_bytes: int, limits: Limits) -> bool:
    """Whether a broadcast has to be split at all; then its key frames have to be known."""
    return duration_ms > limits.duration_ms or size_bytes > limits.size_bytes


def plan_parts(
    duration_ms: int, size_bytes: int, chapters: Iterable[int], keyframes: Sequence[CutPoint], limits: Limits
) -> list[Part]:
    """Divide 0..``duration_ms`` into as few parts as the limits allow; one part when it need not be divided.

    ``chapters`` are the milliseconds at which chapters begin, ``keyframes`` ascend. Each cut is at a key frame, as
    close to an even division as a chapter near a key frame allows, or without one at the key frame closest to it.
    The parts cover everything and do not overlap. Raises `CannotSplit` when two key frames lie further apart than a
    part may be.
    """
    if not is_too_much(duration_ms, size_bytes, limits):
        return [Part(1, 1, 0, duration_ms)]
    plan = _Plan(duration_ms, size_bytes, keyframes, limits)
    wanted = sorted(chapters)
    starts = [0]
    left = plan.fewest(0)
    while left > 1:
        low, high = plan.choices(starts[-1], left)
        starts.append(plan.choose(low, high, starts[-1], left, wanted))
        left -= 1
    edges = [*(plan.at(start) for start in starts), duration_ms]
    return [Part(number, len(starts), start, end) for number, (start, end) in enumerate(pairwise(edges), 1)]


class _Plan:
    """The places where a part may begin (0 and the key frames), by number, and the end."""

    def __init__(self, duration_ms: int, size_bytes: int, keyframes: Sequence[CutPoint], limits: Limits) -> None:
        inside: list[CutPoint] = []
        for point in keyframes:
            if (inside[-1].at_ms if inside else 0) < point.at_ms < duration_ms:
                inside.append(point)
        self._times = [0, *(point.at_ms for point in inside), duration_ms]
        self._sizes = [0, *(point.bytes_before for point in inside), size_bytes]
        self._limits = limits

    def at(self, place: int) -> int:
        return self._times[place]

    def furthest(self, start: int) -> int:
        """The last place at which a part that begins at ``start`` may end."""
        end = bisect_right(self._times, self._times[start] + self._limits.duration_ms)
        end = min(end, bisect_right(self._sizes, self._sizes[start] + self._limits.size_bytes)) - 1
        if end <= start:
            raise CannotSplit(
                f"The video cannot be split: from {self._times[start] / 1000:.1f} s on there is no key frame within "
                f"the {self._limits.duration_ms / 1000:.0f} s and {self._limits.size_bytes} bytes of one part.",
                remedy="Raise UPLOAD_PART_DURATION or UPLOAD_PART_SIZE, or mark the broadcast with skip-upload.",
            )
        return end

    def fewest(self, start: int) -> int:
        """How many parts there have to be from ``start`` on."""
        parts, last = 0, len(self._times) - 1
        while start < last:
            start = self.furthest(start)
            parts += 1
        return parts

    def choices(self, start: int, left: int) -> tuple[int, int]:
        """The first and the last place where this part may end, so that ``left - 1`` more reach the end."""
        low, high = start + 1, self.furthest(start)
        last = high
        while low < last:  # The later a part ends, the fewer have to follow.
            middle = (low + last) // 2
            if self.fewest(middle) <= left - 1:
                last = middle
            else:
                low = middle + 1
        return low, high

    def choose(self, low: int, high: int, start: int, left: int, chapters: Sequence[int]) -> int:
        """The place from ``low`` to ``high`` that divides what is left most evenly, at a chapter if there is one."""
        even = (self._times[-1] - self._times[start]) // left
        ideal = self._times[start] + even
        near = [
            place
            for chapter in chapters
            if abs(chapter - ideal) <= even // _UNEVEN
            if abs(self._times[place := self._closest(low, high, chapter)] - chapter) <= _NEAR_MS
        ]
        if near:
            return min(near, key=lambda place: abs(self._times[place] - ideal))
        return self._closest(low, high, ideal)

    def _closest(self, low: int, high: int, moment: int) -> int:
        after = bisect_left(self._times, moment, low, high + 1)
        beside = [place for place in (after - 1, after) if low <= place <= high]
        return min(beside, key=lambda place: abs(self._times[place] - moment))
