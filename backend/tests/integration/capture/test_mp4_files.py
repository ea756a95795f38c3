"""Finished files, read by libavformat: it must find exactly what was put in."""

from __future__ import annotations

import gc
import io
import os
import tempfile
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Literal

import av
import av.error
import numpy as np
import pytest

from support.mp4_media import (
    Laid,
    Packet,
    inputs,
    lay_out,
    make_fragments,
    make_movie,
    make_transport_segments,
    packets_of,
    read_packets,
    run_ffmpeg,
    split_stream,
)
from vodkeep.capture.model import Chapter
from vodkeep.capture.mp4_index import (
    IndexChunk,
    IndexTrack,
    Movie,
    estimate_index_bytes,
    front_offset,
    media_offset,
    write_index,
)
from vodkeep.capture.samples import SegmentSamples, TrackFormat
from vodkeep.capture.transport_stream import read_transport_stream

KINDS: tuple[Literal["video", "audio"], ...] = ("video", "audio")


def samples(video: str | None = "h264", audio: str | None = "aac") -> list[SegmentSamples]:
    return make_fragments(video, audio).samples()


def put_off(segments: Sequence[SegmentSamples], seconds: int) -> None:
    for segment in segments:
        for track in segment.tracks:
            track.dts += seconds * track.format.timescale


def assert_plays(path: Path) -> None:
    """Every packet decodes, without a word of complaint."""
    assert run_ffmpeg("-v", "warning", "-xerror", "-i", str(path), "-f", "null", "-") == ""


def assert_holds(path: Path, segments: Sequence[SegmentSamples]) -> None:
    found = read_packets(path)
    for kind in KINDS:
        assert found.get(kind, []) == packets_of(segments, kind)


def boxes(path: Path) -> list[str]:
    """The boxes of the file itself."""
    found: list[str] = []
    with path.open("rb") as file:
        while header := file.read(8):
            size = int.from_bytes(header[:4], "big")
            if size == 1:
                size = int.from_bytes(file.read(8), "big")
                file.seek(-8, os.SEEK_CUR)
            found.append(header[4:].decode("latin-1"))
            file.seek(size - 8, os.SEEK_CUR)
        assert file.tell() == path.stat().st_size
    return found


@pytest.mark.parametrize(
    ("video", "audio"),
    [
        ("h264", "aac"),
        ("h264-no-b", "flac"),
        ("hevc", "aac"),
        ("hev1", "aac"),
        ("av1", "opus"),
        (None, "aac"),
        ("h264", None),
    ],
)
def test_packets_come_back_although_segments_lie_out_of_order(
    video: str | None, audio: str | None, tmp_path: Path
) -> None:
    segments = samples(video, audio)
    path = make_movie(tmp_path / "movie.mp4", segments, seed=3)
    assert boxes(path) == ["ftyp", "moov", "free", "mdat"]
    assert_holds(path, segments)
    assert_plays(path)


def test_an_index_too_large_for_the_front_goes_behind_the_media(tmp_path: Path) -> None:
    segments = samples()
    laid = lay_out(tmp_path / "movie.mp4", segments, reserve=1000)
    placement = laid.write_index()
    assert (placement.at_front, placement.offset) == (False, laid.end)
    assert boxes(laid.path) == ["ftyp", "free", "mdat", "moov"]
    assert laid.path.stat().st_size == placement.file_size
    assert_holds(laid.path, segments)
    assert_plays(laid.path)


def test_the_index_uses_the_front_to_the_last_byte(tmp_path: Path) -> None:
    """What is left must be nothing or a free box of at least eight bytes."""
    segments = samples()
    movie = Movie(title="x", chapters=(Chapter(0, 1_000_000, "one"),))
    size = lay_out(tmp_path / "movie.mp4", segments).write_index(movie).size
    for spare, expected in ((0, True), (1, False), (7, False), (8, True), (9, True), (-1, False)):
        laid = lay_out(tmp_path / "movie.mp4", segments, reserve=size + spare)
        assert laid.write_index(movie).at_front is expected
        assert_holds(laid.path, segments)


