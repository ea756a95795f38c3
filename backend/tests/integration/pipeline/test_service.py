"""The service loop on real databases, with a clock that tests move and a scripted capture."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest

from support.clock import FakeClock
from support.pipeline_workshop import GOOD, PATIENCE_S, Workshop
from support.queue_items import NOW
from support.queue_rows import Rows
from vodkeep.capture.model import Phase, Progress
from vodkeep.capture.space import RESERVE_BYTES
from vodkeep.db.engine import Database
from vodkeep.errors import (
    DatabaseUnavailable,
    DiskFull,
    NetworkError,
    PermanentError,
    RequestRefused,
    ServerError,
    StillRecording,
    UnknownItem,
)
from vodkeep.pipeline.due import DiskShortage
from vodkeep.pipeline.model import Asked, Asker
from vodkeep.web.reading import DatabaseStatusReader

pytestmark = pytest.mark.anyio


async def _hang(_channel: str) -> int:
    """A discovery that never ends."""
    await anyio.sleep_forever()
    return 0


async def test_a_free_slot_is_filled_without_waiting_for_the_cycle(
    database: Database, rows: Rows, clock: FakeClock
) -> None:
    shop = Workshop(database, clock)
    for age, item_id in enumerate(["new", "middle", "old"]):
        rows.add(item_id, date=NOW - timedelta(days=age))
    async with shop.running():
        for number, item_id in enumerate(["old", "middle", "new"], start=1):
            capturing = await shop.capture.nth(number)
            assert capturing.item.twitch_vod_id == item_id
            capturing.end()
        await shop.hears("vod processed", 3)
    assert clock.now() == NOW, "no time has passed"
    assert [rows.get(item_id)["processed"] for item_id in ("old", "middle", "new")] == [1, 1, 1]


async def test_no_more_run_at_once_than_there_are_slots(database: Database, rows: Rows, clock: FakeClock) -> None:
    shop = Workshop(database, clock, slots=2)
    rows.add("1", "2", "3")
    async with shop.running():
        first, second = await shop.capture.nth(1), await shop.capture.nth(2)
        await clock.until_sleeping(3)  # two heartbeats and the cycle
        assert {job.twitch_vod_id for job in await shop.service.jobs()} == {"1", "2"}
        assert {first.item.twitch_vod_id, second.item.twitch_vod_id} == {"1", "2"}
        assert len(shop.capture.begun) == 2
        first.end()
        assert (await shop.capture.nth(3)).item.twitch_vod_id == "3"


async def test_each_cycle_discovers_every_channel_and_starts_what_it_found(
    database: Database, rows: Rows, clock: FakeClock
) -> None:
    seen: list[tuple[str, datetime]] = []

    async def discover(channel: str) -> int:
        seen.append((channel, clock.now()))
        if channel == "b" and len(seen) > 2:
            rows.add("found", channel="b")
            return 1
        return 0

    shop = Workshop(database, clock, channels=("a", "b"), discover=discover)
    async with shop.running():
        await shop.hears("cycle")
        await clock.until_sleeping()
        await clock.advance(60)
        assert (await shop.capture.nth(1)).item.twitch_vod_id == "found"
        await shop.hears("cycle", 2)
    assert sorted(seen) == [(c, NOW + timedelta(minutes=m)) for c in "ab" for m in (0, 1)]
    assert rows.kv()["job_vod_process_last"] == "2026-11-23T12:01:00.000000Z"
    assert shop.counted("vod_processing_cycles_total", "a") == 2
    assert shop.counted("vod_processing_cycles_total", "b") == 2


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ServerError("Helix answered 502."), "discovery failed"),
        (KeyError("data"), "discovery ended in a bug"),
    ],
    ids=["known", "bug"],
)
async def test_a_discovery_that_fails_stops_neither_the_cycle_nor_other_channels(
    database: Database, rows: Rows, clock: FakeClock, error: Exception, message: str
) -> None:
    rows.add("1", channel="good")

    async def discover(channel: str) -> int:
        if channel == "bad":
            raise error
        return 0

    shop = Workshop(database, clock, channels=("bad", "good"), discover=discover)
    async with shop.running():
        assert (await shop.capture.nth(1)).item.twitch_vod_id == "1"
        line = await shop.hears(message)
        await shop.hears("cycle")
    assert line["channel"] == "bad"


async def test_a_discovery_that_hangs_holds_up_no_download(database: Database, rows: Rows, clock: FakeClock) -> None:
    shop = Workshop(database, clock, discover=_hang)
    rows.add("1", "2")
    async with shop.running():
        (await shop.capture.nth(1)).end()
        (await shop.capture.nth(2)).end()
        await shop.hears("vod processed", 2)


async def test_a_failed_item_comes_back_when_its_wait_is_over_not_at_the_next_cycle(
    database: Database, rows: Rows, clock: FakeClock
) -> None:
    shop = Workshop(database, clock)
    rows.add("1")
    async with shop.running():
        (await shop.capture.nth(1)).end(NetworkError("No answer."))
        failed = await shop.hears("download failed")
        wait = failed["not_before"] - clock.now()
        assert timedelta(seconds=1) <= wait <= timedelta(seconds=2)
        await clock.until_sleeping(2)  # the planner and the cycle
        await clock.advance(wait.total_seconds())
        (await shop.capture.nth(2)).end()
        await shop.hears("vod processed")
    assert clock.now() - NOW < timedelta(seconds=3)


async def test_a_bug_costs_one_attempt_and_stops_neither_the_item_nor_the_service(
    database: Database, rows: Rows, clock: FakeClock
) -> None:
    shop = Workshop(database, clock)
    rows.add("1", date=NOW - timedelta(days=2))
    rows.add("2")
    async with shop.running():
        (await shop.capture.nth(1)).end(KeyError("nobody thought of this"))
        failed = await shop.hears("download failed")
        assert (failed["vod_id"], failed["code"]) == ("1", "bug")
        assert isinstance(failed["exc_info"], KeyError), "with its traceback"
        row = rows.get("1")
        assert (row["download_state"], row["error_code"], row["download_retries"]) == ("failed", "bug", 1)
        wait = row["not_before"] - clock.now()
        assert timedelta(seconds=1) <= wait <= timedelta(seconds=2)
        assert rows.kv("chan") == {}, "it says nothing about the other side"
        other = await shop.capture.nth(2)
        assert other.item.twitch_vod_id == "2"
        other.end()
        await shop.hears("vod processed")
        await clock.until_sleeping(2)  # the planner and the cycle
        await clock.advance(wait.total_seconds())
        again = await shop.capture.nth(3)
        assert again.item.twitch_vod_id == "1"
        again.end()
        await shop.hears("vod processed", 2)


async def test_a_bug_in_a_look_at_the_queue_is_told_and_the_next_look_goes_on(
    database: Database, rows: Rows, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Workshop(database, clock, discover=_hang)
    rows.add("1")
    real, looks = shop.service.plan, 0

    async def plan() -> Any:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise KeyError("nobody thought of this")
        return await real()

    monkeypatch.setattr(shop.service, "plan", plan)
    async with shop.running():
        line = await shop.hears("planning ended in a bug")
        assert line["exc_info"]
        shop.service.wake()
        (await shop.capture.nth(1)).end()
        await shop.hears("vod processed")


@pytest.mark.parametrize(
    ("error", "message"),
    [(DiskFull("The disk is full."), "a periodic job failed"), (KeyError("x"), "a periodic job ended in a bug")],
    ids=["known", "bug"],
)
async def test_a_cycle_that_fails_stops_nothing(
    database: Database, rows: Rows, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    shop = Workshop(database, clock)

    def leftovers() -> list[str]:
        raise error

    monkeypatch.setattr(shop.capture, "leftovers", leftovers)
    async with shop.running():
        await shop.hears(message)
        rows.add("1")
        await clock.until_sleeping()
        await clock.advance(60)
        await shop.hears(message, 2)
        shop.service.wake()
        (await shop.capture.nth(1)).end()
        await shop.hears("vod processed")


async def test_a_live_broadcast_is_looked_at_again(database: Database, rows: Rows, clock: FakeClock) -> None:
    shop = Workshop(database, clock)
    rows.add("1")
    async with shop.running():
        (await shop.capture.nth(1)).end(StillRecording("It is still live."))
        await shop.hears("still recording")
        assert rows.get("1")["download_state"] == "waiting"
        await clock.until_sleeping(2)
        await clock.advance(299)
        assert len(shop.capture.begun) == 1
        await clock.advance(1)
        (await shop.capture.nth(2)).end()
        await shop.hears("vod processed")
    assert shop.counted("vod_downloads_failed_total") == 0


async def test_a_request_is_served_at_once(database: Database, rows: Rows, clock: FakeClock) -> None:
    shop = Workshop(database, clock)
    rows.add("1", download_state="parked", processing_error="x", error_code="deleted")
    async with shop.running():
        await shop.hears("cycle")
        await shop.actions.retry("1", Asked(Asker.API, "request-7"))
        capturing = await shop.capture.nth(1)
    assert capturing.corr == "request-7"
    assert clock.now() == NOW


async def test_an_operators_statement_is_seen_at_the_next_cycle(
    database: Database, rows: Rows, clock: FakeClock
) -> None:
    shop = Workshop(database, clock)
    rows.add("1", download_state="done", processed=1)
    async with shop.running():
        await shop.hears("cycle")
        await clock.until_sleeping()
        rows.execute("UPDATE vods SET processed=0, processing_error=NULL, youtube_url=NULL WHERE twitch_vod_id='1'")
        await clock.advance(60)
        (await shop.capture.nth(1)).end()
        await shop.hears("vod processed")


async def test_what_a_killed_process_left_is_taken_up_at_once(database: Database, rows: Rows, clock: FakeClock) -> None:
    shop = Workshop(database, clock, slots=2)
    rows.add("1", download_state="downloading", generation=4, download_retries=1)
    rows.add("2", download_state="verifying", generation=2)
    async with shop.running():
        for number in (1, 2):
            (await shop.capture.nth(number)).end()
        await shop.hears("vod processed", 2)
    assert [line["attempt"] for line in shop.said("download started") if line["vod_id"] == "1"] == [2]
    assert rows.events("1")[0] == ("downloading", "downloading", "resumed")
    assert shop.counted("vod_downloads_started_total") == 2
    assert shop.counted("vod_downloads_failed_total") == 0


async def test_items_of_channels_that_are_not_configured_are_captured(
    database: Database, rows: Rows, clock: FakeClock
) -> None:
    shop = Workshop(database, clock, channels=())
    rows.add("1", channel="stranger")
    async with shop.running():
        (await shop.capture.nth(1)).end()
        await shop.hears("vod processed")
    assert shop.counted("vod_downloads_succeeded_total", "stranger") == 1


# --- breaker ---------------------------------------------------------------------------------------------------------


async def test_an_open_breaker_holds_its_channel_until_one_probe_succeeds(
    database: Database, rows: Rows, clock: FakeClock
) -> None:
    shop = Workshop(database, clock, channels=("bad", "good"), slots=3, threshold=2, discover=_hang)
    rows.add("b1", "b2", "b3", channel="bad")
    async with shop.running():
        first, second, third = [await shop.capture.nth(n) for n in (1, 2, 3)]
        first.end(NetworkError("No answer."))
        second.end(NetworkError("No answer."))
        await shop.hears("circuit opened")
        third.end(PermanentError("It was deleted.", code="deleted"))
        await shop.hears("vod parked")
        assert shop.counted("vod_circuit_open", "bad") == 1
        rows.add("g1", channel="good")
        shop.service.wake()
        assert (await shop.capture.nth(4)).item.twitch_vod_id == "g1"
        await clock.until_sleeping(2)  # the good one's heartbeat and the planner
        await clock.advance(299)
        assert len(shop.capture.begun) == 4, "the failed ones are ripe, but their channel is shut"
        await clock.advance(2)
        probe = await shop.capture.nth(5)
        assert rows.kv("bad")["circuit_state"] == "half_open"
        shop.service.wake()
        await clock.until_sleeping(3)  # two heartbeats and the planner
        assert len(shop.capture.begun) == 5, "one probe at a time"
        probe.end(GOOD)
        await shop.hears("circuit closed")
        last = await shop.capture.nth(6)
        assert {probe.item.twitch_vod_id, last.item.twitch_vod_id} < {"b1", "b2", "b3"}
        last.end()
        await shop.hears("vod processed", 2)
    assert shop.counted("vod_circuit_open", "bad") == 0
    assert len(shop.said("circuit opened")) == 1


async def test_the_items_of_a_channel_that_may_only_probe_hide_nobody(
    database: Database, rows: Rows, clock: FakeClock
) -> None:
    """More of them than one look at the queue reads, all before the other channel's only item."""
    rows.add(*(f"b{number:03}" for number in range(250)), channel="bad", date=NOW - timedelta(days=9))
    rows.add("g1", channel="good")
    rows.execute(
        "INSERT INTO kv (channel, key, value, updated_at) VALUES"
        " ('bad', 'circuit_state', 'open', '2026-11-23T11:00:00.000000Z'),"
        " ('bad', 'circuit_open_until', '2026-11-23T11:05:00.000000Z', '2026-11-23T11:00:00.000000Z')"
    )
    shop = Workshop(database, clock, channels=("bad", "good"), slots=3, discover=_hang)
    async with shop.running():
        assert {(await shop.capture.nth(n)).item.twitch_vod_id for n in (1, 2)} == {"b000", "g1"}
        await clock.until_sleeping(2)  # their heartbeats
        assert len(shop.capture.begun) == 2, "one probe, though a slot is free"


