"""SIGTERM: the work is handed back, uncounted, and the next start goes on with it."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from support.home import Home, HomeOf, check_kept
from support.service import ServiceProcess, wait_until
from support.slow import HeldThumbnail, slow_segments
from vodkeep_standin.faults.latency import Latency
from vodkeep_standin.scenario import ids

LIMIT_S = 30.0


def stop(home: Home, service: ServiceProcess) -> datetime:
    """SIGTERM in the middle of the work on the plain VOD; returns when the service had ended."""
    began = time.monotonic()
    assert service.terminate(LIMIT_S) == 0
    assert time.monotonic() - began < LIMIT_S
    ended = datetime.now(UTC)
    service.wait_for("download interrupted", vod_id=ids.PLAIN)
    service.wait_for("stopped")
    assert service.lines(lambda line: line.get("level") in ("error", "critical")) == []
    wait_until(lambda: home.processes() == {}, "children end with the service")
    row = home.vod(ids.PLAIN)
    assert (row["download_state"], row["processed"], row["download_retries"]) == ("pending", 0, 0)
    assert (row["processing_error"], row["not_before"]) == (None, None)
    return ended


def test_stopped_while_fetching(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    slow_segments(home.standin, 300)
    service = home.start(CAPTURE_CONNECTIONS="2")
    wait_until(lambda: len(home.journal(ids.PLAIN)) >= 4, "segments are proven")
    ended = stop(home, service)
    proven = home.journal(ids.PLAIN)
    service = home.start(CAPTURE_CONNECTIONS="2")
    assert service.wait_for("capture resumed")["kept"] == len(proven)
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    assert not set(home.segment_requests(ids.PLAIN, since=ended)) & set(proven)
    check_kept(home, ids.PLAIN)


def test_stopped_while_a_program_runs(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    slow = home.standin.faults.add(Latency(600_000), path="/gql")
    service = home.start()
    wait_until(lambda: home.standin.faults.applied(slow) > 0, "the resolver asks")
    assert any("yt-dlp" in command for command in home.processes().values())
    stop(home, service)
    home.standin.faults.remove(slow)
    service = home.start()
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    check_kept(home, ids.PLAIN)


def test_stopped_when_the_film_is_finished(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    held = HeldThumbnail(home.root, home.standin)
    service = home.start()
    held.wait_until_reached()
    ended = stop(home, service)
    held.release()
    service = home.start()
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    assert home.segment_requests(ids.PLAIN, since=ended).total() == 0
    check_kept(home, ids.PLAIN)


def test_stopped_with_a_request_under_way(home_of: HomeOf) -> None:
    """Somebody watches a film; the service does not wait for its end."""
    home = home_of(ids.PLAIN)
    service = home.start()
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    host, port = service.url.removeprefix("http://").split(":")
    with home.half_read(host, int(port), f"/media/{ids.PLAIN}/video.mp4"):
        assert service.terminate(LIMIT_S) == 0
