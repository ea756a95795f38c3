"""The jobs at work in this process: one task and one cancel scope each, whatever engine started them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

import anyio
import anyio.abc

from vodkeep.clock import Clock
from vodkeep.pipeline.model import Job, QueueItem, Stage
from vodkeep.telemetry.log import Logger

CANCEL_LIMIT_S = 2.0
"""A canceled job has ended within this time, its child processes included."""

# A job that ends in an error nobody foresaw keeps its slot this long, so that it cannot spin.
_CRASH_PAUSE_S = 30.0


class Runner(Protocol):
    """Runs one stage of one item to its end; returns when the row says what became of it."""

    async def run(self, item: QueueItem, *, probe: bool = False) -> object:
        """Do the work. Canceled, it keeps what it has, hands the item back and re-raises."""
        ...


Permit = Callable[[Job], AbstractAsyncContextManager[bool]]
"""Holds the right to run a job for the time of a block; ``False`` when there is none to be had."""


class Bell:
    """Wakes one sleeper before its time: for the planner, a slot is free or somebody asked for something."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def ring(self) -> None:
        """Wake the sleeper now, or keep it from falling asleep when it is awake."""
        self._rung.set()

    async def wait(self) -> None:
        """Return once the bell has been rung since the last return."""
        await self._rung.wait()
        self._rung = anyio.Event()

    async def wait_up_to(self, seconds: float, clock: Clock) -> None:
        """Return when the bell rings or after ``seconds``, whichever comes first."""
        async with anyio.create_task_group() as tasks:

            async def ring_later() -> None:
                await clock.sleep(seconds)
                self.ring()

            tasks.start_soon(ring_later)
            await self.wait()
            tasks.cancel_scope.cancel()


@dataclass(slots=True, eq=False)
class Running:
    """A job at work."""

    job: Job
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)


class RunningJobs:
    """Runs jobs as tasks of its own; an async context manager.

    Leaving the block cancels every job and waits for it; the runners hand their items back. A job that gets no
    ``permit`` ends at once.
    """

    def __init__(
        self,
        runners: Mapping[Stage, Runner],
        *,
        bell: Bell,
        clock: Clock,
        log: Logger,
        permit: Permit = lambda _job: nullcontext(True),
    ) -> None:
        self._runners = runners
        self._bell = bell
        self._clock = clock
        self._log = log
        self._permit = permit
        self._running: dict[str, Running] = {}
        self._tasks: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        tasks, self._tasks = self._tasks, None
        assert tasks is not None
        if self._running:
            self._log.info("stopping jobs", jobs=sorted(self._running))
        tasks.cancel_scope.cancel()
        return await tasks.__aexit__(kind, error, trace)

    def jobs(self) -> list[Job]:
        """The jobs at work, also those that are being stopped."""
        return [one.job for one in self._running.values()]

    def occupied(self, stage: Stage) -> int:
        """How many jobs of the stage are at work."""
        return sum(one.job.stage is stage for one in self._running.values())

    def begin(self, stage: Stage, item: QueueItem, *, probe: bool) -> Running | None:
        """Run ``stage`` of ``item`` in a task; ``None`` when the item runs already or the block has been left."""
        if self._tasks is None or item.twitch_vod_id in self._running:
            return None
        running = Running(Job(stage, item.twitch_vod_id, item.channel, probe))
        self._running[item.twitch_vod_id] = running
        self._tasks.start_soon(self._run, running, item, name=f"{stage} {item.twitch_vod_id}")
        return running

    def find(self, item_id: str) -> Running | None:
        """The item's job, if it is at work here."""
        return self._running.get(item_id)

    async def _run(self, running: Running, item: QueueItem) -> None:
        job = running.job
        try:
            with running.scope:
                async with self._permit(job) as permitted:
                    if permitted:
                        await self._run_permitted(job, item)
        finally:
            del self._running[job.twitch_vod_id]
            running.ended.set()
            self._bell.ring()

    async def _run_permitted(self, job: Job, item: QueueItem) -> None:
        try:
            await self._runners[job.stage].run(item, probe=job.probe)
        except Exception:  # noqa: BLE001 - the task ends here
            self._log.exception("a job ended in a bug", vod_id=job.twitch_vod_id, stage=job.stage)
            await self._clock.sleep(_CRASH_PAUSE_S)
