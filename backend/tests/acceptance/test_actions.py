"""What people ask of an item, on running services: the same from the commands, the API, the forms and by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from support.commands import vodkeep
from support.home import CHANNEL, Home, HomeOf, check_kept
from support.service import ServiceProcess, wait_until
from support.slow import SEGMENTS, HeldThumbnail
from vodkeep_standin.faults.latency import Latency
from vodkeep_standin.faults.status import Status
from vodkeep_standin.media.recipe import Span
from vodkeep_standin.scenario import ids

# No cycle comes to the aid of a request: whatever happens soon happens because of it.
SELDOM = {"VOD_PROCESS_INTERVAL": "1h"}

CANCEL_BY_HAND = (
    "UPDATE vods SET download_state='canceled', processing_error='canceled by hand' WHERE twitch_vod_id='{}';"
)

# Of the plain VOD's 15 segments so many come at once, and the rest not before the end of the test.
SOME = 5

Canceler = Callable[[Home, ServiceProcess], str | None]
"""Cancels the plain VOD; returns the correlation id of the request, if it has one."""


def _by_command(home: Home, _service: ServiceProcess) -> str:
    done = vodkeep(home, "cancel", ids.PLAIN, "--json")
    told = json.loads(done.stdout)
    (item,) = told["items"]
    assert (done.returncode, item["id"], item["done"], item["state"]) == (0, ids.PLAIN, True, "canceled")
    assert item["detail"] == "It is canceled."
    return str(told["corr"])


def _by_api(_home: Home, service: ServiceProcess) -> str:
    status, vod = service.send("POST", f"/api/v1/vods/{ids.PLAIN}/cancel", headers={"X-Correlation-ID": "request-7"})
    assert (status, vod["state"], vod["error"]["code"]) == (200, "canceled", "canceled")
    return "request-7"


def _by_form(_home: Home, service: ServiceProcess) -> str:
    body = {"vod_id": ids.PLAIN}
    status, answer = service.send("POST", "/admin/vod/cancel", body, headers={"X-Correlation-ID": "request-7"})
    assert (status, answer["status"], answer["state"]) == (200, "ok", "canceled")
    return "request-7"


def _by_hand(home: Home, _service: ServiceProcess) -> None:
    home.sql(CANCEL_BY_HAND.format(ids.PLAIN))


def held_after_some(home: Home) -> int:
    """Let a download come so far and no further; returns the fault's id."""
    return home.standin.faults.add(Latency(600_000), path=SEGMENTS, after=SOME)


def some_are_proven(home: Home) -> None:
    wait_until(lambda: len(home.journal(ids.PLAIN)) >= SOME, "segments are proven")


CANCELERS = {"cli": _by_command, "api": _by_api, "admin": _by_form, "sql": _by_hand}


def check_canceled(home: Home, service: ServiceProcess, by: str, corr: str | None) -> None:
    """Nothing of it runs any more, nothing has failed, and the timeline tells who asked."""
    canceled = service.wait_for("download canceled", vod_id=ids.PLAIN, by=by)
    assert canceled["level"] == "info"
    wait_until(lambda: set(home.processes()) == {service.pid}, "no child is left")
    row = home.vod(ids.PLAIN)
    assert (row["download_state"], row["processed"], row["download_retries"]) == ("canceled", 0, 0)
    wait_until(lambda: service.get_json("/status")["active"] == [], "nothing is at work")
    assert service.metrics()["vod_downloads_failed_total", CHANNEL] == 0
    assert service.lines(lambda line: line.get("level") in ("error", "critical")) == []
    event = service.vod(ids.PLAIN)["events"][-1]
    assert (event["kind"], event["to_state"], event["asked_by"]) == ("state", "canceled", by)
    if corr is not None:
        assert event["corr"] == corr
        assert service.get_json("/status")["canceled"] == 1


