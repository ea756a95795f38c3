"""Writing down how an attempt ended: may be hours of work, so it waits for the database however long that is away."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio

from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.errors import DatabaseUnavailable
from vodkeep.pipeline.model import DownloadState
from vodkeep.pipeline.store import Claim, FenceLost, QueueStore
from vodkeep.telemetry.log import Logger

T = TypeVar("T")

_SAVE_RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0)


async def save_ending(
    database: Database,
    clock: Clock,
    log: Logger,
    claim: Claim,
    work: Callable[[UnitOfWork], T],
    leaves: Callable[[T], DownloadState],
) -> T:
    """Commit how the attempt ended, however long the database is away: it may be hours of work.

    Each try runs to its end even in a shutdown; the waits between them are where a cancellation gets in. A
    connection may break after the commit and before its answer: then the next try finds the claim ended, and by
    ``leaves``, the state that the result of ``work`` leaves the item in, that it was this run that ended it.
    """
    sent: list[T] = []
    tries = 0

    def attempt(unit: UnitOfWork) -> T:
        result = work(unit)
        sent[:] = [result]
        unit.commit()
        return result

    def was_saved(unit: UnitOfWork) -> bool:
        return QueueStore(unit.connection).ended(claim, leaves(sent[0]))

    while True:
        try:
            with anyio.CancelScope(shield=True):
                try:
                    return await database.run(attempt)
                except FenceLost:
                    if not sent or not await database.run(was_saved, write=False):
                        raise
                    return sent[0]
        except DatabaseUnavailable as error:
            if tries == 0:
                log.warning("the result is not saved yet", vod_id=claim.item_id, error=str(error))
            wait_s = _SAVE_RETRY_S[min(tries, len(_SAVE_RETRY_S) - 1)]
        tries += 1
        await clock.sleep(wait_s)


def leaf(error: Exception) -> Exception:
    """The one error inside an exception group of one; task groups wrap what their tasks raise."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
