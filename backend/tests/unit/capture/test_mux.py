from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from vodkeep.capture.model import Chapter, FetchedSegment, InitSection, PacketCounts, Segment
from vodkeep.capture.mux import Labels, split_into_runs, write_concat_list, write_labels, write_local_playlist


def segment(number: int, *, discontinuity: bool = False, init: InitSection | None = None) -> Segment:
    return Segment(
        number, number, f"http://e/{number}.ts", number * 4_000_000, 4_000_000, discontinuity=discontinuity, init=init
    )


def have(*numbers: int) -> dict[int, FetchedSegment]:
    return {number: FetchedSegment(number, f"{number}.ts", 1, PacketCounts(1, 1), False) for number in numbers}


def test_a_run_ends_at_a_discontinuity_a_hole_and_another_init_section() -> None:
    first, second = InitSection("http://e/a.mp4?t=1"), InitSection("http://e/b.mp4")
    segments = [
        segment(0, init=first),
        segment(1, init=InitSection("http://e/a.mp4?t=2")),
        segment(2, init=first, discontinuity=True),
        segment(3, init=first),
        segment(4, init=first),
        segment(5, init=second),
    ]
    runs = split_into_runs(segments, have(0, 1, 2, 4, 5))
    assert [[item.media_sequence for item in run.segments] for run in runs] == [[0, 1], [2], [4], [5]]


def test_each_run_lasts_until_the_next_one_begins() -> None:
    runs = split_into_runs([segment(number) for number in range(4)], have(0, 3))
    text = write_concat_list(runs, [Path("/w/run-0.m3u8"), Path("/w/run-1.m3u8")], end_us=16_000_000)
    lines = text.splitlines()
    assert [line for line in lines if line.startswith(("file", "duration"))] == [
        "file 'run-0.m3u8'",
        "duration 12.000000",
        "file 'run-1.m3u8'",
        "duration 4.000000",
    ]


def test_the_local_playlist_names_files_and_init() -> None:
    (run,) = split_into_runs([segment(0), segment(1)], have(0, 1))
    text = write_local_playlist(run, {0: Path("/w/0.seg"), 1: Path("/w/1.seg")}, Path("/w/init-0.mp4"))
    assert '#EXT-X-MAP:URI="init-0.mp4"' in text
    assert "#EXTINF:4.000000,\n0.seg\n#EXTINF:4.000000,\n1.seg\n#EXT-X-ENDLIST\n" in text


def test_labels_escape_what_ffmpeg_would_read_as_syntax() -> None:
    labels = Labels("a=b;c#d\\e\nf", "chan", datetime(2026, 11, 1, tzinfo=UTC), "", (Chapter(0, 9_000_000, "x=y"),))
    text = write_labels(labels, end_us=8_000_000)
    assert "title=a\\=b\\;c\\#d\\\\e f\n" in text
    assert "date=2026-11-01\n" in text
    assert "START=0\nEND=8000\ntitle=x\\=y\n" in text


def test_a_chapter_behind_the_end_is_left_out() -> None:
    labels = Labels("t", "c", None, "", (Chapter(9_000_000, 10_000_000, "late"),))
    assert "late" not in write_labels(labels, end_us=8_000_000)
