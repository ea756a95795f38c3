"""Rebuilds the database from the folders alone: rows, chats, emotes and publications, with no word to anybody outside.

Nothing in a folder is changed, and no row that is there already loses anything. A folder is looked at, its chat is
merged by message id, and its row comes last, so that a run that was cut off is simply done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

from sqlalchemy import Connection, insert, select

from vodkeep.capture.service import VIDEO_NAME
from vodkeep.catalog.model import is_login
from vodkeep.chat.files import UnreadableFile
from vodkeep.chat.fill import Broadcast, save_read
from vodkeep.chat.stretches import covered, without
from vodkeep.chat.vault.files import ImageFiles
from vodkeep.chat.vault.manifest import NAME as EMOTES_NAME
from vodkeep.chat.vault.rebuilding import UnreadableEmotes, take_in_emotes
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.events import EventLog
from vodkeep.db.tables import channels, vods
from vodkeep.db.tables import publications as publication_rows
from vodkeep.db.upsert import insert_if_absent
from vodkeep.keep.fixity import check_size, find_folders
from vodkeep.keep.manifest import (
    CHAT_NAME,
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    ManifestError,
    PublicationEntry,
    load_manifest,
)
from vodkeep.pipeline.chat_stage import count_messages, merge_file, picture_start
from vodkeep.pipeline.importing import SOURCE as IMPORTED
from vodkeep.pipeline.model import RUNNING, Asked, DownloadState, QueueItem, Stage
from vodkeep.pipeline.retention_store import RetentionStore
from vodkeep.pipeline.store import QueueStore
from vodkeep.publish.publication import ON_YOUTUBE, PublicationState, marker_of

KIND = "rescan"
"""``events.kind`` of what a rescan did."""

_INCOMPLETE = "incomplete"
_LONGEST_ID = 64
# So far may what a manifest says of its chat be from the gaps it names: it names the longest only.
_BELIEVABLE = 0.01


class Outcome(StrEnum):
    """What became of a folder."""

    ENTERED = "entered"  # it has a row now
    LINKED = "linked"  # there was a row that did not know of it
    KNOWN = "known"  # its row names it already
    LEFT = "left alone"  # the sentence says why


@dataclass(frozen=True, slots=True)
class Seen:
    """A folder with a manifest."""

    path: PurePosixPath  # relative to the library
    manifest: Manifest | None  # None when it cannot be taken for an item
    problem: str = ""  # why not, as a sentence without its full stop


@dataclass(frozen=True, slots=True)
class Result:
    """What was done about a folder, or would be."""

    seen: Seen
    outcome: Outcome
    sentence: str = ""  # why it was left alone, or what of it could not be read; without its full stop
    messages: int = 0  # of chat that came in


def look_through(library: Path, on_folder: Callable[[], None] = lambda: None) -> list[Seen]:
    """All folders below ``library``, broadcasts in the order of their time; of two of one broadcast the better one.

    Blocking: reads every manifest, and the sizes of the files that it names.
    """
    seen = []
    for path in find_folders(library):
        on_folder()
        seen.append(_look(library, path))
    return seen


def settle_doubles(seen: Iterable[Seen], rows: Mapping[str, QueueItem]) -> list[Seen]:
    """The same folders, of which only one is taken for each item: that which its row names, else the fuller one."""
    of_item: dict[str, list[Seen]] = {}
    refused: list[Seen] = []
    for each in seen:
        if each.manifest is None:
            refused.append(each)
        else:
            of_item.setdefault(each.manifest.video_id, []).append(each)
    chosen = []
    for video_id, candidates in of_item.items():
        row = rows.get(video_id)
        named = row.downloaded_path if row is not None else None
        best, *others = sorted(candidates, key=lambda each: _worth(each, named), reverse=True)
        chosen.append(best)
        refused += [Seen(each.path, None, f"it holds VOD {video_id}, as {best.path} does") for each in others]
    chosen.sort(key=lambda each: (_start(each), str(each.path)))
    return [*chosen, *sorted(refused, key=lambda each: str(each.path))]


class Rescan:
    """Enters folders into the two databases of an archive. Blocking."""

    def __init__(self, database: Database, chat: Database, library: Path, asked: Asked) -> None:
        self._database = database
        self._chat = chat
        self._library = library
        self._asked = asked

    def rows(self) -> dict[str, QueueItem]:
        """The items that have or had a folder, by id."""
        with self._database.unit_of_work(write=False) as unit:
            return {item.twitch_vod_id: item for item in QueueStore(unit.connection).load_placed()}

    def enter(self, seen: Seen, now: datetime, check: Callable[[], None] = lambda: None) -> Result:
        """Enter one folder; what ``check`` raises ends it, and doing it again goes on."""
        manifest = seen.manifest
        if manifest is None:
            return Result(seen, Outcome.LEFT, seen.problem)
        with self._database.unit_of_work(write=False) as unit:
            planned = judge(seen, QueueStore(unit.connection).find(manifest.video_id), self._library)
        if planned.outcome is Outcome.LEFT:
            return planned
        messages, problem = self._take_in_chat(seen, manifest, check)
        with self._database.unit_of_work() as unit:
            store = QueueStore(unit.connection)
            # Held until the commit: nobody begins to work on it meanwhile.
            known = store.find(manifest.video_id)
            item = store.lock(manifest.video_id) if known is not None else None
            done = judge(seen, item, self._library)
            if done.outcome is Outcome.ENTERED:
                self._insert(unit.connection, seen, manifest, now)
            elif done.outcome is Outcome.LINKED and RetentionStore(unit.connection).is_moving(manifest.video_id):
                done = Result(seen, Outcome.LEFT, f"the video of VOD {manifest.video_id} is being moved at this moment")
            elif done.outcome is Outcome.LINKED and item is not None:
                self._link(unit.connection, item, seen, manifest, now)
            unit.commit()
        return Result(seen, done.outcome, done.sentence or problem, messages)

    def _insert(self, connection: Connection, seen: Seen, manifest: Manifest, now: datetime) -> None:
        named = {"login": manifest.channel, "display_name": manifest.channel_name or None}
        insert_if_absent(connection, channels, {**named, "created_at": now, "updated_at": now}, key=("login",))
        values = row_of(seen, manifest, now)
        if not insert_if_absent(connection, vods, values, key=("twitch_vod_id",)):
            return
        self._append(connection, manifest, None, values["download_state"], now)
        self._insert_publications(connection, manifest, now)

    def _link(self, connection: Connection, item: QueueItem, seen: Seen, manifest: Manifest, now: datetime) -> None:
        values = row_of(seen, manifest, now)
        told = {name: values[name] for name in _OF_FOLDER}
        state = item.download_state
        # An item that is done or parked stays so; only where it lies is told to it. Others have been looking for it.
        if item.downloaded_path is None:
            told |= {name: values[name] for name in _OF_STATE}
        else:
            told["download_state"] = state
        QueueStore(connection).adopt(item, now, told, asked=self._asked, kind=KIND, sentence=_sentence(seen))
        self._insert_publications(connection, manifest, now)

    def _append(
        self, connection: Connection, manifest: Manifest, source: str | None, target: str, now: datetime
    ) -> None:
        EventLog(connection).append(
            manifest.video_id,
            at=now,
            kind=KIND,
            from_state=source,
            to_state=target,
            sentence="Entered from its folder by a rescan.",
            corr=self._asked.corr,
            asked_by=self._asked.by,
        )

    def _insert_publications(self, connection: Connection, manifest: Manifest, now: datetime) -> None:
        video = _video_of(manifest)
        assert video is not None
        known = connection.execute(
            select(publication_rows.c.id).where(publication_rows.c.twitch_vod_id == manifest.video_id).limit(1)
        ).first()
        if known is not None or not manifest.publications:
            return
        rows = []
        for entry in manifest.publications:
            whole = entry.parts == 1
            on_youtube = entry.youtube_id is not None and entry.state in ON_YOUTUBE
            rows.append(
                {
                    "twitch_vod_id": manifest.video_id,
                    "round": entry.round,
                    "part": entry.part,
                    "parts": entry.parts,
                    "state": _state_of(entry),
                    "start_ms": entry.start_ms,
                    "end_ms": entry.end_ms,
                    "source_name": VIDEO_NAME if whole else "",
                    "size_bytes": video.size_bytes if whole else 0,
                    "checksum": video.checksum if whole else "",
                    "committed_bytes": video.size_bytes if whole and on_youtube else 0,
                    "youtube_id": entry.youtube_id,
                    "marker": marker_of(manifest.video_id, entry.round, entry.part),
                    "uploaded_at": entry.uploaded_at,
                    "processed_at": entry.processed_at,
                    # What became of it meanwhile is looked at as soon as somebody can.
                    "next_check_at": now if on_youtube else None,
                    "created_at": entry.uploaded_at or now,
                    "updated_at": now,
                }
            )
        connection.execute(insert(publication_rows), rows)

    def _take_in_chat(self, seen: Seen, manifest: Manifest, check: Callable[[], None]) -> tuple[int, str]:
        """Bring in what was said and what it looked like; how many messages, and what could not be read."""
        start = picture_start(manifest, manifest.date)
        entry = manifest.chat
        if entry is None or manifest.file(CHAT_NAME) is None or start is None:
            return 0, ""
        folder = self._library / seen.path
        start_ms = round(start.timestamp() * 1000)
        broadcast = Broadcast(
            manifest.video_id, manifest.channel, manifest.stream_id, start_ms, manifest.duration_ms, manifest.pauses
        )
        with self._chat.unit_of_work(write=False) as unit:
            known = count_messages(unit, manifest.video_id)
        added, problem = 0, ""
        if known < entry.messages:
            try:
                _, added = merge_file(self._chat, broadcast, folder / CHAT_NAME, check=check)
            except UnreadableFile as error:
                problem = str(error).rstrip(".")
        if problem:
            return added, problem
        read = without([(0, manifest.duration_ms)], entry.gaps)
        with self._chat.unit_of_work() as unit:
            if abs(covered(read, manifest.duration_ms) - entry.completeness) < _BELIEVABLE:
                save_read(unit.connection, manifest.video_id, read)
            if added or not known:
                problem = self._take_in_emotes(unit, folder, manifest.video_id, start_ms)
            unit.commit()
        return added, problem

    def _take_in_emotes(self, unit: UnitOfWork, folder: Path, video_id: str, start_ms: int) -> str:
        try:
            body = (folder / EMOTES_NAME).read_bytes()
            take_in_emotes(unit.connection, body, video_id, start_ms, ImageFiles(self._library))
        except FileNotFoundError:
            return ""
        except (UnreadableEmotes, OSError) as error:
            return f"{EMOTES_NAME} cannot be read ({error})"
        return ""


def judge(seen: Seen, row: QueueItem | None, library: Path) -> Result:
    """What is to be done about a folder, given the row of its item. Blocking, for it looks where the row points."""
    manifest = seen.manifest
    if manifest is None:
        return Result(seen, Outcome.LEFT, seen.problem)
    if row is None:
        return Result(seen, Outcome.ENTERED)
    if row.downloaded_path == str(seen.path / VIDEO_NAME) and not _is_wrong_of_video(seen.path, manifest, row, library):
        return Result(seen, Outcome.KNOWN)
    if row.download_state in RUNNING:
        return Result(seen, Outcome.LEFT, f"VOD {manifest.video_id} is being worked on at this moment")
    elsewhere = row.downloaded_path is not None and row.downloaded_path != str(seen.path / VIDEO_NAME)
    if row.downloaded_path is not None and elsewhere and (library / row.downloaded_path).exists():
        there = PurePosixPath(row.downloaded_path).parent
        return Result(seen, Outcome.LEFT, f"it holds VOD {manifest.video_id}, which the database knows in {there}")
    return Result(seen, Outcome.LINKED)


def _is_wrong_of_video(path: PurePosixPath, manifest: Manifest, row: QueueItem, library: Path) -> bool:
    """Whether the row of a restored backup does not know that the video was let go since, or brought back.

    The disk has to agree with the manifest, which was read a while ago.
    """
    is_here = (library / path / VIDEO_NAME).exists()
    return row.let_go == is_here and (manifest.let_go is None) == is_here


_OF_FOLDER = (
    "downloaded_path",
    "download_bytes",
    "download_total",
    "completeness",
    "chat_completeness",
    "chat_messages",
    "let_go_at",
)
_OF_STATE = ("download_state", "stage", "processed", "processing_error", "error_code", "youtube_url", "skip_upload")


def row_of(seen: Seen, manifest: Manifest, now: datetime) -> dict[str, Any]:
    """The row of an item as its folder tells it."""
    video = _video_of(manifest)
    assert video is not None
    imported = any(entry.source == IMPORTED for entry in manifest.ledger)
    chat = manifest.chat
    return {
        "twitch_vod_id": manifest.video_id,
        "stream_id": manifest.stream_id,
        "channel": manifest.channel,
        "title": manifest.title,
        "description": manifest.description,
        "date": manifest.date,
        "duration_seconds": manifest.listed_seconds or manifest.duration_ms // 1000,
        "downloaded_path": str(seen.path / VIDEO_NAME),
        "download_bytes": video.size_bytes,
        "download_total": video.size_bytes,
        "progress_updated_at": manifest.captured_at,
        "let_go_at": manifest.let_go.at if manifest.let_go is not None else None,
        "completeness": manifest.completeness,
        "chat_completeness": chat.completeness if chat is not None else None,
        "chat_messages": chat.messages if chat is not None else None,
        "created_at": manifest.found_at or manifest.captured_at,
        "updated_at": now,
        # Whoever imports says whether it is to be published, and has to say it again.
        "skip_upload": int(imported),
        **_standing(manifest, imported=imported),
    }


def _standing(manifest: Manifest, *, imported: bool) -> dict[str, Any]:
    """The item's state. Of what was published nothing is done again, and what was not is left to a person."""
    done = {
        "download_state": DownloadState.DONE,
        "stage": Stage.CAPTURE,
        "processed": 1,
        "processing_error": None,
        "error_code": None,
        "youtube_url": None,
    }
    if manifest.completeness < 1.0 and not imported:
        sentence = f"Only {manifest.completeness:.2%} of the broadcast was captured; its manifest names the holes."
        return {
            **done,
            "download_state": DownloadState.PARKED,
            "processed": 0,
            "processing_error": sentence,
            "error_code": _INCOMPLETE,
        }
    last = max((entry.round for entry in manifest.publications), default=0)
    current = [entry for entry in manifest.publications if entry.round == last]
    first = next((entry for entry in current if entry.part == 1), None)
    if current and all(entry.youtube_id is not None and entry.state in ON_YOUTUBE for entry in current):
        assert first is not None
        return {**done, "youtube_url": f"https://www.youtube.com/watch?v={first.youtube_id}"}
    under_way = any(entry.state in (PublicationState.PLANNED, PublicationState.UPLOADING) for entry in current)
    if manifest.chat is None and not manifest.publications:
        return {**done, "download_state": DownloadState.DOWNLOADED, "stage": Stage.CHAT, "processed": 0}
    if under_way:
        return {**done, "download_state": DownloadState.DOWNLOADED, "stage": Stage.PUBLISH, "processed": 0}
    return done


