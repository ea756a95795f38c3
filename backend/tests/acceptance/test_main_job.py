"""A channel's broadcasts end up on disk, checked; what cannot be had says so."""

from __future__ import annotations

import pytest

from support.home import CHANNEL, Home, HomeOf, check_kept, check_manifest, count_packets, source_packets
from support.service import wait_until
from vodkeep_standin.scenario import ids

KEPT = (ids.PLAIN, ids.MUTED, ids.UNMUTED_NAMES, ids.DISCONTINUITY, ids.FMP4)


def test_a_channel_is_kept(home_of: HomeOf, dsn: str | None) -> None:
    home = home_of(*KEPT, ids.SUB_ONLY, ids.DELETED, ids.MISSING_SEGMENT, ids.RECORDING, dsn=dsn)
    service = home.start(MAX_CONCURRENT_DOWNLOADS="2", DOWNLOAD_MAX_ATTEMPTS="2")
    # The live one: nothing but a look until it is over.
    service.wait_for("still recording", vod_id=ids.RECORDING)
    row = home.vod(ids.RECORDING)
    assert (row["download_state"], row["processed"], row["download_retries"]) == ("waiting", 0, 0)
    assert home.segment_requests(ids.RECORDING).total() == 0
    home.standin.advance(60)
    home.standin.finish(ids.RECORDING)

    for video_id in (*KEPT, ids.RECORDING):
        service.wait_for("vod processed", vod_id=video_id, timeout_s=100)
    for video_id in (ids.SUB_ONLY, ids.DELETED, ids.MISSING_SEGMENT):
        service.wait_for("vod parked", vod_id=video_id)

    manifests = {video_id: check_kept(home, video_id) for video_id in (*KEPT, ids.RECORDING)}
    for video_id in (ids.MUTED, ids.UNMUTED_NAMES):
        stretches = [(e["start_ms"], e["end_ms"], e["reason"]) for e in manifests[video_id]["ledger"]]
        assert stretches == [(0, 8000, ""), (8000, 16000, "muted"), (16000, 30000, "")]
    assert [e["reason"] for e in manifests[ids.PLAIN]["ledger"]] == [""]
    assert [c["title"] for c in manifests[ids.PLAIN]["chapters"]] == ["Celeste", "Hollow Knight", "Just Chatting"]
    assert [manifests[video_id]["pauses"] for video_id in (ids.PLAIN, ids.DISCONTINUITY)] == [[], [[12_000, 19_000]]]
    codecs = {e["kind"]: e["codec"] for e in manifests[ids.FMP4]["streams"]}
    assert codecs == {"video": "hevc", "audio": "aac"}

    for video_id, code, words in (
        (ids.SUB_ONLY, "sub_only", "subscribers only"),
        (ids.DELETED, "deleted", "does not exist"),
    ):
        row = home.vod(video_id)
        assert (row["download_state"], row["error_code"], row["processed"]) == ("parked", code, 0)
        assert words in row["processing_error"]
        assert row["downloaded_path"] is None

    check_part_with_a_hole(home)

    wait_until(lambda: home.leftovers() == [], "the work folder is empty")
    assert len(home.folders()) == len(KEPT) + 2
    assert service.terminate() == 0


def check_part_with_a_hole(home: Home) -> None:
    """Segment 6 of 15 is gone for good: kept as far as it goes, and never called done."""
    row = home.vod(ids.MISSING_SEGMENT)
    assert (row["download_state"], row["error_code"], row["processed"]) == ("parked", "incomplete", 0)
    assert row["completeness"] == pytest.approx(28 / 30)
    assert row["processing_error"]
    states = home.sql(f"SELECT to_state FROM events WHERE twitch_vod_id='{ids.MISSING_SEGMENT}'")
    assert "done" not in {event["to_state"] for event in states}
    manifest = check_manifest(home, ids.MISSING_SEGMENT)
    assert manifest["completeness"] == pytest.approx(28 / 30)
    stretches = [(e["start_ms"], e["end_ms"], e["source"], e["reason"]) for e in manifest["ledger"]]
    assert stretches == [(0, 12000, "vod", ""), (12000, 14000, "missing", "gone"), (14000, 30000, "vod", "")]
    video, audio = count_packets(home.folder(ids.MISSING_SEGMENT) / "video.mp4")
    whole = source_packets(home.standin, ids.MISSING_SEGMENT)
    assert video == whole[0] * 14 // 15
    assert 0.9 * whole[1] < audio < whole[1]
    assert CHANNEL in row["downloaded_path"]
