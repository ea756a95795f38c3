"""What is found in a finished film, window by window, and what of it is noticed when it is not what was fetched."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

from support.films import make_index_of, put_together
from support.mp4_media import lay_out, make_fragments, make_transport_segments, run_ffmpeg
from vodkeep.capture import film as film_module
from vodkeep.capture.model import PacketCounts
from vodkeep.capture.mp4_reader import Samples, read_movie
from vodkeep.capture.mp4_windows import cut_windows
from vodkeep.capture.samples import SegmentSamples
from vodkeep.capture.transport_stream import read_transport_stream
from vodkeep.capture.verify import VerificationError, check_facts, read_facts, sample_decode
from vodkeep.disk import checksum_of

WINDOW_S = 2.0
WINDOWS = [pytest.param(0, id="first window"), pytest.param(1, id="middle window"), pytest.param(2, id="last window")]


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film_module, "cut_windows", partial(cut_windows, window_s=WINDOW_S))


def segments_of(video: str | None = "h264", audio: str | None = "aac") -> list[SegmentSamples]:
    """Copies, so that a test may change them."""
    segments = make_fragments(video, audio).samples()
    for segment in segments:
        for track in segment.tracks:
            track.dts, track.cts, track.sync = track.dts.copy(), track.cts.copy(), track.sync.copy()
    return segments


def windows_of(path: Path, window_s: float = WINDOW_S) -> list[list[Samples]]:
    """The samples of each track in each window."""
    with path.open("rb") as file:
        movie = read_movie(file.fileno())
        return [
            [part.samples for part in window.tracks] for window in cut_windows(file.fileno(), movie, window_s=window_s)
        ]


# --- what is there -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("video", "audio"),
    [("h264", "aac"), ("h264-no-b", "flac"), ("hevc", "aac"), ("av1", "opus"), (None, "aac"), ("h264", None)],
)
def test_a_film_in_windows_holds_what_was_fetched(tmp_path: Path, video: str | None, audio: str | None) -> None:
    segments = segments_of(video, audio)
    path, assembled = put_together(tmp_path, segments, order=(1, 0, *range(2, len(segments))))
    assert len(windows_of(path)) >= 3

    told: list[int] = []
    facts = read_facts(path, fetched=assembled.packets, on_bytes=told.append)

    tracks = [track for segment in segments for track in segment.tracks]
    counts = {kind: sum(track.count for track in tracks if track.format.kind == kind) for kind in ("video", "audio")}
    assert facts.packets == PacketCounts(counts["video"], counts["audio"])
    assert facts.in_order
    assert abs(facts.duration_us - 6_000_000) < 50_000
    assert abs(facts.promised_us - facts.ends_us) < 50_000
    assert (facts.size_bytes, facts.checksum) == (path.stat().st_size, checksum_of(path))
    assert sum(told) == sum(int(track.sizes.sum()) for track in tracks)
    check_facts(facts, facts.packets, 6_000_000, 100_000)
    assert sample_decode(path, (0.0, 3.0, 5.9)) == 0


def test_streams_are_described(tmp_path: Path) -> None:
    facts = read_facts(put_together(tmp_path, segments_of())[0])
    video, audio = facts.streams
    assert (video.kind, video.codec, video.packets, video.width, video.height) == ("video", "h264", 180, 256, 144)
    assert video.fps == pytest.approx(30, abs=0.01)
    assert (audio.kind, audio.codec, audio.width, audio.height, audio.fps) == ("audio", "aac", None, None, None)


def test_a_film_of_transport_streams_holds_what_was_fetched(tmp_path: Path) -> None:
    segments = [read_transport_stream(body) for body in make_transport_segments("h264", "aac")]
    path, assembled = put_together(tmp_path, segments)
    assert read_facts(path, fetched=assembled.packets).packets.video == 180


@pytest.mark.parametrize("later", [{}, {"audio": 24_000}, {"video": 90_000}, {"audio": -20_000}])
def test_tracks_that_begin_late_or_before_the_film_are_measured_as_they_are_shown(
    tmp_path: Path, later: dict[str, int]
) -> None:
    laid = lay_out(tmp_path / "video.mp4", segments_of())
    laid.write_index(later=later)
    facts = read_facts(laid.path)
    with av.open(str(laid.path)) as container:
        assert container.start_time is not None
        assert container.duration is not None
        assert abs(facts.ends_us - container.start_time - container.duration) < 40_000
    assert abs(facts.promised_us - facts.ends_us) < 40_000
    assert facts.packets.video == 180


@pytest.mark.parametrize("flags", ["faststart", "disable_chpl", "negative_cts_offsets"])
def test_films_that_ffmpeg_has_written_are_read_too(tmp_path: Path, flags: str) -> None:
    target = tmp_path / "video.mp4"
    sources = ["-f", "lavfi", "-i", "testsrc2=s=256x144:r=30:d=6", "-f", "lavfi", "-i", "sine=d=6"]
    codecs = ["-c:v", "libx264", "-preset", "veryfast", "-g", "30", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    run_ffmpeg("-v", "error", *sources, *codecs, "-movflags", flags, str(target))
    facts = read_facts(target)
    assert facts.packets.video == 180
    assert facts.in_order
    assert abs(facts.duration_us - 6_000_000) < 50_000
    assert len(windows_of(target)) >= 3


def test_a_fragmented_film_is_refused_in_words(tmp_path: Path) -> None:
    fragments = make_fragments()
    (tmp_path / "video.mp4").write_bytes(fragments.init + b"".join(fragments.bodies))
    with pytest.raises(VerificationError, match="because it is a fragmented MP4"):
        read_facts(tmp_path / "video.mp4")


@pytest.mark.parametrize("body", [b"", b"no film at all" * 100, bytes(5000)], ids=["empty", "text", "zeros"])
def test_what_is_no_film_is_refused(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "video.mp4").write_bytes(body)
    with pytest.raises(VerificationError):
        read_facts(tmp_path / "video.mp4")


def test_reading_ends_when_nobody_wants_the_result(tmp_path: Path) -> None:
    class EnoughError(Exception):
        pass

    def stop(_: int) -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        read_facts(put_together(tmp_path, segments_of())[0], on_bytes=stop)


# --- what is wrong -------------------------------------------------------------------------------------------------


class Film:
    """A film to damage."""

    def __init__(self, folder: Path) -> None:
        self.path, self.assembled = put_together(folder, segments_of())
        self.windows = windows_of(self.path)
        with self.path.open("rb") as file:
            self.movie = read_movie(file.fileno())

    def judge(self) -> str:
        """What is said about it when it is compared with what was fetched."""
        with pytest.raises(VerificationError) as caught:
            read_facts(self.path, fetched=self.assembled.packets)
        return str(caught.value)

    def write(self, offset: int, content: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(content)

    def read(self, offset: int, size: int) -> int:
        with self.path.open("rb") as file:
            file.seek(offset)
            return int.from_bytes(file.read(size), "big")

    def add(self, table: bytes, row: int, ticks: int, *, column: int = 0, width: int = 1, track: int = 0) -> None:
        """Change a number in a table of the index."""
        offset = self.movie.tracks[track].tables[table].offset + 4 * (row * width + column)
        self.write(offset, (self.read(offset, 4) + ticks).to_bytes(4, "big"))

    def sample(self, window: int, track: int = 0) -> tuple[int, int]:
        """The number, from 0, and the place of a sample in the middle of a window."""
        before = sum(len(tracks[track]) for tracks in self.windows[:window])
        samples = self.windows[window][track]
        middle = len(samples) // 2
        return before + middle, int(samples.offsets[middle])

    def chunk(self, window: int, track: int = 0) -> int:
        """The number, from 0, of a chunk in a window."""
        _, place = self.sample(window, track)
        offsets = [self.read(self.movie.tracks[track].tables[b"stco"].offset + 4 * row, 4) for row in range(6)]
        return max(row for row, offset in enumerate(offsets) if offset <= place)


@pytest.fixture
def film(tmp_path: Path) -> Film:
    film = Film(tmp_path)
    assert len(film.windows) == 3
    read_facts(film.path, fetched=film.assembled.packets)
    return film


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("track", [0, 1], ids=["picture", "sound"])
def test_a_flipped_byte_is_found(film: Film, window: int, track: int) -> None:
    _, place = film.sample(window, track)
    film.write(place + 3, bytes([film.read(place + 3, 1) ^ 1]))
    kind = ("video", "audio")[track]
    assert f"the {kind} of segment {window} has other bytes" in film.judge()


@pytest.mark.parametrize("window", WINDOWS)
def test_a_missing_sample_is_found(tmp_path: Path, film: Film, window: int) -> None:
    segments = segments_of()
    track = segments[window].tracks[0]
    start, end = (int(track.sizes[:number].sum()) for number in (20, 21))
    segments[window] = replace_track(
        segments[window],
        sizes=np.delete(track.sizes, 20),
        dts=np.delete(track.dts, 20),
        cts=np.delete(track.cts, 20),
        sync=np.delete(track.sync, 20),
        payload=memoryview(bytes(track.payload[:start]) + bytes(track.payload[end:])),
    )
    shorter, _ = put_together(tmp_path / "shorter", segments)
    film.path = shorter
    assert re.search(f"the video of segment {window} has other (bytes|number)", film.judge())


def test_the_missing_end_of_a_track_is_found(tmp_path: Path, film: Film) -> None:
    film.path, _ = put_together(tmp_path / "shorter", segments_of()[:2])
    assert "the video of segment 2 has other number of packets" in film.judge()


def replace_track(segment: SegmentSamples, **changes: object) -> SegmentSamples:
    first, *rest = segment.tracks
    return SegmentSamples((replace(first, **changes), *rest))  # type: ignore[arg-type]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("column", ["dts", "cts", "sync"])
def test_a_wrong_timestamp_or_key_frame_is_found(tmp_path: Path, film: Film, window: int, column: str) -> None:
    """A tick is enough: the file plays, its order and its length are right."""
    segments = segments_of()
    values = getattr(segments[window].tracks[0], column)
    if column == "sync":
        values[20] = True
    else:
        values[20] += 1
    film.path, _ = put_together(tmp_path / "other", segments)
    assert f"the video of segment {window} has other times" in film.judge()


@pytest.mark.parametrize("window", WINDOWS)
def test_sound_that_slips_is_found(film: Film, window: int) -> None:
    """From some packet on all come a tick late."""
    film.add(b"stsz", film.sample(window, 1)[0], 1, track=1)
    assert re.search("the audio of segment|outside of the media", film.judge())


@pytest.mark.parametrize("window", WINDOWS)
def test_media_cut_short_are_found(film: Film, window: int) -> None:
    os.truncate(film.path, film.sample(window)[1] + 1)
    assert "does not fit" in film.judge()


@pytest.mark.parametrize("window", WINDOWS)
def test_media_of_zeros_are_found(film: Film, window: int) -> None:
    """As they are after a power cut: the file has its length, and nothing was written there."""
    _, place = film.sample(window)
    film.write(place, bytes(100))
    assert "has other bytes" in film.judge()


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("track", [0, 1], ids=["picture", "sound"])
def test_a_chunk_that_is_said_to_be_elsewhere_is_found(film: Film, window: int, track: int) -> None:
    film.add(b"stco", film.chunk(window, track), -4, track=track)
    assert re.search("has other bytes|outside of the media", film.judge())


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("place", ["behind the file", "in the index"])
def test_a_chunk_out_of_the_media_is_found(film: Film, window: int, place: str) -> None:
    table, row = film.movie.tracks[0].tables[b"stco"].offset, film.chunk(window)
    film.write(table + 4 * row, (0xFFFF_FF00 if place == "behind the file" else 400).to_bytes(4, "big"))
    assert "lies outside of the media" in film.judge()
    with pytest.raises(VerificationError):
        sample_decode(film.path, (5.9,))


@pytest.mark.parametrize(
    ("table", "row", "column", "width", "by", "words"),
    [
        pytest.param(b"stts", 0, 0, 2, 1, "stts table speaks of more video samples", id="more times"),
        pytest.param(b"stts", 0, 0, 2, -1, "a table speaks of fewer samples", id="fewer times"),
        pytest.param(b"stts", 0, 1, 2, 3, "has other times", id="longer samples"),
        pytest.param(b"ctts", 0, 0, 2, 1, "other times|more video samples", id="more offsets"),
        pytest.param(b"ctts", -1, 0, 2, -1, "a table speaks of fewer samples", id="fewer offsets"),
        pytest.param(b"stsz", -1, 0, 1, 1 << 30, "outside of the media", id="giant sample"),
        pytest.param(b"stsz", 90, 0, 1, 1, "has other bytes", id="larger sample"),
        pytest.param(b"stss", -1, 0, 1, 1, "other times", id="key frame elsewhere"),
        pytest.param(b"stss", -1, 0, 1, 1000, "stss table speaks of more", id="key frame that is not there"),
        pytest.param(b"stsc", 0, 1, 3, 1, "has other bytes|outside of|fewer samples|more video", id="fuller chunks"),
        pytest.param(b"stsc", 0, 1, 3, -30, "fewer samples than there are", id="empty chunks"),
        pytest.param(b"stsz", -2, 0, 1, -1, "stts table speaks of more", id="number of sizes"),
        pytest.param(b"stco", -1, 0, 1, -1, "fewer samples than there are", id="number of chunks"),
    ],
)
def test_an_index_that_lies_is_found(
    film: Film, table: bytes, row: int, column: int, width: int, by: int, words: str
) -> None:
    where = film.movie.tracks[0].tables[table]
    if (table, by, row) in ((b"stsz", -1, -2), (b"stco", -1, -1)):
        film.write(where.offset - 4, (where.rows - 1).to_bytes(4, "big"))
    else:
        film.add(table, row % where.rows, by, column=column, width=width)
    assert re.search(words, film.judge())


@pytest.mark.parametrize("window", [0, 1, 2])
def test_times_that_stand_still_between_two_windows_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(film_module, "cut_windows", partial(cut_windows, window_s=1.5))
    segments = segments_of()
    path, _ = put_together(tmp_path / "whole", segments)
    border = len(windows_of(path, window_s=1.5)[0][0])
    assert border < segments[0].tracks[0].count
    times = segments[window].tracks[0].dts
    times[border] = times[border - 1]
    laid = lay_out(tmp_path / "video.mp4", segments)
    laid.write_index()
    facts = read_facts(laid.path)
    assert not facts.in_order
    with pytest.raises(VerificationError, match="run backwards"):
        check_facts(facts, facts.packets, 6_000_000, 100_000)


@pytest.mark.parametrize("factor", [2, 0.5])
def test_an_index_that_promises_another_length_is_found(film: Film, factor: float) -> None:
    with film.path.open("rb") as file:
        at = file.read().index(b"mvhd") + 4 + 4 + 8 + 4
    film.write(at, int(film.read(at, 4) * factor).to_bytes(4, "big"))
    facts = read_facts(film.path)
    with pytest.raises(VerificationError, match="index of the finished file promises"):
        check_facts(facts, facts.packets, 6_000_000, 100_000)


def test_an_edit_that_hides_the_end_is_found(film: Film) -> None:
    with film.path.open("rb") as file:
        at = file.read().index(b"elst") + 4 + 4
    at += 4 + 12 * (film.read(at, 4) - 1)  # The last row: behind an empty edit.
    film.write(at, (film.read(at, 4) // 2).to_bytes(4, "big"))
    assert "hides the last 3 s of the video" in film.judge()


def test_nothing_but_a_verdict_comes_of_a_mangled_index(film: Film, tmp_path: Path) -> None:
    whole = film.path.read_bytes()
    start = whole.index(b"moov")
    end = start + int.from_bytes(whole[start - 4 : start], "big")
    dice = random.Random(11)
    verdicts = 0
    for _ in range(300):
        body = bytearray(whole)
        for _ in range(dice.choice((1, 1, 2, 8))):
            at = dice.randrange(start, end)
            body[at] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
        film.path.write_bytes(body)
        try:
            read_facts(film.path, fetched=film.assembled.packets)
        except VerificationError:
            verdicts += 1
    assert verdicts > 150


# --- what it takes -------------------------------------------------------------------------------------------------


def test_the_index_of_two_days_is_cut_in_a_bounded_memory(tmp_path: Path) -> None:
    """Only our own part, without libavformat: 18 million samples."""
    path = make_index_of(tmp_path / "video.mp4", hours=48)
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            movie = read_movie(file.fileno())
            samples = windows = 0
            for window in cut_windows(file.fileno(), movie):
                windows += 1
                samples += sum(len(part.samples) for part in window.tracks)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert samples == sum(track.samples for track in movie.tracks) == 48 * 3600 * (60 + 46)
    assert windows == pytest.approx(48 * 6, abs=2)
    assert peak < 40 << 20


_MEASURE = """
import sys
from pathlib import Path
from vodkeep.capture.verify import read_facts
packets = read_facts(Path(sys.argv[1])).packets
status = Path("/proc/self/status").read_text()
print(packets.video, int(status.split("VmHWM:")[1].split()[0]))
"""


def test_reading_a_long_film_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    """Whole processes, libavformat included. It would take 70 bytes for a packet, 46 MB more for the longer film."""
    peaks = []
    for hours in (0.5, 2.5):
        path = make_index_of(tmp_path / "video.mp4", hours)
        command = [sys.executable, "-c", _MEASURE, str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
        packets, peak_kib = map(int, done.stdout.split())
        assert packets == hours * 3600 * 60
        peaks.append(peak_kib / 1024)
    assert peaks[1] < peaks[0] + 10
