from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vodkeep.capture.model import ByteRange, InitSection
from vodkeep.capture.playlist import (
    PlaylistError,
    is_muted_name,
    muted_alternatives,
    parse_media_playlist,
)

BASE = "https://edge.example/abc/chunked/index-dvr.m3u8?token=1"

TWITCH = """\
#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:10
#ID3-EQUIV-TDTG:2026-11-01T10:00:00
#EXT-X-PLAYLIST-TYPE:EVENT
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-TWITCH-ELAPSED-SECS:0.000
#EXT-X-TWITCH-TOTAL-SECS:29.433
#EXT-X-PROGRAM-DATE-TIME:2026-11-01T10:00:00.5Z
#EXTINF:10.000,
0.ts
#EXTINF:10.000,
1-unmuted.ts
#EXT-X-DISCONTINUITY
#EXTINF:9.433,
2-muted.ts
#EXT-X-ENDLIST
"""


def playlist(*lines: str, header: tuple[str, ...] = ("#EXT-X-TARGETDURATION:10",)) -> str:
    return "\n".join(["#EXTM3U", *header, *lines, ""])


def test_reads_a_playlist_as_twitch_writes_it() -> None:
    read = parse_media_playlist(TWITCH, BASE)

    assert read.ended
    assert read.target_duration_s == 10
    assert read.duration_us == 29_433_000
    assert [segment.uri for segment in read.segments] == [
        "https://edge.example/abc/chunked/0.ts",
        "https://edge.example/abc/chunked/1-unmuted.ts",
        "https://edge.example/abc/chunked/2-muted.ts",
    ]
    assert [segment.start_us for segment in read.segments] == [0, 10_000_000, 20_000_000]
    assert [segment.muted for segment in read.segments] == [False, True, True]
    assert [segment.discontinuity for segment in read.segments] == [False, False, True]
    assert read.segments[0].program_date_time == datetime(2026, 11, 1, 10, 0, 0, 500_000, UTC)


def test_a_growing_playlist_has_not_ended() -> None:
    assert not parse_media_playlist(TWITCH.replace("#EXT-X-ENDLIST\n", ""), BASE).ended


def test_media_sequence_numbers_the_segments() -> None:
    read = parse_media_playlist(playlist("#EXT-X-MEDIA-SEQUENCE:7", "#EXTINF:2,", "a.ts", "#EXTINF:2,", "b.ts"), BASE)
    assert [segment.media_sequence for segment in read.segments] == [7, 8]


def test_the_map_applies_until_the_next_one() -> None:
    read = parse_media_playlist(
        playlist(
            '#EXT-X-MAP:URI="init.mp4",BYTERANGE="720@0"',
            *("#EXTINF:2,", "1.m4s", "#EXTINF:2,", "2.m4s"),
            *('#EXT-X-MAP:URI="other.mp4"', "#EXTINF:2,", "3.m4s"),
        ),
        "https://e/x/",
    )
    assert [segment.init for segment in read.segments] == [
        InitSection("https://e/x/init.mp4", ByteRange(720, 0)),
        InitSection("https://e/x/init.mp4", ByteRange(720, 0)),
        InitSection("https://e/x/other.mp4"),
    ]


def test_a_byte_range_without_offset_goes_on_where_the_last_one_ended() -> None:
    # RFC 8216 section 4.3.2.2
    read = parse_media_playlist(
        playlist("#EXTINF:2,", "#EXT-X-BYTERANGE:100@50", "a.ts", "#EXTINF:2,", "#EXT-X-BYTERANGE:30", "a.ts"), BASE
    )
    assert [segment.byte_range for segment in read.segments] == [ByteRange(100, 50), ByteRange(30, 150)]


def test_a_gap_is_marked() -> None:
    read = parse_media_playlist(playlist("#EXT-X-GAP", "#EXTINF:2,", "a.ts", "#EXTINF:2,", "b.ts"), BASE)
    assert [segment.gap for segment in read.segments] == [True, False]


def test_lines_may_end_in_crlf_and_unknown_tags_are_ignored() -> None:
    read = parse_media_playlist(TWITCH.replace("#ID3", "#EXT-X-NEWER:1,2\n#ID3").replace("\n", "\r\n"), BASE)
    assert len(read.segments) == 3


