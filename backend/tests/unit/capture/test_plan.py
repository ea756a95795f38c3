"""What a plan keeps when the playlist changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from vodkeep.capture.model import FetchedSegment, MediaPlaylist, PacketCounts
from vodkeep.capture.plan import is_good_enough, match_fetched, merge_playlists, renumbered
from vodkeep.capture.playlist import parse_media_playlist, write_media_playlist

BASE = "https://edge.example/vod/index.m3u8"


def playlist(names: Sequence[str], *, first: int = 0, base: str = BASE, cuts: Sequence[str] = ()) -> MediaPlaylist:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:10", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for name in names:
        if name in cuts:
            lines.append("#EXT-X-DISCONTINUITY")
        lines += ["#EXTINF:10,", name]
    return parse_media_playlist("\n".join([*lines, "#EXT-X-ENDLIST"]), base)


def numbered(*numbers: int) -> list[str]:
    return [f"{number}.ts" for number in numbers]


def shape(merged: MediaPlaylist) -> list[tuple[int, str, bool]]:
    return [(segment.media_sequence, segment.name, segment.gap) for segment in merged.segments]


def fetched(number: int, name: str) -> FetchedSegment:
    return FetchedSegment(number, name, 1000, PacketCounts(1, 1), "-muted" in name)


@pytest.mark.parametrize("first", [0, 2], ids=["numbered from its own start", "numbered as before"])
def test_a_lost_beginning_stays_in_its_place(first: int) -> None:
    merged = merge_playlists(playlist(numbered(0, 1, 2, 3, 4)), playlist(numbered(2, 3, 4), first=first))
    assert shape(merged) == [(0, "0.ts", True), (1, "1.ts", True), (2, "2.ts", False), (3, "3.ts", False),
                             (4, "4.ts", False)]  # fmt: skip
    assert [segment.start_us for segment in merged.segments] == [0, 10**7, 2 * 10**7, 3 * 10**7, 4 * 10**7]
    assert [segment.index for segment in merged.segments] == [0, 1, 2, 3, 4]


def test_a_lost_middle_and_a_lost_end_stay_in_their_places() -> None:
    merged = merge_playlists(playlist(numbered(0, 1, 2, 3, 4, 5)), playlist(numbered(0, 1, 4)))
    assert [segment.gap for segment in merged.segments] == [False, False, True, True, False, True]
    assert [segment.name for segment in merged.segments] == numbered(0, 1, 2, 3, 4, 5)


def test_what_comes_back_is_no_gap_any_more() -> None:
    whole = playlist(numbered(0, 1, 2, 3))
    once = merge_playlists(whole, playlist(numbered(2, 3)))
    kept = parse_media_playlist(write_media_playlist(once), BASE)
    assert kept == once
    assert merge_playlists(kept, whole) is whole
    twice = merge_playlists(kept, playlist(numbered(0, 1)))
    assert [segment.gap for segment in twice.segments] == [False, False, True, True]


def test_the_same_playlist_is_left_alone_whatever_its_token() -> None:
    before = playlist(numbered(0, 1, 2))
    now = playlist(["0.ts", "1-muted.ts", "2.ts"], base="https://other.example/new/index.m3u8?token=2")
    assert merge_playlists(before, now) is now


def test_what_is_new_is_taken_in() -> None:
    merged = merge_playlists(playlist(numbered(0, 1, 3)), playlist(numbered(1, 2, 3, 4)))
    assert shape(merged) == [(0, "0.ts", True), (1, "1.ts", False), (2, "2.ts", False), (3, "3.ts", False),
                             (4, "4.ts", False)]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (numbered(0, 1), numbered(5, 6)),
        (numbered(0, 1, 2), numbered(1, 0, 2)),
        (["a/0.ts", "b/0.ts", "c/1.ts"], ["c/1.ts"]),
        (numbered(0, 1), ["0.ts", "a/0.ts"]),
    ],
    ids=["nothing in common", "another order", "names twice before", "names twice now"],
)
def test_what_cannot_be_compared_is_not_merged(before: list[str], now: list[str]) -> None:
    current = playlist(now)
    assert merge_playlists(playlist(before), current) is current


def test_a_discontinuity_that_became_the_beginning_is_remembered() -> None:
    before = playlist(numbered(0, 1, 2), cuts=["1.ts"])
    merged = merge_playlists(before, playlist(numbered(1, 2), cuts=["1.ts"]))
    assert [segment.discontinuity for segment in merged.segments] == [False, True, False]


def test_new_addresses_come_under_the_numbers_of_the_capture_under_way() -> None:
    under_way = playlist(numbered(3, 4, 5), first=100)
    renewed = playlist(["0.ts", "3.ts", "5-muted.ts"], base="https://other.example/new/index.m3u8")
    assert shape(renumbered(renewed, like=under_way)) == [(100, "3.ts", False), (102, "5-muted.ts", False)]


def test_fetched_segments_are_known_by_their_names() -> None:
    matched = match_fetched(
        playlist(numbered(5, 6, 7)), [fetched(0, "0.ts"), fetched(5, "5.ts"), fetched(0, "6-muted.ts")]
    )
    assert {number: item.name for number, item in matched.items()} == {0: "5.ts", 1: "6-muted.ts"}


@pytest.mark.parametrize("order", [("0.ts", "0-muted.ts"), ("0-muted.ts", "0.ts")])
def test_of_two_the_one_with_sound_counts(order: tuple[str, str]) -> None:
    matched = match_fetched(playlist(["0-muted.ts"]), [fetched(0, name) for name in order])
    assert matched[0].name == "0.ts"


def test_where_names_occur_twice_numbers_decide() -> None:
    matched = match_fetched(
        playlist(["a/0.ts", "b/0.ts"]), [fetched(1, "0.ts"), fetched(2, "0.ts"), fetched(0, "1.ts")]
    )
    assert matched == {1: fetched(1, "0.ts")}


@pytest.mark.parametrize(
    ("offered", "have", "enough"),
    [
        ("0.ts", "0.ts", True),
        ("0-muted.ts", "0.ts", True),
        ("0-muted.ts", "0-muted.ts", True),
        ("0-unmuted.ts", "0-muted.ts", True),
        ("0.ts", "0-muted.ts", False),
    ],
)
def test_a_segment_with_its_sound_is_never_given_up(offered: str, have: str, enough: bool) -> None:
    assert is_good_enough(playlist([offered]).segments[0], fetched(0, have)) is enough


def test_a_playlist_is_written_as_it_was_read() -> None:
    text = "\n".join(
        ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:4", "#EXT-X-MEDIA-SEQUENCE:17",
         '#EXT-X-MAP:URI="init.mp4",BYTERANGE="700@16"', "#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:05.678Z",
         "#EXT-X-BYTERANGE:1000@716", "#EXTINF:3.999999,", "all.mp4", "#EXT-X-BYTERANGE:500", "#EXTINF:0.000001,live",
         "all.mp4", "#EXT-X-DISCONTINUITY", '#EXT-X-MAP:URI="other.mp4"', "#EXT-X-GAP", "#EXTINF:4,",
         "https://elsewhere.example/3-muted.mp4?token=x", "#EXT-X-ENDLIST"]
    )  # fmt: skip
    read = parse_media_playlist(text, BASE)
    assert parse_media_playlist(write_media_playlist(read), BASE) == read
    assert read.segments[1].byte_range is not None
    unfinished = replace(read, ended=False, segments=())
    assert parse_media_playlist(write_media_playlist(unfinished), BASE) == unfinished


def test_merging_a_broadcast_of_two_days_takes_no_square_of_time() -> None:
    """A playlist of 20,000 segments takes no more per segment than a short one."""
    names = numbered(*range(20_000))
    merged = merge_playlists(playlist(names), playlist(names[400:]))
    assert sum(segment.gap for segment in merged.segments) == 400
    matched = match_fetched(merged, [fetched(number, name) for number, name in enumerate(names)])
    assert len(matched) == len(names)
