from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from vodkeep.capture.ledger import completeness, write_ledger
from vodkeep.capture.model import (
    FetchedSegment,
    Hole,
    HoleCause,
    LedgerStretch,
    MediaPlaylist,
    PacketCounts,
    Segment,
    Source,
)


def playlist(count: int, duration_us: int = 10_000_000) -> MediaPlaylist:
    segments = tuple(
        Segment(number, number, f"http://e/{number}.ts", number * duration_us, duration_us) for number in range(count)
    )
    return MediaPlaylist(segments, 10, ended=True)


def fetched(number: int, *, muted: bool = False) -> FetchedSegment:
    return FetchedSegment(number, f"{number}.ts", 1000, PacketCounts(300, 470), muted)


def test_neighbours_of_one_kind_become_one_stretch() -> None:
    have = {0: fetched(0), 1: fetched(1), 2: fetched(2, muted=True), 4: fetched(4)}
    holes = {3: Hole(3, HoleCause.GONE, "404")}

    ledger = write_ledger(playlist(5), have, holes)

    assert ledger == (
        LedgerStretch(0, 20_000_000, Source.VOD),
        LedgerStretch(20_000_000, 30_000_000, Source.VOD, "muted"),
        LedgerStretch(30_000_000, 40_000_000, Source.MISSING, "gone"),
        LedgerStretch(40_000_000, 50_000_000, Source.VOD),
    )
    assert completeness(ledger) == 0.8


def test_what_was_not_proven_is_missing() -> None:
    assert write_ledger(playlist(1), {}, {}) == (LedgerStretch(0, 10_000_000, Source.MISSING, "unreachable"),)


def test_nothing_is_not_complete() -> None:
    assert completeness(()) == 0.0


@given(st.lists(st.tuples(st.booleans(), st.integers(min_value=0, max_value=10**12)), min_size=1, max_size=30))
def test_the_ledger_accounts_for_everything_and_one_means_no_hole(parts: list[tuple[bool, int]]) -> None:
    start = 0
    segments = []
    for number, (_, duration) in enumerate(parts):
        segments.append(Segment(number, number, "http://e/x.ts", start, duration))
        start += duration
    have = {number: fetched(number) for number, (there, _) in enumerate(parts) if there}

    ledger = write_ledger(MediaPlaylist(tuple(segments), 10, ended=True), have, {})

    assert ledger[0].start_us == 0
    assert ledger[-1].end_us == start
    assert all(before.end_us == after.start_us for before, after in pairwise(ledger))
    assert (completeness(ledger) == 1.0) is all(there for there, _ in parts)
