"""Engines run what is due; they decide nothing.

``vods`` is the truth and :mod:`vodkeep.pipeline.due` the rule. An engine takes a stage of an item, runs it in one of
its slots, and can stop it; what the run does to the row is the runner's business (``docs/pipeline.md``).
"""

from __future__ import annotations

from collections.abc import Mapping
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


class Engine(Protocol):
    """Runs stages of items, each item at most once at a time."""

    @property
    def slots(self) -> Mapping[Stage, int]:
        """How many jobs of each stage may run at once."""
        ...

    async def start(self, stage: Stage, item: QueueItem, *, probe: bool = False) -> bool:
        """Run ``stage`` of ``item`` soon; ``False`` when the item runs already or no slot is free."""
        ...

    async def cancel(self, item_id: str) -> bool:
        """Stop whatever runs of the item; ``True`` once nothing of it runs any more."""
        ...

    async def running(self) -> list[Job]:
        """The jobs at work."""
        ...


class Runner(Protocol):
    """Runs one stage of one item to its end; returns when the row says what became of it."""

    async def run(self, item: QueueItem, *, probe: bool = False) -> object:
        """Do the work. Canceled, it keeps what it has, hands the item back and re-raises."""
        ...


class Bell:
    """Wakes the planner: a slot is free, or somebody asked for something."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def ring(self) -> None:
        """Wake the planner now, or keep it from falling asleep when it is awake."""
        self._rung.set()

    async def wait(self) -> None:
        """Return once the bell has been rung since the last return."""
        await self._rung.wait()
        self._rung = anyio.Event()


@dataclass(slots=True, eq=False)
class _Running:
    job: Job
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)


class InProcessEngine:
    """Runs jobs as tasks of this process; an async context manager whose end is the shutdown.

    Leaving the block cancels every job and waits for it; the runners hand their items back. One process only: it
    takes every row in a running state that it does not run itself for the remains of a killed process.
    """

    def __init__(
        self, runners: Mapping[Stage, Runner], *, slots: Mapping[Stage, int], bell: Bell, clock: Clock, log: Logger
    ) -> None:
        self._runners = runners
        self._slots = dict(slots)
        self._bell = bell
        self._clock = clock
        self._log = log
        self._running: dict[str, _Running] = {}
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

    @property
    def slots(self) -> Mapping[Stage, int]:
        """How many jobs of each stage may run at once."""
        return self._slots

    async def start(self, stage: Stage, item: QueueItem, *, probe: bool = False) -> bool:
        """Run ``stage`` of ``item`` in a task; ``False`` when the item runs already or no slot is free."""
        occupied = sum(one.job.stage is stage for one in self._running.values())
        if self._tasks is None or item.twitch_vod_id in self._running or occupied >= self._slots.get(stage, 0):
            return False
        running = _Running(Job(stage, item.twitch_vod_id, item.channel, probe))
        self._running[item.twitch_vod_id] = running
        self._tasks.start_soon(self._run, running, item, name=f"{stage} {item.twitch_vod_id}")
        return True

    async def cancel(self, item_id: str) -> bool:
        """Stop the item's job and wait for its end, at most ``CANCEL_LIMIT_S``; ``True`` when nothing runs.

        The row is not touched: whoever cancels moves it first, so that the run has nothing to hand back.
        """
        running = self._running.get(item_id)
        if running is None:
            return True
        running.scope.cancel()
        with anyio.move_on_after(CANCEL_LIMIT_S):
            await running.ended.wait()
            return True
        self._log.error("a canceled job does not end", vod_id=item_id, limit_s=CANCEL_LIMIT_S)
        return False

    async def running(self) -> list[Job]:
        """The jobs at work, also those that are being stopped."""
        return [one.job for one in self._running.values()]

    async def _run(self, running: _Running, item: QueueItem) -> None:
        try:
            with running.scope:
                try:
                    await self._runners[running.job.stage].run(item, probe=running.job.probe)
                except Exception:  # noqa: BLE001 - the task ends here
                    self._log.exception("a job ended in a bug", vod_id=item.twitch_vod_id, stage=running.job.stage)
                    await self._clock.sleep(_CRASH_PAUSE_S)
        finally:
            del self._running[item.twitch_vod_id]
            running.ended.set()
            self._bell.ring()
