"""Which rendition is taken for a wish."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.capture.rendition import choose_rendition, read_renditions
from vodkeep.quality import Kind, Quality, parse_quality


def rendition(name: str, height: int | None = None, fps: float | None = None, **rest: Any) -> dict[str, Any]:
    """An entry of ``formats`` as yt-dlp makes it of Twitch's playlist."""
    return {
        "format_id": name,
        "url": f"https://edge/{name}/index-dvr.m3u8",
        "protocol": "m3u8_native",
        "height": height,
        "fps": fps,
        "vcodec": "avc1.4D401F",
        "acodec": "mp4a.40.2",
        "has_drm": False,
        "tbr": 1000.0,
        **rest,
    }


SOUND = rendition("Audio_Only", vcodec="none", tbr=160.0)
SOURCE = rendition("1080p60", 1080, 60.0, format_note="Source", tbr=6000.0)
STORYBOARD = {"format_id": "sb0", "protocol": "mhtml", "vcodec": "none", "acodec": "none", "url": "https://t/sb.jpg"}
LADDER = [
    STORYBOARD,
    SOUND,
    rendition("160p30", 160, 30.0),
    rendition("360p30", 360, 30.0),
    rendition("480p30", 480, 30.0),
    rendition("720p30", 720, 30.0),
    rendition("720p60", 720, 59.94),
    SOURCE,
]


def taken(formats: object, wish: str) -> str | None:
    chosen = choose_rendition(formats, parse_quality(wish))
    return chosen.format_id if chosen is not None else None


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ("best", "1080p60"),
        ("audio", "Audio_Only"),
        ("1080p60", "1080p60"),
        ("1080p", "1080p60"),
        ("1080p30", "720p60"),  # the lower height moves as it did, the right height would be more than asked for
        ("720p", "720p60"),
        ("720p60", "720p60"),  # 59.94 counts as 60
        ("720p30", "720p30"),
        ("480p60", "480p30"),
        ("480p", "480p30"),
        ("2160p", "1080p60"),
        ("900p60", "720p60"),
        ("144p", "160p30"),  # nothing lower, so the next higher
        ("160p15", "160p30"),
    ],
)
def test_of_a_usual_ladder(wish: str, expected: str) -> None:
    assert taken(LADDER, wish) == expected
    assert taken(LADDER[::-1], wish) == expected


@pytest.mark.parametrize(
    ("formats", "wish", "expected"),
    [
        pytest.param([rendition("a", 1080, 60.0, tbr=9000.0), SOURCE], "best", "1080p60", id="source before bits"),
        pytest.param([rendition("a", 1440, 30.0), SOURCE], "best", "a", id="height before source"),
        pytest.param([rendition("a", 720, 30.0), rendition("b", 720, 60.0)], "best", "b", id="frames"),
        pytest.param([rendition("a", 720, 30.0), rendition("b", 720, 30.0, tbr=2000.0)], "best", "b", id="bits"),
        pytest.param([*LADDER[:-1], rendition("chunked")], "best", "chunked", id="source of unknown height"),
        pytest.param([*LADDER[:-1], rendition("chunked")], "2160p", "720p60", id="unknown height is no answer"),
        pytest.param([rendition("chunked"), SOUND], "480p", "chunked", id="unless there is no other"),
        pytest.param([rendition("1080p60__source_"), LADDER[2]], "1080p60", "1080p60__source_", id="name tells"),
        pytest.param([rendition("720p", 720), LADDER[2]], "720p60", "720p", id="unknown frame rate"),
        pytest.param(LADDER[2:], "audio", "160p30", id="no sound alone: the smallest picture"),
        pytest.param([STORYBOARD, SOUND], "best", "Audio_Only", id="nothing but sound"),
        pytest.param([STORYBOARD, SOUND], "720p", "Audio_Only", id="nothing but sound for a height"),
        pytest.param([SOUND, rendition("mute", 1080, 60.0, acodec="none"), LADDER[3]], "best", "360p30", id="mute"),
        pytest.param([rendition("drm", 1080, 60.0, has_drm=True), LADDER[3]], "best", "360p30", id="encrypted"),
        pytest.param([rendition("dash", 1080, 60.0, protocol="http_dash_segments"), LADDER[3]], "best", "360p30"),
        pytest.param([rendition("file", 1080, 60.0, url="file:///etc/passwd"), LADDER[3]], "best", "360p30"),
        pytest.param([STORYBOARD], "best", None, id="nothing"),
        pytest.param([], "audio", None, id="empty"),
        pytest.param(None, "best", None, id="absent"),
        pytest.param({"0": SOURCE}, "best", None, id="not a list"),
    ],
)
def test_of_unusual_lists(formats: object, wish: str, expected: str | None) -> None:
    assert taken(formats, wish) == expected


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
entries = values | st.builds(
    lambda name, wrong: {**rendition(name, 720, 30.0), **wrong},
    st.sampled_from(["720p60", "chunked", "Audio_Only", "9999p999"]),
    st.dictionaries(st.sampled_from([*SOURCE]), values, max_size=3),
)
wishes = st.sampled_from(["best", "audio", "720p", "1080p60", "10p1", "9999p999"]).map(parse_quality)


