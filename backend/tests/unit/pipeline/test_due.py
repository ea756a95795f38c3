from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.queue_items import NOW, make_item
from vodkeep.capture.space import RESERVE_BYTES, bytes_of
from vodkeep.pipeline.breaker import Breaker, BreakerPhase
from vodkeep.pipeline.due import (
    PUBLICATION_WINDOW,
    TWITCH_STAGES,
    URGENT_WITHIN,
    DiskShortage,
    Due,
    DueReason,
    Publication,
    Situation,
    UploadLimits,
    bytes_needed,
    disk_shortage,
    due_reason,
    due_stage,
    expires_at,
    next_upload_at,
    plan_due,
    queue_key,
)
from vodkeep.pipeline.model import SETTLED, DownloadState, Job, QueueItem, Stage

S = DownloadState
PAST, FUTURE = NOW - timedelta(seconds=1), NOW + timedelta(seconds=1)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)


# --- one row ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "stage", "reason"),
    [
        pytest.param({}, Stage.CAPTURE, DueReason.NEW, id="pending"),
        pytest.param({"processed": True}, None, None, id="processed pending"),
        pytest.param({"not_before": FUTURE}, None, None, id="pending, later"),
        pytest.param({"not_before": NOW}, Stage.CAPTURE, DueReason.NEW, id="pending, now"),
        pytest.param(
            {"download_state": S.DOWNLOADING}, Stage.CAPTURE, DueReason.RESUMED, id="downloading, nobody runs it"
        ),
        pytest.param({"download_state": S.VERIFYING}, Stage.CAPTURE, DueReason.RESUMED, id="verifying, nobody runs it"),
        pytest.param(
            {"download_state": S.DOWNLOADING, "not_before": FUTURE},
            Stage.CAPTURE,
            DueReason.RESUMED,
            id="a killed run waits for nothing",
        ),
        pytest.param({"download_state": S.WAITING, "not_before": FUTURE}, None, None, id="still live"),
        pytest.param(
            {"download_state": S.WAITING, "not_before": NOW}, Stage.CAPTURE, DueReason.ENDED, id="perhaps ended"
        ),
        pytest.param(
            {"download_state": S.FAILED, "processing_error": "x", "not_before": FUTURE},
            None,
            None,
            id="failed, backing off",
        ),
        pytest.param(
            {"download_state": S.FAILED, "processing_error": "x", "not_before": PAST},
            Stage.CAPTURE,
            DueReason.RETRY,
            id="failed, ripe",
        ),
        pytest.param(
            {"download_state": S.FAILED, "processing_error": None, "not_before": FUTURE},
            Stage.CAPTURE,
            DueReason.RESET,
            id="failed, reset, wait is void",
        ),
        pytest.param(
            {"download_state": S.FAILED, "stage": Stage.PUBLISH, "processing_error": "x", "not_before": PAST},
            Stage.PUBLISH,
            DueReason.RETRY,
            id="failed upload, ripe",
        ),
        pytest.param(
            {"download_state": S.FAILED, "stage": Stage.PUBLISH, "processing_error": "x", "not_before": FUTURE},
            None,
            None,
            id="failed upload, backing off",
        ),
        pytest.param(
            {"download_state": S.FAILED, "stage": Stage.PUBLISH, "processing_error": "x", "skip_upload": True},
            None,
            None,
            id="failed upload, not wanted any more",
        ),
        pytest.param(
            {"download_state": S.FAILED, "stage": Stage.PUBLISH, "processing_error": None},
            Stage.CAPTURE,
            DueReason.RESET,
            id="failed upload, reset: from the beginning",
        ),
        pytest.param(
            {"download_state": S.FAILED, "stage": Stage.CHAT, "processing_error": "x"},
            Stage.CHAT,
            DueReason.RETRY,
            id="failed chat",
        ),
        pytest.param({"download_state": S.PARKED, "processing_error": "x"}, None, None, id="parked"),
        pytest.param(
            {"download_state": S.PARKED, "processing_error": "x", "stage": Stage.PUBLISH},
            None,
            None,
            id="parked upload",
        ),
        pytest.param({"download_state": S.PARKED}, Stage.CAPTURE, DueReason.RESET, id="parked, reset"),
        pytest.param({"download_state": S.CANCELED, "processing_error": "x"}, None, None, id="canceled"),
        pytest.param({"download_state": S.CANCELED}, Stage.CAPTURE, DueReason.RESET, id="canceled, reset"),
        pytest.param({"download_state": S.DONE, "processed": True}, None, None, id="done"),
        pytest.param({"download_state": S.DONE}, Stage.CAPTURE, DueReason.RESET, id="done, reset"),
        pytest.param(
            {"download_state": S.DONE, "processed": True, "stage": Stage.TIDY}, Stage.TIDY, DueReason.NEXT, id="untidy"
        ),
        pytest.param({"download_state": S.DOWNLOADED}, Stage.PUBLISH, DueReason.NEXT, id="in its folder"),
        pytest.param(
            {"download_state": S.DOWNLOADED, "stage": Stage.CHAT}, Stage.CHAT, DueReason.NEXT, id="without its chat"
        ),
        pytest.param(
            {"download_state": S.DOWNLOADED, "stage": Stage.PUBLISH, "not_before": FUTURE},
            None,
            None,
            id="to be published later",
        ),
        pytest.param({"download_state": S.DOWNLOADED, "skip_upload": True}, None, None, id="not to be published"),
        pytest.param({"download_state": S.UPLOADING}, Stage.PUBLISH, DueReason.RESUMED, id="uploading, nobody runs it"),
    ],
)
def test_when_an_item_is_due_and_for_what(
    changes: dict[str, Any], stage: Stage | None, reason: DueReason | None
) -> None:
    item = make_item(**changes)
    assert due_stage(item, NOW) is stage
    for each in Stage:
        assert due_reason(item, NOW, each) is (reason if each is stage else None)


