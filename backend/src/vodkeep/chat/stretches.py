"""Stretches of a timeline: joined, cut out, measured. Pure; milliseconds, the start included and the end not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Stretch = tuple[int, int]


def joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """The same time without overlaps, in order; empty ones are left out."""
    whole: list[Stretch] = []
    for start, end in sorted(stretches):
        if start >= end:
            continue
        if whole and start <= whole[-1][1]:
            whole[-1] = (whole[-1][0], max(whole[-1][1], end))
        else:
            whole.append((start, end))
    return whole


def within(stretches: Iterable[Stretch], limits: Iterable[Stretch]) -> list[Stretch]:
    """What of ``stretches`` lies in ``limits``."""
    frames = joined(limits)
    return joined((max(start, first), min(end, last)) for start, end in joined(stretches) for first, last in frames)


def without(stretches: Iterable[Stretch], taken: Iterable[Stretch]) -> list[Stretch]:
    """What of ``stretches`` lies outside of ``taken``."""
    left: list[Stretch] = []
    gone = joined(taken)
    for start, end in joined(stretches):
        begin = start
        for first, last in gone:
            if last <= begin or first >= end:
                continue
            if first > begin:
                left.append((begin, first))
            begin = max(begin, last)
        if begin < end:
            left.append((begin, end))
    return left


def shrunk(stretches: Iterable[Stretch], margin: int) -> list[Stretch]:
    """Each stretch shorter by ``margin`` at both ends; short ones vanish."""
    return [(start + margin, end - margin) for start, end in joined(stretches) if end - start > 2 * margin]


def covered(stretches: Sequence[Stretch], whole: int) -> float:
    """The share of ``0..whole`` that they cover, 0 to 1; exactly 1.0 only without a gap."""
    if whole <= 0:
        return 0.0
    gaps = without([(0, whole)], stretches)
    if not gaps:
        return 1.0
    missing = sum(end - start for start, end in gaps)
    # A gap so short that the division rounds to one is a gap all the same.
    return min((whole - missing) / whole, 1 - 1e-9)
