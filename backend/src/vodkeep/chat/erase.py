"""Takes a person out of the chats: rows, names, activity, search index, quotations, and the recorders' journals.

Everything happens in short transactions of one piece each, beside a service that goes on recording. That what was
erased does not come in again is written first (``chat/erasure.py``). Blocking.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, or_, select, update

from vodkeep.chat import search_index
from vodkeep.chat.ids import offset_of
from vodkeep.chat.journal import FOLDER, file_names, journal_folders
from vodkeep.chat.model import Kind
from vodkeep.chat.sessions import SessionStore
from vodkeep.chat.store import BUCKET_MS
from vodkeep.chat.tables import chat_bucket, chat_clear, chat_message, chat_session, chatter
from vodkeep.db.engine import Database

_PIECE = 50_000  # numbers looked at in one transaction
_SAID = frozenset({int(Kind.MESSAGE), int(Kind.ACTION), int(Kind.USER_NOTICE)})
# What of a message shows the words or the name of the person it is about.
_WORDS = ("reply_body", "reply_name", "system", "text")
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody as the chats know them, under every name they had."""

    user_ids: frozenset[str]
    logins: frozenset[str]
    chatters: frozenset[int]  # rows

    @property
    def is_known(self) -> bool:
        """Whether anything is known of them."""
        return bool(self.chatters)

    def is_named(self, value: object) -> bool:
        """Whether a value is one of their ids or logins."""
        return isinstance(value, str) and (value in self.user_ids or value.lower() in self.logins)


@dataclass(slots=True)
class Tally:
    """What was found, and removed unless it was only looked for."""

    messages: int = 0  # what they said, and events about them
    quotations: int = 0  # of them in messages of others
    sessions: int = 0  # with either
    journal_lines: int = 0
    files: int = 0  # of items, with any of it


def find_person(connection: Connection, name: str) -> Person:
    """The person of this id or login, also under the other names of the same account."""
    wanted = name.strip().removeprefix("@")
    login = wanted.lower()
    first = connection.execute(
        select(chatter.c.user_id, chatter.c.login).where(or_(chatter.c.user_id == wanted, chatter.c.login == login))
    ).all()
    user_ids = {row.user_id for row in first if row.user_id}
    if wanted.isdecimal():
        user_ids.add(wanted)
    rows = connection.execute(
        select(chatter.c.id, chatter.c.login).where(or_(chatter.c.user_id.in_(user_ids), chatter.c.login == login))
    ).all()
    logins = {row.login for row in rows if row.login} | ({login} if not wanted.isdecimal() else set())
    return Person(frozenset(user_ids), frozenset(logins), frozenset(row.id for row in rows))


def scrubbed(extra: Mapping[str, object], person: Person) -> dict[str, object] | None:
    """What is left of a message's ``extra`` without the person; ``None`` when it does not name them."""
    named = [key for key, value in extra.items() if person.is_named(value)]
    params = extra.get("params")
    named_params = [key for key, value in params.items() if person.is_named(value)] if isinstance(params, dict) else []
    if not named and not named_params:
        return None
    gone = {*named, *_WORDS, *(("params",) if named_params else ())}
    return {key: value for key, value in extra.items() if key not in gone}


def concerns(kind: int, extra: Mapping[str, object], person: Person) -> bool:
    """Whether an event is about what the person did: a ban, a timeout, a deleted message."""
    is_event = kind in (Kind.CLEAR_USER, Kind.CLEAR_MESSAGE)
    return is_event and (person.is_named(extra.get("target_user_id")) or person.is_named(extra.get("target_login")))


def erase_rows(database: Database, person: Person, *, dry_run: bool, check: Callable[[], None]) -> Tally:
    """Remove the person's messages from every session, and what quotes them."""
    tally = Tally()
    with database.unit_of_work(write=False) as unit:
        sessions = list(unit.connection.execute(select(chat_session.c.id).order_by(chat_session.c.id)).scalars())
    for session_id in sessions:
        before = tally.messages + tally.quotations
        after, last = (session_id << 32) - 1, (session_id + 1) << 32
        while True:
            check()
            with database.unit_of_work(write=not dry_run) as unit:
                end = _end_of_piece(unit.connection, after, last)
                _erase_piece(unit.connection, session_id, after, end, person, tally, dry_run=dry_run)
                if not dry_run:
                    unit.commit()
            if end >= last:
                break
            after = end - 1
        tally.sessions += tally.messages + tally.quotations > before
    if not dry_run:
        with database.unit_of_work() as unit:
            unit.connection.execute(delete(chatter).where(chatter.c.id.in_(person.chatters)))
            # What recorders remember of stored chatters is no longer so.
            SessionStore(unit.connection).disown()
            unit.commit()
    return tally


