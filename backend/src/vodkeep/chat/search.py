"""Finds messages by their words, by who said them, and by when: in one item, and over the library.

In an item hits come in the order of the chat; over the library the newest come first. Nothing is ever ranked: that
would mean to look at every hit there is before the first can be shown.

Over the library sessions are searched one after the other, those that ended last first, until nothing that is left can
be newer than the hits at hand. Words that are said often are found in a few sessions. For those that are not, going
through hundreds of sessions would take too long, and there cannot be many hits: all are taken at once and sorted.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Connection, bindparam, select, text
from sqlalchemy.exc import DBAPIError

from vodkeep.chat import search_index
from vodkeep.chat.ids import SESSION_SHIFT, first_id, offset_of, session_of
from vodkeep.chat.model import Kind
from vodkeep.chat.places import (
    BEGINNING_MS,
    BadCursor,
    Place,
    beyond,
    first_from,
    last_before,
    place_after,
    place_of,
    read_cursor,
)
from vodkeep.chat.reading import ChatReader
from vodkeep.chat.search_words import fts5_query, read_terms
from vodkeep.chat.sessions import Session, SessionStore
from vodkeep.chat.tables import chat_session
from vodkeep.db.engine import UnitOfWork
from vodkeep.db.postgresql import Patience
from vodkeep.errors import TransientError

T = TypeVar("T")

STATEMENT_LIMIT_S = 5.0
"""How long one search may take the database."""

# So many sessions are looked at one by one.
_ONE_BY_ONE = 8

# A person's looks: a new one with each colour, badge and name, in each channel.
_MOST_LOOKS = 1_000

# SQLite asks after so many steps whether time is up.
_STEPS = 50_000


class SearchNotReady(TransientError):
    """The index does not exist yet."""

    code = "search_not_ready"


class SearchTooSlow(TransientError):
    """The search was given up."""

    code = "search_too_slow"


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for; all that is given must be so."""

    terms: tuple[str, ...] = ()  # see `search_words.read_terms`
    login: str | None = None  # who said it, under this name or, being the same person, under another
    limit: int = 50
    cursor: str | None = None  # of the page before

    @classmethod
    def typed(cls, words: str, *, login: str | None, limit: int, cursor: str | None) -> Query:
        """A query with the words as a person typed them."""
        return cls(read_terms(words), login, limit, cursor)


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that was found."""

    number: int
    vod_id: str | None  # of its item; None: the stream has none
    channel: str
    sent_ms: int  # Unix milliseconds
    offset_ms: int | None  # where it lies on the item's timeline
    kind: Kind
    user_id: str
    login: str
    display_name: str
    color: str
    body: str


@dataclass(frozen=True, slots=True)
class Hits:
    """A page of what was found."""

    hits: list[Hit]
    following: str | None  # the cursor of the next page; None on the last
    complete: bool  # whether everything that was looked through is in the index by now


class ChatSearch:
    """Searches. Raises ``DatabaseUnavailable``, :class:`SearchNotReady`, :class:`SearchTooSlow`, `BadCursor`."""

    def __init__(self, reader: ChatReader) -> None:
        self._reader = reader

    async def in_item(
        self, vod_id: str, query: Query, *, from_ms: int | None = None, to_ms: int | None = None
    ) -> Hits | None:
        """Hits of one item, first to last, from ``from_ms`` to before ``to_ms`` of its timeline.

        ``None`` when nothing was ever recorded for it.
        """
        return await self._ask(lambda connection: search_item(connection, vod_id, query, from_ms=from_ms, to_ms=to_ms))

    async def in_library(
        self, query: Query, *, channel: str | None = None, since_ms: int | None = None, until_ms: int | None = None
    ) -> Hits:
        """Hits everywhere, newest first, sent from ``since_ms`` to before ``until_ms`` (Unix)."""
        return await self._ask(
            lambda connection: search_library(connection, query, channel=channel, since_ms=since_ms, until_ms=until_ms)
        )

    async def _ask(self, search: Callable[[Connection], T]) -> T:
        def read(unit: UnitOfWork) -> T:
            with _limited(unit.connection):
                return search(unit.connection)

        return await self._reader.ask(read, patience=Patience(statement_s=STATEMENT_LIMIT_S))


def search_item(
    connection: Connection, vod_id: str, query: Query, *, from_ms: int | None = None, to_ms: int | None = None
) -> Hits | None:
    """See :meth:`ChatSearch.in_item`; blocking."""
    sessions = SessionStore(connection).of_item(vod_id)
    if not sessions:
        return None
    place = Place(BEGINNING_MS if from_ms is None else from_ms)
    if query.cursor is not None:
        place = place_after(query.cursor, sessions)
    index = _Index(connection, query)
    found: list[tuple[int, int, Session]] = []
    for session in sessions:
        last = beyond(session) if to_ms is None else last_before(session, to_ms)
        numbers = index.numbers(session, first_from(session, place), last)
        found += [(place_of(number, session), number, session) for number in numbers]
    found.sort(key=lambda each: each[:2])
    page = found[: query.limit]
    return Hits(
        _load(connection, [(number, session) for _, number, session in page]),
        str(page[-1][1]) if len(found) > query.limit else None,
        not any(session.index_due for session in sessions) and not _any_late(connection, sessions),
    )


def search_library(
    connection: Connection,
    query: Query,
    *,
    channel: str | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
) -> Hits:
    """See :meth:`ChatSearch.in_library`; blocking."""
    before: tuple[int, int] | None = None
    if query.cursor is not None:
        number = read_cursor(query.cursor)
        session = SessionStore(connection).get(session_of(number))
        if session is None:
            raise BadCursor("its broadcast is no more there")
        before = (session.base_ms + offset_of(number), number)
    span = _Span(channel, since_ms, until_ms, before)
    index = _Index(connection, query)
    found: list[tuple[int, int, Session]] = []
    sessions = _newest(connection, span)
    for session in sessions[:_ONE_BY_ONE]:
        if len(found) > query.limit and _end_ms(session) < found[query.limit][0]:
            break
        first, last = span.of(session)
        found += [
            (session.base_ms + offset_of(number), number, session)
            for number in index.numbers(session, first, last, newest=True)
        ]
        found.sort(key=lambda each: each[:2], reverse=True)
    else:
        if len(sessions) > _ONE_BY_ONE and not (
            len(found) > query.limit and _end_ms(sessions[_ONE_BY_ONE]) < found[query.limit][0]
        ):
            found = index.everywhere(span)
    page = found[: query.limit]
    return Hits(
        _load(connection, [(number, session) for _, number, session in page]),
        str(page[-1][1]) if len(found) > query.limit else None,
        not _any_due(connection),
    )


@dataclass(frozen=True, slots=True)
class _Span:
    """Which part of the library."""

    channel: str | None
    since_ms: int | None  # Unix
    until_ms: int | None  # Unix, excluded
    before: tuple[int, int] | None  # only what was sent earlier than this, or is in order before it: Unix ms, number

    def of(self, session: Session) -> tuple[int, int]:
        """The first and the last number of the session that can be meant."""
        first = session.id << SESSION_SHIFT
        if self.since_ms is not None:
            first = first_from(_at_its_base(session), Place(self.since_ms - session.base_ms))
        last = beyond(session)
        if self.until_ms is not None:
            last = min(last, last_before(_at_its_base(session), self.until_ms - session.base_ms))
        if self.before is not None:
            sent_ms, number = self.before
            if session.id == session_of(number):
                last = min(last, number - 1)
            else:
                # In order before it are also those of the same millisecond in sessions with smaller numbers.
                same = 1 if session.id < session_of(number) else 0
                last = min(last, last_before(_at_its_base(session), sent_ms - session.base_ms + same))
        return first, last


def _at_its_base(session: Session) -> Session:
    """The session on a timeline that begins with it."""
    return replace(session, vod_offset_ms=0, pauses=())


def _end_ms(session: Session) -> int:
    assert session.last_ms is not None
    return session.last_ms


def _newest(connection: Connection, span: _Span) -> list[Session]:
    """The sessions that ended last and can have hits, one more than are looked at one by one."""
    query = select(chat_session.c.id).where(chat_session.c.last_ms.is_not(None))
    if span.channel is not None:
        query = query.where(chat_session.c.channel == span.channel)
    if span.since_ms is not None:
        query = query.where(chat_session.c.last_ms >= span.since_ms)
    latest = min([each for each in (span.until_ms, span.before and span.before[0]) if each is not None], default=None)
    if latest is not None:
        query = query.where(chat_session.c.base_ms <= latest)
    numbers = list(connection.execute(query.order_by(chat_session.c.last_ms.desc()).limit(_ONE_BY_ONE + 1)).scalars())
    sessions = SessionStore(connection).load(numbers)
    return [sessions[number] for number in numbers if number in sessions]


class _Index:
    """The index as one query sees it."""

    def __init__(self, connection: Connection, query: Query) -> None:
        self._connection = connection
        self._sqlite = connection.dialect.name == "sqlite"
        self._limit = query.limit + 1
        if not search_index.exists(connection):
            raise SearchNotReady(
                "The search index has not been made yet.",
                remedy="It is made when the service has started; the log says `chat is not searchable` if it cannot.",
            )
        self._chatters = None if query.login is None else _looks(connection, query.login)
        # Nobody of that name, or nothing to look for.
        self._nothing = self._chatters == [] or not (query.terms or self._chatters)
        self._values: dict[str, Any]
        if self._sqlite:
            self._matches = f"{search_index.TABLE} MATCH :words"
            self._values = {"words": fts5_query(query.terms, self._chatters)}
        else:
            # What lies in the index is sorted by hand; reading the whole table is never the better way.
            connection.exec_driver_sql("SELECT set_config('enable_seqscan', 'off', true)")
            conditions = []
            self._values = {}
            if query.terms:
                words = [f"phraseto_tsquery('simple', :word{number})" for number in range(len(query.terms))]
                conditions.append(f"to_tsvector('simple', body) @@ ({' && '.join(words)})")
                self._values |= {f"word{number}": term for number, term in enumerate(query.terms)}
            if self._chatters is not None:
                conditions.append("chatter_id = ANY (CAST(:chatters AS bigint[]))")
                self._values["chatters"] = self._chatters
            self._matches = " AND ".join(conditions)

    def numbers(self, session: Session, first: int, last: int, *, newest: bool = False) -> list[int]:
        """The first hits of a session between two numbers, or the last, from the last on; one more than a page has."""
        if self._nothing or first > last:
            return []
        order = "DESC" if newest else "ASC"
        if self._sqlite:
            query = (
                f"SELECT rowid FROM {search_index.TABLE} WHERE {self._matches} AND rowid BETWEEN :first AND :last"
                f" ORDER BY rowid {order} LIMIT :limit"
            )
        else:
            query = (
                f"WITH hits AS MATERIALIZED (SELECT id FROM {search_index.TABLE}"
                # A smaller number would be sent as a smaller type, which no bigint of the index is compared with.
                f" WHERE (id >> 32) = CAST(:session AS bigint) AND {self._matches})"
                f" SELECT id FROM hits WHERE id BETWEEN :first AND :last ORDER BY id {order} LIMIT :limit"
            )
        values = {**self._values, "first": first, "last": last, "limit": self._limit}
        if not self._sqlite:
            values["session"] = session.id
        return list(self._connection.execute(text(query), values).scalars())

    def everywhere(self, span: _Span) -> list[tuple[int, int, Session]]:
        """The newest hits of the library: when sent, number and session; one more than a page has."""
        if self._nothing:
            return []
        number = "rowid" if self._sqlite else "id"
        conditions = ["true"]
        values: dict[str, Any] = {**self._values, "limit": self._limit}
        if span.channel is not None:
            conditions.append("s.channel = :channel")
            values["channel"] = span.channel
        if span.since_ms is not None:
            conditions.append("sent_ms >= :since")
            values["since"] = span.since_ms
        if span.until_ms is not None:
            conditions.append("sent_ms < :until")
            values["until"] = span.until_ms
        if span.before is not None:
            conditions.append("(sent_ms, hits.id) < (:before_ms, :before)")
            values["before_ms"], values["before"] = span.before
        query = (
            "WITH hits AS MATERIALIZED (SELECT h.id, s.base_ms + ((h.id & 4294967295) >> 4) AS sent_ms FROM"
            f" (SELECT {number} AS id FROM {search_index.TABLE} WHERE {self._matches}) AS h"
            " JOIN chat_session AS s ON s.id = (h.id >> 32))"
            " SELECT sent_ms, hits.id FROM hits JOIN chat_session AS s ON s.id = (hits.id >> 32)"
            f" WHERE {' AND '.join(conditions)} ORDER BY sent_ms DESC, hits.id DESC LIMIT :limit"
        )
        rows = self._connection.execute(text(query), values).all()
        sessions = SessionStore(self._connection).load({session_of(row.id) for row in rows})
        return [(row.sent_ms, row.id, sessions[session_of(row.id)]) for row in rows]


def _looks(connection: Connection, login: str) -> list[int]:
    """The chatters that are a person: those of that name, and those with the same number under other names."""
    query = text(
        "SELECT id FROM chatter WHERE login = :login UNION SELECT id FROM chatter WHERE user_id IN"
        " (SELECT user_id FROM chatter WHERE login = :login AND user_id <> '') ORDER BY id LIMIT :most"
    )
    return list(connection.execute(query, {"login": login, "most": _MOST_LOOKS}).scalars())


def _load(connection: Connection, page: Sequence[tuple[int, Session]]) -> list[Hit]:
    if not page:
        return []
    query = text(
        "SELECT m.id, m.kind, m.body, c.user_id, c.login, c.display_name, c.color FROM chat_message m"
        " LEFT JOIN chatter c ON c.id = m.chatter_id WHERE m.id IN :numbers"
    ).bindparams(bindparam("numbers", expanding=True))
    rows = {row.id: row for row in connection.execute(query, {"numbers": [number for number, _ in page]})}
    return [
        Hit(
            number,
            session.vod_id,
            session.channel,
            session.base_ms + offset_of(number),
            None if session.vod_id is None else place_of(number, session),
            Kind(row.kind),
            row.user_id or "",
            row.login or "",
            row.display_name or "",
            row.color or "",
            row.body,
        )
        for number, session in page
        # Erased since it was indexed.
        if (row := rows.get(number)) is not None
    ]


def _any_late(connection: Connection, sessions: Sequence[Session]) -> bool:
    ranges = " OR ".join(f"id BETWEEN {first_id(each.id, 0)} AND {beyond(each)}" for each in sessions)
    return bool(connection.exec_driver_sql(f"SELECT EXISTS (SELECT 1 FROM chat_index_queue WHERE {ranges})").scalar())


def _any_due(connection: Connection) -> bool:
    return bool(
        connection.exec_driver_sql(
            "SELECT EXISTS (SELECT 1 FROM chat_session WHERE index_due = 1) OR EXISTS (SELECT 1 FROM chat_index_queue)"
        ).scalar()
    )


@contextmanager
def _limited(connection: Connection) -> Iterator[None]:
    """Give up after `STATEMENT_LIMIT_S`: PostgreSQL does so by itself, SQLite is asked."""
    driver: Any = connection.connection.driver_connection
    sqlite = connection.dialect.name == "sqlite"
    if sqlite:
        deadline = time.monotonic() + STATEMENT_LIMIT_S
        driver.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        yield
    except DBAPIError as error:
        interrupted = getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
        if not interrupted and not isinstance(error.orig, psycopg.errors.QueryCanceled):
            raise
        raise SearchTooSlow(
            f"The search was given up after {STATEMENT_LIMIT_S:g} s.",
            remedy="Add a word, a channel or a time.",
        ) from error
    finally:
        if sqlite:
            driver.set_progress_handler(None, 0)