def _state_of(entry: PublicationEntry) -> PublicationState:
    """The state of a part; one that was on its way begins anew, for its session is known to nobody any more."""
    state = PublicationState(entry.state)
    return PublicationState.PLANNED if state is PublicationState.UPLOADING else state


def _look(library: Path, path: PurePosixPath) -> Seen:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = PurePosixPath(str(path).encode("utf-8", "replace").decode())
        return Seen(shown, None, "its name is no UTF-8")
    try:
        manifest = load_manifest(library / path)
    except ManifestError as error:
        return Seen(path, None, f"{MANIFEST_NAME}: {error}")
    if manifest is None:
        return Seen(path, None, f"{MANIFEST_NAME} is gone")
    problem = _problem(library / path, manifest)
    return Seen(path, manifest) if problem is None else Seen(path, None, problem)


def _problem(folder: Path, manifest: Manifest) -> str | None:
    """Why the folder cannot be an item of ours, or not a whole one."""
    video_id = manifest.video_id
    if not (isinstance(video_id, str) and 0 < len(video_id) <= _LONGEST_ID and video_id.isascii() and _plain(video_id)):
        return "its manifest names no broadcast that could be"
    if not (isinstance(manifest.channel, str) and is_login(manifest.channel)):
        return "its manifest names no channel that could be"
    if not isinstance(manifest.title, str) or (manifest.date is not None and manifest.date.tzinfo is None):
        return "its manifest has a field of the wrong type"
    video = _video_of(manifest)
    if video is None:
        return "its manifest names no video"
    wrong = check_size(folder, video) if manifest.let_go is None else None
    if wrong is not None:
        return f"{wrong.name} {wrong.sentence}"
    states = set(PublicationState)
    if any(entry.state not in states or not 1 <= entry.part <= entry.parts for entry in manifest.publications):
        return "its manifest tells of publications that could not be"
    return None


def _video_of(manifest: Manifest) -> FileEntry | None:
    """The video, also when retention has let it go."""
    return manifest.let_go.file if manifest.let_go is not None else manifest.file(VIDEO_NAME)


def _plain(video_id: str) -> bool:
    return video_id.replace("-", "").replace("_", "").isalnum()


def _worth(seen: Seen, named: str | None) -> tuple[bool, float, datetime]:
    manifest = seen.manifest
    assert manifest is not None
    return named == str(seen.path / VIDEO_NAME), manifest.completeness, manifest.captured_at


def _start(seen: Seen) -> datetime:
    manifest = seen.manifest
    assert manifest is not None
    return manifest.date or manifest.captured_at.astimezone(UTC)


def _sentence(seen: Seen) -> str:
    return f"Found in {seen.path} by a rescan."
