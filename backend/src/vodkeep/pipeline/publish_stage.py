"""The publish stage's work on one item: each part on YouTube exactly once, whatever is cut off where.

What makes it exactly once: the address of an upload session is committed before the first byte goes there, and a
session that was begun is always asked before anything is sent. Only when it is gone, or when nothing is known of one,
is YouTube asked for a video with the part's marker, and only when there is none does a new session begin.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread

from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.events import EventLog
from vodkeep.disk import FOLDER_MODE, checksum_of, disk_errors
from vodkeep.errors import PermanentError, ServerError, TransientError, VodkeepError
from vodkeep.keep.additions import change_manifest
from vodkeep.keep.fixity import check_file
from vodkeep.keep.library import load_manifest_quietly
from vodkeep.keep.manifest import FileEntry, Manifest, ManifestError, PublicationEntry
from vodkeep.pipeline.film_parts import cut_part
from vodkeep.pipeline.held import HeldItem
from vodkeep.pipeline.publish_plan import (
    VIDEO_NAME,
    PlannedVideo,
    PublishItem,
    load_publish_item,
    plan_item,
    render_parts,
)
from vodkeep.pipeline.publish_runner import Published, UploadProgress
from vodkeep.publish.metadata import PublishTemplates
from vodkeep.publish.model import Committed, Finished, SessionGone, VideoMetadata, VideoStatus
from vodkeep.publish.publication import ON_YOUTUBE, PlannedPart, Publication, PublicationState, watch_url
from vodkeep.publish.split import Limits, Part
from vodkeep.publish.store import PublicationStore
from vodkeep.publish.thumbnail import THUMBNAIL_NAME, refusal_of
from vodkeep.telemetry.log import Logger

EVENT_KIND = "publication"

FIRST_CHECK = timedelta(minutes=1)
"""After this time YouTube is asked for the first time what became of an upload."""

PARTS_FOLDER = ".parts"
"""Below DATA_DIR: the parts of items that were cut and are being uploaded; work folders end with the capture."""

# A session that ends again and again is nothing that one attempt can mend.
_MOST_SESSIONS = 2

_BY_HAND = "Ask for it with vodkeep reprocess --republish to have it published anew."


class Uploads(Protocol):
    """YouTube, by the account of a channel; `vodkeep.publish.client.YouTube` describes the methods."""

    async def begin(self, metadata: VideoMetadata, *, size_bytes: int) -> str:
        """Begin a session."""
        ...

    async def ask(self, session_uri: str, *, size_bytes: int) -> Committed | Finished:
        """How far a session is."""
        ...

    async def send(
        self,
        session_uri: str,
        path: Path,
        *,
        size_bytes: int,
        start: int,
        on_sent: Callable[[int], None],
        on_committed: Callable[[int], Awaitable[None]],
        confirm: Callable[[], Awaitable[None]],
    ) -> Finished:
        """Send what is missing."""
        ...

    async def find(self, marker: str, *, since: datetime) -> VideoStatus | None:
        """The video with the marker."""
        ...

    async def look(self, video_ids: Sequence[str]) -> Mapping[str, VideoStatus]:
        """What YouTube says of videos."""
        ...

    async def set_thumbnail(self, video_id: str, path: Path) -> None:
        """Give the video a picture."""
        ...

    async def add_to_playlist(self, playlist_id: str, video_id: str) -> None:
        """Put the video into a playlist."""
        ...

    async def set_description(self, video_id: str, metadata: VideoMetadata) -> None:
        """Say something else of the video."""
        ...


@dataclass(frozen=True, slots=True)
class _Work:
    """One attempt at one item."""

    held: HeldItem
    youtube: Uploads
    item: PublishItem
    folder: Path
    on_progress: Callable[[UploadProgress], None]


class Publisher:
    """Implements ``pipeline.publish_runner.PublishStage``."""

    def __init__(
        self,
        database: Database,
        youtube_of: Callable[[str], Awaitable[Uploads]],
        *,
        library: Path,
        templates: PublishTemplates,
        limits: Limits,
        ffmpeg: str,
        log: Logger,
    ) -> None:
        """``youtube_of`` gives the account of a channel, by its login."""
        self._database = database
        self._youtube_of = youtube_of
        self._library = library
        self._templates = templates
        self._limits = limits
        self._ffmpeg = ffmpeg
        self._log = log
        self._proven: dict[Path, tuple[int, int, int, str]] = {}

    async def publish(self, held: HeldItem, *, on_progress: Callable[[UploadProgress], None]) -> Published:
        """Bring every part of the item to YouTube; see ``PublishStage``."""
        claim = held.claim
        item = await self._database.run(lambda unit: load_publish_item(unit, claim.item_id, self._library), write=False)
        youtube = await self._youtube_of(claim.item.channel)
        parts = await self._known(claim.item_id)
        if parts and all(each.state in ON_YOUTUBE for each in parts) and await self._are_there(held, youtube, parts):
            # Asked for again, or cut off right after the last byte: it is linked, and nothing is read or sent.
            return await self._finish(held, youtube, item, uploaded=False)
        if item.folder is None:
            raise PermanentError(
                f"Item {claim.item_id} has no video in its folder to upload.",
                code="no_folder",
                remedy="Ask for the item again with vodkeep reprocess.",
            )
        work = _Work(held, youtube, item, item.folder, on_progress)
        parts = await self._plan(work)
        total = sum(each.size_bytes for each in parts)
        sent = 0
        for each in parts:
            if (await self._find_row(each)).state not in ON_YOUTUBE:
                await self._publish_part(work, each, before=sent, total=total)
            sent += each.size_bytes
            on_progress(UploadProgress(sent, total))
        return await self._finish(held, youtube, item, uploaded=True)

    # --- the plan ------------------------------------------------------------------------------------------------

    async def _plan(self, work: _Work) -> list[Publication]:
        """The parts of the item's publication, planned now unless they were before and the video is still the same."""
        manifest = await anyio.to_thread.run_sync(load_manifest_quietly, work.folder)
        video = manifest.file(VIDEO_NAME) if manifest is not None else None
        if video is None:
            raise PermanentError(
                "The manifest names no video to upload.",
                code="no_video",
                remedy="See vodkeep verify, and ask for the item again with vodkeep reprocess.",
            )
        item_id, item = work.held.claim.item_id, work.item
        current = await self._known(item_id)
        begun_whole = bool(current) and current[0].parts == 1 and current[0].youtube_id is None
        if begun_whole and current[0].checksum != video.checksum:
            # Captured anew since: a session that holds the beginning of another file must not be gone on with.
            await self._supersede(work.held, "The video was captured anew before its upload had ended.")
            item = await self._database.run(lambda unit: load_publish_item(unit, item_id, self._library), write=False)
            current = []
        if current:
            return current
        parts = await anyio.to_thread.run_sync(plan_item, item, self._limits)
        planned = []
        for video_planned in render_parts(item, parts, self._templates):
            entry = video if len(parts) == 1 else await self._cut(work, video_planned.part)
            planned.append(_planned(video_planned, entry))
        now = work.held.clock.now()
        return await work.held.save(lambda unit: _plan_once(unit, item_id, planned, now))

    async def _cut(self, work: _Work, part: Part) -> FileEntry:
        """A part as a file in the item's work folder; one that is there already is proven and kept."""
        target = self._parts_folder(work.held.claim.item_id) / f"part-{part.number}.mp4"
        with disk_errors(target):
            await anyio.to_thread.run_sync(partial(target.parent.mkdir, mode=FOLDER_MODE, parents=True, exist_ok=True))
        await cut_part(work.folder / VIDEO_NAME, part, target, ffmpeg=self._ffmpeg)
        size = (await anyio.Path(target).stat()).st_size
        checksum = await anyio.to_thread.run_sync(checksum_of, target, abandon_on_cancel=True)
        return FileEntry(target.name, size, checksum)

    def _parts_folder(self, item_id: str) -> Path:
        return self._library / PARTS_FOLDER / item_id

    async def _supersede(self, held: HeldItem, sentence: str) -> None:
        now, item_id = held.clock.now(), held.claim.item_id

        def work(unit: UnitOfWork) -> None:
            if PublicationStore(unit.connection).supersede(item_id, now):
                _append(unit, held, now, "superseded", sentence)

        await held.save(work)

    # --- one part ------------------------------------------------------------------------------------------------

    async def _publish_part(self, work: _Work, part: Publication, *, before: int, total: int) -> None:
        source = await self._prove_source(work, part)
        rendering = self._render(work.item, part)
        for _ in range(_MOST_SESSIONS):
            row = await self._find_row(part)
            try:
                finished = await self._upload(work, row, rendering, source, before=before, total=total)
            except SessionGone:
                await self._forget_session(work.held, row)
                continue
            await self._save_uploaded(work, row, finished.video_id)
            return
        raise SessionGone

    async def _upload(
        self, work: _Work, row: Publication, rendering: PlannedVideo, source: Path, *, before: int, total: int
    ) -> Finished:
        """Bring the part to YouTube; raises `SessionGone` when its session has to be begun anew."""
        held, youtube = work.held, work.youtube
        session_uri, start = row.session_uri, 0
        if session_uri is not None:
            state = await youtube.ask(session_uri, size_bytes=row.size_bytes)
            if isinstance(state, Finished):
                return state
            start = state.bytes
        else:
            # A session may have been finished before its row was lost: by a restored backup, or one that is gone.
            found = await youtube.find(row.marker, since=_since(work, row))
            if found is not None and found.refusal is None:
                if found.video_id == row.youtube_id:
                    raise ServerError("YouTube says of the same video that it is there and that it is not.")
                return Finished(found.video_id)
            await held.confirm()
            begun = await youtube.begin(rendering.rendering.metadata, size_bytes=row.size_bytes)
            session_uri, now = begun, held.clock.now()
            await held.save(lambda unit: PublicationStore(unit.connection).save_session(row.id, begun, now))
        work.on_progress(UploadProgress(before + start, total))

        async def committed(position: int) -> None:
            now = held.clock.now()
            await held.save(lambda unit: PublicationStore(unit.connection).save_committed(row.id, position, now))

        return await youtube.send(
            session_uri,
            source,
            size_bytes=row.size_bytes,
            start=start,
            on_sent=lambda position: work.on_progress(UploadProgress(before + position, total)),
            on_committed=committed,
            confirm=held.confirm,
        )

    async def _prove_source(self, work: _Work, part: Publication) -> Path:
        """The part's file, which is what its row says; read from end to end once in the life of the process."""
        if part.parts > 1:
            planned = Part(part.part, part.parts, part.start_ms, part.end_ms)
            entry = await self._cut(work, planned)
            if (entry.size_bytes, entry.checksum) != (part.size_bytes, part.checksum):
                raise PermanentError(
                    f"Part {part.part} of the video is not what it was when its upload was planned.",
                    code="source_changed",
                    remedy=_BY_HAND,
                )
            return self._parts_folder(part.twitch_vod_id) / entry.name
        path = work.folder / part.source_name
        seen = await anyio.to_thread.run_sync(_signature, path)
        proof = (*seen, part.checksum) if seen is not None else None
        if proof is None or self._proven.get(path) != proof:
            entry = FileEntry(part.source_name, part.size_bytes, part.checksum)
            problem = await anyio.to_thread.run_sync(
                check_file, work.folder, entry, lambda _: None, abandon_on_cancel=True
            )
            if problem is not None:
                raise PermanentError(
                    f"The video is not uploaded: {problem.name} {problem.sentence}.",
                    code="source_damaged",
                    remedy="vodkeep verify --repair fetches it again as far as Twitch still offers it.",
                )
            if proof is not None:
                self._proven[path] = proof
        return path

    async def _forget_session(self, held: HeldItem, row: Publication) -> None:
        now = held.clock.now()
        await held.save(lambda unit: PublicationStore(unit.connection).forget_session(row.id, now))

    async def _save_uploaded(self, work: _Work, row: Publication, video_id: str) -> None:
        held, now = work.held, work.held.clock.now()

        def write(unit: UnitOfWork) -> None:
            PublicationStore(unit.connection).save_uploaded(row.id, video_id, now, next_check_at=now + FIRST_CHECK)
            part = f" Part {row.part} of {row.parts}." if row.parts > 1 else ""
            _append(unit, held, now, "uploaded", f"YouTube has every byte: {watch_url(video_id)}.{part}")

        await held.save(write)
        self._log.info(
            "part uploaded",
            vod_id=row.twitch_vod_id,
            part=row.part,
            parts=row.parts,
            youtube_id=video_id,
            bytes=row.size_bytes,
        )
        await self._describe(held, work.folder)

    # --- what is there already -----------------------------------------------------------------------------------

    async def _are_there(self, held: HeldItem, youtube: Uploads, parts: Sequence[Publication]) -> bool:
        """Whether YouTube still has every part; writes down which it has not. Raises when one was refused."""
        ids = {each.id: str(each.youtube_id) for each in parts}
        answers = await youtube.look(list(ids.values()))
        for each in parts:
            status = answers.get(ids[each.id])
            if status is not None and status.refusal is not None:
                raise PermanentError(
                    f"YouTube does not show the video {watch_url(str(each.youtube_id))}: {status.refusal}.",
                    code="upload_rejected",
                    remedy=_BY_HAND,
                )
        gone = [each for each in parts if ids[each.id] not in answers]
        if not gone:
            return True
        now = held.clock.now()

        def work(unit: UnitOfWork) -> None:
            PublicationStore(unit.connection).save_vanished([each.id for each in gone], now)
            for each in gone:
                _append(
                    unit, held, now, "vanished", f"YouTube does not have {watch_url(str(each.youtube_id))} any more."
                )

        await held.save(work)
        return False

    # --- the end -------------------------------------------------------------------------------------------------

    async def _finish(self, held: HeldItem, youtube: Uploads, item: PublishItem, *, uploaded: bool) -> Published:
        """What belongs to the videos beside their bytes; a thumbnail or playlist that is refused fails nothing."""
        item = await self._database.run(
            lambda unit: load_publish_item(unit, held.claim.item_id, self._library), write=False
        )
        parts = await self._known(held.claim.item_id)
        for part in parts:
            video_id = str(part.youtube_id)
            rendering = self._render(item, part).rendering
            picture = item.folder / THUMBNAIL_NAME if item.folder is not None else None
            if picture is not None and await anyio.to_thread.run_sync(refusal_of, picture) is not None:
                picture = None
            if picture is not None and not part.thumbnail_done:
                await self._beside(held, part, "thumbnail", partial(youtube.set_thumbnail, video_id, picture))
            if not part.playlist_done and rendering.playlist is not None:
                await self._beside(
                    held, part, "playlist", partial(youtube.add_to_playlist, rendering.playlist, video_id)
                )
            if uploaded and part.parts > 1:
                await held.confirm()
                await youtube.set_description(video_id, rendering.metadata)
        if item.folder is not None:
            await self._describe(held, item.folder)
        await anyio.to_thread.run_sync(
            partial(shutil.rmtree, self._parts_folder(held.claim.item_id), ignore_errors=True)
        )
        first = str(parts[0].youtube_id)
        return Published(watch_url(first), len(parts), sum(each.size_bytes for each in parts), uploaded)

    async def _beside(self, held: HeldItem, part: Publication, what: str, work: Callable[[], Awaitable[None]]) -> None:
        await held.confirm()
        now = held.clock.now()
        try:
            await work()
        except PermanentError as error:
            code, sentence, remedy = error.code, f"The {what} was refused: {error}", error.remedy
            await held.save(lambda unit: _append(unit, held, now, code, sentence, remedy))
            self._log.warning(f"{what} refused", vod_id=part.twitch_vod_id, code=code, error=str(error), remedy=remedy)
            return
        thumbnail, playlist = (True if what == name else None for name in ("thumbnail", "playlist"))
        await held.save(
            lambda unit: PublicationStore(unit.connection).save_done(
                part.id, now, thumbnail=thumbnail, playlist=playlist
            )
        )

    async def _describe(self, held: HeldItem, folder: Path) -> None:
        """Let the item's manifest say what is on YouTube, so that a rescan knows it too."""
        item_id = held.claim.item_id
        rows = await self._database.run(lambda unit: PublicationStore(unit.connection).of_item(item_id), write=False)

        def change(manifest: Manifest) -> Manifest:
            return replace(manifest, publications=tuple(_entry(row) for row in rows))

        await held.confirm()
        try:
            await anyio.to_thread.run_sync(change_manifest, folder, change)
        except (ManifestError, VodkeepError, OSError) as error:
            self._log.warning("the manifest does not say so", vod_id=item_id, error=str(error))

    # --- how it is done ------------------------------------------------------------------------------------------

    async def _known(self, item_id: str) -> list[Publication]:
        return await self._database.run(lambda unit: PublicationStore(unit.connection).current(item_id), write=False)

    async def _find_row(self, part: Publication) -> Publication:
        found = await self._database.run(lambda unit: PublicationStore(unit.connection).find(part.id), write=False)
        if found is None or found.state is PublicationState.SUPERSEDED:
            raise TransientError("The publication changed while it was being uploaded.", code="superseded")
        return found

    def _render(self, item: PublishItem, part: Publication) -> PlannedVideo:
        planned = Part(part.part, part.parts, part.start_ms, part.end_ms)
        (rendered,) = render_parts(replace(item, round=part.round), (planned,), self._templates)
        return rendered