@pytest.mark.parametrize("by", CANCELERS)
def test_a_download_is_canceled_from_anywhere_and_goes_on_when_asked(home_of: HomeOf, dsn: str | None, by: str) -> None:
    home = home_of(ids.PLAIN, dsn=dsn)
    held = held_after_some(home)
    service = home.start(CAPTURE_CONNECTIONS="2", **SELDOM)
    some_are_proven(home)
    corr = CANCELERS[by](home, service)
    check_canceled(home, service, by, corr)
    proven, since = home.journal(ids.PLAIN), datetime.now(UTC)
    assert len(proven) == SOME

    home.standin.faults.remove(held)
    mark = service.mark()
    if by == "cli":
        assert vodkeep(home, "retry", ids.PLAIN).returncode == 0
    else:
        service.send("POST", f"/api/v1/vods/{ids.PLAIN}/retry", headers={"X-Correlation-ID": "again-8"})
    assert service.wait_for("capture resumed", after=mark)["kept"] == len(proven)
    processed = service.wait_for("vod processed", after=mark, vod_id=ids.PLAIN)
    if by != "cli":
        assert processed["corr"] == "again-8"
        assert {line["corr"] for line in service.lines("download started", after=mark)} == {"again-8"}
    assert not set(home.segment_requests(ids.PLAIN, since=since)) & set(proven), "proven segments came again"
    check_kept(home, ids.PLAIN)
    wait_until(lambda: home.leftovers() == [], "the work folder is empty")


@pytest.mark.parametrize("by", ["cli", "api"])
def test_a_finished_film_is_not_put_into_its_place_after_a_cancel(home_of: HomeOf, by: str) -> None:
    home = home_of(ids.PLAIN)
    held = HeldThumbnail(home.root, home.standin)
    service = home.start(**SELDOM)
    held.wait_until_reached()
    check_canceled(home, service, by, CANCELERS[by](home, service))
    held.release()
    assert home.folders() == []
    assert service.send("POST", f"/api/v1/vods/{ids.PLAIN}/retry")[0] == 200
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    assert home.segment_requests(ids.PLAIN).total() == 15, "nothing is fetched again"
    check_kept(home, ids.PLAIN)


@pytest.mark.parametrize("by", ["cli", "api"])
def test_a_look_at_twitch_ends_with_the_cancel(home_of: HomeOf, by: str) -> None:
    home = home_of(ids.PLAIN)
    slow = home.standin.faults.add(Latency(600_000), path="/gql")
    service = home.start(**SELDOM)
    wait_until(lambda: home.standin.faults.applied(slow) > 0, "the resolver asks")
    assert any("yt-dlp" in command for command in home.processes().values())
    check_canceled(home, service, by, CANCELERS[by](home, service))
    assert home.leftovers() == []


def test_a_queued_item_is_canceled_and_never_begun(home_of: HomeOf, dsn: str | None) -> None:
    home = home_of(ids.PLAIN, ids.MUTED, dsn=dsn)
    held = home.standin.faults.add(Latency(600_000), path="/gql", count=1)
    service = home.start()
    first = service.wait_for("download started")["vod_id"]
    (other,) = {ids.PLAIN, ids.MUTED} - {first}
    assert service.send("POST", f"/api/v1/vods/{other}/cancel")[0] == 200
    # Stopped and started again, only to get over the fault.
    assert service.send("POST", f"/api/v1/vods/{first}/cancel")[0] == 200
    home.standin.faults.remove(held)
    assert service.send("POST", f"/api/v1/vods/{first}/retry")[0] == 200
    service.wait_for("vod processed", vod_id=first)
    cycles = service.metrics()["vod_processing_cycles_total", CHANNEL]
    wait_until(
        lambda: service.metrics()["vod_processing_cycles_total", CHANNEL] >= cycles + 2, "the planner has looked"
    )
    assert service.lines("download started", vod_id=other) == []
    assert vodkeep(home, "cancel", first).returncode == 1, "what is done cannot be canceled"


