"""Engines run what is due; they decide nothing.

``vods`` is the truth and :mod:`vodkeep.pipeline.due` the rule. An engine takes a stage of an item, has it run in a free
slot, here or elsewhere, and can stop it; what the run does to the row is the runner's business (``docs/pipeline.md``).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Protocol, Self

import anyio

from vodkeep.clock import Clock
from vodkeep.pipeline.model import Job, QueueItem, Stage
from vodkeep.pipeline.running import CANCEL_LIMIT_S, Bell, Runner, RunningJobs
from vodkeep.telemetry.log import Logger


class Engine(Protocol):
    """Runs stages of items, each item at most once at a time."""

    async def slots(self) -> Mapping[Stage, int]:
        """How many jobs of each stage may run at once, in all processes together."""
        ...

    async def start(self, stage: Stage, item: QueueItem, *, probe: bool = False) -> bool:
        """Have ``stage`` of ``item`` run soon; ``False`` when it is handed over already or no slot is free."""
        ...

    async def cancel(self, item_id: str) -> bool:
        """Stop whatever runs of the item, anywhere; ``True`` once nothing of it runs any more.

        The row is not touched: whoever cancels moves it first, so that the run has nothing to hand back.
        """
        ...

    async def running(self) -> list[Job]:
        """The jobs handed over or at work, anywhere, also those that are being stopped."""
        ...


class ServedEngine(Engine, AbstractAsyncContextManager["ServedEngine"], Protocol):
    """An engine whose part in this process lives as long as its block.

    Leaving the block stops the jobs that run here and waits for them; the runners hand their items back.
    """

    async def tend(self) -> None:
        """Notice what other processes did and clear away what dead ones left; rings the bell for the planner.

        Runs beside the planner, in the one process that plans, until it is canceled; it returns when there are no
        other processes to look after.
        """
        ...


class InProcessEngine:
    """Runs jobs as tasks of this process; an async context manager whose end is the shutdown.

    One process only: it takes every row in a running state that it does not run itself for the remains of a killed
    process.
    """

    def __init__(
        self, runners: Mapping[Stage, Runner], *, slots: Mapping[Stage, int], bell: Bell, clock: Clock, log: Logger
    ) -> None:
        self._slots = dict(slots)
        self._log = log
        self._jobs = RunningJobs(runners, bell=bell, clock=clock, log=log)

    async def __aenter__(self) -> Self:
        await self._jobs.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._jobs.__aexit__(kind, error, trace)

    async def slots(self) -> Mapping[Stage, int]:
        """How many jobs of each stage may run at once."""
        return self._slots

    async def start(self, stage: Stage, item: QueueItem, *, probe: bool = False) -> bool:
        """Run ``stage`` of ``item`` in a task; ``False`` when the item runs already or no slot is free."""
        if self._jobs.occupied(stage) >= self._slots.get(stage, 0):
            return False
        return self._jobs.begin(stage, item, probe=probe) is not None

    async def cancel(self, item_id: str) -> bool:
        """Stop the item's job and wait for its end, at most ``CANCEL_LIMIT_S``; ``True`` when nothing runs."""
        running = self._jobs.find(item_id)
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
        return self._jobs.jobs()

    async def tend(self) -> None:
        """Nobody else works on this database."""
