"""One attempt at one item, from its claim to the row: on real databases with a scripted capture."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from support.clock import FakeClock
from support.pipeline_workshop import GOOD, PATIENCE_S, Workshop
from support.queue_items import NOW
from support.queue_rows import Rows
from vodkeep.capture.model import Phase, Progress
from vodkeep.capture.workfolder import ItemBusyError
from vodkeep.db.engine import Database
from vodkeep.errors import (
    ArchiveAway,
    DatabaseUnavailable,
    DiskFull,
    Incomplete,
    NetworkError,
    PermanentError,
    StillRecording,
)
from vodkeep.pipeline.action_store import ActionStore
from vodkeep.pipeline.breaker import Breaker, BreakerPhase
from vodkeep.pipeline.health_store import HealthStore
from vodkeep.pipeline.model import Asked, Asker, DownloadState, QueueItem
from vodkeep.pipeline.stages import CapturedItem, CaptureRunner
from vodkeep.pipeline.store import FenceLost, QueueStore

pytestmark = pytest.mark.anyio

S = DownloadState


@pytest.fixture
def shop(database: Database, clock: FakeClock) -> Workshop:
    return Workshop(database, clock)


def _item(shop: Workshop, item_id: str = "1") -> QueueItem:
    with shop.database.unit_of_work(write=False) as unit:
        item = QueueStore(unit.connection).find(item_id)
    assert item is not None
    return item


def _set_breaker(shop: Workshop, breaker: Breaker) -> None:
    with shop.database.unit_of_work() as unit:
        HealthStore(unit.connection).save_breaker("chan", breaker, NOW)
        unit.commit()


async def _attempt(shop: Workshop, ending: CapturedItem | Exception, *, probe: bool = False) -> DownloadState | None:
    shop.capture.endings["1"] = ending
    with shop.lines.watching(), anyio.fail_after(PATIENCE_S):
        return await shop.runner.run(_item(shop), probe=probe)


async def test_a_whole_broadcast_is_done(shop: Workshop, rows: Rows, clock: FakeClock) -> None:
    rows.add("1")
    with shop.lines.watching(), anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shop.runner.run, _item(shop))
            capturing = await shop.capture.nth(1)
            clock.jump(90.5)
            capturing.end()
    row = rows.get("1")
    assert (row["download_state"], row["processed"], row["downloaded_path"]) == ("done", 1, GOOD.path)
    assert row["youtube_url"] is None
    assert rows.kv() == {"avg_download_ms": "90500", "avg_total_ms": "90500"}
    assert rows.kv("chan") == rows.kv()
    for name in ("vod_downloads_started_total", "vod_downloads_succeeded_total"):
        assert shop.counted(name) == 1
    assert shop.counted("vod_downloads_failed_total") == 0
    assert shop.counted("vod_download_duration_seconds_sum") == 90.5
    assert shop.counted("vod_processing_total_duration_seconds_sum") == 90.5
    (finished,) = shop.said("download finished")
    (processed,) = shop.said("vod processed")
    assert (finished["component"], finished["dl_ms"], finished["vod_id"]) == ("vod_download", 90500, "1")
    assert (processed["component"], processed["dl_ms"], processed["total_ms"]) == ("vod_process", 90500, 90500)
    assert processed["queue_depth"] == 0
    assert "upl_ms" not in processed, "nothing was uploaded"


async def test_one_correlation_id_runs_through_capture_log_and_timeline(shop: Workshop, rows: Rows) -> None:
    rows.add("1", download_state="parked", processing_error="x")
    await shop.actions.retry("1", Asked(Asker.API, "request-7"))
    await _attempt(shop, GOOD)
    assert shop.capture.begun[0].corr == "request-7"
    assert {line["corr"] for line in shop.said("download started", "download finished", "vod processed")} == {
        "request-7"
    }


@pytest.mark.parametrize(
    ("ending", "state", "code", "retries", "failed"),
    [
        (StillRecording("It is still live."), S.WAITING, None, 0, 0),
        (PermanentError("It was deleted.", code="deleted"), S.PARKED, "deleted", 1, 1),
        (NetworkError("No answer."), S.FAILED, "network", 1, 1),
        (Incomplete("A segment is missing."), S.FAILED, "incomplete", 1, 1),
        (DiskFull("No space is left."), S.FAILED, "disk_full", 0, 1),
        (ArchiveAway("It is not mounted."), S.FAILED, "archive_away", 0, 1),
        (RuntimeError("boom"), S.FAILED, "bug", 1, 1),
        (ExceptionGroup("tasks", [NetworkError("No answer.")]), S.FAILED, "network", 1, 1),
        (
            CapturedItem(path="/x", bytes=1, duration_ms=1, completeness=1 - 1e-9),
            S.FAILED,
            "incomplete",
            1,
            1,
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, int | str) else None,
)
async def test_each_ending_leaves_its_mark_once(
    shop: Workshop,
    rows: Rows,
    ending: CapturedItem | Exception,
    state: DownloadState,
    code: str | None,
    retries: int,
    failed: int,
) -> None:
    rows.add("1")
    assert await _attempt(shop, ending) is state
    row = rows.get("1")
    assert (row["download_state"], row["error_code"], row["download_retries"]) == (state, code, retries)
    assert row["processed"] == 0
    assert bool(row["processing_error"]) == (state is not S.WAITING)
    assert (row["not_before"] is not None) == (state is not S.PARKED)
    assert shop.counted("vod_downloads_failed_total") == failed
    assert shop.counted("vod_downloads_succeeded_total") == 0
    assert rows.kv() == {}, "only successes move the averages"


async def test_a_bug_is_told_with_its_traceback(shop: Workshop, rows: Rows) -> None:
    rows.add("1")
    await _attempt(shop, ZeroDivisionError("boom"))
    (line,) = shop.said("download failed")
    assert isinstance(line["exc_info"], ZeroDivisionError)
    assert (line["code"], line["queue_depth"]) == ("bug", 1)


async def test_holes_park_an_item_only_after_a_cooldown(shop: Workshop, rows: Rows, clock: FakeClock) -> None:
    rows.add("1")
    began = clock.now()
    states: list[DownloadState | None] = []
    while (not_before := rows.get("1")["not_before"]) or not states:
        clock.jump((not_before - clock.now()).total_seconds() if not_before else 0)
        states.append(await _attempt(shop, Incomplete("A segment is missing.")))
    assert states == [S.FAILED, S.FAILED, S.PARKED]
    assert clock.now() - began >= timedelta(minutes=10)
    row = rows.get("1")
    assert (row["error_code"], row["processing_error"]) == ("incomplete", "A segment is missing.")


async def test_the_last_chance_keeps_what_there_is_and_never_calls_it_whole(
    shop: Workshop, rows: Rows, clock: FakeClock
) -> None:
    rows.add("1")
    for _ in range(2):
        await _attempt(shop, Incomplete("A segment is missing."))
        clock.jump((rows.get("1")["not_before"] - clock.now()).total_seconds())
    part = CapturedItem(path="/library/part.mp4", bytes=900, duration_ms=3_000_000, completeness=0.9)
    assert await _attempt(shop, part) is S.PARKED
    assert [capturing.accept_holes for capturing in shop.capture.begun] == [False, False, True]
    row = rows.get("1")
    assert (row["download_state"], row["processed"], row["error_code"]) == ("parked", 0, "incomplete")
    assert (row["downloaded_path"], row["completeness"]) == ("/library/part.mp4", 0.9)
    assert "90.00%" in row["processing_error"]
    assert shop.capture.tidied == ["1"], "what there is lies in its folder"


@pytest.mark.parametrize(
    ("ending", "tidied"),
    [
        (GOOD, ["1"]),
        (PermanentError("gone", code="deleted"), []),
        (NetworkError("away"), []),
        (DiskFull("full"), []),
    ],
    ids=["done", "deleted half way", "failed", "disk full"],
)
async def test_only_what_lies_in_its_folder_is_tidied_away(
    shop: Workshop, rows: Rows, ending: CapturedItem | Exception, tidied: list[str]
) -> None:
    rows.add("1")
    await _attempt(shop, ending)
    assert shop.capture.tidied == tidied


async def test_a_long_outage_parks_nothing(shop: Workshop, rows: Rows, clock: FakeClock) -> None:
    rows.add("1")
    for _ in range(8):
        assert await _attempt(shop, NetworkError("No answer.")) is S.FAILED
        clock.jump((rows.get("1")["not_before"] - clock.now()).total_seconds())
        rows.execute("DELETE FROM kv")
    assert await _attempt(shop, GOOD) is S.DONE


# --- progress and phases ---------------------------------------------------------------------------------------------


async def test_progress_is_written_once_a_second_at_most(shop: Workshop, rows: Rows, clock: FakeClock) -> None:
    rows.add("1")
    with shop.lines.watching(), anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shop.runner.run, _item(shop))
            capturing = await shop.capture.nth(1)
            await clock.until_sleeping()
            for fetched in range(1, 50):
                capturing.on_progress(Progress(Phase.FETCHING, fetched_bytes=fetched, total_bytes=100))
            assert rows.get("1")["download_bytes"] == 0
            assert shop.runner.progress()["1"].fetched_bytes == 49
            await _beat(clock)
            row = rows.get("1")
            assert (row["download_bytes"], row["download_total"]) == (49, 100)
            assert row["progress_updated_at"] == clock.now()
            await _beat(clock)
            assert rows.get("1")["progress_updated_at"] < clock.now(), "nothing new, nothing written"
            capturing.end()
    assert shop.runner.progress() == {}


async def _beat(clock: FakeClock) -> None:
    """Let a second pass and the heartbeat finish its write."""
    asleep = clock.sleeping
    clock.jump(1)
    await clock.until_sleeping(asleep)


async def test_progress_is_logged_every_ten_seconds(shop: Workshop, rows: Rows, clock: FakeClock) -> None:
    rows.add("1")
    with shop.lines.watching(), anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shop.runner.run, _item(shop))
            capturing = await shop.capture.nth(1)
            await clock.until_sleeping()
            capturing.on_progress(
                Progress(Phase.FETCHING, 50, 200, segments_done=1, segments_total=4, rate_bytes_s=25.4, eta_s=65)
            )
            for _ in range(21):
                await _beat(clock)
            capturing.end()
    lines = shop.said("downloading")
    assert len(lines) == 2
    fields = {name: lines[0][name] for name in ("vod_id", "bytes", "total", "percent", "rate_bytes_s", "eta")}
    assert fields == {"vod_id": "1", "bytes": 50, "total": 200, "percent": 25.0, "rate_bytes_s": 25, "eta": "0:01:05"}
    assert lines[0]["component"] == "vod_download"


@pytest.mark.parametrize("phase", [Phase.MUXING, Phase.VERIFYING])
async def test_the_row_says_when_only_checking_is_left(
    shop: Workshop, rows: Rows, clock: FakeClock, phase: Phase
) -> None:
    rows.add("1")
    with shop.lines.watching(), anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shop.runner.run, _item(shop))
            capturing = await shop.capture.nth(1)
            await clock.until_sleeping()
            capturing.report_phase(Phase.FETCHING)
            await _beat(clock)
            assert rows.get("1")["download_state"] == "downloading"
            capturing.report_phase(phase)
            await _beat(clock)
            assert rows.get("1")["download_state"] == "verifying"
            capturing.end()
    assert rows.get("1")["download_state"] == "done"
    assert [move[1] for move in rows.events("1")] == ["downloading", "verifying", "downloaded", "done"]


# --- losing the item -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "said", "by"),
    [
        ("UPDATE vods SET generation=generation+1", "claim lost", None),
        (
            "UPDATE vods SET download_state='canceled', processing_error='canceled by hand'",
            "download canceled",
            "sql",
        ),
        ("DELETE FROM vods", "claim lost", None),
    ],
    ids=["another run", "canceled by hand", "deleted"],
)
async def test_a_run_whose_item_was_taken_stops_within_two_seconds(
    shop: Workshop, rows: Rows, clock: FakeClock, statement: str, said: str, by: str | None
) -> None:
    rows.add("1")
    with shop.lines.watching(), anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shop.runner.run, _item(shop))
            capturing = await shop.capture.nth(1)
            await clock.until_sleeping()
            rows.execute(statement)
            await clock.advance(1.5)
            await capturing.ended.wait()
    assert capturing.canceled
    assert [(line["event"], line["by"]) for line in shop.said("claim lost", "download canceled")] == [(said, by)]
    assert not shop.said("download failed")
    assert shop.counted("vod_downloads_failed_total") == 0


async def test_a_result_that_comes_too_late_is_not_written(shop: Workshop, rows: Rows) -> None:
    rows.add("1")
    with shop.lines.watching(), anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shop.runner.run, _item(shop))
            capturing = await shop.capture.nth(1)
            rows.execute("UPDATE vods SET generation=generation+1")
            before = rows.get("1")
            capturing.end()
    assert rows.get("1") == before
    assert shop.counted("vod_downloads_succeeded_total") == 0
    assert rows.kv() == {}


async def test_a_stop_hands_the_item_back_uncounted(shop: Workshop, rows: Rows) -> None:
    rows.add("1", download_retries=1)
    with shop.lines.watching(), anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shop.runner.run, _item(shop))
            capturing = await shop.capture.nth(1)
            tasks.cancel_scope.cancel()
    assert capturing.canceled
    row = rows.get("1")
    assert (row["download_state"], row["download_retries"], row["not_before"]) == ("pending", 1, None)
    assert rows.events("1")[-1] == ("downloading", "pending", "released")
    assert shop.counted("vod_downloads_failed_total") == 0


async def test_an_item_that_changed_since_it_was_planned_is_left_alone(shop: Workshop, rows: Rows) -> None:
    rows.add("1")
    planned = _item(shop)
    rows.execute("UPDATE vods SET processed=1, download_state='done'")
    with anyio.fail_after(PATIENCE_S):
        assert await shop.runner.run(planned) is None
    assert not shop.capture.begun
    assert shop.counted("vod_downloads_started_total") == 0


# --- the breaker -----------------------------------------------------------------------------------------------------


async def test_systemic_failures_open_the_breaker_and_nothing_else_does(
    shop: Workshop, rows: Rows, clock: FakeClock
) -> None:
    for harmless in (
        PermanentError("gone", code="deleted"),
        StillRecording("live"),
        Incomplete("hole"),
        DiskFull("full"),
        RuntimeError("bug"),
    ):
        rows.add("1")
        for _ in range(3):
            rows.execute("UPDATE vods SET download_state='pending', not_before=NULL")
            await _attempt(shop, harmless)
        rows.execute("DELETE FROM vods")
    assert rows.kv("chan") == {}
    rows.add("1")
    for number in range(1, 4):
        rows.execute("UPDATE vods SET not_before=NULL")
        assert len(shop.said("circuit opened")) == 0
        await _attempt(shop, NetworkError("No answer."))
        assert rows.kv("chan")["circuit_failures"] == str(number)
    assert rows.kv("chan")["circuit_state"] == "open"
    (line,) = shop.said("circuit opened")
    assert (line["component"], line["channel"], line["open_until"]) == (
        "vod_process",
        "chan",
        clock.now() + timedelta(minutes=5),
    )
    assert shop.counted("vod_circuit_open") == 1


async def test_the_probe_is_taken_with_the_claim_and_decides(shop: Workshop, rows: Rows, clock: FakeClock) -> None:
    rows.add("1")
    _set_breaker(shop, Breaker(BreakerPhase.OPEN, 3, NOW))
    await _attempt(shop, NetworkError("No answer."), probe=True)
    assert rows.kv("chan")["circuit_state"] == "open"
    clock.jump(301)
    await _attempt(shop, GOOD, probe=True)
    assert rows.kv("chan").get("circuit_state") is None
    assert [line["event"] for line in shop.said("circuit opened", "circuit closed")] == [
        "circuit opened",
        "circuit closed",
    ]


async def test_a_probe_that_may_not_go_claims_nothing(shop: Workshop, rows: Rows) -> None:
    rows.add("1")
    _set_breaker(shop, Breaker(BreakerPhase.HALF_OPEN, 3, NOW + timedelta(seconds=9)))
    before = rows.get("1")
    assert await _attempt(shop, GOOD, probe=True) is None
    assert rows.get("1") == before
    assert not shop.capture.begun


async def test_a_long_probe_keeps_its_turn(shop: Workshop, rows: Rows, clock: FakeClock) -> None:
    rows.add("1")
    _set_breaker(shop, Breaker(BreakerPhase.OPEN, 3, NOW))
    with shop.lines.watching(), anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: shop.runner.run(_item(shop), probe=True))
            capturing = await shop.capture.nth(1)
            await clock.until_sleeping()
            for _ in range(4):
                clock.jump(100)
                await clock.until_sleeping()
            with shop.database.unit_of_work(write=False) as unit:
                breaker = HealthStore(unit.connection).load_breakers()["chan"]
            assert breaker.phase is BreakerPhase.HALF_OPEN
            assert breaker.open_until is not None
            assert breaker.open_until > clock.now()
            capturing.end()
    assert rows.kv("chan").get("circuit_state") is None


@pytest.mark.parametrize("how", ["stopped", "canceled", "bug"])
async def test_a_probe_that_said_nothing_leaves_the_way_free(shop: Workshop, rows: Rows, how: str) -> None:
    rows.add("1")
    _set_breaker(shop, Breaker(BreakerPhase.OPEN, 3, NOW))
    with shop.lines.watching(), anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: shop.runner.run(_item(shop), probe=True))
            capturing = await shop.capture.nth(1)
            assert rows.kv("chan")["circuit_state"] == "half_open"
            if how == "bug":
                capturing.end(RuntimeError("boom"))
            else:
                if how == "canceled":
                    with shop.database.unit_of_work() as unit:
                        ActionStore(unit.connection).cancel("1", NOW, Asked(Asker.CLI, None))
                        unit.commit()
                tasks.cancel_scope.cancel()
    kv = rows.kv("chan")
    assert (kv["circuit_state"], kv["circuit_open_until"]) == ("open", "2026-11-23T12:00:00.000000Z")


async def test_of_two_workers_racing_for_an_open_breaker_one_probes(shop: Workshop, rows: Rows) -> None:
    """Both saw that the cooldown is over; each has an item of its own."""
    rows.add("1", "2")
    _set_breaker(shop, Breaker(BreakerPhase.OPEN, 3, NOW))
    items = [_item(shop, item_id) for item_id in ("1", "2")]
    turned_away = anyio.Event()

    async def run(runner: CaptureRunner, item: QueueItem) -> None:
        if await runner.run(item, probe=True) is None:
            turned_away.set()

    with shop.lines.watching(), anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for runner, item in zip([shop.runner, shop.another_runner()], items, strict=True):
                tasks.start_soon(run, runner, item)
            probe = await shop.capture.nth(1)
            await turned_away.wait()
            assert rows.kv("chan")["circuit_state"] == "half_open"
            assert sorted(rows.get(item_id)["generation"] for item_id in ("1", "2")) == [0, 1]
            probe.end()
    assert "circuit_state" not in rows.kv("chan")
    assert len(shop.capture.begun) == 1


@pytest.mark.parametrize("phase", [BreakerPhase.OPEN, BreakerPhase.HALF_OPEN])
async def test_what_was_planned_before_the_breaker_opened_is_not_begun(
    shop: Workshop, rows: Rows, phase: BreakerPhase
) -> None:
    rows.add("1")
    item = _item(shop)
    _set_breaker(shop, Breaker(phase, 3, NOW))
    with shop.lines.watching(), anyio.fail_after(PATIENCE_S):
        assert await shop.runner.run(item) is None
    assert not shop.capture.begun
    assert (rows.get("1")["download_state"], rows.get("1")["generation"]) == ("pending", 0)


# --- a database that goes away ---------------------------------------------------------------------------------------


class _Outage:
    """Makes the next ``tries`` transactions fail as if the server were gone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
        self.tries = 0
        real = database.unit_of_work

        def unit_of_work(**options: object) -> object:
            if self.tries > 0:
                self.tries -= 1
                raise DatabaseUnavailable("The database is away.")
            return real(**options)  # type: ignore[arg-type]

        monkeypatch.setattr(database, "unit_of_work", unit_of_work)


