"""What the engine does with the film that another tool downloaded: it is judged as one of ours is."""

from __future__ import annotations

import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from support.capture_run import VIDEO_ID, KnownPlaylist, capture, service_of
from support.edge import Edge, running_edge
from support.mp4_media import FFMPEG, inputs, make_transport_segments, run_ffmpeg
from vodkeep.capture.model import Progress
from vodkeep.capture.verify import VerificationError
from vodkeep.capture.whole import WantedFilm

pytestmark = pytest.mark.anyio

SEGMENTS = 6


@cache
def foreign_segment() -> bytes:
    """Two seconds with a sound that we cannot take apart."""
    command = [FFMPEG, "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=256x144:r=30:d=2", "-f", "lavfi"]
    command += ["-i", "sine=r=48000:d=2", "-c:v", "libx264", "-c:a", "libmp3lame", "-f", "mpegts", "-"]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


@cache
def film() -> bytes:
    """Twelve seconds as another tool would write them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        run_ffmpeg("-v", "error", *inputs("h264", "aac", 2 * SEGMENTS), "-movflags", "+faststart", str(path))
        return path.read_bytes()


def damaged_film() -> bytes:
    """Its index is whole, and its media are not."""
    body = bytearray(film())
    dice = random.Random(7)
    for place in range(body.index(b"mdat") + 64, len(body) - 64, 600):
        body[place : place + 64] = dice.randbytes(64)
    return bytes(body)


class OtherTool:
    """Writes what it is told to; ``wanted`` is what it was asked for."""

    def __init__(self) -> None:
        self.film = film()
        self.wanted: list[WantedFilm] = []

    async def __call__(self, wanted: WantedFilm, target: Path, on_progress: Callable[[Progress], None]) -> None:
        self.wanted.append(wanted)
        target.write_bytes(self.film)


@pytest.fixture
def edge() -> Iterator[Edge]:
    """Some segments can be taken apart, and the last ones cannot."""
    healthy = make_transport_segments("h264", "aac", seconds=8)
    bodies = [*healthy, *[foreign_segment()] * (SEGMENTS - len(healthy))]
    with running_edge() as edge:
        edge.serve({f"{number}.ts": body for number, body in enumerate(bodies)}, segment_s=2, gaps=[4, 5])
        yield edge


async def test_the_film_is_kept_with_everything_that_is_known_about_it(edge: Edge, tmp_path: Path) -> None:
    tool = OtherTool()
    captured = await capture(service_of(tmp_path, KnownPlaylist(edge.playlist_url), download_whole=tool))
    assert (captured.output / "video.mp4").read_bytes() == film()
    assert captured.completeness == 1.0
    (wanted,) = tool.wanted
    assert (wanted.video_id, wanted.format_id, wanted.duration_us) == (VIDEO_ID, "chunked", 12_000_000)
    assert (wanted.movie.title, wanted.movie.artist) == ("A broadcast", "Lumen_Plays")
    assert not wanted.in_fragments


async def test_frames_that_cannot_be_decoded_are_damage(edge: Edge, tmp_path: Path) -> None:
    """Nobody has looked at its segments. At the last attempt there is nothing better, and it is kept."""
    tool = OtherTool()
    tool.film = damaged_film()
    service = service_of(tmp_path, KnownPlaylist(edge.playlist_url), download_whole=tool)
    with pytest.raises(VerificationError, match="cannot be decoded"):
        await capture(service)
    assert not (tmp_path / ".work" / VIDEO_ID / "out").exists()
    captured = await capture(service, accept_holes=True)
    assert (captured.output / "video.mp4").read_bytes() == damaged_film()


async def test_too_short_a_film_is_refused(edge: Edge, tmp_path: Path) -> None:
    edge.serve(dict(edge.bodies) | {f"{number}.ts": edge.bodies["0.ts"] for number in range(6, 12)}, segment_s=2)
    service = service_of(tmp_path, KnownPlaylist(edge.playlist_url), download_whole=OtherTool())
    with pytest.raises(VerificationError, match="lasts"):
        await capture(service, accept_holes=True)


async def test_it_never_takes_the_place_of_the_reel(edge: Edge, tmp_path: Path) -> None:
    """What was taken apart lies where the journal says, whatever another tool wrote meanwhile."""
    tool = OtherTool()
    tool.film = damaged_film()
    service = service_of(tmp_path, KnownPlaylist(edge.playlist_url), connections=1, download_whole=tool)
    with pytest.raises(VerificationError):
        await capture(service)
    reel = (tmp_path / ".work" / VIDEO_ID / "video.mp4").read_bytes()
    tool.film = film()
    before = len(edge.asked)
    captured = await capture(service)
    assert not {"0.ts", "1.ts", "2.ts", "3.ts"} & set(edge.asked[before:])
    assert (captured.output / "video.mp4").read_bytes() == film()
    # Cut off before an item was made of it: the reel is still what it was.
    folder = service.work_folder(VIDEO_ID)
    folder.take_back_video()
    assert (folder.path / "video.mp4").read_bytes() == reel
