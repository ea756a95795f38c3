"""The chat of an item in windows, and how busy it was; nothing here grows with the length of the chat.

A window is a stretch of the key of ``chat_message``, found at any offset in the same time, and its JSON is written by
the database. Chatters are fetched apart: most say more than one thing in a window.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import anyio.to_thread
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from vodkeep.chat.database import CHAT
from vodkeep.chat.message_json import SAID, chatter_json, message_json
from vodkeep.chat.picture_time import to_picture_sql
from vodkeep.chat.places import BEGINNING_MS, Place, beyond, first_from, last_before, later, place_after, stretches
from vodkeep.chat.sessions import RECORDING, Session, SessionStore
from vodkeep.chat.store import BUCKET_MS
from vodkeep.db import migrate
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.postgresql import Patience
from vodkeep.errors import DatabaseUnavailable

T = TypeVar("T")

# Makes every number of a bucket positive, so that dividing rounds down on both databases; longer than any timeline.
_LIFT_MS = 1 << 40

# So many are remembered at most, about 10 MB.
_MOST_CHATTERS = 50_000


class View(StrEnum):
    """How what moderators took away is shown."""

    SEEN = "seen"
    """Everything, as the people saw it while it was said."""
    MODERATED = "moderated"
    """As the moderators left it: who said something and when, but no more what."""


@dataclass(frozen=True, slots=True)
class Window:
    """Messages in their order, with those who said them."""

    messages: bytes  # JSON objects with commas between; empty when there are none
    chatters: bytes  # a JSON object: by the number as text that the messages have as "chatter"
    count: int
    last: int | None  # number of the last message
    more: bool  # whether there is, or may come, something behind it


@dataclass(frozen=True, slots=True)
class ReplayLine:
    """A message by itself."""

    number: int
    offset_ms: int
    chatter: int | None
    json: str


@dataclass(frozen=True, slots=True)
class ReplayPiece:
    """The next messages of a replay."""

    lines: list[ReplayLine]
    chatters: bytes  # as in a window
    start_ms: int  # the place that was asked for, on the item's timeline
    recording: bool  # more may be said


class ChatterTexts:
    """Chatters as JSON that were read lately. A chatter never changes: with a new look a person is another one.

    Each is held as the member of an object it is sent as, its number and what it is: ``"7":{...}``.
    """

    def __init__(self, most: int = _MOST_CHATTERS) -> None:
        self._half = most // 2
        self._young: dict[str, str] = {}
        self._old: dict[str, str] = {}

    def get(self, numbers: Collection[str]) -> tuple[list[str], list[str]]:
        """What is remembered of these, and the numbers of which nothing is."""
        young, old = self._young, self._old
        found = [told for number in numbers if (told := young.get(number) or old.get(number))]
        if len(found) == len(numbers):
            return found, []
        return found, [number for number in numbers if number not in young and number not in old]

    def add(self, texts: Mapping[str, str]) -> None:
        """Remember these, and forget what was read longest ago."""
        if len(self._young) + len(texts) > self._half:
            self._old, self._young = self._young, {}
        self._young.update(texts)


class ChatReader:
    """Answers questions about an item's chat; ``None`` means that nothing was ever recorded for it.

    Every method raises ``DatabaseUnavailable`` rather than answer with nothing, and :class:`BadCursor`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._texts = ChatterTexts()

    async def window(
        self,
        vod_id: str,
        *,
        limit: int,
        offset_ms: int | None = None,
        cursor: str | None = None,
        until_ms: int | None = None,
        view: View = View.SEEN,
    ) -> Window | None:
        """At most ``limit`` messages: behind ``cursor``, or from ``offset_ms`` on, or from the very first."""

        def read(unit: UnitOfWork) -> Window | None:
            return load_window(
                unit.connection,
                vod_id,
                self._texts,
                limit=limit,
                offset_ms=offset_ms,
                cursor=cursor,
                until_ms=until_ms,
                view=view,
            )

        return await self.ask(read)

    async def piece(
        self, vod_id: str, *, limit: int, offset_ms: int | None, cursor: str | None, view: View
    ) -> ReplayPiece | None:
        """As :meth:`window`, each message by itself."""

        def read(unit: UnitOfWork) -> ReplayPiece | None:
            sessions = SessionStore(unit.connection).of_item(vod_id)
            if not sessions:
                return None
            asked = _Asked(unit.connection, sessions, view)
            place = _place(sessions, offset_ms, cursor)
            lines: list[ReplayLine] = []
            for group in stretches(sessions, place):
                if len(lines) >= limit:
                    break
                rows = _Rows(group, place, None, limit - len(lines))
                lines += asked.lines(rows)
            start_ms = place.offset_ms
            if start_ms == BEGINNING_MS:
                start_ms = lines[0].offset_ms if lines else 0
            chatters = asked.chatters({str(line.chatter) for line in lines if line.chatter is not None}, self._texts)
            return ReplayPiece(lines, chatters, start_ms, any(each.state == RECORDING for each in sessions))

        return await self.ask(read)

    async def activity(self, vod_id: str, *, width_ms: int) -> bytes | None:
        """A JSON array of ``[offset_ms, messages]`` for each stretch of ``width_ms`` in which something was said.

        ``width_ms`` is a multiple of ``BUCKET_MS``. Stretches begin at multiples of it on the item's timeline; what
        lies within half a bucket of an edge may be counted beyond it.
        """

        def read(unit: UnitOfWork) -> bytes | None:
            return load_activity(unit.connection, vod_id, width_ms=width_ms)

        return await self.ask(read)

    async def sessions(self, vod_id: str) -> list[Session]:
        """The sessions of an item, in the order of their time."""
        return await self.ask(lambda unit: SessionStore(unit.connection).of_item(vod_id))

    async def ask(self, read: Callable[[UnitOfWork], T], *, patience: Patience | None = None) -> T:
        """Call ``read`` in a thread; before the first migration it raises ``DatabaseUnavailable`` that says so."""
        try:
            return await self._database.run(read, write=False, patience=patience)
        except DBAPIError as error:
            current = await anyio.to_thread.run_sync(migrate.current, self._database, CHAT)
            head = await anyio.to_thread.run_sync(migrate.head, CHAT)
            if current == head:
                raise
            raise DatabaseUnavailable(
                f"The schema of the chat is at {current or 'nothing'}; this version needs {head}.",
                code="migrations",
                remedy="Wait for the migration, or see the log of the start.",
            ) from error


