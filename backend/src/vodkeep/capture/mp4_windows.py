"""Cuts a movie into windows: small movies over the same media, for readers that hold a whole index in memory.

A window holds some minutes of the film, all tracks together. It is a file that exists only while it is read: in front
of the bytes of the whole movie stands the head of an mdat box, and behind them an index of the window's samples alone,
made from what the movie's own index says of them. So the media are read where they lie, and any reader of MP4 can
judge them.

Sections are those of ISO/IEC 14496-12.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vodkeep.capture.mp4_boxes import LARGE_HEADER_BYTES, box, full_box, large_header
from vodkeep.capture.mp4_reader import MovieIndex, SampleReader, Samples, TrackIndex

WINDOW_S = 600
# Whoever reads a window twice, finds it in the memory of the system the second time.
_WINDOW_BYTES = 256 << 20
_WINDOW_SAMPLES = 1 << 16  # of a track; ten minutes at 60 frames a second are 36,000

_FILE_TYPE = box(b"ftyp", b"isom", (0x200).to_bytes(4, "big"), b"isom", b"iso4")
_DATA_HERE = box(b"dinf", full_box(b"dref", 0, 0, (1).to_bytes(4, "big"), full_box(b"url ", 0, 1)))
_MATRIX = np.array([0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000], ">u4").tobytes()  # Section 8.2.2.
_UNDETERMINED = b"\x55\xc4\0\0"  # Language "und" (section 8.4.2).
_HANDLERS = {"video": b"vide", "audio": b"soun"}
_MEDIA_HEADERS = {"video": full_box(b"vmhd", 0, 1, bytes(8)), "audio": full_box(b"smhd", 0, 0, bytes(4))}


@dataclass(frozen=True, slots=True, eq=False)
class WindowTrack:
    """The part of a track that lies in a window; at least one sample."""

    number: int  # index into `MovieIndex.tracks`
    track: TrackIndex
    samples: Samples

    @property
    def start_s(self) -> float:
        """When the first sample is decoded, on the movie's timeline."""
        return (self.samples.start + self.track.shift) / self.track.timescale

    @property
    def end_s(self) -> float:
        """When the sample behind the last one is decoded, on the movie's timeline."""
        return (self.samples.end + self.track.shift) / self.track.timescale

    def excerpt(self, position_s: float, samples: int) -> WindowTrack:
        """Some samples of it; see `Window.excerpt`."""
        shown = self.samples.dts + self.samples.cts + self.track.shift
        beginnings = np.flatnonzero(self.samples.sync)
        in_time = beginnings[shown[beginnings] <= position_s * self.track.timescale]
        first = int(in_time[-1]) if in_time.size else int(beginnings[0]) if beginnings.size else 0
        return WindowTrack(self.number, self.track, self.samples.split(first)[1].split(samples)[0])


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Some minutes of a movie. The first of its tracks leads: it begins where a decoder can begin, if it ever can."""

    tracks: tuple[WindowTrack, ...]

    @property
    def media_end(self) -> int:
        """Bytes from the start of the movie's file to the end of the last sample."""
        return max(int((part.samples.offsets + part.samples.sizes).max()) for part in self.tracks)

    def excerpt(self, position_s: float, samples: int) -> Window:
        """The window's tracks, each from the last sample that a decoder can begin with and that is shown by then.

        ``position_s`` is on the movie's timeline. At most so many samples of each track.
        """
        return Window(tuple(part.excerpt(position_s, samples) for part in self.tracks))


# --- where to cut --------------------------------------------------------------------------------------------------


def cut_windows(
    descriptor: int,
    movie: MovieIndex,
    *,
    window_s: float = WINDOW_S,
    window_bytes: int = _WINDOW_BYTES,
    window_samples: int = _WINDOW_SAMPLES,
) -> Iterator[Window]:
    """All of ``movie`` in windows, each sample in one of them, in the order of the timeline.

    A window is as long as the limits allow: seconds, bytes of its leading track, and samples of each of its tracks.
    Raises `MovieDamagedError` and `OSError` when it comes to what cannot be read.
    """
    feeds = [_Feed(number, SampleReader(descriptor, movie, track), track) for number, track in enumerate(movie.tracks)]
    feeds.sort(key=lambda feed: feed.track.kind != "video")
    while True:
        for feed in feeds:
            feed.fill(window_samples)
        feeds = [feed for feed in feeds if len(feed.waiting)]
        if not feeds:
            return
        leader, *others = feeds
        count = leader.find_cut(window_s, window_bytes)
        first = leader.take(count)
        ends = leader.is_at_end
        counts = [len(feed.waiting) if ends else feed.count_before(first) for feed in others]
        rest = [feed.take(count) for feed, count in zip(others, counts, strict=True) if count]
        yield Window((first, *rest))


