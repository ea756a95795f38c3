"""Captures one VOD: resolve, plan, fetch into the reel, write the index, verify.

What it leaves is a folder ``.work/<id>/out`` with a proven ``video.mp4`` and a thumbnail; whoever called gives that
folder its place in the library. Until then nothing is claimed, and every step can be cut off and run again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import urllib3

from vodkeep.capture.aside import Begun, bring_to_front, find_best, size_aside
from vodkeep.capture.assemble import Assembled, assemble, begin_reel
from vodkeep.capture.download import CanceledError, GoneError, MediaClient
from vodkeep.capture.fetch import Meter, SegmentFetcher
from vodkeep.capture.fragment import InitTracks, read_init, with_sets_in_band
from vodkeep.capture.ledger import completeness, write_ledger
from vodkeep.capture.model import (
    ByteRange,
    FetchedSegment,
    Hole,
    HoleCause,
    InitSection,
    LedgerStretch,
    MediaPlaylist,
    PacketCounts,
    Phase,
    Progress,
    ResolvedVod,
    Segment,
)
from vodkeep.capture.mp4_index import Movie
from vodkeep.capture.pace import Pace
from vodkeep.capture.patience import Patience
from vodkeep.capture.pauses import find_pauses
from vodkeep.capture.plan import (
    is_good_enough,
    keep_plan,
    match_fetched,
    renumbered,
)
from vodkeep.capture.playlist import PlaylistError, parse_media_playlist
from vodkeep.capture.reel import Reel
from vodkeep.capture.resolve import Resolver
from vodkeep.capture.samples import SegmentDamagedError, SegmentSamples, UnsupportedMediaError
from vodkeep.capture.space import RESERVE_BYTES, bytes_of, free_bytes
from vodkeep.capture.thumbnail import MAX_BYTES, grab_frame, is_jpeg
from vodkeep.capture.tries import ask_again
from vodkeep.capture.verify import (
    FileFacts,
    VerificationError,
    check_facts,
    read_facts,
    sample_decode,
    spread_positions,
)
from vodkeep.capture.whole import WantedFilm
from vodkeep.capture.workfolder import WorkFolder
from vodkeep.clock import Clock
from vodkeep.disk import disk_errors
from vodkeep.errors import (
    DiskFull,
    Incomplete,
    NetworkError,
    PermanentError,
    ServerError,
    StillRecording,
    TransientError,
    VodkeepError,
)
from vodkeep.rate import RateLimiter
from vodkeep.telemetry.log import Logger

VIDEO_NAME = "video.mp4"
THUMBNAIL_NAME = "thumbnail.jpg"
# Not the reel, which another attempt may go on with.
_WHOLE_NAME = "whole.mp4"
_REPORT_INTERVAL_S = 0.5
_RATE_WINDOW_REPORTS = 20
# Permanent causes that a person mends here; the broadcast is as it was.
_NOT_OF_THE_SOURCE = frozenset({"tool_missing"})
# After this the threads of a canceled capture are left to end by themselves; they touch nothing any more.
_CANCEL_GRACE_S = 1.5
_DECODED_SAMPLES = 3

T = TypeVar("T")
InitKey = tuple[str, ByteRange | None]


@dataclass(frozen=True, slots=True)
class Captured:
    """A capture that stood every check."""

    resolved: ResolvedVod
    output: Path  # the folder with the finished files
    facts: FileFacts
    ledger: tuple[LedgerStretch, ...]
    completeness: float  # 0..1; 1 only without any hole
    playlist_us: int  # length of the whole timeline, holes included
    segments: int
    holes: tuple[Hole, ...]
    has_thumbnail: bool
    cut_short_by: PermanentError | None  # why no more of it can ever be had
    picture_start: datetime | None = None  # when its first picture was broadcast, UTC, where the playlist says so
    pauses: tuple[tuple[int, int], ...] = ()  # ms since then in which there was no picture; see `find_pauses`


class DownloadWhole(Protocol):
    """Downloads a VOD without our engine."""

    async def __call__(self, wanted: WantedFilm, target: Path, on_progress: Callable[[Progress], None]) -> None:
        """Write what is wanted as the MP4 ``target``, in one piece; raises the errors of `vodkeep.errors`.

        The caller verifies it.
        """
        ...


@dataclass(frozen=True, slots=True)
class CaptureTools:
    """What every capture of the process shares."""

    resolver: Resolver
    download_whole: DownloadWhole  # for formats that we cannot take apart
    pool: urllib3.PoolManager  # of `media_pool`
    rate: RateLimiter
    connections: int  # the most parallel requests of one capture
    user_agent: str
    clock: Clock
    log: Logger
    patience: Patience = field(default_factory=Patience)
    reserve_bytes: int = RESERVE_BYTES  # of the disk, that captures leave free


class CaptureService:
    """Captures VODs into work folders below ``data_dir``."""

    def __init__(self, data_dir: Path, tools: CaptureTools) -> None:
        self._data_dir = data_dir
        self._tools = tools

    @property
    def resolver(self) -> Resolver:
        """What finds out where a VOD's picture is."""
        return self._tools.resolver

    def work_folder(self, video_id: str) -> WorkFolder:
        """The folder in which ``video_id`` is captured; the caller holds it during `capture`."""
        return WorkFolder(self._data_dir, video_id)

    async def capture(
        self,
        folder: WorkFolder,
        *,
        on_progress: Callable[[Progress], None],
        accept_holes: bool = False,
        rendition: str | None = None,
    ) -> Captured:
        """Capture ``folder.video_id`` into ``folder``, which the caller holds; as ``rendition`` if one is named.

        With ``accept_holes`` a broadcast with holes is finished with what there is, and its ledger names them;
        otherwise it ends as `Incomplete`. A broadcast that has vanished half way is finished with what was fetched
        before, and `Captured.cut_short_by` says why. Cancelling keeps what the journal proves. Raises the errors of
        `vodkeep.errors`; `StillRecording` when the broadcast has not ended.
        """
        capture = _Capture(self._tools, folder, on_progress, rendition)
        try:
            return await capture.run(accept_holes)
        finally:
            # Without the shield a cancellation would leave the reel open, and its thread would go on writing marks.
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(capture.close)


