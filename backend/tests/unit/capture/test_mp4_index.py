from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.capture import mp4_index, mp4_tables
from vodkeep.capture.model import Chapter
from vodkeep.capture.mp4_boxes import box, read_boxes
from vodkeep.capture.mp4_index import (
    IndexChunk,
    IndexPlacement,
    IndexTrack,
    Movie,
    estimate_index_bytes,
    file_header,
    front_offset,
    media_offset,
    write_index,
)
from vodkeep.capture.samples import TrackFormat

FORMATS = [
    TrackFormat("video", "avc1", 90_000, 1280, 720, 0, 0, box(b"avc1", bytes(6), b"\0\x07", bytes(70 + number)))
    for number in range(3)
]
SOUND = TrackFormat("audio", "mp4a", 48_000, 0, 0, 48_000, 2, box(b"mp4a", bytes(6), b"\0\x01", bytes(20)))
RESERVE = 100_000
BASE = media_offset(RESERVE)

Sample = tuple[int, int, int, bool]  # size, duration, composition offset, sync


def chunk(offset: int, samples: Sequence[Sample], track_format: TrackFormat = FORMATS[0]) -> IndexChunk:
    sizes, durations, cts, sync = zip(*samples, strict=True)
    return IndexChunk(
        offset,
        track_format,
        np.array(sizes, np.uint32),
        np.array(durations, np.uint32),
        np.array(cts, np.int32),
        np.array(sync, np.bool_),
    )


def track(*chunks: IndexChunk, start: int = 0, timescale: int = 90_000) -> IndexTrack:
    return IndexTrack(chunks[0].format.kind, timescale, start, lambda: iter(chunks))


Tree = dict[bytes, bytes]


def tree(content: bytes) -> Tree:
    return {item.kind: content[item.body : item.end] for item in read_boxes(memoryview(content), 0, len(content))}


def numbers(content: bytes, dtype: str = ">u4") -> list[int]:
    return [int(value) for value in np.frombuffer(content, dtype)]


def all_boxes(content: bytes, kind: bytes) -> list[bytes]:
    return [
        content[item.body : item.end] for item in read_boxes(memoryview(content), 0, len(content)) if item.kind == kind
    ]


@dataclass(frozen=True)
class Written:
    """A finished file and its parts."""

    content: bytes
    placement: IndexPlacement

    @property
    def moov(self) -> bytes:
        return tree(self.content)[b"moov"]

    def trak(self, number: int = 0) -> Tree:
        return tree(all_boxes(self.moov, b"trak")[number])

    def stbl(self, number: int = 0) -> Tree:
        return tree(tree(tree(self.trak(number)[b"mdia"])[b"minf"])[b"stbl"])

    def edits(self, number: int = 0) -> list[tuple[int, int]]:
        elst = tree(self.trak(number)[b"edts"])[b"elst"]
        wide = elst[0] == 1
        dtype = [("duration", ">u8" if wide else ">u4"), ("time", ">i8" if wide else ">i4"), ("rate", ">u4")]
        return [(int(row["duration"]), int(row["time"])) for row in np.frombuffer(elst[8:], dtype)]


def write(*tracks: IndexTrack, movie: Movie | None = None, reserve: int = RESERVE, media: int = 10_000) -> Written:
    file = io.BytesIO(file_header(reserve) + bytes(media))
    placement = write_index(
        file,
        tracks,
        movie or Movie(),
        front_offset=front_offset(),
        front_size=reserve,
        end_offset=media_offset(reserve) + media,
        spool=io.BytesIO,
    )
    return Written(file.getvalue(), placement)