async def test_the_runbooks_statement_closes_the_breaker_at_the_next_cycle(
    database: Database, rows: Rows, clock: FakeClock
) -> None:
    shop = Workshop(database, clock, threshold=1)
    rows.add("1")
    async with shop.running():
        (await shop.capture.nth(1)).end(NetworkError("No answer."))
        await shop.hears("circuit opened")
        await clock.until_sleeping(2)
        rows.execute("DELETE FROM kv WHERE key IN ('circuit_state','circuit_failures','circuit_open_until');")
        await clock.advance(60)
        await shop.hears("circuit closed")
        (await shop.capture.nth(2)).end()
        await shop.hears("vod processed")
    assert clock.now() == NOW + timedelta(minutes=1)


# --- cancel and stop -------------------------------------------------------------------------------------------------


async def test_cancel_stops_the_work_and_the_item_stays_canceled(
    database: Database, rows: Rows, clock: FakeClock
) -> None:
    shop = Workshop(database, clock)
    rows.add("1", "2", download_retries=1)
    async with shop.running():
        capturing = await shop.capture.nth(1)
        assert (await shop.actions.cancel("1", Asked(Asker.API, "request-7"))).ended
        assert capturing.canceled
        assert (await shop.capture.nth(2)).item.twitch_vod_id == "2", "its slot is free"
        shop.service.wake()
        await clock.until_sleeping(2)
        await clock.advance(600)
        assert {job.twitch_vod_id for job in await shop.service.jobs()} == {"2"}
    row = rows.get("1")
    assert (row["download_state"], row["download_retries"]) == ("canceled", 1)
    assert rows.events("1")[-1] == ("downloading", "canceled", "canceled")
    assert shop.counted("vod_downloads_failed_total") == 0


