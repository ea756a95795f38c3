from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.queue_items import NOW, make_item
from vodkeep.pipeline.breaker import Breaker, BreakerPhase
from vodkeep.pipeline.due import DueReason, due_reason, plan_due, queue_key
from vodkeep.pipeline.model import SETTLED, DownloadState, Job, QueueItem, Stage

S = DownloadState
PAST, FUTURE = NOW - timedelta(seconds=1), NOW + timedelta(seconds=1)
CAPTURE_8 = {Stage.CAPTURE: 8}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({}, DueReason.NEW, id="pending"),
        pytest.param({"processed": True}, None, id="processed pending"),
        pytest.param({"not_before": FUTURE}, None, id="pending, later"),
        pytest.param({"download_state": S.DOWNLOADING}, DueReason.RESUMED, id="downloading, nobody runs it"),
        pytest.param({"download_state": S.VERIFYING}, DueReason.RESUMED, id="verifying, nobody runs it"),
        pytest.param(
            {"download_state": S.DOWNLOADING, "not_before": FUTURE},
            DueReason.RESUMED,
            id="a killed run waits for nothing",
        ),
        pytest.param({"download_state": S.WAITING, "not_before": FUTURE}, None, id="still live"),
        pytest.param({"download_state": S.WAITING, "not_before": NOW}, DueReason.ENDED, id="perhaps ended"),
        pytest.param(
            {"download_state": S.FAILED, "processing_error": "x", "not_before": FUTURE}, None, id="failed, backing off"
        ),
        pytest.param(
            {"download_state": S.FAILED, "processing_error": "x", "not_before": PAST},
            DueReason.RETRY,
            id="failed, ripe",
        ),
        pytest.param(
            {"download_state": S.FAILED, "processing_error": None, "not_before": FUTURE},
            DueReason.RESET,
            id="failed, reset, wait is void",
        ),
        pytest.param({"download_state": S.PARKED, "processing_error": "x"}, None, id="parked"),
        pytest.param({"download_state": S.PARKED}, DueReason.RESET, id="parked, reset"),
        pytest.param({"download_state": S.CANCELED, "processing_error": "x"}, None, id="canceled"),
        pytest.param({"download_state": S.CANCELED}, DueReason.RESET, id="canceled, reset"),
        pytest.param({"download_state": S.DONE, "processed": True}, None, id="done"),
        pytest.param({"download_state": S.DONE}, DueReason.RESET, id="done, reset"),
        pytest.param({"download_state": S.DOWNLOADED}, None, id="in its folder, for the next stage"),
        pytest.param({"download_state": S.UPLOADING}, None, id="being published"),
    ],
)
def test_when_an_item_is_due(changes: dict[str, Any], reason: DueReason | None) -> None:
    assert due_reason(make_item(**changes), NOW) is reason


def _plan(items: list[QueueItem], **changes: Any) -> list[str]:
    arguments: dict[str, Any] = {"running": [], "slots": CAPTURE_8, "breakers": {}, "now": NOW, **changes}
    return [due.item.twitch_vod_id for due in plan_due(items, **arguments)]


def test_priority_comes_before_age_and_age_before_the_id() -> None:
    day = timedelta(days=1)
    items = [
        make_item("new", date=NOW - day),
        make_item("old", date=NOW - 9 * day),
        make_item("undated", date=None),
        make_item("urgent", date=NOW, priority=5),
        make_item("later", date=NOW - 20 * day, priority=-1),
        make_item("new-2", date=NOW - day),
    ]
    assert _plan(items) == ["urgent", "old", "new", "new-2", "undated", "later"]


def test_no_more_than_the_free_slots_are_filled() -> None:
    items = [make_item(str(number)) for number in range(5)]
    running = [Job(Stage.CAPTURE, "0", "chan")]
    assert _plan(items, running=running, slots={Stage.CAPTURE: 3}) == ["1", "2"]
    assert _plan(items, running=running, slots={Stage.CAPTURE: 1}) == []
    assert _plan(items, slots={}) == []


def test_jobs_of_another_stage_hold_no_capture_slot() -> None:
    running = [Job(Stage.PUBLISH, "7", "chan")]
    assert _plan([make_item("1")], running=running, slots={Stage.CAPTURE: 1, Stage.PUBLISH: 1}) == ["1"]


def test_an_open_breaker_holds_back_its_channel_and_no_other() -> None:
    breakers = {"bad": Breaker(BreakerPhase.OPEN, 5, FUTURE)}
    assert _plan([make_item("1", channel="bad"), make_item("2", channel="good")], breakers=breakers) == ["2"]


@pytest.mark.parametrize("phase", [BreakerPhase.OPEN, BreakerPhase.HALF_OPEN])
def test_after_the_cooldown_or_a_dead_probe_exactly_one_probe_goes(phase: BreakerPhase) -> None:
    items = [make_item(number, channel="bad") for number in "123"]
    due = plan_due(items, running=[], slots=CAPTURE_8, breakers={"bad": Breaker(phase, 5, NOW)}, now=NOW)
    assert [(one.item.twitch_vod_id, one.probe) for one in due] == [("1", True)]


