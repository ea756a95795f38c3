from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from support.films import make_index_of
from vodkeep.capture.mp4_boxes import box
from vodkeep.capture.mp4_index import (
    IndexChunk,
    IndexTrack,
    Movie,
    file_header,
    front_offset,
    media_offset,
    write_index,
)
from vodkeep.capture.mp4_reader import SampleReader, read_movie
from vodkeep.capture.mp4_windows import Window, WindowFile, cut_windows
from vodkeep.capture.samples import TrackFormat

VIDEO = TrackFormat("video", "avc1", 1000, 1280, 720, 0, 0, box(b"avc1", bytes(6), b"\0\x01", bytes(70)))
OTHER = TrackFormat("video", "avc1", 1000, 1920, 1080, 0, 0, box(b"avc1", bytes(6), b"\0\x01", bytes(71)))
SOUND = TrackFormat("audio", "mp4a", 1000, 0, 0, 48_000, 2, box(b"mp4a", bytes(6), b"\0\x01", bytes(20)))
RESERVE = 100_000
BASE = media_offset(RESERVE)
MEDIA = 100_000


def chunk(
    offset: int, durations: Sequence[int], keys: Sequence[int] = (), track_format: TrackFormat = VIDEO, size: int = 10
) -> IndexChunk:
    count = len(durations)
    sync = np.zeros(count, np.bool_)
    sync[list(keys)] = True
    return IndexChunk(
        BASE + offset,
        track_format,
        np.full(count, size, np.uint32),
        np.array(durations, np.uint32),
        np.arange(count, dtype=np.int32) % 3,
        sync | (track_format.kind == "audio"),
    )


def track(*chunks: IndexChunk, start: int = 0) -> IndexTrack:
    return IndexTrack(chunks[0].format.kind, 1000, start, lambda: iter(chunks))


@contextmanager
def film(*tracks: IndexTrack) -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(file_header(RESERVE) + np.random.default_rng(1).bytes(MEDIA))
        write_index(
            file,
            tracks,
            Movie(),
            front_offset=front_offset(),
            front_size=RESERVE,
            end_offset=BASE + MEDIA,
            spool=tempfile.TemporaryFile,
        )
        yield file.fileno()


def cut(descriptor: int, **limits: float) -> list[Window]:
    return list(cut_windows(descriptor, read_movie(descriptor), **limits))  # type: ignore[arg-type]


def lengths(windows: Sequence[Window]) -> list[list[int]]:
    return [[len(part.samples) for part in window.tracks] for window in windows]


def test_a_window_ends_before_a_key_frame() -> None:
    with film(track(chunk(0, [100] * 50, keys=range(0, 50, 10)))) as descriptor:
        windows = cut(descriptor, window_s=2.5)
        assert lengths(windows) == [[20], [20], [10]]
        assert all(window.tracks[0].samples.sync[0] for window in windows)
        assert [window.tracks[0].start_s for window in windows] == [0, 2, 4]
        assert windows[-1].tracks[0].end_s == 5


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        pytest.param({"window_s": 2}, [[20], [20], [10]], id="exactly as long"),
        pytest.param({"window_bytes": 250}, [[20], [20], [10]], id="bytes"),
        pytest.param({"window_samples": 25}, [[20], [20], [10]], id="samples"),
        pytest.param({"window_s": 0.5}, [[5]] * 10, id="no key frame in time"),
        pytest.param({"window_bytes": 5}, [[1]] * 50, id="one sample is too large"),
        pytest.param({}, [[50]], id="no limit in the way"),
    ],
)
def test_limits_hold_with_or_without_key_frames(limits: dict[str, float], expected: list[list[int]]) -> None:
    with film(track(chunk(0, [100] * 50, keys=range(0, 50, 10)))) as descriptor:
        assert lengths(cut(descriptor, **limits)) == expected


def test_sound_goes_with_the_picture_of_its_time() -> None:
    """It begins half a second later, and goes on for a second longer."""
    picture = track(chunk(0, [100] * 50, keys=range(0, 50, 10)))
    sound = track(chunk(5000, [50] * 110, track_format=SOUND), start=500)
    with film(sound, picture) as descriptor:
        windows = cut(descriptor, window_s=2)
        assert lengths(windows) == [[20, 30], [20, 40], [10, 40]]
        assert all(window.tracks[0].track.kind == "video" for window in windows)
        assert [part.number for part in windows[0].tracks] == [1, 0]
        assert [window.tracks[1].start_s for window in windows] == [0.5, 2, 4]


def test_a_track_that_ends_early_leaves_the_rest_to_the_other() -> None:
    picture = track(chunk(0, [100] * 20, keys=range(0, 20, 10)))
    sound = track(chunk(5000, [100] * 100, track_format=SOUND))
    with film(picture, sound) as descriptor:
        windows = cut(descriptor, window_s=2, window_samples=30)
        assert sum(len(part.samples) for window in windows for part in window.tracks if part.number) == 100
        assert sum(len(part.samples) for window in windows for part in window.tracks if not part.number) == 20
        assert max(max(counts) for counts in lengths(windows)) <= 30