async def test_cancel_refuses_what_it_cannot_do(database: Database, rows: Rows, clock: FakeClock) -> None:
    shop = Workshop(database, clock)
    rows.add("1", download_state="done", processed=1)
    with pytest.raises(RequestRefused):
        await shop.actions.cancel("1", Asked(Asker.API, None))
    with pytest.raises(UnknownItem):
        await shop.actions.cancel("nope", Asked(Asker.API, None))


async def test_a_stop_hands_back_what_is_at_work_and_the_next_start_goes_on(
    database: Database, rows: Rows, clock: FakeClock
) -> None:
    rows.add("1", "2", "3")
    shop = Workshop(database, clock, slots=2)
    async with shop.running():
        one, two = await shop.capture.nth(1), await shop.capture.nth(2)
    assert one.canceled
    assert two.canceled
    assert [rows.get(item_id)["download_state"] for item_id in "123"] == ["pending"] * 3
    again = Workshop(database, clock, slots=2)
    async with again.running():
        assert {(await again.capture.nth(n)).item.twitch_vod_id for n in (1, 2)} == {"1", "2"}


async def test_a_canceled_service_hands_back_what_is_at_work_too(
    database: Database, rows: Rows, clock: FakeClock
) -> None:
    rows.add("1")
    shop = Workshop(database, clock)
    with shop.lines.watching(), anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shop.service.run)
            await shop.capture.nth(1)
            tasks.cancel_scope.cancel()
    assert rows.get("1")["download_state"] == "pending"


