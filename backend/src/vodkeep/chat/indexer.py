"""Fills the search index behind the recorder; a job that may stop anywhere and run twice.

How far it is stands in each session (``fts_upto_id``), and moves in the transaction that fills the index. Messages that
come in below, late or from another source, are listed in ``chat_index_queue`` by whoever stores them. Writers and this
job hold the session's row, so that a message is either before that mark, or on the list, or yet to come.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, select, text, update

from vodkeep.chat import search_index
from vodkeep.chat.ids import last_id
from vodkeep.chat.places import beyond
from vodkeep.chat.sessions import RECORDING, SessionStore
from vodkeep.chat.tables import chat_index_queue, chat_message, chat_session
from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.errors import DatabaseUnavailable
from vodkeep.telemetry.log import Logger

LEASE = "chat-index"
"""The lease of the process that does it."""

PAUSE_S = 5.0
"""Between two looks when there is nothing to do; a message is found this much later, and `_SETTLING_MS`."""

# One in seven messages comes after another that was sent later; waiting a little keeps those off the list.
_SETTLING_MS = 10_000

# About 50 ms of work, for which a recorder's flush may have to wait.
_AT_ONCE = 2_000

_SESSIONS_A_ROUND = 20
_AWAY_S = 5.0


class Indexer:
    """Keeps the index up to date."""

    def __init__(self, database: Database, clock: Clock, log: Logger) -> None:
        self._database = database
        self._clock = clock
        self._log = log

    async def run(self) -> None:
        """Work until canceled. Returns when this database cannot search, which the log then says."""
        away = False
        prepared = False
        while True:
            try:
                if not prepared:
                    await self._prepare()
                    prepared = True
                if await self.work():
                    continue
                away = False
            except search_index.SearchUnavailable as error:
                self._log.warning("chat is not searchable", reason=str(error), remedy=error.remedy)
                return
            except DatabaseUnavailable as error:
                if not away:
                    self._log.warning("the chat's database is away", error=str(error), remedy=error.remedy)
                away = True
                await self._clock.sleep(_AWAY_S)
                continue
            await self._clock.sleep(PAUSE_S)

    async def _prepare(self) -> None:
        def make(unit: UnitOfWork) -> search_index.SearchIndex:
            made = search_index.prepare(unit.connection)
            unit.commit()
            return made

        made = await self._database.run(make)
        if made.note:
            self._log.warning("chat search is slower than it could be", reason=made.note)

    async def work(self) -> int:
        """Index what is due, a batch of each session; returns how many messages that were."""
        done = await self._database.run(_index_late)
        now_ms = round(self._clock.now().timestamp() * 1000)
        for session_id in await self._database.run(_sessions_due, write=False):

            def index(unit: UnitOfWork, session_id: int = session_id) -> int:
                return _index_session(unit, session_id, now_ms)

            done += await self._database.run(index)
        if done:
            await self._database.run(_settle)
        return done


def _sessions_due(unit: UnitOfWork) -> list[int]:
    # The condition as it stands in the partial index.
    query = select(chat_session.c.id).where(text("index_due = 1")).order_by(chat_session.c.id).limit(_SESSIONS_A_ROUND)
    return list(unit.connection.execute(query).scalars())


def _index_session(unit: UnitOfWork, session_id: int, now_ms: int) -> int:
    connection = unit.connection
    # Held until the commit: what a writer stores meanwhile it stores afterwards, and sees where we are then.
    connection.execute(select(chat_session.c.id).where(chat_session.c.id == session_id).with_for_update()).all()
    session = SessionStore(connection).get(session_id)
    if session is None:
        return 0
    upto = beyond(session)
    if session.state == RECORDING:
        upto = last_id(session.id, now_ms - _SETTLING_MS - session.base_ms)
    after = max(session.fts_upto_id, (session.id << 32) - 1)
    numbers = (
        select(chat_message.c.id)
        .where(chat_message.c.id > after, chat_message.c.id <= upto)
        .order_by(chat_message.c.id)
        .limit(_AT_ONCE)
    )
    found = list(connection.execute(numbers).scalars())
    changes: dict[str, int] = {}
    if found:
        search_index.add_range(connection, after, found[-1])
        changes["fts_upto_id"] = found[-1]
    if len(found) < _AT_ONCE and not _any_after(connection, found[-1] if found else after, beyond(session)):
        changes["index_due"] = 0
    if changes:
        connection.execute(update(chat_session).where(chat_session.c.id == session_id).values(changes))
    unit.commit()
    return len(found)


def _any_after(connection: Connection, number: int, last: int) -> bool:
    query = select(chat_message.c.id).where(chat_message.c.id > number, chat_message.c.id <= last).limit(1)
    return connection.execute(query).first() is not None


def _index_late(unit: UnitOfWork) -> int:
    first = select(chat_index_queue.c.id).order_by(chat_index_queue.c.id).limit(_AT_ONCE)
    numbers = list(unit.connection.execute(first.with_for_update(skip_locked=True)).scalars())
    if numbers:
        search_index.add(unit.connection, numbers)
        for start in range(0, len(numbers), 500):
            some = numbers[start : start + 500]
            unit.connection.execute(delete(chat_index_queue).where(chat_index_queue.c.id.in_(some)))
        unit.commit()
    return len(numbers)


def _settle(unit: UnitOfWork) -> None:
    search_index.settle(unit.connection)
    unit.commit()
