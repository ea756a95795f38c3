"""The planner: one look at the queue, and what is due is started.

Reads only the heads of the queues, the breakers, and what is at work; decides nothing itself, that is
:func:`~vodkeep.pipeline.due.plan_due`. Whose turn it is, a new broadcast's or the back-catalogue's, is remembered here
and lost at a restart, after which a new broadcast begins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import anyio.to_thread

from vodkeep.capture.space import RESERVE_BYTES
from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.pipeline.breaker import Gate, gate
from vodkeep.pipeline.circuits import Circuits
from vodkeep.pipeline.due import (
    PUBLICATION_WINDOW,
    TWITCH_STAGES,
    DiskShortage,
    Situation,
    UploadLimits,
    disk_shortage,
    next_upload_at,
    plan_due,
)
from vodkeep.pipeline.engine import Engine
from vodkeep.pipeline.health_store import HealthStore
from vodkeep.pipeline.identity import MOUNT_IT
from vodkeep.pipeline.model import Job, QueueItem, Stage
from vodkeep.pipeline.store import FenceLost, QueueStore
from vodkeep.telemetry.log import Logger

# Rows of which nothing is to be published any more are finished so many at a time.
_SETTLED_AT_ONCE = 20

_RIPENED_AT_ONCE = 1000

# When a disk that is away is looked for again.
_AWAY_WAIT = timedelta(seconds=5)

FreeSpace = Callable[[], int]
"""The bytes that are free on the disk of the archive. Blocking; raises ``OSError``."""


async def _always() -> None:
    """Nobody else plans."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a look at the queue brought."""

    started: tuple[str, ...]  # ids
    next_at: datetime | None  # when something becomes due by itself, UTC
    again: bool = False  # not all there is was seen


@dataclass(frozen=True, slots=True)
class _Seen:
    situation: Situation
    queue: list[QueueItem]
    unpublishable: list[QueueItem]
    shortage: DiskShortage | None  # as it was told last
    archive_away: bool  # likewise
    next_at: datetime | None