class _Feed:
    """A track on its way into windows."""

    def __init__(self, number: int, reader: SampleReader, track: TrackIndex) -> None:
        self._number, self._reader = number, reader
        self.track = track
        self.waiting = reader.read(0)

    def fill(self, samples: int) -> None:
        """See to it that ``samples`` are waiting, or all that are left."""
        missing = samples - len(self.waiting)
        if missing > 0 and self._reader.left:
            self.waiting = self.waiting.joined(self._reader.read(missing))

    @property
    def is_at_end(self) -> bool:
        return not len(self.waiting) and not self._reader.left

    def find_cut(self, most_s: float, most_bytes: int) -> int:
        """How many samples go into the window, the limits given: up to a sample that a decoder can begin with."""
        waiting = self.waiting
        in_time = np.searchsorted(waiting.dts - waiting.start, most_s * self.track.timescale)
        in_size = np.searchsorted(np.cumsum(waiting.sizes), most_bytes, "right")
        most = max(1, int(min(in_time, in_size)))
        if most == len(waiting) and not self._reader.left:
            return most
        beginnings = np.flatnonzero(waiting.sync[1 : most + 1]) + 1
        return int(beginnings[-1]) if beginnings.size else most

    def count_before(self, leading: WindowTrack) -> int:
        """How many samples are decoded before ``leading`` ends."""
        ends = (leading.samples.end + leading.track.shift) * self.track.timescale // leading.track.timescale
        until = min(ends - self.track.shift, self.waiting.end)  # In 64 bits, wherever the leader is.
        return int(np.searchsorted(self.waiting.dts, max(until, 0)))

    def take(self, count: int) -> WindowTrack:
        taken, self.waiting = self.waiting.split(count)
        return WindowTrack(self._number, self.track, taken)


# --- the file of a window ------------------------------------------------------------------------------------------


class WindowFile:
    """A window as a file to read from; the movie's own file stays open elsewhere, as ``descriptor``."""

    def __init__(self, descriptor: int, size: int, window: Window) -> None:
        self._descriptor = descriptor
        self._head = _FILE_TYPE + large_header(b"mdat", LARGE_HEADER_BYTES + size)
        self._index = _index(window, len(self._head))
        self._media_end = len(self._head) + size
        self._position = 0

    def read(self, size: int) -> bytes:
        """Some bytes, at most ``size``; none only at the end."""
        position = self._position
        if len(self._head) <= position < self._media_end:
            size = min(size, self._media_end - position)
            content = os.pread(self._descriptor, size, position - len(self._head))
        elif position < len(self._head):
            content = self._head[position : position + size]
        else:
            content = self._index[position - self._media_end :][:size]
        self._position += len(content)
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go on from elsewhere; as any file does it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._media_end + len(self._index)}
        self._position = max(0, base[whence] + offset)
        return self._position

    def tell(self) -> int:
        """Where the next byte comes from."""
        return self._position


def _index(window: Window, shift: int) -> bytes:
    """The moov box of a window whose media lie ``shift`` bytes further back than in the movie's file."""
    header = full_box(
        b"mvhd",
        0,
        0,
        bytes(8),
        _u32(1000),
        bytes(4),
        b"\0\x01\0\0\x01\0" + bytes(10),
        _MATRIX,
        bytes(24),
        _u32(len(window.tracks) + 1),
    )
    return box(b"moov", header, *(_trak(number, part, shift) for number, part in enumerate(window.tracks, 1)))


def _trak(number: int, part: WindowTrack, shift: int) -> bytes:
    track, samples = part.track, part.samples
    tables = box(
        b"stbl",
        track.descriptions,
        _table(b"stts", _column(samples, samples.durations)),
        _table(b"ctts", _column(samples, samples.cts), version=1) if samples.cts.any() else b"",
        _table(b"stss", np.flatnonzero(samples.sync) + 1) if not samples.sync.all() else b"",
        _table(b"stsc", _chunk_kinds(samples.entries)),
        full_box(b"stsz", 0, 0, _u32(0), _u32(len(samples)), samples.sizes.astype(">u4").tobytes()),
        _table(b"co64", samples.offsets + shift, ">u8"),
    )
    duration = samples.end - samples.start
    return box(
        b"trak",
        full_box(b"tkhd", 0, 7, bytes(8), _u32(number), bytes(4 + 4 + 8 + 8), _MATRIX, bytes(8)),
        box(
            b"mdia",
            full_box(b"mdhd", 1, 0, bytes(16), _u32(track.timescale), duration.to_bytes(8, "big"), _UNDETERMINED),
            full_box(b"hdlr", 0, 0, bytes(4), _HANDLERS[track.kind], bytes(13)),
            box(b"minf", _MEDIA_HEADERS[track.kind], _DATA_HERE, tables),
        ),
    )


def _column(samples: Samples, values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows for a run-length table that says of each sample by itself what it has."""
    return np.column_stack((np.ones(len(samples), np.int64), values))


def _chunk_kinds(entries: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of stsc where each sample is a chunk: a row only where another description begins to count."""
    first = np.flatnonzero(np.diff(entries, prepend=0))
    return np.column_stack((first + 1, np.ones(len(first), np.int64), entries[first]))


def _table(kind: bytes, rows: NDArray[np.int64], dtype: str = ">u4", *, version: int = 0) -> bytes:
    return full_box(kind, version, 0, _u32(len(rows)), rows.astype(dtype).tobytes())


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "big")