@pytest.mark.parametrize("processed", [False, True])
@pytest.mark.parametrize("error", [None, "x"])
@pytest.mark.parametrize("state", S)
def test_a_placeholder_is_never_due_whatever_an_operator_writes(state: S, error: str | None, processed: bool) -> None:
    for stage in Stage:
        item = make_item(
            "live-1795441020", download_state=state, stage=stage, processing_error=error, processed=processed
        )
        assert due_stage(item, NOW) is None


@pytest.mark.parametrize(
    ("age_days", "lifetime_days", "left_days"),
    [
        (0, None, 7),
        (6.5, None, 0.5),
        (7, None, 7),  # It is still here, so it is kept for 14 days at least.
        (6.5, 7, 0.5),
        (6.5, 14, 7.5),
        (6.5, 60, 53.5),
        (13, 7, 1),
        (15, 7, 45),
        (59.5, 14, 0.5),
        (60, 60, None),
        (400, None, None),
    ],
)
def test_when_twitch_deletes_a_recording(age_days: float, lifetime_days: int | None, left_days: float | None) -> None:
    item = make_item(date=NOW - timedelta(days=age_days))
    lifetime = None if lifetime_days is None else timedelta(days=lifetime_days)
    assert expires_at(item, lifetime, NOW) == (None if left_days is None else NOW + timedelta(days=left_days))


def test_a_recording_without_a_date_does_not_expire() -> None:
    assert expires_at(make_item(date=None, created_at=NOW - timedelta(days=6.9)), None, NOW) is None


# --- the order -------------------------------------------------------------------------------------------------------


def _situation(**changes: Any) -> Situation:
    return Situation(**{"now": NOW, "slots": {Stage.CAPTURE: 8}, **changes})


def _plan(items: Sequence[QueueItem], **changes: Any) -> list[str]:
    return [due.item.twitch_vod_id for due in plan_due(items, _situation(**changes))]


def test_priority_comes_before_age_and_age_before_the_id() -> None:
    items = [
        make_item("new", date=NOW - DAY),
        make_item("old", date=NOW - 5 * DAY),
        make_item("undated", date=None, created_at=NOW),
        make_item("urgent", date=NOW, priority=5),
        make_item("later", date=NOW - 20 * DAY, priority=-1),
        make_item("new-2", date=NOW - DAY),
    ]
    assert _plan(items) == ["urgent", "old", "new", "new-2", "undated", "later"]


def test_what_twitch_deletes_within_a_day_goes_first_within_its_priority() -> None:
    items = [
        make_item("wanted", date=NOW, priority=1),
        make_item("old", date=NOW - 30 * DAY),
        make_item("6.2", date=NOW - 6.2 * DAY),
        make_item("6.9", date=NOW - 6.9 * DAY),
        make_item("13.5", date=NOW - 13.5 * DAY, channel="affiliate"),
        make_item("6.8", date=NOW - 6.8 * DAY, channel="affiliate"),
    ]
    assert _plan(items, lifetimes={"affiliate": timedelta(days=14)}) == ["wanted", "6.9", "13.5", "6.2", "old", "6.8"]


