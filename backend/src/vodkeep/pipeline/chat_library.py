"""What people do with the chats of items: take them out as files, bring files in, erase a person. Blocking throughout.

All of it works on the databases and the folders, so it does not matter whether a service runs on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import update

from vodkeep.chat import ndjson, search_index
from vodkeep.chat.erase import Person, Tally, concerns, erase_journals, erase_rows, find_person, scrubbed
from vodkeep.chat.erasure import ErasureStore
from vodkeep.chat.files import UnreadableFile, compressed, write_chat
from vodkeep.chat.fill import Broadcast, Filled
from vodkeep.chat.forms import Form
from vodkeep.chat.model import Kind
from vodkeep.chat.walk import Placed, load_sessions, walk
from vodkeep.chat.zstd import ZstdError, ZstdFile
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.tables import vods
from vodkeep.errors import DatabaseUnavailable, RequestRefused, UnknownItem
from vodkeep.keep.additions import put_file
from vodkeep.keep.fixity import find_folders
from vodkeep.keep.library import load_manifest_quietly
from vodkeep.keep.manifest import CHAT_NAME, Manifest
from vodkeep.pipeline.chat_stage import Subject, count_messages, head_of, load_subject, merge_file, write_into_folder
from vodkeep.pipeline.model import QueueItem
from vodkeep.pipeline.store import QueueStore

_LONGEST_LINE = 1024 * 1024
_SAID = frozenset({Kind.MESSAGE, Kind.ACTION, Kind.USER_NOTICE})

Check = Callable[[], None]


def _go_on() -> None:
    """Nobody wants it stopped."""


@dataclass(frozen=True, slots=True)
class Export:
    """An item's chat on its way out."""

    name: str  # of a file that could hold it
    pieces: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Imported:
    """What a file brought."""

    found: int  # messages in it
    added: int  # of them were not there yet
    in_folder: bool  # whether the item's folder has them too


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was taken away of a person, or would be."""

    person: Person
    tally: Tally
    unreadable: tuple[str, ...] = ()  # files that could not be looked into, relative to the library
    is_purged: bool = True  # nothing of it is left in parts of the chat database's file that are no longer used


class ChatLibrary:
    """The chats of one archive."""

    def __init__(self, database: Database, chat_database: Database, library: Path) -> None:
        self._database = database
        self._chat = chat_database
        self._library = library

    def export(self, item_id: str, form: Form, *, check: Check = _go_on) -> Export:
        """The item's chat in a form; raises `UnknownItem`, and `RequestRefused` when nothing is kept of it."""
        with self._database.unit_of_work(write=False) as unit:
            item = _item(unit, item_id)
            broadcast, manifest = self._broadcast(unit, item)
            summary = QueueStore(unit.connection).summary(item_id)
        sessions = load_sessions(self._chat, item_id)
        if not sessions:
            raise RequestRefused(f"Nothing is kept of the chat of item {item_id}.", code="no_chat")
        known = manifest.chat if manifest is not None else None
        head = head_of(broadcast, known.completeness if known is not None else None)
        pieces = write_chat(
            form,
            head,
            walk(self._chat, sessions, check=check),
            title=summary.title if summary is not None else item.title,
            channel_name=manifest.channel_name if manifest is not None else item.channel,
        )
        return Export(f"{item_id}-chat.{form}", pieces)

    def import_file(self, item_id: str, path: Path, *, check: Check = _go_on) -> Imported:
        """Bring the messages of a file into the item's chat, once; raises `UnknownItem` and `UnreadableFile`."""
        with self._database.unit_of_work(write=False) as unit:
            item = _item(unit, item_id)
            broadcast, _ = self._broadcast(unit, item)
            subject = load_subject(unit, item, self._library)
        found, added = merge_file(self._chat, broadcast, path, check=check)
        with self._chat.unit_of_work(write=False) as unit:
            messages = count_messages(unit, item_id)
        if subject is not None and added:
            self._rewrite(subject, messages, check)
        with self._database.unit_of_work() as unit:
            unit.connection.execute(update(vods).where(vods.c.twitch_vod_id == item_id).values(chat_messages=messages))
            unit.commit()
        return Imported(found, added, subject is not None)

    def erase(self, name: str, now_ms: int, *, dry_run: bool, check: Check = _go_on) -> Erasure:
        """Remove a person, by id or login, from every chat, and keep what they said until now from coming back."""
        with self._chat.unit_of_work(write=False) as unit:
            person = find_person(unit.connection, name)
        if not dry_run:
            with self._chat.unit_of_work() as unit:
                ErasureStore(unit.connection).add(
                    user_ids=set(person.user_ids), logins=set(person.logins), until_ms=now_ms
                )
                unit.commit()
        lines = erase_journals(self._library, person, dry_run=dry_run, check=check)
        tally = erase_rows(self._chat, person, dry_run=dry_run, check=check)
        tally.journal_lines = lines
        unreadable = []
        for folder in find_folders(self._library, hidden=True):
            check()
            try:
                tally.files += self._erase_in_file(self._library / folder, person, dry_run=dry_run, check=check)
            except UnreadableFile:
                unreadable.append(str(folder / CHAT_NAME))
        is_purged = dry_run or self._purge()
        return Erasure(person, tally, tuple(unreadable), is_purged)

    def _purge(self) -> bool:
        """Whether nothing of what was deleted is left in the file of the chat database."""
        try:
            with self._chat.unit_of_work() as unit:
                search_index.compact(unit.connection)
                unit.commit()
            return not self._chat.is_sqlite or self._chat.purge()
        except DatabaseUnavailable:
            return False

    def _erase_in_file(self, folder: Path, person: Person, *, dry_run: bool, check: Check) -> bool:
        """Whether the chat file of a folder has anything of the person; it is written without."""
        manifest = load_manifest_quietly(folder)
        if manifest is None or manifest.file(CHAT_NAME) is None:
            return False
        if not any(kept != line for line, kept, _ in _filtered(folder / CHAT_NAME, person, check)):
            return False
        if dry_run:
            return True
        said = 0

        def lines() -> Iterator[bytes]:
            nonlocal said
            for _, kept, is_said in _filtered(folder / CHAT_NAME, person, check):
                if kept:
                    said += is_said
                    yield kept

        def describe(before: Manifest) -> Manifest:
            entry = before.chat
            return before if entry is None else replace(before, chat=replace(entry, messages=said))

        put_file(folder, CHAT_NAME, compressed(lines()), describe=describe)
        if any(part.startswith(".") for part in folder.relative_to(self._library).parts):
            return True  # Not the item's own folder.
        with self._database.unit_of_work() as unit:
            unit.connection.execute(
                update(vods).where(vods.c.twitch_vod_id == manifest.video_id).values(chat_messages=said)
            )
            unit.commit()
        return True

    def _broadcast(self, unit: UnitOfWork, item: QueueItem) -> tuple[Broadcast, Manifest | None]:
        """Where the item's chat lies in time, also when it has no folder."""
        subject = load_subject(unit, item, self._library)
        if subject is not None:
            return subject.broadcast, subject.manifest
        if item.date is None:
            raise RequestRefused(f"It is not known when item {item.twitch_vod_id} began.", code="no_date")
        start_ms = round(item.date.timestamp() * 1000)
        return Broadcast(item.twitch_vod_id, item.channel, None, start_ms, (item.duration_seconds or 0) * 1000), None

    def _rewrite(self, subject: Subject, messages: int, check: Check) -> None:
        entry = subject.manifest.chat
        filled = Filled(
            messages, entry.completeness if entry is not None else 0.0, entry.gaps if entry is not None else ()
        )
        write_into_folder(self._chat, subject, filled, _go_on, check=check)


