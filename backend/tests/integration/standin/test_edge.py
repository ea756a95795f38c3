"""Playlists, segments and pictures of the edge."""

from __future__ import annotations

import re

import pytest
import urllib3

from support.edge_player import EdgePlayer, open_video
from vodkeep_standin.media.build import count_packets
from vodkeep_standin.scenario import ids
from vodkeep_standin.server import Standin


@pytest.fixture
def player(http: urllib3.PoolManager, standin: Standin) -> EdgePlayer:
    return open_video(http, standin, ids.PLAIN)


def test_media_playlist_of_a_finished_vod(player: EdgePlayer) -> None:
    lines = player.playlist().splitlines()
    assert lines[:3] == ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:2"]
    assert "#EXT-X-PLAYLIST-TYPE:EVENT" in lines
    assert "#EXT-X-TWITCH-TOTAL-SECS:30.000" in lines
    assert "#EXT-X-PROGRAM-DATE-TIME:2026-10-31T18:00:02.000Z" in lines
    assert lines[-2:] == ["14.ts", "#EXT-X-ENDLIST"]
    assert lines.count("#EXTINF:2.000,") == 15


def test_segments_are_what_the_catalogue_of_media_says(player: EdgePlayer, standin: Standin) -> None:
    for name, segment in zip(player.names(), standin.media(ids.PLAIN).source.segments, strict=True):
        reply = player.get(name)
        assert (reply.status, reply.headers["Content-Type"]) == (200, "video/MP2T")
        assert int(reply.headers["Content-Length"]) == len(reply.data) == segment.size_bytes
        assert reply.data[::188] == b"\x47" * (len(reply.data) // 188)
        assert count_packets(reply.data) == (segment.video_packets, segment.audio_packets)


@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [
        pytest.param("bytes=0-187", 206, slice(0, 188), id="first packet"),
        pytest.param("bytes=188-", 206, slice(188, None), id="from the second on"),
        pytest.param("bytes=-188", 206, slice(-188, None), id="last packet"),
        pytest.param("bytes=5-4", 200, slice(None), id="backwards is ignored"),
        pytest.param("lines=1-2", 200, slice(None), id="other unit is ignored"),
        pytest.param("bytes=99999999-", 416, None, id="behind the end"),
    ],
)
def test_byte_ranges(player: EdgePlayer, asked: str, status: int, expected: slice | None) -> None:
    whole = player.get("0.ts").data
    reply = player.get("0.ts", Range=asked)
    assert reply.status == status
    if expected is None:
        assert reply.headers["Content-Range"] == f"bytes */{len(whole)}"
        return
    assert reply.data == whole[expected]
    if status == 206:
        start = (expected.start or 0) % len(whole)
        assert reply.headers["Content-Range"] == f"bytes {start}-{start + len(reply.data) - 1}/{len(whole)}"


def test_head_has_the_length_and_no_body(player: EdgePlayer) -> None:
    reply = player.get("0.ts", method="HEAD")
    assert (reply.status, reply.data) == (200, b"")
    assert int(reply.headers["Content-Length"]) > 0


def test_muted_playlist_lists_muted_names_that_can_be_had(http: urllib3.PoolManager, standin: Standin) -> None:
    player = open_video(http, standin, ids.MUTED)
    assert re.search(r"/index-muted-[A-Z]{10}\.m3u8$", player.playlist_url)
    muted = [name for name in player.names() if "muted" in name]
    assert muted == ["4-muted.ts", "5-muted.ts", "6-muted.ts", "7-muted.ts"]
    assert player.get("4-muted.ts").status == 200
    assert player.get("4-unmuted.ts").status == 403
    assert player.get("4.ts").status == 404


def test_old_playlist_lists_originals_that_are_refused(http: urllib3.PoolManager, standin: Standin) -> None:
    player = open_video(http, standin, ids.UNMUTED_NAMES)
    assert player.playlist_url.endswith("/index-dvr.m3u8")
    assert "5-unmuted.ts" in player.names()
    assert player.get("5-unmuted.ts").status == 403
    assert player.get("5-muted.ts").status == 200


