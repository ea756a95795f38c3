"""Writes messages, below the ORM: ``executemany`` of tuples on SQLite, COPY on PostgreSQL.

With the messages, and in the same transaction, go their chatters, the activity per 10 s, and what moderators took away.
Who writes a session holds its row until the commit, so that two writers never number the same millisecond at once; the
name written there tells a recorder whether it may rely on what it remembers of the session.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from itertools import pairwise
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import Connection, case, func, select, text, update

from vodkeep.chat.ids import LAST_OFFSET_MS, TIE_BITS, first_id, last_id, offset_of, pack_msg_id, pack_uuid
from vodkeep.chat.model import ChatMessage, Chatter, Kind
from vodkeep.chat.sessions import Session
from vodkeep.chat.tables import chat_bucket, chat_clear, chat_index_queue, chat_message, chat_session, chatter

BUCKET_MS = 10_000
"""How much time one count of ``chat_bucket`` covers."""

LOOK_BACK_MS = 120_000
"""A recorder that takes a session over learns the ids of so much of it, before the first message it has itself."""

_MERGE_SLACK_MS = 5_000

# Chatter rows a writer remembers to have stored, and ids it remembers to have written.
_MOST_CHATTERS = 50_000
_MOST_IDS = 200_000

# What numbers are taken is asked in so many stretches at most; the holes between them are not read.
_MOST_STRETCHES = 16
_ROOM_AFTER = 1_024  # numbers beyond the last message, for ties
_WIDE_GAP = 30_000 << TIE_BITS

_LONGEST_S = 2**62

_SAID = frozenset({Kind.MESSAGE, Kind.ACTION, Kind.USER_NOTICE})
_CLEARS = frozenset({Kind.CLEAR_CHAT, Kind.CLEAR_USER, Kind.CLEAR_MESSAGE})

_MESSAGE_COLUMNS = tuple(column.name for column in chat_message.c)

Row = tuple[int, int | None, int, int, str | None, str, bytes, bytes | None, str | None]
"""A row of ``chat_message``, in the order of its columns."""


class RecentIds:
    """The latest message ids, to tell what comes twice; holds between ``most / 2`` and ``most`` of them."""

    def __init__(self, most: int = _MOST_IDS) -> None:
        self._half = most // 2
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()

    def __contains__(self, msg_id: bytes) -> bool:
        return msg_id in self._young or msg_id in self._old

    def add(self, msg_ids: Iterable[bytes]) -> None:
        """Remember these as the latest."""
        self._young.update(msg_ids)
        if len(self._young) > self._half:
            self._old, self._young = self._young, set()


@dataclass(slots=True)
class Written:
    """What one call has written, if it is committed."""

    numbers: list[int] = field(default_factory=list)  # of all rows
    said: int = 0  # how many of them are what people said, and no events
    msg_ids: list[bytes] = field(default_factory=list)  # of all rows
    chatters: list[int] = field(default_factory=list)  # those that are stored now
    foreign: bool = False  # somebody else had written the session since

    @property
    def rows(self) -> int:
        """How many messages and events."""
        return len(self.numbers)


class MessageWriter:
    """Writes under one name, and remembers what it wrote; for one thread at a time.

    ``remember`` tells it that a transaction was committed; of one that was rolled back it keeps nothing.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._recent = RecentIds()
        self._chatters: set[int] = set()
        self._keys: dict[Chatter, int] = {}

    def write(
        self,
        connection: Connection,
        session: Session,
        messages: Sequence[ChatMessage],
        *,
        merge: bool = False,
        besides: Sequence[Session] = (),
        slack_ms: int = _MERGE_SLACK_MS,
    ) -> Written:
        """Store what is not there yet; the caller commits and then calls :meth:`remember`.

        With ``merge``, or when somebody else has written the session meanwhile, the table is asked what is there, so
        long before the first and after the last message; else only what this writer remembers. ``besides`` are
        sessions that may have the messages already. Raises ``ValueError`` for a message that was sent beyond what a
        session can number.
        """
        fresh: dict[bytes, ChatMessage] = {}
        odd: set[bytes] = set()
        for message in messages:
            packed = pack_uuid(message.msg_id)
            if packed is None:
                packed = pack_msg_id(message.msg_id)
                odd.add(packed)
            if packed not in self._recent and packed not in fresh:
                fresh[packed] = message
        written = Written()
        if not fresh:
            return written
        last_writer, indexed_upto = _hold(connection, session)
        written.foreign = last_writer != self._name
        if written.foreign or merge:
            times = [message.sent_ms for message in fresh.values()]
            earliest = min(times) - (LOOK_BACK_MS if written.foreign else slack_ms)
            latest = None if written.foreign else max(times) + slack_ms
            there: set[bytes] = set()
            for each in (session, *besides):
                there |= load_ids(connection, each, earliest, latest)
            for packed in there:
                fresh.pop(packed, None)
            if written.foreign:
                # Its neighbours may still come to us, late or over another connection.
                written.msg_ids.extend(there)
        if fresh:
            known = set() if written.foreign else self._chatters
            _insert(connection, session, fresh, odd, known, self._keys, written)
            _queue_for_the_index(connection, [number for number in written.numbers if number <= indexed_upto])
        _count(connection, session, self._name, fresh.values(), written)
        return written

    def remember(self, written: Written) -> None:
        """This is committed."""
        if len(self._keys) > _MOST_CHATTERS:
            self._keys.clear()
        if written.foreign or len(self._chatters) > _MOST_CHATTERS:
            # Who else wrote there may have removed chatters, too.
            self._chatters.clear()
        self._chatters.update(written.chatters)
        self._recent.add(written.msg_ids)


