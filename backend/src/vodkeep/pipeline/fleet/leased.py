"""Leases of runs: they tell the other processes who runs an item, and that it lives."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio

from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.leases import LeaseStore
from vodkeep.errors import DatabaseUnavailable
from vodkeep.pipeline.fleet.store import RUN_PREFIX, describe
from vodkeep.pipeline.model import Job
from vodkeep.telemetry.log import Logger

LIFETIME = timedelta(seconds=6)
"""How long a run counts as alive after it last said so."""

_RENEWAL_S = 2.0

# Letting go is one small write; a database that is away must not hold a shutdown up. The lease runs out by itself.
_RELEASE_LIMIT_S = 5.0


class RunLeases:
    """The leases of this process's runs; a permit for ``RunningJobs``."""

    def __init__(self, database: Database, holder: str, *, clock: Clock, log: Logger) -> None:
        self._database = database
        self._holder = holder
        self._clock = clock
        self._log = log

    @asynccontextmanager
    async def hold(self, job: Job) -> AsyncIterator[bool]:
        """Hold the lease of the job's item for the time of the block.

        ``False`` when another process has it or the database is away. The block is canceled when the lease is lost: its
        process was frozen for longer than the lease lasts, and another has taken the item.
        """
        if not await self._take(job):
            yield False
            return
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep, job.twitch_vod_id, tasks.cancel_scope)
                yield True
                tasks.cancel_scope.cancel()
        finally:
            with anyio.move_on_after(_RELEASE_LIMIT_S, shield=True):
                await self._release(job.twitch_vod_id)

    async def _take(self, job: Job) -> bool:
        detail = json.dumps(describe(job))

        def work(unit: UnitOfWork) -> bool:
            taken = LeaseStore(unit.connection).take(RUN_PREFIX + job.twitch_vod_id, self._holder, LIFETIME, detail)
            unit.commit()
            return taken is not None

        try:
            taken = await self._database.run(work)
        except DatabaseUnavailable as error:
            self._log.warning("not started", vod_id=job.twitch_vod_id, error=str(error))
            return False
        if not taken:
            self._log.info("another process runs the item", vod_id=job.twitch_vod_id)
        return taken

    async def _keep(self, item_id: str, scope: anyio.CancelScope) -> None:
        name = RUN_PREFIX + item_id

        def work(unit: UnitOfWork) -> bool:
            held = LeaseStore(unit.connection).renew(self._holder, LIFETIME, [name])
            unit.commit()
            return name in held

        while True:
            await self._clock.sleep(_RENEWAL_S)
            try:
                held = await self._database.run(work)
            except DatabaseUnavailable:
                # Nobody else can take it either, and the runner says that its progress is not saved.
                continue
            if not held:
                self._log.warning("another process took the item", vod_id=item_id)
                scope.cancel()
                return

    async def _release(self, item_id: str) -> None:
        def work(unit: UnitOfWork) -> None:
            LeaseStore(unit.connection).release(self._holder, [RUN_PREFIX + item_id])
            unit.commit()

        try:
            await self._database.run(work)
        except DatabaseUnavailable:
            self._log.debug("the run's lease ends by itself", vod_id=item_id)