def decode(stbl: Tree) -> tuple[list[Sample], list[int], list[int]]:
    """The samples that the tables describe, where each lies, and its sample entry."""
    size, count = numbers(stbl[b"stsz"][4:12])
    sizes = [size] * count if size else numbers(stbl[b"stsz"][12:])
    durations = [value for run, value in pairs(stbl[b"stts"]) for _ in range(run)]
    cts = [0] * count
    if b"ctts" in stbl:
        assert stbl[b"ctts"][0] in (0, 1)
        cts = [value for run, value in pairs(stbl[b"ctts"], ">i4") for _ in range(run)]
        assert stbl[b"ctts"][0] == (1 if min(cts) < 0 else 0)
    sync = [True] * count
    if b"stss" in stbl:
        keys = set(numbers(stbl[b"stss"][8:]))
        sync = [number + 1 in keys for number in range(count)]
    offsets = numbers(stbl[b"co64"][8:], ">u8") if b"co64" in stbl else numbers(stbl[b"stco"][8:])
    rows = [tuple(row) for row in np.frombuffer(stbl[b"stsc"][8:], ">u4").reshape(-1, 3).tolist()]
    places, entries = [], []
    sample = 0
    for number, offset in enumerate(offsets, 1):
        _, held, entry = next(row for row in reversed(rows) if row[0] <= number)
        for _ in range(held):
            places.append(offset)
            entries.append(entry)
            offset += sizes[sample]
            sample += 1
    assert len(sizes) == len(durations) == len(cts) == len(places) == count
    return list(zip(sizes, durations, cts, sync, strict=True)), places, entries


def pairs(table: bytes, dtype: str = ">u4") -> list[list[int]]:
    found: list[list[int]] = np.frombuffer(table[8:], dtype).reshape(-1, 2).tolist()
    assert numbers(table[4:8]) == [len(found)]
    return found


samples_strategy = st.tuples(
    st.integers(1, 50), st.sampled_from([0, 1500, 1501, 1 << 31]), st.sampled_from([0, 0, 3000, 1500]), st.booleans()
)


@given(
    st.lists(
        st.tuples(st.lists(samples_strategy, min_size=1, max_size=6), st.integers(0, 2), st.integers(0, 5000)),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([1, 3, 7, 1 << 16]),
)
def test_tables_say_what_was_put_in(chunks: list[tuple[list[Sample], int, int]], batch: int) -> None:
    """Whatever the runs, and wherever one batch ends and the next begins."""
    put = [chunk(BASE + offset, samples, FORMATS[number]) for samples, number, offset in chunks]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mp4_tables, "_BATCH_SAMPLES", batch)
        written = write(track(*put))
    found, places, entries = decode(written.stbl())
    assert found == [sample for samples, _, _ in chunks for sample in samples]
    expected_places = []
    for samples, _, offset in chunks:
        ends = np.cumsum([0, *(size for size, _, _, _ in samples)])
        expected_places += [BASE + offset + int(end) for end in ends[:-1]]
    assert places == expected_places
    used = list(dict.fromkeys(number for _, number, _ in chunks))
    assert entries == [used.index(number) + 1 for samples, number, _ in chunks for _ in samples]
    stsd = written.stbl()[b"stsd"]
    assert numbers(stsd[4:8]) == [len(used)]
    assert [item.end - item.start for item in read_boxes(memoryview(stsd), 8, len(stsd))] == [
        len(FORMATS[number].sample_entry) for number in used
    ]


def test_tables_that_say_nothing_are_left_out() -> None:
    """No composition offsets, all samples sync, all of one size (sections 8.6.1.3, 8.6.2 and 8.7.3)."""
    stbl = write(track(chunk(BASE, [(7, 1024, 0, True)] * 5, SOUND), timescale=48_000)).stbl()
    assert not {b"ctts", b"stss", b"co64"} & set(stbl)
    assert numbers(stbl[b"stsz"]) == [0, 7, 5]
    assert pairs(stbl[b"stts"]) == [[5, 1024]]


def test_a_picture_without_any_key_frame_says_so() -> None:
    stbl = write(track(chunk(BASE, [(7, 1, 0, False)] * 3))).stbl()
    assert numbers(stbl[b"stss"]) == [0, 0]


def test_sample_entries_refer_to_this_file() -> None:
    stsd = write(track(chunk(BASE, [(7, 1, 0, True)]))).stbl()[b"stsd"]
    assert stsd[8 + 14 : 8 + 16] == b"\0\x01"


def test_negative_presentation_times_move_the_track_as_one() -> None:
    """The media timeline begins at 0, so the tables shift, and the edit list takes it back."""
    written = write(track(chunk(BASE, [(7, 100, -50, True), (7, 100, -120, False), (7, 100, 30, False)]), start=1000))
    found, _, _ = decode(written.stbl())
    assert [cts for _, _, cts, _ in found] == [0, -70, 80]
    assert written.edits() == [(950, -1), (380, 0)]


