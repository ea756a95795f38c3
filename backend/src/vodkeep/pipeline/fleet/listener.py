"""Hears at once what is otherwise found at the next look: a ticket was handed over, or is to be aborted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

import psycopg
from psycopg.sql import SQL, Identifier

from vodkeep.clock import Clock
from vodkeep.db import postgresql
from vodkeep.db.engine import Database
from vodkeep.telemetry.log import Logger

_RETRY_S = 5.0

# A connection that says nothing for this long is asked whether it still works.
_SILENCE_S = 30.0


async def listen(
    database: Database,
    channels: Collection[str],
    hear: Callable[[str, str], Awaitable[None]],
    on_change: Callable[[bool], None],
    clock: Clock,
    log: Logger,
) -> None:
    """Call ``hear(channel, payload)`` with each notification, on a connection of its own, until canceled.

    ``on_change`` is told when there is something to hear from now on, and when there is no more.

    Behind a pooler in transaction mode there is nothing to hear, because a listener needs a session; then it returns.
    Nothing rests on it: everybody also looks now and then, more often while nothing is to be heard.
    """
    while True:
        try:
            connection = await postgresql.connect_to_listen(database.url)
            try:
                if not await _is_direct(connection):
                    log.info("notifications do not come through a connection pooler; tickets are looked for instead")
                    return
                for channel in channels:
                    await connection.execute(SQL("LISTEN {}").format(Identifier(channel)))
                on_change(True)
                while True:
                    async for notification in connection.notifies(timeout=_SILENCE_S):
                        await hear(notification.channel, notification.payload)
                    await connection.execute("SELECT 1")
            finally:
                on_change(False)
                await connection.close()
        except (psycopg.Error, OSError) as error:
            log.debug("notifications are interrupted", error=str(error))
        await clock.sleep(_RETRY_S)


async def _is_direct(connection: psycopg.AsyncConnection[object]) -> bool:
    """Whether the server at the other end is the one that answers; a pooler makes up the process id of its greeting."""
    cursor = await connection.execute("SELECT pg_backend_pid()")
    row = await cursor.fetchone()
    return row == (connection.info.backend_pid,)