def test_a_hole_in_the_picture_does_not_gather_the_sound_of_hours(tmp_path: Path) -> None:
    picture = track(chunk(0, [100] * 10 + [900_000] + [100] * 10, keys=[0, 11]))
    sound = track(*(chunk(5000, [1000] * 90, track_format=SOUND) for _ in range(10)))
    with film(picture, sound) as descriptor:
        windows = cut(descriptor, window_s=60, window_samples=100)
        assert max(max(counts) for counts in lengths(windows)) <= 100
        assert sum(map(sum, lengths(windows))) == 21 + 900


@pytest.mark.parametrize(
    ("position_s", "first"),
    [(0, 0), (0.99, 0), (1.0, 0), (1.01, 0), (1.05, 10), (2.1, 20), (99, 40)],
)
def test_an_excerpt_begins_with_what_is_shown_by_then(position_s: float, first: int) -> None:
    """Pictures 10, 20, ... are key frames, and are shown a bit later than they are decoded."""
    picture = chunk(0, [100] * 50, keys=range(0, 50, 10))
    picture.cts[:] = 30
    with film(track(picture), track(chunk(5000, [50] * 100, track_format=SOUND))) as descriptor:
        (window,) = cut(descriptor)
        excerpt = window.excerpt(position_s, 7)
        assert len(excerpt.tracks[0].samples) == 7
        assert 1 <= len(excerpt.tracks[1].samples) <= 7
        assert excerpt.tracks[0].samples.start == first * 100
        assert excerpt.tracks[0].samples.offsets[0] == BASE + first * 10


def test_an_excerpt_of_a_track_without_key_frames_is_its_beginning() -> None:
    with film(track(chunk(0, [100] * 50))) as descriptor:
        (window,) = cut(descriptor)
        assert window.excerpt(3.0, 7).tracks[0].samples.start == 0


def test_the_file_of_a_window_holds_its_samples() -> None:
    """Read back from the file: tables, times from the window's start on, descriptions, and the bytes themselves."""
    picture = track(
        chunk(0, [100] * 10, keys=[0]),
        chunk(4000, [200] * 10, keys=[0], track_format=OTHER),
        chunk(200, [1, 2], keys=[0]),
    )
    with film(picture, track(chunk(8000, [70] * 40, track_format=SOUND))) as descriptor:
        movie = read_movie(descriptor)
        for window in cut_windows(descriptor, movie, window_s=1.5):
            file = WindowFile(descriptor, movie.size, window)
            with tempfile.TemporaryFile() as copy:
                while piece := file.read(1000):
                    copy.write(piece)
                copy.flush()
                again = read_movie(copy.fileno())
                assert len(again.tracks) == len(window.tracks)
                for part, found in zip(window.tracks, again.tracks, strict=True):
                    assert (found.kind, found.timescale) == (part.track.kind, part.track.timescale)
                    assert found.descriptions == part.track.descriptions
                    read = SampleReader(copy.fileno(), again, found).read(1000)
                    for column in ("sizes", "durations", "cts", "sync", "entries"):
                        assert getattr(read, column).tolist() == getattr(part.samples, column).tolist()
                    assert (read.dts + part.samples.start).tolist() == part.samples.dts.tolist()
                    for ours, theirs, size in zip(part.samples.offsets, read.offsets, read.sizes, strict=True):
                        assert os.pread(descriptor, size, ours) == os.pread(copy.fileno(), size, theirs)


def test_a_window_is_read_like_a_file() -> None:
    with film(track(chunk(0, [100] * 10, keys=[0]))) as descriptor:
        movie = read_movie(descriptor)
        (window,) = cut_windows(descriptor, movie)
        file = WindowFile(descriptor, movie.size, window)
        pieces = []
        while piece := file.read(777):
            pieces.append(piece)
        whole = b"".join(pieces)
        assert file.tell() == len(whole) == file.seek(0, os.SEEK_END)
        assert file.seek(-4, os.SEEK_CUR) == len(whole) - 4
        assert file.read(100) == whole[-4:]
        assert file.read(100) == b""
        for place in (0, 20, 30, 5000, len(whole) - 10):
            assert file.seek(place) == place
            content = b""
            while len(content) < 60 and (piece := file.read(60 - len(content))):
                content += piece
            assert content == whole[place : place + 60]
        assert window.media_end == BASE + 100


def test_media_that_end_too_early_end_the_file(tmp_path: Path) -> None:
    path = make_index_of(tmp_path / "video.mp4", 0.01)
    with path.open("r+b") as file:
        movie = read_movie(file.fileno())
        (window,) = cut_windows(file.fileno(), movie)
        os.ftruncate(file.fileno(), movie.size - 1000)
        view = WindowFile(file.fileno(), movie.size, window)
        view.seek(movie.size - 500)
        assert view.read(100) == b""