async def test_a_result_is_kept_until_the_database_is_back(
    shop: Workshop, rows: Rows, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows.add("1")
    item = _item(shop)
    outage = _Outage(monkeypatch, shop.database)
    with shop.lines.watching(), anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shop.runner.run, item)
            capturing = await shop.capture.nth(1)
            await clock.until_sleeping()
            capturing.on_progress(Progress(Phase.FETCHING, 5))
            outage.tries = 2
            await _beat(clock)
            await _beat(clock)
            assert len(shop.said("progress is not saved")) == 1
            outage.tries = 3
            capturing.end()
            await shop.hears("the result is not saved yet")
            for wait_s in (1, 2, 5):
                await clock.until_sleeping()
                clock.jump(wait_s)
    assert rows.get("1")["download_state"] == "done"
    assert len(shop.said("the result is not saved yet")) == 1
    assert shop.counted("vod_downloads_succeeded_total") == 1


async def test_an_item_is_not_started_while_the_database_is_away(
    shop: Workshop, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows.add("1")
    item = _item(shop)
    _Outage(monkeypatch, shop.database).tries = 1
    with shop.lines.watching(), anyio.fail_after(PATIENCE_S):
        assert await shop.runner.run(item) is None
    assert not shop.capture.begun


# --- the fence outside of the table ----------------------------------------------------------------------------------


async def test_the_library_is_left_alone_by_a_run_that_lost_its_item(shop: Workshop, rows: Rows) -> None:
    """It is asked in the thread that is about to rename, and not at the next heartbeat."""
    rows.add("1")
    with shop.lines.watching(), anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shop.runner.run, _item(shop))
            capturing = await shop.capture.nth(1)
            await anyio.to_thread.run_sync(capturing.confirm)
            rows.execute("UPDATE vods SET generation = generation + 1 WHERE twitch_vod_id = '1'")
            with pytest.raises(FenceLost) as lost:
                await anyio.to_thread.run_sync(capturing.confirm)
            capturing.end(lost.value)
    assert len(shop.said("claim lost")) == 1
    assert rows.get("1")["download_state"] == "downloading", "nothing was written"
    assert shop.counted("vod_downloads_failed_total") == 0


