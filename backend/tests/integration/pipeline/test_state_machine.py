"""The state machine as the store walks it: every move has its event, and nothing else happens."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import insert, text

from support.queue_items import NOW
from vodkeep.capture.workfolder import ItemBusyError
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.events import Event, EventLog
from vodkeep.db.tables import vods
from vodkeep.errors import RequestRefused
from vodkeep.pipeline.action_store import ActionStore
from vodkeep.pipeline.breaker import Verdict
from vodkeep.pipeline.due import due_stage
from vodkeep.pipeline.model import (
    MOVES,
    RUNNING,
    Asked,
    Asker,
    DownloadState,
    IllegalMove,
    QueueItem,
    Stage,
    check_move,
)
from vodkeep.pipeline.outcome import Setback
from vodkeep.pipeline.store import Claim, FenceLost, NotDue, QueueStore

S = DownloadState
ASKED = Asked(Asker.API, "request-7")
WALKS, STEPS = 90, 70

# What a step may be refused with; anything else is a bug.
_REFUSALS = (IllegalMove, FenceLost, NotDue, RequestRefused)


class Walk:
    """One item on its way; every step is one that the service or a person can take at any time."""

    def __init__(self, unit: UnitOfWork, item_id: str, rng: random.Random) -> None:
        self.item_id = item_id
        self.seen: list[tuple[DownloadState, DownloadState]] = []
        self._connection = unit.connection
        self._rng = rng
        self._store = QueueStore(unit.connection)
        self._actions = ActionStore(unit.connection)
        self._claim: Claim | None = None  # of the latest run; it may be lost already
        self._now = NOW
        begins = rng.choice(({}, {"download_state": "downloaded", "stage": "publish", "downloaded_path": "p"}))
        unit.connection.execute(insert(vods).values(twitch_vod_id=item_id, channel="chan", **begins))
        self._before: tuple[QueueItem, list[Event]] = self.item(), self.moves()

    def item(self) -> QueueItem:
        found = self._store.find(self.item_id)
        assert found is not None
        return found

    def moves(self) -> list[Event]:
        return [one for one in EventLog(self._connection).of_item(self.item_id) if one.kind == "state"]

    def step(self) -> None:
        """Take a step by chance, and hold what became of the item against its events."""
        steps = list(self._steps())
        (name, take, _) = self._rng.choices(steps, [weight for _, _, weight in steps])[0]
        self._now += timedelta(seconds=self._rng.choice((0, 1, 7200)))
        before, told = self._before
        try:
            take()
        except _REFUSALS:
            assert (self.item(), self.moves()) == (before, told), f"{name} was refused and yet changed something"
            return
        self._before = after, moves = self.item(), self.moves()
        new = moves[len(told) :]
        self._check(name, before, after, new)
        self.seen += [(S(one.from_state or ""), S(one.to_state or "")) for one in new if not _stays(one)]

    def _check(self, name: str, before: QueueItem, after: QueueItem, new: list[Event]) -> None:
        state, stage = before.download_state, before.stage
        for event in new:
            assert event.from_state == state, f"{name}: an event begins where the one before ended"
            if not _stays(event):
                check_move(state, S(event.to_state or ""), stage=stage)
            # From here on the item is past its capture, or being captured; both are what the next move is judged by.
            state, stage = S(event.to_state or ""), after.stage if event is new[-1] else Stage.PUBLISH
            assert (event.at, event.corr is not None or event.asked_by is None) == (self._now, True)
        assert state is after.download_state, f"{name}: a move without its event"
        if not new:
            assert after.download_state is before.download_state
        assert after.processed == (after.download_state is S.DONE and not after.is_reset)
        if after.download_state in (S.FAILED, S.PARKED, S.CANCELED) and not after.is_reset:
            assert after.processing_error
        if after.download_state in RUNNING:
            assert due_stage(after, self._now) is after.stage, "a run that dies is due again at what it was at"
        assert after.generation >= before.generation

    def _steps(self) -> Iterator[tuple[str, Callable[[], Any], int]]:
        """What can be tried, and how often; what ends an item's way comes seldom."""
        actions, store, item_id = self._actions, self._store, self.item_id
        yield "claim capture", lambda: self._take(Stage.CAPTURE), 8
        yield "claim publish", lambda: self._take(Stage.PUBLISH), 10
        yield "claim chat", lambda: self._take(Stage.CHAT), 16
        yield "cancel", lambda: actions.cancel(item_id, self._now, ASKED), 2
        yield "retry", lambda: actions.retry(item_id, self._now, ASKED), 2
        yield "reprocess", lambda: actions.reprocess(item_id, self._now, ASKED), 1
        yield "skip", lambda: actions.set_skip_upload(item_id, self._rng.random() < 0.2, self._now, ASKED), 1
        yield "settle", lambda: store.settle_captured(self.item(), self._now), 3
        yield "reset by SQL", self._reset, 2
        yield "ripen", lambda: store.ripen(self._now), 2
        claim = self._claim
        if claim is None:
            return
        for state in (S.WAITING, S.FAILED, S.PARKED):
            yield f"ends {state}", partial(self._end, claim, state), 2
        yield "progress", lambda: store.save_progress(claim, self._now, fetched_bytes=1, total_bytes=2), 2
        yield "part", lambda: store.note_part(claim, self._now, path="p", size_bytes=1, completeness=0.5), 2
        yield "verifying", lambda: store.save_verifying(claim, self._now), 6
        yield "captured", lambda: self._captured(claim), 6
        yield "published", lambda: store.save_published(claim, self._now, youtube_url="https://youtu.be/x"), 3
        yield "chat kept", lambda: self._chat_kept(claim), 12
        yield "chat failed", lambda: self._chat_failed(claim), 2
        yield "release", lambda: store.release(claim, self._now), 2
        yield "postpone", lambda: self._postpone(claim), 2

    def _end(self, claim: Claim, state: DownloadState) -> None:
        setback = Setback(state, "network", "It did not work.", "", self._wait(), True, Verdict.SILENT)
        self._store.save_setback(claim, self._now, setback)

    def _wait(self) -> Any:
        return self._now + timedelta(seconds=self._rng.choice((-1, 3600)))

    def _take(self, stage: Stage) -> None:
        self._claim = self._store.claim(self.item(), self._now, corr="run", stage=stage)
        assert self._claim.attempt == self._claim.item.retries(stage) + 1

    def _captured(self, claim: Claim) -> None:
        if claim.stage is not Stage.CAPTURE:
            raise IllegalMove("a run of another stage captures nothing")
        publish, chat = self._rng.random() < 0.9, self._rng.random() < 0.3
        self._store.save_captured(
            claim, self._now, path="p", size_bytes=1, completeness=1.0, publish=publish, chat=chat
        )

    def _chat_kept(self, claim: Claim) -> None:
        if claim.stage is not Stage.CHAT:
            raise IllegalMove("a run of another stage keeps no chat")
        publish = self._rng.random() < 0.9
        self._store.save_chat(
            claim, self._now, completeness=0.5, messages=7, publish=publish, code=None, sentence="Kept."
        )

    def _chat_failed(self, claim: Claim) -> None:
        setback = Setback(S.DOWNLOADED, "network", "It did not work.", "", self._wait(), True, Verdict.SILENT)
        self._store.save_chat_setback(claim, self._now, setback)

    def _postpone(self, claim: Claim) -> None:
        self._store.postpone(claim, self._now, until=self._wait(), error=ItemBusyError("Somebody else has it."))

    def _reset(self) -> None:
        self._connection.execute(
            text("UPDATE vods SET processed=0, processing_error=NULL, youtube_url=NULL WHERE twitch_vod_id=:id"),
            {"id": self.item_id},
        )