@pytest.mark.postgres
def test_another_process_cancels_and_retries_what_a_worker_runs(home_of: HomeOf, postgres_dsn: str) -> None:
    home = home_of(ids.PLAIN, dsn=postgres_dsn)
    held = held_after_some(home)
    worker = home.spawn("--roles", "watch,work", CAPTURE_CONNECTIONS="2", **SELDOM)
    web = home.start("--roles", "web", **SELDOM)
    some_are_proven(home)
    status, vod = web.send("POST", f"/api/v1/vods/{ids.PLAIN}/cancel", headers={"X-Correlation-ID": "request-7"})
    assert (status, vod["state"]) == (200, "canceled"), "it waits for the end of the run"
    canceled = worker.wait_for("download canceled", vod_id=ids.PLAIN)
    assert canceled["by"] == "api"
    wait_until(lambda: set(home.processes()) == {worker.pid, web.pid}, "no child is left")
    proven = home.journal(ids.PLAIN)
    home.standin.faults.remove(held)
    assert web.send("POST", f"/api/v1/vods/{ids.PLAIN}/retry", headers={"X-Correlation-ID": "again-8"})[0] == 200
    assert worker.wait_for("capture resumed")["kept"] == len(proven)
    assert worker.wait_for("vod processed")["corr"] == "again-8"
    check_kept(home, ids.PLAIN)


def _inode(home: Home) -> tuple[int, int]:
    found = (home.folder(ids.PLAIN) / "video.mp4").stat()
    return found.st_ino, found.st_mtime_ns


def test_a_kept_item_is_linked_again_or_fetched_anew(home_of: HomeOf, dsn: str | None) -> None:
    home = home_of(ids.PLAIN, dsn=dsn)
    service = home.start(**SELDOM)
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    before, since, mark = _inode(home), datetime.now(UTC), service.mark()
    assert service.send("POST", f"/api/v1/vods/{ids.PLAIN}/retry")[0] == 409
    status, vod = service.send("POST", f"/api/v1/vods/{ids.PLAIN}/reprocess")
    assert (status, vod["media"]["video"]) == (200, f"/media/{ids.PLAIN}/video.mp4")
    service.wait_for("item is whole already", after=mark)
    service.wait_for("vod processed", after=mark)
    assert (home.segment_requests(ids.PLAIN, since=since).total(), _inode(home)) == (0, before)

    mark = service.mark()
    held = held_after_some(home)
    assert vodkeep(home, "reprocess", "--fresh", ids.PLAIN).returncode == 0
    service.wait_for("item is fetched anew", after=mark)
    some_are_proven(home)
    assert _inode(home) == before, "the old one stays until the new one is proven"
    code, body, _ = service.get(f"/media/{ids.PLAIN}/video.mp4", {"Range": "bytes=0-99"})
    assert (code, len(body)) == (206, 100)
    # Cut off in the middle, it goes on with what it has, and not with what lies in the library.
    service.kill()
    proven, since = home.journal(ids.PLAIN), datetime.now(UTC)
    home.standin.faults.remove(held)
    service = home.start(**SELDOM)
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    asked = home.segment_requests(ids.PLAIN, since=since)
    assert asked
    assert not set(asked) & set(proven)
    assert _inode(home) != before
    assert home.vod(ids.PLAIN)["fresh"] == 0
    check_kept(home, ids.PLAIN)
    assert len(home.folders()) == 1