# --- figures and settling --------------------------------------------------------------------------------------------


async def test_the_queue_depth_is_shown_per_channel_and_falls_to_zero(
    database: Database, rows: Rows, clock: FakeClock
) -> None:
    shop = Workshop(database, clock, channels=("chan", "idle"))
    rows.add("1", "2")
    rows.add("3", channel="stranger", download_state="parked", processing_error="x")
    async with shop.running():
        await shop.hears("cycle")
        assert [shop.counted("vod_queue_depth", channel) for channel in ("chan", "idle", "stranger")] == [2, 0, 1]
        rows.execute("DELETE FROM vods WHERE channel='stranger'")
        await clock.until_sleeping()
        await clock.advance(60)
        await shop.hears("cycle", 2)
        assert shop.counted("vod_queue_depth", "stranger") == 0
    assert shop.metrics.registry.get_sample_value("vod_queue_depth", {"channel": "idle"}) == 0


@pytest.mark.parametrize(("publishes", "state"), [(False, "done"), (True, "downloaded")])
async def test_captured_items_wait_for_publishing_only_while_it_is_on(
    database: Database, rows: Rows, clock: FakeClock, publishes: bool, state: str
) -> None:
    rows.add("old", download_state="downloaded", downloaded_path="/x")
    rows.add("new")
    shop = Workshop(database, clock, publishes=publishes)
    async with shop.running():
        (await shop.capture.nth(1)).end()
        await shop.hears("vod downloaded" if publishes else "vod processed")
        await clock.until_sleeping()
    assert rows.get("old")["download_state"] == state
    assert rows.get("new")["download_state"] == state
    assert rows.get("new")["processed"] == int(not publishes)
    assert shop.counted("vod_downloads_succeeded_total") == 1
    assert shop.counted("vod_processing_total_duration_seconds_count") == int(not publishes)