@pytest.mark.parametrize(
    ("start", "cts", "edits"),
    [
        pytest.param(0, 0, [(300, 0)], id="at once"),
        pytest.param(-40, 40, [(300, 40)], id="decoded before it is shown"),
        pytest.param(0, 40, [(40, -1), (300, 40)], id="shown late"),
        pytest.param(900, 0, [(900, -1), (300, 0)], id="later than the movie"),
        pytest.param(-100, 40, [(240, 100)], id="partly before the movie"),
    ],
)
def test_edits_put_the_track_where_it_belongs(start: int, cts: int, edits: list[tuple[int, int]]) -> None:
    written = write(track(chunk(BASE, [(7, 100, cts, True)] * 3), start=start))
    assert written.edits() == edits
    duration = sum(length for length, _ in edits)
    mvhd, tkhd = tree(written.moov)[b"mvhd"], written.trak()[b"tkhd"]
    assert numbers(mvhd[12:20]) == [90_000, duration]
    assert numbers(tkhd[20:24]) == [duration]


def test_delays_are_exact_in_the_ticks_of_every_track() -> None:
    """A reader multiplies back and rounds; picture and sound must not slip by a tick."""
    for delay in range(200):
        written = write(
            track(chunk(BASE, [(7, 3003, 0, True)]), start=0),
            track(chunk(BASE + 7, [(7, 1024, 0, True)], SOUND), start=delay, timescale=44_100),
        )
        empty = sum(length for length, time in written.edits(1) if time == -1)
        assert round(empty * 44_100 / 90_000) == delay


def test_a_day_of_ticks_takes_64_bits() -> None:
    written = write(track(chunk(BASE, [(7, 1 << 31, 0, True)] * 3)))
    mvhd, tkhd = tree(written.moov)[b"mvhd"], written.trak()[b"tkhd"]
    mdhd = tree(written.trak()[b"mdia"])[b"mdhd"]
    assert (mvhd[0], tkhd[0], mdhd[0]) == (1, 1, 1)
    assert numbers(mvhd[24:32], ">u8") == numbers(tkhd[28:36], ">u8") == numbers(mdhd[24:32], ">u8") == [3 << 31]
    assert written.edits() == [(3 << 31, 0)]


def test_offsets_take_64_bits_only_beyond_four_gigabytes() -> None:
    class Far(io.BytesIO):
        """Pretends to have a tail of so many bytes."""

        def truncate(self, size: int | None = None) -> int:
            return size or 0

    for end, kind in ((0xFFFF_FFFF, b"stco"), (0x1_0000_0000, b"co64")):
        file = Far(file_header(RESERVE))
        write_index(
            file,
            [track(chunk(end - 7, [(7, 1, 0, True)]))],
            Movie(),
            front_offset=front_offset(),
            front_size=RESERVE,
            end_offset=end,
            spool=io.BytesIO,
        )
        moov = file.getvalue()[front_offset() :]
        size = int.from_bytes(moov[:4], "big")
        assert kind in moov[:size]
        assert file.getvalue()[BASE - 16 : BASE] == b"\0\0\0\x01mdat" + (end - BASE + 16).to_bytes(8, "big")


def test_the_largest_picture_gives_the_track_its_size() -> None:
    larger = replace(FORMATS[1], width=1920, height=1080)
    tkhd = write(track(chunk(BASE, [(7, 1, 0, True)]), chunk(BASE + 7, [(7, 1, 0, True)], larger))).trak()[b"tkhd"]
    assert numbers(tkhd[-8:]) == [1920 << 16, 1080 << 16]


@pytest.mark.parametrize(
    ("codec", "duration", "roll"), [("mp4a", 1024, -1), ("Opus", 960, -4), ("Opus", 120, -32), ("fLaC", 4096, None)]
)
def test_sound_says_how_far_a_decoder_goes_back(codec: str, duration: int, roll: int | None) -> None:
    sound = replace(SOUND, codec=codec)
    stbl = write(track(chunk(BASE, [(7, duration, 0, True)] * 4, sound), timescale=48_000)).stbl()
    if roll is None:
        assert b"sgpd" not in stbl
    else:
        assert stbl[b"sgpd"] == b"\x01\0\0\0roll" + b"\0\0\0\x02\0\0\0\x01" + roll.to_bytes(2, "big", signed=True)
        assert numbers(stbl[b"sbgp"][8:]) == [1, 4, 1]


