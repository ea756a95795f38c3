"""Fills the gaps of an item's chat from the VOD's own comments, and says how complete it is.

A stretch of the broadcast counts as known when a recorder was in the channel and the item has what it recorded, or when
the comments of that stretch were read to its end. Only the rest is asked for, a little wider than the gap; what comes
in is merged by message id. Each piece is committed together with how far it reaches, so that a run that was killed goes
on from there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from sqlalchemy import Connection, delete, func, insert, or_, select

from vodkeep.chat.comment_pages import Comment, Taken, message_of
from vodkeep.chat.erasure import ErasureStore
from vodkeep.chat.ids import LAST_OFFSET_MS
from vodkeep.chat.model import ChatMessage, Source
from vodkeep.chat.picture_time import Pauses, to_clock, to_picture
from vodkeep.chat.sessions import Session, SessionStore, base_of
from vodkeep.chat.store import merge_messages
from vodkeep.chat.stretches import Stretch, covered, joined, shrunk, within, without
from vodkeep.chat.tables import chat_read, chat_spans
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.errors import PermanentError, TransientError, VodkeepError
from vodkeep.telemetry.log import Logger

MARGIN_MS = 5_000
"""A recorder's presence counts from this much after it joined until this much before it left."""

_PIECE = 1_000  # comments in one transaction
_SLACK_MS = 30_000  # so far apart may the recorder's and the comment's time of one message be
# Far enough behind the end for a session that nobody writes any more.
_ROOM_MS = 10_000


class Comments(Protocol):
    """Where a VOD's own chat is read from; ``chat.comments.CommentsClient``."""

    def read(self, video_id: str, start_ms: int, end_ms: int) -> AsyncIterator[Taken]:
        """What was said in that stretch of the video, page by page."""
        ...


@dataclass(frozen=True, slots=True)
class Broadcast:
    """The item whose chat is filled."""

    vod_id: str
    channel: str  # login
    stream_id: str | None
    start_ms: int  # of its picture, Unix milliseconds
    duration_ms: int
    pauses: Pauses = ()  # of its picture


@dataclass(frozen=True, slots=True)
class Filled:
    """What is there now."""

    messages: int  # what people said
    completeness: float  # 0..1, exactly 1.0 only without a gap
    gaps: tuple[Stretch, ...] = ()  # ms of the broadcast, of which nothing is known
    added: int = 0  # in this run
    reason: VodkeepError | None = None  # why there are gaps left


@dataclass(slots=True)
class _State:
    sessions: list[Session] = field(default_factory=list)
    known: list[Stretch] = field(default_factory=list)  # of the broadcast, ms


