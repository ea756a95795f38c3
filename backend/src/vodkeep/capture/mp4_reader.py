"""Reads the index (moov) of an MP4 as it stands in the file, in pieces, whatever its size.

`read_movie` finds out what there is and where the tables of each track lie; `SampleReader` then reads the samples of a
track from them, as many at a time as asked for. An index of two days has 18 million samples and 300 MB, of which no
more than a few thousand rows are in memory at any time.

Nothing here knows how our own index is written (`mp4_index`), and nothing in a file is believed: tables that contradict
each other, and samples that lie outside of the media, are `MovieDamagedError`. Section numbers are those of ISO/IEC
14496-12.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vodkeep.capture.mp4_boxes import Box, Fields, walk_boxes
from vodkeep.capture.samples import SegmentDamagedError

_MOST_SMALL_BYTES = 1 << 20  # of a box that is read as a whole
_MOST_TRACKS = 64
_ROWS_AT_ONCE = 1 << 14
_MOST_TICKS = 1 << 31  # of a sample; longer ones are durations below zero that lost their sign
_FOREVER = 1 << 62
_LATEST = 1 << 56  # ticks; thousands of years, and sums of it are far from the end of 64 bits
_BITS_32 = 0xFFFF_FFFF
_NORMAL_SPEED = 0x1_0000
_KINDS: Mapping[bytes, Literal["video", "audio"]] = {b"vide": "video", b"soun": "audio"}
_ROW_BYTES = {b"stts": 8, b"ctts": 8, b"stss": 4, b"stsc": 12, b"stco": 4, b"co64": 8}

_Numbers = NDArray[np.int64]


class MovieDamagedError(ValueError):
    """The file is not a whole MP4, or not one that can be judged; the message says why and fits behind "because"."""


@dataclass(frozen=True, slots=True)
class Table:
    """Where the rows of a table lie."""

    offset: int  # bytes from the start of the file
    rows: int


@dataclass(frozen=True, slots=True)
class TrackIndex:
    """What the index says of one track, and where it says more."""

    kind: Literal["video", "audio"]
    timescale: int  # ticks per second
    descriptions: bytes  # the stsd box, as it is in the file
    samples: int
    sample_size: int  # bytes, if all samples have the same; else 0
    tables: Mapping[bytes, Table]  # by the four characters of their box
    shift: int  # ticks to add to the media's times to come to those of the movie (section 8.6.6)
    shown_from: int  # ticks on the movie's timeline: nothing before is shown
    shown_to: int  # and nothing from here on


@dataclass(frozen=True, slots=True)
class MovieIndex:
    """What an MP4 holds by its own word."""

    size: int  # bytes of the file
    duration_us: int
    tracks: tuple[TrackIndex, ...]  # picture and sound, in the order of the file
    media: tuple[tuple[int, int], ...]  # where the media lie: from, to; in the order of the file


@dataclass(slots=True, eq=False)
class Samples:
    """Neighbouring samples of a track, in decoding order."""

    start: int  # ticks of the media's timeline: when the first is decoded
    sizes: _Numbers  # bytes
    offsets: _Numbers  # bytes from the start of the file
    entries: _Numbers  # which sample description, from 1
    durations: _Numbers  # ticks from this sample's decoding time to that of the next one
    cts: _Numbers  # ticks: presentation minus decoding time
    sync: NDArray[np.bool_]  # a decoder can begin here

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def end(self) -> int:
        """Ticks: when the sample behind the last one is decoded."""
        return self.start + int(self.durations.sum())

    @property
    def dts(self) -> _Numbers:
        """Ticks of the media's timeline: when each sample is decoded."""
        return self.start + np.cumsum(self.durations) - self.durations

    def split(self, count: int) -> tuple[Samples, Samples]:
        """The first ``count`` samples, and the rest."""
        first, rest = (
            Samples(
                0,
                self.sizes[part],
                self.offsets[part],
                self.entries[part],
                self.durations[part],
                self.cts[part],
                self.sync[part],
            )
            for part in (slice(count), slice(count, None))
        )
        first.start = self.start
        rest.start = first.end
        return first, rest

    def joined(self, after: Samples) -> Samples:
        """These samples and those right behind them."""
        return Samples(
            self.start,
            np.concatenate((self.sizes, after.sizes)),
            np.concatenate((self.offsets, after.offsets)),
            np.concatenate((self.entries, after.entries)),
            np.concatenate((self.durations, after.durations)),
            np.concatenate((self.cts, after.cts)),
            np.concatenate((self.sync, after.sync)),
        )