def test_chapters_are_a_track_that_the_others_point_to() -> None:
    movie = Movie(chapters=(Chapter(0, 1, "one"), Chapter(2_000_000, 3, "two")))
    written = write(
        track(chunk(BASE, [(7, 90_000, 0, True)] * 5)),
        track(chunk(BASE + 35, [(7, 48_000, 0, True)] * 5, SOUND), timescale=48_000),
        movie=movie,
    )
    assert [tree(written.trak(number)[b"tref"])[b"chap"] for number in (0, 1)] == [b"\0\0\0\x03"] * 2
    stbl = written.stbl(2)
    assert pairs(stbl[b"stts"]) == [[1, 2000], [1, 3000]]
    at = numbers(stbl[b"stco"][8:])[0]
    assert written.content[at : at + 5] == b"\0\x03one"
    kinds = [item.kind for item in read_boxes(memoryview(written.content), 0, len(written.content))]
    assert kinds == [b"ftyp", b"moov", b"mdat", b"free", b"mdat"]
    assert numbers(tree(written.moov)[b"mvhd"][-4:]) == [4]


def test_a_track_without_samples_is_left_out_and_a_movie_without_is_refused() -> None:
    empty = IndexTrack("audio", 48_000, 0, lambda: iter(()))
    written = write(track(chunk(BASE, [(7, 1, 0, True)])), empty)
    assert len(all_boxes(written.moov, b"trak")) == 1
    with pytest.raises(ValueError, match="no samples"):
        write(empty)


@pytest.mark.parametrize("offset", [BASE - 1, BASE + 9_994])
def test_a_chunk_outside_of_the_media_is_refused(offset: int) -> None:
    with pytest.raises(ValueError, match="outside of the media"):
        write(track(chunk(offset, [(7, 1, 0, True)])))


def test_tables_of_different_lengths_are_refused() -> None:
    good = chunk(BASE, [(7, 1, 0, True)])
    with pytest.raises(ValueError, match="differ in length"):
        write(track(replace(good, cts=np.zeros(2, np.int32))))


def test_each_track_is_run_through_once() -> None:
    """Reading the journal back is the dear part."""
    runs = 0

    def chunks() -> Iterator[IndexChunk]:
        nonlocal runs
        runs += 1
        yield chunk(BASE, [(7, 1, 0, True)])

    write(IndexTrack("video", 90_000, 0, chunks))
    assert runs == 1


@pytest.mark.parametrize("reserve", [7, -1, 1 << 31])
def test_impossible_reserves_are_refused(reserve: int) -> None:
    with pytest.raises(ValueError, match="kept free"):
        file_header(reserve)


@given(st.integers(1, 2000), st.integers(0, 2000), st.integers(1, 60), st.integers(0, 2**32))
def test_the_estimate_is_enough_for_the_worst_samples(video: int, audio: int, per_chunk: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    movie = Movie("t" * 300, "a", "2026", "c" * 1000, "e", tuple(Chapter(i * 1000, 0, "ü😀" * i) for i in range(40)))

    def chunks(count: int, track_format: TrackFormat) -> Iterator[IndexChunk]:
        for first in range(0, count, per_chunk):
            size = min(per_chunk, count - first)
            sync = rng.integers(0, 5, size) == 0
            cts = rng.integers(0, 9000, size) * (track_format.kind == "video")
            yield IndexChunk(
                BASE,
                track_format,
                rng.integers(1, 20, size).astype(np.uint32),
                rng.integers(1, 9000, size).astype(np.uint32),
                cts.astype(np.int32),
                sync if track_format.kind == "video" else np.ones(size, np.bool_),
            )

    with pytest.MonkeyPatch.context() as patch:
        # The usual allowance would hide that the rest is too small.
        patch.setattr(mp4_index, "_FIXED_BYTES", 1800)
        estimate = estimate_index_bytes(
            video_samples=video,
            audio_samples=audio,
            chunks=video // per_chunk + audio // per_chunk + 2,
            movie=movie,
            formats=[FORMATS[0].sample_entry, SOUND.sample_entry],
        )
    tracks = [IndexTrack("video", 90_000, 0, lambda: chunks(video, FORMATS[0]))]
    if audio:
        tracks.append(IndexTrack("audio", 48_000, 0, lambda: chunks(audio, SOUND)))
    assert write(*tracks, movie=movie).placement.size <= estimate - 8
