"""The whole pipeline around a scripted capture, on a real database and a clock that tests move."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

import anyio
import structlog

from support.clock import FakeClock
from vodkeep.capture.model import Phase, Progress
from vodkeep.db.engine import Database
from vodkeep.db.leases import Lease
from vodkeep.pipeline.actions import Actions
from vodkeep.pipeline.breaker import BreakerPolicy
from vodkeep.pipeline.circuits import Circuits
from vodkeep.pipeline.engine import InProcessEngine
from vodkeep.pipeline.model import QueueItem, Stage
from vodkeep.pipeline.planner import FreeSpace
from vodkeep.pipeline.retry import RetryPolicy
from vodkeep.pipeline.running import Bell
from vodkeep.pipeline.service import PipelineService
from vodkeep.pipeline.stages import CapturedItem, CaptureRunner
from vodkeep.telemetry.correlation import current_corr
from vodkeep.telemetry.log import get_logger
from vodkeep.telemetry.metrics import Metrics

PATIENCE_S = 60.0

GOOD = CapturedItem(path="/library/video.mp4", bytes=1000, duration_ms=3_600_000, completeness=1.0)


class Capturing:
    """One capture under way; the test says how it goes on."""

    def __init__(
        self,
        item: QueueItem,
        on_progress: Callable[[Progress], None],
        report: Callable[[Phase], None],
        confirm: Callable[[], None],
        accept_holes: bool,
    ) -> None:
        self.item = item
        self.corr = current_corr()
        self.on_progress = on_progress
        self.report_phase = report
        self.confirm = confirm
        self.accept_holes = accept_holes
        self.canceled = False
        self.ended = anyio.Event()
        self._decided = anyio.Event()
        self._ending: CapturedItem | Exception = GOOD

    def end(self, ending: CapturedItem | Exception = GOOD) -> None:
        """Let it return or raise."""
        self._ending = ending
        self._decided.set()

    async def go(self) -> CapturedItem:
        try:
            await self._decided.wait()
        except anyio.get_cancelled_exc_class():
            self.canceled = True
            raise
        finally:
            self.ended.set()
        if isinstance(self._ending, Exception):
            raise self._ending
        return self._ending


class ScriptedCapture:
    """Hands each capture that begins to the test; items in ``endings`` end by themselves."""

    def __init__(self) -> None:
        self.endings: dict[str, CapturedItem | Exception] = {}
        self.begun: list[Capturing] = []
        self.tidied: list[str] = []
        self._arrived = anyio.Event()

    async def capture(
        self,
        item: QueueItem,
        *,
        on_progress: Callable[[Progress], None],
        report_phase: Callable[[Phase], None],
        confirm: Callable[[], None],
        accept_holes: bool,
    ) -> CapturedItem:
        capturing = Capturing(item, on_progress, report_phase, confirm, accept_holes)
        self.begun.append(capturing)
        self._arrived.set()
        self._arrived = anyio.Event()
        if item.twitch_vod_id in self.endings:
            capturing.end(self.endings[item.twitch_vod_id])
        return await capturing.go()

    async def tidy(self, item_id: str) -> None:
        """Only remembered: the scripted capture leaves nothing behind."""
        self.tidied.append(item_id)

    def leftovers(self) -> list[str]:
        """Nothing lies about."""
        return []

    async def nth(self, number: int) -> Capturing:
        """The ``number``-th capture that began (from 1), once it has."""
        with anyio.fail_after(PATIENCE_S):
            while len(self.begun) < number:
                await self._arrived.wait()
        return self.begun[number - 1]


class LogWatch:
    """Records log lines like ``structlog.testing.capture_logs``, and can be waited on."""

    def __init__(self) -> None:
        self.lines: list[MutableMapping[str, Any]] = []
        self._said = anyio.Event()

    def __call__(self, _logger: object, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        self.lines.append({**line, "log_level": method, "corr": current_corr()})
        self._said.set()
        self._said = anyio.Event()
        raise structlog.DropEvent

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Every logger says it here, also those that are bound already."""
        processors = structlog.get_config()["processors"]
        before = list(processors)
        processors[:] = [self]
        structlog.configure(processors=processors)
        try:
            yield
        finally:
            processors[:] = before
            structlog.configure(processors=processors)

    async def nth(self, event: str, count: int) -> MutableMapping[str, Any]:
        """The ``count``-th line (from 1) with this message, once it has been said."""
        while True:
            found = [line for line in self.lines if line["event"] == event]
            if len(found) >= count:
                return found[count - 1]
            await self._said.wait()


