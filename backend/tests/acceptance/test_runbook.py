"""The operations page, literally: its statements, its figures, the lines it tells people to look for."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from support.home import CHANNEL, Home, HomeOf, check_kept
from support.service import ServiceProcess, wait_until
from support.slow import SEGMENTS, HeldSegments
from vodkeep_standin.faults.latency import Latency
from vodkeep_standin.faults.reset import Reset
from vodkeep_standin.faults.status import Status
from vodkeep_standin.scenario import ids

AGAIN = "UPDATE vods SET processed=0, processing_error=NULL, youtube_url=NULL WHERE twitch_vod_id='{}'"
CLOSE = "DELETE FROM kv WHERE key IN ('circuit_state','circuit_failures','circuit_open_until');"
QUEUE = "SELECT twitch_vod_id, processed, processing_error FROM vods ORDER BY date;"


def test_a_done_and_a_parked_item_are_due_again(home_of: HomeOf, dsn: str | None) -> None:
    home = home_of(ids.PLAIN, ids.SUB_ONLY, dsn=dsn)
    service = home.start()
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    service.wait_for("vod parked", vod_id=ids.SUB_ONLY)
    queue = home.sql(QUEUE)
    assert [(row["twitch_vod_id"], row["processed"]) for row in queue] == [(ids.SUB_ONLY, 0), (ids.PLAIN, 1)]
    assert "subscribers only" in queue[0]["processing_error"]
    before = (home.folder(ids.PLAIN) / "video.mp4").stat()

    since, mark = datetime.now(UTC), service.mark()
    home.sql(AGAIN.format(ids.PLAIN))
    service.wait_for("item is whole already", after=mark, vod_id=ids.PLAIN)
    service.wait_for("vod processed", after=mark, vod_id=ids.PLAIN)
    check_kept(home, ids.PLAIN)
    after = (home.folder(ids.PLAIN) / "video.mp4").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert home.segment_requests(ids.PLAIN, since=since).total() == 0

    home.standin.update_video(ids.SUB_ONLY, sub_only=False)
    home.sql(AGAIN.format(ids.SUB_ONLY))
    service.wait_for("vod processed", after=mark, vod_id=ids.SUB_ONLY)
    check_kept(home, ids.SUB_ONLY)
    assert len(home.folders()) == 2
    wait_until(lambda: home.leftovers() == [], "the work folder is empty")


def test_a_damaged_item_is_captured_anew(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    service = home.start()
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    video = home.folder(ids.PLAIN) / "video.mp4"
    with video.open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"rot")
    mark = service.mark()
    home.sql(AGAIN.format(ids.PLAIN))
    service.wait_for("item is damaged and captured again", after=mark)
    service.wait_for("vod processed", after=mark)
    check_kept(home, ids.PLAIN)
    assert len(home.folders()) == 1
    wait_until(lambda: home.leftovers() == [], "the work folder is empty")


def test_the_breaker_opens_and_is_closed_by_hand(home_of: HomeOf, dsn: str | None) -> None:
    home = home_of(ids.PLAIN, ids.MUTED, dsn=dsn)
    home.standin.faults.add(Status(503), path="/gql")
    service = home.start(CIRCUIT_FAILURE_THRESHOLD="2", CIRCUIT_OPEN_COOLDOWN="1h")
    opened = service.wait_for("circuit opened")
    assert (opened["channel"], opened["level"], opened["failures"]) == (CHANNEL, "warning", 2)
    assert service.metrics()["vod_circuit_open", CHANNEL] == 1
    status = service.get_json("/status")
    assert status["circuit_state"] == status["channels"][0]["breaker"]["state"] == "open"
    assert service.get_json("/admin/monitor")["breakers"][CHANNEL]["state"] == "open"
    code, body, _ = service.get("/readyz")
    assert (code, [reason["code"] for reason in json.loads(body)["reasons"]]) == (503, ["circuit_open"])
    assert home.kv()["circuit_state"] == "open"

    # The fault is over, but the cooldown is not: nothing starts.
    home.standin.faults.clear()
    attempts = len(service.lines("download started"))
    next_cycles(home, service)
    assert len(service.lines("download started")) == attempts == 2

    home.sql(CLOSE)
    assert service.wait_for("circuit closed")["by"] == "kv"
    for video_id in (ids.PLAIN, ids.MUTED):
        service.wait_for("vod processed", vod_id=video_id)
        check_kept(home, video_id)
    assert service.metrics()["vod_circuit_open", CHANNEL] == 0
    assert service.get_json("/status")["circuit_state"] == "closed"
    assert service.get("/readyz")[0] == 200


def test_the_breaker_closes_by_itself_with_one_probe(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN, ids.MUTED)
    home.standin.faults.add(Reset(), path="/vod/*")
    service = home.start(CIRCUIT_FAILURE_THRESHOLD="2", CIRCUIT_OPEN_COOLDOWN="2s", MAX_CONCURRENT_DOWNLOADS="2")
    service.wait_for("circuit opened")
    service.wait_for("circuit opened", count=2)
    probes = service.lines("download started", probe=True)
    assert len(probes) == 1
    home.standin.faults.clear()
    service.wait_for("circuit closed")
    for video_id in (ids.PLAIN, ids.MUTED):
        service.wait_for("vod processed", vod_id=video_id)


def test_every_figure_moves_and_agrees_with_the_events(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN, ids.MUTED, ids.SUB_ONLY)
    # The second one takes longer, so that a mean of both tells them apart.
    home.standin.faults.add(Latency(400), path=SEGMENTS, after=15)
    service = home.start()
    service.wait_for("vod parked", vod_id=ids.SUB_ONLY)
    for video_id in (ids.PLAIN, ids.MUTED):
        service.wait_for("vod processed", vod_id=video_id)
    next_cycles(home, service)

    figures = service.metrics()
    events = home.sql("SELECT twitch_vod_id, to_state FROM events WHERE kind='state'")
    started = [event for event in events if event["to_state"] == "downloading"]
    assert figures["vod_downloads_started_total", CHANNEL] == len(started) == 3
    assert figures["vod_downloads_succeeded_total", CHANNEL] == 2
    assert figures["vod_downloads_failed_total", CHANNEL] == 1
    assert figures["vod_queue_depth", CHANNEL] == 1
    assert figures["vod_circuit_open", CHANNEL] == 0
    assert (figures["vod_uploads_succeeded_total", CHANNEL], figures["vod_uploads_failed_total", CHANNEL]) == (0, 0)
    finished = service.lines("vod processed")
    measured = {
        "download": [line["dl_ms"] for line in service.lines("download finished")],
        "total": [line["total_ms"] for line in finished],
    }
    for name, key in (
        ("vod_download_duration_seconds", "download"),
        ("vod_processing_total_duration_seconds", "total"),
    ):
        assert figures[f"{name}_count", CHANNEL] == 2
        assert figures[f"{name}_sum", CHANNEL] == pytest.approx(sum(measured[key]) / 1000, abs=0.01)
    # The chat comes after the picture.
    assert all(total >= download for total, download in zip(measured["total"], measured["download"], strict=True))

    first, second = measured["download"]
    assert second > first + 100
    means = {key: 0.8 * each[0] + 0.2 * each[1] for key, each in measured.items()}
    for channel in (CHANNEL, ""):
        entries = home.kv(channel)
        for key, mean in means.items():
            assert float(entries[f"avg_{key}_ms"]) == pytest.approx(mean, abs=2)
    expected_ms = means["download"]
    status = service.get_json("/status")
    assert status["avg_download_ms"] == pytest.approx(expected_ms, abs=2)
    assert (status["processed"], status["errored"], status["pending"], status["queue_depth"]) == (2, 1, 0, 1)
    assert {name: count for name, count in status["states"].items() if count} == {"done": 2, "parked": 1}
    assert status["active"] == []
    assert finished[-1]["queue_depth"] == 1

    before = service.get_json("/admin/monitor")["jobs"]["job_vod_process_last"]
    cycles = figures["vod_processing_cycles_total", CHANNEL]
    next_cycles(home, service)
    later = service.get_json("/admin/monitor")["jobs"]["job_vod_process_last"]
    assert datetime.fromisoformat(later) > datetime.fromisoformat(before)
    assert service.metrics()["vod_processing_cycles_total", CHANNEL] > cycles
    assert service.get_json("/status")["last_process_run"] >= status["last_process_run"]


def test_progress_is_shown_everywhere_while_it_runs(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    gates = [HeldSegments(home.root / f"gate{after}", home.standin, after=after) for after in (5, 10)]
    service = home.start(CAPTURE_CONNECTIONS="2")
    service.wait_for("download started")
    shares, rows = [0.0], [0]

    def has_moved() -> bool:
        """Whether both places show more than when it was held before."""
        row = home.vod(ids.PLAIN)["download_bytes"]
        active = service.get_json("/status")["active"]
        if not active or active[0]["progress"]["phase"] != "fetching" or row <= rows[-1]:
            return False
        progress = active[0]["progress"]
        assert (active[0]["id"], progress["segments_total"]) == (ids.PLAIN, 15)
        if progress["percent"] <= shares[-1]:
            return False
        shares.append(progress["percent"])
        rows.append(row)
        return True

    for gate in gates:
        wait_until(has_moved, "progress is shown", every_s=0.2)
        gate.release()
    service.wait_for("vod processed")
    assert 0 < shares[1] < shares[2] <= 100
    media = home.standin.media(ids.PLAIN)
    assert max(rows) <= sum(segment.size_bytes for segment in media.source.segments)


def test_lines_and_ids_that_people_look_for(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    talkative = f"{home.env()['YTDLP_ARGS']} --verbose"
    service = home.start(LOG_LEVEL="debug", YTDLP_ARGS=talkative)
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    token = service.wait_for("twitch app token acquired")
    (secret,) = home.standin.world.app_tokens
    assert secret.endswith(token["tail"].lstrip(".…*"))
    assert len(token["tail"].lstrip(".…*")) <= 6
    assert '"msg":"twitch app token acquired"' in service.output()
    service.wait_for("chat recorder disabled")

    # From the discovery through the queue into the download and its child process.
    corr = service.wait_for("vods discovered")["corr"]
    assert corr not in ("", "-")
    for message in ("download started", "download finished", "vod processed"):
        assert service.wait_for(message, vod_id=ids.PLAIN)["corr"] == corr
    assert service.wait_for("vod processed")["component"] == "vod_process"
    assert service.wait_for("download started")["component"] == "vod_download"
    child = service.lines("yt-dlp", vod_id=ids.PLAIN)
    assert {line["corr"] for line in child} == {corr}
    assert {event["corr"] for event in service.vod(ids.PLAIN)["events"]} == {corr}

    # A request's own id comes back and is in its line; without one the service makes one.
    _, _, headers = service.get("/status", {"X-Correlation-ID": "from-the-proxy-42"})
    assert headers["x-correlation-id"] == "from-the-proxy-42"
    service.wait_for("request", corr="from-the-proxy-42", path="/status")
    _, _, headers = service.get("/status")
    service.wait_for("request", corr=headers["x-correlation-id"], path="/status")


def next_cycles(home: Home, service: ServiceProcess) -> None:
    """Return once two whole cycles have run."""

    def cycles() -> float:
        return service.metrics()["vod_processing_cycles_total", CHANNEL]

    seen = cycles()
    wait_until(lambda: cycles() >= seen + 2, "two cycles have run")
    assert home.kv("")["job_vod_process_last"]
