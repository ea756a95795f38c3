"""The reel on a real disk, with the crash put at every step."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from vodkeep.capture.reel import Reel, ReelHead
from vodkeep.capture.samples import SegmentSamples, TrackFormat, TrackSamples, interleave

VIDEO = TrackFormat("video", "avc1", 90_000, 640, 360, 0, 0, b"\0\0\0\x08avc1")
AUDIO = TrackFormat("audio", "mp4a", 48_000, 0, 0, 48_000, 2, b"\0\0\0\x08mp4a")
HEAD = ReelHead("1080p60", 4096, 4128)


def segment(number: int) -> SegmentSamples:
    """About four seconds whose content depends on the number alone."""
    chance = np.random.default_rng(number)

    def track(track_format: TrackFormat, count: int, step: int) -> TrackSamples:
        sizes = chance.integers(1, 400, count, np.uint32)
        return TrackSamples(
            format=track_format,
            sizes=sizes,
            dts=number * count * step + step * np.arange(count, dtype=np.int64),
            cts=chance.integers(-5, 9_000, count).astype(np.int32),
            sync=chance.random(count) < 0.1,
            tail=step,
            payload=memoryview(chance.bytes(int(sizes.sum()))),
        )

    return SegmentSamples((track(VIDEO, 120, 3_000), track(AUDIO, 188, 1_024)))


@pytest.fixture
def reel(tmp_path: Path) -> Iterator[Reel]:
    reel = fresh(tmp_path)
    yield reel
    reel.close()


def fresh(folder: Path) -> Reel:
    reel = Reel(folder, "2301")
    reel.open(HEAD.format_id)
    reel.begin(HEAD, [(0, b"\xff" * HEAD.media_start)])
    return reel


def reopened(folder: Path, format_id: str = HEAD.format_id) -> Reel:
    reel = Reel(folder, "2301")
    reel.open(format_id)
    return reel


def assert_holds(reel: Reel, numbers: list[int]) -> None:
    """Exactly these segments are there, with every table and every byte."""
    assert sorted(reel.extents) == sorted(numbers)
    media = reel.video_path.read_bytes()
    for number in numbers:
        expected, loaded = segment(number), reel.load(number)
        chunks, bodies = interleave(expected.tracks)
        assert list(loaded.chunks) == chunks
        for chunk, body in zip(chunks, bodies, strict=True):
            start = loaded.offset + chunk.offset
            assert media[start : start + chunk.size] == bytes(body)
        for was, now in zip(expected.tracks, loaded.tracks, strict=True):
            assert now.format == was.format
            assert now.tail == was.tail
            for table in ("sizes", "dts", "cts", "sync"):
                np.testing.assert_array_equal(getattr(now, table), getattr(was, table))


def test_segments_come_back_as_they_went_in_whatever_the_order(reel: Reel) -> None:
    for number in (3, 0, 2, 1):
        reel.append(number, f"{number}.ts", number == 2, segment(number))
    assert_holds(reel, [0, 1, 2, 3])
    assert reel.extents[2].segment.muted
    assert reel.extents[0].segment.packets.video == 120
    assert reel.extents[0].segment.packets.audio == 188


def test_threads_append_side_by_side(reel: Reel) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: reel.append(number, f"{number}.ts", False, segment(number)), range(40)))
    assert_holds(reel, list(range(40)))
    spans = sorted((extent.offset, extent.segment.size_bytes) for extent in reel.extents.values())
    assert spans[0][0] == HEAD.media_start
    assert all(start + size == following for (start, size), (following, _) in pairwise(spans))


def test_another_run_goes_on_where_the_last_one_was_killed(tmp_path: Path) -> None:
    first = fresh(tmp_path)
    for number in range(5):
        first.append(number, f"{number}.ts", False, segment(number))
    # Killed: nothing was closed or synced.
    second = reopened(tmp_path)
    assert_holds(second, [0, 1, 2, 3, 4])
    second.append(5, "5.ts", False, segment(5))
    second.close()
    third = reopened(tmp_path)
    assert_holds(third, [0, 1, 2, 3, 4, 5])
    third.close()
    first.close()


@pytest.mark.parametrize("seed", range(20))
def test_a_journal_cut_anywhere_keeps_what_is_proven(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    first = fresh(tmp_path)
    for number in range(4):
        first.append(number, f"{number}.ts", False, segment(number))
        if chance.random() < 0.5:
            first.sync()
    first.close()
    journal = tmp_path / "journal.ndjson"
    whole = journal.read_bytes()
    cut = chance.randrange(len(whole))
    journal.write_bytes(whole[:cut])
    left = whole[:cut].split(b"\n")[:-1]
    expected = [json.loads(line)["sn"] for line in left if b'"sn"' in line]

    second = reopened(tmp_path)

    if b"\n" not in whole[:cut]:  # Not even the head is left.
        assert not second.is_begun
        return
    assert_holds(second, expected)
    second.append(9, "9.ts", False, segment(9))
    assert_holds(second, [*expected, 9])
    second.close()


@pytest.mark.parametrize("synced", [0, 2, 4])
def test_after_a_power_cut_lines_without_their_bytes_are_not_believed(tmp_path: Path, synced: int) -> None:
    """The journal's lines reached the disk, the media behind the last mark did not."""
    first = fresh(tmp_path)
    for number in range(4):
        if number == synced:
            first.sync()
        first.append(number, f"{number}.ts", False, segment(number))
    ends = [extent.offset + extent.segment.size_bytes for extent in first.extents.values()]
    if synced == 4:
        first.sync()
    with (tmp_path / "video.mp4").open("r+b") as video:
        lost_from = ends[synced - 1] if synced else HEAD.media_start
        video.seek(lost_from)
        video.write(bytes(ends[-1] - lost_from))

    second = reopened(tmp_path)

    assert_holds(second, list(range(synced)))
    second.close()
    first.close()


