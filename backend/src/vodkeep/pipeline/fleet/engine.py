"""The engine that hands work over to whichever process has a free slot; implements ``pipeline.engine.ServedEngine``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import anyio
from procrastinate import App
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.job_context import AbortReason, JobContext
from procrastinate.jobs import Job as ProcrastinateJob
from procrastinate.jobs import Status
from procrastinate.manager import JobManager, get_channel_for_queues
from procrastinate.worker import Worker

from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.errors import DatabaseUnavailable
from vodkeep.pipeline.fleet.connector import DatabaseConnector, WorkerConnector
from vodkeep.pipeline.fleet.leased import RunLeases
from vodkeep.pipeline.fleet.listener import listen
from vodkeep.pipeline.fleet.stalled import Watchman
from vodkeep.pipeline.fleet.store import FleetStore, View, describe
from vodkeep.pipeline.model import Job, QueueItem, Stage
from vodkeep.pipeline.running import CANCEL_LIMIT_S, Bell, Runner, RunningJobs
from vodkeep.pipeline.store import QueueStore
from vodkeep.telemetry.correlation import bind_corr, current_corr
from vodkeep.telemetry.log import Logger

TENDING_S = 1.0
"""How often the process that plans looks at what the others do."""

_TENDING_IDLE_S = 2.0

_DEAD_AFTER_S = 5.0
_LONGEST_GAP_S = 3.0

# How often a worker looks for tickets and aborts: that is all it has behind a pooler, and a precaution where it hears
# of them at once.
_POLL_S = 1.0
_POLL_HEARING_S = 5.0

# A worker ends only through an error nobody foresaw; what it ran goes on, and another takes its place.
_WORKER_RESTART_S = 2.0
_WORKER_GRACE_S = 10.0

# We tell the living from the dead by the leases of runs; Procrastinate's own signs of life serve nothing here, except
# that it forgets a worker that gave none for this long.
_WORKER_BEAT_S = 60.0
_WORKER_FORGOTTEN_S = 86_400.0

_CANCEL_LOOK_S = 0.1

_HIGHEST_PRIORITY = 2**31 - 1


class FleetEngine:
    """Tickets in PostgreSQL, and workers that fetch them where ``slots`` says so.

    An async context manager: in its block the workers of this process fetch tickets; leaving it stops them and what
    they run.
    """

    def __init__(
        self,
        database: Database,
        runners: Mapping[Stage, Runner],
        *,
        slots: Mapping[Stage, int],
        holder: str,
        bell: Bell,
        clock: Clock,
        log: Logger,
    ) -> None:
        self._database = database
        self._own_slots = {stage: count for stage, count in slots.items() if count > 0}
        self._bell = bell
        self._clock = clock
        self._log = log
        self._tickets = JobManager(DatabaseConnector(database))
        leases = RunLeases(database, holder, clock=clock, log=log)
        self._jobs = RunningJobs(runners, bell=bell, clock=clock, log=log, permit=leases.hold)
        self._connector = WorkerConnector(database, clock, log)
        self._app = App(connector=self._connector)
        for stage in self._own_slots:
            self._app.task(name=_task_name(stage), pass_context=True)(self._perform)
        self._workers: dict[Stage, Worker] = {}
        self._poll_s = _POLL_S
        self._open = AsyncExitStack()
        self._stopping = anyio.Event()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            workers = await stack.enter_async_context(anyio.create_task_group())
            # In reverse at the end: the runs end before the workers, which see it and clear their tickets away.
            stack.callback(workers.cancel_scope.cancel)
            await stack.enter_async_context(self._jobs)
            stack.callback(self._stop_workers)
            for stage, count in self._own_slots.items():
                workers.start_soon(self._work, stage, count, name=f"{stage} worker")
            if self._own_slots:
                workers.start_soon(self._listen)
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._open.__aexit__(kind, error, trace)

    async def slots(self) -> Mapping[Stage, int]:
        """How many jobs of each stage all live workers can run; raises ``DatabaseUnavailable``."""
        return (await self._view()).slots

    async def running(self) -> list[Job]:
        """What is handed over or at work in any process; raises ``DatabaseUnavailable``."""
        return (await self._view()).running()

    async def start(self, stage: Stage, item: QueueItem, *, probe: bool = False) -> bool:
        """Hand ``stage`` of ``item`` over; ``False`` when it is already or no slot is free in the whole fleet.

        Raises ``DatabaseUnavailable``.
        """
        view = await self._view()
        running = view.running()
        if item.twitch_vod_id in {job.twitch_vod_id for job in running}:
            return False
        if sum(job.stage is stage for job in running) >= view.slots.get(stage, 0):
            return False
        lock = _lock_name(item.twitch_vod_id)
        job = Job(stage, item.twitch_vod_id, item.channel, probe)
        ticket = ProcrastinateJob(
            queue=stage.value,
            task_name=_task_name(stage),
            priority=max(-_HIGHEST_PRIORITY, min(item.priority, _HIGHEST_PRIORITY)),
            lock=lock,
            queueing_lock=lock,
            task_kwargs={**describe(job), "generation": item.generation, "corr": current_corr()},
        )
        try:
            await self._tickets.defer_job_async(ticket)
        except AlreadyEnqueued:
            return False
        return True

    async def cancel(self, item_id: str) -> bool:
        """Stop the item's job wherever it runs and wait for its end, at most ``CANCEL_LIMIT_S``.

        ``True`` when nothing runs. Raises ``DatabaseUnavailable``.
        """
        here = self._jobs.find(item_id)
        if here is not None:
            here.scope.cancel()
        for ticket in await self._tickets.list_jobs_async(lock=_lock_name(item_id)):
            assert ticket.id is not None
            # One that waits is gone with this; one that was fetched is aborted by its worker.
            await self._tickets.cancel_job_by_id_async(ticket.id, abort=True, delete_job=True)
        with anyio.move_on_after(CANCEL_LIMIT_S):
            while item_id in {job.twitch_vod_id for job in (await self._view()).running()}:
                await self._clock.sleep(_CANCEL_LOOK_S)
            return True
        self._log.error("a canceled job does not end", vod_id=item_id, limit_s=CANCEL_LIMIT_S)
        return False

    async def tend(self) -> None:
        """Look after the other processes, every second or two, until canceled.

        Rings the bell when a slot became free or a worker came. A run that gave no sign of life loses
        its ticket and its lease, so that its item is due again.
        """
        watchman = Watchman(limit_s=_DEAD_AFTER_S, longest_gap_s=_LONGEST_GAP_S)
        before: View | None = None
        while True:
            try:
                view = await self._view()
                for item_id in sorted(watchman.look(self._signs_of_others(view), self._clock.monotonic())):
                    await self._clear(item_id, view)
            except DatabaseUnavailable:
                watchman.forget()
            else:
                if before is not None and _may_start_more(before, view):
                    self._bell.ring()
                before = view
            is_idle = before is not None and not before.running()
            await self._clock.sleep(_TENDING_IDLE_S if is_idle else TENDING_S)

    def _signs_of_others(self, view: View) -> Mapping[str, Any]:
        return {item_id: sign for item_id, sign in view.signs().items() if self._jobs.find(item_id) is None}

    async def _clear(self, item_id: str, view: View) -> None:
        """Throw away what a dead process left of the item's run."""
        run = view.runs.get(item_id)
        if run is not None:

            def work(unit: UnitOfWork) -> bool:
                dropped = FleetStore(unit.connection).drop_run(item_id, run)
                unit.commit()
                return dropped

            if not await self._database.run(work):
                return  # It lives after all.
        for ticket in view.tickets:
            if ticket.item_id == item_id and ticket.is_fetched:
                await self._tickets.finish_job_by_id_async(ticket.id, Status.FAILED, delete_job=True)
        self._log.warning("run gave no sign of life", vod_id=item_id, holder=run.holder if run is not None else None)
        self._bell.ring()

    async def _view(self) -> View:
        return await self._database.run(lambda unit: FleetStore(unit.connection).view(), write=False)

    async def _listen(self) -> None:
        channels = [*get_channel_for_queues([stage.value for stage in self._own_slots])]

        def change(hears: bool) -> None:
            self._poll_s = _POLL_HEARING_S if hears else _POLL_S
            for worker in self._workers.values():
                worker.fetch_job_polling_interval = worker.abort_job_polling_interval = self._poll_s

        await listen(self._database, channels, self._connector.notify, change, self._clock, self._log)

    def _stop_workers(self) -> None:
        self._stopping.set()
        self._connector.stop_waiting()
        for worker in self._workers.values():
            worker.stop()  # type: ignore[no-untyped-call]  # procrastinate leaves it untyped

    async def _work(self, stage: Stage, count: int) -> None:
        """Keep a worker going for ``stage``."""
        while not self._stopping.is_set():
            worker = self._workers[stage] = Worker(
                self._app,
                queues=[stage.value],
                name=f"{stage}",
                concurrency=count,
                fetch_job_polling_interval=self._poll_s,
                abort_job_polling_interval=self._poll_s,
                shutdown_graceful_timeout=_WORKER_GRACE_S,
                delete_jobs="always",
                install_signal_handlers=False,
                update_heartbeat_interval=_WORKER_BEAT_S,
                stalled_worker_timeout=_WORKER_FORGOTTEN_S,
            )
            try:
                # It ends when it is told to stop. A cancellation, which anyio delivers again and again, would cut
                # through its own orderly end.
                with anyio.CancelScope(shield=True):
                    await worker.run()  # type: ignore[no-untyped-call]  # as above
            except Exception as error:  # noqa: BLE001 - the worker ends here, and another takes its place
                if not (self._stopping.is_set() and isinstance(error, DatabaseUnavailable)):
                    self._log.exception("a worker ended in a bug", stage=stage)
            if not self._stopping.is_set():
                await self._clock.sleep(_WORKER_RESTART_S)

    async def _perform(self, context: JobContext, /, **said: Any) -> None:
        """What a ticket does: start the run in our own task group, and wait for it.

        Procrastinate ends a task by canceling it when a person aborts it, and as well when its worker ends. Only the
        first is meant for the run.
        """
        item = await self._find(str(said["item_id"]))
        if item is None or item.generation != said["generation"]:
            return
        with bind_corr(said.get("corr")):
            running = self._jobs.begin(Stage(said["stage"]), item, probe=bool(said["probe"]))
        if running is None:
            return
        try:
            await running.ended.wait()
        except asyncio.CancelledError:
            if context.abort_reason() is AbortReason.USER_REQUEST:
                running.scope.cancel()
                await running.ended.wait()
            raise

    async def _find(self, item_id: str) -> QueueItem | None:
        try:
            return await self._database.run(lambda unit: QueueStore(unit.connection).find(item_id), write=False)
        except DatabaseUnavailable:
            return None  # The item stays due.


def _may_start_more(before: View, now: View) -> bool:
    """Whether the planner might find something that it could not find ``before``."""
    return now.slots != before.slots or len(now.running()) < len(before.running())


def _task_name(stage: Stage) -> str:
    return f"vodkeep:{stage}"


def _lock_name(item_id: str) -> str:
    return f"vod:{item_id}"
