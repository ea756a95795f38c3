"""The queue on real databases: claims, fences, moves with their events, figures."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import pytest
from sqlalchemy import select

from support.queue_items import NOW
from support.queue_rows import Rows
from vodkeep.db.engine import Database
from vodkeep.db.tables import vods
from vodkeep.pipeline.action_store import ActionStore
from vodkeep.pipeline.breaker import Breaker, BreakerPhase, Verdict
from vodkeep.pipeline.due import DueReason, Situation, due_reason, due_stage, plan_due
from vodkeep.pipeline.model import Asked, Asker, DownloadState, Job, QueueItem, Stage
from vodkeep.pipeline.outcome import Setback
from vodkeep.pipeline.store import Claim, FenceLost, Loss, NotDue, QueueStore

S = DownloadState
T = TypeVar("T")
LATER = NOW + timedelta(hours=1)
ASKED = Asked(Asker.API, "request-7")

# The statement of the operations page, letter for letter.
RESET_SQL = "UPDATE vods SET processed=0, processing_error=NULL, youtube_url=NULL WHERE twitch_vod_id='1'"


def _write(database: Database, work: Callable[[QueueStore], T]) -> T:
    with database.unit_of_work() as unit:
        result = work(QueueStore(unit.connection))
        unit.commit()
        return result


def _read(database: Database, work: Callable[[QueueStore], T]) -> T:
    with database.unit_of_work(write=False) as unit:
        return work(QueueStore(unit.connection))


def _ask(database: Database, request: Callable[[ActionStore], QueueItem]) -> QueueItem:
    with database.unit_of_work() as unit:
        item = request(ActionStore(unit.connection))
        unit.commit()
        return item


def _find(database: Database, item_id: str = "1") -> QueueItem:
    item = _read(database, lambda store: store.find(item_id))
    assert item is not None
    return item


def _claim(database: Database, item_id: str = "1", *, corr: str = "corr-1") -> Claim:
    item = _find(database, item_id)
    return _write(database, lambda store: store.claim(item, NOW, corr=corr))


def _setback(state: DownloadState, code: str = "network", *, counts: bool = True) -> Setback:
    not_before = None if state is S.PARKED else LATER
    return Setback(state, code, "It did not work.", "Do something.", not_before, counts, Verdict.SILENT)


# --- claiming --------------------------------------------------------------------------------------------------------


def test_a_claim_raises_the_generation_and_tells_of_the_move(database: Database, rows: Rows) -> None:
    rows.add("1")
    claim = _claim(database)
    row = rows.get("1")
    assert (row["download_state"], row["generation"], row["processed"]) == ("downloading", 1, 0)
    assert (claim.item.generation, claim.attempt, claim.reason) == (1, 1, DueReason.NEW)
    assert rows.events("1") == [("pending", "downloading", None)]


def test_only_one_of_two_planners_gets_the_item(database: Database, rows: Rows) -> None:
    rows.add("1")
    planned = _find(database)
    _write(database, lambda store: store.claim(planned, NOW, corr="a"))
    with pytest.raises(NotDue):
        _write(database, lambda store: store.claim(planned, NOW, corr="b"))
    assert rows.get("1")["generation"] == 1


def test_racing_claims_give_exactly_one_start_each(database: Database, rows: Rows) -> None:
    ids = [str(number) for number in range(6)]
    rows.add(*ids)
    planned = [_find(database, item_id) for item_id in ids]
    claims: list[str] = []
    barrier = threading.Barrier(3)

    def dispatcher() -> None:
        barrier.wait(20)
        for item in planned:
            try:
                claims.append(_write(database, lambda store, item=item: store.claim(item, NOW, corr="x")).item_id)  # type: ignore[misc]
            except NotDue:
                continue

    threads = [threading.Thread(target=dispatcher) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(claims) == ids


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE vods SET processed=1",
        "UPDATE vods SET download_state='canceled', processing_error='canceled by hand'",
        "UPDATE vods SET generation=generation+1",
        "DELETE FROM vods",
    ],
)
def test_what_changed_since_it_was_planned_is_not_claimed(database: Database, rows: Rows, change: str) -> None:
    rows.add("1")
    planned = _find(database)
    rows.execute(change)
    with pytest.raises(NotDue):
        _write(database, lambda store: store.claim(planned, NOW, corr="x"))


def test_the_claim_follows_the_correlation_id_of_what_made_the_item_due(database: Database, rows: Rows) -> None:
    rows.add("1")
    first = _claim(database, corr="cycle-1")
    assert first.corr == "cycle-1"
    _write(database, lambda store: store.save_failed(first, NOW, _setback(S.FAILED)))
    _ask(database, lambda store: store.retry("1", NOW, ASKED))
    assert _claim(database, corr="cycle-2").corr == "request-7"


# --- the fence -------------------------------------------------------------------------------------------------------

_WRITES: dict[str, Callable[[QueueStore, Claim], Any]] = {
    "progress": lambda store, claim: store.save_progress(claim, NOW, fetched_bytes=5, total_bytes=9),
    "verifying": lambda store, claim: store.save_verifying(claim, NOW),
    "captured": lambda store, claim: store.save_captured(
        claim, NOW, path="/x", size_bytes=5, completeness=1.0, publish=False
    ),
    "captured, to publish": lambda store, claim: store.save_captured(
        claim, NOW, path="/x", size_bytes=5, completeness=1.0, publish=True
    ),
    "waiting": lambda store, claim: store.save_setback(claim, NOW, _setback(S.WAITING)),
    "failed": lambda store, claim: store.save_setback(claim, NOW, _setback(S.FAILED)),
    "parked": lambda store, claim: store.save_setback(claim, NOW, _setback(S.PARKED)),
    "release": lambda store, claim: store.release(claim, NOW),
}


@pytest.mark.parametrize("write", _WRITES)
@pytest.mark.parametrize("taken_by", ["another run", "cancel", "operator's cancel", "its own end"])
def test_a_zombie_writes_nothing(database: Database, rows: Rows, write: str, taken_by: str) -> None:
    rows.add("1")
    zombie = _claim(database)
    match taken_by:
        case "another run":
            assert _claim(database).reason is DueReason.RESUMED
        case "cancel":
            _ask(database, lambda store: store.cancel("1", NOW, ASKED))
        case "operator's cancel":
            rows.execute(
                "UPDATE vods SET download_state='canceled', processing_error='by hand' WHERE twitch_vod_id='1'"
            )
        case "its own end":
            _write(database, lambda store: _WRITES["captured, to publish"](store, zombie))
    before, timeline = rows.get("1"), rows.events("1")
    assert not _read(database, lambda store: store.holds(zombie))
    with pytest.raises(FenceLost):
        _write(database, lambda store: _WRITES[write](store, zombie))
    assert rows.get("1") == before
    assert rows.events("1") == timeline


def test_a_change_by_hand_gets_its_event_from_the_run_that_lost_the_item(database: Database, rows: Rows) -> None:
    rows.add("1")
    claim = _claim(database)
    _write(database, lambda store: store.save_verifying(claim, NOW))
    rows.execute("UPDATE vods SET download_state='canceled', processing_error='by hand' WHERE twitch_vod_id='1'")
    told = [_write(database, lambda store: store.note_loss(claim, LATER)) for _ in range(2)]
    assert told == [Loss(S.CANCELED, Asker.SQL)] * 2
    assert rows.events("1")[-2:] == [("downloading", "verifying", None), ("verifying", "canceled", None)]
    row = rows.get("1")
    assert (row["download_state"], row["processing_error"], row["generation"]) == ("canceled", "by hand", 2)


@pytest.mark.parametrize("taken_by", ["another run", "cancel", "its own end", "nobody"])
def test_what_is_in_the_timeline_already_is_not_told_twice(database: Database, rows: Rows, taken_by: str) -> None:
    rows.add("1")
    claim = _claim(database)
    match taken_by:
        case "another run":
            _claim(database)
        case "cancel":
            _ask(database, lambda store: store.cancel("1", NOW, ASKED))
        case "its own end":  # The answer to its last write was lost.
            _write(database, lambda store: _WRITES["captured"](store, claim))
    before, timeline = rows.get("1"), rows.events("1")
    loss = _write(database, lambda store: store.note_loss(claim, LATER))
    assert loss == Loss(before["download_state"], Asker.API if taken_by == "cancel" else None)
    assert (rows.get("1"), rows.events("1")) == (before, timeline)
    rows.execute("DELETE FROM vods")
    assert _write(database, lambda store: store.note_loss(claim, LATER)) == Loss(None, None)


def test_every_write_works_for_the_one_who_holds_the_claim(database: Database, rows: Rows) -> None:
    for number, write in enumerate(_WRITES, start=1):
        rows.add(str(number))
        claim = _claim(database, str(number))
        assert _read(database, lambda store, claim=claim: store.holds(claim))  # type: ignore[misc]
        _write(database, lambda store, write=write, claim=claim: _WRITES[write](store, claim))  # type: ignore[misc]


def test_a_move_and_its_event_stand_or_fall_together(database: Database, rows: Rows) -> None:
    rows.add("1")
    claim = _claim(database)
    before, timeline = rows.get("1"), rows.events("1")
    with database.unit_of_work() as unit:
        QueueStore(unit.connection).save_verifying(claim, NOW)
        assert len(rows_in(unit.connection)) == 1
        # No commit: the process dies here.
    assert (rows.get("1"), rows.events("1")) == (before, timeline)


def rows_in(connection: Any) -> list[Any]:
    return list(connection.execute(select(vods.c.id).where(vods.c.download_state == S.VERIFYING)))


# --- outcomes --------------------------------------------------------------------------------------------------------


def test_a_captured_item_is_done_and_processed(database: Database, rows: Rows) -> None:
    rows.add("1", download_retries=3, download_state="failed", processing_error="x", error_code="network")
    claim = _claim(database)
    _write(database, lambda store: store.save_progress(claim, NOW, fetched_bytes=5, total_bytes=9))
    row = rows.get("1")
    assert (row["download_bytes"], row["download_total"], row["progress_updated_at"]) == (5, 9, NOW)
    assert (row["processing_error"], row["error_code"]) == (None, None)
    state = _write(database, lambda store: _WRITES["captured"](store, claim))
    row = rows.get("1")
    assert state is S.DONE
    assert (row["download_state"], row["processed"], row["processing_error"]) == ("done", 1, None)
    assert (row["downloaded_path"], row["download_bytes"], row["completeness"]) == ("/x", 5, 1.0)
    assert row["download_retries"] == 0
    assert row["youtube_url"] is None
    assert [move[1] for move in rows.events("1")] == ["downloading", "verifying", "downloaded", "done"]


@pytest.mark.parametrize(("skip_upload", "state"), [(0, S.DOWNLOADED), (1, S.DONE)])
def test_what_is_to_be_published_stays_unprocessed(
    database: Database, rows: Rows, skip_upload: int, state: DownloadState
) -> None:
    rows.add("1", skip_upload=skip_upload)
    claim = _claim(database)
    assert _write(database, lambda store: _WRITES["captured, to publish"](store, claim)) is state
    assert rows.get("1")["processed"] == skip_upload


def test_captured_items_are_finished_when_publishing_is_off(database: Database, rows: Rows) -> None:
    rows.add("1", download_state="downloaded", downloaded_path="/x")
    (item,) = _read(database, lambda store: store.load_unpublishable(limit=5, publishes=False))
    _write(database, lambda store: store.settle_captured(item, NOW))
    assert (rows.get("1")["download_state"], rows.get("1")["processed"]) == ("done", 1)
    assert rows.events("1") == [("downloaded", "done", None)]
    with pytest.raises(FenceLost):
        _write(database, lambda store: store.settle_captured(item, NOW))


def test_a_failure_is_counted_once_and_says_why(database: Database, rows: Rows) -> None:
    rows.add("1", download_retries=1)
    claim = _claim(database)
    assert claim.attempt == 2
    _write(database, lambda store: store.save_failed(claim, NOW, _setback(S.FAILED)))
    row = rows.get("1")
    assert (row["download_state"], row["download_retries"], row["not_before"]) == ("failed", 2, LATER)
    assert (row["processing_error"], row["error_code"]) == ("It did not work.", "network")
    assert rows.events("1")[-1] == ("downloading", "failed", "network")


@pytest.mark.parametrize("state", [S.FAILED, S.WAITING])
def test_what_does_not_count_uses_up_no_attempt(database: Database, rows: Rows, state: DownloadState) -> None:
    rows.add("1", download_retries=1)
    claim = _claim(database)
    _write(database, lambda store: store.save_setback(claim, NOW, _setback(state, counts=False)))
    row = rows.get("1")
    assert (row["download_retries"], row["not_before"]) == (1, LATER)
    assert (row["processing_error"] is None) == (state is S.WAITING)


def test_a_released_item_is_due_at_the_next_start(database: Database, rows: Rows) -> None:
    rows.add("1", download_retries=2)
    claim = _claim(database)
    _write(database, lambda store: store.release(claim, NOW))
    row = rows.get("1")
    assert (row["download_state"], row["download_retries"], row["not_before"]) == ("pending", 2, None)
    assert due_reason(_find(database), NOW) is DueReason.NEW


def test_a_run_that_was_killed_is_taken_over_at_once_without_a_failure(database: Database, rows: Rows) -> None:
    rows.add("1")
    claim = _claim(database)
    _write(database, lambda store: store.save_progress(claim, NOW, fetched_bytes=5, total_bytes=9))
    again = _claim(database)
    assert (again.reason, again.attempt) == (DueReason.RESUMED, 1)
    row = rows.get("1")
    assert (row["download_retries"], row["generation"], row["download_bytes"]) == (0, 2, 5)


def test_own_failures_are_counted_from_the_last_reset(database: Database, rows: Rows) -> None:
    rows.add("1")

    def fail(code: str) -> None:
        rows.execute("UPDATE vods SET not_before=NULL")
        claim = _claim(database)
        _write(database, lambda store: store.save_failed(claim, NOW, _setback(S.FAILED, code)))

    fail("incomplete")
    fail("network")
    fail("verify_failed")
    assert _read(database, lambda store: store.own_failures("1")) == 2
    rows.execute(RESET_SQL)
    fail("incomplete")
    assert _read(database, lambda store: store.own_failures("1")) == 1
    _ask(database, lambda store: store.retry("1", NOW, ASKED))
    assert _read(database, lambda store: store.own_failures("1")) == 0


# --- what operators and people do ------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["done", "failed", "parked", "canceled"])
def test_the_runbooks_reset_works_literally_from_every_settled_state(
    database: Database, rows: Rows, state: str
) -> None:
    rows.add(
        "1",
        download_state=state,
        processed=int(state == "done"),
        processing_error=None if state == "done" else "It did not work.",
        error_code=None if state == "done" else "network",
        download_retries=5,
        upload_retries=2,
        not_before=LATER,
        youtube_url="https://youtu.be/x",
        download_bytes=7,
        download_total=7,
    )
    assert _read(database, lambda store: store.load_queue(NOW, limit=10)) == []
    rows.execute(RESET_SQL)
    assert [item.twitch_vod_id for item in _read(database, lambda store: store.load_queue(NOW, limit=10))] == ["1"]
    claim = _claim(database)
    assert (claim.reason, claim.attempt) == (DueReason.RESET, 1)
    row = rows.get("1")
    assert (row["download_retries"], row["upload_retries"], row["not_before"]) == (0, 0, None)
    assert (row["download_bytes"], row["download_total"], row["error_code"]) == (0, None, None)
    assert rows.events("1") == [(state, "downloading", "reset")]


# --- loading ---------------------------------------------------------------------------------------------------------


def test_the_database_and_the_planner_agree_on_every_kind_of_row(database: Database, rows: Rows) -> None:
    waits = (None, NOW - timedelta(seconds=1), NOW, NOW + timedelta(microseconds=1))
    kinds = itertools.product(S, Stage, (0, 1), (None, "x"), waits, (0, 1))
    names = ("download_state", "stage", "processed", "processing_error", "not_before", "skip_upload")
    each = [dict(zip(names, kind, strict=True)) for kind in kinds]
    rows.add_each({"twitch_vod_id": f"{start}{n}", **kind} for n, kind in enumerate(each) for start in ("", "live-"))
    assert _write(database, lambda store: store.ripen(NOW)) > 0
    for item, said in _everything(database):
        expected = due_stage(item, NOW)
        if said == "done":
            assert expected is None
            assert item.skip_upload
            assert due_stage(replace(item, skip_upload=False), NOW) is Stage.PUBLISH
        else:
            assert said == expected, item
    assert {said for _, said in _everything(database)} == {None, "done", *Stage}
    assert {said for item, said in _everything(database) if item.is_placeholder} == {None}


def test_a_placeholder_enters_the_queue_neither_by_itself_nor_by_the_runbooks_reset(
    database: Database, rows: Rows
) -> None:
    rows.add("live-1", download_state="waiting")
    rows.add("live-2", download_state="done", processed=1, processing_error="There is no VOD.")
    for statement in (None, "UPDATE vods SET processed=0, processing_error=NULL, youtube_url=NULL"):
        if statement is not None:
            rows.execute(statement)
        assert _read(database, lambda store: store.load_queue(NOW, limit=10)) == []
        assert _read(database, lambda store: store.load_list(limit=10)) == []
        assert _read(database, lambda store: store.depths()) == {}
        for item in _read(database, lambda store: store.load_items(["live-1", "live-2"])):
            with pytest.raises(NotDue):
                _write(database, partial(_claim_it, item))


def _claim_it(item: QueueItem, store: QueueStore) -> None:
    store.claim(item, NOW, corr="c")


def _everything(database: Database) -> list[tuple[QueueItem, str | None]]:
    with database.unit_of_work(write=False) as unit:
        store = QueueStore(unit.connection)
        said = {row[0]: row[1] for row in unit.connection.execute(select(vods.c.twitch_vod_id, vods.c.due_stage))}
        return [(item, said[item.twitch_vod_id]) for item in store.load_items(list(said))]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stage", [Stage.CAPTURE, Stage.PUBLISH])
def test_what_is_loaded_is_all_that_a_plan_of_the_whole_queue_would_start(
    database: Database, rows: Rows, seed: int, stage: Stage
) -> None:
    rng = random.Random(seed)
    days = (0, 1, 6.5, 6.9, 7.5, 13.5, 15, 59.5, 70)
    state = S.PENDING if stage is Stage.CAPTURE else S.DOWNLOADED
    added = []
    for number in range(120):
        date = NOW - timedelta(days=rng.choice(days), minutes=rng.randrange(60))
        added.append(
            {
                "twitch_vod_id": str(number),
                "channel": rng.choice("abcdefg"),
                "date": None if rng.random() < 0.1 else date,
                "created_at": date + timedelta(hours=rng.randrange(80)),
                "priority": rng.choice((0, 0, 0, 0, 1, -1)),
                "back_catalogue": rng.randrange(2),
                "download_state": rng.choice((state, state, S.PARKED)),
                "processing_error": "x",
            }
        )
    rows.add_each(added)
    rows.execute("INSERT INTO channels (login, vod_days) VALUES ('a', 7), ('b', 14), ('c', 60), ('d', NULL)")
    lifetimes = {"a": timedelta(days=7), "b": timedelta(days=14), "c": timedelta(days=60)}
    shut = ["e", "f"]
    breakers = {channel: Breaker(BreakerPhase.OPEN, 9, LATER) for channel in shut} if stage is Stage.CAPTURE else {}
    running = [Job(stage, str(number), "a") for number in range(20)]
    everything = [item for item, _ in _everything(database)]
    for free in (1, 2, 5, 40, 200):
        loaded = _read(
            database,
            lambda store, free=free: store.load_queue(  # type: ignore[misc]
                NOW,
                limit=free,
                stage=stage,
                running=[job.twitch_vod_id for job in running],
                shut_channels=shut if breakers else (),
            ),
        )
        assert len(loaded) <= 5 * free + free * free
        situation = Situation(
            now=NOW, slots={stage: 20 + free}, running=running, breakers=breakers, lifetimes=lifetimes
        )
        planned = [due.item.twitch_vod_id for due in plan_due(loaded, situation)]
        assert planned == [due.item.twitch_vod_id for due in plan_due(everything, situation)]
        assert planned
    assert _read(database, lambda store: store.load_lifetimes([*"abcd"])) == lifetimes


def test_rows_that_cannot_run_never_crowd_out_those_that_can(database: Database, rows: Rows) -> None:
    old = NOW - timedelta(days=900)
    rows.add(*(f"parked{n}" for n in range(30)), date=old, download_state="parked", processing_error="x")
    rows.add(
        *(f"later{n}" for n in range(30)), date=old, download_state="failed", processing_error="x", not_before=LATER
    )
    rows.add(*(f"shut{n}" for n in range(30)), date=old, channel="shut")
    rows.add("running", date=old, download_state="downloading")
    rows.add("due")
    found = _read(database, lambda store: store.load_queue(NOW, limit=3, running=["running"], shut_channels=["shut"]))
    assert [item.twitch_vod_id for item in found] == ["due"]


def test_rows_ripen_when_their_wait_is_over(database: Database, rows: Rows) -> None:
    past = NOW - timedelta(seconds=1)
    assert _read(database, lambda store: store.next_not_before()) is None
    rows.add("parked", download_state="parked", processing_error="x", not_before=past)
    rows.add("processed", download_state="done", processed=1, not_before=past)
    rows.add("waiting", download_state="waiting", not_before=LATER)
    assert _read(database, lambda store: store.next_not_before()) == LATER
    soon = NOW + timedelta(microseconds=2500)
    rows.add("failed", download_state="failed", processing_error="x", not_before=soon)
    rows.add("released", not_before=past)
    rows.add("upload", download_state="failed", stage="publish", processing_error="x", not_before=past)
    assert _read(database, lambda store: store.next_not_before()) == past
    assert _write(database, lambda store: store.ripen(NOW, limit=1)) == 1
    assert _write(database, lambda store: store.ripen(NOW)) == 1
    assert _write(database, lambda store: store.ripen(NOW)) == 0
    assert _read(database, lambda store: store.next_not_before()) == soon
    due = {item.twitch_vod_id: said for item, said in _everything(database) if said is not None}
    assert due == {"released": "capture", "upload": "publish"}
    assert rows.get("parked")["not_before"] == past


def test_publications_are_the_moves_from_uploading_to_done(database: Database, rows: Rows) -> None:
    rows.add("new")
    rows.add("old", back_catalogue=1)
    move = "INSERT INTO events (twitch_vod_id, at, kind, from_state, to_state) VALUES ('{}', '{}', 'state', '{}', '{}')"
    since = NOW - timedelta(days=1)
    times = [since + timedelta(seconds=number) for number in range(4)]
    said = [time.isoformat(timespec="microseconds").replace("+00:00", "Z") for time in times]
    rows.execute(move.format("old", said[0], "uploading", "done"))
    rows.execute(move.format("old", said[1], "uploading", "done"))
    rows.execute(move.format("new", said[2], "uploading", "done"))
    rows.execute(move.format("new", said[3], "downloaded", "done"))
    rows.execute(move.format("gone", said[3], "uploading", "done"))
    found = _read(database, lambda store: store.load_published(since))
    assert {(one.at, one.back_catalogue) for one in found} == {
        (times[1], True),
        (times[2], False),
        (times[3], False),
    }


# --- figures ---------------------------------------------------------------------------------------------------------


def test_counts_per_channel_and_in_all(database: Database, rows: Rows) -> None:
    rows.add("1", "2", channel="a")
    rows.add("3", channel="a", download_state="downloading")
    rows.add("4", channel="a", download_state="waiting", not_before=LATER)
    rows.add("5", channel="a", download_state="failed", processing_error="x")
    rows.add("6", channel="b", download_state="parked", processing_error="x")
    rows.add("7", channel="b", download_state="canceled", processing_error="x")
    rows.add("8", channel="b", download_state="done", processed=1)
    rows.add("9", channel="b", download_state="parked")  # reset: pending again
    rows.add("live-1", channel="b", download_state="waiting")
    rows.add("live-2", channel="b", download_state="done", processed=1, processing_error="There is no VOD.")
    rows.add("live-3", channel="c", download_state="waiting")
    by_channel = _read(database, lambda store: store.counts_by_channel())
    assert set(by_channel) == {"a", "b", "c"}
    assert [(each.placeholders, each.unmatched) for each in by_channel.values()] == [(0, 0), (2, 1), (1, 0)]
    a, b = by_channel["a"], by_channel["b"]
    assert (a.pending, a.errored, a.canceled, a.processed, a.depth) == (4, 1, 0, 0, 5)
    assert (b.pending, b.errored, b.canceled, b.processed, b.depth) == (1, 1, 1, 1, 3)
    assert a.by_state[S.PENDING] == 2
    both = _read(database, lambda store: store.counts())
    assert (both.pending, both.errored, both.canceled, both.processed, both.depth) == (5, 2, 1, 1, 8)
    assert both.by_state[S.PARKED] == 2
    assert (both.placeholders, both.unmatched) == (3, 1)
    assert _read(database, lambda store: store.counts("b")).processed == 1
    assert _read(database, lambda store: store.counts("nobody")).depth == 0
    assert _read(database, lambda store: store.depths()) == {"a": 5, "b": 3}
    assert _read(database, lambda store: store.depth()) == 8


def test_recent_items_are_the_newest_broadcasts(database: Database, rows: Rows) -> None:
    for number in range(4):
        rows.add(str(number), date=NOW - timedelta(days=number), channel="ab"[number % 2])
    rows.add("undated", date=None)
    recent = _read(database, lambda store: store.load_recent(limit=3))
    assert [item.twitch_vod_id for item in recent] == ["0", "1", "2"]
    recent = _read(database, lambda store: store.load_recent(limit=3, channel="b"))
    assert [item.twitch_vod_id for item in recent] == ["1", "3"]