def test_uploads_do_not_hurry_because_of_twitch() -> None:
    items = [make_item(str(days), date=NOW - days * DAY, download_state=S.DOWNLOADED) for days in (30, 6.5, 20)]
    assert _plan(items, slots={Stage.PUBLISH: 8}) == ["30", "20", "6.5"]


def test_new_broadcasts_and_the_back_catalogue_take_turns() -> None:
    items = [make_item(f"old-{n}", date=NOW - (100 - n) * DAY, back_catalogue=True) for n in range(3)]
    items += [make_item(f"new-{n}", date=NOW - (5 - n) * DAY) for n in range(4)]
    turns = ["new-0", "old-0", "new-1", "old-1", "new-2", "old-2", "new-3"]
    assert _plan(items) == turns
    assert _plan(items, slots={Stage.CAPTURE: 1}) == ["new-0"]
    assert _plan(items, slots={Stage.CAPTURE: 1}, old_went_last={Stage.CAPTURE: False}) == ["old-0"]
    assert _plan(items, slots={Stage.CAPTURE: 2}, old_went_last={Stage.CAPTURE: False}) == ["old-0", "new-0"]
    assert _plan(items, slots={Stage.CAPTURE: 1}, old_went_last={Stage.PUBLISH: False}) == ["new-0"]


def test_what_cannot_start_takes_no_turn() -> None:
    shut = {"bad": Breaker(BreakerPhase.OPEN, 5, FUTURE)}
    items = [make_item("new-bad", channel="bad"), make_item("new"), make_item("old", back_catalogue=True)]
    assert _plan(items, breakers=shut) == ["new", "old"]


def test_no_more_than_the_free_slots_are_filled() -> None:
    items = [make_item(str(number)) for number in range(5)]
    running = [Job(Stage.CAPTURE, "0", "chan")]
    assert _plan(items, running=running, slots={Stage.CAPTURE: 3}) == ["1", "2"]
    assert _plan(items, running=running, slots={Stage.CAPTURE: 1}) == []
    assert _plan(items, slots={}) == []


def test_each_stage_has_slots_of_its_own() -> None:
    items = [
        make_item("c"),
        make_item("h", download_state=S.DOWNLOADED, stage=Stage.CHAT),
        make_item("p", download_state=S.DOWNLOADED, stage=Stage.PUBLISH),
        make_item("t", download_state=S.DONE, processed=True, stage=Stage.TIDY),
    ]
    one_each = dict.fromkeys(Stage, 1)
    due = plan_due(items, _situation(slots=one_each))
    assert [(one.item.twitch_vod_id, one.stage) for one in due] == list(zip("chpt", Stage, strict=True))
    for stage, busy in zip(Stage, "chpt", strict=True):
        running = [Job(stage, "other", "chan")]
        assert _plan(items, slots=one_each, running=running) == [each for each in "chpt" if each != busy]


@pytest.mark.parametrize("stage", Stage)
def test_a_stage_that_nothing_runs_never_starts_anything(stage: Stage) -> None:
    items = [
        make_item("c"),
        make_item("h", download_state=S.DOWNLOADED, stage=Stage.CHAT),
        make_item("p", download_state=S.DOWNLOADED, stage=Stage.PUBLISH),
        make_item("t", download_state=S.DONE, processed=True, stage=Stage.TIDY),
    ]
    due = plan_due(items, _situation(slots={each: 9 for each in Stage if each is not stage}))
    assert {one.stage for one in due} == set(Stage) - {stage}


# --- the breaker -----------------------------------------------------------------------------------------------------


def test_an_open_breaker_holds_back_its_channel_and_no_other() -> None:
    breakers = {"bad": Breaker(BreakerPhase.OPEN, 5, FUTURE)}
    assert _plan([make_item("1", channel="bad"), make_item("2", channel="good")], breakers=breakers) == ["2"]


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("until", [PAST, FUTURE])
def test_a_breaker_holds_back_only_what_asks_twitch(stage: Stage, until: datetime) -> None:
    states = {Stage.CAPTURE: S.PENDING, Stage.TIDY: S.DONE}
    item = make_item(
        channel="bad",
        download_state=states.get(stage, S.DOWNLOADED),
        stage=stage,
        processed=stage is Stage.TIDY,
    )
    breakers = {"bad": Breaker(BreakerPhase.OPEN, 5, until)}
    due = plan_due([item], _situation(slots={stage: 1}, breakers=breakers))
    probe = stage is Stage.CAPTURE and until is PAST
    assert [one.probe for one in due] == ([probe] if probe or stage not in TWITCH_STAGES else [])