class Planner:
    """Starts what is due; one at a time looks at a queue."""

    def __init__(
        self,
        *,
        database: Database,
        engine: Engine,
        circuits: Circuits,
        clock: Clock,
        log: Logger,
        channels: Collection[str],
        publishes: bool = False,
        upload_limits: UploadLimits | None = None,
        free_space: FreeSpace | None = None,
        reserve_bytes: int = RESERVE_BYTES,
        archive_problem: Callable[[], str | None] = lambda: None,
        confirm: Callable[[], Awaitable[None]] = _always,
    ) -> None:
        """``confirm`` is awaited before each start and ends the planning when another process has taken it over.

        ``archive_problem`` says why nothing may start, because DATA_DIR is not the archive; it may block.
        """
        self._database = database
        self._engine = engine
        self._circuits = circuits
        self._clock = clock
        self._log = log
        self._channels = channels
        self._publishes = publishes
        self._upload_limits = upload_limits
        self._free_space = free_space
        self._reserve_bytes = reserve_bytes
        self._archive_problem = archive_problem
        self._confirm = confirm
        self._old_went_last: dict[Stage, bool] = {}

    async def plan(self) -> Plan:
        """Look at the queue and start what is due; raises ``DatabaseUnavailable``."""
        now = self._clock.now()
        await self._ripen(now)
        running, slots = await self._engine.running(), await self._engine.slots()
        mark = self._circuits.mark()
        seen = await self._database.run(lambda unit: self._look(unit, now, running, slots), write=False)
        self._circuits.observe(seen.situation.breakers, self._channels, mark=mark)
        for item in seen.unpublishable:
            await self._confirm()
            await self._settle(item, now)
        if await self._archive_is_away(seen):
            return Plan((), now + _AWAY_WAIT)
        situation = await self._look_at_disk(seen)
        started = []
        for one in plan_due(seen.queue, situation):
            await self._confirm()
            if await self._engine.start(one.stage, one.item, probe=one.probe):
                self._old_went_last[one.stage] = one.item.back_catalogue
                started.append(one)
        # The rows of a channel that may only start one probe can have hidden those of others.
        again = len(seen.unpublishable) == _SETTLED_AT_ONCE or any(one.probe for one in started)
        return Plan(tuple(one.item.twitch_vod_id for one in started), seen.next_at, again)

    async def _ripen(self, now: datetime) -> None:
        """Let rows count as due whose wait is over."""
        first = await self._database.run(lambda unit: QueueStore(unit.connection).next_not_before(), write=False)

        def work(unit: UnitOfWork) -> int:
            ripened = QueueStore(unit.connection).ripen(now, limit=_RIPENED_AT_ONCE)
            unit.commit()
            return ripened

        while first is not None and first <= now:
            if await self._database.run(work) < _RIPENED_AT_ONCE:
                return

    def _look(self, unit: UnitOfWork, now: datetime, running: list[Job], slots: Mapping[Stage, int]) -> _Seen:
        store, health = QueueStore(unit.connection), HealthStore(unit.connection)
        breakers = health.load_breakers()
        shut = {channel for channel, breaker in breakers.items() if gate(breaker, now) is Gate.SHUT}
        shut |= {job.channel for job in running if job.probe}
        ids = [job.twitch_vod_id for job in running]
        free = {stage: count - sum(job.stage is stage for job in running) for stage, count in slots.items()}
        queue = [
            item
            for stage, count in free.items()
            if count > 0
            for item in store.load_queue(
                now, stage=stage, limit=count, running=ids, shut_channels=shut if stage in TWITCH_STAGES else ()
            )
        ]
        uploads = free.get(Stage.PUBLISH, 0) > 0 and self._upload_limits is not None
        published = store.load_published(now - PUBLICATION_WINDOW) if uploads else []
        situation = Situation(
            now=now,
            slots=slots,
            running=running,
            at_work=store.load_items(ids),
            breakers=breakers,
            lifetimes=store.load_lifetimes({item.channel for item in queue}),
            old_went_last=dict(self._old_went_last),
            published=published,
            upload_limits=self._upload_limits,
            reserve_bytes=self._reserve_bytes,
            byte_rates=store.load_byte_rates({item.channel for item in queue}) if self._free_space else {},
        )
        return _Seen(
            situation,
            queue,
            store.load_unpublishable(limit=_SETTLED_AT_ONCE, publishes=self._publishes),
            health.load_disk_shortage(),
            health.load_archive_away(),
            self._next_at(store, situation) if any(count > 0 for count in free.values()) else None,
        )

    def _next_at(self, store: QueueStore, situation: Situation) -> datetime | None:
        """When something becomes due by itself, as far as slots are free for it."""
        now = situation.now
        times = [breaker.open_until for breaker in situation.breakers.values()]
        times.append(store.next_not_before())
        if self._upload_limits is not None:
            times.append(next_upload_at(situation.published, self._upload_limits, now))
        return min((time for time in times if time is not None and time > now), default=None)

    async def _archive_is_away(self, seen: _Seen) -> bool:
        """Whether nothing may start, because it would be written elsewhere; that is told once, and so is its end."""
        problem = await anyio.to_thread.run_sync(self._archive_problem)
        if (problem is not None) == seen.archive_away:
            return seen.archive_away
        at = self._clock.now()

        def work(unit: UnitOfWork) -> None:
            HealthStore(unit.connection).save_archive_away(problem, at)
            unit.commit()

        await self._database.run(work)
        if problem is None:
            self._log.info("the archive is back")
        else:
            self._log.error("the archive is away", error=problem, remedy=MOUNT_IT)
        return problem is not None

    async def _look_at_disk(self, seen: _Seen) -> Situation:
        """The situation with what is free on the disk, if a capture is to start; tells of a shortage, once."""
        situation = seen.situation
        capturing = sum(job.stage is Stage.CAPTURE for job in situation.running)
        if self._free_space is None or capturing >= situation.slots.get(Stage.CAPTURE, 0):
            return situation
        wanted = any(one.stage is Stage.CAPTURE for one in plan_due(seen.queue, situation))
        if wanted:
            try:
                free_bytes = await anyio.to_thread.run_sync(self._free_space)
            except OSError as error:
                # The capture meets the same and tells of it in its own words.
                self._log.debug("free space is not known", error=str(error))
                return situation
            situation = replace(situation, free_bytes=free_bytes)
        await self._tell_shortage(seen.shortage, disk_shortage(seen.queue, situation))
        return situation

    async def _tell_shortage(self, before: DiskShortage | None, now: DiskShortage | None) -> None:
        if before is None and now is None:
            return
        at = self._clock.now()
        if before is not None and now is not None:
            now = replace(now, since=before.since)
            if (now.vod_id, now.needed_bytes) == (before.vod_id, before.needed_bytes):
                return
        elif now is not None:
            now = replace(now, since=at)

        def work(unit: UnitOfWork) -> None:
            HealthStore(unit.connection).save_disk_shortage(now, at)
            unit.commit()

        await self._database.run(work)
        if now is None:
            self._log.info("captures go on")
        elif before is None:
            self._log.warning(
                "captures wait for disk space",
                free_bytes=now.free_bytes,
                needed_bytes=now.needed_bytes,
                vod_id=now.vod_id,
                remedy="Free some space on the disk of DATA_DIR; nothing is deleted to make room.",
            )

    async def _settle(self, item: QueueItem, now: datetime) -> None:
        """Finish an item of which nothing is to be published."""

        def work(unit: UnitOfWork) -> None:
            QueueStore(unit.connection).settle_captured(item, now)
            unit.commit()

        try:
            await self._database.run(work)
        except FenceLost:
            self._log.debug("changed meanwhile", vod_id=item.twitch_vod_id)
