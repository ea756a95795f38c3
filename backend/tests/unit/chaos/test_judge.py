"""The judge of the chaos test finds each kind of broken promise and names the item."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.chaos.evidence import Event, Evidence, Fetch, Happened, Life, Line
from support.chaos.figures import bytes_again, recoveries, report
from support.chaos.judge import judge
from support.chaos.plan import Kind

BEGIN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
KEPT, PARKED = "3100000001", "3100000002"
CHANNEL = "lumen_plays"
FOLDER = f"{CHANNEL}/2026-11-22 Broadcast 1 [{KEPT}]"


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def row(item: str, state: str, **rest: Any) -> dict[str, Any]:
    return {
        "twitch_vod_id": item,
        "channel": CHANNEL,
        "download_state": state,
        "processed": int(state == "done"),
        "completeness": 1.0 if state == "done" else None,
        "error_code": None,
        "processing_error": None,
        "download_retries": 0,
        "downloaded_path": None,
        **rest,
    }


def line(seconds: float, msg: str, item: str = KEPT, **fields: Any) -> Line:
    return Line(at(seconds), msg, {"vod_id": item, "channel": CHANNEL, **fields})


def fetch(seconds: float, name: str, *, life: int = 1, grant: int = 1, **rest: Any) -> Fetch:
    values = {"item": KEPT, "bytes": 100, "whole": True, "spoiled": False, **rest}
    return Fetch(name=name, life=life, grant=grant, at=at(seconds), **values)


def life(number: int, *lines: Line, **rest: Any) -> Life:
    values = {
        "member": 0,
        "works": True,
        "watches": True,
        "pid": 100 + number,
        "began": BEGIN,
        "ended": at(60),
        "exit_code": 0,
        **rest,
    }
    return Life(number=number, lines=list(lines), **values)


def good() -> Evidence:
    """Life 1 is killed in the middle of an item; life 2 finishes it, and parks another one."""
    return Evidence(
        seed=7,
        seconds=60,
        processes=2,
        database="postgresql",
        endings={KEPT: frozenset({("done", None)}), PARKED: frozenset({("parked", "deleted")})},
        rows={
            KEPT: row(KEPT, "done", downloaded_path=f"{FOLDER}/video.mp4"),
            PARKED: row(PARKED, "parked", error_code="deleted", processing_error="Gone.", download_retries=1),
        },
        events=[
            Event(1, KEPT, at(1), "pending", "downloading", None),
            Event(2, KEPT, at(12), "downloading", "downloading", "resumed"),
            Event(3, PARKED, at(13), "pending", "downloading", None),
            Event(4, PARKED, at(14), "downloading", "parked", "deleted"),
            Event(5, KEPT, at(20), "downloading", "verifying", None),
            Event(6, KEPT, at(20), "verifying", "downloaded", None),
            Event(7, KEPT, at(20), "downloaded", "done", None),
        ],
        kv={(CHANNEL, "avg_download_ms"): "8000.0", ("", "avg_download_ms"): "8000.0"},
        lives=[
            life(1, line(1, "download started"), ended=at(10), by=Kind.KILL, exit_code=-9),
            life(
                2,
                line(12, "download started"),
                line(13, "download started", PARKED),
                line(14, "vod parked", PARKED),
                line(20, "download finished", dl_ms=8000),
                counters={
                    ("vod_downloads_started_total", CHANNEL): 2.0,
                    ("vod_downloads_succeeded_total", CHANNEL): 1.0,
                    ("vod_downloads_failed_total", CHANNEL): 1.0,
                    ("vod_queue_depth", CHANNEL): 1.0,
                    ("vod_circuit_open", CHANNEL): 0.0,
                },
                counters_at=at(50),
            ),
        ],
        happened=[Happened(Kind.KILL, at(10), at(10), life=1)],
        fetches=[
            fetch(2, "0.ts"),
            fetch(3, "1.ts"),
            fetch(13, "1.ts", life=2, grant=2),
            fetch(14, "2.ts", life=2, grant=2),
        ],
        segment_sizes={KEPT: {"0.ts": 100, "1.ts": 100, "2.ts": 100}},
        connections=1,
        slots=2,
        files=[
            ".vodkeep-archive",
            ".work/",
            f"{CHANNEL}/",
            f"{FOLDER}/",
            *(f"{FOLDER}/{name}" for name in ("manifest.json", "thumbnail.jpg", "video.mp4")),
        ],
        kept={KEPT: ("video 0 0 aa", "video 1 1 bb")},
        source={KEPT: ("video 0 0 aa", "video 1 1 bb")},
        manifests={KEPT: ""},
        verified={KEPT: "fine"},
        secrets={"the database's password": "hunter2"},
    )


def test_a_run_that_kept_every_promise() -> None:
    assert judge(good()) == []


def _other_state(evidence: Evidence) -> None:
    evidence.rows[PARKED] |= {"error_code": "incomplete"}


def _never_found(evidence: Evidence) -> None:
    evidence.endings["3100000009"] = frozenset({("done", None)})


def _unsettled(evidence: Evidence) -> None:
    evidence.unsettled[KEPT] = "is failed"


def _foreign_packets(evidence: Evidence) -> None:
    evidence.kept[KEPT] = ("video 0 0 aa", "video 1 1 aa")


def _other_times(evidence: Evidence) -> None:
    evidence.kept[KEPT] = ("video 0 0 aa", "video 2 2 bb")


def _unreadable(evidence: Evidence) -> None:
    del evidence.kept[KEPT]


def _manifest_is_wrong(evidence: Evidence) -> None:
    evidence.manifests[KEPT] = "video.mp4 has another size or checksum"


def _verify_says_no(evidence: Evidence) -> None:
    evidence.verified[KEPT] = "damaged"


def _two_at_once(evidence: Evidence) -> None:
    # A process that woke up goes on where it was.
    evidence.fetches.append(fetch(13.5, "1.ts"))


def _fetched_again(evidence: Evidence) -> None:
    evidence.fetches.append(fetch(15, "0.ts", life=2, grant=2))


def _work_folder(evidence: Evidence) -> None:
    evidence.files.append(f".work/{KEPT}/")


def _stray_file(evidence: Evidence) -> None:
    evidence.files.append("filler")


def _second_folder(evidence: Evidence) -> None:
    evidence.files += [f"{FOLDER} (1)/", f"{FOLDER} (1)/video.mp4"]


def _unfinished_file(evidence: Evidence) -> None:
    evidence.files.append(f"{FOLDER}/video.mp4.part")


def _orphan(evidence: Evidence) -> None:
    evidence.processes_left[4711] = "yt-dlp -J"


def _lease(evidence: Evidence) -> None:
    evidence.leases.append({"name": "planner", "holder": "host:101:aa"})


def _ticket(evidence: Evidence) -> None:
    evidence.tickets.append({"id": 5, "args": {"item_id": KEPT}})


def _illegal_move(evidence: Evidence) -> None:
    evidence.events[-1] = Event(7, KEPT, at(20), "downloaded", "parked", None)
    evidence.rows[KEPT]["download_state"] = "parked"


def _gap_in_the_walk(evidence: Evidence) -> None:
    del evidence.events[4]


def _last_event_disagrees(evidence: Evidence) -> None:
    del evidence.events[-1]


def _line_without_event(evidence: Evidence) -> None:
    evidence.lives[1].lines.append(line(21, "download failed"))


def _event_without_line(evidence: Evidence) -> None:
    del evidence.lives[1].lines[2]


def _metric_is_wrong(evidence: Evidence) -> None:
    assert evidence.lives[1].counters is not None
    evidence.lives[1].counters["vod_downloads_failed_total", CHANNEL] = 2.0


def _gauge_is_wrong(evidence: Evidence) -> None:
    assert evidence.lives[1].counters is not None
    evidence.lives[1].counters["vod_queue_depth", CHANNEL] = 0.0


def _attempts_are_wrong(evidence: Evidence) -> None:
    evidence.rows[PARKED]["download_retries"] = 2


def _average_is_wrong(evidence: Evidence) -> None:
    evidence.kv[CHANNEL, "avg_download_ms"] = "9000"


def _traceback(evidence: Evidence) -> None:
    evidence.lives[1].lines.append(line(30, "a job ended in a bug", exception="Traceback...\nValueError: no"))


def _printed_traceback(evidence: Evidence) -> None:
    evidence.lives[1].raw = "Traceback (most recent call last)\n"


def _secret(evidence: Evidence) -> None:
    evidence.lives[1].raw = json.dumps({"msg": "postgresql://vodkeep:hunter2@localhost/vodkeep"})


def _ended_by_itself(evidence: Evidence) -> None:
    evidence.lives[1].exit_code = 1


def _stopped_badly(evidence: Evidence) -> None:
    evidence.lives[1].by, evidence.lives[1].exit_code = Kind.TERMINATE, -9


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (_other_state, PARKED),
        (_never_found, "3100000009"),
        (_unsettled, KEPT),
        (_foreign_packets, KEPT),
        (_other_times, KEPT),
        (_unreadable, KEPT),
        (_manifest_is_wrong, KEPT),
        (_verify_says_no, KEPT),
        (_two_at_once, KEPT),
        (_fetched_again, KEPT),
        (_work_folder, KEPT),
        (_stray_file, "filler"),
        (_second_folder, "(1)"),
        (_unfinished_file, KEPT),
        (_orphan, "4711"),
        (_lease, "host:101:aa"),
        (_ticket, KEPT),
        (_illegal_move, KEPT),
        (_gap_in_the_walk, KEPT),
        (_last_event_disagrees, KEPT),
        (_line_without_event, KEPT),
        (_event_without_line, PARKED),
        (_metric_is_wrong, CHANNEL),
        (_gauge_is_wrong, CHANNEL),
        (_attempts_are_wrong, PARKED),
        (_average_is_wrong, CHANNEL),
        (_traceback, "Process 2"),
        (_printed_traceback, "Process 2"),
        (_secret, "password"),
        (_ended_by_itself, "Process 2"),
        (_stopped_badly, "Process 2"),
    ],
)
def test_a_broken_promise_is_found(spoil: Callable[[Evidence], None], named: str) -> None:
    evidence = good()
    spoil(evidence)
    findings = judge(evidence)
    assert findings
    assert any(named in finding for finding in findings), findings


def test_a_cancel_in_the_table_itself_leaves_no_event() -> None:
    evidence = good()
    evidence.rows[PARKED] |= {"download_state": "canceled"}
    evidence.endings[PARKED] = frozenset({("canceled", None)})
    assert any(PARKED in finding for finding in judge(evidence))
    evidence.canceled_by_hand[PARKED] = 1
    assert judge(evidence) == []


def test_a_request_for_what_is_pending_already_is_no_move() -> None:
    evidence = good()
    evidence.events.insert(0, Event(8, KEPT, at(0), "pending", "pending", "reset"))
    assert judge(evidence) == []
    evidence.events[0] = Event(8, KEPT, at(0), "pending", "pending", None)
    assert len(judge(evidence)) == 1


def test_a_process_that_was_killed_between_a_commit_and_its_line_is_no_finding() -> None:
    evidence = good()
    evidence.events.insert(1, Event(8, KEPT, at(9), "downloading", "downloading", "resumed"))
    assert judge(evidence) == []
    evidence.events[1] = Event(8, KEPT, at(5), "downloading", "downloading", "resumed")
    assert len(judge(evidence)) == 1


def test_recovery_counts_from_when_somebody_could_go_on() -> None:
    evidence = good()
    # Life 2 was there all the time, and claimed the item two seconds after the kill.
    evidence.lives[1].lines.insert(0, line(1, "listening", ""))
    (one,) = recoveries(evidence)
    assert (one.kind, one.item) == (Kind.KILL, KEPT)
    assert [one.seconds, one.idle_s] == pytest.approx([1.8, 1.8])
    evidence.lives[1].began = at(11)
    evidence.lives[1].lines[0] = line(11.5, "listening", "")
    (one,) = recoveries(evidence)
    assert [one.seconds, one.idle_s] == pytest.approx([1.0, 0.5])


def _no_slot(evidence: Evidence) -> None:
    evidence.lives[1].lines[1:1] = [
        line(5, "download started", "other"),
        line(5, "download started", "another"),
        line(11, "download failed", "other"),
    ]


def _no_database(evidence: Evidence) -> None:
    evidence.happened.append(Happened(Kind.DATABASE_STOP, at(10), at(11)))


def _nobody_hands_out(evidence: Evidence) -> None:
    evidence.lives[1].watches = False
    evidence.lives.append(life(3, line(11, "listening", ""), works=False))


@pytest.mark.parametrize("hinder", [_no_slot, _no_database, _nobody_hands_out])
def test_time_in_which_nobody_could_have_gone_on_is_told_apart(hinder: Callable[[Evidence], None]) -> None:
    evidence = good()
    evidence.lives[1].lines.insert(0, line(1, "listening", ""))
    hinder(evidence)
    (one,) = [one for one in recoveries(evidence) if one.kind is Kind.KILL]
    assert one.seconds == pytest.approx(1.8)
    assert one.idle_s == pytest.approx(1.0, abs=0.11)


def test_bytes_that_were_sent_again_are_counted() -> None:
    assert bytes_again(good()) == (100, 400)
    assert "100 of 400 bytes, 1 whole segments" in report(good())