@pytest.mark.parametrize("phase", [BreakerPhase.OPEN, BreakerPhase.HALF_OPEN])
def test_after_the_cooldown_or_a_dead_probe_exactly_one_probe_goes(phase: BreakerPhase) -> None:
    items = [make_item(number, channel="bad") for number in "123"]
    due = plan_due(items, _situation(breakers={"bad": Breaker(phase, 5, NOW)}))
    assert [(one.item.twitch_vod_id, one.probe) for one in due] == [("1", True)]


def test_no_second_probe_while_the_first_is_at_work() -> None:
    running = [Job(Stage.CAPTURE, "0", "bad", probe=True)]
    breakers = {"bad": Breaker(BreakerPhase.HALF_OPEN, 5, PAST)}
    assert _plan([make_item("1", channel="bad")], running=running, breakers=breakers) == []


def test_an_item_of_a_channel_that_is_not_configured_is_due() -> None:
    """The planner knows no configuration: what ``vodkeep archive`` put into the table is work like any other."""
    assert _plan([make_item("1", channel="never-configured")]) == ["1"]


# --- upload limits ---------------------------------------------------------------------------------------------------


def _to_publish(*ids: str, **changes: Any) -> list[QueueItem]:
    return [make_item(each, download_state=S.DOWNLOADED, stage=Stage.PUBLISH, **changes) for each in ids]


def _published(*hours: float, back_catalogue: bool = False) -> list[Publication]:
    return [Publication(NOW - timedelta(hours=each), back_catalogue) for each in hours]


@pytest.mark.parametrize(
    ("daily", "old_daily", "published", "started"),
    [
        pytest.param(2, 2, [], ["n1", "o1"], id="nothing yet"),
        pytest.param(9, 9, [], ["n1", "o1", "n2", "o2"], id="far from it"),
        pytest.param(2, 2, _published(1), ["n1"], id="one left"),
        pytest.param(2, 2, _published(1, 23.9), [], id="used up"),
        pytest.param(2, 2, _published(1, 24), ["n1"], id="a day ago counts no more"),
        pytest.param(9, 1, [], ["n1", "o1", "n2"], id="one old one"),
        pytest.param(9, 1, _published(1, back_catalogue=True), ["n1", "n2"], id="old ones used up"),
        pytest.param(9, 1, _published(1), ["n1", "o1", "n2"], id="a new one leaves the old ones' limit alone"),
        pytest.param(9, 0, [], ["n1", "n2"], id="new ones only"),
        pytest.param(1, 9, _published(1, back_catalogue=True), [], id="an old one counts for the whole too"),
    ],
)
def test_uploads_keep_to_their_limits_over_a_rolling_day(
    daily: int, old_daily: int, published: list[Publication], started: list[str]
) -> None:
    items = _to_publish("n1", "n2") + _to_publish("o1", "o2", back_catalogue=True)
    limits = UploadLimits(daily, old_daily)
    assert _plan(items, slots={Stage.PUBLISH: 8}, published=published, upload_limits=limits) == started


def test_uploads_at_work_count_as_if_they_had_succeeded() -> None:
    items = _to_publish("n1", "n2") + _to_publish("o1", "o2", back_catalogue=True)
    changes: dict[str, Any] = {
        "slots": {Stage.PUBLISH: 8},
        "running": [Job(Stage.PUBLISH, "o1", "chan")],
        "at_work": [items[2]],
    }
    assert _plan(items, **changes, upload_limits=UploadLimits(2, 2)) == ["n1"]
    assert _plan(items, **changes, upload_limits=UploadLimits(9, 1)) == ["n1", "n2"]


def test_upload_limits_never_hold_up_downloads() -> None:
    items = [*_to_publish("p"), make_item("c")]
    slots = {Stage.CAPTURE: 1, Stage.PUBLISH: 1}
    assert _plan(items, slots=slots, published=_published(1), upload_limits=UploadLimits(1, 0)) == ["c"]


def test_an_upload_takes_no_download_slot() -> None:
    running = [Job(Stage.PUBLISH, "7", "chan")]
    assert _plan([make_item("1")], running=running, slots={Stage.CAPTURE: 1, Stage.PUBLISH: 1}) == ["1"]


