from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.capture import mp4_reader
from vodkeep.capture.mp4_boxes import box, full_box
from vodkeep.capture.mp4_index import (
    IndexChunk,
    IndexTrack,
    Movie,
    file_header,
    front_offset,
    media_offset,
    write_index,
)
from vodkeep.capture.mp4_reader import MovieDamagedError, MovieIndex, SampleReader, Samples, read_movie
from vodkeep.capture.samples import TrackFormat

FORMATS = [
    TrackFormat("video", "avc1", 90_000, 1280, 720, 0, 0, box(b"avc1", bytes(6), b"\0\x01", bytes(70 + number)))
    for number in range(3)
]
SOUND = TrackFormat("audio", "mp4a", 48_000, 0, 0, 48_000, 2, box(b"mp4a", bytes(6), b"\0\x01", bytes(20)))
RESERVE = 100_000
BASE = media_offset(RESERVE)
MEDIA = 20_000

Sample = tuple[int, int, int, bool]  # size, duration, composition offset, sync


@contextmanager
def opened(content: bytes) -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.fileno()


def chunk(offset: int, samples: Sequence[Sample], track_format: TrackFormat = FORMATS[0]) -> IndexChunk:
    sizes, durations, cts, sync = zip(*samples, strict=True)
    return IndexChunk(
        BASE + offset,
        track_format,
        np.array(sizes, np.uint32),
        np.array(durations, np.uint32),
        np.array(cts, np.int32),
        np.array(sync, np.bool_),
    )


def track(*chunks: IndexChunk, start: int = 0, timescale: int = 90_000) -> IndexTrack:
    return IndexTrack(chunks[0].format.kind, timescale, start, lambda: iter(chunks))


def written(*tracks: IndexTrack) -> bytes:
    with tempfile.TemporaryFile() as file:
        file.write(file_header(RESERVE) + bytes(MEDIA))
        write_index(
            file,
            tracks,
            Movie(),
            front_offset=front_offset(),
            front_size=RESERVE,
            end_offset=BASE + MEDIA,
            spool=tempfile.TemporaryFile,
        )
        file.seek(0)
        return file.read()


def read_all(content: bytes, at_once: int = 1000, number: int = 0) -> list[Samples]:
    with opened(content) as descriptor:
        movie = read_movie(descriptor)
        reader = SampleReader(descriptor, movie, movie.tracks[number])
        found = [reader.read(at_once)]
        while reader.left:
            found.append(reader.read(at_once))
        return found


def index_of(content: bytes) -> MovieIndex:
    with opened(content) as descriptor:
        return read_movie(descriptor)


def joined(found: Sequence[Samples]) -> Samples:
    whole = found[0]
    for samples in found[1:]:
        whole = whole.joined(samples)
    return whole


samples_strategy = st.tuples(
    st.integers(1, 50), st.sampled_from([0, 1500, 1501, (1 << 31) - 1]), st.sampled_from([0, 3000, 1500]), st.booleans()
)