class _Capture:
    """One capture under way."""

    def __init__(
        self,
        tools: CaptureTools,
        folder: WorkFolder,
        on_progress: Callable[[Progress], None],
        rendition: str | None,
    ) -> None:
        self._tools = tools
        self._rendition = rendition
        self._folder = folder
        self._on_progress = on_progress
        self._log = tools.log.bind(vod_id=folder.video_id)
        self._cancel = threading.Event()
        self._client = MediaClient(tools.pool, tools.rate, tools.user_agent, tools.patience)
        self._reel = Reel(folder.path, folder.video_id)
        self._format_id: str | None = None  # of the rendition that this capture set out with
        self._fetcher: SegmentFetcher | None = None
        self._renewing = anyio.CancelScope()

    def close(self) -> None:
        if self._fetcher is not None:
            self._fetcher.settle()
        self._reel.close()

    async def run(self, accept_holes: bool) -> Captured:
        self._on_progress(Progress(Phase.RESOLVING))
        await anyio.to_thread.run_sync(self._folder.take_back_video)
        try:
            resolved, playlist = await self._resolve()
            await anyio.to_thread.run_sync(self._reel.open, resolved.format_id)
            meter = Meter(len(playlist.segments), playlist.duration_us)
            wanted = self._plan(playlist, meter)
            self._check_space(resolved, playlist, meter)
            try:
                holes = await self._fetch(resolved, playlist, wanted, meter)
            except UnsupportedMediaError as error:
                self._log.warning("format is left to another tool", reason=str(error))
                return await self._take_whole(resolved, playlist, accept_damage=accept_holes)
        except PermanentError as error:
            if error.code in _NOT_OF_THE_SOURCE:
                raise
            return await self._finish_best(error)
        # Something better was wanted in the place of these, and was not there.
        holes = {number: hole for number, hole in holes.items() if number not in self._reel.extents}
        if holes:
            if not accept_holes:
                raise _incomplete(self._folder.video_id, holes, len(playlist.segments))
            best = await anyio.to_thread.run_sync(find_best, self._folder.path)
            if best is None:
                raise _incomplete(self._folder.video_id, holes, len(playlist.segments))
            if best.plan.resolved.format_id != resolved.format_id:
                return await self._finish_begun(best, None)
        return await self._finish(resolved, playlist, meter, holes, None)

    async def _finish_best(self, gone: PermanentError) -> Captured:
        """The source is gone for good: finish what was fetched before, in whichever rendition there is most of it."""
        best = await anyio.to_thread.run_sync(find_best, self._folder.path)
        if best is None:
            raise gone
        self._log.warning("source is gone; what was fetched is finished", reason=str(gone))
        return await self._finish_begun(best, gone)

    async def _finish_begun(self, begun: Begun, gone: PermanentError | None) -> Captured:
        """Finish what was ``begun`` without fetching anything."""
        resolved, playlist = begun.plan.resolved, begun.plan.playlist()
        await anyio.to_thread.run_sync(self.close)
        await anyio.to_thread.run_sync(bring_to_front, self._folder.path, resolved.format_id)
        self._reel = Reel(self._folder.path, self._folder.video_id)
        await anyio.to_thread.run_sync(self._reel.open, resolved.format_id)
        meter = Meter(len(playlist.segments), playlist.duration_us)
        wanted = self._plan(playlist, meter)
        if not self._reel.extents:
            raise gone or Incomplete(f"Nothing of VOD {self._folder.video_id} could be captured.")
        cause, sentence = HoleCause.GONE, str(gone)
        if gone is None:
            cause, sentence = HoleCause.UNREACHABLE, "another rendition was tried instead, and less of it was there"
        missing = [item.media_sequence for item in wanted if item.media_sequence not in self._reel.extents]
        holes = {number: Hole(number, cause, sentence) for number in missing}
        return await self._finish(resolved, playlist, meter, holes, gone)

    async def _finish(
        self,
        resolved: ResolvedVod,
        playlist: MediaPlaylist,
        meter: Meter,
        holes: Mapping[int, Hole],
        gone: PermanentError | None,
    ) -> Captured:
        progress = _snapshot(Phase.MUXING, meter, rate=0.0)
        self._on_progress(progress)
        assembled = await anyio.to_thread.run_sync(assemble, self._reel, playlist.segments, _movie(resolved))
        self._on_progress(replace(progress, phase=Phase.VERIFYING))
        facts = await anyio.to_thread.run_sync(self._verify, playlist, assembled)
        fetched = {number: extent.segment for number, extent in self._reel.extents.items()}
        return await self._hand_out(self._reel.video_path, resolved, playlist, facts, fetched, holes, gone)

    async def _take_whole(self, resolved: ResolvedVod, playlist: MediaPlaylist, *, accept_damage: bool) -> Captured:
        """Have another tool download what we cannot take apart, and judge its file as we judge our own.

        How many packets there should be is known to nobody. Nor has anybody looked at the segments, so frames that
        cannot be decoded are damage, which is kept only with ``accept_damage``.
        """
        await anyio.to_thread.run_sync(self._reel.close)
        target = self._folder.path / _WHOLE_NAME
        wanted = WantedFilm(
            resolved.video_id,
            resolved.format_id,
            _movie(resolved),
            playlist.duration_us,
            in_fragments=any(segment.init is not None for segment in playlist.segments),
        )
        await self._tools.download_whole(wanted, target, self._on_progress)
        self._on_progress(Progress(Phase.VERIFYING))
        facts, failed = await anyio.to_thread.run_sync(_prove, target, playlist.segments)
        if failed and not accept_damage:
            raise VerificationError(f"{failed} frames of the film that yt-dlp downloaded cannot be decoded.")
        self._tell_undecodable(failed)
        nothing = PacketCounts(0, 0)
        fetched = {
            item.media_sequence: FetchedSegment(item.media_sequence, item.name, 0, nothing, item.muted)
            for item in playlist.segments
        }
        return await self._hand_out(target, resolved, playlist, facts, fetched, {}, None)

    async def _hand_out(
        self,
        video: Path,
        resolved: ResolvedVod,
        playlist: MediaPlaylist,
        facts: FileFacts,
        fetched: Mapping[int, FetchedSegment],
        holes: Mapping[int, Hole],
        gone: PermanentError | None,
    ) -> Captured:
        output = await anyio.to_thread.run_sync(self._folder.hand_out_video, video, VIDEO_NAME)
        has_thumbnail = await self._thumbnail(resolved, output, facts.duration_us)
        ledger = write_ledger(playlist, fetched, holes)
        return Captured(
            resolved=resolved,
            output=output,
            facts=facts,
            ledger=ledger,
            completeness=completeness(ledger),
            playlist_us=playlist.duration_us,
            segments=len(playlist.segments),
            holes=tuple(holes.values()),
            has_thumbnail=has_thumbnail,
            cut_short_by=gone,
            picture_start=playlist.segments[0].program_date_time,
            pauses=find_pauses(playlist),
        )

    # --- resolve and plan ----------------------------------------------------------------------------------------

    async def _resolve(self) -> tuple[ResolvedVod, MediaPlaylist]:
        video_id = self._folder.video_id
        resolved = await self._tools.resolver.resolve(video_id, self._rendition)
        try:
            resolved, text, playlist = await self._in_thread(partial(self._fetch_playlist, resolved))
        except GoneError as error:
            raise ServerError(f"The playlist of VOD {video_id} cannot be had: {error}.") from error
        except PlaylistError as error:
            raise ServerError(f"The playlist of VOD {video_id} makes no sense: {error}.") from error
        # Only the playlist knows: the site shows a "processing" picture, which the resolver takes for a live
        # broadcast, for some time after the end as well.
        if not playlist.ended:
            raise StillRecording(f"VOD {video_id} is still being recorded.")
        if not playlist.segments:
            raise ServerError(f"The playlist of VOD {video_id} is empty.")
        if self._format_id not in (None, resolved.format_id):
            raise ServerError(
                f"VOD {video_id} is offered as {resolved.format_id} now, and its capture began as {self._format_id}."
            )
        if self._format_id is None:
            self._format_id = resolved.format_id
            await anyio.to_thread.run_sync(bring_to_front, self._folder.path, resolved.format_id)
        planned = await anyio.to_thread.run_sync(keep_plan, self._folder.path, resolved, playlist, text)
        lost = len(planned.segments) - len(playlist.segments)
        if lost:
            self._log.warning("segments are no longer on offer", segments=lost)
        return resolved, planned

    def _fetch_playlist(self, resolved: ResolvedVod) -> tuple[ResolvedVod, str, MediaPlaylist]:
        """The playlist from the first host that has it, the address noted; blocking."""
        urls = (resolved.playlist_url, *resolved.other_urls)
        hosts = self._fetcher.hosts if self._fetcher is not None else None
        down = [url for url in urls if hosts is not None and hosts.is_down(urlsplit(url).netloc)]

        def fetch() -> tuple[ResolvedVod, str, MediaPlaylist]:
            failure: Exception | None = None
            for url in sorted(urls, key=down.__contains__):
                try:
                    text = self._client.fetch_text(url, self._cancel)
                    return replace(resolved, playlist_url=url), text, parse_media_playlist(text, url)
                except (GoneError, PlaylistError, NetworkError, ServerError) as error:
                    failure = failure or error
            assert failure is not None
            raise failure

        # Somebody else is finding out already whether a host that is down comes back.
        return fetch() if len(down) == len(urls) else ask_again(fetch, self._tools.patience, self._cancel)

    def _plan(self, playlist: MediaPlaylist, meter: Meter) -> list[Segment]:
        """The segments that are still wanted; those that the journal proves are entered in ``meter``."""
        self._reel.adopt(lambda fetched: match_fetched(playlist, fetched))
        wanted = []
        for segment in playlist.segments:
            extent = self._reel.extents.get(segment.media_sequence)
            if extent is not None and is_good_enough(segment, extent.segment):
                meter.kept(extent.segment.size_bytes, segment.duration_us)
            else:
                wanted.append(segment)
        if meter.segments:
            self._log.info("capture resumed", kept=meter.segments, wanted=len(wanted))
        return wanted

    def _check_space(self, resolved: ResolvedVod, playlist: MediaPlaylist, meter: Meter) -> None:
        with disk_errors(self._folder.path):
            free = free_bytes(self._folder.path)
        whole = bytes_of(timedelta(microseconds=playlist.duration_us), resolved.bitrate_bps)
        needed = max(0, whole - meter.kept_bytes) + self._tools.reserve_bytes
        if free < needed:
            aside = size_aside(self._folder.path)
            raise DiskFull(
                f"VOD {self._folder.video_id} needs about {needed >> 20} MiB, but only {free >> 20} MiB are free.",
                remedy="Free some space on the disk of DATA_DIR; nothing is deleted to make room." + _aside_hint(aside),
            )

    # --- fetch ---------------------------------------------------------------------------------------------------

    async def _fetch(
        self, resolved: ResolvedVod, playlist: MediaPlaylist, wanted: list[Segment], meter: Meter
    ) -> dict[int, Hole]:
        token = anyio.lowlevel.current_token()

        async def resolve_again() -> MediaPlaylist:
            # It is no task of this capture's, so nothing else would end it together with the capture.
            with anyio.CancelScope() as self._renewing:
                if not self._cancel.is_set():
                    return (await self._resolve())[1]
            raise CanceledError

        def refresh() -> MediaPlaylist:
            self._log.info("playlist resolved again")
            return renumbered(anyio.from_thread.run(resolve_again, token=token), like=playlist)

        def begin(first: SegmentSamples) -> None:
            begin_reel(
                self._reel,
                resolved.format_id,
                first,
                segments=len(playlist.segments),
                duration_us=playlist.duration_us,
                segment_us=playlist.duration_us // len(playlist.segments),
                movie=_movie(resolved),
            )

        fetcher = SegmentFetcher(
            self._client,
            self._reel,
            meter,
            Pace(self._tools.connections),
            most_connections=self._tools.connections,
            cancel=self._cancel,
            inits=await self._fetch_inits(playlist),
            begin_reel=begin,
            refresh=refresh,
            log=self._log,
            patience=self._tools.patience,
        )
        self._fetcher = fetcher
        missing = {segment.media_sequence for segment in wanted}
        kept = [segment for segment in playlist.segments if segment.media_sequence not in missing]
        holes: dict[int, Hole] = {}
        failure: VodkeepError | UnsupportedMediaError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._report, meter)
            try:
                holes = await self._in_thread(lambda: fetcher.fetch(wanted, kept))
            except (VodkeepError, UnsupportedMediaError) as error:
                failure = error  # Raised outside of the group, which would wrap it.
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return holes

    async def _fetch_inits(self, playlist: MediaPlaylist) -> dict[InitKey, InitTracks]:
        """What the init sections of fMP4 segments say."""
        inits: dict[InitKey, InitTracks] = {}
        for init in dict.fromkeys(segment.init for segment in playlist.segments if not segment.gap):
            if init is None or init.key in inits:
                continue
            fetch = partial(self._fetch_init, init)
            try:
                inits[init.key] = await self._in_thread(partial(ask_again, fetch, self._tools.patience, self._cancel))
            except (GoneError, SegmentDamagedError) as error:
                raise ServerError(f"An init section of VOD {self._folder.video_id} cannot be had: {error}.") from error
        try:
            return with_sets_in_band(inits)
        except SegmentDamagedError as error:
            raise ServerError(f"An init section of VOD {self._folder.video_id} makes no sense: {error}.") from error

    def _fetch_init(self, init: InitSection) -> InitTracks:
        return read_init(bytes(self._client.fetch_body(init.uri, self._cancel, byte_range=init.byte_range)))

    async def _report(self, meter: Meter) -> None:
        clock = self._tools.clock
        history = deque([(clock.monotonic(), meter.wire_bytes)], maxlen=_RATE_WINDOW_REPORTS)
        while True:
            await clock.sleep(_REPORT_INTERVAL_S)
            history.append((clock.monotonic(), meter.wire_bytes))
            elapsed_s = history[-1][0] - history[0][0]
            rate = (history[-1][1] - history[0][1]) / elapsed_s if elapsed_s > 0 else 0.0
            self._on_progress(_snapshot(Phase.FETCHING, meter, rate))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking network work in a thread that a cancellation wakes up and leaves behind."""
        ended = anyio.Event()
        token = anyio.lowlevel.current_token()

        def run() -> T:
            try:
                return work()
            finally:
                anyio.from_thread.run_sync(ended.set, token=token)

        try:
            return await anyio.to_thread.run_sync(run, abandon_on_cancel=True)
        except anyio.get_cancelled_exc_class():
            self._cancel.set()
            self._client.abort()
            self._renewing.cancel()
            if self._fetcher is not None:
                self._fetcher.wake()
            with anyio.move_on_after(_CANCEL_GRACE_S, shield=True):
                await ended.wait()
            raise
        except CanceledError as error:
            raise AssertionError("only a cancellation stops the fetching threads") from error

    # --- finish --------------------------------------------------------------------------------------------------

    def _verify(self, playlist: MediaPlaylist, assembled: Assembled) -> FileFacts:
        kept = [segment for segment in playlist.segments if segment.media_sequence in self._reel.extents]
        packets: list[FetchedSegment] = [self._reel.extents[segment.media_sequence].segment for segment in kept]
        expected = sum((segment.packets for segment in packets), PacketCounts(0, 0))
        facts, failed = _prove(self._reel.video_path, kept, expected, assembled)
        # The bytes are what Twitch has, as every check before this one says; fetching them again changes nothing.
        self._tell_undecodable(failed)
        return facts

    def _tell_undecodable(self, frames: int) -> None:
        if frames:
            self._log.warning("some frames cannot be decoded", frames=frames)

    async def _thumbnail(self, resolved: ResolvedVod, output: Path, duration_us: int) -> bool:
        """Fetch Twitch's picture, else grab a frame; a missing picture never fails a capture."""
        url, target = resolved.thumbnail_url, output / THUMBNAIL_NAME
        if url is not None:
            try:
                body = await self._in_thread(lambda: self._client.fetch_body(url, self._cancel, limit_bytes=MAX_BYTES))
            except (GoneError, TransientError) as error:
                self._log.info("no thumbnail at Twitch", reason=str(error))
            else:
                if is_jpeg(bytes(body)):
                    with disk_errors(target):
                        await anyio.Path(target).write_bytes(body)
                    return True
        return await anyio.to_thread.run_sync(grab_frame, output / VIDEO_NAME, target, duration_us / 10 / 1e6)


