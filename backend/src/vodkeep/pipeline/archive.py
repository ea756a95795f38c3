"""The capture stage's work on one item: capture it, describe it, give it its place in the library.

Each step can be cut off and repeated. In this order: an item that already lies whole in the library is linked again and
not fetched a second time; an item that an interrupted run had placed is found by its note; everything else is captured.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import anyio
import anyio.to_thread

from vodkeep import __version__
from vodkeep.capture.model import Phase, Progress
from vodkeep.capture.resolve import Resolver
from vodkeep.capture.service import THUMBNAIL_NAME, VIDEO_NAME, Captured, CaptureService
from vodkeep.capture.workfolder import WORK_DIR_NAME, WorkFolder
from vodkeep.clock import Clock
from vodkeep.disk import disk_errors
from vodkeep.errors import Incomplete, PermanentError, TransientError
from vodkeep.keep.library import Library, LibraryItem, describe_file
from vodkeep.keep.manifest import (
    CHAT_NAME,
    MANIFEST_NAME,
    ChapterEntry,
    FileEntry,
    LedgerEntry,
    Manifest,
    ManifestError,
    StreamEntry,
    write_manifest,
)
from vodkeep.keep.media_server import write_media_server_files
from vodkeep.pipeline.model import QueueItem
from vodkeep.pipeline.stages import CapturedItem
from vodkeep.telemetry.log import Logger


class Archivist:
    """Implements ``pipeline.stages.CaptureStage`` with the capture engine and the library."""

    def __init__(
        self,
        *,
        capture: CaptureService,
        library: Library,
        clock: Clock,
        log: Logger,
        require_archive: Callable[[], None],
        media_server_files: bool = False,
    ) -> None:
        """``require_archive`` raises `ArchiveAway` when the library is not where it was; it may block.

        With ``media_server_files`` an item in its place gets a description and pictures for media servers.
        """
        self._media_server_files = media_server_files
        self._require_archive = require_archive
        self._capture = capture
        self._library = library
        self._clock = clock
        self._log = log

    async def capture(
        self,
        item: QueueItem,
        *,
        on_progress: Callable[[Progress], None],
        report_phase: Callable[[Phase], None],
        confirm: Callable[[], None],
        accept_holes: bool,
    ) -> CapturedItem:
        """Keep one broadcast; see ``pipeline.stages.CaptureStage``."""

        def confirm_both() -> None:
            confirm()
            self._require_archive()

        await anyio.to_thread.run_sync(self._require_archive)
        try:
            return await self._keep(item, on_progress, report_phase, confirm_both, accept_holes=accept_holes)
        except Exception:
            # A disk that goes while it is worked on shows itself in any error there is.
            await anyio.to_thread.run_sync(self._require_archive)
            raise

    async def _keep(
        self,
        item: QueueItem,
        on_progress: Callable[[Progress], None],
        report_phase: Callable[[Phase], None],
        confirm: Callable[[], None],
        *,
        accept_holes: bool,
    ) -> CapturedItem:
        folder = self._capture.work_folder(item.twitch_vod_id)
        with folder.hold():
            kept = await anyio.to_thread.run_sync(self._find_kept, item, folder, report_phase, confirm)
            if kept is not None and kept.is_whole:
                await anyio.to_thread.run_sync(self._add_files, kept.item, confirm)
                return _captured_item(kept.item, None)
            captured = await self._capture.capture(
                folder,
                on_progress=on_progress,
                accept_holes=accept_holes,
                rendition=_rendition_of(item, kept),
            )
            # A matter of milliseconds beside the hours before, and a thread is not cut off half way.
            placed = await anyio.to_thread.run_sync(self._place, item, folder, captured, kept, confirm)
            await anyio.to_thread.run_sync(self._add_files, placed, confirm)
            return _captured_item(placed, captured.cut_short_by)

    @property
    def resolver(self) -> Resolver:
        """What finds out where a VOD's picture is."""
        return self._capture.resolver

    async def tidy(self, item_id: str) -> None:
        """Remove the work folder of an item whose row says that it is in the library."""
        await anyio.to_thread.run_sync(self._capture.work_folder(item_id).remove)

    def leftovers(self) -> list[str]:
        """The ids of the items that have a work folder, whoever left it."""
        try:
            return sorted(path.name for path in (self._library.root / WORK_DIR_NAME).iterdir() if path.is_dir())
        except FileNotFoundError:
            return []

    def _add_files(self, item: LibraryItem, confirm: Callable[[], None]) -> None:
        """Write the files for media servers, without which an item is no less whole."""
        if not self._media_server_files:
            return
        try:
            write_media_server_files(self._library.root / item.path, confirm=confirm)
        except (OSError, ManifestError, TransientError) as error:
            self._log.warning(
                "files for media servers are not written", vod_id=item.manifest.video_id, error=str(error)
            )

    def _find_kept(
        self, item: QueueItem, folder: WorkFolder, report_phase: Callable[[Phase], None], confirm: Callable[[], None]
    ) -> _Kept | None:
        """What the library has of the item already: the whole of it if anything is whole, and good enough."""
        placed = self._library.find_placed(folder.path, item.twitch_vod_id, confirm=confirm)
        if placed is not None:
            self._log.info("item found in its place", vod_id=item.twitch_vod_id, path=str(placed.path))
            return _Kept(placed, is_damaged=False, is_whole=True)
        best: _Kept | None = None
        for path in self._possible_places(item):
            found = self._library.find(path, item.twitch_vod_id)
            if found is None:
                continue
            if found.manifest.let_go is not None and not item.fresh:
                self._log.info("item was let go and is not fetched again", vod_id=item.twitch_vod_id, path=str(path))
                return _Kept(found, is_damaged=False, is_whole=True)
            is_complete = found.manifest.completeness >= 1.0
            if is_complete:
                report_phase(Phase.VERIFYING)
            is_intact = self._library.is_intact(found)
            if is_intact and is_complete and not item.fresh:
                self._log.info("item is whole already", vod_id=item.twitch_vod_id, path=str(path))
                return _Kept(found, is_damaged=False, is_whole=True)
            if item.fresh:
                self._log.info("item is fetched anew", vod_id=item.twitch_vod_id, path=str(path))
            elif not is_intact:
                self._log.warning("item is damaged and captured again", vod_id=item.twitch_vod_id, path=str(path))
            best = best or _Kept(found, is_damaged=not is_intact, is_whole=False)
        return best

    def _possible_places(self, item: QueueItem) -> list[PurePosixPath]:
        expected = self._library.folder_for(
            channel=item.channel, date=item.date, title=item.title, video_id=item.twitch_vod_id
        )
        known = PurePosixPath(item.downloaded_path).parent if item.downloaded_path else None
        places = [known] if known is not None and not known.is_absolute() and ".." not in known.parts else []
        return [*places, *([expected] if expected not in places else [])]

    def _place(
        self,
        item: QueueItem,
        folder: WorkFolder,
        captured: Captured,
        kept: _Kept | None,
        confirm: Callable[[], None],
    ) -> LibraryItem:
        manifest = _describe(item, captured, self._clock)
        path = self._library.folder_for(
            channel=manifest.channel, date=manifest.date, title=manifest.title, video_id=manifest.video_id
        )
        if kept is not None:
            path = kept.item.path  # One item, one folder, also when it has another title by now.
        there = kept.item if kept is not None else self._library.find(path, manifest.video_id)
        is_damaged = kept is not None and kept.is_damaged
        if there is not None and _holds_more(there.manifest, manifest, is_damaged=is_damaged):
            if is_damaged:
                raise captured.cut_short_by or _less_than_before(there, manifest)
            # What Twitch offers now is less than what was captured before.
            self._log.warning("item kept as it was", vod_id=item.twitch_vod_id, path=str(path))
            return there
        with disk_errors(captured.output):
            if there is not None:
                manifest = _take_chat_over(self._library.root / there.path, there.manifest, captured.output, manifest)
            (captured.output / MANIFEST_NAME).write_text(write_manifest(manifest), "utf-8")
        self._library.place(captured.output, folder.path, path, confirm=confirm)
        return LibraryItem(path, manifest)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the library has of an item."""

    item: LibraryItem
    is_damaged: bool  # its files are not what its manifest says
    is_whole: bool  # nothing is left to do


def _rendition_of(item: QueueItem, kept: _Kept | None) -> str | None:
    """The rendition that has to be fetched; None leaves it to the settings.

    What is to take the place of a damaged film is that film again, whatever the settings say by now. Who asks for it
    anew may have changed them for that.
    """
    if kept is None or not kept.is_damaged or item.fresh:
        return None
    return kept.item.manifest.rendition or None


def _holds_more(there: Manifest, new: Manifest, *, is_damaged: bool) -> bool:
    """Whether an earlier capture has more of the broadcast than a new one: Twitch removes sound, and parts, later."""
    if there.let_go is not None:
        return False
    if there.completeness != new.completeness:
        return there.completeness > new.completeness
    return not is_damaged and _muted_ms(there) < _muted_ms(new)


def _muted_ms(manifest: Manifest) -> int:
    return sum(entry.end_ms - entry.start_ms for entry in manifest.ledger if entry.reason == "muted")


def _less_than_before(kept: LibraryItem, manifest: Manifest) -> Incomplete:
    return Incomplete(
        f"Only {manifest.completeness:.2%} of the broadcast could be captured again, less than the damaged film in"
        f" {kept.path} may hold, which therefore stays.",
        remedy="What was fetched is kept in the work folder; retry the item if Twitch offers the rest again.",
    )


def _describe(item: QueueItem, captured: Captured, clock: Clock) -> Manifest:
    resolved, facts = captured.resolved, captured.facts
    files = [
        # The video was hashed while it was verified.
        FileEntry(VIDEO_NAME, facts.size_bytes, facts.checksum),
    ]
    if captured.has_thumbnail:
        files.append(describe_file(captured.output / THUMBNAIL_NAME))
    return Manifest(
        video_id=item.twitch_vod_id,
        stream_id=None,
        channel=item.channel,
        channel_name=resolved.channel_name,
        title=item.title or resolved.title,
        date=item.date or resolved.date,
        duration_ms=captured.playlist_us // 1000,
        completeness=captured.completeness,
        rendition=resolved.format_id,
        tools=(f"vodkeep {__version__}", resolved.resolver),
        captured_at=clock.now(),
        files=tuple(files),
        streams=tuple(
            StreamEntry(stream.kind, stream.codec, stream.packets, stream.width, stream.height, stream.fps)
            for stream in facts.streams
        ),
        ledger=tuple(
            LedgerEntry(stretch.start_us // 1000, stretch.end_us // 1000, stretch.source, stretch.reason)
            for stretch in captured.ledger
        ),
        chapters=tuple(
            ChapterEntry(chapter.start_us // 1000, chapter.end_us // 1000, chapter.title)
            for chapter in resolved.chapters
        ),
        picture_start=captured.picture_start,
        pauses=captured.pauses,
        found_at=item.created_at,
        listed_seconds=item.duration_seconds,
    )


def _take_chat_over(old: Path, there: Manifest, output: Path, new: Manifest) -> Manifest:
    """Bring the chat that lies beside an earlier film: it may be the only copy there is."""
    new = replace(new, description=there.description, stream_id=there.stream_id, publications=there.publications)
    entry = there.file(CHAT_NAME)
    if entry is None or not (old / CHAT_NAME).is_file():
        return new
    shutil.copyfile(old / CHAT_NAME, output / CHAT_NAME)
    return replace(new, files=(*new.files, entry), chat=there.chat)


def _captured_item(kept: LibraryItem, cut_short_by: PermanentError | None) -> CapturedItem:
    let_go = kept.manifest.let_go
    video = kept.manifest.file(VIDEO_NAME) if let_go is None else let_go.file
    return CapturedItem(
        path=str(kept.path / (VIDEO_NAME if let_go is None else let_go.file.name)),
        bytes=video.size_bytes if video is not None else 0,
        duration_ms=kept.manifest.duration_ms,
        completeness=kept.manifest.completeness,
        cut_short_by=cut_short_by,
        let_go=let_go is not None,
    )