@pytest.mark.parametrize("reserve", [100_000, 1000])
def test_media_beyond_four_gigabytes_are_found(reserve: int, tmp_path: Path) -> None:
    """The file is sparse: three times 3 GiB that are not there."""
    segments = samples()
    laid = lay_out(tmp_path / "movie.mp4", segments, reserve=reserve, apart=3 << 30)
    laid.write_index(Movie(chapters=(Chapter(0, 1_000_000, "Anfang"),)))
    assert laid.end > 2 << 32
    assert_holds(laid.path, segments)
    with av.open(str(laid.path)) as container:
        assert [chapter["metadata"] for chapter in container.chapters()] == [{"title": "Anfang"}]


def test_the_same_media_make_the_same_file(tmp_path: Path) -> None:
    first, second = (make_movie(tmp_path / name, samples(), Movie(title="t")) for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_a_hole_is_a_long_sample(tmp_path: Path) -> None:
    segments = samples()
    put_off(segments[1:], 7)
    path = make_movie(tmp_path / "movie.mp4", segments)
    assert_holds(path, segments)
    assert_plays(path)
    with av.open(str(path)) as container:
        assert container.duration == pytest.approx(13_040_000, abs=30_000)


def test_negative_composition_offsets_come_back(tmp_path: Path) -> None:
    stream = tmp_path / "stream.mp4"
    flags = "delay_moov+default_base_moof+cmaf+negative_cts_offsets"
    run_ffmpeg("-v", "error", *inputs("h264", "aac", 4), "-movflags", flags, "-frag_duration", "700000", str(stream))
    segments = split_stream(stream.read_bytes()).samples()
    for segment in segments:
        segment.tracks[0].dts += 1024
        segment.tracks[0].cts -= 1024
    assert min(int(segment.tracks[0].cts.min()) for segment in segments) < 0
    path = make_movie(tmp_path / "movie.mp4", segments)
    # libavformat moves decoding times before all presentation times; these are what counts.
    expected = packets_of(segments, "video")
    assert [(p.content, p.pts, p.key) for p in read_packets(path)["video"]] == [
        (p.content, p.pts, p.key) for p in expected
    ]
    assert_plays(path)


def test_two_formats_in_one_track(tmp_path: Path) -> None:
    """The broadcaster's encoder began anew with other settings."""
    first, second = samples("h264"), samples("h264-no-b")
    put_off(second, 7)
    segments = first + second
    path = make_movie(tmp_path / "movie.mp4", segments)
    assert_holds(path, segments)
    assert_plays(path)


# --- where media begin ---------------------------------------------------------------------------------------------


def starts(path: Path) -> dict[str, Fraction]:
    """Seconds to the first presentation of each track."""
    with av.open(str(path)) as container:
        return {
            stream.type: Fraction(stream.start_time or 0) * (stream.time_base or 0)
            for stream in (*container.streams.video, *container.streams.audio)
        }


@pytest.mark.parametrize(
    "later", [{}, {"video": 7 * 15360, "audio": 5 * 48000}, {"video": 1, "audio": 3}, {"video": -1024, "audio": -2176}]
)
def test_tracks_keep_their_distance(later: dict[str, int], tmp_path: Path) -> None:
    segments = samples()
    laid = lay_out(tmp_path / "movie.mp4", segments)
    laid.write_index(later=later)
    for track in segments[0].tracks:
        kind, shift = track.format.kind, later.get(track.format.kind, 0)
        shown = int((track.dts + track.cts).min()) + shift
        assert starts(laid.path)[kind] == Fraction(shown, track.format.timescale)
        assert [(p.pts, p.dts) for p in read_packets(laid.path)[kind]] == [
            (p.pts + shift, p.dts + shift)
            for p in packets_of(segments, kind)
            if p.pts is not None and p.dts is not None
        ]


def test_what_comes_before_the_movie_is_kept_but_hidden(tmp_path: Path) -> None:
    segments = samples()
    laid = lay_out(tmp_path / "movie.mp4", segments)
    laid.write_index(later={"video": -1024 - 700})
    with av.open(str(laid.path)) as container:
        packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
    assert len(packets) == len(packets_of(segments, "video"))
    assert [packet.pts for packet in packets if packet.is_discard] == [-1024, -512]
    assert starts(laid.path)["video"] == 0


@pytest.mark.parametrize(("video", "audio"), [("h264", "aac"), ("av1", "opus")])
def test_a_copy_by_ffmpeg_is_the_same_movie(video: str, audio: str, tmp_path: Path) -> None:
    """Same packets, same distance between picture and sound, same length."""
    fragments = make_fragments(video, audio)
    stream = tmp_path / "stream.mp4"
    stream.write_bytes(fragments.init + b"".join(fragments.bodies))
    run_ffmpeg("-v", "error", "-i", str(stream), "-c", "copy", str(tmp_path / "theirs.mp4"))
    assert_same_movie(make_movie(tmp_path / "ours.mp4", fragments.samples()), tmp_path / "theirs.mp4")


def test_a_copy_of_a_transport_stream_by_ffmpeg_is_the_same_to_the_tick(tmp_path: Path) -> None:
    bodies = make_transport_segments("h264", "aac")
    stream = tmp_path / "stream.ts"
    stream.write_bytes(b"".join(bodies))
    run_ffmpeg("-v", "error", "-i", str(stream), "-c", "copy", str(tmp_path / "theirs.mp4"))
    segments = [read_transport_stream(body) for body in bodies]
    laid = lay_out(tmp_path / "ours.mp4", segments)
    # The movie begins with what is presented first; the stream's clock began anywhere.
    begin = min(Fraction(int((track.dts + track.cts).min()), track.format.timescale) for track in segments[0].tracks)
    laid.write_index(later={track.format.kind: -round(begin * track.format.timescale) for track in segments[0].tracks})
    assert read_packets(laid.path) == read_packets(tmp_path / "theirs.mp4")
    assert_same_movie(laid.path, tmp_path / "theirs.mp4")
    assert_plays(laid.path)


def assert_same_movie(ours: Path, theirs: Path) -> None:
    for kind in KINDS:
        own, other = read_packets(ours)[kind], read_packets(theirs)[kind]
        assert [(packet.content, packet.key) for packet in own] == [(packet.content, packet.key) for packet in other]
        assert [step(*pair) for pair in pairwise(own)] == [step(*pair) for pair in pairwise(other)]
    assert distance(ours) == pytest.approx(distance(theirs), abs=1 / 15360)
    with av.open(str(ours)) as one, av.open(str(theirs)) as another:
        assert one.duration == pytest.approx(another.duration, abs=25_000)
        for own_stream, other_stream in zip(one.streams, another.streams, strict=True):
            assert own_stream.frames == other_stream.frames
            assert own_stream.codec_context.extradata == other_stream.codec_context.extradata
            assert own_stream.codec_context.codec_tag == other_stream.codec_context.codec_tag


def step(a: Packet, b: Packet) -> tuple[int, int]:
    assert None not in (a.pts, a.dts, b.pts, b.dts)
    return (b.pts or 0) - (a.pts or 0), (b.dts or 0) - (a.dts or 0)


def distance(path: Path) -> float:
    found = starts(path)
    return float(found["video"] - found["audio"])


# --- labels --------------------------------------------------------------------------------------------------------


def chapters_of(path: Path) -> list[tuple[float, float, str]]:
    with av.open(str(path)) as container:
        return [
            (
                float(chapter["start"] * (chapter["time_base"] or 0)),
                float(chapter["end"] * (chapter["time_base"] or 0)),
                str(chapter["metadata"]["title"]),
            )
            for chapter in container.chapters()
        ]


def test_titles_come_back_in_any_script(tmp_path: Path) -> None:
    movie = Movie("Grüße 😀 \u202eאב", "художник", "2026-11-23", "Zeile 1\nZeile 2", "Vodkeep 1.2")
    path = make_movie(tmp_path / "movie.mp4", samples(), movie)
    with av.open(str(path)) as container:
        found = {key: container.metadata[key] for key in ("title", "artist", "date", "comment", "encoder")}
    assert found == {
        "title": movie.title,
        "artist": movie.artist,
        "date": movie.date,
        "comment": movie.comment,
        "encoder": movie.encoder,
    }


@pytest.mark.parametrize("reserve", [256 * 1024, 1000])
def test_chapters_come_back(reserve: int, tmp_path: Path) -> None:
    chapters = (Chapter(0, 2_000_000, "Just Chatting 😀"), Chapter(2_000_000, 4_500_000, "Elden Ring: Schatten & mehr"))
    path = make_movie(tmp_path / "movie.mp4", samples(), Movie(chapters=chapters), reserve=reserve)
    # The last one lasts as long as the movie.
    assert chapters_of(path) == [(0.0, 2.0, "Just Chatting 😀"), (2.0, 6.066, "Elden Ring: Schatten & mehr")]
    assert_plays(path)


def test_chapters_that_begin_late_or_beyond_the_end(tmp_path: Path) -> None:
    chapters = (Chapter(3_000_000, 4_000_000, "late"), Chapter(99_000_000, 100_000_000, "beyond"))
    path = make_movie(tmp_path / "movie.mp4", samples(), Movie(chapters=chapters))
    assert chapters_of(path) == [(0.0, 3.0, ""), (3.0, 6.066, "late")]
    assert_plays(path)


def test_more_chapters_than_nero_can_count(tmp_path: Path) -> None:
    chapters = tuple(Chapter(number * 20_000, (number + 1) * 20_000, f"{number} {'é' * 200}") for number in range(290))
    path = make_movie(tmp_path / "movie.mp4", samples(), Movie(chapters=chapters))
    assert [title for _, _, title in chapters_of(path)] == [chapter.title for chapter in chapters]
    assert_plays(path)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        pytest.param("", "", id="empty"),
        pytest.param("a\0b", "a b", id="NUL"),
        pytest.param("two\r\nlines", "two lines", id="lines"),
        pytest.param("lone \ud800 half", "lone ? half", id="surrogate"),
        pytest.param("x" * 70_000, "x" * 65_535, id="endless"),
    ],
)
def test_odd_chapter_titles(title: str, expected: str, tmp_path: Path) -> None:
    path = make_movie(tmp_path / "movie.mp4", samples(), Movie(chapters=(Chapter(0, 1, title),)))
    assert [found for _, _, found in chapters_of(path)] == [expected]