def test_no_second_probe_while_the_first_is_at_work() -> None:
    running = [Job(Stage.CAPTURE, "0", "bad", probe=True)]
    breakers = {"bad": Breaker(BreakerPhase.HALF_OPEN, 5, PAST)}
    assert _plan([make_item("1", channel="bad")], running=running, breakers=breakers) == []


def test_an_item_of_a_channel_that_is_not_configured_is_due() -> None:
    """The planner knows no configuration: what ``vodkeep archive`` put into the table is work like any other."""
    assert _plan([make_item("1", channel="never-configured")]) == ["1"]


# --- properties ------------------------------------------------------------------------------------------------------

_instants = st.integers(-3, 3).map(lambda seconds: NOW + timedelta(seconds=seconds))
_channels = st.sampled_from(["a", "b", "c"])


@st.composite
def _item(draw: st.DrawFn, number: int) -> QueueItem:
    return make_item(
        str(number),
        channel=draw(_channels),
        date=draw(st.none() | _instants),
        processed=draw(st.booleans()),
        processing_error=draw(st.sampled_from([None, "it failed"])),
        download_state=draw(st.sampled_from(list(S))),
        not_before=draw(st.none() | _instants),
        priority=draw(st.integers(-2, 2)),
    )


@st.composite
def _situation(draw: st.DrawFn) -> tuple[list[QueueItem], list[Job], dict[Stage, int], dict[str, Breaker]]:
    items = [draw(_item(number)) for number in range(draw(st.integers(0, 12)))]
    busy = draw(st.lists(st.sampled_from(items), unique_by=lambda item: item.twitch_vod_id)) if items else []
    running = [
        Job(draw(st.sampled_from(list(Stage))), item.twitch_vod_id, item.channel, draw(st.booleans())) for item in busy
    ]
    phases = st.builds(Breaker, st.sampled_from(list(BreakerPhase)), st.integers(0, 9), st.none() | _instants)
    breakers = draw(st.dictionaries(_channels, phases))
    return items, running, {Stage.CAPTURE: draw(st.integers(0, 15))}, breakers


@given(_situation())
def test_what_is_planned_may_really_run(
    situation: tuple[list[QueueItem], list[Job], dict[Stage, int], dict[str, Breaker]],
) -> None:
    items, running, slots, breakers = situation
    due = plan_due(items, running=running, slots=slots, breakers=breakers, now=NOW)
    busy = {job.twitch_vod_id for job in running}
    assert len(due) + sum(job.stage is Stage.CAPTURE for job in running) <= max(
        slots[Stage.CAPTURE], sum(job.stage is Stage.CAPTURE for job in running)
    )
    assert len({one.item.twitch_vod_id for one in due}) == len(due)
    for one in due:
        assert not one.item.processed
        assert one.item.twitch_vod_id not in busy
        if one.item.download_state in SETTLED - {S.FAILED}:
            assert one.item.processing_error is None
    for channel, breaker in breakers.items():
        of_channel = [one for one in due if one.item.channel == channel]
        probes = [one for one in of_channel if one.probe]
        if breaker.phase is BreakerPhase.CLOSED:
            assert not probes
        elif breaker.open_until is not None and breaker.open_until > NOW:
            assert not of_channel
        else:
            already = any(job.probe and job.channel == channel for job in running)
            assert of_channel == probes
            assert len(probes) + already <= 1 or (already and not probes)


@given(_situation(), st.randoms(use_true_random=False))
def test_the_order_is_total_and_does_not_depend_on_the_rows_order(
    situation: tuple[list[QueueItem], list[Job], dict[Stage, int], dict[str, Breaker]], shuffler: Any
) -> None:
    items, running, slots, breakers = situation
    planned = plan_due(items, running=running, slots=slots, breakers=breakers, now=NOW)
    assert [queue_key(one.item) for one in planned] == sorted(queue_key(one.item) for one in planned)
    shuffled = list(items)
    shuffler.shuffle(shuffled)
    assert plan_due(shuffled, running=running, slots=slots, breakers=breakers, now=NOW) == planned
    assert len({queue_key(item) for item in items}) == len(items)


@given(_situation())
def test_with_free_slots_and_closed_breakers_nothing_due_is_left_behind(
    situation: tuple[list[QueueItem], list[Job], dict[Stage, int], dict[str, Breaker]],
) -> None:
    items, running, _, _ = situation
    due = plan_due(items, running=running, slots={Stage.CAPTURE: 99}, breakers={}, now=NOW)
    busy = {job.twitch_vod_id for job in running}
    expected = {item.twitch_vod_id for item in items if due_reason(item, NOW) and item.twitch_vod_id not in busy}
    assert {one.item.twitch_vod_id for one in due} == expected


@given(
    st.sampled_from(sorted(SETTLED)),
    st.none() | _instants,
    st.integers(0, 99),
    st.none() | st.text(),
    st.none() | _instants,
)
def test_the_operators_reset_makes_any_settled_item_due_at_once(
    state: DownloadState, not_before: datetime | None, retries: int, code: str | None, date: datetime | None
) -> None:
    item = make_item(
        download_state=state,
        not_before=not_before,
        download_retries=retries,
        error_code=code,
        date=date,
        processed=False,
        processing_error=None,
    )
    due = plan_due([item], running=[], slots=CAPTURE_8, breakers={}, now=NOW)
    assert [(one.item, one.reason) for one in due] == [(item, DueReason.RESET)]