def test_a_media_file_that_is_too_short_costs_only_what_is_missing(tmp_path: Path) -> None:
    first = fresh(tmp_path)
    for number in range(4):
        first.append(number, f"{number}.ts", False, segment(number))
    first.close()
    with (tmp_path / "video.mp4").open("r+b") as video:
        video.truncate(first.extents[2].offset + 10)
    second = reopened(tmp_path)
    assert_holds(second, [0, 1])
    second.append(2, "2.ts", False, segment(2))
    assert_holds(second, [0, 1, 2])
    second.close()


def test_bytes_that_no_line_speaks_of_are_overwritten(tmp_path: Path) -> None:
    first = fresh(tmp_path)
    first.append(0, "0.ts", False, segment(0))
    end = first.media_end
    first.close()
    with (tmp_path / "video.mp4").open("ab") as video:
        video.write(b"half a segment")
    second = reopened(tmp_path)
    assert second.media_end == end
    second.append(1, "1.ts", False, segment(1))
    assert second.extents[1].offset == end
    assert_holds(second, [0, 1])
    second.close()


@pytest.mark.parametrize("gone", ["journal.ndjson", "video.mp4"])
def test_without_its_other_half_a_reel_begins_anew(tmp_path: Path, gone: str) -> None:
    first = fresh(tmp_path)
    first.append(0, "0.ts", False, segment(0))
    first.close()
    (tmp_path / gone).unlink()
    second = reopened(tmp_path)
    assert not second.is_begun
    assert not second.extents
    assert list(tmp_path.iterdir()) == []


def test_another_rendition_begins_anew(tmp_path: Path) -> None:
    first = fresh(tmp_path)
    first.append(0, "0.ts", False, segment(0))
    first.close()
    assert not reopened(tmp_path, "720p60").is_begun


def test_the_files_are_private(reel: Reel) -> None:
    assert reel.video_path.stat().st_mode & 0o777 == 0o640
