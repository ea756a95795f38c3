"""Brings what is in journals into the tables: the blocking half of the recorder, for one thread at a time.

A piece of the journal becomes messages of sessions, and is written in one transaction together with the position behind
it. When the transaction fails, or nobody can tell whether it did, the position in the database says where to go on.
Lines of channels that are not live are passed over; should a stream of theirs be noticed within three minutes, they are
found in the journal again.
"""

from __future__ import annotations

import os
import shutil
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from vodkeep.chat.irc import parse_line
from vodkeep.chat.journal import (
    JOINED,
    LEFT,
    Entry,
    Journal,
    Piece,
    Position,
    Reader,
    file_names,
    journal_folders,
    lines_since,
    lock_folder,
)
from vodkeep.chat.model import ChatMessage
from vodkeep.chat.sessions import RECORDING, Session, SessionStore
from vodkeep.chat.store import MessageWriter
from vodkeep.chat.tables import chat_journal, chat_spans
from vodkeep.chat.twitch_lines import message_of
from vodkeep.clock import Clock
from vodkeep.db.engine import Database
from vodkeep.db.upsert import insert_or_update
from vodkeep.errors import DatabaseUnavailable
from vodkeep.telemetry.log import Logger

PRE_ROLL_MS = 180_000
"""How long before a stream is noticed its first messages may have been said."""

_MOST_PRE_ROLL = 5_000  # messages
_SEEN_EVERY_MS = 5_000
_REFUSED = "refused-lines"

# A time that lies further off than this from when the line came is nonsense.
_BELIEVABLE_MS = 86_400_000

Route = Callable[[ChatMessage], Session | None]


class FlushMetrics(Protocol):
    """What the recorder counts; ``channel`` is a login, in lower case."""

    def chat_messages_stored(self, channel: str, count: int) -> None:
        """So many messages and events were committed."""
        ...

    def chat_spool_bytes(self, size: int) -> None:
        """So much is in the journal and not in the database."""
        ...

    def chat_flush(self, seconds: float) -> None:
        """How long one transaction took."""
        ...


@dataclass(slots=True)
class _Dead:
    """The journal of a process that is no more, which we hold the lock of."""

    reader: Reader
    lock: int
    done: bool = False


