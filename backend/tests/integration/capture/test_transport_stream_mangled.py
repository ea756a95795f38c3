"""Mangled segments: see ``support.transport_stream_fuzz``, which can do this for as long as one likes."""

from __future__ import annotations

import subprocess

import imageio_ffmpeg
import pytest

from support.transport_stream_fuzz import Original, hunt, load, read, small
from vodkeep.capture.transport_stream import read_transport_stream


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Original]:
    path = tmp_path_factory.mktemp("mangled") / "segment.ts"
    media = "testsrc2=size=192x108:rate=30:duration=1[out0];aevalsrc=0.2*random(0):s=48000:d=1[out1]"
    arguments = ["-f", "lavfi", "-i", media, "-c:v", "libx264", "-x264-params", "slices=3:bframes=2", "-c:a", "aac"]
    program = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([program, "-v", "error", "-nostdin", *arguments, path], check=True, timeout=60)
    return [small(), load(path)]


@pytest.mark.parametrize("first", range(0, 2000, 500))
def test_the_reader_refuses_or_reads_what_is_there(originals: list[Original], first: int) -> None:
    answers = hunt(originals, range(first, first + 500))
    assert min(answers["refused"], answers["read"], answers["missing packet noticed"]) > 20


def test_every_place_may_be_cut(originals: list[Original]) -> None:
    """Between packets a segment may end after a whole picture; what is read then is the beginning of the whole."""
    for original in originals:
        whole = {track.format.kind: bytes(track.payload) for track in read_transport_stream(original.body).tracks}
        for count in range(len(original.packets)):
            segment = read(original, original.body[: 188 * count])
            for track in segment.tracks if segment else ():
                last = int(track.sizes[-1])
                assert whole[track.format.kind].startswith(bytes(track.payload[: len(track.payload) - last]))
