"""What goes wrong on the line is mended with a bounded number of requests."""

from __future__ import annotations

from datetime import timedelta

import pytest

from support.home import Home, HomeOf, check_kept
from support.slow import SEGMENTS
from vodkeep_standin.faults.expired import ExpiredPlayback
from vodkeep_standin.faults.garbage import Garbage
from vodkeep_standin.faults.reset import Reset
from vodkeep_standin.faults.rule import AnyFault
from vodkeep_standin.faults.status import Status
from vodkeep_standin.faults.truncate import Truncate
from vodkeep_standin.faults.wrong_length import WrongLength
from vodkeep_standin.scenario import ids

SEGMENTS_OF_PLAIN = 15


def keep(home: Home, **env: str) -> int:
    """Keep the plain VOD in one attempt; returns how many requests for segments it took."""
    service = home.start(**env)
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    check_kept(home, ids.PLAIN)
    assert len(service.lines("download started")) == 1, service.tail()
    return home.segment_requests(ids.PLAIN).total()


def resolutions(home: Home) -> int:
    """How often usher was asked."""
    return len(home.standin.requests.entries("/vod/*"))


def test_the_right_to_fetch_runs_out_in_the_middle(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    rule = home.standin.faults.add(ExpiredPlayback(), path=SEGMENTS, after=6)
    requests = keep(home, CAPTURE_CONNECTIONS="3")
    assert home.standin.faults.applied(rule) >= 1
    assert resolutions(home) == 2
    # Six went through; each connection may have met the refusal once.
    assert requests <= SEGMENTS_OF_PLAIN + 3


def test_being_asked_to_slow_down(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    rule = home.standin.faults.add(Status(429, retry_after="1"), path=SEGMENTS, after=4, count=3)
    requests = keep(home)
    assert home.standin.faults.applied(rule) == 3
    assert requests == SEGMENTS_OF_PLAIN + 3
    entries = home.standin.requests.entries(SEGMENTS)
    for refused in (entry for entry in entries if entry.status == 429):
        later = next(entry for entry in entries if entry.path == refused.path and entry.time > refused.time)
        # Timestamps are the server's; the wait began when its answer came in.
        assert later.time - refused.time >= timedelta(seconds=0.99)


@pytest.mark.parametrize(
    ("misfortunes", "extra"),
    [
        (((Status(503), 3), (Reset(), 2), (Status(500), 1), (Reset(after_bytes=50_000), 2), (Truncate(), 2)), 0),
        (
            (
                (Truncate(after_bytes=0), 1),
                (Garbage("html"), 1),
                (Garbage("random"), 1),
                (Garbage("empty"), 1),
                # Costs two: the rest that was announced is asked for before the body is given up.
                (WrongLength(1000), 1),
            ),
            1,
        ),
    ],
    ids=["answers", "bodies"],
)
def test_everything_else_that_can_happen_to_a_body(
    home_of: HomeOf, misfortunes: tuple[tuple[AnyFault, int], ...], extra: int
) -> None:
    """One after the other, each to another request, and every one costs exactly one more request."""
    home = home_of(ids.PLAIN)
    after, rules = 0, []
    for fault, count in misfortunes:
        rules.append((home.standin.faults.add(fault, path=SEGMENTS, after=after, count=count), count))
        # Good ones between: a row of failures without any success would be an outage, and one segment that met several
        # in a row would be given up.
        after += count + 2
    requests = keep(home, CAPTURE_CONNECTIONS="4")
    assert [home.standin.faults.applied(rule) for rule, _ in rules] == [count for _, count in rules]
    assert requests == SEGMENTS_OF_PLAIN + sum(count for _, count in misfortunes) + extra
    assert resolutions(home) == 1


def test_an_outage_of_the_edge_ends_the_attempt_and_not_the_service(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    home.standin.faults.add(Status(503), path=SEGMENTS, after=5)
    service = home.start(CIRCUIT_FAILURE_THRESHOLD="1000", CAPTURE_CONNECTIONS="4")
    failed = service.wait_for("download failed", vod_id=ids.PLAIN)
    assert failed["code"] == "server_error"
    # Not a hole in the broadcast: nothing is parked, and what came before is kept.
    assert home.vod(ids.PLAIN)["download_state"] in ("failed", "downloading")
    # Pauses grow to 8 s within the 15 s that it has to last; a segment that was kept is asked for as a witness.
    first_attempt = home.segment_requests(ids.PLAIN)
    assert first_attempt.total() <= SEGMENTS_OF_PLAIN + 4 * 12
    proven = set(home.journal(ids.PLAIN))
    assert len(proven) == 5
    home.standin.faults.clear()
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    check_kept(home, ids.PLAIN)
    asked = home.segment_requests(ids.PLAIN)
    assert {name: asked[name] - first_attempt[name] for name in proven} == dict.fromkeys(proven, 0)