def _plan_once(unit: UnitOfWork, item_id: str, planned: Sequence[PlannedPart], now: datetime) -> list[Publication]:
    """Plan, unless the answer to an earlier try of the same got lost."""
    store = PublicationStore(unit.connection)
    return store.current(item_id) or store.plan(item_id, planned, now)


def _planned(video: PlannedVideo, entry: FileEntry) -> PlannedPart:
    part, metadata = video.part, video.rendering.metadata
    return PlannedPart(
        part=part.number,
        parts=part.parts,
        start_ms=part.start_ms,
        end_ms=part.end_ms,
        source_name=entry.name,
        size_bytes=entry.size_bytes,
        checksum=entry.checksum,
        title=metadata.title,
        privacy=metadata.privacy,
        marker=video.marker,
    )


def _entry(row: Publication) -> PublicationEntry:
    return PublicationEntry(
        round=row.round,
        part=row.part,
        parts=row.parts,
        state=row.state,
        start_ms=row.start_ms,
        end_ms=row.end_ms,
        youtube_id=row.youtube_id,
        uploaded_at=row.uploaded_at,
        processed_at=row.processed_at,
    )


def _since(work: _Work, row: Publication) -> datetime:
    """Before this time the video cannot have been uploaded."""
    item = work.held.claim.item
    moments = [moment for moment in (item.date, item.created_at) if moment is not None]
    return min(moments, default=work.held.clock.now() - timedelta(days=30))


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _append(unit: UnitOfWork, held: HeldItem, now: datetime, code: str, sentence: str, remedy: str = "") -> None:
    EventLog(unit.connection).append(
        held.claim.item_id, at=now, kind=EVENT_KIND, code=code, sentence=sentence, remedy=remedy, corr=held.claim.corr
    )