class Flusher:
    """Writes this process's journal, and those of processes that died, into the database.

    Everything blocks, and raises ``DatabaseUnavailable``; after that, calling again goes on where the database is.
    """

    def __init__(self, database: Database, journal: Journal, clock: Clock, log: Logger, metrics: FlushMetrics) -> None:
        self._database = database
        self._journal = journal
        self._root = journal.folder.parent
        self._clock = clock
        self._log = log
        self._metrics = metrics
        self._writer = MessageWriter(journal.recorder)
        self._reader = Reader(journal.folder, Position())
        self._in_step = False  # whether the reader stands where the database does
        self._routes: dict[str, Session] = {}
        self._begun: set[int] = set()
        self._present: set[str] = set()
        self._dead: dict[str, _Dead] = {}
        self._seen_ms = 0
        self.stored = 0
        """Messages and events since the start."""

    @property
    def position(self) -> Position:
        """Up to here the own journal is in the database."""
        return self._reader.position

    def session_of(self, channel: str) -> Session | None:
        """Where the channel's messages go."""
        return self._routes.get(channel)

    def left(self) -> int:
        """Bytes of all journals we know of that are not in the database."""
        return self._reader.left(self._journal.end) + sum(dead.reader.left() for dead in self._dead.values())

    def flush(self) -> bool:
        """Write the next piece of the own journal; ``False`` when there was none."""
        self._catch_up()
        end = self._journal.end
        piece = self._reader.read(end)
        if piece is None:
            self._reader.position = end
            self._move_presence()
            return False
        self._write(piece, self._journal.recorder, self._live_route, merge=False)
        for entry in piece.entries:
            if entry.event == JOINED:
                self._present.update(entry.words[:1])
            elif entry.event == LEFT:
                self._present.difference_update(entry.words[:1])
        passed = self._reader.position.file
        self._reader.position = piece.end
        if piece.end.file != passed:
            self._remove_old_files(piece.end.file)
        return True

    def begin(self, channel: str, session: Session, since_ms: int) -> int:
        """From now on the channel's lines go there, and those received from ``since_ms`` on that are already passed.

        Returns how many of the latter were stored.
        """
        self._catch_up()
        before = self._routes.get(channel)
        besides = [before] if before is not None and before.id != session.id else []
        earlier = self._pre_roll(channel, since_ms)
        if len(earlier) == _MOST_PRE_ROLL:
            since_ms = max(since_ms, min(each.sent_ms for each in earlier))
        messages = [each for each in earlier if each.sent_ms >= session.start_ms]
        with self._in_doubt(), self._database.unit_of_work() as unit:
            written = self._writer.write(unit.connection, session, messages, merge=True, besides=besides)
            SessionStore(unit.connection).note_beginning(session.id, max(since_ms, session.start_ms))
            unit.commit()
        self._writer.remember(written)
        self._count(channel, written.rows)
        self._routes[channel] = session
        self._begun.add(session.id)
        return written.rows

    def has_begun(self, channel: str, session: Session) -> bool:
        """Whether the channel's lines go there since a ``begin`` of this process."""
        current = self._routes.get(channel)
        return current is not None and current.id == session.id and session.id in self._begun

    def end(self, channel: str, at_ms: int) -> None:
        """The stream is over; what comes from now on belongs to none."""
        session = self._routes.get(channel)
        if session is None:
            return
        with self._database.unit_of_work() as unit:
            SessionStore(unit.connection).end(session.id, at_ms)
            unit.commit()
        del self._routes[channel]
        self._begun.discard(session.id)

    def release(self, channel: str) -> None:
        """What comes from now on belongs to none here; the session goes on elsewhere."""
        session = self._routes.pop(channel, None)
        if session is not None:
            self._begun.discard(session.id)

    def find_dead(self) -> None:
        """Look for journals of processes that are no more."""
        for folder in journal_folders(self._root):
            if folder.name in (self._journal.recorder, *self._dead):
                continue
            with suppress(FileNotFoundError):  # Who had its lock has removed it.
                lock = lock_folder(folder)
                if lock is not None:
                    self._dead[folder.name] = _Dead(Reader(folder, Position()), lock)

    def adopt(self) -> bool:
        """Write the next piece of a dead process's journal; ``False`` when nothing is left of any.

        What is there already stays as it is. A journal that is written is kept for as long as a stream may turn up
        whose first messages it holds, and then removed.
        """
        for recorder, dead in list(self._dead.items()):
            if dead.done:
                self._remove_if_old(recorder, dead)
                continue
            with self._database.unit_of_work(write=False) as unit:
                dead.reader.position = self._position_of(unit.connection, recorder)
            piece = dead.reader.read()
            if piece is not None:
                self._write(piece, recorder, self._route_by_time(piece), merge=True)
                dead.reader.position = piece.end
                return True
            self._close_spans(recorder)
            dead.done = True
            self._log.info("the journal of an earlier recorder is stored", recorder=recorder)
        return False

    def close(self) -> None:
        """Let go of the journals of others."""
        for dead in self._dead.values():
            os.close(dead.lock)
        self._dead.clear()

    # -- one piece

    def _write(self, piece: Piece, recorder: str, route: Route, *, merge: bool) -> None:
        try:
            self._write_at_once(piece, recorder, route, merge=merge)
        except DatabaseUnavailable:
            raise
        except Exception:  # noqa: BLE001  # a line that nobody foresaw must not stop all the others for ever
            self._log.warning("a piece of the journal cannot be stored as it is, line by line now", exc_info=True)
            self._write_line_by_line(piece, recorder, route)

    def _write_at_once(self, piece: Piece, recorder: str, route: Route, *, merge: bool) -> None:
        by_session: dict[int, list[ChatMessage]] = defaultdict(list)
        sessions: dict[int, Session] = {}
        for message in _messages(piece.entries):
            session = route(message)
            if session is not None:
                by_session[session.id].append(message)
                sessions[session.id] = session
        started = self._clock.monotonic()
        with self._in_doubt(), self._database.unit_of_work() as unit:
            written = [
                # In one order in all processes: two that write the same sessions must not wait for each other.
                (
                    session_id,
                    self._writer.write(unit.connection, sessions[session_id], by_session[session_id], merge=merge),
                )
                for session_id in sorted(by_session)
            ]
            self._note(unit.connection, piece, recorder)
            unit.commit()
        self._metrics.chat_flush(self._clock.monotonic() - started)
        for session_id, one in written:
            self._writer.remember(one)
            self._count(sessions[session_id].channel, one.rows)

    def _write_line_by_line(self, piece: Piece, recorder: str, route: Route) -> None:
        """Store what can be stored, put the other lines aside, and go behind the piece."""
        for entry in piece.entries:
            for line in entry.lines:
                try:
                    self._write_line(line, entry.at_ms, route)
                except DatabaseUnavailable:
                    raise
                except Exception:  # noqa: BLE001  # see above
                    self._put_aside(line, entry.at_ms)
        with self._in_doubt(), self._database.unit_of_work() as unit:
            self._note(unit.connection, piece, recorder)
            unit.commit()

    def _write_line(self, line: bytes, received_ms: int, route: Route) -> None:
        for message in _messages([Entry(received_ms, lines=[line])]):
            session = route(message)
            if session is not None:
                with self._in_doubt(), self._database.unit_of_work() as unit:
                    written = self._writer.write(unit.connection, session, [message], merge=True)
                    unit.commit()
                self._writer.remember(written)
                self._count(session.channel, written.rows)

    def _put_aside(self, line: bytes, received_ms: int) -> None:
        path = self._root / _REFUSED
        with path.open("ab") as file:
            file.write(b"%d %b\n" % (received_ms, line))
        self._log.error("a line of chat cannot be stored and was put aside", file=str(path), exc_info=True)

    def _note(self, connection: Connection, piece: Piece, recorder: str) -> None:
        """Write presence, and how far the journal is stored."""
        last_ms = max((entry.at_ms for entry in piece.entries), default=0)
        for entry in piece.entries:
            if entry.event == JOINED and entry.words:
                _open_span(connection, recorder, entry.words[0], entry.at_ms)
            elif entry.event == LEFT and entry.words:
                _end_span(connection, recorder, entry.words[0], entry.at_ms, " ".join(entry.words[1:]))
        if last_ms - self._seen_ms >= _SEEN_EVERY_MS or recorder != self._journal.recorder:
            _see(connection, recorder, last_ms)
            if recorder == self._journal.recorder:
                self._seen_ms = last_ms
        row = {"recorder": recorder, "file": piece.end.file, "position": piece.end.offset}
        insert_or_update(connection, chat_journal, row, key=("recorder",))

    def _count(self, channel: str, rows: int) -> None:
        self.stored += rows
        if rows:
            self._metrics.chat_messages_stored(channel, rows)

    # -- where to

    def _live_route(self, message: ChatMessage) -> Session | None:
        session = self._routes.get(message.channel)
        return session if session is not None and message.sent_ms >= session.start_ms else None

    def _route_by_time(self, piece: Piece) -> Route:
        """By what was live when a line of a dead process came."""
        first_ms = min((entry.at_ms for entry in piece.entries), default=0)
        with self._database.unit_of_work(write=False) as unit:
            found = SessionStore(unit.connection).live_since(first_ms - _BELIEVABLE_MS)
        by_channel: dict[str, list[Session]] = defaultdict(list)
        for session in found:
            by_channel[session.channel].append(session)

        def route(message: ChatMessage) -> Session | None:
            for session in reversed(by_channel.get(message.channel, ())):
                if session.start_ms <= message.sent_ms:
                    return session if _was_live(session, message.sent_ms) else None
            return None

        return route

    def _pre_roll(self, channel: str, since_ms: int) -> Sequence[ChatMessage]:
        """The channel's last messages received from then on; of the own journal only what is passed already."""
        mark = f"#{channel}".encode()
        found: deque[ChatMessage] = deque(maxlen=_MOST_PRE_ROLL)
        for folder in journal_folders(self._root):
            upto = self._reader.position if folder == self._journal.folder else None
            for line, received_ms in lines_since(folder, since_ms, upto):
                if mark in line:
                    messages = _messages([Entry(received_ms, lines=[line])])
                    found.extend(message for message in messages if message.channel == channel)
        return found

    # -- where we are

    def _catch_up(self) -> None:
        """Stand where the database does; after an error nobody knows whether the commit was done."""
        if self._in_step:
            return
        with self._database.unit_of_work(write=False) as unit:
            position = self._position_of(unit.connection, self._journal.recorder)
            recording = SessionStore(unit.connection).recording()
            present = select(chat_spans.c.channel).where(*_open_spans_of(self._journal.recorder))
            self._present = set(unit.connection.execute(present).scalars())
        self._reader.position = position
        for session in recording:
            # What was being recorded when an earlier process ended goes on, until somebody says that it is over.
            if session.channel not in self._routes:
                self._routes[session.channel] = session
        self._in_step = True

    @contextmanager
    def _in_doubt(self) -> Iterator[None]:
        """A transaction, of which an error does not say whether it was committed."""
        try:
            yield
        except BaseException:
            self._in_step = False
            raise

    def _position_of(self, connection: Connection, recorder: str) -> Position:
        query = select(chat_journal.c.file, chat_journal.c.position).where(chat_journal.c.recorder == recorder)
        row = connection.execute(query).first()
        return Position() if row is None else Position(row.file, row.position)

    def _move_presence(self) -> None:
        """Say that we are still there, also where nobody says anything."""
        now_ms = round(self._clock.now().timestamp() * 1000)
        if self._present and now_ms - self._seen_ms >= _SEEN_EVERY_MS:
            with self._database.unit_of_work() as unit:
                _see(unit.connection, self._journal.recorder, now_ms)
                unit.commit()
            self._seen_ms = now_ms

    def _close_spans(self, recorder: str) -> None:
        """A killed process was there as long as it was seen, and then no more; its journal has no more to say."""
        with self._database.unit_of_work() as unit:
            unit.connection.execute(
                update(chat_spans)
                .where(*_open_spans_of(recorder))
                .values(ended_ms=chat_spans.c.seen_ms, reason="the recorder was ended")
            )
            unit.commit()

    # -- files that are no longer needed

    def _remove_old_files(self, current: str) -> None:
        oldest_s = self._clock.now().timestamp() - PRE_ROLL_MS / 1000
        for name in file_names(self._journal.folder):
            path = self._journal.folder / name
            if name < current and path.stat().st_mtime < oldest_s:
                path.unlink()

    def _remove_if_old(self, recorder: str, dead: _Dead) -> None:
        oldest_s = self._clock.now().timestamp() - PRE_ROLL_MS / 1000
        folder = dead.reader.folder
        if any((folder / name).stat().st_mtime > oldest_s for name in file_names(folder)):
            return
        # The folder first: a row without one does no harm, and a folder without its row would be read again.
        shutil.rmtree(folder)
        with self._database.unit_of_work() as unit:
            unit.connection.execute(delete(chat_journal).where(chat_journal.c.recorder == recorder))
            unit.commit()
        del self._dead[recorder]
        os.close(dead.lock)