def test_the_next_upload_is_let_through_when_a_publication_is_a_day_old() -> None:
    limits = UploadLimits(2, 1)
    assert next_upload_at(_published(1), limits, NOW) is None
    assert next_upload_at(_published(1, 5), limits, NOW) == NOW + timedelta(hours=19)
    assert next_upload_at(_published(1, 2, 5), limits, NOW) == NOW + timedelta(hours=22)
    assert next_upload_at(_published(3, back_catalogue=True), limits, NOW) == NOW + timedelta(hours=21)
    assert next_upload_at(_published(30, 40), limits, NOW) is None
    assert next_upload_at(_published(1), UploadLimits(5, 0), NOW) is None


@given(
    st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=12),
    st.integers(1, 5),
    st.integers(0, 5),
)
def test_no_day_ever_sees_more_publications_than_its_limits(
    arrivals: list[tuple[int, bool]], daily: int, old_daily: int
) -> None:
    """Whatever is to be published, each upload as soon as it may start."""
    limits = UploadLimits(daily, old_daily)
    published: list[Publication] = []
    waiting = [
        _to_publish(str(number), created_at=NOW + timedelta(hours=hour), back_catalogue=old)[0]
        for number, (hour, old) in enumerate(arrivals)
    ]
    now = NOW
    for _ in range(400):
        here = [item for item in waiting if item.created_at is not None and item.created_at <= now]
        due = plan_due(here, _situation(now=now, slots={Stage.PUBLISH: 3}, published=published, upload_limits=limits))
        for one in due:
            waiting.remove(one.item)
            published.append(Publication(now, one.item.back_catalogue))
        window = [one for one in published if one.at > now - PUBLICATION_WINDOW]
        assert len(window) <= daily
        assert sum(one.back_catalogue for one in window) <= old_daily
        now += timedelta(hours=1)
    assert all(item.back_catalogue and old_daily == 0 for item in waiting), "what may be published is, in the end"


# --- disk pressure ---------------------------------------------------------------------------------------------------

HOUR_BYTES = bytes_of(timedelta(hours=1))


def test_what_a_capture_still_needs() -> None:
    assert bytes_needed(make_item(duration_seconds=3600)) == HOUR_BYTES
    assert bytes_needed(make_item(duration_seconds=3600, download_bytes=1000)) == HOUR_BYTES - 1000
    assert bytes_needed(make_item(download_total=5000, download_bytes=1000)) == 4000
    assert bytes_needed(make_item(download_total=5000, download_bytes=6000)) == 0
    assert bytes_needed(make_item(duration_seconds=None)) == 0


@pytest.mark.parametrize(
    ("free_bytes", "started"),
    [
        pytest.param(None, ["1", "2", "3"], id="not known"),
        pytest.param(RESERVE_BYTES - 1, [], id="less than the reserve"),
        pytest.param(RESERVE_BYTES + HOUR_BYTES - 1, [], id="no room for it"),
        pytest.param(RESERVE_BYTES + HOUR_BYTES, ["1"], id="room for one"),
        pytest.param(RESERVE_BYTES + 3 * HOUR_BYTES - 1, ["1", "2"], id="no room for the third"),
        pytest.param(RESERVE_BYTES + 3 * HOUR_BYTES, ["1", "2", "3"], id="room"),
    ],
)
def test_captures_wait_for_room(free_bytes: int | None, started: list[str]) -> None:
    items = [make_item(number, duration_seconds=3600) for number in "123"]
    assert _plan(items, free_bytes=free_bytes) == started


def test_a_smaller_broadcast_begins_while_a_larger_one_waits_which_is_told() -> None:
    items = [make_item("1", duration_seconds=3600), make_item("2", duration_seconds=60)]
    free = RESERVE_BYTES + HOUR_BYTES - 1
    assert _plan(items, free_bytes=free) == ["2"]
    assert disk_shortage(items, _situation(free_bytes=free)) == DiskShortage(free, free + 1, "1")


def test_how_large_a_broadcast_becomes_is_told_by_the_channels_latest() -> None:
    items = [make_item("1", duration_seconds=3600)]
    assert _plan(items, free_bytes=RESERVE_BYTES + 3600, byte_rates={"chan": 1.0}) == ["1"]
    assert _plan(items, free_bytes=RESERVE_BYTES + 3599, byte_rates={"chan": 1.0}) == []
    assert _plan(items, free_bytes=5000, reserve_bytes=1400, byte_rates={"chan": 1.0}) == ["1"]


