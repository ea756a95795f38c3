"""Takes recordings of other programs into the archive, as items like any other. Nothing of the source is changed.

In this order, each step of which can be cut off and repeated: the video is brought into the item's work folder and read
to its end; the folder with its manifest is renamed into its place; the row is made, or found, claimed and told of it;
the chat is merged. Only then, if that is wanted, the source's video goes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path, PurePosixPath

import anyio.to_thread
import av
import av.error

from vodkeep import __version__
from vodkeep.capture.service import THUMBNAIL_NAME, VIDEO_NAME
from vodkeep.capture.thumbnail import grab_frame, is_jpeg
from vodkeep.capture.verify import FileFacts, VerificationError, read_facts
from vodkeep.capture.workfolder import WorkFolder
from vodkeep.catalog.model import BroadcasterId, StreamId, Video, VodId
from vodkeep.catalog.store import CatalogStore
from vodkeep.child import run_child
from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.disk import FOLDER_MODE, checksum_of, disk_errors
from vodkeep.errors import DiskFull, RequestRefused, VodkeepError
from vodkeep.keep.library import Library, LibraryItem, describe_file
from vodkeep.keep.manifest import MANIFEST_NAME, FileEntry, LedgerEntry, Manifest, StreamEntry, write_manifest
from vodkeep.keep.origins import How
from vodkeep.keep.recordings import Recording
from vodkeep.pipeline.action_store import ActionStore
from vodkeep.pipeline.chat_library import ChatLibrary, Imported
from vodkeep.pipeline.model import RUNNING, Asked, Asker, DownloadState
from vodkeep.pipeline.store import QueueStore
from vodkeep.telemetry.correlation import new_corr

SOURCE = "import"
"""The ledger's word for a picture that another program took; what it says of itself was not checked against Twitch."""

_KEPT = frozenset({DownloadState.DOWNLOADED, DownloadState.UPLOADING, DownloadState.DONE})
_READY = (".mp4", ".m4v", ".mov")
_REMUX_STALL_S = 180.0

# Seconds that Twitch counts and a file does not have, or the other way round.
_TOLERANCE_MS = 2_000

# From linux/fs.h: make a file of the blocks of another, where the file system can (Btrfs, XFS, bcachefs).
_FICLONE = 0x40049409