def _prove(
    video: Path, kept: Sequence[Segment], expected: PacketCounts | None = None, assembled: Assembled | None = None
) -> tuple[FileFacts, int]:
    """Read a finished film of the segments ``kept``; what it holds, and how many of the frames looked at are broken.

    ``assembled`` knows each packet. Without it and ``expected`` any packets are right. Raises `VerificationError`.
    """
    planned_us = kept[-1].end_us - kept[0].start_us
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as pool:
        decoding = pool.submit(sample_decode, video, spread_positions(planned_us, _DECODED_SAMPLES))
        facts = read_facts(video, fetched=assembled.packets if assembled is not None else None)
        failed = decoding.result()
    tolerance_us = max(1_000_000, *(segment.duration_us for segment in kept))
    check_facts(facts, expected or facts.packets, planned_us, tolerance_us)
    return facts, failed


def _movie(resolved: ResolvedVod) -> Movie:
    return Movie(
        title=resolved.title,
        artist=resolved.channel_name,
        date=resolved.date.date().isoformat() if resolved.date else "",
        comment=f"https://www.twitch.tv/videos/{resolved.video_id}",
        encoder="Vodkeep",
        chapters=resolved.chapters,
    )


def _snapshot(phase: Phase, meter: Meter, rate: float) -> Progress:
    total = meter.estimated_total_bytes()
    return Progress(
        phase,
        fetched_bytes=meter.kept_bytes,
        total_bytes=total,
        segments_done=meter.segments,
        segments_total=meter.total_segments,
        rate_bytes_s=rate,
        eta_s=max(0, total - meter.kept_bytes) / rate if total is not None and rate > 0 else None,
    )


def _aside_hint(size_bytes: int) -> str:
    if not size_bytes:
        return ""
    return f" {size_bytes >> 20} MiB are what was captured of it in another quality, in `aside` in its work folder."


def _incomplete(video_id: str, holes: Mapping[int, Hole], total: int) -> Incomplete:
    first = min(holes.values(), key=lambda hole: hole.media_sequence)
    return Incomplete(
        f"{len(holes)} of {total} segments of VOD {video_id} cannot be had; "
        f"the first is number {first.media_sequence}: {first.sentence.rstrip('.')}.",
        remedy="Twitch may serve them later; what was fetched is kept meanwhile.",
    )
