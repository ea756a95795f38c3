"""Engines of each kind around a scripted capture, in real time."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import anyio

from support.pipeline_workshop import LogWatch, ScriptedCapture
from vodkeep.clock import SystemClock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.leases import PROCESS_PREFIX, LeaseStore
from vodkeep.errors import DatabaseUnavailable
from vodkeep.pipeline.action_store import ActionStore
from vodkeep.pipeline.breaker import BreakerPolicy
from vodkeep.pipeline.circuits import Circuits
from vodkeep.pipeline.engine import InProcessEngine, ServedEngine
from vodkeep.pipeline.fleet.engine import FleetEngine
from vodkeep.pipeline.metrics import NoMetrics
from vodkeep.pipeline.model import Asked, Asker, Job, QueueItem, Stage
from vodkeep.pipeline.planner import Planner
from vodkeep.pipeline.retry import RetryPolicy
from vodkeep.pipeline.roles import ProcessNote, Role
from vodkeep.pipeline.running import Bell, Runner
from vodkeep.pipeline.stages import CaptureRunner, CaptureStage
from vodkeep.pipeline.store import QueueStore
from vodkeep.telemetry.log import get_logger

PATIENCE_S = 60.0


def build_capture_runner(database: Database, capture: CaptureStage) -> CaptureRunner:
    """The real runner around ``capture``, with waits short enough for tests."""
    log = get_logger("vod_download")
    return CaptureRunner(
        database=database,
        capture=capture,
        clock=SystemClock(),
        log=log,
        metrics=NoMetrics(),
        circuits=Circuits(log=log, metrics=NoMetrics()),
        retry=RetryPolicy(3, timedelta(seconds=2), timedelta(minutes=10), timedelta(minutes=5)),
        breaker=BreakerPolicy(3, timedelta(minutes=5)),
        rng=random.Random(11),
    )


def announce(database: Database, holder: str, slots: int, lifetime: timedelta = timedelta(minutes=5)) -> None:
    """Say that a worker lives, as its process does."""
    with database.unit_of_work() as unit:
        note = ProcessNote(host="here", pid=1, roles=(Role.WORK,), slots={Stage.CAPTURE.value: slots})
        LeaseStore(unit.connection).take(PROCESS_PREFIX + holder, holder, lifetime, note.write())
        unit.commit()


def cancel_row(database: Database, item_id: str) -> None:
    """What a cancel does before it asks the engine."""
    with database.unit_of_work() as unit:
        ActionStore(unit.connection).cancel(item_id, SystemClock().now(), Asked(Asker.API, None))
        unit.commit()


class Crew:
    """One engine, what it runs, and what it said."""

    def __init__(
        self,
        kind: str,
        database: Database,
        *,
        slots: int = 1,
        works: bool = True,
        holder: str = "here",
        runner: Runner | None = None,
    ) -> None:
        self.database = database
        self.capture = ScriptedCapture()
        self.bell = Bell()
        self.lines = LogWatch()
        self.clock = SystemClock()
        self._kind = kind
        self._slots = slots if works else 0
        self._holder = holder
        self._runner = runner or build_capture_runner(database, self.capture)
        self.engine = self._build()

    def _build(self) -> ServedEngine:
        runners: Mapping[Stage, Runner] = {Stage.CAPTURE: self._runner}
        slots, log = {Stage.CAPTURE: self._slots}, get_logger("vod_process")
        if self._kind == "in process":
            return InProcessEngine(runners, slots=slots, bell=self.bell, clock=self.clock, log=log)
        return FleetEngine(
            self.database, runners, slots=slots, holder=self._holder, bell=self.bell, clock=self.clock, log=log
        )

    @asynccontextmanager
    async def working(self) -> AsyncIterator[ServedEngine]:
        """The engine in its block, known to the others if it runs something."""
        if self._slots and self._kind == "fleet":
            await anyio.to_thread.run_sync(announce, self.database, self._holder, self._slots)
        with self.lines.watching(), anyio.fail_after(PATIENCE_S):
            async with self.engine as engine:
                yield engine

    @asynccontextmanager
    async def planning(self) -> AsyncIterator[ServedEngine]:
        """The engine in its block, and a planner that starts whatever of the queue there is a slot for."""
        async with self.working() as engine, anyio.create_task_group() as tasks:
            tasks.start_soon(engine.tend)
            tasks.start_soon(self._plan)
            yield engine
            tasks.cancel_scope.cancel()

    async def _plan(self) -> None:
        log = get_logger("vod_process")
        planner = Planner(
            database=self.database,
            engine=self.engine,
            circuits=Circuits(log=log, metrics=NoMetrics()),
            clock=self.clock,
            log=log,
            channels=(),
        )
        while True:
            # A database that is away is part of some tests.
            with suppress(DatabaseUnavailable):
                await planner.plan()
            await self.bell.wait_up_to(0.5, self.clock)

    async def item(self, item_id: str) -> QueueItem:
        """The row as the planner sees it."""

        def find(unit: UnitOfWork) -> QueueItem:
            item = QueueStore(unit.connection).find(item_id)
            assert item is not None
            return item

        return await self.database.run(find, write=False)

    async def start(self, item_id: str, *, probe: bool = False) -> bool:
        """Hand the item over as the planner does."""
        return await self.engine.start(Stage.CAPTURE, await self.item(item_id), probe=probe)

    async def until(self, holds: Callable[[list[Job]], bool]) -> list[Job]:
        """What is handed over or at work, once that is as expected."""
        with anyio.fail_after(PATIENCE_S):
            # Other processes ring no bell here; the question goes to the database.
            while not holds(jobs := await self.engine.running()):  # noqa: ASYNC110
                await anyio.sleep(0.02)
        return jobs

    async def hears(self, event: str, count: int = 1) -> None:
        """Return once the log has said this ``count`` times."""
        with anyio.fail_after(PATIENCE_S):
            await self.lines.nth(event, count)