@dataclass(frozen=True, slots=True)
class Taken:
    """An item that came in."""

    video_id: str
    path: PurePosixPath  # of its folder, relative to the library
    completeness: float
    chat: Imported | None = None
    chat_problem: str = ""  # why its chat did not come with it


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the person who imports says."""

    how: How = How.COPY
    video_id: str | None = None  # instead of what is told beside the recording
    channel: str | None = None  # login; the same
    publish: bool = False  # else it is marked as not to be uploaded


class Importer:
    """Takes in one recording after the other."""

    def __init__(
        self, *, database: Database, chats: ChatLibrary, library: Library, clock: Clock, ffmpeg: str, wishes: Wishes
    ) -> None:
        self._database = database
        self._chats = chats
        self._library = library
        self._clock = clock
        self._ffmpeg = ffmpeg
        self._wishes = wishes

    async def refusal(self, recording: Recording) -> str | None:
        """Why it cannot be taken in, as a sentence; None when nothing speaks against it. Changes nothing."""
        try:
            named = self._named(recording)
            await self._database.run(partial(_refuse_known, item_id=named.video_id), write=False)
        except RequestRefused as error:
            return f"{error} {error.remedy}".strip()
        return None

    def named(self, recording: Recording) -> Recording:
        """The recording with what the person says of it."""
        return replace(
            recording,
            video_id=self._wishes.video_id or recording.video_id,
            channel=self._wishes.channel or recording.channel,
        )

    async def take(self, recording: Recording) -> Taken:
        """Take it in; raises `RequestRefused` for what cannot be, and the errors of a disk or a damaged film."""
        named = self._named(recording)
        await self._database.run(partial(_refuse_known, item_id=named.video_id), write=False)
        folder = WorkFolder(self._library.root, named.video_id)
        with folder.hold():
            item = await self._place(named, folder)
            await self._database.run(partial(self._save, named=named, item=item))
        await anyio.to_thread.run_sync(folder.remove)
        taken = Taken(named.video_id, item.path, item.manifest.completeness)
        if recording.chat is not None:
            try:
                chat = await anyio.to_thread.run_sync(self._chats.import_file, named.video_id, recording.chat)
                taken = replace(taken, chat=chat)
            except VodkeepError as error:
                taken = replace(taken, chat_problem=str(error))
        if self._wishes.how is How.MOVE:
            await anyio.to_thread.run_sync(partial(recording.video.unlink, missing_ok=True))
        return taken

    def _named(self, recording: Recording) -> _Named:
        recording = self.named(recording)
        if recording.video_id is None:
            raise RequestRefused(
                f"It is not told which VOD {recording.video.name} is.", remedy="Say so with --id.", code="no_id"
            )
        if recording.channel is None:
            raise RequestRefused(
                f"It is not told whose VOD {recording.video.name} is.",
                remedy="Say so with --channel.",
                code="no_channel",
            )
        return _Named(recording, recording.video_id, recording.channel)

    async def _place(self, named: _Named, folder: WorkFolder) -> LibraryItem:
        """The item in its place, perhaps since an earlier import that was cut off."""
        recording = named.recording
        path = self._library.folder_for(
            channel=named.channel, date=recording.date, title=recording.title, video_id=named.video_id
        )
        there = self._library.find(path, named.video_id)
        if there is not None:
            return there
        # Not the folder that a capture works in: what lies there would be taken for a part of the broadcast.
        output = folder.path / "import"
        await anyio.to_thread.run_sync(_make_anew, output)
        video = output / VIDEO_NAME
        facts = await self._bring(recording.video, video)
        return await anyio.to_thread.run_sync(self._finish, named, facts, output, folder.path, path)

    async def _bring(self, source: Path, target: Path) -> FileFacts:
        """The source's video as an MP4 at ``target``, read to its end."""
        if source.suffix.lower() in _READY:
            await anyio.to_thread.run_sync(partial(_bring_as_it_is, source, target, self._wishes.how))
            try:
                facts = await anyio.to_thread.run_sync(read_facts, target)
            except VerificationError:
                # Readable for players it may be all the same: with a stream of data, or an edit list of its own.
                await anyio.to_thread.run_sync(target.unlink)
            else:
                if self._wishes.how is not How.LINK:
                    await anyio.to_thread.run_sync(_compare, source, facts.checksum)
                return facts
        await self._remux(source, target)
        facts = await anyio.to_thread.run_sync(read_facts, target)
        await anyio.to_thread.run_sync(_compare_packets, source, facts)
        return facts

    async def _remux(self, source: Path, target: Path) -> None:
        """Copy the packets of picture and sound into an MP4 with its index at the front."""
        result = await run_child(
            [
                self._ffmpeg,
                *("-hide_banner", "-nostdin", "-loglevel", "error", "-progress", "pipe:1", "-y", "-i", str(source)),
                *("-map", "0:v:0?", "-map", "0:a:0?", "-map_metadata", "-1", "-map_chapters", "-1", "-c", "copy"),
                *("-copyinkf", "-movflags", "+faststart", "-f", "mp4", str(target)),
            ],
            deadline_s=None,
            stall_s=_REMUX_STALL_S,
            on_line=lambda _: None,
        )
        if result.returncode != 0:
            if "No space left on device" in result.stderr:
                raise DiskFull(f"No space is left on the disk of {target}.", remedy="Free some space.")
            reason = (result.stderr.strip().splitlines() or ["ffmpeg gave no reason"])[-1]
            raise RequestRefused(f"{source} is no film that can be kept: {reason[:300]}", code="unreadable_film")

    def _finish(self, named: _Named, facts: FileFacts, output: Path, work: Path, path: PurePosixPath) -> LibraryItem:
        recording = named.recording
        with disk_errors(output):
            files = [FileEntry(VIDEO_NAME, facts.size_bytes, facts.checksum)]
            if _thumbnail(recording, output / VIDEO_NAME, output / THUMBNAIL_NAME, facts):
                files.append(describe_file(output / THUMBNAIL_NAME))
            manifest = _describe(named, facts, files, self._clock.now())
            (output / MANIFEST_NAME).write_text(write_manifest(manifest), "utf-8")
        self._library.place(output, work, path)
        return LibraryItem(path, manifest)

    def _save(self, unit: UnitOfWork, *, named: _Named, item: LibraryItem) -> None:
        """The row of the item, made or found, as after a capture."""
        now, manifest = self._clock.now(), item.manifest
        asked = Asked(Asker.CLI, None)
        video = Video(
            id=VodId(named.video_id),
            broadcaster_id=BroadcasterId(""),
            created_at=manifest.date or now,
            broadcaster_login=named.channel,
            stream_id=StreamId(manifest.stream_id) if manifest.stream_id else None,
            title=manifest.title,
            description=manifest.description or None,
            duration=timedelta(seconds=manifest.duration_ms // 1000),
        )
        CatalogStore(unit.connection).save_videos(named.channel, [video], now=now)
        queue, actions = QueueStore(unit.connection), ActionStore(unit.connection)
        if not self._wishes.publish:
            actions.set_skip_upload(named.video_id, True, now, asked)
        claim = queue.claim(actions.reprocess(named.video_id, now, asked), now, corr=new_corr())
        entry = manifest.file(VIDEO_NAME)
        queue.save_captured(
            claim,
            now,
            path=str(item.path / VIDEO_NAME),
            size_bytes=entry.size_bytes if entry is not None else 0,
            completeness=manifest.completeness,
            publish=self._wishes.publish,
            chat=True,
        )
        unit.commit()


@dataclass(frozen=True, slots=True)
class _Named:
    """A recording of which is known what it is."""

    recording: Recording
    video_id: str
    channel: str


def read_tags(path: Path) -> dict[str, str]:
    """What a video says about itself, keys in lower case; nothing for one that cannot be read."""
    try:
        with av.open(str(path), mode="r") as container:
            return {key.lower(): value for key, value in container.metadata.items()}
    except (av.error.FFmpegError, OSError):
        return {}


def make_ledger(
    file_ms: int, told_ms: int | None, muted: Sequence[tuple[int, int]]
) -> tuple[tuple[LedgerEntry, ...], int, float]:
    """What the timeline is made of, its length (ms), and how much of it there is (0..1).

    What is not there at the end, by the word of Twitch (``told_ms``), is missing. What may be missing in between nobody
    has looked for.
    """
    short = told_ms is not None and told_ms - file_ms > _TOLERANCE_MS
    entries: list[LedgerEntry] = []
    at = 0
    for told_start, told_end in sorted(muted):
        start, end = max(at, min(told_start, file_ms)), min(told_end, file_ms)
        if end <= start:
            continue
        if start > at:
            entries.append(LedgerEntry(at, start, SOURCE, ""))
        entries.append(LedgerEntry(start, end, SOURCE, "muted"))
        at = end
    if at < file_ms:
        entries.append(LedgerEntry(at, file_ms, SOURCE, ""))
    if not short or told_ms is None:
        return tuple(entries), file_ms, 1.0
    entries.append(LedgerEntry(file_ms, told_ms, "missing", "the recording ends here"))
    return tuple(entries), told_ms, file_ms / told_ms


def _describe(named: _Named, facts: FileFacts, files: Sequence[FileEntry], now: datetime) -> Manifest:
    recording = named.recording
    ledger, duration_ms, completeness = make_ledger(facts.duration_us // 1000, recording.duration_ms, recording.muted)
    return Manifest(
        video_id=named.video_id,
        stream_id=recording.stream_id,
        channel=named.channel,
        channel_name=recording.channel_name or named.channel,
        title=recording.title,
        date=recording.date,
        duration_ms=duration_ms,
        completeness=completeness,
        rendition="",
        tools=(f"vodkeep {__version__}", f"imported from {recording.origin}"),
        captured_at=now,
        files=tuple(files),
        streams=tuple(
            StreamEntry(stream.kind, stream.codec, stream.packets, stream.width, stream.height, stream.fps)
            for stream in facts.streams
        ),
        ledger=ledger,
        chapters=recording.chapters,
        description=recording.description,
        found_at=now,
    )


def _refuse_known(unit: UnitOfWork, *, item_id: str) -> None:
    """Raise `RequestRefused` when the archive has the item, or somebody works on it."""
    item = QueueStore(unit.connection).find(item_id)
    if item is None:
        return
    if item.download_state in RUNNING:
        raise RequestRefused(f"Item {item_id} is being captured.", remedy="Cancel it first, or let it end.")
    if item.download_state in _KEPT or item.downloaded_path is not None:
        raise RequestRefused(f"Item {item_id} is kept already.", code="known")


def _make_anew(folder: Path) -> None:
    with disk_errors(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=FOLDER_MODE, parents=True)


def _bring_as_it_is(source: Path, target: Path, how: How) -> None:
    with disk_errors(target):
        if how is How.LINK:
            try:
                os.link(source, target, follow_symlinks=False)
            except OSError as error:
                raise RequestRefused(
                    f"{source} cannot be linked into the archive: {error.strerror}.",
                    remedy="Both must lie on one file system that has hard links; --copy works everywhere.",
                ) from error
            return
        with source.open("rb") as there, target.open("xb") as here:
            try:
                fcntl.ioctl(here.fileno(), _FICLONE, there.fileno())
            except OSError:
                shutil.copyfileobj(there, here, 1 << 20)


def _compare(source: Path, checksum: str) -> None:
    if checksum_of(source) != checksum:
        raise VerificationError(f"The copy of {source} is not the same as the file: it changed, or a disk is failing.")


def _compare_packets(source: Path, facts: FileFacts) -> None:
    """What ffmpeg has put into another container has to be all of it."""
    try:
        with av.open(str(source), mode="r") as container:
            wanted = {
                stream.index: stream.type for stream in (*container.streams.video[:1], *container.streams.audio[:1])
            }
            counted = dict.fromkeys(wanted.values(), 0)
            for packet in container.demux(*(container.streams[index] for index in wanted)):
                counted[packet.stream.type] += packet.size > 0
    except (av.error.FFmpegError, OSError) as error:
        raise RequestRefused(f"{source} cannot be read to its end: {error}.", code="unreadable_film") from error
    kept = {stream.kind: stream.packets for stream in facts.streams}
    if kept != counted:
        raise RequestRefused(
            f"{source} cannot be kept without a loss: it has {counted}, and as an MP4 it would have {kept} packets.",
            code="unreadable_film",
        )


def _thumbnail(recording: Recording, video: Path, target: Path, facts: FileFacts) -> bool:
    if recording.thumbnail is not None:
        try:
            body = recording.thumbnail.read_bytes()
        except OSError:
            body = b""
        if is_jpeg(body):
            target.write_bytes(body)
            return True
    return grab_frame(video, target, facts.duration_us / 2_000_000)
