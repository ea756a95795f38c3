"""One service in three processes on one PostgreSQL; each is killed in turn, and everything is kept all the same."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from support.commands import vodkeep
from support.home import Home, HomeOf, check_kept
from support.service import ServiceProcess, wait_until
from support.slow import SEGMENTS, slow_segments
from vodkeep_standin.faults.latency import Latency
from vodkeep_standin.scenario import ids

VIDEOS = (ids.PLAIN, ids.MUTED, ids.UNMUTED_NAMES, ids.DISCONTINUITY)
# Ten, where nothing else runs.
TAKEOVER_LIMIT_S = 30.0

# Of the first broadcast's 15 segments so many come at once.
SOME = 5


def start(home: Home, role: str, *arguments: str) -> ServiceProcess:
    """A process with one role, once it takes part."""
    service = home.spawn("--roles", role, *arguments, VOD_PROCESS_INTERVAL="2s", CAPTURE_CONNECTIONS="1")
    service.wait_for("started", roles=role)
    if role == "web":
        service.wait_until_listening()
    else:
        assert service.lines("listening") == []
    return service


def roles_alive(web: ServiceProcess) -> list[str]:
    return sorted(role for process in web.get_json("/status")["processes"] for role in process["roles"])


def slow_after_some(home: Home) -> int:
    """Serve ``SOME`` segments at once and each other one slowly, so that a broadcast takes a minute; the fault's id."""
    return home.standin.faults.add(Latency(6_000), path=SEGMENTS, after=SOME)


def holder_of(home: Home, lease: str) -> int | None:
    """The pid of the process that has the lease; None while nobody has it."""
    rows = home.sql(f"SELECT holder FROM leases WHERE name = '{lease}' AND expires_at > clock_timestamp()")
    return int(rows[0]["holder"].split(":")[1]) if rows and rows[0]["holder"] else None


def active(home: Home) -> list[str]:
    rows = home.sql("SELECT twitch_vod_id FROM vods WHERE download_state IN ('downloading', 'verifying')")
    return [row["twitch_vod_id"] for row in rows]


def seconds_until(condition: Callable[[], bool], what: str) -> float:
    since = time.monotonic()
    wait_until(condition, what)
    return time.monotonic() - since


@pytest.mark.postgres
def test_each_process_is_killed_in_turn_and_each_item_is_kept_once(home_of: HomeOf, postgres_dsn: str) -> None:
    home = home_of(*VIDEOS, dsn=postgres_dsn)
    slow = slow_after_some(home)
    web, watch, work = (start(home, role) for role in ("web", "watch", "work"))
    everybody = [web, watch, work]
    wait_until(lambda: roles_alive(web) == ["watch", "web", "work"], "all three are seen")

    # The page shows what another process does.
    wait_until(lambda: active(home) != [], "a capture is at work")
    wait_until(lambda: bool(web.get_json("/status")["active"]), "the page shows it")
    assert work.lines("download started")
    assert watch.lines("download started") == web.lines("download started") == []

    web.kill()
    web = start(home, "web")
    everybody.append(web)
    assert work.is_running()

    standby = start(home, "watch")
    everybody.append(standby)
    assert holder_of(home, "planner") == watch.pid
    watch.kill()
    took = seconds_until(lambda: holder_of(home, "planner") == standby.pid, "another plans")
    assert took < TAKEOVER_LIMIT_S
    wait_until(lambda: holder_of(home, f"channel:{ids.CHANNEL}") == standby.pid, "another watches the channel")

    (item,) = active(home)
    wait_until(lambda: len(home.journal(item)) >= SOME, "some of it is proven")
    generation = home.vod(item)["generation"]
    # More slots than items: one is free for what the other leaves behind.
    successor = start(home, "work", "--workers", str(len(VIDEOS)))
    everybody.append(successor)
    wait_until(lambda: len(active(home)) == len(VIDEOS), "both are at work")
    assert holder_of(home, f"run:{item}") == work.pid
    work.kill()
    proven = home.journal(item)
    before = home.segment_requests(item)
    took = seconds_until(lambda: home.vod(item)["generation"] > generation, "another took the item")
    assert took < TAKEOVER_LIMIT_S

    home.standin.faults.remove(slow)
    wait_until(lambda: all(home.vod(video)["processed"] for video in VIDEOS), "everything is kept", timeout_s=120)

    check_kept(home, ids.PLAIN)
    assert len(home.folders()) == len(VIDEOS)
    for video in VIDEOS:
        done = home.sql(f"SELECT 1 FROM events WHERE twitch_vod_id = '{video}' AND to_state = 'done'")
        assert len(done) == 1, video
        assert home.vod(video)["download_retries"] == 0
        told = [line for service in everybody for line in service.lines("vod processed", vod_id=video)]
        assert len(told) == 1, video
    asked = home.segment_requests(item)
    assert {name for name in proven if asked[name] > before[name]} == set(), "what was proven was fetched again"
    wait_until(lambda: home.leftovers() == [], "the work folder is empty")
    wait_until(lambda: roles_alive(web) == ["watch", "web", "work"], "the dead are gone from the page")
    alive = (web, standby, successor)
    assert set(home.processes()) == {service.pid for service in alive}
    for service in alive:
        assert service.terminate() == 0
        assert "Traceback" not in service.output()
    assert home.sql("SELECT name FROM leases WHERE expires_at > clock_timestamp()") == []


@pytest.mark.postgres
def test_a_process_that_only_serves_the_web_cancels_and_retries_what_another_does(
    home_of: HomeOf, postgres_dsn: str
) -> None:
    home = home_of(ids.PLAIN, dsn=postgres_dsn)
    slow = slow_segments(home.standin, 60_000)
    web, _watch, work = (start(home, role) for role in ("web", "watch", "work"))
    wait_until(lambda: active(home) == [ids.PLAIN], "a capture is at work")

    status, body = web.send("POST", f"/api/v1/vods/{ids.PLAIN}/cancel")
    assert status == 200, body
    assert home.vod(ids.PLAIN)["download_state"] == "canceled"
    wait_until(lambda: set(home.processes().values()) == _services(home), "its children are gone")
    assert work.is_running()

    home.standin.faults.remove(slow)
    status, body = web.send("POST", f"/api/v1/vods/{ids.PLAIN}/retry")
    assert status == 200, body
    work.wait_for("vod processed", vod_id=ids.PLAIN)
    check_kept(home, ids.PLAIN)


def test_a_command_is_noticed_within_moments(home_of: HomeOf, dsn: str | None) -> None:
    """The cycle is far away: only the look at the newest event can be what woke the planner."""
    home = home_of(ids.PLAIN, dsn=dsn)
    service = home.start(VOD_PROCESS_INTERVAL="1h")
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    mark = service.mark()
    told = vodkeep(home, "reprocess", ids.PLAIN, "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)
    service.wait_for("download started", after=mark, timeout_s=15)


def _services(home: Home) -> set[str]:
    return {command for command in home.processes().values() if " run --roles " in command}