# --- what there is -------------------------------------------------------------------------------------------------


def read_movie(descriptor: int) -> MovieIndex:
    """Find the index of the open file and read it, without the tables. Raises `MovieDamagedError` and `OSError`."""
    try:
        return _read_movie(descriptor)
    except SegmentDamagedError as error:
        raise MovieDamagedError(str(error)) from error


def _read_movie(descriptor: int) -> MovieIndex:
    size = os.fstat(descriptor).st_size
    found: list[Box] = []
    media: list[tuple[int, int]] = []
    for box in walk_boxes(_reader(descriptor), 0, size):
        if box.kind == b"moof":
            raise MovieDamagedError("it is a fragmented MP4, which Vodkeep neither writes nor judges")
        if box.kind == b"mdat":
            media.append((box.body, box.end))
        elif box.kind == b"moov":
            found.append(box)
    if not media:
        raise MovieDamagedError("it has no media (mdat)")
    if len(found) != 1:
        raise MovieDamagedError(f"it has {len(found)} indexes (moov)" if found else "it has no index (moov)")
    parts = _Parts(descriptor, found[0])
    if b"mvex" in parts.boxes:
        raise MovieDamagedError("it is a fragmented MP4, which Vodkeep neither writes nor judges")
    timescale, duration = _times(parts.fields(b"mvhd"))
    traks = parts.all(b"trak")
    if len(traks) > _MOST_TRACKS:
        raise MovieDamagedError(f"it has {len(traks)} tracks")
    tracks = [_read_track(descriptor, trak, timescale) for trak in traks]
    return MovieIndex(
        size,
        duration * 1_000_000 // timescale,
        tuple(track for track in tracks if track is not None),
        tuple(media),
    )


class _Parts:
    """The boxes within a box."""

    def __init__(self, descriptor: int, box: Box) -> None:
        self._descriptor = descriptor
        self._name = box.kind.decode("latin-1")
        self.boxes: dict[bytes, list[Box]] = {}
        for part in walk_boxes(_reader(descriptor), box.body, box.end):
            self.boxes.setdefault(part.kind, []).append(part)

    def all(self, kind: bytes) -> list[Box]:
        return self.boxes.get(kind, [])

    def one(self, kind: bytes) -> Box:
        boxes = self.all(kind)
        if len(boxes) != 1:
            raise MovieDamagedError(f"its {self._name} box has {len(boxes)} {kind.decode('latin-1')} boxes")
        return boxes[0]

    def within(self, kind: bytes) -> _Parts:
        return _Parts(self._descriptor, self.one(kind))

    def content(self, box: Box) -> bytes:
        """The whole box, which has to be a small one."""
        size = box.end - box.start
        if size > _MOST_SMALL_BYTES:
            raise MovieDamagedError(f"its {box.kind.decode('latin-1')} box has {size} bytes")
        content = os.pread(self._descriptor, size, box.start)
        if len(content) < size:
            raise MovieDamagedError("it has become shorter")
        return content

    def fields(self, kind: bytes) -> Fields:
        box = self.one(kind)
        content = self.content(box)
        return Fields(memoryview(content), Box(kind, 0, box.body - box.start, len(content)))


def _reader(descriptor: int) -> Callable[[int, int], bytes]:
    return lambda offset, size: os.pread(descriptor, size, offset)


def _times(fields: Fields) -> tuple[int, int]:
    """Timescale and duration, as mvhd and mdhd begin (sections 8.2.2 and 8.4.2)."""
    width = 8 if fields.unsigned(4) >> 24 == 1 else 4
    fields.take(2 * width)
    timescale, duration = fields.unsigned(4), fields.unsigned(width)
    if not timescale:
        raise MovieDamagedError("its clock has no ticks")
    return timescale, duration


