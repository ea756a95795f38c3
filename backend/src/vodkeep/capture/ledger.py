"""The ledger: for each stretch of the timeline, where the picture came from or why it is missing."""

from __future__ import annotations

from collections.abc import Mapping

from vodkeep.capture.model import (
    FetchedSegment,
    Hole,
    HoleCause,
    LedgerStretch,
    MediaPlaylist,
    Segment,
    Source,
)


def write_ledger(
    playlist: MediaPlaylist, fetched: Mapping[int, FetchedSegment], holes: Mapping[int, Hole]
) -> tuple[LedgerStretch, ...]:
    """Account for every microsecond of ``playlist``; both mappings are keyed by media sequence.

    Neighbours of the same kind become one stretch. A segment that is in neither mapping is missing too: what was
    not proven is not claimed.
    """
    stretches: list[LedgerStretch] = []
    for segment in playlist.segments:
        source, reason = _account(segment, fetched, holes)
        last = stretches[-1] if stretches else None
        if last is not None and (last.source, last.reason) == (source, reason):
            stretches[-1] = LedgerStretch(last.start_us, segment.end_us, source, reason)
        else:
            stretches.append(LedgerStretch(segment.start_us, segment.end_us, source, reason))
    return tuple(stretches)


def completeness(ledger: tuple[LedgerStretch, ...]) -> float:
    """The share of the timeline that has a picture, 0 to 1; exactly 1.0 only without any hole."""
    total = sum(stretch.end_us - stretch.start_us for stretch in ledger)
    kept = sum(stretch.end_us - stretch.start_us for stretch in ledger if stretch.source is not Source.MISSING)
    if any(stretch.source is Source.MISSING for stretch in ledger):
        # A hole so short that the division rounds to one is a hole all the same.
        return min(kept / total, 1 - 1e-9) if total else 0.0
    return 1.0 if ledger else 0.0


def _account(segment: Segment, fetched: Mapping[int, FetchedSegment], holes: Mapping[int, Hole]) -> tuple[Source, str]:
    have = fetched.get(segment.media_sequence)
    if have is not None:
        return Source.VOD, "muted" if have.muted else ""
    hole = holes.get(segment.media_sequence)
    return Source.MISSING, hole.cause if hole is not None else HoleCause.UNREACHABLE
