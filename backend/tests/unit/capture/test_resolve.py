from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.capture.client import read_video_exists
from vodkeep.capture.model import Chapter
from vodkeep.capture.rendition import Rendition
from vodkeep.capture.resolve import read_rendition, read_resolved
from vodkeep.errors import PermanentError, ServerError, TransientError

INFO: dict[str, object] = {
    "id": "v123",
    "title": "A title",
    "uploader": "NightOtter",
    "uploader_id": "nightotter",
    "timestamp": 1793530800,
    "duration": 120,
    "is_live": False,
    "url": "https://edge/chunked/index-dvr.m3u8",
    "format_id": "1080p60__source_",
    "tbr": 6000.5,
    "thumbnails": [{"url": "https://t/small.jpg"}, {"url": "https://t/large.jpg"}],
    "chapters": [{"start_time": 0, "end_time": 60, "title": "Celeste"}, {"title": "no times"}],
    "_version": {"version": "2026.10.26"},
}


def test_reads_what_ytdlp_says() -> None:
    resolved = read_resolved(json.dumps(INFO).encode(), "123")

    assert resolved.channel == "nightotter"
    assert resolved.channel_name == "NightOtter"
    assert resolved.date == datetime.fromtimestamp(1793530800, UTC)
    assert resolved.bitrate_bps == 6_000_500
    assert resolved.thumbnail_url == "https://t/large.jpg"
    assert resolved.chapters == (Chapter(0, 60_000_000, "Celeste"),)
    assert resolved.resolver == "yt-dlp 2026.10.26"


@pytest.mark.parametrize(
    "output", [b"", b"null", b"[]", b"{}", b'{"url": 5}', b'{"url": "file:///etc/passwd"}', b"\xff"]
)
def test_output_without_a_playlist_is_the_tools_failure(output: bytes) -> None:
    with pytest.raises(TransientError) as caught:
        read_resolved(output, "123")
    assert caught.value.code == "tool_failed"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(INFO)), anything))
def test_wrong_types_anywhere_never_crash(wrong: dict[str, object]) -> None:
    with suppress(TransientError):
        read_resolved(json.dumps({**INFO, **wrong}).encode(), "123")


def test_a_null_video_without_errors_does_not_exist() -> None:
    assert read_video_exists(200, b'{"data": {"video": null}, "extensions": {}}') is False
    assert read_video_exists(200, b'{"data": {"video": {"id": "1"}}}') is True


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(200, b'{"errors": [{"message": "service error"}], "data": {"video": null}}', id="errors"),
        pytest.param(200, b'{"data": null}', id="no data"),
        pytest.param(200, b'{"data": {}}', id="no video field"),
        pytest.param(200, b"<html>", id="html"),
        pytest.param(503, b'{"data": {"video": null}}', id="5xx"),
    ],
)
def test_a_service_fault_is_never_a_deletion(status: int, body: bytes) -> None:
    with pytest.raises(ServerError):
        read_video_exists(status, body)


def test_the_channel_and_the_list_decide_which_rendition_is_taken() -> None:
    asked: list[tuple[str, object]] = []

    def choose(channel: str, listed: object) -> Rendition | None:
        asked.append((channel, listed))
        return Rendition("480p30", "https://edge/480p30/index-dvr.m3u8", 480, 30.0, 1_200_000, source=False)

    resolved = read_resolved(json.dumps({**INFO, "formats": [1, 2]}).encode(), "123", choose)

    assert asked == [("nightotter", [1, 2])]
    assert (resolved.format_id, resolved.playlist_url) == ("480p30", "https://edge/480p30/index-dvr.m3u8")
    assert resolved.bitrate_bps == 1_200_000


def test_without_a_choice_it_is_ytdlps() -> None:
    resolved = read_resolved(json.dumps(INFO).encode(), "123", lambda _channel, _listed: None)

    assert (resolved.format_id, resolved.playlist_url) == ("1080p60__source_", "https://edge/chunked/index-dvr.m3u8")


OFFERED = [
    {"format_id": name, "url": f"https://edge/{name}/index-dvr.m3u8", "protocol": "m3u8_native", "tbr": bits}
    for name, bits in (("160p30", 300), ("720p60", 3000))
]


def test_a_rendition_by_its_name_is_taken_whatever_is_better() -> None:
    resolved = read_rendition(json.dumps({**INFO, "formats": OFFERED}).encode(), "123", "160p30")

    assert (resolved.format_id, resolved.playlist_url) == ("160p30", "https://edge/160p30/index-dvr.m3u8")
    assert resolved.bitrate_bps == 300_000


def test_a_rendition_that_is_gone_is_said_so_and_no_other_is_taken() -> None:
    with pytest.raises(PermanentError, match=r"captured as 1440p60, .* only as 160p30, 720p60 now") as raised:
        read_rendition(json.dumps({**INFO, "formats": OFFERED}).encode(), "123", "1440p60")
    assert raised.value.code == "rendition_gone"


def test_where_nothing_is_listed_ytdlps_own_choice_has_to_be_the_one() -> None:
    assert read_rendition(json.dumps(INFO).encode(), "123", "1080p60__source_").format_id == "1080p60__source_"
    with pytest.raises(PermanentError):
        read_rendition(json.dumps(INFO).encode(), "123", "720p60")
