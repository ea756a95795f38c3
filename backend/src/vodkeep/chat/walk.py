"""An item's whole chat in its order, a page at a time: what exports are written from."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, RowMapping, select

from vodkeep.chat.ids import offset_of, pack_msg_id, pack_uuid, unpack_uuid
from vodkeep.chat.model import ChatMessage, Chatter, Kind, Source
from vodkeep.chat.places import place_of
from vodkeep.chat.sessions import Session, SessionStore
from vodkeep.chat.tables import chat_message, chatter
from vodkeep.db.engine import Database

PAGE = 2000

_MOST_CHATTERS = 20_000


@dataclass(frozen=True, slots=True)
class Placed:
    """A message at its place in the broadcast."""

    offset_ms: int  # on the item's timeline; negative before the picture begins
    message: ChatMessage


def _nothing() -> None:
    """Nobody wants it stopped."""


def load_sessions(database: Database, vod_id: str) -> list[Session]:
    """The sessions of an item; blocking."""
    with database.unit_of_work(write=False) as unit:
        return SessionStore(unit.connection).of_item(vod_id)


def walk(
    database: Database, sessions: Sequence[Session], *, page: int = PAGE, check: Callable[[], None] = _nothing
) -> Iterator[Placed]:
    """Every message of the sessions by its place, whichever of them has it; blocking.

    Holds a page of each session, and no transaction between two pages. ``check`` is called before each; what it raises
    ends the walk.
    """
    walks = [_walk_session(database, session, page, check) for session in sessions]
    return heapq.merge(*walks, key=lambda placed: placed.offset_ms)


def _walk_session(database: Database, session: Session, page: int, check: Callable[[], None]) -> Iterator[Placed]:
    after = (session.id << 32) - 1
    known: dict[int, Chatter] = {}
    while True:
        check()
        with database.unit_of_work(write=False) as unit:
            rows = _load_page(unit.connection, session, after, page)
            if len(known) > _MOST_CHATTERS:
                known.clear()
            wanted = {row["chatter_id"] for row in rows if row["chatter_id"] is not None}
            known |= load_chatters(unit.connection, wanted - known.keys())
        for row in rows:
            yield _placed(session, row, known)
        if len(rows) < page:
            return
        after = rows[-1]["id"]


def _load_page(connection: Connection, session: Session, after: int, page: int) -> list[RowMapping]:
    query = (
        select(*chat_message.c)
        .where(chat_message.c.id > after, chat_message.c.id < (session.id + 1) << 32)
        .order_by(chat_message.c.id)
        .limit(page)
    )
    return list(connection.execute(query).mappings())


def load_chatters(connection: Connection, ids: set[int]) -> dict[int, Chatter]:
    """The chatters of these numbers, as far as there are any."""
    found: dict[int, Chatter] = {}
    pending = sorted(ids)
    for start in range(0, len(pending), 500):
        query = select(*chatter.c).where(chatter.c.id.in_(pending[start : start + 500]))
        for row in connection.execute(query):
            found[row.id] = Chatter(row.user_id, row.login, row.display_name, row.color, row.badges)
    return found


def _placed(session: Session, row: RowMapping, known: dict[int, Chatter]) -> Placed:
    offset_ms = offset_of(row["id"])
    extra = msgspec.json.decode(row["extra"], type=dict[str, object]) if row["extra"] else {}
    message = ChatMessage(
        channel=session.channel,
        kind=Kind(row["kind"]),
        sent_ms=session.base_ms + offset_ms,
        chatter=known.get(row["chatter_id"]),
        body=row["body"],
        emotes=row["emotes"] or "",
        msg_id=_id_of(bytes(row["msg_id"]), extra),
        reply_to=unpack_uuid(bytes(row["reply_id"])) if row["reply_id"] is not None else None,
        extra=extra,
        source=Source(row["source"]),
    )
    return Placed(place_of(row["id"], session), message)


def _id_of(packed: bytes, fields: dict[str, object]) -> str:
    """The id as it came: from its bytes, or from ``fields``, where one that is no UUID is kept."""
    told = fields.get("id")
    if isinstance(told, str) and pack_uuid(told) is None and pack_msg_id(told) == packed:
        del fields["id"]
        return told
    return unpack_uuid(packed)