def insert_messages(connection: Connection, session: Session, messages: Sequence[ChatMessage]) -> int:
    """Store messages of which none is there yet; returns how many. The caller commits."""
    return MessageWriter("").write(connection, session, messages).rows


def merge_messages(
    connection: Connection,
    session: Session,
    messages: Sequence[ChatMessage],
    *,
    besides: Sequence[Session] = (),
    slack_ms: int = _MERGE_SLACK_MS,
) -> int:
    """Store those that neither the session nor one of ``besides`` has, told by ``msg_id``; returns how many.

    What is there is looked for from ``slack_ms`` before the first message to ``slack_ms`` after the last, so hand them
    over in pieces of their order. The caller commits.
    """
    writer = MessageWriter("")
    return writer.write(connection, session, messages, merge=True, besides=besides, slack_ms=slack_ms).rows


def load_ids(connection: Connection, session: Session, earliest_ms: int, latest_ms: int | None) -> set[bytes]:
    """The packed ids of what was sent in that time, both ends included; ``None``: up to the last there is."""
    first = first_id(session.id, earliest_ms - session.base_ms)
    last = last_id(session.id, LAST_OFFSET_MS if latest_ms is None else latest_ms - session.base_ms)
    query = "SELECT msg_id FROM chat_message WHERE id BETWEEN :first AND :last"
    return {bytes(row[0]) for row in connection.execute(text(query), {"first": first, "last": last})}


def _hold(connection: Connection, session: Session) -> tuple[str, int]:
    """Keep other writers out of the session until the commit; returns the last one's name, and ``fts_upto_id``."""
    query = select(chat_session.c.writer, chat_session.c.fts_upto_id).where(chat_session.c.id == session.id)
    writer, indexed_upto = connection.execute(query.with_for_update()).one()
    return writer, indexed_upto


def _queue_for_the_index(connection: Connection, numbers: Iterable[int]) -> None:
    """The index has gone past these before they came."""
    _many(connection, "INSERT INTO chat_index_queue", chat_index_queue.c.keys(), [(number,) for number in numbers])


def _count(
    connection: Connection, session: Session, writer: str, messages: Iterable[ChatMessage], written: Written
) -> None:
    latest = max((message.sent_ms for message in messages), default=0)
    connection.execute(
        update(chat_session)
        .where(chat_session.c.id == session.id)
        .values(
            writer=writer,
            messages=chat_session.c.messages + written.said,
            revision=chat_session.c.revision + (1 if written.rows else 0),
            index_due=1 if written.rows else chat_session.c.index_due,
            last_ms=case((func.coalesce(chat_session.c.last_ms, 0) < latest, latest), else_=chat_session.c.last_ms),
        )
    )


