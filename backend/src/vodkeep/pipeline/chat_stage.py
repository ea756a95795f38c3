"""The chat stage's work on one item: lay what was recorded to the picture, fill its gaps, write it into the folder.

Each step can be cut off and repeated. What was recorded lies in the database already; what is fetched goes there piece
by piece; the file is written anew from there each time, whole or not at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
from sqlalchemy import select

from vodkeep.chat.files import UnreadableFile, read_chat, write_chat
from vodkeep.chat.fill import Broadcast, ChatFiller, Comments, Filled, merge_into_item
from vodkeep.chat.forms import Form
from vodkeep.chat.ndjson import FORMAT, Head
from vodkeep.chat.picture_time import to_clock
from vodkeep.chat.sessions import SessionStore
from vodkeep.chat.vault.manifest import NAME as EMOTES_NAME
from vodkeep.chat.vault.service import ItemKeeper
from vodkeep.chat.walk import Placed, load_sessions, walk
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.tables import channels, vods
from vodkeep.errors import PermanentError
from vodkeep.keep.additions import put_file
from vodkeep.keep.library import load_manifest_quietly
from vodkeep.keep.manifest import CHAT_NAME, ChatEntry, Manifest
from vodkeep.pipeline.chat_runner import KeptChat
from vodkeep.pipeline.model import QueueItem
from vodkeep.pipeline.recheck import folder_of
from vodkeep.telemetry.log import Logger

T = TypeVar("T")

# The clocks of a playlist and of Helix differ by seconds. What differs by more is another time altogether.
_BELIEVABLE = timedelta(minutes=10)

_CANCEL_GRACE_S = 1.5
_MOST_GAPS = 100
_MERGED_AT_ONCE = 1_000


class _Stopped(Exception):
    """Nobody waits for the result any more."""


class ChatKeeper:
    """Implements ``pipeline.chat_runner.ChatStage``."""

    def __init__(
        self,
        database: Database,
        chat_database: Database,
        comments: Comments | None,
        *,
        library: Path,
        require_archive: Callable[[], None],
        log: Logger,
        emotes: ItemKeeper | None = None,
    ) -> None:
        """Without ``comments`` only what was recorded is kept, and without ``emotes`` not what it looked like.

        ``require_archive`` raises `ArchiveAway` when the library is not where it was; it may block.
        """
        self._database = database
        self._chat = chat_database
        self._filler = ChatFiller(chat_database, comments, log)
        self._library = library
        self._require_archive = require_archive
        self._log = log
        self._emotes = emotes

    async def keep(self, item: QueueItem, *, confirm: Callable[[], None], last_chance: bool) -> KeptChat:
        """Fetch what was not recorded, and write the chat into the item's folder; see ``ChatStage``."""

        def confirm_both() -> None:
            confirm()
            self._require_archive()

        await anyio.to_thread.run_sync(self._require_archive)
        try:
            return await self._keep(item, confirm_both, last_chance=last_chance)
        except Exception:
            # A disk that goes while it is worked on shows itself in any error there is.
            await anyio.to_thread.run_sync(self._require_archive)
            raise

    async def _keep(self, item: QueueItem, confirm: Callable[[], None], *, last_chance: bool) -> KeptChat:
        subject = await self._subject(item)
        if subject is None:
            raise PermanentError(f"Item {item.twitch_vod_id} has no folder for its chat.", code="no_folder")
        await self._take_in(subject)
        filled = await self._filler.fill(subject.broadcast, last_chance=last_chance)
        await _in_thread(partial(write_into_folder, self._chat, subject, filled, confirm))
        if self._emotes is not None and filled.messages:
            await self._keep_emotes(self._emotes, subject, confirm)
        return KeptChat(filled.messages, filled.completeness, filled.added, filled.reason)

    async def _subject(self, item: QueueItem) -> Subject | None:
        return await self._database.run(lambda unit: load_subject(unit, item, self._library), write=False)

    async def _keep_emotes(self, emotes: ItemKeeper, subject: Subject, confirm: Callable[[], None]) -> None:
        """Write beside the chat what it looked like."""
        broadcast = subject.broadcast
        channel_id = await self._database.run(partial(_broadcaster_id, login=broadcast.channel), write=False)
        start = datetime.fromtimestamp(broadcast.start_ms / 1000, UTC)
        end = start + timedelta(milliseconds=to_clock(broadcast.duration_ms, broadcast.pauses))
        body = await emotes.manifest(vod_id=broadcast.vod_id, channel_id=channel_id, start=start, end=end)

        def write(*, check: Callable[[], None]) -> None:
            check()
            put_file(subject.folder, EMOTES_NAME, [body], confirm=confirm)

        await _in_thread(write)

    async def _take_in(self, subject: Subject) -> None:
        """What lies in the folder and not in the database, as after a rescan, would be lost by writing it anew."""
        entry = subject.manifest.chat
        if entry is None or subject.manifest.file(CHAT_NAME) is None:
            return
        known = await self._chat.run(lambda unit: count_messages(unit, subject.broadcast.vod_id), write=False)
        if known >= entry.messages:
            return
        try:
            await _in_thread(partial(merge_file, self._chat, subject.broadcast, subject.folder / CHAT_NAME))
        except UnreadableFile as error:
            self._log.warning(
                "the chat in the folder is not readable", vod_id=subject.broadcast.vod_id, error=str(error)
            )


