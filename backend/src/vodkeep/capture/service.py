"""Captures one VOD: resolve, plan, fetch, mux, verify.

What it leaves is a folder ``.work/<id>/out`` with a proven ``video.mp4`` and a thumbnail; whoever called gives that
folder its place in the library. Until then nothing is claimed, and every step can be cut off and run again.
"""

from __future__ import annotations

import shutil
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import urllib3

from vodkeep.capture.fetch import CanceledError, GoneError, MediaClient, Meter, SegmentFetcher
from vodkeep.capture.ledger import completeness, write_ledger
from vodkeep.capture.model import (
    ByteRange,
    Hole,
    LedgerStretch,
    MediaPlaylist,
    PacketCounts,
    Phase,
    Progress,
    ResolvedVod,
    Segment,
)
from vodkeep.capture.mux import Labels, Muxer, Run, split_into_runs
from vodkeep.capture.playlist import PlaylistError, muted_alternatives, parse_media_playlist
from vodkeep.capture.probe import probe_segment
from vodkeep.capture.rate import RateLimiter
from vodkeep.capture.resolve import Resolver
from vodkeep.capture.thumbnail import MAX_BYTES, grab_frame, is_jpeg
from vodkeep.capture.verify import FileFacts, VerificationError, check_facts, count_joined, read_facts
from vodkeep.capture.workfolder import WorkFolder
from vodkeep.clock import Clock
from vodkeep.disk import disk_errors
from vodkeep.errors import DiskFull, Incomplete, ServerError, StillRecording, TransientError, VodkeepError
from vodkeep.telemetry.log import Logger

VIDEO_NAME = "video.mp4"
THUMBNAIL_NAME = "thumbnail.jpg"
_REPORT_INTERVAL_S = 0.5
_RATE_WINDOW_REPORTS = 20
# After this the threads of a canceled capture are left to end by themselves; they touch nothing any more.
_CANCEL_GRACE_S = 1.5
_DISK_RESERVE_BYTES = 128 * 1024 * 1024
_ASSUMED_BITRATE_BPS = 6_000_000

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


@dataclass(frozen=True, slots=True)
class CaptureTools:
    """What every capture of the process shares."""

    resolver: Resolver
    muxer: Muxer
    pool: urllib3.PoolManager
    rate: RateLimiter
    connections: int  # parallel requests of one capture
    user_agent: str
    clock: Clock
    log: Logger


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
        self, folder: WorkFolder, *, on_progress: Callable[[Progress], None], accept_holes: bool = False
    ) -> Captured:
        """Capture ``folder.video_id`` into ``folder``, which the caller holds.

        With ``accept_holes`` a broadcast with holes is finished with what there is, and its ledger names them;
        otherwise it ends as `Incomplete`. Cancelling keeps what the journal proves. Raises the errors of
        `vodkeep.errors`;
        `StillRecording` when the broadcast has not ended.
        """
        return await _Capture(self._tools, folder, on_progress).run(accept_holes)