class ChatFiller:
    """Sees to it that an item has as much of its chat as can be had."""

    def __init__(self, database: Database, comments: Comments | None, log: Logger) -> None:
        """``database`` is that of chat; without ``comments`` nothing is fetched."""
        self._database = database
        self._comments = comments
        self._log = log

    async def fill(self, broadcast: Broadcast, *, last_chance: bool = False) -> Filled:
        """Fetch what is missing. Transient errors are raised, unless it is the ``last_chance``."""

        def tie(unit: UnitOfWork) -> _State:
            state = _tie(unit.connection, broadcast)
            unit.commit()
            return state

        state = await self._database.run(tie)
        gaps = without([(0, broadcast.duration_ms)], state.known)
        reason: VodkeepError | None = None
        added = 0
        if gaps and self._comments is None:
            reason = PermanentError(
                "The chat was not recorded all the time, and the comments of VODs are switched off.",
                code="chat_import_off",
                remedy="Set CHAT_VOD_IMPORT=1 and reprocess the item, as long as Twitch has the VOD.",
            )
        elif gaps and not broadcast.vod_id.isdecimal():
            reason = PermanentError("The chat was not recorded all the time, and Twitch has no VOD.", code="no_vod")
        elif gaps and self._comments is not None:
            self._log.info(
                "chat gaps are filled", vod_id=broadcast.vod_id, gaps=len(gaps), missing_ms=sum(b - a for a, b in gaps)
            )
            try:
                for gap in gaps:
                    added += await self._fill_gap(self._comments, broadcast, gap)
            except PermanentError as error:
                reason = error
            except TransientError as error:
                if not last_chance:
                    raise
                reason = error

        def look(unit: UnitOfWork) -> Filled:
            now = _look(unit.connection, broadcast)
            left = without([(0, broadcast.duration_ms)], now.known)
            messages = sum(session.messages for session in now.sessions)
            return Filled(
                messages, covered(now.known, broadcast.duration_ms), tuple(left), added, reason or _unread(left)
            )

        return await self._database.run(look, write=False)

    async def _fill_gap(self, comments: Comments, broadcast: Broadcast, gap: Stretch) -> int:
        """Read one gap, piece by piece; returns how many messages were not there yet."""
        start_ms, end_ms = max(0, gap[0] - 1000), gap[1]
        pending: list[Comment] = []
        read: list[Stretch] = []
        position, added = start_ms, 0
        async for taken in comments.read(broadcast.vod_id, start_ms, end_ms):
            pending += taken.comments
            # A hole is not read; what lies before and behind it is.
            read += without([(position, min(taken.known_to_ms, end_ms))], taken.holes)
            position = max(position, min(taken.known_to_ms, end_ms))
            if len(pending) >= _PIECE:
                added += await self._save(broadcast, pending, read)
                pending, read = [], []
        return added + await self._save(broadcast, pending, read)

    async def _save(self, broadcast: Broadcast, comments: Sequence[Comment], read: Sequence[Stretch]) -> int:
        messages = [
            message_of(each, channel=broadcast.channel, start_ms=broadcast.start_ms, pauses=broadcast.pauses)
            for each in comments
        ]

        def work(unit: UnitOfWork) -> int:
            added = merge_into_item(unit.connection, broadcast, messages)
            save_read(unit.connection, broadcast.vod_id, read)
            unit.commit()
            return added

        return await self._database.run(work)


def merge_into_item(connection: Connection, broadcast: Broadcast, messages: Sequence[ChatMessage]) -> int:
    """Store those of ``messages`` that the item does not have and nobody had erased; the caller commits.

    A message goes to the session whose time it lies in, and to one of the item's own where there is none.
    """
    erased = ErasureStore(connection).load()
    wanted = [erased.scrubbed(message) for message in messages if not erased.covers(message)]
    if not wanted:
        return 0
    sessions = SessionStore(connection).of_item(broadcast.vod_id)
    if not sessions:
        sessions = [_open_own(connection, broadcast, wanted[0].source)]
    parts: dict[int, list[ChatMessage]] = {}
    for message in sorted(wanted, key=lambda each: each.sent_ms):
        home = _home_of(message.sent_ms, sessions)
        if home is not None:
            parts.setdefault(home.id, []).append(message)
    added = 0
    for session in sessions:
        if part := parts.get(session.id):
            others = [other for other in sessions if other.id != session.id]
            added += merge_messages(connection, session, part, besides=others, slack_ms=_SLACK_MS)
    return added


def save_read(connection: Connection, vod_id: str, read: Sequence[Stretch]) -> None:
    """These stretches of the VOD's chat are read; the caller commits."""
    if not joined(read):
        return
    whole = joined([*load_read(connection, vod_id), *read])
    connection.execute(delete(chat_read).where(chat_read.c.vod_id == vod_id))
    connection.execute(
        insert(chat_read), [{"vod_id": vod_id, "start_ms": start, "end_ms": end} for start, end in whole]
    )


def load_read(connection: Connection, vod_id: str) -> list[Stretch]:
    """Which stretches of the VOD's chat were read."""
    query = select(chat_read.c.start_ms, chat_read.c.end_ms).where(chat_read.c.vod_id == vod_id)
    return [(row.start_ms, row.end_ms) for row in connection.execute(query.order_by(chat_read.c.start_ms))]