class Alone:
    """Implements ``pipeline.service.Owner`` for the only process there is."""

    holder = "alone"

    def __init__(self) -> None:
        self._kept: set[str] = set()

    async def keep(
        self,
        name: str,
        work: Callable[[], Awaitable[object]],
        *,
        wanted: Callable[[Collection[Lease]], bool] = lambda _live: True,
    ) -> None:
        """Run the work."""
        assert wanted([])
        self._kept.add(name)
        await work()

    def holds(self, name: str) -> bool:
        """Everything that is kept."""
        return name in self._kept

    async def confirm(self, name: str) -> None:
        """Nobody else is there to take it."""
        assert name in self._kept


class Workshop:
    """A pipeline, its parts, and what it said."""

    def __init__(
        self,
        database: Database,
        clock: FakeClock,
        *,
        channels: tuple[str, ...] = ("chan",),
        discover: Callable[[str], Awaitable[int]] | None = None,
        slots: int = 1,
        threshold: int = 3,
        max_attempts: int = 3,
        publishes: bool = False,
        free_space: FreeSpace | None = None,
        archive_problem: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.database = database
        self.clock = clock
        self.capture = ScriptedCapture()
        self.metrics = Metrics()
        self.bell = Bell()
        self.lines = LogWatch()
        self.circuits = Circuits(log=get_logger("vod_process"), metrics=self.metrics)
        self._runner_options: dict[str, Any] = {
            "retry": RetryPolicy(max_attempts, timedelta(seconds=2), timedelta(minutes=10), timedelta(minutes=5)),
            "breaker": BreakerPolicy(threshold, timedelta(minutes=5)),
            "publishes": publishes,
        }
        self.runner = self.another_runner()
        self.engine = InProcessEngine(
            {Stage.CAPTURE: self.runner},
            slots={Stage.CAPTURE: slots},
            bell=self.bell,
            clock=clock,
            log=get_logger("vod_process"),
        )
        self.service = PipelineService(
            database=database,
            engine=self.engine,
            bell=self.bell,
            circuits=self.circuits,
            clock=clock,
            log=get_logger("vod_process"),
            metrics=self.metrics,
            channels=channels,
            discover=discover or _nothing_new,
            interval=timedelta(minutes=1),
            owner=Alone(),
            folders=self.capture,
            publishes=publishes,
            free_space=free_space,
            archive_problem=archive_problem,
        )

        self.actions = Actions(
            database, clock, get_logger("vod_process"), stop=self.engine.cancel, wake=self.service.wake
        )

    def another_runner(self) -> CaptureRunner:
        """A runner such as another worker has: of the same settings, before the same Twitch."""
        return CaptureRunner(
            database=self.database,
            capture=self.capture,
            clock=self.clock,
            log=get_logger("vod_download"),
            metrics=self.metrics,
            circuits=self.circuits,
            rng=random.Random(11),
            **self._runner_options,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The service at work; it is stopped at the end of the block."""
        with self.lines.watching(), anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.service.run)
                yield
                self.service.stop()

    def said(self, *events: str) -> list[MutableMapping[str, Any]]:
        """The log lines with these messages."""
        return [line for line in self.lines.lines if line["event"] in events]

    def counted(self, name: str, channel: str = "chan") -> float:
        """A metric's value; 0 before it first moved."""
        return self.metrics.registry.get_sample_value(name, {"channel": channel}) or 0.0

    async def hears(self, event: str, count: int = 1) -> MutableMapping[str, Any]:
        """The ``count``-th log line with this message, once it has been said."""
        with anyio.fail_after(PATIENCE_S):
            return await self.lines.nth(event, count)


async def _nothing_new(_channel: str) -> int:
    return 0