class _Capture:
    """One capture under way."""

    def __init__(self, tools: CaptureTools, folder: WorkFolder, on_progress: Callable[[Progress], None]) -> None:
        self._tools = tools
        self._folder = folder
        self._on_progress = on_progress
        self._log = tools.log.bind(vod_id=folder.video_id)
        self._cancel = threading.Event()
        self._client = MediaClient(tools.pool, tools.rate, tools.user_agent)

    async def run(self, accept_holes: bool) -> Captured:
        self._on_progress(Progress(Phase.RESOLVING))
        resolved, playlist = await self._resolve()
        await anyio.to_thread.run_sync(self._folder.open_journal, resolved.format_id)
        meter = Meter(len(playlist.segments), playlist.duration_us)
        wanted = self._plan(playlist, meter)
        self._check_space(resolved, playlist, meter)
        inits = await self._fetch_inits(playlist)
        holes = await self._fetch(wanted, meter, inits)
        if (holes and not accept_holes) or not self._folder.fetched:
            raise _incomplete(self._folder.video_id, holes, len(playlist.segments))

        progress = _snapshot(Phase.MUXING, meter, rate=0.0)
        self._on_progress(progress)
        runs = split_into_runs(playlist.segments, self._folder.fetched)
        output = await anyio.to_thread.run_sync(self._folder.fresh_output)
        video = output / VIDEO_NAME
        await self._mux(resolved, playlist, runs, inits, video)
        self._on_progress(replace(progress, phase=Phase.VERIFYING))
        facts = await anyio.to_thread.run_sync(self._verify, video, runs)
        has_thumbnail = await self._thumbnail(resolved, video, output / THUMBNAIL_NAME, facts.duration_us)
        ledger = write_ledger(playlist, self._folder.fetched, holes)
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
        )

    async def _resolve(self) -> tuple[ResolvedVod, MediaPlaylist]:
        video_id = self._folder.video_id
        resolved = await self._tools.resolver.resolve(video_id)
        try:
            text = await self._in_thread(lambda: self._client.fetch_text(resolved.playlist_url, self._cancel))
            playlist = parse_media_playlist(text, resolved.playlist_url)
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
        return resolved, playlist

    def _plan(self, playlist: MediaPlaylist, meter: Meter) -> list[Segment]:
        """The segments that are still wanted; those that the journal proves are entered in ``meter``."""
        wanted = []
        for segment in playlist.segments:
            kept = self._folder.fetched.get(segment.media_sequence)
            if kept is not None and kept.name in _names(segment):
                meter.kept(kept.size_bytes, segment.duration_us)
            else:
                self._folder.forget(segment.media_sequence)
                wanted.append(segment)
        if meter.segments:
            self._log.info("capture resumed", kept=meter.segments, wanted=len(wanted))
        return wanted

    def _check_space(self, resolved: ResolvedVod, playlist: MediaPlaylist, meter: Meter) -> None:
        with disk_errors(self._folder.path):
            free = shutil.disk_usage(self._folder.path).free
        bitrate = resolved.bitrate_bps or _ASSUMED_BITRATE_BPS
        # Segments and the finished file lie side by side for a while.
        whole = bitrate // 8 * playlist.duration_us // 1_000_000
        needed = max(0, 2 * whole - meter.kept_bytes) + _DISK_RESERVE_BYTES
        if free < needed:
            raise DiskFull(
                f"VOD {self._folder.video_id} needs about {needed >> 20} MiB, but only {free >> 20} MiB are free.",
                remedy="Free some space on the disk of DATA_DIR; nothing is deleted to make room.",
            )

    async def _fetch_inits(self, playlist: MediaPlaylist) -> dict[InitKey, Path]:
        """The init sections of fMP4 segments, on disk beside them."""
        paths: dict[InitKey, Path] = {}
        for init in dict.fromkeys(segment.init for segment in playlist.segments):
            if init is None or init.key in paths:
                continue
            path = self._folder.segments / f"init-{len(paths)}.mp4"
            try:
                body = await self._in_thread(
                    lambda init=init: self._client.fetch_bytes(init.uri, self._cancel, byte_range=init.byte_range)  # type: ignore[misc]
                )
            except GoneError as error:
                raise ServerError(f"An init section of VOD {self._folder.video_id} cannot be had: {error}.") from error
            with disk_errors(path):
                await anyio.Path(path).write_bytes(body)
            paths[init.key] = path
        return paths

    async def _fetch(self, wanted: list[Segment], meter: Meter, inits: Mapping[InitKey, Path]) -> dict[int, Hole]:
        token = anyio.lowlevel.current_token()

        def refresh() -> MediaPlaylist:
            self._log.info("playlist resolved again")
            return anyio.from_thread.run(self._resolve, token=token)[1]

        fetcher = SegmentFetcher(
            self._client,
            self._folder,
            meter,
            connections=self._tools.connections,
            cancel=self._cancel,
            inits={key: path.read_bytes() for key, path in inits.items()},
            refresh=refresh,
            log=self._log,
        )
        holes: dict[int, Hole] = {}
        failure: VodkeepError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._report, meter)
            try:
                holes = await self._in_thread(lambda: fetcher.fetch(wanted))
            except VodkeepError as error:
                failure = error  # Raised outside of the group, which would wrap it.
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return holes

    async def _report(self, meter: Meter) -> None:
        clock = self._tools.clock
        history = deque([(clock.monotonic(), meter.wire_bytes)], maxlen=_RATE_WINDOW_REPORTS)
        while True:
            await clock.sleep(_REPORT_INTERVAL_S)
            history.append((clock.monotonic(), meter.wire_bytes))
            elapsed_s = history[-1][0] - history[0][0]
            rate = (history[-1][1] - history[0][1]) / elapsed_s if elapsed_s > 0 else 0.0
            self._on_progress(_snapshot(Phase.FETCHING, meter, rate))

    async def _mux(
        self,
        resolved: ResolvedVod,
        playlist: MediaPlaylist,
        runs: Sequence[Run],
        inits: Mapping[InitKey, Path],
        target: Path,
    ) -> None:
        first = runs[0].segments[0]
        probe = await anyio.to_thread.run_sync(
            probe_segment,
            self._folder.segment_path(first.media_sequence).read_bytes(),
            inits[first.init.key].read_bytes() if first.init else None,
        )
        await self._tools.muxer.mux(
            runs,
            paths={
                segment.media_sequence: self._folder.segment_path(segment.media_sequence)
                for run in runs
                for segment in run.segments
            },
            inits=inits,
            packets=self._packets(),
            video_codec=probe.video_codec,
            labels=Labels(
                title=resolved.title,
                channel=resolved.channel_name,
                date=resolved.date,
                comment=f"https://www.twitch.tv/videos/{resolved.video_id}",
                chapters=resolved.chapters,
            ),
            end_us=playlist.duration_us,
            target=target,
        )

    def _packets(self) -> PacketCounts:
        return sum((segment.packets for segment in self._folder.fetched.values()), PacketCounts(0, 0))

    def _verify(self, video: Path, runs: Sequence[Run]) -> FileFacts:
        facts = read_facts(video)
        counted = self._packets()
        expected = counted
        is_ts = runs[0].segments[0].init is None
        if is_ts and facts.packets != counted:
            # A frame may straddle two segments; then only reading them as one stream counts it rightly.
            expected = PacketCounts(0, 0)
            for run in runs:
                expected += count_joined([self._folder.segment_path(item.media_sequence) for item in run.segments])
            boundaries = sum(len(run.segments) for run in runs)
            if max(abs(expected.video - counted.video), abs(expected.audio - counted.audio)) > boundaries:
                raise VerificationError("The fetched segments hold another number of packets than when they came in.")
        tolerance_us = max(1_000_000, *(item.duration_us for run in runs for item in run.segments))
        check_facts(facts, expected, runs[-1].end_us - runs[0].start_us, tolerance_us)
        return facts

    async def _thumbnail(self, resolved: ResolvedVod, video: Path, target: Path, duration_us: int) -> bool:
        """Fetch Twitch's picture, else grab a frame; a missing picture never fails a capture."""
        url = resolved.thumbnail_url
        if url is not None:
            try:
                body = await self._in_thread(lambda: self._client.fetch_bytes(url, self._cancel, limit_bytes=MAX_BYTES))
            except (GoneError, TransientError) as error:
                self._log.info("no thumbnail at Twitch", reason=str(error))
            else:
                if is_jpeg(body):
                    with disk_errors(target):
                        await anyio.Path(target).write_bytes(body)
                    return True
        return await grab_frame(self._tools.muxer.program, video, target, at_s=duration_us / 10 / 1e6)

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
            with anyio.move_on_after(_CANCEL_GRACE_S, shield=True):
                await ended.wait()
            raise
        except CanceledError as error:
            raise AssertionError("only a cancellation stops the fetching threads") from error


def _names(segment: Segment) -> set[str]:
    return {uri.split("?", 1)[0].rsplit("/", 1)[-1] for uri in muted_alternatives(segment)}


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


def _incomplete(video_id: str, holes: Mapping[int, Hole], total: int) -> Incomplete:
    first = next(iter(sorted(holes.values(), key=lambda hole: hole.media_sequence)))
    return Incomplete(
        f"{len(holes)} of {total} segments of VOD {video_id} cannot be had; "
        f"the first is number {first.media_sequence}: {first.sentence}.",
        remedy="Twitch may serve them later; what was fetched is kept meanwhile.",
    )