async def test_uploads_that_nobody_makes_any_more_are_settled(database: Database, rows: Rows, clock: FakeClock) -> None:
    """Publishing is off, or an operator said by SQL that it is not wanted: the broadcast is kept, and that is all."""
    failed = {"download_state": "failed", "stage": "publish", "processing_error": "x", "error_code": "network"}
    rows.add("failed", **failed, upload_retries=3, downloaded_path="/x")
    rows.add("cut-off", download_state="uploading", stage="publish", downloaded_path="/x")
    rows.add("capture", download_state="failed", processing_error="x", not_before=NOW + timedelta(hours=1))
    async with Workshop(database, clock).running():
        await until_row(rows, "failed", processed=1)
        await until_row(rows, "cut-off", processed=1)
    for item_id, state in (("failed", "failed"), ("cut-off", "uploading")):
        row = rows.get(item_id)
        assert (row["download_state"], row["processed"], row["processing_error"]) == ("done", 1, None)
        assert rows.events(item_id) == [(state, "downloaded", None), ("downloaded", "done", None)]
    assert rows.get("capture")["download_state"] == "failed"


async def test_an_item_marked_by_sql_is_not_published(database: Database, rows: Rows, clock: FakeClock) -> None:
    rows.add("mine", "theirs", download_state="downloaded", stage="publish", downloaded_path="/x")
    rows.execute("UPDATE vods SET skip_upload=1 WHERE twitch_vod_id='theirs'")
    async with Workshop(database, clock, publishes=True).running():
        await until_row(rows, "theirs", processed=1)
    assert rows.get("mine")["download_state"] == "downloaded"
    assert (rows.get("theirs")["download_state"], rows.get("theirs")["processed"]) == ("done", 1)


