"""The pipeline at work: discover, plan, start, again and again.

Each channel has a *watch*, which discovers it every ``interval``. The *cycle* notes every ``interval`` that the service
lives, and clears away. The *planner* sleeps until the bell rings (something new, a free slot, a request) or the next
wait is over, then starts what is due (:mod:`vodkeep.pipeline.planner`). The *engine* runs the jobs. A hanging discovery
therefore never holds up a download, and a backoff of two seconds is two seconds.

Of several processes on one database, one at a time does each of these: the one that has its lease.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import anyio
import anyio.to_thread

from vodkeep.capture.space import RESERVE_BYTES
from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.leases import Lease, LeaseStore
from vodkeep.errors import DatabaseUnavailable, VodkeepError
from vodkeep.keep.forecast import DiskSample
from vodkeep.pipeline.breaker import Breaker
from vodkeep.pipeline.circuits import Circuits
from vodkeep.pipeline.due import UploadLimits
from vodkeep.pipeline.engine import ServedEngine
from vodkeep.pipeline.health_store import HealthStore
from vodkeep.pipeline.metrics import PipelineMetrics
from vodkeep.pipeline.model import Job
from vodkeep.pipeline.planner import FreeSpace, Plan, Planner
from vodkeep.pipeline.running import Bell
from vodkeep.pipeline.shares import ChannelShares
from vodkeep.pipeline.store import QueueStore
from vodkeep.telemetry.correlation import bind_corr
from vodkeep.telemetry.log import Logger

Discover = Callable[[str], Awaitable[int]]
"""Looks for new VODs of a channel (its login), stores them, and tells how many there were."""

# Waits that end one after the other, thousands of them after an outage, are looked at together.
_SHORTEST_WAIT_S = 0.25

_DISCOVERIES_AT_ONCE = 4

# What nobody holds is kept this long, so that its token goes on growing.
_FORGET_LEASES = timedelta(days=1)

# Waits between tries while the database is away.
_DATABASE_WAITS_S = (1.0, 2.0, 5.0, 10.0, 30.0)

# After an error that nobody foresaw; what repeats at once would only fill the log.
_BUG_WAIT_S = 30.0


PLANNER = "planner"
PERIODIC = "periodic"
CHANNEL_PREFIX = "channel:"


class Owner(Protocol):
    """Says what this process may do, when others could do it too."""

    @property
    def holder(self) -> str:
        """The name of this process."""
        ...

    async def keep(
        self,
        name: str,
        work: Callable[[], Awaitable[object]],
        *,
        wanted: Callable[[Collection[Lease]], bool] = ...,
    ) -> None:
        """Run ``work`` whenever, and only while, ``name`` is this process's."""
        ...

    def holds(self, name: str) -> bool:
        """Whether ``name`` is this process's at this moment."""
        ...

    async def confirm(self, name: str) -> None:
        """Return if ``name`` is this process's; else end the work it guards, which this is called from."""
        ...


class WorkFolders(Protocol):
    """The folders that captures work in."""

    def leftovers(self) -> list[str]:
        """The ids of the items that have one. Blocking."""
        ...

    async def tidy(self, item_id: str) -> None:
        """Remove the folder of an item whose row says that it is in the library, unless it is in use."""
        ...


