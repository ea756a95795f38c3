"""A broadcast whose encoder changes half way: every part can be decoded wherever one begins, and is what was sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from support.capture_run import KnownPlaylist, capture, service_of
from support.edge import Edge, running_edge
from support.mp4_media import Fragments, make_coloured, read_packets
from vodkeep.capture.fragment import read_fragment, read_init
from vodkeep.capture.samples import TrackSamples

pytestmark = pytest.mark.anyio

MAIN = ("-c:v", "libx264", "-preset", "veryfast", "-profile:v", "main", "-bf", "0")
HIGH = ("-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high", "-bf", "3", "-refs", "4")
# With delimiters, which have to stay in front.
DELIMITED = (*HIGH, "-x264-params", "aud=1")
HEVC = (
    "-c:v",
    "libx265",
    "-preset",
    "ultrafast",
    "-tag:v",
    "hvc1",
    "-x265-params",
    "log-level=error:pools=2:keyint=30",
)
HEVC_TWO = (*HEVC[:-1], HEVC[-1] + ":bframes=0:ref=1:ctu=16:aud=1")
SETS = {"h264": {7, 8}, "hevc": {32, 33, 34}}
DELIMITERS = {"h264": 9, "hevc": 35}


@pytest.fixture
def edge() -> Iterator[Edge]:
    with running_edge() as edge:
        yield edge


def serve(edge: Edge, *parts: Fragments) -> None:
    """One part after the other, each with its own init section."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:6", "#EXT-X-TARGETDURATION:2", "#EXT-X-MEDIA-SEQUENCE:0"]
    for number, part in enumerate(parts):
        edge.bodies[f"init-{number}.mp4"] = part.init
        lines += ["#EXT-X-DISCONTINUITY", f'#EXT-X-MAP:URI="init-{number}.mp4"']
        for index, body in enumerate(part.bodies):
            edge.bodies[f"{number}-{index}.m4s"] = body
            lines += ["#EXTINF:2.000,", f"{number}-{index}.m4s"]
    edge.playlist = "\n".join([*lines, "#EXT-X-ENDLIST", ""])


async def film_of(edge: Edge, folder: Path, *, accept_holes: bool = False) -> Path:
    captured = await capture(service_of(folder, KnownPlaylist(edge.playlist_url)), accept_holes=accept_holes)
    return captured.output / "video.mp4"


def source_of(parts: tuple[Fragments, ...]) -> list[bytes]:
    """The pictures as they were sent."""
    found: list[bytes] = []
    for part in parts:
        tracks = read_init(part.init)
        for body in part.bodies:
            picture = read_fragment(body, tracks).track("video")
            assert picture is not None
            found += samples_of(picture)
    return found


def samples_of(track: TrackSamples) -> list[bytes]:
    samples, start = [], 0
    for size in track.sizes.tolist():
        samples.append(bytes(track.payload[start : start + size]))
        start += size
    return samples


def units_of(sample: bytes, codec: str) -> list[tuple[int, bytes]]:
    """Type and content of each unit."""
    units, start = [], 0
    while start < len(sample):
        length = int.from_bytes(sample[start : start + 4], "big")
        unit = sample[start + 4 : start + 4 + length]
        units.append((unit[0] >> 1 & 0x3F if codec == "hevc" else unit[0] & 0x1F, unit))
        start += 4 + length
    return units


def colours_at(path: Path, seconds: list[float]) -> list[str]:
    """What libavcodec shows at these places, sought one after the other with one decoder."""
    found = []
    with av.open(str(path), mode="r") as container:
        for second in seconds:
            container.seek(int(second * 1e6))
            frame = next(
                frame for frame in container.decode(video=0) if frame.time is not None and frame.time >= second
            )
            assert not frame.is_corrupt
            red, _, blue = frame.to_ndarray(format="rgb24").reshape(-1, 3).mean(axis=0)
            found.append("red" if red > 2 * blue else "blue" if blue > 2 * red else f"{red:.0f} {blue:.0f}")
    return found


@pytest.mark.parametrize(
    ("codec", "first", "second", "size"),
    [
        pytest.param("h264", MAIN, HIGH, "256x144", id="H.264"),
        pytest.param("h264", MAIN, DELIMITED, "320x180", id="H.264 with delimiters in another size"),
        pytest.param("hevc", HEVC, HEVC_TWO, "256x144", id="HEVC with delimiters"),
        pytest.param("hevc", HEVC, HEVC_TWO, "320x180", id="HEVC in another size"),
    ],
)
async def test_key_frames_bring_their_sets_and_the_rest_is_as_it_was_sent(
    codec: str, first: tuple[str, ...], second: tuple[str, ...], size: str, edge: Edge, tmp_path: Path
) -> None:
    parts = make_coloured("blue", *first), make_coloured("red", *second, size=size)
    serve(edge, *parts)
    film = await film_of(edge, tmp_path)

    packets, source = read_packets(film)["video"], source_of(parts)
    assert len(packets) == len(source)
    for packet, sent in zip(packets, source, strict=True):
        if not packet.key:
            assert packet.content == sent
            continue
        units = units_of(packet.content, codec)
        kinds = [kind for kind, _ in units]
        at = kinds.index(DELIMITERS[codec]) + 1 if DELIMITERS[codec] in kinds else 0
        assert set(kinds[at : at + len(SETS[codec])]) == SETS[codec]
        without = [unit for kind, unit in units if kind not in SETS[codec]]
        assert without == [unit for kind, unit in units_of(sent, codec) if kind not in SETS[codec]]
        # Sets that were sent in the sample are not doubled.
        assert len(units) - len(without) == len(SETS[codec])
    with av.open(str(film), mode="r") as container:
        assert sum(1 for frame in container.decode(video=0) if not frame.is_corrupt) == len(source)
    assert colours_at(film, [1.5, 5.5, 0.5, 7.5, 3.5]) == ["blue", "red", "blue", "red", "blue"]


async def test_a_hole_where_the_encoding_changes_spoils_nothing_behind_it(edge: Edge, tmp_path: Path) -> None:
    serve(edge, make_coloured("blue", *MAIN), make_coloured("red", *HIGH))
    del edge.bodies["1-0.m4s"]
    film = await film_of(edge, tmp_path, accept_holes=True)
    assert colours_at(film, [1.5, 6.5, 0.5, 7.5]) == ["blue", "red", "blue", "red"]


async def test_one_encoding_is_left_as_it_is(edge: Edge, tmp_path: Path) -> None:
    """Also where the playlist names another init section that says the same."""
    parts = make_coloured("blue", *HIGH), make_coloured("red", *HIGH)
    serve(edge, *parts)
    film = await film_of(edge, tmp_path)
    assert [packet.content for packet in read_packets(film)["video"]] == source_of(parts)
