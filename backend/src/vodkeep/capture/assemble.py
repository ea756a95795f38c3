"""From the reel to a playable file: puts every segment at its place on the timeline and writes the index.

Segments carry the clock of their encoder. Neighbours whose clocks go on from one to the next form a *run*; where the
clock starts anew (a discontinuity) or a hole is, a new run begins at its own place on the playlist's timeline, so that
the picture of minute 90 is at minute 90 whatever is missing before it. Within a run the encoder's clock rules, because
the playlist's durations are rounded.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from vodkeep.capture.model import Segment
from vodkeep.capture.mp4_index import (
    IndexChunk,
    IndexTrack,
    Movie,
    estimate_index_bytes,
    file_header,
    front_offset,
    media_offset,
    write_index,
)
from vodkeep.capture.packet_check import PacketCheck, time_rows
from vodkeep.capture.reel import Reel, ReelHead
from vodkeep.capture.samples import SegmentSamples, TrackFormat, TrackSamples
from vodkeep.disk import disk_errors

Kind = Literal["video", "audio"]
KINDS: tuple[Kind, ...] = ("video", "audio")

# The clock of transport streams has 33 bits at 90 kHz and starts again after 26.5 hours (ISO/IEC 13818-1, 2.4.3.6).
_CLOCK_TURN = 2**33
_CLOCK_HZ = 90_000
# A larger step between neighbours is a clock that started anew without saying so.
_JUMP_S = 0.5
# Frames of sound follow each other without a gap, but their stamps are rounded. Below this, nobody hears or sees that
# they are put side by side; beyond it the encoder's clock is obeyed.
_IRON_OUT_S = 0.02
# A broadcast can become livelier than its first segment; an index that does not fit goes behind the media.
_MARGIN = 1.15


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a segment's tracks lie on the movie's timeline."""

    media_sequence: int
    shifts: Mapping[Kind, int]  # ticks of the track's own timescale to add to the segment's times
    floors: Mapping[Kind, int]  # ticks on the movie's timeline before which its first sample cannot be decoded

    def times(self, track: TrackSamples) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The decoding times of ``track`` on the movie's timeline, and its composition offsets.

        Samples that overlap the end of the segment before are moved together behind it, those after them stay where
        they belong: an overlap never delays what follows it. Pictures are shown when they should be all the same.
        """
        kind = track.format.kind
        dts, cts = track.dts + self.shifts[kind], track.cts
        floor = self.floors.get(kind)
        if floor is None or dts[0] >= floor:
            return dts, cts
        moved = np.maximum(dts, floor + np.arange(len(dts)))
        return moved, cts if kind == "audio" else (cts - (moved - dts)).astype(np.int32)


@dataclass(slots=True)
class _TrackClock:
    """How far a track has come."""

    timescale: int
    own_end: int  # where the next sample is expected by the encoder's clock, turns counted
    last: int  # movie ticks of the last sample
    end: int  # movie ticks where the next sample is expected


class Timeline:
    """Places segments one after the other; only bookkeeping, no media."""

    def __init__(self) -> None:
        self.runs = 0
        self._clocks: dict[Kind, _TrackClock] = {}
        self._run_shifts_us: int = 0  # of the run under way, from the encoder's clock to the movie's
        self._previous: Segment | None = None
        self._end_us = 0  # of everything placed so far

    def place(self, segment: Segment, tracks: Sequence[TrackSamples]) -> Placement:
        """Find the place of ``segment``, which comes after all that were placed before."""
        filled = [track for track in tracks if track.count]
        turns = {track.format.kind: self._turn(track, wraps=segment.init is None) for track in filled}
        if filled and self._begins_run(segment, filled[0], turns):
            self._begin_run(segment, filled)
            turns = dict.fromkeys(turns, 0)
        shifts: dict[Kind, int] = {}
        floors: dict[Kind, int] = {}
        for track in filled:
            self._place(track, turns[track.format.kind], shifts, floors)
        self._previous = segment
        return Placement(segment.media_sequence, shifts, floors)

    def _turn(self, track: TrackSamples, *, wraps: bool) -> int:
        """Ticks to add because the encoder's clock has gone round since the run began."""
        clock = self._clocks.get(track.format.kind)
        if clock is None or not wraps or clock.timescale != track.format.timescale:
            return 0
        turn = _CLOCK_TURN * track.format.timescale / _CLOCK_HZ
        return round(round((clock.own_end - int(track.dts[0])) / turn) * turn)

    def _begins_run(self, segment: Segment, leading: TrackSamples, turns: Mapping[Kind, int]) -> bool:
        previous = self._previous
        if previous is None or segment.discontinuity or segment.index != previous.index + 1:
            return True
        if (segment.init and segment.init.key) != (previous.init and previous.init.key):
            return True
        # The picture decides, where there is one; sound may pause.
        clock = self._clocks.get(leading.format.kind)
        if clock is None or clock.timescale != leading.format.timescale:
            return True
        step = int(leading.dts[0]) + turns[leading.format.kind] - clock.own_end
        return abs(step) > _JUMP_S * clock.timescale

    def _begin_run(self, segment: Segment, tracks: Sequence[TrackSamples]) -> None:
        self.runs += 1
        # The playlist's durations are rounded: a run never begins before the last one has ended.
        start_us = max(segment.start_us, self._end_us)
        self._run_shifts_us = start_us - min(_first_shown_us(track) for track in tracks)

    def _place(self, track: TrackSamples, turn: int, shifts: dict[Kind, int], floors: dict[Kind, int]) -> None:
        kind, timescale = track.format.kind, track.format.timescale
        first, last = int(track.dts[0]), int(track.dts[-1])
        shift = turn + round(self._run_shifts_us * timescale / 1_000_000)
        clock = self._clocks.get(kind)
        if clock is not None and clock.timescale == timescale:
            gap = first + shift - clock.end
            if kind == "audio" and abs(gap) <= _IRON_OUT_S * timescale:
                shift -= gap
            floors[kind] = clock.last + 1  # Times of decoding only ever grow, whatever the encoder says.
        shifts[kind] = shift
        on_movie = max(last + shift, floors.get(kind, 0) + track.count - 1)
        end = on_movie + track.tail
        self._clocks[kind] = _TrackClock(timescale, last + turn + track.tail, on_movie, end)
        self._end_us = max(self._end_us, end * 1_000_000 // timescale)


def begin_reel(
    reel: Reel, format_id: str, first: SegmentSamples, *, segments: int, duration_us: int, segment_us: int, movie: Movie
) -> None:
    """Begin ``reel`` with room for the index of the whole broadcast, judged by one of its segments."""
    share = max(1.0, duration_us / max(1, segment_us)) * _MARGIN
    video, audio = first.track("video"), first.track("audio")
    reserve = estimate_index_bytes(
        video_samples=int(video.count * share) if video else 0,
        audio_samples=int(audio.count * share) if audio else 0,
        chunks=int(2 * (segment_us / 1_000_000 + 1) * segments * _MARGIN),
        movie=movie,
        formats=[track.format.sample_entry for track in first.tracks],
    )
    smallest = file_header(8)
    media_start = media_offset(reserve)
    mdat = smallest[media_offset(8) - 16 :]
    front = smallest[: front_offset()] + reserve.to_bytes(4, "big") + b"free"
    # What lies between is never written and takes no space until the index comes.
    reel.begin(ReelHead(format_id, reserve, media_start), [(0, front), (media_start - len(mdat), mdat)])


@dataclass(frozen=True, slots=True)
class Assembled:
    """What was put together."""

    runs: int
    packets: Mapping[Kind, Sequence[PacketCheck]]  # what the file has to hold, in the order of the timeline


def assemble(reel: Reel, segments: Sequence[Segment], movie: Movie) -> Assembled:
    """Write the index of everything in ``reel``, in the order of ``segments``.

    What was written is durable afterwards. Interrupted, it can be done again from the start. Raises the errors of a
    full or failing disk.
    """
    assert reel.head is not None, "a reel is begun before it is assembled"
    timeline = Timeline()
    placements: list[Placement] = []
    first: dict[Kind, tuple[TrackFormat, int]] = {}  # the movie ticks of each track's first sample
    for segment in segments:
        if segment.media_sequence not in reel.extents:
            continue
        tracks = reel.load(segment.media_sequence).tracks
        placement = timeline.place(segment, tracks)
        placements.append(placement)
        for track in tracks:
            kind = track.format.kind
            if track.count and kind not in first:
                first[kind] = (track.format, int(placement.times(track)[0][0]))
    packets: dict[Kind, list[PacketCheck]] = {kind: [] for kind in KINDS if kind in first}
    index_tracks = [
        IndexTrack(
            kind,
            first[kind][0].timescale,
            first[kind][1],
            _chunk_source(reel, placements, kind, first[kind][1], note.append),
        )
        for kind, note in packets.items()
    ]
    with disk_errors(reel.video_path), reel.video_path.open("r+b") as file:
        write_index(
            file,
            index_tracks,
            movie,
            front_offset=front_offset(),
            front_size=reel.head.reserve,
            end_offset=reel.media_end,
            spool=lambda: _spool(reel.video_path.parent),
            barrier=lambda: os.fdatasync(file.fileno()),
        )
        file.flush()
        os.fsync(file.fileno())
    return Assembled(timeline.runs, packets)


def _spool(folder: Path) -> BinaryIO:
    # On the disk of the work folder, because the system's temporary folder may be memory or tiny.
    return tempfile.TemporaryFile(dir=folder)


def _chunk_source(
    reel: Reel, placements: Sequence[Placement], kind: Kind, start: int, note: Callable[[PacketCheck], None]
) -> Callable[[], Iterable[IndexChunk]]:
    return lambda: _with_durations(_chunks(reel, placements, kind, start, note))


@dataclass(slots=True, eq=False)
class _TimedChunk:
    """A chunk with its decoding times on the movie's timeline."""

    offset: int
    format: TrackFormat
    sizes: NDArray[np.uint32]
    dts: NDArray[np.int64]
    cts: NDArray[np.int32]
    sync: NDArray[np.bool_]
    tail: int


def _chunks(
    reel: Reel, placements: Sequence[Placement], kind: Kind, start: int, note: Callable[[PacketCheck], None]
) -> Iterator[_TimedChunk]:
    timescale: int | None = None
    for placement in placements:
        if kind not in placement.shifts:
            continue
        extent = reel.load(placement.media_sequence)
        number, track = next((number, track) for number, track in enumerate(extent.tracks) if track.format.kind == kind)
        timescale = timescale or track.format.timescale
        dts, cts = placement.times(track)
        tail = track.tail
        if track.format.timescale != timescale:  # Another encoder took over; its ticks become those of the track.
            dts = dts * timescale // track.format.timescale
            cts = (cts.astype(np.int64) * timescale // track.format.timescale).astype(np.int32)
            tail = tail * timescale // track.format.timescale
        times = zlib.crc32(time_rows(dts - start, dts + cts, track.sync))
        payload = reel.extents[placement.media_sequence].payloads[number]
        note(PacketCheck(placement.media_sequence, track.count, payload, times))
        for chunk in extent.chunks:
            if chunk.track != number:
                continue
            part = slice(chunk.first, chunk.first + chunk.count)
            yield _TimedChunk(
                extent.offset + chunk.offset,
                track.format,
                track.sizes[part],
                dts[part],
                cts[part],
                track.sync[part],
                tail,
            )


def _with_durations(chunks: Iterator[_TimedChunk]) -> Iterator[IndexChunk]:
    """A sample lasts until the next one begins, also across chunks, segments and holes."""
    pending = next(chunks, None)
    while pending is not None:
        following = next(chunks, None)
        after = pending.dts[-1] + max(1, pending.tail) if following is None else following.dts[0]
        # Rescaled times can fall together; a sample never lasts less than nothing.
        durations = np.maximum(np.diff(pending.dts, append=after), 0).astype(np.uint32)
        yield IndexChunk(pending.offset, pending.format, pending.sizes, durations, pending.cts, pending.sync)
        pending = following


def _first_shown_us(track: TrackSamples) -> int:
    return int((track.dts + track.cts).min()) * 1_000_000 // track.format.timescale
