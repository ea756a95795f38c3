"""Starting while the database is away: wait for it, say so, never die of it."""

from __future__ import annotations

import random

import anyio.to_thread
from structlog.stdlib import BoundLogger

from vodkeep.clock import Clock
from vodkeep.db import migrate
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.errors import DatabaseUnavailable

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0


async def wait_for_database(database: Database, clock: Clock, log: BoundLogger) -> None:
    """Return as soon as the database answers; one log line for every attempt that fails.

    A wrong password or a missing database is waited for as well: a person mends it while we stand by, and a service
    that dies and is started again in a circle helps nobody. The waits double from half a second to 30 s, each
    shortened by up to half at random, so that many processes do not knock together.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            await database.run(_touch, write=False)
        except DatabaseUnavailable as error:
            await _wait_once(database, clock, log, attempt, error)
        else:
            if attempt > 1:
                log.info("database is back", attempt=attempt, **_where(database))
            return


async def prepare_database(
    database: Database, clock: Clock, log: BoundLogger, line: migrate.SchemaLine = migrate.MAIN
) -> None:
    """Wait for the database and bring the tables of ``line`` up to date; one lost in between is waited for again.

    Raises ``SettingsError`` when only a person can help.
    """
    attempt = 0
    while True:
        attempt += 1
        await wait_for_database(database, clock, log)
        try:
            await anyio.to_thread.run_sync(migrate.upgrade, database, line)
        except DatabaseUnavailable as error:
            await _wait_once(database, clock, log, attempt, error)
        else:
            return


async def _wait_once(
    database: Database, clock: Clock, log: BoundLogger, attempt: int, error: DatabaseUnavailable
) -> None:
    longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(attempt - 1, 10))
    wait_s = longest * random.uniform(0.5, 1.0)
    log.warning(
        "waiting for the database",
        **_where(database),
        reason=str(error),
        remedy=error.remedy,
        code=error.code,
        attempt=attempt,
        retry_in_s=round(wait_s, 1),
    )
    await clock.sleep(wait_s)


def _touch(unit: UnitOfWork) -> None:
    unit.connection.exec_driver_sql("SELECT 1")


def _where(database: Database) -> dict[str, str | int | None]:
    address = database.address
    return {"host": address.host, "port": address.port, "database": address.name}