def _item(unit: UnitOfWork, item_id: str) -> QueueItem:
    item = QueueStore(unit.connection).find(item_id)
    if item is None:
        raise UnknownItem(f"There is no item {item_id}.")
    return item


def _filtered(path: Path, person: Person, check: Check) -> Iterator[tuple[bytes, bytes, bool]]:
    """Each line of a chat file, what is left of it (nothing: it is the person's), and whether it was said."""
    names = [name.encode() for name in (*person.user_ids, *person.logins)]
    try:
        with ZstdFile(path) as file:
            head = file.readline(_LONGEST_LINE)
            channel = ndjson.read_head(head).channel
            yield head, head, False
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b"")):
                if number % 1000 == 0:
                    check()
                placed = ndjson.read_line(line, channel)
                # Logins are in lower case wherever we write them.
                concerned = any(name in line for name in names)
                kept = _kept(line, placed, person) if concerned else line
                yield line, kept, placed.message.kind in _SAID
    except (ZstdError, EOFError, ValueError, OSError) as error:
        raise UnreadableFile(f"{path} cannot be read: {error}.") from error


def _kept(line: bytes, placed: Placed, person: Person) -> bytes:
    message = placed.message
    who = message.chatter
    if who is not None and (person.is_named(who.user_id) or person.is_named(who.login)):
        return b""
    if concerns(message.kind, message.extra, person):
        return b""
    left = scrubbed(message.extra, person)
    return line if left is None else ndjson.write_line(Placed(placed.offset_ms, replace(message, extra=left)))