def test_what_twitch_no_longer_offers_whole_is_not_replaced(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    service = home.start(DOWNLOAD_MAX_ATTEMPTS="1", **SELDOM)
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    before, whole = _inode(home), home.standin.scenario.video(ids.PLAIN)
    assert whole is not None
    muted = replace(whole.recipe, muted=(Span(8, 8),))
    for less in (replace(whole, missing_segments=frozenset({2})), replace(whole, recipe=muted)):
        home.standin.update_video(ids.PLAIN, missing_segments=less.missing_segments, recipe=less.recipe)
        mark = service.mark()
        assert service.send("POST", f"/api/v1/vods/{ids.PLAIN}/reprocess", {"fresh": True})[0] == 200
        service.wait_for("item kept as it was", after=mark, vod_id=ids.PLAIN)
        service.wait_for("vod processed", after=mark, vod_id=ids.PLAIN)
        assert _inode(home) == before

    home.standin.update_video(ids.PLAIN, recipe=whole.recipe, sub_only=True)
    mark = service.mark()
    assert service.send("POST", f"/api/v1/vods/{ids.PLAIN}/reprocess", {"fresh": True})[0] == 200
    service.wait_for("vod parked", after=mark, vod_id=ids.PLAIN)
    assert _inode(home) == before
    # The wish is taken back: what is there is whole.
    mark = service.mark()
    assert vodkeep(home, "reprocess", ids.PLAIN).returncode == 0
    service.wait_for("item is whole already", after=mark)
    service.wait_for("vod processed", after=mark)
    assert _inode(home) == before
    check_kept(home, ids.PLAIN)


@pytest.mark.parametrize("by", ["cli", "api", "admin", "sql"])
def test_a_priority_and_no_publishing_are_asked_for_from_anywhere(home_of: HomeOf, by: str) -> None:
    home = home_of(ids.PLAIN, ids.MUTED, ids.DISCONTINUITY)
    home.standin.faults.add(Latency(600_000), path="/gql", count=1)
    service = home.start()
    held = service.wait_for("download started")["vod_id"]
    # The queue would take the older one of these first.
    rows = home.sql(f"SELECT twitch_vod_id FROM vods WHERE twitch_vod_id!='{held}' ORDER BY date")
    older, newer = (row["twitch_vod_id"] for row in rows)
    headers = {"X-Correlation-ID": "request-7"}
    match by:
        case "cli":
            assert vodkeep(home, "priority", newer, "7").returncode == 0
            assert vodkeep(home, "skip-upload", newer).returncode == 0
        case "api":
            assert (
                service.send("PATCH", f"/api/v1/vods/{newer}", {"priority": 7, "skip_upload": True}, headers)[0] == 200
            )
        case "admin":
            assert service.send("POST", "/admin/vod/priority", {"vod_id": newer, "priority": 7}, headers)[0] == 200
            body = {"vod_id": newer, "skip_upload": True}
            assert service.send("POST", "/admin/vod/skip-upload", body, headers)[0] == 200
        case _:
            home.sql(f"UPDATE vods SET priority=7 WHERE twitch_vod_id='{newer}'")
            home.sql(f"UPDATE vods SET skip_upload=1 WHERE twitch_vod_id='{newer}'")
    vod = service.vod(newer)
    assert (vod["priority"], vod["skip_upload"]) == (7, True)
    asked = [(event["kind"], event["asked_by"]) for event in vod["events"] if event["asked_by"]]
    assert asked == ([] if by == "sql" else [("priority", by), ("upload", by)])
    mark = service.mark()
    assert service.send("POST", f"/api/v1/vods/{held}/cancel")[0] == 200
    assert service.wait_for("download started", after=mark)["vod_id"] == newer
    for video_id in (newer, older):
        service.wait_for("vod processed", vod_id=video_id)
        check_kept(home, video_id)


@pytest.mark.parametrize("by", ["cli", "api"])
def test_a_breaker_is_closed_by_request(home_of: HomeOf, by: str) -> None:
    home = home_of(ids.PLAIN)
    home.standin.faults.add(Status(503), path="/gql")
    service = home.start(CIRCUIT_FAILURE_THRESHOLD="1", CIRCUIT_OPEN_COOLDOWN="1h", **SELDOM)
    service.wait_for("circuit opened", by="attempt")
    assert service.metrics()["vod_circuit_opened_total", CHANNEL] == 1
    shown = json.loads(vodkeep(home, "status", "--json").stdout)
    assert shown["circuit_state"] == "open"
    home.standin.faults.clear()
    if by == "cli":
        done = vodkeep(home, "circuit", "reset", "--channel", CHANNEL.upper(), "--json")
        assert (done.returncode, json.loads(done.stdout)["closed"]) == (0, [CHANNEL])
    else:
        assert service.send("POST", "/api/v1/circuit/reset") == (200, {"closed": [CHANNEL]})
    service.wait_for("circuit closed", by="kv")
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    figures = service.metrics()
    assert (figures["vod_circuit_open", CHANNEL], figures["vod_circuit_opened_total", CHANNEL]) == (0, 1)
    (event,) = home.sql("SELECT sentence, asked_by FROM events WHERE kind='circuit'")
    assert (CHANNEL in event["sentence"], event["asked_by"]) == (True, by)


@pytest.mark.cold_start
def test_without_a_database_there_is_nothing_to_ask(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    for arguments in (["cancel", ids.PLAIN], ["queue"], ["status"], ["circuit", "reset"]):
        done = vodkeep(home, *arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert "There is no database" in done.stderr


@pytest.mark.cold_start
def test_the_commands_work_while_nothing_runs(home_of: HomeOf, dsn: str | None) -> None:
    home = home_of(ids.PLAIN, ids.SUB_ONLY, dsn=dsn)
    _kept_and_parked(home)
    assert "1 with errors" in vodkeep(home, "status").stdout
    shown = _json(vodkeep(home, "status", "--json"))
    assert (shown["processed"], shown["errored"], shown["channels"][0]["login"]) == (1, 1, CHANNEL)
    assert vodkeep(home, "priority", ids.SUB_ONLY, "-5").returncode == 0
    assert vodkeep(home, "skip-upload", "--off", ids.SUB_ONLY).returncode == 0
    done = vodkeep(home, "retry", ids.SUB_ONLY, "12", f"https://www.twitch.tv/videos/{ids.PLAIN}")
    assert done.returncode == 1
    assert done.stdout == f"{ids.SUB_ONLY} is due now.\n"
    assert done.stderr.splitlines() == [
        "There is no item 12.",
        f"Item {ids.PLAIN} is done. Reprocess it to have it looked at again.",
    ]
    home.standin.update_video(ids.SUB_ONLY, sub_only=False)
    service = home.start()
    service.wait_for("vod processed", vod_id=ids.SUB_ONLY)
    check_kept(home, ids.SUB_ONLY)
    assert home.vod(ids.SUB_ONLY)["priority"] == -5


def test_the_queue_is_listed(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN, ids.SUB_ONLY)
    _kept_and_parked(home)
    done = vodkeep(home, "queue")
    assert done.returncode == 0
    assert ids.SUB_ONLY in done.stdout
    assert "parked" in done.stdout
    assert "subscribers only" in done.stdout
    assert ids.PLAIN not in done.stdout
    told = _json(vodkeep(home, "queue", "--state", "done", "--state", "parked", "--channel", CHANNEL.upper(), "--json"))
    assert [(item["twitch_vod_id"], item["download_state"]) for item in told["items"]] == [
        (ids.SUB_ONLY, "parked"),
        (ids.PLAIN, "done"),
    ]
    assert _json(vodkeep(home, "queue", "--channel", "nobody", "--json")) == {"items": [], "more": False}
    assert _json(vodkeep(home, "queue", "--state", "done", "--state", "parked", "--limit", "1", "--json"))["more"]


def test_what_makes_no_sense_is_refused(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    assert vodkeep(home, "priority", ids.PLAIN, "--nonsense").returncode == 2
    assert vodkeep(home, "priority", ids.PLAIN, "2000000").returncode == 2
    assert vodkeep(home, "cancel").returncode == 2


def _kept_and_parked(home: Home) -> None:
    """Run the service until one item is kept and the other parked, and stop it."""
    service = home.start()
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    service.wait_for("vod parked", vod_id=ids.SUB_ONLY)
    assert service.terminate() == 0


def _json(done: Any) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