def _stays(event: Event) -> bool:
    """Whether it tells of a request that ended a wait, which moves nothing: the item was pending and still is."""
    return event.from_state == event.to_state == S.PENDING and event.asked_by is not None


def test_every_move_is_an_event_whatever_way_an_item_goes(database: Database) -> None:
    seen: set[tuple[DownloadState, DownloadState]] = set()
    for number in range(WALKS):
        with database.unit_of_work() as unit:
            walk = Walk(unit, f"walk-{number}", random.Random(number))
            for _ in range(STEPS):
                walk.step()
            seen |= set(walk.seen)
            unit.commit()
    legal = {(source, target) for source, targets in MOVES.items() for target in targets}
    assert seen == legal, "every move there is was made, and no other"


@pytest.mark.parametrize(
    ("ending", "state", "retries"),
    [
        pytest.param(S.FAILED, "failed", (0, 1), id="failed"),
        pytest.param(S.PARKED, "parked", (0, 1), id="parked"),
    ],
)
def test_a_failed_upload_is_counted_apart_and_due_again_for_the_upload(
    database: Database, ending: DownloadState, state: str, retries: tuple[int, int]
) -> None:
    later = NOW + timedelta(minutes=1)
    with database.unit_of_work() as unit:
        unit.connection.execute(
            text(
                "INSERT INTO vods (twitch_vod_id, channel, download_state, stage, downloaded_path)"
                " VALUES ('1', 'chan', 'downloaded', 'publish', 'p')"
            )
        )
        store = QueueStore(unit.connection)
        planned = store.find("1")
        assert planned is not None
        with pytest.raises(NotDue):
            store.claim(planned, NOW, corr="x")
        claim = store.claim(planned, NOW, corr="x", stage=Stage.PUBLISH)
        assert (claim.attempt, claim.item.download_state) == (1, S.UPLOADING)
        not_before = later if ending is S.FAILED else None
        store.save_setback(claim, NOW, Setback(ending, "network", "No.", "", not_before, True, Verdict.SILENT))
        failed = store.find("1")
        assert failed is not None
        assert (failed.download_state, failed.stage) == (state, Stage.PUBLISH)
        assert (failed.download_retries, failed.upload_retries) == retries
        assert due_stage(failed, NOW) is None
        assert due_stage(failed, later) is (Stage.PUBLISH if ending is S.FAILED else None)
        if ending is S.FAILED:
            again = store.claim(failed, later, corr="x", stage=Stage.PUBLISH)
            assert (again.attempt, again.item.downloaded_path) == (2, "p")
            store.save_published(again, later, youtube_url="https://youtu.be/x")
            done = store.find("1")
            assert done is not None
            assert (done.download_state, done.processed, done.upload_retries) == (S.DONE, True, 0)
            assert [one.at for one in store.load_published(NOW)] == [later]


def test_own_failures_of_an_upload_are_not_those_of_its_capture(database: Database) -> None:
    moves = [
        ("downloading", "failed", "incomplete"),
        ("verifying", "downloaded", None),
        ("uploading", "failed", "verify_failed"),
        ("uploading", "downloaded", "released"),
        ("uploading", "failed", "verify_failed"),
        ("uploading", "failed", "network"),
    ]
    with database.unit_of_work() as unit:
        log = EventLog(unit.connection)
        for source, target, code in moves:
            log.append("1", at=NOW, kind="state", from_state=source, to_state=target, code=code)
        store = QueueStore(unit.connection)
        assert (store.own_failures("1"), store.own_failures("1", Stage.PUBLISH)) == (0, 2)