@given(
    st.lists(
        st.tuples(st.lists(samples_strategy, min_size=1, max_size=6), st.integers(0, 2), st.integers(0, 5000)),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([1, 2, 3, 7, 1000]),
    st.sampled_from([1, 2, 1 << 14]),
)
def test_samples_are_read_as_they_were_put_in(
    chunks: list[tuple[list[Sample], int, int]], at_once: int, rows: int
) -> None:
    """However many are read at once, and wherever a block of a table ends."""
    content = written(track(*(chunk(offset, samples, FORMATS[number]) for samples, number, offset in chunks)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mp4_reader, "_ROWS_AT_ONCE", rows)
        found = read_all(content, at_once)
    whole = joined(found)
    put = [sample for samples, _, _ in chunks for sample in samples]
    assert list(zip(whole.sizes, whole.durations, whole.cts, whole.sync, strict=True)) == put
    places = []
    for samples, _, offset in chunks:
        ends = np.cumsum([0, *(size for size, *_ in samples)])
        places += [BASE + offset + int(end) for end in ends[:-1]]
    assert whole.offsets.tolist() == places
    used = list(dict.fromkeys(number for _, number, _ in chunks))
    assert whole.entries.tolist() == [used.index(number) + 1 for samples, number, _ in chunks for _ in samples]
    starts = np.cumsum([0, *(duration for _, duration, *_ in put)])
    assert whole.dts.tolist() == starts[:-1].tolist()
    assert [samples.start for samples in found] == [int(starts[at]) for at in range(0, len(put), at_once)]


def test_samples_of_one_size_without_further_tables_are_read() -> None:
    content = written(track(chunk(0, [(7, 1024, 0, True)] * 5, SOUND), timescale=48_000))
    whole = joined(read_all(content, 2))
    assert whole.sizes.tolist() == [7] * 5
    assert whole.sync.all()
    assert not whole.cts.any()


def test_tracks_are_told_apart() -> None:
    movie = index_of(
        written(
            track(chunk(0, [(7, 3000, 0, True)] * 30)),
            track(chunk(300, [(7, 1024, 0, True)] * 47, SOUND), start=4800, timescale=48_000),
        )
    )
    assert [(item.kind, item.timescale, item.samples) for item in movie.tracks] == [
        ("video", 90_000, 30),
        ("audio", 48_000, 47),
    ]
    assert movie.media == ((BASE, BASE + MEDIA),)
    assert [(item.shift, item.shown_from, item.shown_to) for item in movie.tracks] == [
        (0, 0, 90_000),
        (4800, 4800, 4800 + 47 * 1024),
    ]
    assert movie.duration_us == (4800 + 47 * 1024) * 1_000_000 // 48_000
    assert movie.tracks[0].descriptions[4:8] == b"stsd"


@pytest.mark.parametrize(
    ("start", "cts", "shift", "shown_from"), [(0, 40, 0, 40), (-40, 40, -40, 0), (-100, 40, -100, 0)]
)
def test_edits_become_a_shift(start: int, cts: int, shift: int, shown_from: int) -> None:
    movie = index_of(written(track(chunk(0, [(7, 100, cts, True)] * 3), start=start)))
    assert (movie.tracks[0].shift, movie.tracks[0].shown_from) == (shift, shown_from)


# --- files that are not what they should be ------------------------------------------------------------------------

WHOLE = written(track(chunk(0, [(7, 3000, 0, True), (8, 3000, 3000, False)] * 6), chunk(400, [(9, 1, 0, False)] * 2)))


def patched(kind: bytes, offset: int, number: int, content: bytes = WHOLE) -> bytes:
    """The file with a number of 32 bits in the first box of this kind, ``offset`` bytes into its body, made another."""
    at = content.index(kind) + 4 + offset
    return content[:at] + number.to_bytes(4, "big") + content[at + 4 :]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "no media", id="empty"),
        pytest.param(WHOLE[BASE - 16 :], "no index", id="without index"),
        pytest.param(WHOLE[:3000], "does not fit", id="cut short"),
        pytest.param(WHOLE[: BASE - 16], "no media", id="without media"),
        pytest.param(WHOLE + box(b"moov"), "2 indexes", id="two indexes"),
        pytest.param(WHOLE + box(b"moof"), "fragmented", id="fragment"),
        pytest.param(WHOLE + b"\0\0\0", "box header", id="rest"),
        pytest.param(patched(b"mvhd", 12, 0), "no ticks", id="no clock"),
        pytest.param(patched(b"mdhd", 12, 0), "no ticks", id="no clock of a track"),
        pytest.param(patched(b"stts", 4, 1 << 30), "too short", id="more rows than fit"),
        pytest.param(patched(b"stsz", 8, 1 << 30), "too short", id="more sizes than fit"),
        pytest.param(patched(b"stsd", -4, int.from_bytes(b"abcd", "big")), "0 stsd boxes", id="no descriptions"),
        pytest.param(patched(b"stco", -4, int.from_bytes(b"abcd", "big")), "lacks a table", id="no chunks"),
        pytest.param(patched(b"stts", -4, int.from_bytes(b"abcd", "big")), "lacks a table", id="no times"),
        pytest.param(patched(b"minf", -4, int.from_bytes(b"abcd", "big")), "0 minf boxes", id="no minf"),
        pytest.param(patched(b"elst", 4, 2), "elst box is too short", id="edit that is not there"),
        pytest.param(patched(b"elst", 16, 0x2_0000), "edit list says more", id="double speed"),
        pytest.param(patched(b"elst", 12, 0xFFFF_FFFF), "edit list says more", id="nothing but an empty edit"),
        pytest.param(patched(b"stts", 12, 1 << 31), "ends before it begins", id="negative duration"),
        pytest.param(patched(b"stts", 8, 11), "fewer samples than there are", id="fewer times"),
        pytest.param(patched(b"stts", 8, 13), "stts table speaks of more", id="more times"),
        pytest.param(patched(b"ctts", 8, 2), "ctts table speaks of more", id="more offsets"),
        pytest.param(patched(b"stss", 8, 0), "out of order", id="key frame zero"),
        pytest.param(patched(b"stss", 8, 5), "out of order", id="key frames in disorder"),
        pytest.param(patched(b"stss", 8 + 20, 100), "stss table speaks of more", id="key frame far away"),
        pytest.param(patched(b"stsc", 8, 2), "out of order", id="no first chunk"),
        pytest.param(patched(b"stsc", 12, 0), "fewer samples", id="empty chunk"),
        pytest.param(patched(b"stsc", 12, 13), "stco table speaks of more", id="fuller chunk"),
        pytest.param(patched(b"stsc", 20, 1), "out of order", id="chunks in disorder"),
        pytest.param(patched(b"stsc", 20, 7), "stco table speaks of more|fewer samples", id="row for no chunk"),
        pytest.param(patched(b"stco", 8, 0), "lies outside of the media", id="chunk in the header"),
        pytest.param(patched(b"stco", 12, BASE + MEDIA - 17), "lies outside of the media", id="chunk at the end"),
        pytest.param(patched(b"stsz", 12, 1 << 31), "lies outside of the media", id="giant"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_damage(content: bytes, words: str) -> None:
    with pytest.raises(MovieDamagedError, match=words):
        read_all(content, 5)


def test_chunks_beyond_all_numbers_are_damage() -> None:
    tables = WHOLE.replace(b"stco", b"co64")
    at = tables.index(b"co64") + 12
    with pytest.raises(MovieDamagedError):
        read_all(tables[:at] + b"\xff" * 8 + tables[at + 8 :], 5)


def test_a_file_that_becomes_shorter_while_it_is_read_is_damage() -> None:
    with opened(WHOLE) as descriptor:
        movie = read_movie(descriptor)
        os.ftruncate(descriptor, 300)
        with pytest.raises(MovieDamagedError, match="shorter"):
            SampleReader(descriptor, movie, movie.tracks[0]).read(5)


def test_boxes_that_are_read_whole_are_bounded() -> None:
    at = WHOLE.index(b"stsd") - 4
    size = int.from_bytes(WHOLE[at : at + 4], "big")
    large = WHOLE[:at] + full_box(b"stsd", 0, 0, bytes(2 << 20)) + WHOLE[at + size :]
    grown = 12 + (2 << 20) - size
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        place = large.index(kind) - 4
        large = (
            large[:place]
            + (int.from_bytes(large[place : place + 4], "big") + grown).to_bytes(4, "big")
            + large[place + 4 :]
        )
    with pytest.raises(MovieDamagedError, match="its stsd box has"):
        read_all(large)


def test_samples_split_and_join() -> None:
    (whole,) = read_all(WHOLE)
    first, rest = whole.split(5)
    assert (len(first), len(rest)) == (5, 9)
    assert rest.start == first.end == 15_000
    again = first.joined(rest)
    assert again.dts.tolist() == whole.dts.tolist()
    assert again.offsets.tolist() == whole.offsets.tolist()
    assert replace(again).end == whole.end
