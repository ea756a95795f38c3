"""How Procrastinate reaches PostgreSQL: through our database, with its pool, its limits and its patience.

So a process opens no second pool, every statement is bounded, and pgbouncer in transaction mode is no special case:
each query is one transaction of its own without prepared statements.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any, LiteralString, TypeVar

import anyio
import psycopg
from procrastinate import exceptions, sql
from procrastinate.connector import BaseAsyncConnector, Notify, Pool
from procrastinate.manager import QUEUEING_LOCK_CONSTRAINT
from psycopg.types.json import Jsonb
from sqlalchemy import CursorResult
from sqlalchemy.exc import DBAPIError

from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.errors import DatabaseUnavailable
from vodkeep.telemetry.log import Logger

T = TypeVar("T")

# Waits between tries while the database is away, in seconds.
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 2.0


class DatabaseConnector(BaseAsyncConnector):
    """Runs Procrastinate's queries as units of work; raises ``DatabaseUnavailable`` like everything of ours."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open_async(self, pool: Pool | None = None) -> None:
        """Nothing to open: the database does that at its first use."""

    async def close_async(self) -> None:
        """Nothing to close."""

    async def execute_query_async(self, query: LiteralString, **arguments: Any) -> None:
        """Run a query whose answer does not matter."""
        await self._run(query, arguments, lambda _result: None)

    async def execute_query_one_async(self, query: LiteralString, **arguments: Any) -> dict[str, Any]:
        """Run a query and return its first row; raises ``NoResult`` without one."""
        row = await self._run(query, arguments, lambda result: result.mappings().first())
        if row is None:
            raise exceptions.NoResult
        return dict(row)

    async def execute_query_all_async(self, query: LiteralString, **arguments: Any) -> list[dict[str, Any]]:
        """Run a query and return its rows."""
        return await self._run(query, arguments, lambda result: [dict(row) for row in result.mappings()])

    async def _run(self, query: str, arguments: Mapping[str, Any], read: Callable[[CursorResult[Any]], T]) -> T:
        adapted = {name: _adapted(value) for name, value in arguments.items()}

        def work(unit: UnitOfWork) -> T:
            answer = read(unit.connection.exec_driver_sql(query, adapted))
            unit.commit()
            return answer

        try:
            return await self._database.run(work)
        except DBAPIError as error:
            raise _translated(error) from error


class WorkerConnector(DatabaseConnector):
    """The same for a worker, which waits for a database that is away instead of ending.

    A worker whose query fails stops for good and aborts what it runs; a capture of hours would end because PostgreSQL
    was started again.
    """

    def __init__(self, database: Database, clock: Clock, log: Logger) -> None:
        super().__init__(database)
        self._clock = clock
        self._log = log
        self._stopping = False
        self._heard: list[Notify] = []

    def stop_waiting(self) -> None:
        """From now on a database that is away ends the worker."""
        self._stopping = True

    async def execute_query_async(self, query: LiteralString, **arguments: Any) -> None:
        """Run a query whose answer does not matter; at a stop it is left out when the database is away."""
        try:
            await super().execute_query_async(query, **arguments)
        except DatabaseUnavailable:
            self._log.debug("left undone", query=_name(query))
        except exceptions.ConnectorException as error:
            if query != sql.queries["finish_job"] or not _is_refusal(error):
                raise
            # Who took us for dead has cleared the ticket away already.
            self._log.debug("the ticket is gone already", ticket=arguments.get("job_id"))

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Pass on what :meth:`notify` hears; the connection that listens is the engine's."""
        self._heard.append(on_notification)
        try:
            await anyio.sleep_forever()
        finally:
            self._heard.remove(on_notification)

    async def notify(self, channel: str, payload: str) -> None:
        """Tell the workers what the database said."""
        for heard in list(self._heard):
            await heard(channel=channel, payload=payload)

    async def _run(self, query: str, arguments: Mapping[str, Any], read: Callable[[CursorResult[Any]], T]) -> T:
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                return await super()._run(query, arguments, read)
            except DatabaseUnavailable:
                if self._stopping:
                    raise
            await self._clock.sleep(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def _adapted(value: Any) -> Any:
    """``value`` as the driver takes it: objects as JSON, named tuples as rows."""
    if isinstance(value, dict):
        return Jsonb(value)
    if isinstance(value, list):
        return [_adapted(one) for one in value]
    if isinstance(value, tuple):
        return tuple(_adapted(one) for one in value)
    return value


def _translated(error: DBAPIError) -> exceptions.ConnectorException:
    original = error.orig
    if isinstance(original, psycopg.errors.UniqueViolation):
        name = original.diag.constraint_name
        lock = (original.diag.message_detail or "") if name == QUEUEING_LOCK_CONSTRAINT else None
        return exceptions.UniqueViolation(constraint_name=name or "", queueing_lock=lock)
    return exceptions.ConnectorException(str(original))


def _is_refusal(error: exceptions.ConnectorException) -> bool:
    """Whether a function of Procrastinate's refused, and not the database."""
    cause = error.__cause__
    return isinstance(cause, DBAPIError) and isinstance(cause.orig, psycopg.errors.RaiseException)


def _name(query: str) -> str:
    return next((name for name, known in sql.queries.items() if known == query), "?")