def test_no_capture_starts_while_those_at_work_need_the_rest_of_the_disk() -> None:
    at_work = make_item("0", download_state=S.DOWNLOADING, download_total=10_000, download_bytes=4000)
    uploading = make_item("9", download_state=S.UPLOADING, download_total=10**12)
    changes: dict[str, Any] = {
        "running": [Job(Stage.CAPTURE, "0", "chan"), Job(Stage.PUBLISH, "9", "chan")],
        "at_work": [at_work, uploading],
    }
    needed = RESERVE_BYTES + 6000
    small = [make_item("1", duration_seconds=0)]
    assert _plan(small, **changes, free_bytes=needed) == ["1"]
    assert _plan(small, **changes, free_bytes=needed - 1) == []
    assert disk_shortage(small, _situation(**changes, free_bytes=needed)) is None
    assert disk_shortage(small, _situation(**changes, free_bytes=needed - 1)) == DiskShortage(needed - 1, needed, "1")
    assert disk_shortage([], _situation(**changes, free_bytes=needed - 1)) == DiskShortage(needed - 1, needed)
    assert disk_shortage(small, _situation(**changes)) is None


def test_a_full_disk_stops_neither_uploads_nor_tidying() -> None:
    items = [
        make_item("c"),
        make_item("h", download_state=S.DOWNLOADED, stage=Stage.CHAT),
        make_item("p", download_state=S.DOWNLOADED, stage=Stage.PUBLISH),
        make_item("t", download_state=S.DONE, processed=True, stage=Stage.TIDY),
    ]
    assert _plan(items, slots=dict.fromkeys(Stage, 1), free_bytes=0) == ["h", "p", "t"]


# --- nobody starves --------------------------------------------------------------------------------------------------


class _Simulation:
    """A queue that is worked off: one job ends per tick; whose start it was, is remembered as the planner does."""

    def __init__(
        self, items: Sequence[QueueItem], slots: int, lifetimes: dict[str, timedelta], tick: timedelta
    ) -> None:
        self.now = NOW
        self.waiting = list(items)
        self.started: list[Due] = []
        self._running: list[Due] = []
        self._slots = slots
        self._lifetimes = lifetimes
        self._tick = tick
        self._old_went_last: dict[Stage, bool] = {}

    def here(self) -> list[QueueItem]:
        """What has been found by now."""
        return [item for item in self.waiting if item.created_at is not None and item.created_at <= self.now]

    def step(self, rng: random.Random) -> list[Due]:
        """Start what is due; then some job ends and time goes on. Returns what was started."""
        due = plan_due(
            self.here(),
            _situation(
                now=self.now,
                slots={Stage.CAPTURE: self._slots},
                running=[Job(one.stage, one.item.twitch_vod_id, one.item.channel) for one in self._running],
                lifetimes=self._lifetimes,
                old_went_last=self._old_went_last,
            ),
        )
        for one in due:
            self.waiting.remove(one.item)
            self._old_went_last[one.stage] = one.item.back_catalogue
        self.started += due
        self._running += due
        if self._running:
            self._running.pop(rng.randrange(len(self._running)))
        self.now += self._tick
        return due


@st.composite
def _catalogs(draw: st.DrawFn) -> list[QueueItem]:
    """A back-catalogue that is there from the start, and broadcasts that are found as they begin."""
    items = []
    for number in range(draw(st.integers(0, 40))):
        found = NOW + timedelta(hours=draw(st.integers(0, 12)))
        age = timedelta(hours=draw(st.integers(49, 24 * 70)))
        items.append(
            make_item(
                f"o{number}",
                channel=draw(st.sampled_from("abc")),
                date=found - age,
                created_at=found,
                back_catalogue=True,
            )
        )
    for number in range(draw(st.integers(0, 40))):
        found = NOW + timedelta(hours=draw(st.integers(0, 90)))
        items.append(make_item(f"n{number}", channel=draw(st.sampled_from("abc")), date=found, created_at=found))
    return items


