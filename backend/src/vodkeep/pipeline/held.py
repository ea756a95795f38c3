"""An item while a run holds it: whether it still does, handing it back, and saying who took it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio
import anyio.from_thread

from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.errors import DatabaseUnavailable
from vodkeep.pipeline.model import DownloadState
from vodkeep.pipeline.store import Claim, FenceLost, Loss, QueueStore
from vodkeep.telemetry.log import Logger

T = TypeVar("T")

HEARTBEAT_S = 1.0
"""How often a run looks whether the item is still its own."""

_CONFIRM_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class HeldItem:
    """What a run and its stage do with their claim; ``word`` is what the log calls the work."""

    claim: Claim
    database: Database
    clock: Clock
    log: Logger
    word: str  # "chat", "upload"

    async def watch(self, scope: anyio.CancelScope) -> None:
        """Cancel ``scope`` as soon as the item is somebody else's."""
        while True:
            await self.clock.sleep(HEARTBEAT_S)
            try:
                held = await self.database.run(self._is_held, write=False)
            except DatabaseUnavailable:
                continue  # What is written is asked for again at the end.
            if not held:
                scope.cancel()
                return

    async def confirm(self) -> None:
        """Return if the claim is still good, else raise `FenceLost`; waits while the database is away."""
        if not await self._insist(self._is_held, write=False):
            raise FenceLost(f"{self.claim.item_id} was taken")

    def confirm_in_thread(self) -> None:
        """The same for a worker thread of the event loop's, so that a cancellation ends the waiting."""
        anyio.from_thread.run(self.confirm)

    async def save(self, work: Callable[[UnitOfWork], T]) -> T:
        """Commit what ``work`` writes if the claim is still good, else raise `FenceLost`; waits for the database.

        The row of the item is locked meanwhile, so that nobody takes it in between. ``work`` may run again after it
        was committed, when the answer was lost.
        """

        def fenced(unit: UnitOfWork) -> T:
            QueueStore(unit.connection).hold(self.claim)
            result = work(unit)
            unit.commit()
            return result

        return await self._insist(fenced)

    async def hand_back(self) -> None:
        """Make the item due again at a shutdown, uncounted; a database that is away leaves it for the next start."""
        now = self.clock.now()

        def work(unit: UnitOfWork) -> None:
            QueueStore(unit.connection).release(self.claim, now)
            unit.commit()

        try:
            await self.database.run(work)
        except FenceLost:
            await self.tell_lost()
        except DatabaseUnavailable as error:
            self.log.warning("the item is not handed back", vod_id=self.claim.item_id, error=str(error))
        else:
            self.log.info(f"{self.word} interrupted", vod_id=self.claim.item_id)

    async def tell_lost(self) -> None:
        """The item is somebody else's to write by now: say whose."""
        now = self.clock.now()

        def work(unit: UnitOfWork) -> Loss:
            loss = QueueStore(unit.connection).note_loss(self.claim, now)
            unit.commit()
            return loss

        try:
            loss = await self.database.run(work)
        except DatabaseUnavailable:
            loss = Loss(None, None)
        fields = {"vod_id": self.claim.item_id, "channel": self.claim.item.channel, "by": loss.asked_by}
        if loss.state is DownloadState.CANCELED:
            self.log.info(f"{self.word} canceled", **fields)
        else:
            self.log.warning("claim lost", generation=self.claim.item.generation, **fields)

    def _is_held(self, unit: UnitOfWork) -> bool:
        return QueueStore(unit.connection).holds(self.claim)

    async def _insist(self, work: Callable[[UnitOfWork], T], *, write: bool = True) -> T:
        is_told = False
        while True:
            try:
                return await self.database.run(work, write=write)
            except DatabaseUnavailable as error:
                if not is_told:
                    self.log.warning("the run waits for the database", vod_id=self.claim.item_id, error=str(error))
                is_told = True
                await self.clock.sleep(_CONFIRM_RETRY_S)