def test_discontinuity_restarts_the_timestamps(http: urllib3.PoolManager, standin: Standin) -> None:
    player = open_video(http, standin, ids.DISCONTINUITY)
    text = player.playlist()
    assert text.count("#EXT-X-DISCONTINUITY\n") == 1
    before, after = text.split("#EXT-X-DISCONTINUITY\n")
    assert len(re.findall(r"^\d+\.ts$", before, re.MULTILINE)) == 6
    # The encoder was away for seven seconds of wall time.
    assert "T18:00:10.000Z" in before
    assert "T18:00:19.000Z" in after
    starts = [player.first_video_timestamp(name) for name in player.names()]
    assert starts[:6] == sorted(starts[:6])
    assert starts[6] == starts[0]


def test_fmp4_has_a_map_and_hevc_inside(http: urllib3.PoolManager, standin: Standin) -> None:
    player = open_video(http, standin, ids.FMP4)
    assert '#EXT-X-MAP:URI="init-0.mp4"' in player.playlist()
    assert "#EXT-X-VERSION:6" in player.playlist()
    init = player.get("init-0.mp4")
    assert init.headers["Content-Type"] == "video/mp4"
    assert init.data[4:8] == b"ftyp"
    assert b"hvc1" in init.data
    assert count_packets(init.data + player.get("3.mp4").data)[0] == 60


def test_recording_grows_with_time_and_ends_by_control(http: urllib3.PoolManager, standin: Standin) -> None:
    player = open_video(http, standin, ids.RECORDING)
    assert len(player.names()) == 5
    assert "#EXT-X-ENDLIST" not in player.playlist()
    assert player.get("5.ts").status == 404
    standin.advance(2)
    assert len(player.names()) == 6
    assert player.get("5.ts").status == 200
    standin.finish(ids.RECORDING)
    standin.advance(100)
    assert len(player.names()) == 6
    assert player.playlist().endswith("#EXT-X-ENDLIST\n")


def test_recording_stays_open_when_its_media_is_used_up(http: urllib3.PoolManager, standin: Standin) -> None:
    player = open_video(http, standin, ids.RECORDING)
    standin.advance(1000)
    assert len(player.names()) == 15
    assert "#EXT-X-ENDLIST" not in player.playlist()


def test_missing_segment_is_listed_and_gone(http: urllib3.PoolManager, standin: Standin) -> None:
    player = open_video(http, standin, ids.MISSING_SEGMENT)
    assert "6.ts" in player.names()
    assert [player.get(name).status for name in ("5.ts", "6.ts", "7.ts")] == [200, 404, 200]


def test_links_without_a_grant_are_refused(http: urllib3.PoolManager, standin: Standin) -> None:
    assert http.request("GET", f"{standin.http_url}/edge/none/x/chunked/index-dvr.m3u8").status == 403
    assert http.request("GET", f"{standin.http_url}/edge/none/x/chunked/0.ts").status == 403


def test_deleting_a_video_ends_its_links(player: EdgePlayer, standin: Standin) -> None:
    standin.update_video(ids.PLAIN, deleted=True)
    assert player.get("0.ts").status == 403


@pytest.mark.parametrize(
    ("path", "kind", "magic"),
    [
        pytest.param(f"thumbs/{ids.PLAIN}/thumb0-640x360.jpg", "image/jpeg", b"\xff\xd8\xff", id="thumbnail"),
        pytest.param(f"thumbs/{ids.FMP4}/thumb0-320x180.jpg", "image/jpeg", b"\xff\xd8\xff", id="of HEVC"),
        pytest.param("_404/404_processing_320x180.png", "image/png", b"\x89PNG", id="processing"),
        pytest.param(f"storyboards/{ids.PLAIN}-low-0.jpg", "image/jpeg", b"\xff\xd8\xff", id="storyboard"),
    ],
)
def test_pictures_are_real(http: urllib3.PoolManager, standin: Standin, path: str, kind: str, magic: bytes) -> None:
    reply = http.request("GET", f"{standin.http_url}/edge/{path}")
    assert (reply.status, reply.headers["Content-Type"]) == (200, kind)
    assert reply.data.startswith(magic)


def test_pictures_of_unknown_videos_do_not_exist(http: urllib3.PoolManager, standin: Standin) -> None:
    assert http.request("GET", f"{standin.http_url}/edge/thumbs/1/thumb0-640x360.jpg").status == 404
    assert http.request("GET", f"{standin.http_url}/edge/storyboards/1-info.json").status == 404