def _broadcaster_id(unit: UnitOfWork, login: str) -> str | None:
    query = select(channels.c.broadcaster_id).where(channels.c.login == login)
    return unit.connection.execute(query).scalar_one_or_none()


@dataclass(frozen=True, slots=True)
class Subject:
    """An item and its folder."""

    broadcast: Broadcast
    folder: Path
    manifest: Manifest
    told: Told


@dataclass(frozen=True, slots=True)
class Told:
    """What the catalog says of an item, for its manifest: a rescan has nothing else."""

    title: str
    description: str
    stream_id: str | None
    found_at: datetime | None
    listed_seconds: int | None

    def entered(self, manifest: Manifest) -> Manifest:
        """The manifest with it; what the catalog does not know stays as it is."""
        return replace(
            manifest,
            title=self.title or manifest.title,
            description=self.description or manifest.description,
            stream_id=self.stream_id or manifest.stream_id,
            found_at=self.found_at or manifest.found_at,
            listed_seconds=self.listed_seconds or manifest.listed_seconds,
        )


def load_subject(unit: UnitOfWork, item: QueueItem, library: Path) -> Subject | None:
    """The item with its folder; ``None`` while it has none. Blocking."""
    folder = folder_of(item)
    manifest = load_manifest_quietly(library / folder) if folder is not None else None
    if folder is None or manifest is None or manifest.video_id != item.twitch_vod_id:
        return None
    known = unit.connection.execute(
        select(vods.c.stream_id, vods.c.description).where(vods.c.twitch_vod_id == item.twitch_vod_id)
    ).first()
    stream_id, description = (known.stream_id, known.description) if known is not None else (None, "")
    start = picture_start(manifest, item.date)
    if start is None:
        return None
    broadcast = Broadcast(
        item.twitch_vod_id, item.channel, stream_id, _unix_ms(start), manifest.duration_ms, manifest.pauses
    )
    told = Told(item.title, description, stream_id, item.created_at, item.duration_seconds)
    return Subject(broadcast, library / folder, manifest, told)


def picture_start(manifest: Manifest, date: datetime | None) -> datetime | None:
    """When the picture began: by its own clock if that is believable, else as Twitch lists it."""
    listed = date or manifest.date
    told = manifest.picture_start
    if told is None or (listed is not None and abs(told - listed) > _BELIEVABLE):
        return listed
    return told


def count_messages(unit: UnitOfWork, vod_id: str) -> int:
    """How much was said in the item's chat, as far as it is in the database."""
    return sum(session.messages for session in SessionStore(unit.connection).of_item(vod_id))


def merge_file(database: Database, broadcast: Broadcast, path: Path, *, check: Callable[[], None]) -> tuple[int, int]:
    """Bring the messages of a file into the item's chat; returns how many there were, and how many were new. Blocking.

    Raises `UnreadableFile`; what came before the place that cannot be read stays.
    """
    found = added = 0
    for piece in _pieces(read_chat(path, channel=broadcast.channel, start_ms=broadcast.start_ms)):
        check()
        found += len(piece)
        with database.unit_of_work() as unit:
            added += merge_into_item(unit.connection, broadcast, [placed.message for placed in piece])
            unit.commit()
    return found, added


def write_into_folder(
    database: Database, subject: Subject, filled: Filled, confirm: Callable[[], None], *, check: Callable[[], None]
) -> None:
    """Write ``chat.ndjson.zst`` and enter it in the manifest. Blocking."""
    broadcast = subject.broadcast
    head = head_of(broadcast, filled.completeness)
    messages = walk(database, load_sessions(database, broadcast.vod_id), check=check)
    longest = sorted(filled.gaps, key=lambda gap: gap[0] - gap[1])[:_MOST_GAPS]
    entry = ChatEntry(
        filled.messages,
        filled.completeness,
        tuple(sorted(longest)),
        str(filled.reason) if filled.reason is not None else "",
    )
    put_file(
        subject.folder,
        CHAT_NAME,
        write_chat(Form.NDJSON_ZST, head, messages),
        describe=lambda manifest: replace(subject.told.entered(manifest), chat=entry),
        confirm=confirm,
    )


def head_of(broadcast: Broadcast, completeness: float | None) -> Head:
    """The first line of the item's chat."""
    return Head(FORMAT, broadcast.vod_id, broadcast.channel, broadcast.start_ms, broadcast.duration_ms, completeness)


def _pieces(messages: Iterator[Placed]) -> Iterator[list[Placed]]:
    piece: list[Placed] = []
    for placed in messages:
        piece.append(placed)
        if len(piece) >= _MERGED_AT_ONCE:
            yield piece
            piece = []
    if piece:
        yield piece


async def _in_thread(work: Callable[..., T]) -> T:
    """Run blocking work that calls ``check`` often, in a thread that a cancellation ends and waits for."""
    stopped = threading.Event()
    ended = anyio.Event()
    token = anyio.lowlevel.current_token()

    def check() -> None:
        if stopped.is_set():
            raise _Stopped

    def run() -> T:
        try:
            return work(check=check)
        finally:
            anyio.from_thread.run_sync(ended.set, token=token)

    try:
        return await anyio.to_thread.run_sync(run, abandon_on_cancel=True)
    except anyio.get_cancelled_exc_class():
        stopped.set()
        with anyio.move_on_after(_CANCEL_GRACE_S, shield=True):
            await ended.wait()
        raise


def _unix_ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