def _was_live(session: Session, at_ms: int) -> bool:
    """Whether the stream may have been live then; a little of what came after is better than losing a word of it."""
    if session.state == RECORDING or session.ended_ms is None:
        return True
    # Somebody found it over when its recorder was dead, and knew of no later sign of it than its last message.
    ended_unseen = session.ended_ms == session.last_ms
    return ended_unseen or at_ms <= session.ended_ms + PRE_ROLL_MS


def _messages(entries: Iterable[Entry]) -> Iterator[ChatMessage]:
    """What the lines mean to us, with times that can be believed."""
    for entry in entries:
        for raw in entry.lines:
            line = parse_line(raw)
            message = None if line is None else message_of(line, entry.at_ms)
            if message is not None:
                if abs(message.sent_ms - entry.at_ms) > _BELIEVABLE_MS:
                    message.sent_ms = entry.at_ms
                yield message


def _open_spans_of(recorder: str) -> tuple[ColumnElement[bool], ...]:
    return chat_spans.c.recorder == recorder, chat_spans.c.ended_ms.is_(None)


def _open_span(connection: Connection, recorder: str, channel: str, at_ms: int) -> None:
    _end_span(connection, recorder, channel, at_ms, "joined anew")
    connection.execute(insert(chat_spans).values(channel=channel, started_ms=at_ms, seen_ms=at_ms, recorder=recorder))


def _end_span(connection: Connection, recorder: str, channel: str, at_ms: int, reason: str) -> None:
    connection.execute(
        update(chat_spans)
        .where(*_open_spans_of(recorder), chat_spans.c.channel == channel)
        .values(ended_ms=at_ms, seen_ms=at_ms, reason=reason)
    )


def _see(connection: Connection, recorder: str, at_ms: int) -> None:
    connection.execute(
        update(chat_spans).where(*_open_spans_of(recorder), chat_spans.c.seen_ms < at_ms).values(seen_ms=at_ms)
    )