async def test_the_library_waits_for_a_database_that_is_away(
    shop: Workshop, rows: Rows, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows.add("1")
    with shop.lines.watching(), anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shop.runner.run, _item(shop))
            capturing = await shop.capture.nth(1)
            await clock.until_sleeping()  # the heartbeat
            with monkeypatch.context() as patch:

                def away(*_: object, **__: object) -> None:
                    raise DatabaseUnavailable("It is away.")

                patch.setattr(Database, "unit_of_work", away)
                confirmed = anyio.Event()

                async def confirm() -> None:
                    await anyio.to_thread.run_sync(capturing.confirm)
                    confirmed.set()

                tasks.start_soon(confirm)
                await clock.until_sleeping(2)
                assert len(shop.said("the library waits for the database")) == 1
            assert not confirmed.is_set()
            await clock.advance(1)
            await confirmed.wait()
            capturing.end()
    assert rows.get("1")["download_state"] == "done"


async def test_a_cancellation_ends_the_waiting_of_the_library(
    shop: Workshop, rows: Rows, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows.add("1")
    with shop.lines.watching(), anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shop.runner.run, _item(shop))
            capturing = await shop.capture.nth(1)
            await clock.until_sleeping()
            with monkeypatch.context() as patch:

                def away(*_: object, **__: object) -> None:
                    raise DatabaseUnavailable("It is away.")

                patch.setattr(Database, "unit_of_work", away)
                async with anyio.create_task_group() as waiting:
                    waiting.start_soon(anyio.to_thread.run_sync, capturing.confirm)
                    await clock.until_sleeping(2)
                    waiting.cancel_scope.cancel()
            capturing.end()


