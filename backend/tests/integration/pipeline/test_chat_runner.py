"""One attempt at the chat of an item: what becomes of its row, whatever the attempt ends with."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta

import anyio
import pytest

from support.clock import FakeClock
from support.queue_rows import Rows
from vodkeep.db.engine import Database
from vodkeep.errors import DiskFull, NetworkError, PermanentError
from vodkeep.pipeline.chat_runner import ChatRunner, KeptChat
from vodkeep.pipeline.metrics import NoMetrics
from vodkeep.pipeline.model import DownloadState, QueueItem, Stage
from vodkeep.pipeline.retry import RetryPolicy
from vodkeep.pipeline.store import FenceLost, QueueStore
from vodkeep.telemetry.log import get_logger

pytestmark = pytest.mark.anyio

S = DownloadState
POLICY = RetryPolicy(max_attempts=2, backoff_base=timedelta(seconds=2), cooldown=timedelta(minutes=10))


class Scripted:
    """A chat stage that ends as it is told."""

    def __init__(self, *endings: KeptChat | Exception) -> None:
        self.endings = list(endings)
        self.chances: list[bool] = []
        self.begun = anyio.Event()

    async def keep(self, item: QueueItem, *, confirm: Callable[[], None], last_chance: bool) -> KeptChat:
        self.chances.append(last_chance)
        self.begun.set()
        if not self.endings:
            await anyio.sleep_forever()
        ending = self.endings.pop(0)
        await anyio.to_thread.run_sync(confirm)
        if isinstance(ending, Exception):
            raise ending
        return ending


class Workshop:
    """An item whose chat is due, and a runner for it."""

    def __init__(self, database: Database, clock: FakeClock, stage: Scripted, *, publishes: bool = False) -> None:
        self.database = database
        self.clock = clock
        self.runner = ChatRunner(
            database=database,
            chat=stage,
            clock=clock,
            log=get_logger("test"),
            metrics=NoMetrics(),
            retry=POLICY,
            rng=random.Random(1),
            publishes=publishes,
        )
        with database.unit_of_work() as unit:
            unit.connection.exec_driver_sql(
                "INSERT INTO vods (twitch_vod_id, channel, download_state, stage, downloaded_path)"
                " VALUES ('1', 'otter', 'downloaded', 'chat', 'otter/x/video.mp4')"
            )
            unit.commit()

    def item(self) -> QueueItem:
        with self.database.unit_of_work(write=False) as unit:
            found = QueueStore(unit.connection).find("1")
        assert found is not None
        return found

    async def run(self) -> DownloadState | None:
        with self.database.unit_of_work() as unit:
            QueueStore(unit.connection).ripen(self.clock.now())
            unit.commit()
        return await self.runner.run(self.item())


KEPT = KeptChat(messages=7, completeness=1.0, added=3)


@pytest.mark.parametrize(("publishes", "state"), [(False, S.DONE), (True, S.DOWNLOADED)])
async def test_a_kept_chat_ends_the_stage(
    database: Database, clock: FakeClock, rows: Rows, publishes: bool, state: DownloadState
) -> None:
    shop = Workshop(database, clock, Scripted(KEPT), publishes=publishes)
    assert await shop.run() is state
    row = rows.get("1")
    assert (row["chat_messages"], row["chat_completeness"], row["processed"]) == (7, 1.0, int(not publishes))
    assert shop.item().stage is (Stage.PUBLISH if publishes else Stage.CAPTURE)
    assert await shop.run() is None, "it is not due again"


async def test_what_cannot_be_had_is_told_and_the_item_goes_on(
    database: Database, clock: FakeClock, rows: Rows
) -> None:
    gone = PermanentError("The VOD is gone.", code="deleted")
    shop = Workshop(database, clock, Scripted(KeptChat(2, 0.25, reason=gone)))
    assert await shop.run() is S.DONE
    row = rows.get("1")
    assert (row["chat_completeness"], row["processing_error"], row["error_code"]) == (0.25, None, None)
    assert [code for _, _, code in rows.events("1") if code] == ["deleted"]


async def test_failures_wait_without_an_error_until_the_last_chance(
    database: Database, clock: FakeClock, rows: Rows
) -> None:
    down = NetworkError("Twitch does not answer.")
    stage = Scripted(down, down, DiskFull("No space is left."), down, KeptChat(1, 0.5, reason=down))
    shop = Workshop(database, clock, stage)
    waits = []
    for retries in (1, 2, 2, 3):
        assert await shop.run() is S.DOWNLOADED
        item = shop.item()
        assert (item.download_retries, item.stage, item.processing_error) == (retries, Stage.CHAT, None)
        assert item.not_before is not None
        waits.append(item.not_before - clock.now())
        assert await shop.run() is None, "its wait is not over"
        clock.jump(waits[-1].total_seconds())
    assert waits[0] <= timedelta(seconds=2)
    assert waits[1] >= POLICY.cooldown
    assert await shop.run() is S.DONE
    assert stage.chances == [False, False, False, False, True]
    assert rows.get("1")["download_retries"] == 0


async def test_a_bug_at_the_last_chance_costs_the_picture_nothing(
    database: Database, clock: FakeClock, rows: Rows
) -> None:
    shop = Workshop(database, clock, Scripted(*[ZeroDivisionError("oops")] * 4))
    for _ in range(3):
        assert await shop.run() is S.DOWNLOADED
        clock.jump(700)
    assert await shop.run() is S.DONE
    assert rows.get("1")["chat_completeness"] is None
    assert [code for _, _, code in rows.events("1")].count("bug") == 4


async def test_a_stop_hands_the_item_back_uncounted(database: Database, clock: FakeClock) -> None:
    stage = Scripted()
    shop = Workshop(database, clock, stage)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shop.run)
            await stage.begun.wait()
            tasks.cancel_scope.cancel()
    item = shop.item()
    assert (item.download_state, item.stage, item.download_retries) == (S.DOWNLOADED, Stage.CHAT, 0)
    assert item.not_before is None


async def test_a_run_whose_item_was_taken_stops_and_writes_nothing(
    database: Database, clock: FakeClock, rows: Rows
) -> None:
    stage = Scripted()
    shop = Workshop(database, clock, stage)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shop.run)
            await stage.begun.wait()
            with database.unit_of_work() as unit:
                unit.connection.exec_driver_sql(
                    "UPDATE vods SET download_state='canceled', processing_error='by hand' WHERE twitch_vod_id='1'"
                )
                unit.commit()
            await clock.until_sleeping()
            await clock.advance(1.1)
    assert rows.get("1")["download_state"] == "canceled"


async def test_a_zombie_is_refused_before_it_touches_the_folder(
    database: Database, clock: FakeClock, rows: Rows
) -> None:
    class Slow(Scripted):
        async def keep(self, item: QueueItem, *, confirm: Callable[[], None], last_chance: bool) -> KeptChat:
            with database.unit_of_work() as unit:
                unit.connection.exec_driver_sql("UPDATE vods SET generation = generation + 1")
                unit.commit()
            with pytest.raises(FenceLost):
                await anyio.to_thread.run_sync(confirm)
            return KEPT

    shop = Workshop(database, clock, Slow())
    assert await shop.run() is None
    assert rows.get("1")["chat_messages"] is None
