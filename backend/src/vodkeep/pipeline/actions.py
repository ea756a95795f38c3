"""What people ask for, done: the request in one transaction, then whatever has to hear of it.

Any process may do this, the one that runs the item, another beside it, or a command while nothing runs at all. The row
decides; what is told to an engine and a planner here only makes it quicker.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import anyio.to_thread

from vodkeep.capture.workfolder import WorkFolder
from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.events import EventLog
from vodkeep.pipeline.action_store import ActionStore
from vodkeep.pipeline.health_store import HealthStore
from vodkeep.pipeline.model import Asked, QueueItem
from vodkeep.telemetry.log import Logger

# A run ends within two seconds of its cancel; a machine under load may take a little longer.
_PATIENCE_S = 5.0
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Canceled:
    """An item that was canceled."""

    item: QueueItem
    ended: bool  # nothing of it runs any more, child processes included; else its run is about to end


class Actions:
    """One for each process.

    ``stop`` ends what runs of an item, wherever that is, and says whether it has ended; ``wake`` makes the planner
    look at the queue. Every method raises `DatabaseUnavailable`, and those about an item `UnknownItem` and
    `RequestRefused`.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        log: Logger,
        *,
        stop: Callable[[str], Awaitable[bool]],
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._log = log
        self._stop = stop
        self._wake = wake

    async def cancel(self, item_id: str, asked: Asked) -> Canceled:
        """Stop the item for good; see `ActionStore.cancel`."""
        item = await self._change("cancel", item_id, asked, lambda store, now: store.cancel(item_id, now, asked))
        return Canceled(item, await self._stop(item_id))

    async def retry(self, item_id: str, asked: Asked) -> QueueItem:
        """Make what is not done due at once; see `ActionStore.retry`."""
        return await self._change("retry", item_id, asked, lambda store, now: store.retry(item_id, now, asked))

    async def reprocess(self, item_id: str, asked: Asked, *, fresh: bool = False, republish: bool = False) -> QueueItem:
        """Make any item due at once; see `ActionStore.reprocess`."""
        return await self._change(
            "reprocess",
            item_id,
            asked,
            lambda store, now: store.reprocess(item_id, now, asked, fresh=fresh, republish=republish),
        )

    async def adjust(
        self,
        item_id: str,
        asked: Asked,
        *,
        priority: int | None = None,
        skip_upload: bool | None = None,
        description: str | None = None,
        protected: bool | None = None,
    ) -> QueueItem:
        """Set what is given, all of it or nothing; see the ``set_`` methods of `ActionStore`."""

        def change(store: ActionStore, now: datetime) -> QueueItem:
            item = store.find(item_id)
            if priority is not None:
                item = store.set_priority(item_id, priority, now, asked)
            if skip_upload is not None:
                item = store.set_skip_upload(item_id, skip_upload, now, asked)
            if description is not None:
                item = store.set_description(item_id, description, now, asked)
            if protected is not None:
                item = store.set_protected(item_id, protected, now, asked)
            return item

        return await self._change("adjust", item_id, asked, change)

    async def reset_circuit(self, asked: Asked, channel: str | None = None) -> list[str]:
        """Close the breaker of ``channel``, or all; returns the channels whose breaker was not closed before."""
        now = self._clock.now()

        def work(unit: UnitOfWork) -> list[str]:
            closed = HealthStore(unit.connection).reset_breakers(channel)
            for login in closed:
                EventLog(unit.connection).append(
                    None,
                    at=now,
                    kind="circuit",
                    code="reset",
                    sentence=f"The circuit breaker of {login} was closed by request.",
                    corr=asked.corr,
                    asked_by=asked.by,
                )
            unit.commit()
            return closed

        closed = await self._database.run(work)
        self._log.info("asked for", action="reset circuit", by=asked.by, channel=channel)
        self._wake()
        return closed

    async def _change(
        self, action: str, item_id: str, asked: Asked, change: Callable[[ActionStore, datetime], QueueItem]
    ) -> QueueItem:
        now = self._clock.now()

        def work(unit: UnitOfWork) -> QueueItem:
            item = change(ActionStore(unit.connection), now)
            unit.commit()
            return item

        item = await self._database.run(work)
        self._log.info("asked for", action=action, by=asked.by, vod_id=item_id)
        self._wake()
        return item


async def wait_until_free(folder: WorkFolder, clock: Clock) -> bool:
    """Wait until nobody works in the item's folder, at most `_PATIENCE_S`; whether that is so.

    For a process that has no engine to ask: the lock there is let go when a capture has ended with all its children.
    """
    deadline = clock.monotonic() + _PATIENCE_S
    while await anyio.to_thread.run_sync(folder.is_held):
        if clock.monotonic() >= deadline:
            return False
        await clock.sleep(_LOOK_S)
    return True
