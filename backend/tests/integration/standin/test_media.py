"""The media cache with real ffmpeg."""

from __future__ import annotations

import array
import io
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import pytest

import vodkeep_standin
from vodkeep_standin.media import build
from vodkeep_standin.media.build import MediaBuildError, count_packets
from vodkeep_standin.media.cache import MediaCache
from vodkeep_standin.media.model import Media
from vodkeep_standin.media.recipe import Recipe, Span

SHORT = Recipe(runs_s=(2,), segment_s=1, width=160, height=90, fps=10, muted=(Span(1, 1),))


def decoded_levels(media: Media) -> list[float]:
    """Loudness of each segment, 0 being silence. The codec's run-in of some packets is left out."""
    levels = []
    for segment in media.source.segments:
        body = media.path("chunked", segment.name).read_bytes()
        with av.open(io.BytesIO(body), mode="r") as container:
            frames = list(container.decode(audio=0))
        levels.append(max(max(array.array("f", bytes(frame.planes[0]))) for frame in frames[4:-4]))
    return levels


def test_built_media_is_what_the_recipe_says(tmp_path: Path) -> None:
    media = MediaCache(tmp_path).ensure(SHORT)
    assert [rendition.name for rendition in media.renditions] == ["chunked", "160p30", "audio_only"]
    assert media.duration_s == pytest.approx(2.0, abs=0.05)
    assert media.video_packets == 20
    loud, silent = decoded_levels(media)
    assert loud > 0.01
    assert silent < 0.001
    sound = media.rendition("audio_only")
    assert sound is not None
    assert all(segment.video_packets == 0 for segment in sound.segments)


def test_segments_follow_each_other_without_a_gap(tmp_path: Path) -> None:
    media = MediaCache(tmp_path).ensure(SHORT)
    joined = b"".join(media.path("chunked", segment.name).read_bytes() for segment in media.source.segments)
    assert count_packets(joined) == (media.video_packets, media.audio_packets)
    with av.open(io.BytesIO(joined), mode="r") as container:
        stamps = [packet.dts for packet in container.demux(video=0) if packet.dts is not None and packet.size]
    assert {later - earlier for earlier, later in itertools.pairwise(stamps)} == {9000}


def test_several_runs_number_their_segments_on(tmp_path: Path) -> None:
    recipe = Recipe(runs_s=(1, 1), segment_s=1, codec="hevc", width=160, height=90, fps=10)
    media = MediaCache(tmp_path).ensure(recipe)
    for rendition in media.renditions:
        names = [segment.name for segment in rendition.segments]
        assert names == [f"{number}.mp4" for number in range(len(names))]
        assert rendition.init_names == ("init-0.mp4", "init-1.mp4")
        assert all(media.path(rendition.name, name).is_file() for name in [*names, *rendition.init_names])
    assert [segment.run for segment in media.source.segments] == [0, 1]


def test_media_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = MediaCache(tmp_path).ensure(SHORT)

    def fail(*_: object) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(build, "_run_ffmpeg", fail)
    cache = MediaCache(tmp_path)
    assert cache.get(SHORT) is None
    assert cache.ensure(SHORT) == first
    assert cache.get(SHORT) == first


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda folder: (folder / "media.json").write_bytes(b"{"), id="half a manifest"),
        pytest.param(lambda folder: (folder / "media.json").unlink(), id="no manifest"),
    ],
)
def test_damaged_cache_is_built_anew(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    media = MediaCache(tmp_path).ensure(SHORT)
    harm(tmp_path / SHORT.key)
    assert MediaCache(tmp_path).ensure(SHORT) == media


def test_leftovers_of_a_killed_builder_do_no_harm(tmp_path: Path) -> None:
    left = tmp_path / f"{SHORT.key}.building"
    left.mkdir()
    (left / "chunked").write_text("in the way")
    assert MediaCache(tmp_path).ensure(SHORT).video_packets == 20
    assert not left.exists()


def test_two_builders_at_once_share_one_result(tmp_path: Path) -> None:
    source = Path(vodkeep_standin.__file__).parents[1]
    program = (
        "import sys; from pathlib import Path; from vodkeep_standin.media.cache import MediaCache;"
        "from vodkeep_standin.media.recipe import Recipe;"
        "print(MediaCache(Path(sys.argv[1])).ensure(Recipe(runs_s=(2,), width=160, height=90)).video_packets)"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(source)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    assert [child.communicate(timeout=60)[0] for child in children] == ["60\n", "60\n"]
    assert [child.returncode for child in children] == [0, 0]
    assert len([entry for entry in tmp_path.iterdir() if entry.is_dir()]) == 1


def test_failing_ffmpeg_says_why_and_leaves_no_media(tmp_path: Path) -> None:
    cache = MediaCache(tmp_path)
    impossible = Recipe(runs_s=(1,), width=0, height=90)
    with pytest.raises(MediaBuildError, match="ffmpeg ended with code"):
        cache.ensure(impossible)
    assert not (tmp_path / impossible.key).exists()
