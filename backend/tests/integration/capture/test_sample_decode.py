"""The sampled decode, on real files: it finds damage and never invents it."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest

from vodkeep.capture.verify import VerificationError, sample_decode, spread_positions

POSITIONS = (0.0, 2.5, 5.0)
ENCODINGS = {
    "h264": ["-c:v", "libx264", "-g", "60"],
    "h264-open-gop": ["-c:v", "libx264", "-g", "60", "-x264-params", "open-gop=1:slices=4"],
    "h264-intra-refresh": ["-c:v", "libx264", "-g", "60", "-x264-params", "intra-refresh=1"],
    "hevc": ["-c:v", "libx265", "-g", "60", "-tag:v", "hvc1", "-x265-params", "log-level=error"],
    "av1": ["-c:v", "libsvtav1", "-g", "60", "-preset", "10", "-svtav1-params", "lp=1"],
    "sound only": ["-vn"],
}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a film of six seconds for each encoding."""
    folder = tmp_path_factory.mktemp("media")
    for name, codec in ENCODINGS.items():
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-t", "6", "-i", "testsrc2=rate=30"]
        command += ["-f", "lavfi", "-t", "6", "-i", "sine=sample_rate=48000", "-pix_fmt", "yuv420p"]
        subprocess.run([*command, *codec, "-c:a", "aac", str(folder / f"{name}.mp4")], check=True, timeout=60)
    return folder


def damaged(source: Path, target: Path) -> Path:
    """A copy in which every tenth byte of the media, in stretches of 64, is not what it was; the index is whole."""
    body = bytearray(source.read_bytes())
    start = body.index(b"mdat") + 4
    end = body.index(b"moov") - 4
    dice = random.Random(7)
    for place in range(start + 64, end - 64, 600):
        body[place : place + 64] = dice.randbytes(64)
    target.write_bytes(body)
    return target


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_whole_file_has_no_failures(media: Path, name: str) -> None:
    assert sample_decode(media / f"{name}.mp4", POSITIONS) == 0


@pytest.mark.parametrize("name", ENCODINGS)
def test_damage_is_noticed(media: Path, tmp_path: Path, name: str) -> None:
    assert sample_decode(damaged(media / f"{name}.mp4", tmp_path / "damaged.mp4"), POSITIONS) > 0


def test_damage_away_from_the_positions_is_not_looked_at(media: Path, tmp_path: Path) -> None:
    body = bytearray((media / "h264.mp4").read_bytes())
    first, last = body.index(b"mdat"), body.index(b"moov")
    body[last - (last - first) // 5 : last - 1000] = bytes((last - first) // 5 - 1000)
    (tmp_path / "end.mp4").write_bytes(body)

    assert sample_decode(tmp_path / "end.mp4", (0.0, 2.0)) == 0
    assert sample_decode(tmp_path / "end.mp4", (5.5,)) > 0


def test_a_position_past_the_end_is_harmless(media: Path) -> None:
    assert sample_decode(media / "h264.mp4", (3600.0,)) == 0


@pytest.mark.parametrize("body", [b"", b"no film at all" * 100], ids=["empty", "text"])
def test_a_file_that_is_no_film_is_refused(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "video.mp4").write_bytes(body)
    with pytest.raises(VerificationError):
        sample_decode(tmp_path / "video.mp4", POSITIONS)


def test_positions_are_spread_from_the_start() -> None:
    assert spread_positions(8_000_000, 4) == (0.0, 2.0, 4.0, 6.0)
