"""A picture of our own for the broadcasts of which Twitch shows none."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from av.video.frame import VideoFrame

from support.films import put_together
from support.mp4_media import make_fragments, run_ffmpeg
from vodkeep.capture.thumbnail import grab_frame, is_jpeg


def picture(path: Path) -> VideoFrame:
    with av.open(str(path)) as container:
        return next(container.decode(video=0))


@pytest.mark.parametrize("video", ["h264", "hevc", "av1"])
def test_a_frame_of_the_film_becomes_a_jpeg(tmp_path: Path, video: str) -> None:
    film, _ = put_together(tmp_path, make_fragments(video, "aac").samples())
    target = tmp_path / "thumbnail.jpg"
    assert grab_frame(film, target, 3.3)
    assert is_jpeg(target.read_bytes())
    frame = picture(target)
    assert (frame.width, frame.height) == (256, 144)


def test_it_is_the_key_frame_before_the_time(tmp_path: Path) -> None:
    """Red for two seconds, then green."""
    film = tmp_path / "video.mp4"
    colours = "color=red:s=64x64:r=30:d=2[a];color=lime:s=64x64:r=30:d=2[b];[a][b]concat"
    run_ffmpeg(
        "-v", "error", "-f", "lavfi", "-i", colours, "-c:v", "libx264", "-g", "60", "-pix_fmt", "yuv420p", str(film)
    )
    target = tmp_path / "thumbnail.jpg"
    for at_s, colour in ((0.0, (254, 0, 0)), (1.9, (254, 0, 0)), (2.1, (0, 255, 1)), (99.0, (0, 255, 1))):
        assert grab_frame(film, target, at_s)
        middle = picture(target).to_ndarray(format="rgb24")[32, 32]
        assert middle.tolist() == pytest.approx(colour, abs=12)


@pytest.mark.parametrize(
    ("size", "expected"), [("1920x1080", (1280, 720)), ("2560x1082", (1280, 540)), ("66x34", (66, 34))]
)
def test_large_pictures_are_made_smaller(tmp_path: Path, size: str, expected: tuple[int, int]) -> None:
    film = tmp_path / "video.mp4"
    run_ffmpeg("-v", "error", "-f", "lavfi", "-i", f"testsrc2=s={size}:r=5:d=1", "-pix_fmt", "yuv420p", str(film))
    assert grab_frame(film, tmp_path / "thumbnail.jpg", 0.5)
    frame = picture(tmp_path / "thumbnail.jpg")
    assert (frame.width, frame.height) == expected


def test_sound_alone_has_no_picture(tmp_path: Path) -> None:
    film, _ = put_together(tmp_path, make_fragments(None, "aac").samples())
    assert not grab_frame(film, tmp_path / "thumbnail.jpg", 1.0)
    assert not (tmp_path / "thumbnail.jpg").exists()


@pytest.mark.parametrize("body", [b"", b"no film at all" * 100])
def test_what_is_no_film_has_no_picture(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "video.mp4").write_bytes(body)
    assert not grab_frame(tmp_path / "video.mp4", tmp_path / "thumbnail.jpg", 1.0)


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    film, _ = put_together(tmp_path, make_fragments().samples())
    assert not grab_frame(film, tmp_path / "there is no folder" / "thumbnail.jpg", 1.0)


def test_pictures_that_cannot_be_decoded_are_none(tmp_path: Path) -> None:
    film, _ = put_together(tmp_path, make_fragments().samples())
    body = bytearray(film.read_bytes())
    start = body.rindex(b"mdat", 0, len(body) // 2) + 12
    body[start:] = bytes(len(body) - start)
    film.write_bytes(body)
    assert not grab_frame(film, tmp_path / "thumbnail.jpg", 1.0)
    assert not (tmp_path / "thumbnail.jpg").exists()
