"""The sample tables of a track (ISO/IEC 14496-12 sections 8.6 and 8.7), coded while the samples pass by.

A broadcast of two days has 18 million samples, so no table is ever held in memory: each grows in a spool file and is
copied from there into the index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from vodkeep.capture.mp4_boxes import HEADER_BYTES, full_box, header
from vodkeep.capture.samples import TrackFormat

# Chunks are small; coding them one by one would cost more than what is in them.
_BATCH_SAMPLES = 1 << 16
_COPY_BYTES = 1 << 20

_Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class IndexChunk:
    """Samples of one track that lie in a row in the file, in decoding order."""

    offset: int  # bytes from the start of the file
    format: TrackFormat
    sizes: NDArray[np.uint32]  # bytes
    durations: NDArray[np.uint32]  # ticks from this sample's decoding time to that of the next one in the track
    cts: NDArray[np.int32]  # ticks: presentation minus decoding time
    sync: NDArray[np.bool_]  # a decoder can begin here


@dataclass(frozen=True, slots=True)
class IndexTrack:
    """A track as it shall be in the movie."""

    kind: Literal["video", "audio"]
    timescale: int  # ticks per second of `start` and of all times in its chunks, whatever their formats say
    start: int  # decoding time of the first sample on the movie's timeline; may be negative
    chunks: Callable[[], Iterable[IndexChunk]]  # in timeline order; run through once


class Column:
    """Rows of big-endian numbers in a spool file."""

    def __init__(self, file: BinaryIO, dtype: str) -> None:
        self._file, self._dtype = file, np.dtype(dtype)
        self.size = 0  # bytes

    def append(self, rows: NDArray[np.generic]) -> None:
        """Add ``rows``; a two-dimensional array is taken row by row."""
        self.size += _write(self._file, rows.astype(self._dtype).tobytes())

    def copy_to(self, write: Callable[[bytes], object]) -> None:
        """Hand over everything from the start, in pieces."""
        self._file.seek(0)
        left = self.size
        while left:
            piece = self._file.read(min(left, _COPY_BYTES))
            if not piece:
                raise OSError("a spool file has lost its end")
            left -= len(piece)
            write(piece)

    def add_to_second(self, ticks: int) -> None:
        """Add ``ticks`` to the second number of each pair."""
        position = 0
        while position < self.size:
            self._file.seek(position)
            rows = np.frombuffer(self._file.read(_COPY_BYTES), self._dtype).reshape(-1, 2).astype(np.int64)
            rows[:, 1] += ticks
            self._file.seek(position)
            position += _write(self._file, rows.astype(self._dtype).tobytes())


Part = bytes | Column
"""A piece of a box: ready, or waiting in a spool file."""


def size_of(parts: Iterable[Part]) -> int:
    """Bytes of ``parts`` together."""
    return sum(part.size if isinstance(part, Column) else len(part) for part in parts)


def wrap(kind: bytes, *parts: Part) -> list[Part]:
    """A box around ``parts``, as parts again; the first of them is its header."""
    return [header(kind, HEADER_BYTES + size_of(parts)), *parts]


class _Runs:
    """Codes a row of numbers as pairs: how often, which."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self._count = self._value = 0

    def append(self, values: _Numbers) -> None:
        starts = np.concatenate(([0], np.flatnonzero(values[1:] != values[:-1]) + 1))
        counts = np.diff(starts, append=len(values))
        heads = values[starts]
        if self._count and self._value == heads[0]:
            counts[0] += self._count
        elif self._count:
            counts, heads = np.concatenate(([self._count], counts)), np.concatenate(([self._value], heads))
        # The last run may go on in the next batch.
        self._count, self._value = int(counts[-1]), int(heads[-1])
        self.column.append(np.column_stack((counts[:-1], heads[:-1])))

    def finish(self) -> None:
        if self._count:
            self.column.append(np.array([[self._count, self._value]], np.int64))
            self._count = 0