async def test_an_item_whose_work_folder_is_in_use_waits_and_nothing_is_counted(shop: Workshop, rows: Rows) -> None:
    """A frozen process that lost its claim has it until it wakes up or dies."""
    rows.add("1", download_retries=1)
    busy = ItemBusyError("Item 1 is being captured by another process.", delay_s=30)
    assert await _attempt(shop, busy) is S.PENDING
    row = rows.get("1")
    assert (row["download_state"], row["download_retries"], row["processing_error"]) == ("pending", 1, None)
    assert row["not_before"] == NOW + timedelta(seconds=5)
    assert rows.events("1")[-1] == ("downloading", "pending", "busy")
    assert shop.counted("vod_downloads_failed_total") == 0
    assert len(shop.said("work folder is busy")) == 1


async def test_a_probe_that_finds_its_work_folder_in_use_says_nothing(shop: Workshop, rows: Rows) -> None:
    rows.add("1")
    _set_breaker(shop, Breaker(BreakerPhase.OPEN, 3, NOW))
    await _attempt(shop, ItemBusyError("Item 1 is being captured by another process."), probe=True)
    with shop.database.unit_of_work(write=False) as unit:
        breaker = HealthStore(unit.connection).load_breakers()["chan"]
    assert (breaker.phase, breaker.open_until) == (BreakerPhase.OPEN, NOW), "the next one may go at once"