def erase_journals(root: Path, person: Person, *, dry_run: bool, check: Callable[[], None]) -> int:
    """Blank out the person's lines in the journals below ``root`` (DATA_DIR); returns how many there were.

    Each byte is overwritten where it stands, so that no position moves and the recorder may go on appending.
    """
    found = 0
    for folder in journal_folders(root / FOLDER) if (root / FOLDER).is_dir() else []:
        for name in file_names(folder):
            check()
            with suppress(FileNotFoundError), (folder / name).open("rb" if dry_run else "r+b", buffering=0) as file:
                position = 0
                while piece := _whole_lines(file.read(1 << 20)):
                    for start, end, blank in _lines_of(piece, person):
                        found += 1
                        if not dry_run:
                            file.seek(position + start)
                            file.write(blank[: end - start])
                    position += len(piece)
                    file.seek(position)
    return found


def _end_of_piece(connection: Connection, after: int, last: int) -> int:
    """The number that the piece behind ``after`` ends before."""
    query = (
        select(chat_message.c.id)
        .where(chat_message.c.id > after, chat_message.c.id < last)
        .order_by(chat_message.c.id)
        .offset(_PIECE)
        .limit(1)
    )
    return connection.execute(query).scalar_one_or_none() or last


def _erase_piece(
    connection: Connection, session_id: int, after: int, end: int, person: Person, tally: Tally, *, dry_run: bool
) -> None:
    query = select(chat_message.c.id, chat_message.c.kind, chat_message.c.chatter_id, chat_message.c.extra).where(
        chat_message.c.id > after, chat_message.c.id < end, _may_concern(person)
    )
    gone: dict[int, int] = {}
    changed: dict[int, str | None] = {}
    for number, kind, chatter_id, told in connection.execute(query):
        extra = msgspec.json.decode(told, type=dict[str, object]) if told else {}
        if chatter_id in person.chatters or concerns(kind, extra, person):
            gone[number] = kind
        elif (left := scrubbed(extra, person)) is not None:
            changed[number] = msgspec.json.encode(left).decode() if left else None
    tally.messages += len(gone)
    tally.quotations += len(changed)
    if dry_run or not (gone or changed):
        return
    numbers = sorted(gone)
    # Held until the commit, so that a recorder that is writing it counts before or after.
    connection.execute(select(chat_session.c.id).where(chat_session.c.id == session_id).with_for_update())
    search_index.forget(connection, numbers)
    for start in range(0, len(numbers), 500):
        some = numbers[start : start + 500]
        for table in (chat_clear, chat_message):
            connection.execute(delete(table).where(table.c.id.in_(some)))
    for number, extra_left in changed.items():
        connection.execute(update(chat_message).where(chat_message.c.id == number).values(extra=extra_left))
    said = Counter(offset_of(number) // BUCKET_MS for number, kind in gone.items() if kind in _SAID)
    for bucket, count in said.items():
        connection.execute(
            update(chat_bucket)
            .where(chat_bucket.c.session_id == session_id, chat_bucket.c.bucket == bucket)
            .values(n=chat_bucket.c.n - count)
        )
    connection.execute(
        update(chat_session)
        .where(chat_session.c.id == session_id)
        .values(messages=chat_session.c.messages - said.total(), revision=chat_session.c.revision + 1, writer="")
    )


def _may_concern(person: Person) -> ColumnElement[bool]:
    """A condition that every row in question meets, and few others."""
    names = [*person.user_ids, *person.logins]
    quoted = [chat_message.c.extra.icontains(f'"{name}"', autoescape=True) for name in names]
    return or_(chat_message.c.chatter_id.in_(person.chatters), *quoted)


_QUOTED_TAG = re.compile(
    rb"@?(?:reply-parent-(?:msg-body|display-name|user-login|user-id)|reply-thread-parent-user-login)="
)


def _lines_of(piece: bytes, person: Person) -> Iterator[tuple[int, int, bytes]]:
    """Start, end and what takes the place of what concerns the person, within ``piece``."""
    names = [name.encode() for name in (*person.user_ids, *person.logins)]
    ids = "|".join(map(re.escape, sorted(person.user_ids))) or "(?!)"
    logins = "|".join(map(re.escape, sorted(person.logins))) or "(?!)"
    theirs = re.compile(
        rf"[@;](?:user-id|target-user-id)=(?:{ids})[; ]|[ ]:(?:{logins})!|[@;]login=(?:{logins})[; ]"
        rf"|[ ]CLEARCHAT [#]\w+ :(?:{logins})\r?$".encode()
    )
    quotes = re.compile(rf"reply-parent-user-(?:id=(?:{ids})|login=(?:{logins}))[; ]".encode())
    start = 0
    for line in piece.split(b"\n"):
        end = start + len(line)
        if any(name in line for name in names):
            if theirs.search(line):
                yield start, end, b" " * len(line)
            elif quotes.search(line):
                yield start, end, _without_quotation(line)
        start = end + 1


def _without_quotation(line: bytes) -> bytes:
    """The line with dashes for the values of its quotation, as long as before."""
    tags, space, rest = line.partition(b" ")
    kept = [
        part.partition(b"=")[0] + b"=" + b"-" * len(part.partition(b"=")[2]) if _QUOTED_TAG.match(part) else part
        for part in tags.split(b";")
    ]
    return b";".join(kept) + space + rest


def _whole_lines(piece: bytes) -> bytes:
    """``piece`` up to its last line end; all of it when it has none."""
    return piece[: piece.rfind(b"\n") + 1] or piece