def _read_track(descriptor: int, trak: Box, movie_timescale: int) -> TrackIndex | None:
    """A track; None for one that is neither picture nor sound."""
    parts = _Parts(descriptor, trak)
    media = parts.within(b"mdia")
    handler = media.fields(b"hdlr")
    handler.take(8)
    kind = _KINDS.get(bytes(handler.take(4)))
    if kind is None:
        return None
    timescale, _ = _times(media.fields(b"mdhd"))
    stbl = media.within(b"minf").within(b"stbl")
    tables = {name: _find_table(descriptor, stbl.one(name)) for name in _ROW_BYTES if name in stbl.boxes}
    if not {b"stts", b"stsc"} <= set(tables) or (b"stco" in tables) == (b"co64" in tables):
        raise MovieDamagedError("a track lacks a table or has one twice")
    sample_size, samples, sizes = _find_sizes(descriptor, stbl.one(b"stsz"))
    shift, shown_from, shown_to = _read_edits(parts, timescale, movie_timescale)
    return TrackIndex(
        kind=kind,
        timescale=timescale,
        descriptions=stbl.content(stbl.one(b"stsd")),
        samples=samples,
        sample_size=sample_size,
        tables={**tables, b"stsz": sizes},
        shift=shift,
        shown_from=shown_from,
        shown_to=shown_to,
    )


def _find_table(descriptor: int, box: Box) -> Table:
    """A table whose rows come behind their number."""
    head = os.pread(descriptor, 8, box.body)
    rows = int.from_bytes(head[4:], "big")
    if box.body + 8 + rows * _ROW_BYTES[box.kind] > box.end or len(head) < 8:
        raise MovieDamagedError(f"its {box.kind.decode()} box is too short for {rows} rows")
    return Table(box.body + 8, rows)


def _find_sizes(descriptor: int, box: Box) -> tuple[int, int, Table]:
    """The size that all samples have or 0, the number of samples, and their sizes (section 8.7.3.2)."""
    head = os.pread(descriptor, 12, box.body)
    size, samples = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:], "big")
    rows = 0 if size else samples
    if box.body + 12 + 4 * rows > box.end or len(head) < 12:
        raise MovieDamagedError(f"its stsz box is too short for {samples} samples")
    return size, samples, Table(box.body + 12, rows)