class SampleTables:
    """All tables of one track; times are in its ticks, from its first decoding time on."""

    def __init__(self, timescale: int, spool: Callable[[], BinaryIO], *, media_start: int, media_end: int) -> None:
        self._timescale = timescale
        self._media = media_start, media_end
        self._wide = media_end > 0xFFFF_FFFF
        self._sizes = Column(spool(), ">u4")
        self._sync = Column(spool(), ">u4")
        self._offsets = Column(spool(), ">u8" if self._wide else ">u4")
        self._chunk_map = Column(spool(), ">u4")
        self._deltas = _Runs(Column(spool(), ">u4"))
        self._compositions = _Runs(Column(spool(), ">i4"))
        self._smallest, self._largest = 0xFFFF_FFFF, 0  # bytes of a sample
        self._least_cts = self._greatest_cts = 0
        self._chunk_kind = -1
        self._descriptions: dict[bytes, int] = {}  # the number of each sample entry
        self.formats: list[TrackFormat] = []  # in the order of their numbers
        self.samples = self.chunks = 0
        self.duration = 0  # of all samples, in decoding time
        self.first_shown = 0  # earliest presentation
        self.last_shown = 0  # end of the latest presentation
        self.lift = 0  # how much later than asked for the tables present everything

    @classmethod
    def gather(
        cls, track: IndexTrack, spool: Callable[[], BinaryIO], *, media_start: int, media_end: int
    ) -> SampleTables:
        """Code all chunks of ``track``; none may reach out of the media. Contradictions are `ValueError`."""
        tables = cls(track.timescale, spool, media_start=media_start, media_end=media_end)
        batch: list[IndexChunk] = []
        waiting = 0
        for chunk in track.chunks():
            if len(chunk.sizes):
                batch.append(chunk)
                waiting += len(chunk.sizes)
            if waiting >= _BATCH_SAMPLES:
                tables._add(batch)
                batch, waiting = [], 0
        if batch:
            tables._add(batch)
        tables._finish()
        return tables

    def _add(self, batch: Sequence[IndexChunk]) -> None:
        sizes = np.concatenate([chunk.sizes for chunk in batch]).astype(np.int64)
        durations = np.concatenate([chunk.durations for chunk in batch]).astype(np.int64)
        cts = np.concatenate([chunk.cts for chunk in batch]).astype(np.int64)
        sync = np.concatenate([chunk.sync for chunk in batch])
        if not len(sizes) == len(durations) == len(cts) == len(sync):
            raise ValueError("the tables of a chunk differ in length")
        self._add_chunks(batch, sizes)
        self._sizes.append(sizes)
        self._smallest = min(self._smallest, int(sizes.min()))
        self._largest = max(self._largest, int(sizes.max()))
        self._deltas.append(durations)
        self._compositions.append(cts)
        self._least_cts = min(self._least_cts, int(cts.min()))
        self._greatest_cts = max(self._greatest_cts, int(cts.max()))
        self._sync.append(np.flatnonzero(sync) + (self.samples + 1))
        ends = self.duration + np.cumsum(durations)
        first_shown, last_shown = int((ends - durations + cts).min()), int((ends + cts).max())
        self.first_shown = min(self.first_shown, first_shown) if self.samples else first_shown
        self.last_shown = max(self.last_shown, last_shown)
        self.duration = int(ends[-1])
        self.samples += len(sizes)

    def _add_chunks(self, batch: Sequence[IndexChunk], sizes: _Numbers) -> None:
        counts = np.array([len(chunk.sizes) for chunk in batch], np.int64)
        offsets = np.array([chunk.offset for chunk in batch], np.int64)
        ends = offsets + np.add.reduceat(sizes, np.cumsum(counts) - counts)
        if offsets.min() < self._media[0] or ends.max() > self._media[1]:
            raise ValueError("a chunk lies outside of the media")
        self._offsets.append(offsets)
        descriptions = np.array([self._describe(chunk.format) for chunk in batch], np.int64)
        # An entry stands only where the number of samples or their description changes (section 8.7.4).
        kinds = descriptions << 32 | counts
        news = np.flatnonzero(kinds != np.concatenate(([self._chunk_kind], kinds[:-1])))
        self._chunk_kind = int(kinds[-1])
        self._chunk_map.append(np.column_stack((news + (self.chunks + 1), counts[news], descriptions[news])))
        self.chunks += len(batch)

    def _describe(self, track_format: TrackFormat) -> int:
        """The number of its sample entry, from 1 (section 8.5.2)."""
        number = self._descriptions.setdefault(track_format.sample_entry, len(self._descriptions) + 1)
        if number > len(self.formats):
            self.formats.append(track_format)
        return number

    def _finish(self) -> None:
        self._deltas.finish()
        self._compositions.finish()
        lift = -min(0, self.first_shown)
        if lift:
            # The media timeline has nothing before 0, so all presentations move up as one.
            self._compositions.column.add_to_second(lift)
            self._least_cts += lift
            self._greatest_cts += lift
            self.first_shown += lift
            self.last_shown += lift
        self.lift = lift

    def sample_table(self) -> list[Part]:
        """The stbl box (section 8.5.1)."""
        boxes: list[Part] = [self._sample_descriptions()]
        boxes += self._table(b"stts", self._deltas.column, 8)
        if self._least_cts or self._greatest_cts:
            boxes += self._table(b"ctts", self._compositions.column, 8, version=1 if self._least_cts < 0 else 0)
        if self._sync.size // 4 < self.samples:
            boxes += self._table(b"stss", self._sync, 4)
        boxes += self._table(b"stsc", self._chunk_map, 12)
        if self._smallest == self._largest:
            boxes.append(full_box(b"stsz", 0, 0, _u32(self._smallest), _u32(self.samples)))
        else:
            boxes += wrap(b"stsz", bytes(8), _u32(self.samples), self._sizes)
        boxes += self._table(b"co64", self._offsets, 8) if self._wide else self._table(b"stco", self._offsets, 4)
        if self._roll:
            boxes += [
                full_box(b"sgpd", 1, 0, b"roll", _u32(2), _u32(1), self._roll.to_bytes(2, "big", signed=True)),
                full_box(b"sbgp", 0, 0, b"roll", _u32(1), _u32(self.samples), _u32(1)),
            ]
        return wrap(b"stbl", *boxes)

    @property
    def _roll(self) -> int:
        """How many samples before the one sought a decoder must begin to be right there (section 10.1), negated."""
        codecs = {track_format.codec for track_format in self.formats}
        if codecs == {"mp4a"}:
            return -1  # The transform overlaps with that of the frame before.
        if codecs == {"Opus"}:
            # 80 ms (Encapsulation of Opus in ISO Base Media File Format, section 4.3.6.2).
            frame = max(1, self.duration // self.samples)
            return -min(0x7FFF, -(-self._timescale * 80 // (1000 * frame)))
        return 0

    def _sample_descriptions(self) -> bytes:
        # Whatever file an entry comes from, here its data are in this one: data reference 1 (section 8.5.2.2).
        entries = [_with_data_reference(track_format.sample_entry) for track_format in self.formats]
        return full_box(b"stsd", 0, 0, _u32(len(entries)), *entries)

    @staticmethod
    def _table(kind: bytes, column: Column, row_bytes: int, version: int = 0) -> list[Part]:
        return wrap(kind, _u32(version << 24), _u32(column.size // row_bytes), column)


def _with_data_reference(entry: bytes) -> bytes:
    return entry[:14] + b"\x00\x01" + entry[16:]


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _write(file: BinaryIO, content: bytes) -> int:
    """Write everything, however often the system stops half way; returns how much that was."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]
    return len(content)