def _tie(connection: Connection, broadcast: Broadcast) -> _State:
    """Make the stream's recorded chat the item's if it is not yet, and lay it to the picture."""
    store = SessionStore(connection)
    if broadcast.stream_id is not None:
        live = store.by_stream(broadcast.channel, broadcast.stream_id)
        if live is not None and live.vod_id != broadcast.vod_id:
            store.link(live.id, broadcast.vod_id, live.base_ms - broadcast.start_ms, broadcast.pauses)
    for session in store.of_item(broadcast.vod_id):
        place = (session.base_ms - broadcast.start_ms, broadcast.pauses)
        if (session.vod_offset_ms, session.pauses) != place:
            store.link(session.id, broadcast.vod_id, *place)
    return _look(connection, broadcast)


def _look(connection: Connection, broadcast: Broadcast) -> _State:
    sessions = SessionStore(connection).of_item(broadcast.vod_id)
    place_at = partial(to_picture, pauses=broadcast.pauses)
    # The last word of a session that is still being recorded is as far as it goes.
    recorded = [
        (
            _recorded_from(session),
            session.ended_ms if session.ended_ms is not None else session.last_ms or session.start_ms,
        )
        for session in sessions
        if session.source is Source.LIVE
    ]
    end_ms = broadcast.start_ms + to_clock(broadcast.duration_ms, broadcast.pauses)
    present = shrunk(_load_presence(connection, broadcast.channel, broadcast.start_ms, end_ms), MARGIN_MS)
    heard = [
        (place_at(start - broadcast.start_ms), place_at(end - broadcast.start_ms))
        for start, end in within(present, recorded)
    ]
    read = load_read(connection, broadcast.vod_id)
    return _State(sessions, within([*heard, *read], [(0, broadcast.duration_ms)]))


def _recorded_from(session: Session) -> int:
    """A stream that was noticed late has only so much of what came before."""
    return session.start_ms if session.recorded_from_ms is None else session.recorded_from_ms


def _load_presence(connection: Connection, channel: str, start_ms: int, end_ms: int) -> list[Stretch]:
    ended = func.coalesce(chat_spans.c.ended_ms, chat_spans.c.seen_ms)
    query = select(chat_spans.c.started_ms, ended).where(
        chat_spans.c.channel == channel,
        chat_spans.c.started_ms < end_ms,
        or_(chat_spans.c.ended_ms.is_(None), chat_spans.c.ended_ms > start_ms),
    )
    return [(row[0], row[1]) for row in connection.execute(query)]


def _open_own(connection: Connection, broadcast: Broadcast, source: Source) -> Session:
    """A session for what no recorder brought."""
    store = SessionStore(connection)
    base_ms = base_of(broadcast.start_ms)
    session = store.open(
        broadcast.channel,
        base_ms=base_ms,
        vod_id=broadcast.vod_id,
        vod_offset_ms=base_ms - broadcast.start_ms,
        source=source,
    )
    store.link(session.id, broadcast.vod_id, session.vod_offset_ms, broadcast.pauses)
    store.end(session.id, broadcast.start_ms + to_clock(broadcast.duration_ms, broadcast.pauses))
    ended = store.get(session.id)
    assert ended is not None
    return ended


def _home_of(sent_ms: int, sessions: Sequence[Session]) -> Session | None:
    """The last session that begins before the message; the first one for what lies before all of them."""
    begun = [session for session in sessions if session.base_ms <= sent_ms]
    home = begun[-1] if begun else sessions[0]
    return home if 0 <= sent_ms - home.base_ms < LAST_OFFSET_MS - _ROOM_MS else None


def _unread(left: Sequence[Stretch]) -> VodkeepError | None:
    if not left:
        return None
    return PermanentError(
        f"{len(left)} stretches of the chat hold more in a second than Twitch gives out.", code="chat_too_dense"
    )