@given(
    _catalogs(),
    st.integers(1, 4),
    st.dictionaries(st.sampled_from("abc"), st.sampled_from([7, 14, 60])),
    st.integers(0, 2**32),
)
def test_neither_new_broadcasts_nor_the_back_catalogue_starve(
    items: list[QueueItem], slots: int, days: dict[str, int], seed: int
) -> None:
    """To the end of the queue: of two starts in a row, one is of each kind that had something to do.

    Unless Twitch was about to delete what went instead.
    """
    lifetimes = {channel: timedelta(days=kept) for channel, kept in days.items()}
    simulation = _Simulation(items, slots, lifetimes, timedelta(hours=1))
    rng = random.Random(seed)
    last: Due | None = None
    while simulation.waiting:
        now, before = simulation.now, simulation.here()
        started = simulation.step(rng)
        assert started or not before, "something is due and a slot is free, yet nothing starts"
        for number, one in enumerate(started):
            left = [item for item in before if item not in [each.item for each in started[:number]]]
            if (
                last is not None
                and last.item.back_catalogue == one.item.back_catalogue
                and not _hurries(one, lifetimes, now)
            ):
                assert all(item.back_catalogue == one.item.back_catalogue for item in left), "the other's turn was due"
            last = one
    assert len(simulation.started) == len(items)


def _hurries(one: Due, lifetimes: dict[str, timedelta], now: datetime) -> bool:
    expiry = expires_at(one.item, lifetimes.get(one.item.channel), now)
    return expiry is not None and expiry <= now + URGENT_WITHIN


@given(st.integers(1, 60), st.integers(1, 3))
def test_new_broadcasts_that_never_cease_do_not_keep_the_back_catalogue_waiting(old: int, slots: int) -> None:
    """And the other way round: each new broadcast starts at once, or as the next but one."""
    items = [
        make_item(f"o{number}", date=NOW - timedelta(days=61 + number), created_at=NOW, back_catalogue=True)
        for number in range(old)
    ]
    # Two for each job that ends: more than there is time for.
    steps = 2 * old + 10
    items += [
        make_item(f"n{number}", date=NOW + number * DAY / 200, created_at=NOW + number * DAY / 200)
        for number in range(2 * steps)
    ]
    simulation = _Simulation(items, slots, {}, DAY / 100)
    rng = random.Random(7)
    for _ in range(steps):
        simulation.step(rng)
    assert not [item for item in simulation.waiting if item.back_catalogue]
    kinds = [one.item.back_catalogue for one in simulation.started[: 2 * old]]
    assert sum(kinds) == old, "half of the starts each, as long as both wait"


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 50)), min_size=1, max_size=30))
def test_what_can_be_saved_before_twitch_deletes_it_is_saved(ages: list[tuple[int, int]]) -> None:
    """With one slot and a job per hour, nothing is lost as long as not more than 24 expire on one day."""
    items = [
        make_item(
            str(number), date=NOW - timedelta(days=day, minutes=minute), created_at=NOW, back_catalogue=number % 2 == 0
        )
        for number, (day, minute) in enumerate(ages)
    ]
    crowded = [day for day in range(7) if sum(each == day for each, _ in ages) > 20]
    simulation = _Simulation(items, 1, {"chan": WEEK}, timedelta(hours=1))
    while simulation.waiting:
        now = simulation.now
        for one in simulation.step(random.Random(1)):
            assert crowded or one.item.date is None or now < one.item.date + WEEK


# --- properties ------------------------------------------------------------------------------------------------------

_instants = st.integers(-3, 3).map(lambda seconds: NOW + timedelta(seconds=seconds))
_channels = st.sampled_from(["a", "b", "c"])
_Case = tuple[list[QueueItem], list[Job], dict[Stage, int], dict[str, Breaker]]


@st.composite
def _item(draw: st.DrawFn, number: int) -> QueueItem:
    return make_item(
        str(number),
        channel=draw(_channels),
        date=draw(st.none() | _instants),
        created_at=draw(_instants),
        processed=draw(st.booleans()),
        processing_error=draw(st.sampled_from([None, "it failed"])),
        download_state=draw(st.sampled_from(list(S))),
        stage=draw(st.sampled_from(list(Stage))),
        not_before=draw(st.none() | _instants),
        priority=draw(st.integers(-2, 2)),
        back_catalogue=draw(st.booleans()),
        skip_upload=draw(st.booleans()),
    )


@st.composite
def _cases(draw: st.DrawFn) -> _Case:
    items = [draw(_item(number)) for number in range(draw(st.integers(0, 12)))]
    busy = draw(st.lists(st.sampled_from(items), unique_by=lambda item: item.twitch_vod_id)) if items else []
    running = [
        Job(draw(st.sampled_from(list(Stage))), item.twitch_vod_id, item.channel, draw(st.booleans())) for item in busy
    ]
    phases = st.builds(Breaker, st.sampled_from(list(BreakerPhase)), st.integers(0, 9), st.none() | _instants)
    breakers = draw(st.dictionaries(_channels, phases))
    slots = draw(st.dictionaries(st.sampled_from(list(Stage)), st.integers(0, 15)))
    return items, running, slots, breakers