# --- interruptions -------------------------------------------------------------------------------------------------


class Recorder(io.FileIO):
    """A file that notes each change, and writes at most 1,000 bytes at once."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "r+")
        self.changes: list[tuple[int, bytes | None]] = []

    def write(self, content: Any) -> int:
        part = bytes(content[:1000])
        self.changes.append((self.tell(), part))
        return super().write(part)

    def truncate(self, size: int | None = None) -> int:
        assert size is not None
        self.changes.append((size, None))
        return super().truncate(size)


def record(laid: Laid) -> list[tuple[int, bytes | None]]:
    with Recorder(laid.path) as file:
        write_index(
            file,
            laid.tracks(),
            Movie(chapters=(Chapter(0, 1_000_000, "one"),)),
            front_offset=front_offset(),
            front_size=laid.reserve,
            end_offset=laid.end,
            spool=tempfile.TemporaryFile,
        )
        return file.changes


def can_be_opened(path: Path) -> bool:
    try:
        with av.open(str(path)) as container:
            return bool(container.streams)
    except av.error.FFmpegError:
        return False


@pytest.mark.parametrize("reserve", [40_000, 1000])
def test_a_crash_leaves_a_file_without_index_or_a_whole_one(reserve: int, tmp_path: Path) -> None:
    segments = samples()
    laid = lay_out(tmp_path / "movie.mp4", segments, reserve=reserve)
    unsealed = laid.path.read_bytes()
    changes = record(laid)
    sealed = laid.path.read_bytes()
    assert len(changes) > 10
    for number in range(len(changes)):
        laid.path.write_bytes(unsealed)
        with laid.path.open("r+b") as file:
            for offset, content in changes[:number]:
                if content is None:
                    file.truncate(offset)
                else:
                    file.seek(offset)
                    file.write(content)
        assert not can_be_opened(laid.path)
        if number % 5 == 0:  # Whatever stands there, the next attempt makes the same file of it.
            record(laid)
            assert laid.path.read_bytes() == sealed
    laid.path.write_bytes(sealed)
    assert_holds(laid.path, segments)
    # Also when the crash came after the last write, before anybody noted that it was done.
    again = record(laid)
    assert laid.path.read_bytes() == sealed
    laid.path.write_bytes(sealed)
    with laid.path.open("r+b") as file:
        file.seek(again[0][0])
        file.write(again[0][1] or b"")
    assert not can_be_opened(laid.path)


def test_the_index_is_durable_before_it_is_visible(tmp_path: Path) -> None:
    laid = lay_out(tmp_path / "movie.mp4", samples())
    seen: list[bool] = []
    with laid.path.open("r+b") as file:
        write_index(
            file,
            laid.tracks(),
            Movie(),
            front_offset=front_offset(),
            front_size=laid.reserve,
            end_offset=laid.end,
            spool=tempfile.TemporaryFile,
            barrier=lambda: seen.append(can_be_opened(laid.path)),
        )
    assert seen == [False]
    assert can_be_opened(laid.path)


# --- two days --------------------------------------------------------------------------------------------------------


def open_spool(folder: Path) -> BinaryIO:
    return tempfile.TemporaryFile(dir=folder)


class LongBroadcast:
    """Tables of segments of 10 s at 60 frames a second, as unkind to run lengths as real ones."""

    def __init__(self, segments: int) -> None:
        first = samples()[0]
        self._formats: list[TrackFormat] = [
            replace(first.tracks[0].format, timescale=90_000),
            first.tracks[1].format,
        ]
        rng = np.random.default_rng(1)
        self._sizes = rng.integers(1000, 20_000, 600).astype(np.uint32)
        self._durations = rng.integers(1499, 1502, 600).astype(np.uint32)
        self._cts = (rng.integers(0, 4, 600) * 1500).astype(np.int32)
        self._keys = np.arange(600) % 120 == 0
        self.segments = segments
        self.extent = 8_000_000
        self.reserve = estimate_index_bytes(
            video_samples=600 * segments, audio_samples=470 * segments, chunks=20 * segments
        )
        self.base = media_offset(self.reserve)
        self.end = self.base + segments * self.extent

    def video(self) -> Iterator[IndexChunk]:
        for number in range(self.segments):
            for first in range(0, 600, 60):
                part = slice(first, first + 60)
                yield IndexChunk(
                    self.base + number * self.extent + first * 12_000,
                    self._formats[0],
                    self._sizes[part],
                    self._durations[part],
                    self._cts[part],
                    self._keys[part],
                )

    def audio(self) -> Iterator[IndexChunk]:
        ones, zeros, durations = np.ones(47, np.bool_), np.zeros(47, np.int32), np.full(47, 1024, np.uint32)
        for number in range(self.segments):
            for first in range(10):
                yield IndexChunk(
                    self.base + number * self.extent + 7_200_000 + first * 20_000,
                    self._formats[1],
                    self._sizes[first * 47 : first * 47 + 47] // 50,
                    durations,
                    zeros,
                    ones,
                )

    def write(self, path: Path) -> float:
        """Seconds of processor time."""
        with path.open("w+b") as file:
            file.write(b"\0\0\0\x24ftypisom\0\0\2\0isomiso2iso4mp41mp42")
            start = time.process_time()
            placement = write_index(
                file,
                [IndexTrack("video", 90_000, 0, self.video), IndexTrack("audio", 48_000, 0, self.audio)],
                Movie(),
                front_offset=front_offset(),
                front_size=self.reserve,
                end_offset=self.end,
                spool=partial(open_spool, path.parent),
            )
            assert placement.at_front
            return time.process_time() - start


def test_two_days_take_seconds_and_little_memory(tmp_path: Path) -> None:
    """20,000 segments, 21 million samples; ten times a tenth takes about as long."""
    path = tmp_path / "movie.mp4"
    short = min(LongBroadcast(2000).write(path) for _ in range(3))
    broadcast = LongBroadcast(20_000)
    assert broadcast.write(path) < 20 * short
    with av.open(str(path)) as container:
        video, audio = container.streams
        assert (video.frames, audio.frames) == (600 * 20_000, 470 * 20_000)
        assert audio.duration == 470 * 20_000 * 1024
        # More ticks than 32 bits can count.
        assert video.duration is not None
        assert video.duration > 1 << 32
    gc.collect()
    tracemalloc.start()
    try:
        LongBroadcast(2000).write(path)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


def test_the_estimate_suffices_whatever_the_samples_are() -> None:
    broadcast = LongBroadcast(50)
    file = io.BytesIO(bytes(broadcast.base))
    placement = write_index(
        file,
        [IndexTrack("video", 90_000, 0, broadcast.video), IndexTrack("audio", 48_000, 0, broadcast.audio)],
        Movie(title="t" * 500, chapters=tuple(Chapter(i * 1_000_000, 0, "ü" * 80) for i in range(300))),
        front_offset=front_offset(),
        front_size=broadcast.reserve,
        end_offset=broadcast.end,
        spool=io.BytesIO,
    )
    assert placement.size <= broadcast.reserve
