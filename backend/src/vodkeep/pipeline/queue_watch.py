"""Notices what other processes did to the queue: each change writes an event, and events are numbered."""

from __future__ import annotations

from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.events import EventLog
from vodkeep.errors import DatabaseUnavailable
from vodkeep.pipeline.running import Bell

LOOK_S = 1.0
"""How often the database is asked for its newest event, which is one look at the end of an index."""


async def watch_queue(database: Database, clock: Clock, bell: Bell) -> None:
    """Ring ``bell`` soon after anybody changed the queue, until canceled.

    A statement of an operator writes no event; the next cycle finds it.
    """
    known: int | None = None
    while True:
        try:
            newest = await database.run(_newest, write=False)
        except DatabaseUnavailable:
            newest = None
        if newest is not None and newest != known:
            known = newest
            bell.ring()
        await clock.sleep(LOOK_S)


def _newest(unit: UnitOfWork) -> int:
    return EventLog(unit.connection).newest()
