"""A broadcast that is taken away while it is being fetched: what there is of it is kept, and said to be a part."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import av
import pytest

from support.home import Home, HomeOf, check_manifest
from support.service import wait_until
from support.slow import slow_segments
from vodkeep_standin.scenario import ids

SEGMENTS = 15


def kill_half_way(home: Home) -> int:
    """Fetch some segments and die; returns how many are proven."""
    slow = slow_segments(home.standin, 400)
    service = home.start(CAPTURE_CONNECTIONS="2")
    wait_until(lambda: len(home.journal(ids.PLAIN)) >= 5, "some segments are proven")
    service.kill()
    wait_until(lambda: home.processes() == {}, "children end with the service")
    home.standin.faults.remove(slow)
    kept = len(home.journal(ids.PLAIN))
    assert 5 <= kept < SEGMENTS
    return kept


@pytest.mark.parametrize(
    ("change", "code"), [({"deleted": True}, "deleted"), ({"sub_only": True}, "sub_only")], ids=["deleted", "sub only"]
)
def test_taken_away_half_way(home_of: HomeOf, change: dict[str, Any], code: str) -> None:
    home = home_of(ids.PLAIN)
    kept = kill_half_way(home)
    home.standin.update_video(ids.PLAIN, **change)
    since = datetime.now(UTC)
    service = home.start()
    wait_until(lambda: home.vod(ids.PLAIN)["download_state"] == "parked", "it is parked")
    row = home.vod(ids.PLAIN)
    assert row["error_code"] == code
    assert row["completeness"] == pytest.approx(kept / SEGMENTS)
    folder = home.folder(ids.PLAIN)
    assert row["downloaded_path"] == str(folder.relative_to(home.data_dir) / "video.mp4")
    manifest = check_manifest(home, ids.PLAIN)
    assert manifest["completeness"] == pytest.approx(kept / SEGMENTS)
    assert {stretch["source"] for stretch in manifest["ledger"]} == {"vod", "missing"}
    with av.open(str(folder / "video.mp4"), mode="r") as container:
        assert sum(1 for _ in container.decode(video=0)) > 0
    assert home.segment_requests(ids.PLAIN, since=since).total() == 0
    wait_until(lambda: home.leftovers() == [], "the work folder is empty")
    assert service.get("/healthz")[0] == 200


def test_taken_away_when_everything_was_there(home_of: HomeOf) -> None:
    """Killed between the last segment and the finished film, and gone by the next start: nothing is missing."""
    home = home_of(ids.PLAIN)
    slow = slow_segments(home.standin, 100)
    service = home.start(CAPTURE_CONNECTIONS="4")
    wait_until(lambda: len(home.journal(ids.PLAIN)) == SEGMENTS, "every segment is proven", every_s=0)
    service.kill()
    wait_until(lambda: home.processes() == {}, "children end with the service")
    home.standin.faults.remove(slow)
    home.standin.update_video(ids.PLAIN, deleted=True)
    home.start()
    wait_until(lambda: home.vod(ids.PLAIN)["processed"] == 1, "it is done")
    row = home.vod(ids.PLAIN)
    assert (row["download_state"], row["completeness"]) == ("done", 1.0)
    assert check_manifest(home, ids.PLAIN)["completeness"] == 1.0
