"""Sessions: one for each stream whose chat is kept, or for each other source of a chat."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import msgspec
from sqlalchemy import Connection, Executable, Row, Select, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from vodkeep.chat.ids import MARGIN_MS
from vodkeep.chat.model import Source
from vodkeep.chat.picture_time import Pauses
from vodkeep.chat.tables import chat_session

RECORDING = "recording"
ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Session:
    """A stretch of a channel's chat with a timeline of its own. Times are Unix milliseconds."""

    id: int  # below 2**31
    channel: str  # login, lower case
    channel_id: str | None
    stream_id: str | None  # None: not from a stream
    source: Source  # what it was opened for
    base_ms: int  # offset 0 of its messages
    vod_id: str | None  # `twitch_vod_id` of its item; may be a placeholder
    vod_offset_ms: int  # to be added to an offset for the place on the item's timeline
    state: str  # RECORDING or ENDED
    ended_ms: int | None
    last_ms: int | None  # when its latest message was sent
    messages: int  # what people said; the sum of its buckets
    fts_upto_id: int
    revision: int = 0  # grows with every change of its messages
    index_due: int = 0  # 1: the search index may lack some of them
    recorded_from_ms: int | None = None  # what was sent before was not recorded; None: nobody has begun to
    pauses: Pauses = ()  # of its item's picture

    @property
    def start_ms(self) -> int:
        """When its stream began; what was said before is not of it."""
        return self.base_ms + MARGIN_MS


def base_of(start_ms: int) -> int:
    """The ``base_ms`` of a session whose stream began at ``start_ms``."""
    return start_ms - MARGIN_MS


class SessionStore:
    """The ``chat_session`` table within one transaction; the caller commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def open(
        self,
        channel: str,
        *,
        base_ms: int,
        channel_id: str | None = None,
        stream_id: str | None = None,
        vod_id: str | None = None,
        vod_offset_ms: int = 0,
        source: Source = Source.LIVE,
    ) -> Session:
        """The session of the stream: the one there is, which is being recorded again, or a new one.

        Of one that is there already nothing else changes. Without a ``stream_id`` there is always a new one.
        """
        on_sqlite = self._connection.dialect.name == "sqlite"
        insert = (sqlite.insert if on_sqlite else postgresql.insert)(chat_session)
        statement = insert.values(
            channel=channel,
            channel_id=channel_id,
            stream_id=stream_id,
            source=int(source),
            base_ms=base_ms,
            vod_id=vod_id,
            vod_offset_ms=vod_offset_ms,
        ).on_conflict_do_update(index_elements=["channel", "stream_id"], set_={"state": RECORDING, "ended_ms": None})
        return _session(self._connection.execute(statement.returning(*_COLUMNS)).one())

    def get(self, session_id: int) -> Session | None:
        """The session of that number."""
        return self._first(_query().where(chat_session.c.id == session_id))

    def load(self, session_ids: Collection[int]) -> dict[int, Session]:
        """Those of the sessions that there are, by number."""
        return {each.id: each for each in self._all(_query().where(chat_session.c.id.in_(session_ids)))}

    def by_stream(self, channel: str, stream_id: str) -> Session | None:
        """The session of that stream."""
        return self._first(_query().where(chat_session.c.channel == channel, chat_session.c.stream_id == stream_id))

    def of_item(self, vod_id: str) -> list[Session]:
        """The sessions of an item, in the order of their time."""
        return self._all(_OF_ITEM, vod_id=vod_id)

    def with_stream(self, channel: str, vod_ids: Iterable[str]) -> set[str]:
        """Those of ``vod_ids`` that are the item of one of the channel's streams already."""
        query = select(chat_session.c.vod_id).where(
            chat_session.c.channel == channel,
            chat_session.c.stream_id.is_not(None),
            chat_session.c.vod_id.in_(list(vod_ids)),
        )
        return set(self._connection.execute(query).scalars())

    def recording(self) -> list[Session]:
        """Those that have not ended, oldest first."""
        return self._all(_query().where(chat_session.c.state == RECORDING).order_by(chat_session.c.id))

    def live_since(self, at_ms: int) -> list[Session]:
        """Those of streams that were being recorded at ``at_ms`` or later, oldest first."""
        late_enough = or_(chat_session.c.state == RECORDING, chat_session.c.ended_ms >= at_ms)
        return self._all(
            _query()
            .where(late_enough, chat_session.c.source == int(Source.LIVE))
            .order_by(chat_session.c.base_ms, chat_session.c.id)
        )

    def link(self, session_id: int, vod_id: str | None, vod_offset_ms: int, pauses: Pauses = ()) -> None:
        """Make it the chat of an item, whose picture began at ``base_ms - vod_offset_ms``; all its messages move."""
        told = msgspec.json.encode(pauses).decode() if pauses else None
        self._connection.execute(
            update(chat_session)
            .where(chat_session.c.id == session_id)
            .values(vod_id=vod_id, vod_offset_ms=vod_offset_ms, pauses=told)
        )

    def note_beginning(self, session_id: int, from_ms: int) -> None:
        """A recorder has what was sent from ``from_ms`` on; an earlier word on it stays."""
        self._connection.execute(
            update(chat_session)
            .where(chat_session.c.id == session_id, chat_session.c.recorded_from_ms.is_(None))
            .values(recorded_from_ms=from_ms)
        )

    def end(self, session_id: int, at_ms: int) -> None:
        """Nothing more is recorded from ``at_ms`` on; a session that has ended keeps its end."""
        self._connection.execute(
            update(chat_session)
            .where(chat_session.c.id == session_id, chat_session.c.state == RECORDING)
            .values(state=ENDED, ended_ms=at_ms)
        )

    def reopen(self, session: Session) -> Session:
        """Record into a session again that has ended."""
        self._connection.execute(
            update(chat_session).where(chat_session.c.id == session.id).values(state=RECORDING, ended_ms=None)
        )
        return replace(session, state=RECORDING, ended_ms=None)

    def disown(self, session_ids: Sequence[int] | None = None) -> None:
        """Make whoever writes these sessions (all: ``None``) look at what is there before it goes on.

        For who changes messages or chatters behind a recorder's back; in the transaction of the change.
        """
        statement = update(chat_session).values(writer="")
        if session_ids is not None:
            statement = statement.where(chat_session.c.id.in_(session_ids))
        self._connection.execute(statement)

    def _first(self, query: Select[Any]) -> Session | None:
        row = self._connection.execute(query).first()
        return None if row is None else _session(row)

    def _all(self, query: Executable, **values: object) -> list[Session]:
        return [_session(row) for row in self._connection.execute(query, values)]


_COLUMNS = tuple(chat_session.c[each.name] for each in fields(Session))


# Asked with every window: as a text it costs a third of what the same costs put together.
_OF_ITEM = text(
    f"SELECT {', '.join(column.name for column in _COLUMNS)} FROM chat_session"  # noqa: S608 - names of ours
    " WHERE vod_id = :vod_id ORDER BY base_ms, id"
)


def _query() -> Select[Any]:
    return select(*_COLUMNS)


def _session(row: Row[Any]) -> Session:
    values = row._asdict()
    pauses = msgspec.json.decode(values["pauses"], type=Pauses) if values["pauses"] else ()
    return Session(**{**values, "source": Source(values["source"]), "pauses": pauses})