class PipelineService:
    """Keeps the channels' broadcasts; one per process."""

    def __init__(
        self,
        *,
        database: Database,
        engine: ServedEngine,
        bell: Bell,
        circuits: Circuits,
        clock: Clock,
        log: Logger,
        metrics: PipelineMetrics,
        channels: tuple[str, ...],
        discover: Discover,
        interval: timedelta,
        owner: Owner,
        folders: WorkFolders,
        watches: bool = True,
        publishes: bool = False,
        upload_limits: UploadLimits | None = None,
        free_space: FreeSpace | None = None,
        reserve_bytes: int = RESERVE_BYTES,
        archive_problem: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._database = database
        self._engine = engine
        self._bell = bell
        self._circuits = circuits
        self._clock = clock
        self._log = log
        self._metrics = metrics
        self._channels = channels
        self._discover = discover
        self._interval_s = interval.total_seconds()
        self._owner = owner
        self._folders = folders
        self._watches = watches
        self._discoveries = anyio.CapacityLimiter(_DISCOVERIES_AT_ONCE)
        self._shares = ChannelShares(channels, owner.holder)
        self._stopping = anyio.Event()
        self._database_away = False
        self._measured: set[str] = set()
        self._free_space = free_space
        self._planner = Planner(
            database=database,
            engine=engine,
            circuits=circuits,
            clock=clock,
            log=log,
            channels=channels,
            publishes=publishes,
            upload_limits=upload_limits,
            free_space=free_space,
            reserve_bytes=reserve_bytes,
            archive_problem=archive_problem,
            confirm=partial(owner.confirm, PLANNER),
        )

    async def run(self) -> None:
        """Work until canceled or :meth:`stop`; returns once every job here has ended and handed its item back."""
        async with self._engine, anyio.create_task_group() as tasks:
            tasks.start_soon(self._every_interval, self._show_figures)
            if self._watches:
                tasks.start_soon(self._owner.keep, PLANNER, self._plan_forever)
                tasks.start_soon(self._owner.keep, PERIODIC, self._run_cycles)
                for channel in self._channels:
                    tasks.start_soon(self._watch, channel)
            await self._stopping.wait()
            self._log.info("stopping")
            tasks.cancel_scope.cancel()

    def stop(self) -> None:
        """End :meth:`run`: take no more work, stop the jobs, keep what they fetched."""
        self._stopping.set()

    def wake(self) -> None:
        """Look at the queue now: something in it has changed."""
        self._bell.ring()

    async def jobs(self) -> list[Job]:
        """The jobs at work."""
        return await self._engine.running()

    async def plan(self) -> Plan:
        """Look at the queue and start what is due; raises ``DatabaseUnavailable``."""
        plan = await self._planner.plan()
        if plan.again:
            self._bell.ring()
        return plan

    async def _plan_forever(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._engine.tend)
            tasks.start_soon(self._run_planner)

    async def _run_planner(self) -> None:
        tries = 0
        while True:
            begun = self._clock.monotonic()
            try:
                plan = await self.plan()
            except DatabaseUnavailable as error:
                self._note_database(error)
                wait_s: float | None = _DATABASE_WAITS_S[min(tries, len(_DATABASE_WAITS_S) - 1)]
                tries += 1
            except Exception:  # noqa: BLE001 - one look at the queue ends here; the next may not meet the bug
                self._log.exception("planning ended in a bug")
                wait_s = _BUG_WAIT_S
            else:
                self._note_database(None)
                tries = 0
                wait_s = None if plan.next_at is None else self._seconds_until(plan.next_at, begun)
            if wait_s is None:
                await self._bell.wait()
            else:
                await self._bell.wait_up_to(wait_s, self._clock)

    def _seconds_until(self, moment: datetime, begun: float) -> float:
        shortest = begun + _SHORTEST_WAIT_S - self._clock.monotonic()
        return max(shortest, (moment - self._clock.now()).total_seconds())

    async def _watch(self, channel: str) -> None:
        """Discover the channel every ``interval``, as long as it is ours to watch."""

        discover = partial(self._discover_channel, channel)
        await self._owner.keep(
            f"{CHANNEL_PREFIX}{channel}",
            partial(self._every_interval, discover),
            wanted=self._shares.wants(channel),
        )

    async def _discover_channel(self, channel: str) -> None:
        async with self._discoveries:
            with bind_corr():
                try:
                    if await self._discover(channel):
                        self._bell.ring()
                except DatabaseUnavailable as error:
                    self._note_database(error)
                except VodkeepError as error:
                    self._log.warning(
                        "discovery failed", channel=channel, code=error.code, error=str(error), remedy=error.remedy
                    )
                except Exception:  # noqa: BLE001 - the task ends here
                    self._log.exception("discovery ended in a bug", channel=channel)
        self._metrics.cycle(channel)

    async def _run_cycles(self) -> None:
        await self._every_interval(self._cycle)

    async def _cycle(self) -> None:
        try:
            await self._note_cycle()
            await self._sweep()
        except DatabaseUnavailable as error:
            self._note_database(error)
        self._bell.ring()

    async def _note_cycle(self) -> None:
        now = self._clock.now()
        free_bytes = await self._look_at_disk()

        def work(unit: UnitOfWork) -> dict[str, int]:
            health = HealthStore(unit.connection)
            health.note_cycle(now)
            if free_bytes is not None:
                health.note_disk(DiskSample(now, free_bytes))
            LeaseStore(unit.connection).forget(_FORGET_LEASES)
            depths = QueueStore(unit.connection).depths()
            unit.commit()
            return depths

        depths = await self._database.run(work)
        self._show_depths(depths)
        self._log.debug("cycle", queue_depth=sum(depths.values()))

    async def _look_at_disk(self) -> int | None:
        """What is free on the disk of the archive; None when that cannot be told."""
        if self._free_space is None:
            return None
        try:
            return await anyio.to_thread.run_sync(self._free_space)
        except OSError as error:
            self._log.debug("free space is not known", error=str(error))
            return None

    async def _sweep(self) -> None:
        """Clear away the work folders of items that were finished just before their process was killed."""
        leftovers = await anyio.to_thread.run_sync(self._folders.leftovers)
        if not leftovers:
            return
        done = await self._database.run(lambda unit: QueueStore(unit.connection).in_library(leftovers), write=False)
        for item_id in sorted(done):
            await self._folders.tidy(item_id)
            self._log.info("leftovers removed", vod_id=item_id)

    async def _show_figures(self) -> None:
        """Keep the gauges right in a process that leaves the planning to another."""
        if self._owner.holds(PLANNER) and self._owner.holds(PERIODIC):
            return
        mark = self._circuits.mark()
        with suppress(DatabaseUnavailable):
            depths, breakers = await self._database.run(_read_figures, write=False)
            self._show_depths(depths)
            self._circuits.observe(breakers, self._channels, mark=mark, tell=False)

    async def _every_interval(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work`` now and then each ``interval``, from one beginning to the next."""
        while True:
            started = self._clock.monotonic()
            try:
                await work()
            except VodkeepError as error:
                self._log.warning("a periodic job failed", code=error.code, error=str(error), remedy=error.remedy)
            except Exception:  # noqa: BLE001 - one turn ends here
                self._log.exception("a periodic job ended in a bug")
            await self._clock.sleep(max(0.0, self._interval_s - (self._clock.monotonic() - started)))

    def _show_depths(self, depths: Mapping[str, int]) -> None:
        """Set the gauge of every channel that has or had something, so that none keeps an old figure."""
        self._measured |= {*self._channels, *depths}
        for channel in self._measured:
            self._metrics.queue_depth(channel, depths.get(channel, 0))

    def _note_database(self, error: DatabaseUnavailable | None) -> None:
        """Say once that the database is away and once that it is back."""
        away = error is not None
        if away != self._database_away:
            if error is not None:
                self._log.error("the database is away", error=str(error), remedy=error.remedy)
            else:
                self._log.info("the database is back")
        self._database_away = away


def _read_figures(unit: UnitOfWork) -> tuple[dict[str, int], dict[str, Breaker]]:
    return QueueStore(unit.connection).depths(), HealthStore(unit.connection).load_breakers()
