"""Writes the index (moov) of an MP4 whose media lie in the file already, in any order.

The file is laid out like this (section numbers are those of ISO/IEC 14496-12):

    ftyp | free (kept for the index) | mdat: media, extent after extent | (moov, if it did not fit in front)

While media are added the mdat box is open: its size says "up to the end of the file" (section 4.2). `write_index` then
puts moov where the free box was, or behind the media. What makes the index visible is the very last write, of 16 bytes:
until then a reader finds a file without index, afterwards a whole one.

The tables of the tracks are made in `mp4_tables`, titles and chapters in `mp4_labels`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

from vodkeep.capture.mp4_boxes import HEADER_BYTES, LARGE_HEADER_BYTES, box, full_box, header, large_header
from vodkeep.capture.mp4_labels import (
    CHAPTER_TIMESCALE,
    Movie,
    chapter_media_header,
    chapter_sample,
    chapter_sample_entry,
    settle_chapters,
    user_data,
)
from vodkeep.capture.mp4_tables import Column, IndexChunk, IndexTrack, Part, SampleTables, size_of, wrap

__all__ = [
    "IndexChunk",
    "IndexPlacement",
    "IndexTrack",
    "Movie",
    "estimate_index_bytes",
    "file_header",
    "front_offset",
    "media_offset",
    "write_index",
]

# iso4 is the first brand with signed composition offsets (annex E).
_FILE_TYPE = box(b"ftyp", b"isom", (0x200).to_bytes(4, "big"), b"isom", b"iso2", b"iso4", b"mp41", b"mp42")
_UNITY_MATRIX = b"".join(
    value.to_bytes(4, "big") for value in (0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000)
)  # Section 8.2.2.
_UNDETERMINED = (0x55C4).to_bytes(2, "big")  # Language "und", five bits a letter (section 8.4.2).
_SELF_CONTAINED = box(
    b"dinf", full_box(b"dref", 0, 0, (1).to_bytes(4, "big"), full_box(b"url ", 0, 1))
)  # Section 8.7.2: the media are in this file.

_HANDLERS = {"video": (b"vide", b"VideoHandler"), "audio": (b"soun", b"SoundHandler"), "text": (b"text", b"Chapters")}
_TRACK_ENABLED, _TRACK_IN_MOVIE = 0x1, 0x2  # Section 8.3.2.

_SEAL_BYTES = 16  # The headers of moov and mvhd, or that of mdat.

_BITS_32 = 0xFFFF_FFFF
_BITS_31 = 0x7FFF_FFFF
_FIXED_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class IndexPlacement:
    """Where the index went."""

    offset: int  # bytes from the start of the file to moov
    size: int  # bytes, the texts of the chapters included
    at_front: bool
    file_size: int  # bytes


def file_header(reserve_bytes: int) -> bytes:
    """The beginning of a new file: ftyp, a free box of ``reserve_bytes`` (at least 8) and an open mdat.

    Media start right behind it.
    """
    if not HEADER_BYTES <= reserve_bytes <= _BITS_31:
        raise ValueError(f"{reserve_bytes} bytes cannot be kept free")
    return _FILE_TYPE + header(b"free", reserve_bytes) + bytes(reserve_bytes - HEADER_BYTES) + _open_mdat()


def front_offset() -> int:
    """Where the reserved space begins in a file that starts with `file_header`."""
    return len(_FILE_TYPE)


def media_offset(reserve_bytes: int) -> int:
    """Where media begin in a file that starts with `file_header` of this reserve."""
    return len(_FILE_TYPE) + reserve_bytes + LARGE_HEADER_BYTES


def _open_mdat() -> bytes:
    """An mdat header that reaches to the end of the file, with room for a size in 64 bits."""
    return header(b"mdat", 0) + bytes(LARGE_HEADER_BYTES - HEADER_BYTES)


def estimate_index_bytes(
    *, video_samples: int, audio_samples: int, chunks: int, movie: Movie | None = None, formats: Iterable[bytes] = ()
) -> int:
    """Bytes to keep free so that the index fits in front, whatever the times of the samples are.

    ``chunks`` counts those of all tracks together, ``formats`` are the sample entries known so far. At 60 frames
    a second this is about 0.25 % of a usual broadcast.
    """
    texts = 0
    if movie is not None:
        words = (movie.title, movie.artist, movie.date, movie.comment, movie.encoder)
        texts = sum(len(word.encode("utf-8", "replace")) + 32 for word in words)
        texts += sum(2 * len(chapter.title.encode("utf-8", "replace")) + 64 for chapter in movie.chapters)
    # Section 8.6 and 8.7, each sample different from the one before it: 4 bytes in stsz, 8 in stts, 8 in ctts and one
    # in four with 4 in stss; sound needs neither ctts nor stss. A chunk has 8 in co64 and 12 in stsc.
    return _FIXED_BYTES + 21 * video_samples + 12 * audio_samples + 20 * chunks + 4 * sum(map(len, formats)) + texts


def write_index(
    file: BinaryIO,
    tracks: Sequence[IndexTrack],
    movie: Movie,
    *,
    front_offset: int,
    front_size: int,
    end_offset: int,
    spool: Callable[[], BinaryIO],
    barrier: Callable[[], None] = lambda: None,
) -> IndexPlacement:
    """Write the index for media that end at ``end_offset`` and close the mdat box.

    The reserved space is the ``front_size`` bytes from ``front_offset`` on; mdat begins right behind it. What stands
    behind ``end_offset`` is cut off. ``spool`` opens an empty temporary file, six for each track. ``barrier`` is called
    before the write that makes the index visible (an fdatasync there makes that hold for power cuts, too).

    The movie's timeline begins at 0. A track whose first presentation is later gets an empty edit, so that picture and
    sound keep their distance; what would be presented before 0 is kept but hidden (section 8.6.6). A track without
    samples is left out; a movie without samples is `ValueError`.
    """
    mdat_offset = front_offset + front_size
    _unseal(file, front_offset, mdat_offset, barrier)
    file.truncate(end_offset)
    with ExitStack() as spools:
        media = {"media_start": mdat_offset + LARGE_HEADER_BYTES, "media_end": end_offset}
        gathered = [
            (track, SampleTables.gather(track, lambda: spools.enter_context(spool()), **media)) for track in tracks
        ]
        present = [(track, tables) for track, tables in gathered if tables.samples]
        if not present:
            raise ValueError("there are no samples to index")
        parts, size = _layout(present, movie, front_offset)
        # A rest too small for a box header could not be named free.
        if size == front_size or size <= front_size - HEADER_BYTES:
            # libavformat takes a free box that begins with mvhd for moov, so the name of mvhd has to wait, too.
            beginning = b"".join(part for part in parts[:2] if isinstance(part, bytes))
            _write_parts(file, front_offset + _SEAL_BYTES, [beginning[_SEAL_BYTES:], *parts[2:]])
            if size < front_size:
                _write_at(file, front_offset + size, header(b"free", front_size - size))
            _write_at(file, mdat_offset, large_header(b"mdat", end_offset - mdat_offset))
            last_write = front_offset, beginning[:_SEAL_BYTES]
            placement = IndexPlacement(front_offset, size, at_front=True, file_size=end_offset)
        else:
            parts, size = _layout(present, movie, end_offset)
            _write_parts(file, end_offset, parts)
            last_write = mdat_offset, large_header(b"mdat", end_offset - mdat_offset)
            placement = IndexPlacement(end_offset, size, at_front=False, file_size=end_offset + size)
    file.flush()
    barrier()
    _write_at(file, *last_write)
    file.flush()
    return placement


def _unseal(file: BinaryIO, front_offset: int, mdat_offset: int, barrier: Callable[[], None]) -> None:
    """Hide the index that an earlier attempt may have finished, before any of it is overwritten."""
    free = header(b"free", mdat_offset - front_offset) + bytes(_SEAL_BYTES - HEADER_BYTES)
    for offset, expected in ((front_offset, free[: mdat_offset - front_offset]), (mdat_offset, _open_mdat())):
        file.seek(offset)
        if file.read(len(expected)) != expected:
            _write_at(file, offset, expected)
            file.flush()
            barrier()


def _write_at(file: BinaryIO, offset: int, content: bytes) -> None:
    _write_parts(file, offset, [content])


def _write_parts(file: BinaryIO, offset: int, parts: Iterable[Part]) -> None:
    def write(content: bytes) -> None:
        left = memoryview(content)
        while left:  # A file without a buffer may take less than it was given.
            left = left[file.write(left) :]

    file.seek(offset)
    for part in parts:
        if isinstance(part, Column):
            part.copy_to(write)
        else:
            write(part)


def _layout(present: Sequence[tuple[IndexTrack, SampleTables]], movie: Movie, offset: int) -> tuple[list[Part], int]:
    """The index as it stands at ``offset``: moov, and behind it an mdat with the texts of the chapters."""
    # Ticks as fine as those of the finest track: edits are then exact to less than half a tick of any (section 8.2.2).
    timescale = max(track.timescale for track, _ in present)
    edits = [_Edits.of(track, tables, timescale) for track, tables in present]
    duration = max(edit.duration for edit in edits)
    chapters = settle_chapters(movie.chapters, duration * CHAPTER_TIMESCALE // timescale)
    # Some readers do not see that a chapter track begins late, so there is a text without words before a late chapter.
    listed = [(0, ""), *chapters] if chapters and chapters[0][0] else chapters
    texts = [chapter_sample(title) for _, title in listed]

    def build(text_offset: int) -> list[Part]:
        chapter_id = len(present) + 1
        boxes: list[Part] = [_movie_header(timescale, duration, chapter_id + bool(chapters))]
        for number, ((track, tables), edit) in enumerate(zip(present, edits, strict=True), 1):
            boxes += _media_track(number, track, tables, edit, chapter_id if chapters else None)
        if chapters:
            boxes.append(_chapter_track(chapter_id, listed, texts, text_offset, duration, timescale))
        boxes.append(user_data(movie, chapters))
        return wrap(b"moov", *boxes)

    moov_size = size_of(build(offset))
    parts = build(offset + moov_size + HEADER_BYTES)
    if texts:
        parts.append(box(b"mdat", *texts))
    size = size_of(parts)
    if moov_size > _BITS_31:
        raise ValueError("the index is too large for a box")
    return parts, size


@dataclass(frozen=True, slots=True)
class _Edits:
    """How a track's media come onto the movie's timeline (section 8.6.6)."""

    delay: int  # movie ticks of nothing before the media
    media_time: int  # track ticks from the start of the media that are not presented
    shown: int  # movie ticks of media

    @classmethod
    def of(cls, track: IndexTrack, tables: SampleTables, movie_timescale: int) -> _Edits:
        first_shown = track.start + tables.first_shown - tables.lift
        delay = max(0, first_shown)
        media_time = tables.first_shown + max(0, -first_shown)
        shown = max(0, tables.last_shown - media_time)
        return cls(
            # To the nearest tick, as a reader computes it back.
            (2 * delay * movie_timescale + track.timescale) // (2 * track.timescale),
            media_time,
            # Rounded up: an edit that is too short hides the last sample.
            -(-shown * movie_timescale // track.timescale),
        )

    @property
    def duration(self) -> int:
        return self.delay + self.shown

    def box(self) -> bytes:
        wide = self.duration > _BITS_32 or self.media_time > _BITS_31
        rows = [(self.shown, self.media_time)]
        if self.delay:
            rows.insert(0, (self.delay, -1))
        width = 8 if wide else 4
        entries = b"".join(
            duration.to_bytes(width, "big") + time.to_bytes(width, "big", signed=True) + b"\x00\x01\x00\x00"
            for duration, time in rows
        )
        return box(b"edts", full_box(b"elst", int(wide), 0, _u32(len(rows)), entries))


def _movie_header(timescale: int, duration: int, next_track_id: int) -> bytes:
    """Section 8.2.2; without a time of creation, so that the same broadcast makes the same file."""
    return full_box(
        b"mvhd",
        int(duration > _BITS_32),
        0,
        _times(timescale, duration),
        b"\x00\x01\x00\x00\x01\x00" + bytes(10),  # Normal speed, full volume.
        _UNITY_MATRIX,
        bytes(24),
        _u32(next_track_id),
    )


def _times(timescale: int, duration: int) -> bytes:
    """Creation and modification (unknown), timescale and duration, as mvhd and mdhd have them."""
    width = 8 if duration > _BITS_32 else 4
    return bytes(2 * width) + _u32(timescale) + duration.to_bytes(width, "big")


def _track_header(
    number: int, duration: int, *, flags: int, group: int = 0, volume: int = 0, width: int = 0, height: int = 0
) -> bytes:
    """Section 8.3.2; ``width`` and ``height`` in pixels."""
    size = 8 if duration > _BITS_32 else 4
    return full_box(
        b"tkhd",
        int(duration > _BITS_32),
        flags,
        bytes(2 * size) + _u32(number) + bytes(4) + duration.to_bytes(size, "big"),
        bytes(8) + bytes(2) + group.to_bytes(2, "big") + volume.to_bytes(2, "big") + bytes(2),
        _UNITY_MATRIX,
        _u32(width << 16) + _u32(height << 16),
    )


def _media(kind: str, timescale: int, duration: int, media_header: bytes, sample_table: Iterable[Part]) -> list[Part]:
    """The mdia box (section 8.4.1)."""
    handler, name = _HANDLERS[kind]
    return wrap(
        b"mdia",
        full_box(b"mdhd", int(duration > _BITS_32), 0, _times(timescale, duration), _UNDETERMINED, bytes(2)),
        full_box(b"hdlr", 0, 0, bytes(4), handler, bytes(12), name, b"\x00"),
        *wrap(b"minf", media_header, _SELF_CONTAINED, *sample_table),
    )


def _media_track(
    number: int, track: IndexTrack, tables: SampleTables, edits: _Edits, chapter_id: int | None
) -> list[Part]:
    """The trak box of picture or sound (section 8.3.1)."""
    flags = _TRACK_ENABLED | _TRACK_IN_MOVIE
    if track.kind == "video":
        largest = max(tables.formats, key=lambda entry: entry.width * entry.height)
        head = _track_header(number, edits.duration, flags=flags, width=largest.width, height=largest.height)
        media_header = full_box(b"vmhd", 0, 1, bytes(8))  # Section 12.1.2.
    else:
        head = _track_header(number, edits.duration, flags=flags, group=1, volume=0x100)
        media_header = full_box(b"smhd", 0, 0, bytes(4))  # Section 12.2.2.
    return wrap(
        b"trak",
        head,
        edits.box(),
        box(b"tref", box(b"chap", _u32(chapter_id))) if chapter_id else b"",  # Section 8.3.3.
        *_media(
            track.kind,
            track.timescale,
            max(tables.duration, tables.last_shown),
            media_header,
            tables.sample_table(),
        ),
    )


def _chapter_track(
    number: int,
    chapters: Sequence[tuple[int, str]],
    texts: Sequence[bytes],
    offset: int,
    movie_duration: int,
    movie_timescale: int,
) -> bytes:
    """The trak box of the chapters; their texts lie in a row at ``offset``."""
    starts = [start for start, _ in chapters]
    end = max(movie_duration * CHAPTER_TIMESCALE // movie_timescale, starts[-1] + 1)
    durations = [after - start for start, after in pairwise([*starts, end])]
    wide = offset > _BITS_32
    tables = (
        full_box(b"stsd", 0, 0, _u32(1), chapter_sample_entry()),
        full_box(b"stts", 0, 0, _u32(len(texts)), *(_u32(1) + _u32(duration) for duration in durations)),
        full_box(b"stsc", 0, 0, _u32(1), _u32(1), _u32(len(texts)), _u32(1)),
        full_box(b"stsz", 0, 0, _u32(0), _u32(len(texts)), *(_u32(len(text)) for text in texts)),
        full_box(b"co64" if wide else b"stco", 0, 0, _u32(1), offset.to_bytes(8 if wide else 4, "big")),
    )
    media = _media("text", CHAPTER_TIMESCALE, sum(durations), chapter_media_header(), [box(b"stbl", *tables)])
    # Not a tick longer than the texts: a reader takes the last chapter's end from here.
    edits = _Edits(0, 0, end * movie_timescale // CHAPTER_TIMESCALE)
    parts = wrap(b"trak", _track_header(number, edits.duration, flags=_TRACK_IN_MOVIE), edits.box(), *media)
    return b"".join(part for part in parts if isinstance(part, bytes))


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "big")