def load_window(
    connection: Connection,
    vod_id: str,
    texts: ChatterTexts,
    *,
    limit: int,
    offset_ms: int | None = None,
    cursor: str | None = None,
    until_ms: int | None = None,
    view: View = View.SEEN,
) -> Window | None:
    """See :meth:`ChatReader.window`; blocking."""
    sessions = SessionStore(connection).of_item(vod_id)
    if not sessions:
        return None
    asked = _Asked(connection, sessions, view)
    place = _place(sessions, offset_ms, cursor)
    pieces: list[bytes] = []
    chatters: set[str] = set()
    count, last = 0, None
    for group in stretches(sessions, place):
        if count >= limit:
            break
        rows = _Rows(group, place, until_ms, limit - count)
        piece = asked.joined(rows)
        if piece is not None:
            count += piece[0]
            last = piece[1]
            pieces.append(piece[2])
            chatters |= piece[3]
    more = count >= limit or (until_ms is None and any(each.state == RECORDING for each in sessions))
    return Window(b",".join(pieces), asked.chatters(chatters, texts), count, last, more)


def load_activity(connection: Connection, vod_id: str, *, width_ms: int) -> bytes | None:
    """See :meth:`ChatReader.activity`; blocking."""
    if connection.dialect.name == "sqlite":
        told = "CAST(json_group_array(json_array(slot * :width, n)) AS BLOB)"
    else:
        told = "coalesce(CAST(json_agg(json_build_array(slot * :width, n) ORDER BY slot) AS text), '[]')"
    lift = _LIFT_MS // width_ms * width_ms
    sessions = SessionStore(connection).of_item(vod_id)
    if not sessions:
        return None
    middle = to_picture_sql(f"(bucket * {BUCKET_MS} + {BUCKET_MS // 2} + vod_offset_ms)", sessions[0].pauses)
    query = (
        f"SELECT count(*), {told} FROM ("
        f"SELECT ({middle} + :lift) / :width - :lifted AS slot,"
        " sum(n) AS n FROM chat_session JOIN chat_bucket ON session_id = chat_session.id WHERE vod_id = :vod_id"
        " GROUP BY 1 ORDER BY 1) AS slots"
    )
    values = {"width": width_ms, "lift": lift, "lifted": lift // width_ms, "vod_id": vod_id}
    _, json = connection.execute(text(query), values).one()
    return _bytes(json)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Which messages: of ``sessions`` from ``place`` on, before ``until_ms``, the first ``limit``."""

    sessions: Sequence[Session]
    place: Place
    until_ms: int | None
    limit: int

    @property
    def sql(self) -> str:
        """The rows of ``chat_message`` with their ``place_ms``; numbers of ours are written out."""
        parts = [self._of(session) for session in self.sessions]
        if len(parts) == 1:
            return parts[0]
        union = " UNION ALL ".join(f"SELECT * FROM ({part}) AS s{number}" for number, part in enumerate(parts))
        return f"{union} ORDER BY place_ms, id LIMIT {self.limit}"

    def _of(self, session: Session) -> str:
        first = first_from(session, self.place)
        last = beyond(session) if self.until_ms is None else last_before(session, self.until_ms)
        place_ms = to_picture_sql(f"(((id & 4294967295) >> 4) + ({session.vod_offset_ms}))", session.pauses)
        return (
            f"SELECT *, {place_ms} AS place_ms FROM chat_message"
            f" WHERE id BETWEEN {first} AND {last} ORDER BY id LIMIT {self.limit}"
        )


class _Asked:
    """The questions of one window."""

    def __init__(self, connection: Connection, sessions: Sequence[Session], view: View) -> None:
        self._connection = connection
        self._sessions = sessions
        self._sqlite = connection.dialect.name == "sqlite"
        self._moderated = view is View.MODERATED

    def joined(self, rows: _Rows) -> tuple[int, int, bytes, set[str]] | None:
        """How many messages, the number of the last, all in one text, and the numbers of who said them."""
        source, moderated = self._source(rows)
        told = message_json(sqlite=self._sqlite, moderated=moderated)
        if self._sqlite:
            # DISTINCT here would take four times as long as the set below.
            whole, people = f"CAST(group_concat({told}) AS BLOB)", "group_concat(chatter_id)"
        else:
            whole = f"string_agg(CAST({told} AS text), ',' ORDER BY place_ms, id)"
            people = "string_agg(CAST(chatter_id AS text), ',')"
        count, last, json, said_by = self._first(f"SELECT count(*), max(id), {whole}, {people} FROM ({source}) AS w")
        if not count:
            return None
        if len(rows.sessions) > 1:
            (last,) = self._first(f"SELECT id FROM ({rows.sql}) AS w ORDER BY place_ms DESC, id DESC LIMIT 1")
        return count, last, _bytes(json), set(said_by.split(",")) if said_by else set()

    def lines(self, rows: _Rows) -> list[ReplayLine]:
        """Each message by itself."""
        source, moderated = self._source(rows)
        told = message_json(sqlite=self._sqlite, moderated=moderated)
        as_text = told if self._sqlite else f"CAST({told} AS text)"
        query = f"SELECT id, place_ms, chatter_id, {as_text} AS json FROM ({source}) AS w ORDER BY place_ms, id"
        return [ReplayLine(*row) for row in self._connection.exec_driver_sql(query).all()]

    def chatters(self, numbers: Collection[str], texts: ChatterTexts) -> bytes:
        """Those chatters as a JSON object; only who is not in ``texts`` is asked for."""
        members, missing = texts.get(numbers)
        if missing:
            told = chatter_json(sqlite=self._sqlite)
            told = told if self._sqlite else f"CAST({told} AS text)"
            query = f"SELECT id, {told} FROM chatter WHERE id IN ({', '.join(missing)})"
            # All at once: one by one, SQLAlchemy takes longer over the rows than the database.
            rows = self._connection.exec_driver_sql(query).all()
            read = {str(number): f'"{number}":{told}' for number, told in rows}
            texts.add(read)
            members += read.values()
        return f"{{{','.join(members)}}}".encode()

    def _source(self, rows: _Rows) -> tuple[str, bool]:
        """SQL for the rows, and whether some may have been removed, so that there is a column for it."""
        if not self._moderated or not self._any_clears(rows):
            return rows.sql, False
        return f"SELECT *, {self._removed(rows.sessions)} AS removed FROM ({rows.sql}) AS r", True

    def _any_clears(self, rows: _Rows) -> bool:
        ranges = [self._after(first_from(session, rows.place), session, "id") for session in rows.sessions]
        (found,) = self._first(f"SELECT EXISTS (SELECT 1 FROM chat_clear WHERE {' OR '.join(ranges)})")
        return bool(found)

    def _removed(self, sessions: Sequence[Session]) -> str:
        """SQL for whether a moderator took the row ``r`` away, at any time after it."""
        cases = " ".join(f"WHEN (r.id >> 32) = {session.id} THEN {self._cleared_in(session)}" for session in sessions)
        return f"r.kind IN {SAID} AND CASE {cases} END"

    def _cleared_in(self, session: Session) -> str:
        after = self._after("r.id", session, "c.id")
        person = "(SELECT user_id FROM chatter WHERE chatter.id = r.chatter_id)"
        return (
            f"(EXISTS (SELECT 1 FROM chat_clear c WHERE c.target_msg_id = r.msg_id AND {after})"
            f" OR EXISTS (SELECT 1 FROM chat_clear c WHERE c.target_user_id = {person} AND {after})"
            f" OR r.id < {self._last_clear_of_all(session)})"
        )

    def _last_clear_of_all(self, session: Session) -> int:
        """The number of the last event that took away everything said in the session before; 0: there is none."""
        if any(self._clear_of_all(each) for each in later(self._sessions, session)):
            return beyond(session) + 1
        return self._clear_of_all(session)

    def _clear_of_all(self, session: Session) -> int:
        (found,) = self._first(
            "SELECT coalesce(max(id), 0) FROM chat_clear WHERE target_user_id IS NULL AND target_msg_id IS NULL"
            f" AND id BETWEEN {session.id << 32} AND {beyond(session)}"
        )
        return int(found)

    def _after(self, number: int | str, session: Session, column: str) -> str:
        """SQL for: the clear is behind that message of the session, in it or in a later session of the item."""
        ranges = [f"({column} > {number} AND {column} <= {beyond(session)})"]
        ranges += [f"({column} BETWEEN {each.id << 32} AND {beyond(each)})" for each in later(self._sessions, session)]
        return f"({' OR '.join(ranges)})"

    def _first(self, query: str) -> Any:
        return self._connection.exec_driver_sql(query).one()


def _place(sessions: Sequence[Session], offset_ms: int | None, cursor: str | None) -> Place:
    if cursor is not None:
        return place_after(cursor, sessions)
    return Place(BEGINNING_MS if offset_ms is None else offset_ms)


def _bytes(json: bytes | str) -> bytes:
    return json.encode() if isinstance(json, str) else json