@given(values | st.lists(entries, max_size=6), wishes)
def test_no_list_is_too_strange(formats: object, wish: Quality) -> None:
    chosen = choose_rendition(formats, wish)
    assert (chosen is None) == (read_renditions(formats) == [])


@given(
    st.lists(
        st.builds(
            lambda number, height, fps: rendition(f"r{number}", height, fps),
            st.integers(0, 99),
            st.integers(100, 2160),
            st.sampled_from([25.0, 30.0, 50.0, 60.0]),
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(100, 2160),
    st.sampled_from([None, 30, 60]),
)
def test_never_more_than_asked_for_when_there_is_less(
    formats: list[dict[str, Any]], height: int, fps: int | None
) -> None:
    chosen = choose_rendition([SOUND, *formats], Quality(Kind.PICTURE, height, fps))
    assert chosen is not None
    assert chosen.height is not None
    if chosen.height > height:
        assert min(entry["height"] for entry in formats) >= height
    others = [entry["height"] for entry in formats if entry["height"] < height]
    if chosen.height < height:
        assert chosen.height == max(others)


@pytest.mark.parametrize(
    "text", ["", "hd", "720", "p60", "720p 60", "720i", "7p", "99999p", "720p0", "720p1000", "٧٢٠p", "source"]
)
def test_a_wish_that_is_none_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be best, audio, or a height"):
        parse_quality(text)


@pytest.mark.parametrize("text", ["best", "audio", "720p", "1080p60"])
def test_a_wish_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_quality(text.upper())) == text


def test_the_same_from_other_hosts_is_told() -> None:
    """Redundant streams, RFC 8216 section 6.2.4."""
    twins = [
        {**SOURCE, "format_id": f"1080p60-{number}", "url": f"https://edge{number}/index.m3u8"} for number in range(3)
    ]
    again = {**SOURCE, "format_id": "again", "url": "https://edge0/other.m3u8"}
    lower = {**SOURCE, "format_id": "lower", "url": "https://edge4/index.m3u8", "tbr": 3000.0}
    chosen = choose_rendition([*LADDER[:-1], lower, *twins, again], parse_quality("best"))
    assert chosen is not None
    assert (chosen.format_id, chosen.url) == ("1080p60-0", "https://edge0/index.m3u8")
    assert chosen.other_urls == ("https://edge1/index.m3u8", "https://edge2/index.m3u8")


def test_what_does_not_tell_its_bits_is_not_taken_for_the_same() -> None:
    bare = [{"format_id": f"{n}", "url": f"https://edge{n}/x.m3u8", "protocol": "m3u8_native"} for n in range(2)]
    chosen = choose_rendition(bare, parse_quality("best"))
    assert chosen is not None
    assert chosen.other_urls == ()