def _insert(
    connection: Connection,
    session: Session,
    fresh: Mapping[bytes, ChatMessage],
    odd: Container[bytes],
    known: Container[int],
    keys: dict[Chatter, int],
    written: Written,
) -> None:
    numbers = _number(connection, session, [message.sent_ms - session.base_ms for message in fresh.values()])
    rows: list[Row] = []
    chatters: dict[int, Chatter] = {}
    clears: list[tuple[int, bytes | None, str | None, int | None]] = []
    buckets: Counter[int] = Counter()
    for number, (packed, message) in zip(numbers, fresh.items(), strict=True):
        who = message.chatter
        key: int | None = None
        if who is not None:
            key = keys.get(who)
            if key is None:
                key = keys[who] = who.key()
            if key not in known:
                chatters[key] = who
        kind = message.kind
        if kind in _SAID:
            buckets[offset_of(number) // BUCKET_MS] += 1
        elif kind in _CLEARS:
            clears.append((number, *_cleared(message.extra)))
        rows.append(
            (
                number,
                key,
                int(kind),
                int(message.source),
                message.emotes or None,
                message.body,
                packed,
                pack_msg_id(message.reply_to) if message.reply_to else None,
                _extra(message, packed in odd),
            )
        )
    written.numbers = numbers
    written.said = buckets.total()
    written.msg_ids.extend(fresh)
    written.chatters.extend(chatters)
    _store_chatters(connection, chatters)
    # In the order of the key, its pages fill up and are done with.
    rows.sort(key=itemgetter(0))
    _store_rows(connection, rows)
    _store_buckets(connection, session, buckets)
    _many(connection, "INSERT INTO chat_clear", chat_clear.c.keys(), clears)


def _extra(message: ChatMessage, odd: bool) -> str | None:
    """What has no column, as JSON; an ``odd`` id, which its 16 bytes do not give back, is there, too."""
    extra = message.extra
    if odd:
        extra = {**extra, "id": message.msg_id}
    return _json(extra).decode() if extra else None


_json = msgspec.json.Encoder().encode


def _cleared(extra: Mapping[str, object]) -> tuple[bytes | None, str | None, int | None]:
    target, person, seconds = extra.get("target_msg_id"), extra.get("target_user_id"), extra.get("seconds")
    return (
        pack_msg_id(target) if isinstance(target, str) and target else None,
        person if isinstance(person, str) and person else None,
        min(seconds, _LONGEST_S) if isinstance(seconds, int) else None,
    )


def _number(connection: Connection, session: Session, offsets: Sequence[int]) -> list[int]:
    """A free number for each offset (ms), in the order given; raises ``ValueError`` beyond the last there is."""
    latest = max(offsets)
    if latest >= LAST_OFFSET_MS - _ROOM_AFTER:
        raise ValueError(f"a message of session {session.id} was sent {latest} ms after its base")
    base = first_id(session.id, 0)
    firsts = [base | offset << TIE_BITS if offset > 0 else base for offset in offsets]
    taken = _Taken(connection, firsts)
    in_use, edges = taken.numbers, taken.edges
    next_free: dict[int, int] = {}
    numbers: list[int] = []
    for first in firsts:
        number = next_free.get(first, first)
        while number in in_use or number in edges:
            if number in edges:
                taken.read_on(number)
            else:
                number += 1
        next_free[first] = number + 1
        in_use.add(number)
        numbers.append(number)
    return numbers


class _Taken:
    """The numbers that are in use around some others."""

    def __init__(self, connection: Connection, firsts: Sequence[int]) -> None:
        self._cursor = _driver(connection).cursor()
        mark = _mark(connection)
        self._query = f"SELECT id FROM chat_message WHERE id BETWEEN {mark} AND {mark}"  # noqa: S608  # no value in it
        self.numbers: set[int] = set()
        self.edges: set[int] = set()  # the first number behind each stretch that was read
        ordered = sorted(set(firsts))
        # Messages come nearly in order; a late one must not make us read all that lies between.
        gaps = ((after - before, index) for index, (before, after) in enumerate(pairwise(ordered), 1))
        widest = nlargest(_MOST_STRETCHES - 1, (gap for gap in gaps if gap[0] > _WIDE_GAP))
        for start, end in pairwise([0, *sorted(index for _, index in widest), len(ordered)]):
            self._read(ordered[start], ordered[end - 1] + _ROOM_AFTER)

    def read_on(self, edge: int) -> None:
        """Read the stretch that begins with an edge."""
        self.edges.discard(edge)
        self._read(edge, edge + _ROOM_AFTER)

    def _read(self, first: int, last: int) -> None:
        self._cursor.execute(self._query, (first, last))
        self.numbers.update(row[0] for row in self._cursor.fetchall())
        self.edges.add(last + 1)


_ONE_ROW = ", ".join(_MESSAGE_COLUMNS)


def _store_rows(connection: Connection, rows: Sequence[Row]) -> None:
    if connection.dialect.name == "sqlite":
        _many(connection, "INSERT INTO chat_message", _MESSAGE_COLUMNS, rows)
        return
    with _driver(connection).cursor() as cursor, cursor.copy(f"COPY chat_message ({_ONE_ROW}) FROM STDIN") as copy:
        write_row = copy.write_row
        for row in rows:
            write_row(row)


def _store_chatters(connection: Connection, chatters: Mapping[int, Chatter]) -> None:
    if not chatters:
        return
    # In one order in all processes: two that store the same ones must not wait for each other.
    rows = [
        (key, who.user_id, who.login, who.display_name, who.color, who.badges)
        for key, who in sorted(chatters.items(), key=itemgetter(0))
    ]
    _many(connection, "INSERT INTO chatter", chatter.c.keys(), rows, "ON CONFLICT (id) DO NOTHING")


def _store_buckets(connection: Connection, session: Session, buckets: Mapping[int, int]) -> None:
    rows = [(session.id, bucket, n) for bucket, n in sorted(buckets.items())]
    add = "ON CONFLICT (session_id, bucket) DO UPDATE SET n = chat_bucket.n + excluded.n"
    _many(connection, "INSERT INTO chat_bucket", chat_bucket.c.keys(), rows, add)


def _many(
    connection: Connection, what: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]], then: str = ""
) -> None:
    """``what`` for each of the rows; whose names come from the code, never from a message."""
    if not rows:
        return
    marks = ", ".join([_mark(connection)] * len(columns))
    statement = f"{what} ({', '.join(columns)}) VALUES ({marks}) {then}"
    cursor = _driver(connection).cursor()
    try:
        cursor.executemany(statement, rows)
    finally:
        cursor.close()


def _mark(connection: Connection) -> str:
    return "?" if connection.dialect.name == "sqlite" else "%s"


def _driver(connection: Connection) -> Any:
    """The driver's own connection, in the transaction at hand; its errors are the driver's, too."""
    return connection.connection.driver_connection
