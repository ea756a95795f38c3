"""Chat messages for tests, each different from the others."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from sqlalchemy import select

from vodkeep.chat.ids import MARGIN_MS, offset_of, session_of, unpack_uuid
from vodkeep.chat.model import ChatMessage, Chatter, Kind, Source
from vodkeep.chat.sessions import Session, SessionStore, base_of
from vodkeep.chat.tables import chat_message, chat_session
from vodkeep.db.engine import Database

START_MS = 1_760_000_000_000
"""When the stream of :func:`a_session` began."""


def a_chatter(number: int = 1, **changes: str) -> Chatter:
    values = {"login": f"user{number}", "display_name": f"User{number}", "color": "#FF0000", "badges": "vip/1"}
    return Chatter(user_id=str(number), **{**values, **changes})


def a_message(number: int, *, after_ms: int | None = None, **changes: object) -> ChatMessage:
    """The message with that number, sent ``after_ms`` (its number) after the stream's start."""
    values: dict[str, object] = {
        "channel": "chan",
        "kind": Kind.MESSAGE,
        "sent_ms": START_MS + (number if after_ms is None else after_ms),
        "chatter": a_chatter(number % 7),
        "body": f"message {number}",
        "emotes": "",
        "msg_id": message_id(number),
        "reply_to": None,
        "extra": {},
    }
    return ChatMessage(**{**values, **changes})  # type: ignore[arg-type]


def message_id(number: int) -> str:
    return str(uuid.UUID(int=number))


def a_session(database: Database, channel: str = "chan", **changes: object) -> Session:
    """A session of a stream that began at ``START_MS``."""
    values: Mapping[str, object] = {"stream_id": "s1", "base_ms": base_of(START_MS), "source": Source.LIVE, **changes}
    with database.unit_of_work() as unit:
        session = SessionStore(unit.connection).open(channel, **values)  # type: ignore[arg-type]
        unit.commit()
    return session


def stored_ids(database: Database, session_id: int | None = None) -> list[str]:
    """The UUIDs of all stored messages, in their order; one that is there twice is there twice."""
    query = select(chat_message.c.id, chat_message.c.msg_id).order_by(chat_message.c.id)
    with database.unit_of_work(write=False) as unit:
        rows = unit.connection.execute(query).all()
    return [unpack_uuid(bytes(row[1])) for row in rows if session_id in (None, session_of(row[0]))]


def stored_times(database: Database) -> dict[str, int]:
    """When each message was sent, ms after the stream's start, as its number says."""
    with database.unit_of_work(write=False) as unit:
        rows = unit.connection.execute(select(chat_message.c.id, chat_message.c.msg_id)).all()
    return {unpack_uuid(bytes(row[1])): offset_of(row[0]) - MARGIN_MS for row in rows}


def reload(database: Database, session: Session) -> Session:
    with database.unit_of_work(write=False) as unit:
        found = SessionStore(unit.connection).get(session.id)
    assert found is not None
    return found


def writer_of(database: Database, session: Session) -> str:
    with database.unit_of_work(write=False) as unit:
        query = select(chat_session.c.writer).where(chat_session.c.id == session.id)
        return str(unit.connection.execute(query).scalar_one())
