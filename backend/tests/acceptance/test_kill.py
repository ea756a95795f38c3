"""``kill -9`` at any moment: the next start finishes by itself, once, and fetches nothing that is proven again."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from support.home import CHANNEL, Home, HomeOf, check_kept
from support.service import ServiceProcess, wait_until
from support.slow import HeldThumbnail, slow_segments
from vodkeep_standin.faults.latency import Latency
from vodkeep_standin.scenario import ids

CONNECTIONS = 2


def kill(home: Home, service: ServiceProcess) -> datetime:
    """``kill -9``, and nothing of the service is left; returns when."""
    service.kill()
    at = datetime.now(UTC)
    wait_until(lambda: home.processes() == {}, "children end with the service")
    return at


def check_kept_once(home: Home, service: ServiceProcess) -> None:
    check_kept(home, ids.PLAIN)
    assert len(home.folders(CHANNEL)) == 1
    wait_until(lambda: home.leftovers() == [], "the work folder is empty")
    assert sorted(
        path.name for path in home.data_dir.iterdir() if ".db" not in path.name and path.name != ".emotes"
    ) == [
        ".vodkeep-archive",
        ".work",
        CHANNEL,
    ]
    assert set(home.processes()) == {service.pid}
    # An attempt that was killed is no failure.
    assert home.vod(ids.PLAIN)["download_retries"] == 0


def test_killed_while_fetching(home_of: HomeOf, dsn: str | None) -> None:
    home = home_of(ids.PLAIN, dsn=dsn)
    slow_segments(home.standin, 400)
    kills: list[tuple[datetime, dict[str, int]]] = []
    for proven in (2, 8):
        service = home.start(CAPTURE_CONNECTIONS=str(CONNECTIONS))
        wait_until(lambda proven=proven: len(home.journal(ids.PLAIN)) >= proven, f"{proven} segments are proven")  # type: ignore[misc]
        at = kill(home, service)
        kills.append((at, home.journal(ids.PLAIN)))
    service = home.start(CAPTURE_CONNECTIONS=str(CONNECTIONS))
    resumed = service.wait_for("capture resumed")
    assert resumed["kept"] == len(kills[-1][1]) >= 8
    service.wait_for("vod processed", vod_id=ids.PLAIN)

    for at, journal in kills:
        again = set(home.segment_requests(ids.PLAIN, since=at)) & set(journal)
        assert again == set(), "proven segments were fetched again"
    asked = home.segment_requests(ids.PLAIN)
    assert len(asked) == 15
    assert asked.total() <= 15 + len(kills) * CONNECTIONS
    check_kept_once(home, service)


def test_killed_while_resolving(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    slow = home.standin.faults.add(Latency(60_000), path="/gql")
    service = home.start()
    wait_until(lambda: home.standin.faults.applied(slow) > 0, "the resolver asks")
    assert any("yt-dlp" in command for command in home.processes().values())
    kill(home, service)
    home.standin.faults.remove(slow)
    service = home.start()
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    check_kept_once(home, service)


def test_killed_when_the_film_is_finished(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    held = HeldThumbnail(home.root, home.standin)
    service = home.start()
    held.wait_until_reached()
    wait_until(lambda: home.vod(ids.PLAIN)["download_state"] == "verifying", "the row says that everything is fetched")
    at = kill(home, service)
    held.release()
    service = home.start()
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    assert home.segment_requests(ids.PLAIN, since=at).total() == 0
    check_kept_once(home, service)


def _manifest_written(home: Home) -> Path:
    return home.data_dir / ".work" / ids.PLAIN / "out" / "manifest.json"


def _move_noted(home: Home) -> Path:
    return home.data_dir / ".work" / ids.PLAIN / "placed"


def _moved(home: Home) -> Path:
    return home.data_dir / CHANNEL / f"2026-10-31 A plain evening [{ids.PLAIN}]"


@pytest.mark.parametrize("moment", [_manifest_written, _move_noted, _moved])
def test_killed_around_the_move(home_of: HomeOf, moment: Callable[[Home], Path]) -> None:
    home = home_of(ids.PLAIN)
    held = HeldThumbnail(home.root, home.standin)
    service = home.start()
    held.wait_until_reached()
    path = str(moment(home))
    held.release()
    # Milliseconds decide here, so this looks without a pause.
    wait_until(lambda: os.path.exists(path), f"{path} is there", every_s=0)  # noqa: PTH110
    at = kill(home, service)
    service = home.start()
    wait_until(lambda: home.vod(ids.PLAIN)["processed"] == 1, "it is done")
    assert home.segment_requests(ids.PLAIN, since=at).total() == 0
    check_kept_once(home, service)


def test_killed_between_the_move_and_the_row(home_of: HomeOf, dsn: str | None) -> None:
    home = home_of(ids.PLAIN, dsn=dsn)
    held = HeldThumbnail(home.root, home.standin)
    service = home.start()
    held.wait_until_reached()
    with home.locked_rows():
        held.release()
        output = home.data_dir / ".work" / ids.PLAIN / "out"
        wait_until(lambda: _moved(home).exists() and not output.exists(), "it has its place")
        at = kill(home, service)
    assert home.vod(ids.PLAIN)["processed"] == 0
    service = home.start()
    service.wait_for("item found in its place", vod_id=ids.PLAIN)
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    assert home.segment_requests(ids.PLAIN, since=at).total() == 0
    assert not [entry for entry in home.standin.requests.entries("/vod/*") if entry.time >= at]
    check_kept_once(home, service)