def _read_edits(trak: _Parts, timescale: int, movie_timescale: int) -> tuple[int, int, int]:
    """What the edit list makes of a track: `TrackIndex.shift`, `shown_from` and `shown_to` (section 8.6.6)."""
    if b"edts" not in trak.boxes:
        return 0, 0, _FOREVER
    edits = trak.within(b"edts")
    if b"elst" not in edits.boxes:
        return 0, 0, _FOREVER
    fields = edits.fields(b"elst")
    width = 8 if fields.unsigned(4) >> 24 == 1 else 4
    rows = [
        (fields.unsigned(width), fields.signed(width), fields.unsigned(4)) for _ in range(min(3, fields.unsigned(4)))
    ]
    empty = rows.pop(0)[0] if rows and rows[0][1] == -1 else 0
    if len(rows) != 1 or rows[0][1] < 0 or rows[0][2] != _NORMAL_SPEED:
        raise MovieDamagedError("its edit list says more than where a track begins and how long it is")
    duration, media_time, _ = rows[0]
    # To the nearest tick, as libavformat does it.
    delay = (2 * empty * timescale + movie_timescale) // (2 * movie_timescale)
    shown = -(-duration * timescale // movie_timescale) if duration else _FOREVER
    if max(delay, media_time) > _LATEST:
        raise MovieDamagedError("its edit list puts a track where no film is")
    return delay - media_time, delay, delay + shown


# --- the samples ---------------------------------------------------------------------------------------------------


class SampleReader:
    """Reads the samples of one track from its tables, in decoding order."""

    def __init__(self, descriptor: int, movie: MovieIndex, track: TrackIndex) -> None:
        def rows(name: bytes, dtype: str, width: int = 1) -> _Rows:
            return _Rows(descriptor, track.tables.get(name, Table(0, 0)), dtype, width)

        self._track = track
        self._media = np.array(movie.media, np.int64).reshape(-1, 2)
        self._sizes = rows(b"stsz", ">u4")
        self._durations = _RunLengths(rows(b"stts", ">u4", 2))
        self._compositions = _RunLengths(rows(b"ctts", ">i4", 2)) if b"ctts" in track.tables else None
        self._sync = rows(b"stss", ">u4") if b"stss" in track.tables else None
        self._last_sync = 0
        wide = b"co64" in track.tables
        self._chunks = _Chunks(rows(b"stsc", ">u4", 3), rows(b"co64", ">u8") if wide else rows(b"stco", ">u4"))
        self._read = 0
        self._end = 0  # ticks

    @property
    def left(self) -> int:
        """Samples that are still unread."""
        return self._track.samples - self._read

    def read(self, count: int) -> Samples:
        """The next ``count`` samples, fewer at the end. Raises `MovieDamagedError` and `OSError`.

        With the last samples it is checked that the tables have no row left.
        """
        count = min(count, self.left)
        sizes = self._read_sizes(count)
        offsets, entries = self._chunks.place(sizes)
        durations = self._durations.take(count)
        if count and durations.max() >= _MOST_TICKS:
            raise MovieDamagedError("a sample ends before it begins")
        samples = Samples(
            self._end,
            sizes,
            offsets,
            entries,
            durations,
            self._compositions.take(count) if self._compositions is not None else np.zeros(count, np.int64),
            self._read_sync(count),
        )
        self._check_places(samples)
        self._read += count
        self._end = samples.end
        if not self.left:
            self._check_all_read()
        return samples

    def _read_sizes(self, count: int) -> _Numbers:
        if self._track.sample_size:
            return np.full(count, self._track.sample_size, np.int64)
        return self._sizes.take(count).ravel()

    def _read_sync(self, count: int) -> NDArray[np.bool_]:
        if self._sync is None:
            return np.ones(count, np.bool_)
        flags = np.zeros(count, np.bool_)
        while (numbers := self._sync.peek().ravel()).size:
            here = numbers[: np.searchsorted(numbers, self._read + count, "right")]
            if (np.diff(numbers, prepend=self._last_sync) <= 0).any():
                raise MovieDamagedError("its key frames are out of order")
            if not here.size:
                break
            flags[here - self._read - 1] = True
            self._last_sync = int(here[-1])
            self._sync.take(here.size)
        return flags

    def _check_places(self, samples: Samples) -> None:
        """Every sample lies in one of the media boxes."""
        if not len(samples):
            return
        begins, ends = self._media[:, 0], self._media[:, 1]
        box = np.searchsorted(begins, samples.offsets, "right") - 1
        outside = (box < 0) | (samples.offsets + samples.sizes > ends[box])
        if outside.any():
            number = self._read + int(np.argmax(outside)) + 1
            raise MovieDamagedError(f"{self._track.kind} sample {number} lies outside of the media")

    def _check_all_read(self) -> None:
        tables = {"stts": self._durations, "ctts": self._compositions, "stss": self._sync, "stco": self._chunks}
        for name, table in tables.items():
            if table is not None and not table.is_empty:
                raise MovieDamagedError(f"its {name} table speaks of more {self._track.kind} samples than there are")


class _Rows:
    """Reads the rows of a table, a block at a time."""

    def __init__(self, descriptor: int, table: Table, dtype: str, width: int) -> None:
        self._descriptor, self._dtype, self._width = descriptor, np.dtype(dtype), width
        self._offset, self._left = table.offset, table.rows
        self._block: _Numbers = np.zeros((0, width), np.int64)

    def peek(self) -> _Numbers:
        """The rows that come next, as many as are at hand; none only at the end."""
        if not len(self._block) and self._left:
            self._block = self._load(min(self._left, _ROWS_AT_ONCE))
        return self._block

    def take(self, count: int) -> _Numbers:
        """The next ``count`` rows."""
        pieces = []
        while True:
            piece, self._block = self._block[:count], self._block[count:]
            pieces.append(piece)
            count -= len(piece)
            if not count or not len(self.peek()):
                return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    @property
    def is_empty(self) -> bool:
        return not len(self.peek())

    @property
    def goes_on(self) -> bool:
        """Whether there are rows behind those at hand."""
        return self._left > 0

    def _load(self, rows: int) -> _Numbers:
        size = rows * self._width * self._dtype.itemsize
        content = os.pread(self._descriptor, size, self._offset)
        if len(content) < size:
            raise MovieDamagedError("it has become shorter")
        self._offset += size
        self._left -= rows
        numbers = np.frombuffer(content, self._dtype)
        if self._dtype.itemsize == 8 and numbers.max() > _FOREVER:
            raise MovieDamagedError("a chunk lies outside of the file")
        return numbers.astype(np.int64).reshape(-1, self._width)


class _RunLengths:
    """Reads a table that says how often which value comes (sections 8.6.1.2 and 8.6.1.3)."""

    def __init__(self, rows: _Rows) -> None:
        self._rows = rows
        self._count = self._value = 0  # what is left of the run under way

    def take(self, count: int) -> _Numbers:
        """The next ``count`` values."""
        values = [np.full(min(self._count, count), self._value, np.int64)]
        missing = count - len(values[0])
        self._count -= len(values[0])
        while missing:
            rows = self._rows.peek()
            if not len(rows):
                raise MovieDamagedError("a table speaks of fewer samples than there are")
            # Times are signed and counts are not, but both are read alike.
            ends = np.cumsum(rows[:, 0] & _BITS_32)
            whole = int(np.searchsorted(ends, missing, "left")) + 1
            counts, heads = rows[:whole, 0] & _BITS_32, rows[:whole, 1]
            self._rows.take(len(counts))
            surplus = max(0, int(ends[len(counts) - 1]) - missing)
            self._count, self._value = surplus, int(heads[-1])
            counts[-1] -= surplus
            values.append(np.repeat(heads, counts))
            missing -= len(values[-1])
        return np.concatenate(values)

    @property
    def is_empty(self) -> bool:
        return not self._count and self._rows.is_empty


class _Chunks:
    """Finds where samples are: the chunks of a track, and how many samples of which description each has."""

    def __init__(self, kinds: _Rows, offsets: _Rows) -> None:
        self._kinds, self._offsets = kinds, offsets
        self._kind: _Numbers = np.zeros((1, 3), np.int64)  # the row that counts for the chunk under way
        self._chunk = 0  # its number, from 1
        self._next = 0  # where it goes on
        self._left = 0  # its samples that are still to come

    def place(self, sizes: _Numbers) -> tuple[_Numbers, _Numbers]:
        """Where the next samples, of these sizes, are, and their descriptions."""
        taken = min(self._left, len(sizes))
        self._left -= taken
        starts, counts, entries = [np.array([self._next])], [np.array([taken])], [self._kind[:, 2]]
        missing = len(sizes) - taken
        while missing:
            offsets = self._offsets.peek()[:missing, 0]
            held, entry = self._look_up(self._chunk + 1 + np.arange(len(offsets)))
            if not held.size or held.min() <= 0:
                raise MovieDamagedError("its chunks hold fewer samples than there are")
            ends = np.cumsum(held)
            whole = min(len(held), int(np.searchsorted(ends, missing, "left")) + 1)
            self._left = max(0, int(ends[whole - 1]) - missing)
            held = held[:whole].copy()
            held[-1] -= self._left
            starts.append(self._offsets.take(whole)[:, 0])
            counts.append(held)
            entries.append(entry[:whole])
            self._advance(whole)
            missing -= int(held.sum())
        ends = np.cumsum(sizes)
        count = np.concatenate(counts)
        firsts = np.cumsum(count) - count  # which sample is the first of each chunk
        before = np.concatenate(([0], ends))
        offsets = np.repeat(np.concatenate(starts) - before[firsts], count) + before[:-1]
        if len(sizes):
            self._next = int(offsets[-1] + sizes[-1])
        return offsets, np.repeat(np.concatenate(entries), count)

    def _look_up(self, chunks: _Numbers) -> tuple[_Numbers, _Numbers]:
        """How many samples of which description the next ``chunks`` hold; of the first of them, if not of all."""
        rows = np.concatenate((self._kind, self._kinds.peek()))
        if (np.diff(rows[:, 0]) <= 0).any():
            raise MovieDamagedError("its stsc table is out of order")
        if self._kinds.goes_on:  # Which chunks the last row is for is not known yet.
            chunks = chunks[chunks <= rows[-1, 0]]
        row = rows[np.searchsorted(rows[:, 0], chunks, "right") - 1]
        return row[:, 1], row[:, 2]

    def _advance(self, chunks: int) -> None:
        self._chunk += chunks
        rows = self._kinds.peek()
        passed = int(np.searchsorted(rows[:, 0], self._chunk, "right"))
        if passed:
            self._kind = self._kinds.take(passed)[-1:]

    @property
    def is_empty(self) -> bool:
        return not self._left and self._offsets.is_empty and self._kinds.is_empty
