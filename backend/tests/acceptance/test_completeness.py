"""How much of a broadcast is there stands everywhere the same: row, list, detail, status, manifest and page."""

from __future__ import annotations

from typing import Any

import pytest

from support.home import CHANNEL, HomeOf
from vodkeep_standin.scenario import ids

WHOLE = [(0, 30_000, "vod", "")]
MUTED = [(0, 8000, "vod", ""), (8000, 16_000, "vod", "muted"), (16_000, 30_000, "vod", "")]
HOLED = [(0, 12_000, "vod", ""), (12_000, 14_000, "missing", "gone"), (14_000, 30_000, "vod", "")]


def stretches(entries: list[dict[str, Any]]) -> list[tuple[int, int, str, str]]:
    """A ledger, short."""
    return [(entry["start_ms"], entry["end_ms"], entry["source"], entry["reason"]) for entry in entries]


def test_what_is_not_there_is_said_everywhere(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN, ids.MUTED, ids.MISSING_SEGMENT)
    service = home.start(DOWNLOAD_MAX_ATTEMPTS="1")
    for video_id in (ids.PLAIN, ids.MUTED):
        service.wait_for("vod processed", vod_id=video_id)
    service.wait_for("vod parked", vod_id=ids.MISSING_SEGMENT)

    expected = {ids.PLAIN: (1.0, WHOLE), ids.MUTED: (1.0, MUTED), ids.MISSING_SEGMENT: (28 / 30, HOLED)}
    listed = {vod["id"]: vod for vod in service.get_json("/api/v1/vods")["items"]}
    for video_id, (completeness, ledger) in expected.items():
        vod, manifest = service.vod(video_id), home.manifest(video_id)
        assert stretches(vod["ledger"]) == stretches(manifest["ledger"]) == ledger
        assert vod["rendition"] == manifest["rendition"] == "360p30"
        told = [home.vod(video_id), listed[video_id], vod, manifest]
        assert [one["completeness"] for one in told] == [pytest.approx(completeness)] * 4

    status = service.get_json("/status")
    (channel,) = status["channels"]
    assert (status["incomplete"], channel["login"], channel["incomplete"]) == (1, CHANNEL, 1)
    assert service.terminate() == 0