def test_a_discontinuity_before_the_first_segment_means_nothing() -> None:
    read = parse_media_playlist(playlist("#EXT-X-DISCONTINUITY", "#EXTINF:2,", "a.ts"), BASE)
    assert not read.segments[0].discontinuity


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("", "does not begin with #EXTM3U", id="empty"),
        pytest.param("<html>503</html>", "does not begin with #EXTM3U", id="html"),
        pytest.param("#EXTM3U\n#EXTINF:2,\na.ts\n", "no EXT-X-TARGETDURATION", id="no target duration"),
        pytest.param(
            "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nx.m3u8\n", "line 2: this is a multivariant", id="multivariant"
        ),
        pytest.param(playlist("a.ts"), "line 3: a segment has no EXTINF", id="uri without duration"),
        pytest.param(playlist("#EXTINF:ten,", "a.ts"), "is not a number of seconds", id="duration in words"),
        pytest.param(playlist("#EXTINF:-1,", "a.ts"), "is outside 0 to 3600", id="negative duration"),
        pytest.param(playlist("#EXTINF:NaN,", "a.ts"), "is outside 0 to 3600", id="duration NaN"),
        pytest.param(playlist("#EXTINF:Infinity,", "a.ts"), "is outside 0 to 3600", id="endless duration"),
        pytest.param(playlist("#EXTINF:2,", "file:///etc/passwd"), "is not an http address", id="file address"),
        pytest.param(playlist("#EXTINF:2,", "http://[broken/a.ts"), "line 4", id="broken address"),
        pytest.param(playlist("#EXTINF:2,", "http://e:2026-11/a.ts"), "line 4", id="broken port"),
        pytest.param(playlist("#EXTINF:2,", "http://e:0/a.ts"), "is not an http address", id="port 0"),
        pytest.param(playlist("#EXTINF:2,", "a\x06.ts"), "is not an address", id="control character"),
        pytest.param(playlist("#EXTINF:2,", "#EXT-X-BYTERANGE:0@5", "a"), "range of no bytes", id="empty range"),
        pytest.param(playlist('#EXT-X-KEY:METHOD=AES-128,URI="k"', "#EXTINF:2,", "a.ts"), "encrypted", id="encrypted"),
        pytest.param(
            playlist("#EXTINF:2,", "#EXT-X-BYTERANGE:5", "a.ts"), "follows no other range", id="range from nowhere"
        ),
        pytest.param(playlist("#EXT-X-MAP:BYTERANGE=1", "#EXTINF:2,", "a"), "has no URI", id="map without uri"),
        pytest.param(playlist("#EXT-X-MEDIA-SEQUENCE:+1"), "is not a whole number", id="signed sequence"),
        pytest.param(playlist("#EXT-X-MEDIA-SEQUENCE:١"), "is not a whole number", id="sequence in other digits"),
        pytest.param(
            playlist("#EXTINF:2,", "a.ts", "#EXT-X-MEDIA-SEQUENCE:5"), "behind the first segment", id="late sequence"
        ),
        pytest.param(playlist("#EXTINF:2," + "x" * 20_000, "a.ts"), "longer than", id="endless line"),
    ],
)
def test_refuses_what_would_make_the_timeline_a_guess(text: str, complaint: str) -> None:
    with pytest.raises(PlaylistError, match=complaint):
        parse_media_playlist(text, BASE)


@given(st.text(max_size=200) | st.lists(st.sampled_from(TWITCH.splitlines()) | st.text(max_size=40)).map("\n".join))
@example("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1e9999999,\na")
@example("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-PROGRAM-DATE-TIME:0001-01-01T00:00:00+14:00")
def test_any_text_is_read_or_refused_never_a_crash(text: str) -> None:
    try:
        read = parse_media_playlist("#EXTM3U\n" + text, BASE)
    except PlaylistError:
        return
    position = 0
    for segment in read.segments:
        assert segment.start_us == position
        position = segment.end_us
    assert read.duration_us == position


@given(st.lists(st.integers(min_value=1, max_value=3_600_000), max_size=60), st.integers(min_value=0, max_value=10**9))
def test_the_timeline_is_the_exact_sum_of_all_durations(milliseconds: list[int], first: int) -> None:
    lines = [f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for number, duration in enumerate(milliseconds):
        lines += [f"#EXTINF:{duration / 1000:.3f},", f"{number}.ts"]

    read = parse_media_playlist(playlist(*lines), BASE)

    assert read.duration_us == sum(milliseconds) * 1000
    assert [segment.media_sequence for segment in read.segments] == list(range(first, first + len(milliseconds)))


def test_unmuted_is_tried_before_muted() -> None:
    segments = parse_media_playlist(TWITCH, BASE).segments
    assert muted_alternatives(segments[0]) == ("https://edge.example/abc/chunked/0.ts",)
    assert muted_alternatives(segments[1]) == (
        "https://edge.example/abc/chunked/1-unmuted.ts",
        "https://edge.example/abc/chunked/1-muted.ts",
    )


@pytest.mark.parametrize(
    ("name", "muted"), [("1.ts", False), ("1-muted.ts", True), ("1-unmuted.ts", False), ("muted.ts", False)]
)
def test_muted_names(name: str, muted: bool) -> None:
    assert is_muted_name(name) is muted