@given(_cases())
def test_what_is_planned_may_really_run(case: _Case) -> None:
    items, running, slots, breakers = case
    due = plan_due(items, _situation(running=running, slots=slots, breakers=breakers))
    busy = {job.twitch_vod_id for job in running}
    for stage in Stage:
        occupied = sum(job.stage is stage for job in running)
        assert sum(one.stage is stage for one in due) <= max(0, slots.get(stage, 0) - occupied)
    assert len({one.item.twitch_vod_id for one in due}) == len(due)
    for one in due:
        assert one.item.twitch_vod_id not in busy
        assert due_reason(one.item, NOW, one.stage) is one.reason
        assert not one.item.processed or one.stage is Stage.TIDY
        if one.item.download_state in SETTLED - {S.FAILED} and not one.item.processed:
            assert one.item.processing_error is None
    for channel, breaker in breakers.items():
        of_channel = [one for one in due if one.item.channel == channel and one.stage in TWITCH_STAGES]
        probes = [one for one in of_channel if one.probe]
        if breaker.phase is BreakerPhase.CLOSED:
            assert not probes
        elif breaker.open_until is not None and breaker.open_until > NOW:
            assert not of_channel
        else:
            already = any(job.probe and job.channel == channel for job in running)
            assert of_channel == probes
            assert len(probes) + already <= 1 or (already and not probes)


@given(_cases(), st.randoms(use_true_random=False))
def test_the_order_is_total_and_does_not_depend_on_the_rows_order(case: _Case, shuffler: random.Random) -> None:
    items, running, slots, breakers = case
    situation = _situation(running=running, slots=slots, breakers=breakers)
    planned = plan_due(items, situation)
    for stage in Stage:
        for old in (True, False):
            keys = [queue_key(one.item) for one in planned if one.stage is stage and one.item.back_catalogue is old]
            assert keys == sorted(keys)
    shuffled = list(items)
    shuffler.shuffle(shuffled)
    assert plan_due(shuffled, situation) == planned
    assert len({queue_key(item) for item in items}) == len(items)


@given(_cases())
def test_with_free_slots_and_closed_breakers_nothing_due_is_left_behind(case: _Case) -> None:
    items, running, _, _ = case
    due = plan_due(items, _situation(running=running, slots=dict.fromkeys(Stage, 99)))
    busy = {job.twitch_vod_id for job in running}
    expected = {item.twitch_vod_id for item in items if due_stage(item, NOW) and item.twitch_vod_id not in busy}
    assert {one.item.twitch_vod_id for one in due} == expected


@given(_cases(), st.integers(0, 2))
def test_one_stages_limits_change_nothing_for_the_others(case: _Case, daily: int) -> None:
    items, running, slots, breakers = case
    free = _situation(running=running, slots=slots, breakers=breakers)
    held = replace(free, upload_limits=UploadLimits(daily, 0), published=_published(1))

    def others(situation: Situation, stage: Stage) -> list[Due]:
        return [one for one in plan_due(items, situation) if one.stage is not stage]

    assert others(free, Stage.PUBLISH) == others(held, Stage.PUBLISH)
    full = replace(free, free_bytes=0)
    assert others(free, Stage.CAPTURE) == others(full, Stage.CAPTURE)
    assert not [one for one in plan_due(items, full) if one.stage is Stage.CAPTURE]


@given(
    st.sampled_from(sorted(SETTLED)),
    st.sampled_from(list(Stage)),
    st.none() | _instants,
    st.integers(0, 99),
    st.none() | st.text(),
    st.none() | _instants,
)
def test_the_operators_reset_makes_any_settled_item_due_at_once(
    state: DownloadState,
    stage: Stage,
    not_before: datetime | None,
    retries: int,
    code: str | None,
    date: datetime | None,
) -> None:
    item = make_item(
        download_state=state,
        stage=stage,
        not_before=not_before,
        download_retries=retries,
        error_code=code,
        date=date,
        processed=False,
        processing_error=None,
    )
    due = plan_due([item], _situation())
    assert [(one.item, one.stage, one.reason) for one in due] == [(item, Stage.CAPTURE, DueReason.RESET)]