# --- a disk that fills up --------------------------------------------------------------------------------------------


async def test_captures_wait_for_disk_space_and_that_is_told_once(
    database: Database, rows: Rows, clock: FakeClock
) -> None:
    free = RESERVE_BYTES + 10_000
    shop = Workshop(database, clock, slots=3, free_space=lambda: free)
    rows.add("1", duration_seconds=0)
    reader = DatabaseStatusReader(database, ["chan"])
    async with shop.running():
        first = await shop.capture.nth(1)
        first.on_progress(Progress(Phase.FETCHING, 4_000, 50_000, 1, 2, 1.0, 1.0))
        await clock.until_sleeping(2)
        await clock.advance(1)
        await until_row(rows, "1", download_total=50_000)
        rows.add("2", "3", duration_seconds=0)
        since = clock.now()
        shop.service.wake()
        told = await shop.hears("captures wait for disk space")
        assert (told["free_bytes"], told["needed_bytes"], told["vod_id"]) == (free, RESERVE_BYTES + 46_000, "2")
        assert (await reader.figures()).disk_shortage == DiskShortage(free, RESERVE_BYTES + 46_000, "2", since)
        for _ in range(3):
            await clock.until_sleeping(2)
            await clock.advance(60)
        assert len(shop.capture.begun) == 1, "what is at work goes on, and nothing else begins"
        free = 10**15
        await clock.until_sleeping(2)
        await clock.advance(60)
        await shop.capture.nth(3)
        await shop.hears("captures go on")
        assert (await reader.figures()).disk_shortage is None
    assert len(shop.said("captures wait for disk space")) == 1
    assert rows.get("2")["download_retries"] == 0


async def test_nothing_starts_while_the_archive_is_away_and_that_is_told_once(
    database: Database, rows: Rows, clock: FakeClock
) -> None:
    problem: str | None = "The disk is not mounted."
    shop = Workshop(database, clock, archive_problem=lambda: problem)
    rows.add("1")
    reader = DatabaseStatusReader(database, ["chan"])
    async with shop.running():
        told = await shop.hears("the archive is away")
        assert told["error"] == "The disk is not mounted."
        assert (await reader.figures()).archive_away
        for _ in range(3):
            await clock.until_sleeping(2)
            await clock.advance(60)
        assert shop.capture.begun == []
        problem = None
        await clock.until_sleeping(2)
        await clock.advance(5)
        await shop.capture.nth(1)
        assert not (await reader.figures()).archive_away
        await shop.hears("the archive is back")
    assert len(shop.said("the archive is away")) == 1
    assert rows.get("1")["download_retries"] == 0


async def until_row(rows: Rows, item_id: str, **values: object) -> None:
    """Return once the row has these values."""
    with anyio.fail_after(PATIENCE_S):
        while any(rows.get(item_id)[name] != value for name, value in values.items()):
            await anyio.lowlevel.checkpoint()


# --- a database that goes away ---------------------------------------------------------------------------------------


async def test_the_service_outlives_an_outage_of_the_database_and_tells_it_once(
    database: Database, rows: Rows, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Workshop(database, clock)
    away = False
    real = database.unit_of_work

    def unit_of_work(**options: object) -> object:
        if away:
            raise DatabaseUnavailable("The database is away.")
        return real(**options)  # type: ignore[arg-type]

    monkeypatch.setattr(database, "unit_of_work", unit_of_work)
    async with shop.running():
        await shop.hears("cycle")
        await clock.until_sleeping()
        rows.add("1")
        away = True
        shop.service.wake()
        await shop.hears("the database is away")
        for _ in range(4):
            await clock.until_sleeping(2)
            await clock.advance(30)
        assert not shop.capture.begun
        away = False
        await clock.until_sleeping(2)
        await clock.advance(60)
        (await shop.capture.nth(1)).end()
        await shop.hears("vod processed")
    assert len(shop.said("the database is away")) == 1
    assert len(shop.said("the database is back")) == 1
