"""Films are cut by the real ffmpeg, and PyAV, which the cutting does not use, says what became of their packets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.films import put_together
from support.mp4_media import FFMPEG, make_fragments, make_movie, read_packets, run_ffmpeg
from vodkeep.errors import PermanentError, TransientError
from vodkeep.pipeline import film_parts
from vodkeep.pipeline.film_parts import cut_part, measure_film, read_cut_points
from vodkeep.publish.split import Limits, Part, plan_parts

pytestmark = pytest.mark.anyio


def from_the_engine(folder: Path) -> Path:
    segments = make_fragments("h264", "aac", seconds=12).samples()
    return put_together(folder, segments)[0]


def with_a_hole(folder: Path) -> Path:
    segments = make_fragments("h264", "aac", seconds=12).samples()
    folder.mkdir()
    return make_movie(folder / "video.mp4", [*segments[:2], *segments[4:]])


def of_sound(folder: Path) -> Path:
    return put_together(folder, make_fragments(None, "aac", seconds=12).samples())[0]


def by_ffmpeg(folder: Path) -> Path:
    """As a download whole makes it: edit lists, priming samples of the sound, groups of pictures that are open."""
    folder.mkdir()
    target = folder / "video.mp4"
    run_ffmpeg(
        *("-v", "error", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=30:d=12", "-f", "lavfi", "-i", "sine=d=12"),
        *("-c:v", "libx264", "-preset", "veryfast", "-bf", "3", "-g", "30", "-x264-params", "open-gop=1"),
        *("-c:a", "aac", str(target)),
    )
    return target


@pytest.mark.parametrize("make", [from_the_engine, with_a_hole, of_sound, by_ffmpeg])
async def test_the_parts_hold_each_packet_once(make: Callable[[Path], Path], tmp_path: Path) -> None:
    video = make(tmp_path / "whole")
    length = measure_film(video)
    points = read_cut_points(video)
    parts = plan_parts(length.duration_ms, length.size_bytes, [], points, Limits(5000, 10**9))
    assert len(parts) == 3
    files = [tmp_path / f"part-{part.number}.mp4" for part in parts]
    for part, file in zip(parts, files, strict=True):
        await cut_part(video, part, file, ffmpeg=FFMPEG)
    whole = read_packets(video)
    pieces = [read_packets(file) for file in files]
    for kind, packets in whole.items():
        assert [packet.content for piece in pieces for packet in piece[kind]] == [one.content for one in packets]
    for piece, part in zip(pieces, parts, strict=True):
        leading = next(iter(piece.values()))
        assert leading[0].key
        assert abs(measure_film(files[part.number - 1]).duration_ms - part.duration_ms) < 100
    assert sum(file.stat().st_size for file in files) < 1.2 * length.size_bytes + 20_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part-1.mp4", "part-2.mp4", "part-3.mp4", "whole"]


async def test_cut_points_are_the_key_frames_with_the_bytes_before_them(tmp_path: Path) -> None:
    video = from_the_engine(tmp_path / "whole")
    points = read_cut_points(video)
    packets = read_packets(video)
    assert len(points) == sum(packet.key for packet in packets["video"])
    assert points[0].bytes_before < 1000  # the sound begins a moment before the picture
    assert [points[0].at_ms, points[1].at_ms] == pytest.approx([0, 1000], abs=30)
    media = sum(len(packet.content) for kind in packets.values() for packet in kind)
    before = sum(len(packet.content) for packet in packets["video"][:30])
    before += sum(len(packet.content) for packet in packets["audio"][:47])
    assert points[1].bytes_before == pytest.approx(before * video.stat().st_size / media, rel=0.01)


async def test_a_part_that_is_there_and_whole_is_kept(tmp_path: Path) -> None:
    video = from_the_engine(tmp_path / "whole")
    part, target = Part(1, 2, 0, read_cut_points(video)[6].at_ms), tmp_path / "part.mp4"
    await cut_part(video, part, target, ffmpeg=FFMPEG)
    made = target.stat().st_ino
    await cut_part(video, part, target, ffmpeg="/nonexistent/ffmpeg")
    assert target.stat().st_ino == made
    content = target.read_bytes()
    target.write_bytes(content[:-1000])
    await cut_part(video, part, target, ffmpeg=FFMPEG)
    assert target.read_bytes() == content


async def test_a_cut_that_lost_a_packet_is_no_part(tmp_path: Path) -> None:
    video = from_the_engine(tmp_path / "whole")
    points = read_cut_points(video)
    careless = tmp_path / "careless"
    lossy = f"{FFMPEG} -v error -y -ss 2 -to 5.9 -i '{video}' -c copy -f mp4"
    careless.write_text(f'#!/bin/sh\nfor last; do :; done\nexec {lossy} "$last"\n')
    careless.chmod(0o755)
    with pytest.raises(TransientError, match="packets instead of") as caught:
        await cut_part(video, Part(2, 3, points[2].at_ms, points[6].at_ms), tmp_path / "part.mp4", ffmpeg=str(careless))
    assert caught.value.code == "split_failed"
    assert not list(tmp_path.glob("part.mp4*"))


async def test_a_cut_that_damages_packets_is_no_part(tmp_path: Path) -> None:
    video = from_the_engine(tmp_path / "whole")
    harmful = tmp_path / "harmful"
    harmful.write_text(
        f"#!/bin/sh\nfor last; do :; done\nexec {FFMPEG} -v error -y -i '{video}' -c copy "
        '-map 0:v -map 0:a -bsf:a noise=amount=1 -f mp4 "$last"\n'
    )
    harmful.chmod(0o755)
    with pytest.raises(TransientError, match="audio packets have other bytes"):
        await cut_part(video, Part(1, 1, 0, 12_000), tmp_path / "part.mp4", ffmpeg=str(harmful))


async def test_ffmpegs_own_words_are_told(tmp_path: Path) -> None:
    video = from_the_engine(tmp_path / "whole")
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'Conversion failed!' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(TransientError, match="could not cut the video: Conversion failed!"):
        await cut_part(video, Part(1, 1, 0, 12_000), tmp_path / "part.mp4", ffmpeg=str(broken))


async def test_a_program_that_writes_nonsense_is_tried_again(tmp_path: Path) -> None:
    video = from_the_engine(tmp_path / "whole")
    nonsense = tmp_path / "nonsense"
    nonsense.write_text('#!/bin/sh\nfor last; do :; done\necho nonsense > "$last"\n')
    nonsense.chmod(0o755)
    with pytest.raises(TransientError, match="its index cannot be read") as caught:
        await cut_part(video, Part(1, 1, 0, 12_000), tmp_path / "part.mp4", ffmpeg=str(nonsense))
    assert caught.value.code == "split_failed"
    assert not list(tmp_path.glob("part.mp4*"))


async def test_a_place_that_is_no_key_frame_is_not_cut_at(tmp_path: Path) -> None:
    video = from_the_engine(tmp_path / "whole")
    with pytest.raises(TransientError, match="no key frame at 6500 ms"):
        await cut_part(video, Part(1, 2, 0, 6500), tmp_path / "part.mp4", ffmpeg=FFMPEG)


async def test_a_damaged_film_is_named(tmp_path: Path) -> None:
    damaged = tmp_path / "video.mp4"
    damaged.write_bytes(b"nothing")
    with pytest.raises(PermanentError, match="cannot be published because") as caught:
        measure_film(damaged)
    assert caught.value.code == "film_damaged"


async def test_pieces_of_an_index_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = from_the_engine(tmp_path / "whole")
    at_once = read_cut_points(video)
    monkeypatch.setattr(film_parts, "_AT_ONCE", 7)
    assert read_cut_points(video) == at_once
    await cut_part(video, Part(2, 3, at_once[4].at_ms, at_once[8].at_ms), tmp_path / "part.mp4", ffmpeg=FFMPEG)
