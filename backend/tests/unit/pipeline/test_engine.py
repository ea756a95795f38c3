from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest
from structlog.testing import capture_logs

from support.clock import FakeClock
from support.queue_items import make_item
from vodkeep.pipeline.engine import InProcessEngine
from vodkeep.pipeline.model import Job, QueueItem, Stage
from vodkeep.pipeline.running import Bell
from vodkeep.telemetry.log import get_logger

pytestmark = pytest.mark.anyio

PATIENCE_S = 60.0


class ScriptedRunner:
    """Runs until told to end; records what it was given and how it ended."""

    def __init__(self, on_run: Callable[[], None] | None = None) -> None:
        self.began: list[tuple[str, bool]] = []
        self.ended: list[tuple[str, str]] = []
        self.release = anyio.Event()
        self._on_run = on_run

    async def run(self, item: QueueItem, *, probe: bool = False) -> object:
        self.began.append((item.twitch_vod_id, probe))
        try:
            if self._on_run is not None:
                self._on_run()
            await self.release.wait()
        except anyio.get_cancelled_exc_class():
            self.ended.append((item.twitch_vod_id, "canceled"))
            raise
        self.ended.append((item.twitch_vod_id, "finished"))
        return None


def _engine(runner: ScriptedRunner, clock: FakeClock, slots: int = 2) -> tuple[InProcessEngine, Bell]:
    bell = Bell()
    engine = InProcessEngine(
        {Stage.CAPTURE: runner},
        slots={Stage.CAPTURE: slots},
        bell=bell,
        clock=clock,
        log=get_logger("vod_process"),
    )
    return engine, bell


async def test_an_item_runs_once_and_slots_are_a_limit(clock: FakeClock) -> None:
    runner = ScriptedRunner()
    engine, _ = _engine(runner, clock)
    with anyio.fail_after(PATIENCE_S):
        async with engine:
            assert await engine.start(Stage.CAPTURE, make_item("1"), probe=True)
            assert not await engine.start(Stage.CAPTURE, make_item("1"))
            assert await engine.start(Stage.CAPTURE, make_item("2"))
            assert not await engine.start(Stage.CAPTURE, make_item("3"))
            assert not await engine.start(Stage.PUBLISH, make_item("4"))
            assert await engine.running() == [
                Job(Stage.CAPTURE, "1", "chan", probe=True),
                Job(Stage.CAPTURE, "2", "chan", probe=False),
            ]
            await anyio.wait_all_tasks_blocked()
            assert runner.began == [("1", True), ("2", False)]


async def test_a_free_slot_rings_the_bell_and_can_be_used_at_once(clock: FakeClock) -> None:
    runner = ScriptedRunner()
    engine, bell = _engine(runner, clock, slots=1)
    with anyio.fail_after(PATIENCE_S):
        async with engine:
            await engine.start(Stage.CAPTURE, make_item("1"))
            runner.release.set()
            await bell.wait()
            assert await engine.running() == []
            assert await engine.start(Stage.CAPTURE, make_item("2"))


async def test_cancel_returns_when_the_job_has_ended_and_leaves_others_alone(clock: FakeClock) -> None:
    runner = ScriptedRunner()
    engine, _ = _engine(runner, clock)
    with anyio.fail_after(PATIENCE_S):
        async with engine:
            await engine.start(Stage.CAPTURE, make_item("1"))
            await engine.start(Stage.CAPTURE, make_item("2"))
            await anyio.wait_all_tasks_blocked()
            assert await engine.cancel("1")
            assert runner.ended == [("1", "canceled")]
            assert [job.twitch_vod_id for job in await engine.running()] == ["2"]
            assert await engine.cancel("unknown")


async def test_leaving_the_block_cancels_everything_and_waits_for_it(clock: FakeClock) -> None:
    runner = ScriptedRunner()
    engine, _ = _engine(runner, clock)
    with anyio.fail_after(PATIENCE_S):
        async with engine:
            await engine.start(Stage.CAPTURE, make_item("1"))
            await engine.start(Stage.CAPTURE, make_item("2"))
            await anyio.wait_all_tasks_blocked()
        assert sorted(runner.ended) == [("1", "canceled"), ("2", "canceled")]
        assert not await engine.start(Stage.CAPTURE, make_item("3"))


async def test_a_bug_in_a_runner_is_told_and_does_not_spin(clock: FakeClock) -> None:
    def fail() -> None:
        raise ZeroDivisionError("by design")

    runner = ScriptedRunner(fail)
    engine, bell = _engine(runner, clock, slots=1)
    with anyio.fail_after(PATIENCE_S), capture_logs() as lines:
        async with engine:
            await engine.start(Stage.CAPTURE, make_item("1"))
            await clock.until_sleeping()
            assert [line["event"] for line in lines] == ["a job ended in a bug"]
            assert lines[0]["exc_info"]
            assert not await engine.start(Stage.CAPTURE, make_item("1")), "it keeps its slot for a while"
            await clock.advance(60)
            await bell.wait()
            assert await engine.start(Stage.CAPTURE, make_item("1"))


async def test_a_bell_rung_while_nobody_listens_is_heard_once() -> None:
    bell = Bell()
    with anyio.fail_after(PATIENCE_S):
        bell.ring()
        bell.ring()
        await bell.wait()
        with anyio.move_on_after(0) as scope:
            await bell.wait()
        assert scope.cancelled_caught


async def test_a_job_that_does_not_end_is_reported_and_keeps_its_slot(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deaf(ScriptedRunner):
        async def run(self, item: QueueItem, *, probe: bool = False) -> object:
            with anyio.CancelScope(shield=True):
                await super().run(item, probe=probe)
            return None

    monkeypatch.setattr("vodkeep.pipeline.engine.CANCEL_LIMIT_S", 0.01)
    runner = Deaf()
    engine, _ = _engine(runner, clock)
    with anyio.fail_after(PATIENCE_S), capture_logs() as lines:
        async with engine:
            await engine.start(Stage.CAPTURE, make_item("1"))
            await anyio.wait_all_tasks_blocked()
            assert not await engine.cancel("1")
            assert [line["event"] for line in lines] == ["a canceled job does not end"]
            assert [job.twitch_vod_id for job in await engine.running()] == ["1"]
            runner.release.set()
