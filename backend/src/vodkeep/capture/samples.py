"""Elementary samples: what a segment holds once its container is taken off.

Whatever a segment came as (transport stream, fragmented MP4), it becomes the same thing here: per track the samples in
decoding order, their sizes and times, and their bytes back to back, ready to be written into the MP4 without another
look at them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# How much of one track stands in a row before the other's turn comes: players read both at once.
INTERLEAVE_S = 1.0


class SegmentDamagedError(ValueError):
    """The bytes are not a whole segment; the message says why."""


class UnsupportedMediaError(ValueError):
    """Healthy media that we cannot put into an MP4 ourselves; the message names it."""


@dataclass(frozen=True, slots=True)
class TrackFormat:
    """What a player must know before the first sample of a track."""

    kind: Literal["video", "audio"]
    codec: str  # four characters of the sample entry: "avc1", "hvc1", "av01", "mp4a"
    timescale: int  # ticks per second of the samples' times
    width: int  # pixels; 0 for audio
    height: int
    sample_rate: int  # Hz; 0 for video
    channels: int
    sample_entry: bytes  # the whole sample entry box (ISO/IEC 14496-12 section 8.5.2)


@dataclass(slots=True, eq=False)
class TrackSamples:
    """The samples of one track in one segment, in decoding order."""

    format: TrackFormat
    sizes: NDArray[np.uint32]  # bytes
    dts: NDArray[np.int64]  # decoding times in ticks, as the segment has them
    cts: NDArray[np.int32]  # composition offsets in ticks: presentation minus decoding time
    sync: NDArray[np.bool_]  # a decoder can begin here
    tail: int  # duration of the last sample in ticks
    payload: memoryview  # all samples back to back

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(self.sizes)


@dataclass(slots=True, eq=False)
class SegmentSamples:
    """A segment's tracks: video first, then audio, at most one of each."""

    tracks: tuple[TrackSamples, ...]

    def track(self, kind: Literal["video", "audio"]) -> TrackSamples | None:
        """The track of this kind, if the segment has one."""
        return next((track for track in self.tracks if track.format.kind == kind), None)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Neighbouring samples of one track that lie in a row."""

    track: int  # index into `SegmentSamples.tracks`
    first: int  # index of its first sample
    count: int
    offset: int  # bytes from the start of the segment's extent
    size: int  # bytes


def interleave(tracks: Sequence[TrackSamples]) -> tuple[list[Chunk], list[memoryview]]:
    """Lay the tracks of a segment side by side in stretches of about a second.

    Returns the chunks in the order in which they lie, and their bytes in the same order.
    """
    pieces: list[tuple[float, int, int, int, int, int]] = []
    for number, track in enumerate(tracks):
        if not track.count:
            continue
        seconds = (track.dts - track.dts[0]) / track.format.timescale
        bounds = np.searchsorted(seconds, np.arange(INTERLEAVE_S, float(seconds[-1]) + INTERLEAVE_S, INTERLEAVE_S))
        edges = [0, *sorted({int(bound) for bound in bounds if 0 < bound < track.count}), track.count]
        ends = np.concatenate(([0], np.cumsum(track.sizes, dtype=np.int64)))
        pieces += [
            (float(seconds[first]), number, first, last - first, int(ends[first]), int(ends[last]))
            for first, last in pairwise(edges)
        ]
    chunks: list[Chunk] = []
    bodies: list[memoryview] = []
    offset = 0
    for _, number, first, count, start, end in sorted(pieces):
        chunks.append(Chunk(number, first, count, offset, end - start))
        bodies.append(tracks[number].payload[start:end])
        offset += end - start
    return chunks, bodies
