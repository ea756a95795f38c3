"""What people ask of an item, on real databases: one meaning, an event that says who asked, a reason when refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import pytest

from support.queue_items import NOW
from support.queue_rows import Rows
from vodkeep.db.engine import Database
from vodkeep.db.events import Event, EventLog
from vodkeep.errors import RequestRefused, UnknownItem
from vodkeep.pipeline.action_store import ActionStore
from vodkeep.pipeline.due import DueReason, due_reason
from vodkeep.pipeline.model import HIGHEST_PRIORITY, RUNNING, Asked, Asker, DownloadState, QueueItem
from vodkeep.pipeline.store import FenceLost, QueueStore

S = DownloadState
T = TypeVar("T")
LATER = NOW + timedelta(hours=1)
ASKED = Asked(Asker.API, "request-7")
RESET_SQL = "UPDATE vods SET processed=0, processing_error=NULL, youtube_url=NULL WHERE twitch_vod_id='1'"

Ask = Callable[[ActionStore], QueueItem]

REQUESTS: dict[str, Ask] = {
    "cancel": lambda store: store.cancel("1", NOW, ASKED),
    "retry": lambda store: store.retry("1", NOW, ASKED),
    "reprocess": lambda store: store.reprocess("1", NOW, ASKED),
    "fresh": lambda store: store.reprocess("1", NOW, ASKED, fresh=True),
    "priority": lambda store: store.set_priority("1", 5, NOW, ASKED),
    "skip_upload": lambda store: store.set_skip_upload("1", True, NOW, ASKED),
}

# What each request makes of an item in each state: its state afterwards, "-" for nothing done, "!" for refused.
#              cancel    retry    reprocess
PICTURE = """
pending        canceled  -        -
waiting        canceled  pending  pending
downloading    canceled  !        !
verifying      canceled  !        !
downloaded     canceled  pending  pending
uploading      canceled  !        !
done           !         !        pending
failed         canceled  pending  pending
parked         canceled  pending  pending
canceled       -         pending  pending
"""


def _cases() -> list[tuple[DownloadState, str, str]]:
    lines = [line.split() for line in PICTURE.strip().splitlines()]
    return [
        (S(line[0]), request, mark)
        for line in lines
        for request, mark in zip(("cancel", "retry", "reprocess"), line[1:], strict=True)
    ]


def _ask(database: Database, request: Ask) -> QueueItem:
    with database.unit_of_work() as unit:
        item = request(ActionStore(unit.connection))
        unit.commit()
        return item


def _timeline(database: Database) -> list[Event]:
    with database.unit_of_work(write=False) as unit:
        return EventLog(unit.connection).of_item("1")


def _add(rows: Rows, state: DownloadState, **values: object) -> None:
    settled = state in {S.FAILED, S.PARKED, S.CANCELED}
    rows.add(
        "1",
        download_state=state,
        processed=int(state is S.DONE),
        processing_error="It did not work." if settled else None,
        error_code="network" if settled else None,
        **{"download_retries": 3, "generation": 4, "downloaded_path": "a/video.mp4", **values},
    )


@pytest.mark.parametrize("state", [S.WAITING, S.DONE])
@pytest.mark.parametrize("request_name", ["cancel", "retry", "reprocess"])
def test_nothing_of_a_placeholder_can_be_captured(
    database: Database, rows: Rows, state: DownloadState, request_name: str
) -> None:
    rows.add("live-1", download_state=state)
    before = rows.get("live-1")
    with pytest.raises(RequestRefused, match="known from its live stream only"):
        _ask(database, lambda store: getattr(store, request_name)("live-1", NOW, ASKED))
    assert (rows.get("live-1"), rows.events("live-1")) == (before, [])


@pytest.mark.parametrize(("state", "request_name", "mark"), _cases())
def test_what_each_request_makes_of_each_state(
    database: Database, rows: Rows, state: DownloadState, request_name: str, mark: str
) -> None:
    _add(rows, state)
    before = rows.get("1")
    if mark == "!":
        with pytest.raises(RequestRefused, match=r"^Item 1 is (done|at work)"):
            _ask(database, REQUESTS[request_name])
    elif mark == "-":
        assert _ask(database, REQUESTS[request_name]).download_state is state
    if mark in ("!", "-"):
        assert (rows.get("1"), _timeline(database)) == (before, [])
        return
    item = _ask(database, REQUESTS[request_name])
    row = rows.get("1")
    assert item.download_state == row["download_state"] == mark
    assert row["generation"] == 5, "whoever runs it has lost it"
    assert (row["processed"], row["not_before"], row["downloaded_path"]) == (0, None, "a/video.mp4")
    (event,) = _timeline(database)
    assert (event.from_state, event.to_state, event.kind) == (state, mark, "state")
    assert (event.code, event.asked_by, event.corr) == (
        "canceled" if mark == "canceled" else "reset",
        "api",
        "request-7",
    )
    if mark == "canceled":
        assert (row["download_retries"], row["error_code"]) == (3, "canceled")
        assert due_reason(item, LATER) is None
    else:
        assert (row["download_retries"], row["processing_error"], row["error_code"]) == (0, None, None)
        assert due_reason(item, NOW) is DueReason.NEW
        assert not item.fresh
    again = _ask(database, REQUESTS["cancel" if mark == "canceled" else "reprocess"])
    assert (again, len(_timeline(database))) == (item, 1), "again is harmless"


def test_what_waits_for_its_time_is_due_at_once(database: Database, rows: Rows) -> None:
    rows.add("1", not_before=LATER)
    assert due_reason(_ask(database, REQUESTS["retry"]), NOW) is DueReason.NEW
    assert rows.events("1") == [("pending", "pending", "reset")]


def test_a_request_to_fetch_anew_stays_until_it_is_done_or_taken_back(database: Database, rows: Rows) -> None:
    _add(rows, S.DONE)
    assert _ask(database, REQUESTS["fresh"]).fresh
    assert "anew" in _timeline(database)[-1].sentence
    assert _ask(database, REQUESTS["cancel"]).fresh
    assert _ask(database, REQUESTS["retry"]).fresh, "it goes on where it was"
    assert not _ask(database, REQUESTS["reprocess"]).fresh
    _ask(database, REQUESTS["fresh"])
    with database.unit_of_work() as unit:
        store = QueueStore(unit.connection)
        item = store.find("1")
        assert item is not None
        claim = store.claim(item, NOW, corr="x")
        assert claim.item.fresh
        store.save_captured(claim, NOW, path="a/video.mp4", size_bytes=1, completeness=1.0, publish=False)
        unit.commit()
    assert rows.get("1")["fresh"] == 0


@pytest.mark.parametrize("state", ["done", "failed", "parked", "canceled"])
def test_what_a_statement_made_due_can_be_canceled(database: Database, rows: Rows, state: str) -> None:
    _add(rows, S(state))
    rows.execute(RESET_SQL)
    item = _ask(database, REQUESTS["cancel"])
    assert due_reason(item, LATER) is None
    assert [(event.from_state, event.to_state, event.asked_by) for event in _timeline(database)] == [
        (state, "pending", "sql"),
        ("pending", "canceled", "api"),
    ]


@pytest.mark.parametrize("state", sorted(S))
@pytest.mark.parametrize("request_name", ["priority", "skip_upload"])
def test_priority_and_publishing_can_be_changed_at_any_time_and_disturb_nobody(
    database: Database, rows: Rows, state: DownloadState, request_name: str
) -> None:
    _add(rows, state)
    before = rows.get("1")
    item = _ask(database, REQUESTS[request_name])
    assert (item.priority, item.skip_upload) == ((5, False) if request_name == "priority" else (0, True))
    changed = {name for name, value in rows.get("1").items() if value != before[name]}
    assert changed <= {request_name, "updated_at", "due_stage"}
    (event,) = _timeline(database)
    assert (event.kind, event.to_state, event.asked_by, event.corr) == (
        "priority" if request_name == "priority" else "upload",
        None,
        "api",
        "request-7",
    )
    assert _ask(database, REQUESTS[request_name]) == item
    assert len(_timeline(database)) == 1, "again is harmless"


def test_a_run_does_not_lose_its_item_to_a_change_of_priority(database: Database, rows: Rows) -> None:
    rows.add("1")
    with database.unit_of_work() as unit:
        store = QueueStore(unit.connection)
        item = store.find("1")
        assert item is not None
        claim = store.claim(item, NOW, corr="x")
        unit.commit()
    _ask(database, REQUESTS["priority"])
    with database.unit_of_work() as unit:
        store = QueueStore(unit.connection)
        assert store.holds(claim)
        store.save_progress(claim, NOW, fetched_bytes=1, total_bytes=None)
        ActionStore(unit.connection).cancel("1", NOW, ASKED)
        with pytest.raises(FenceLost):
            store.save_progress(claim, NOW, fetched_bytes=1, total_bytes=None)


def test_publishing_obeys_what_was_said_during_the_capture(database: Database, rows: Rows) -> None:
    rows.add("1")
    with database.unit_of_work() as unit:
        store = QueueStore(unit.connection)
        item = store.find("1")
        assert item is not None
        claim = store.claim(item, NOW, corr="x")
        ActionStore(unit.connection).set_skip_upload("1", True, NOW, ASKED)
        state = store.save_captured(claim, NOW, path="x", size_bytes=1, completeness=1.0, publish=True)
        unit.commit()
    assert state is S.DONE


@pytest.mark.parametrize("priority", [HIGHEST_PRIORITY, -HIGHEST_PRIORITY])
def test_priorities_have_bounds(database: Database, rows: Rows, priority: int) -> None:
    rows.add("1")
    assert _ask(database, lambda store: store.set_priority("1", priority, NOW, ASKED)).priority == priority
    beyond = priority + (1 if priority > 0 else -1)
    with pytest.raises(RequestRefused, match="lies between"):
        _ask(database, lambda store: store.set_priority("1", beyond, NOW, ASKED))


@pytest.mark.parametrize("request_name", REQUESTS)
def test_an_unknown_item_is_named(database: Database, request_name: str) -> None:
    with pytest.raises(UnknownItem, match="no item 1"):
        _ask(database, REQUESTS[request_name])


def test_every_running_state_is_in_the_picture_as_refused() -> None:
    refused = {state for state, request, mark in _cases() if request == "reprocess" and mark == "!"}
    assert refused == RUNNING
