"""Fragmented MP4 made by ffmpeg, and movies laid out as the engine does it, for tests of the MP4 modules."""

from __future__ import annotations

import io
import random
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Literal

import av
import imageio_ffmpeg
import numpy as np

from vodkeep.capture.fragment import read_fragment, read_init
from vodkeep.capture.mp4_index import (
    IndexChunk,
    IndexPlacement,
    IndexTrack,
    Movie,
    file_header,
    front_offset,
    media_offset,
    write_index,
)
from vodkeep.capture.samples import SegmentSamples, interleave

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()

_VIDEO = {
    "h264": ("-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "30"),
    "h264-no-b": ("-c:v", "libx264", "-preset", "veryfast", "-bf", "0", "-g", "30"),
    "hevc": ("-c:v", "libx265", "-preset", "ultrafast", "-bf", "3", "-tag:v", "hvc1",
             "-x265-params", "log-level=error:keyint=30:min-keyint=30:pools=2"),
    "hev1": ("-c:v", "libx265", "-preset", "ultrafast", "-bf", "3", "-tag:v", "hev1",
             "-x265-params", "log-level=error:keyint=30:min-keyint=30:pools=2"),
    "av1": ("-c:v", "libsvtav1", "-preset", "12", "-g", "30"),
}  # fmt: skip
_AUDIO = {
    "aac": ("-c:a", "aac", "-b:a", "64k"),
    "opus": ("-c:a", "libopus", "-b:a", "64k"),
    "flac": ("-c:a", "flac", "-strict", "-2"),
}


@dataclass(frozen=True)
class Fragments:
    """An initialization section and its segments."""

    init: bytes
    bodies: tuple[bytes, ...]

    def samples(self) -> list[SegmentSamples]:
        tracks = read_init(self.init)
        return [read_fragment(body, tracks) for body in self.bodies]


@dataclass(frozen=True)
class Packet:
    """What libavformat reads."""

    content: bytes
    pts: int | None
    dts: int | None
    duration: int | None
    key: bool


def run_ffmpeg(*arguments: str) -> str:
    """What it says; an error fails the test."""
    command = [FFMPEG, "-hide_banner", "-nostdin", "-y", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stderr


def inputs(video: str | None, audio: str | None, seconds: int) -> list[str]:
    """Arguments that make a moving picture, a tone, or both."""
    arguments: list[str] = []
    if video:
        arguments += ["-f", "lavfi", "-i", f"testsrc2=s=256x144:r=30:d={seconds}"]
    if audio:
        arguments += ["-f", "lavfi", "-i", f"sine=r=48000:d={seconds}"]
    if video:
        arguments += [*_VIDEO[video], "-pix_fmt", "yuv420p"]
    if audio:
        arguments += [*_AUDIO[audio], "-ac", "2"]
    return arguments


@cache
def make_fragments(video: str | None = "h264", audio: str | None = "aac", *, seconds: int = 6) -> Fragments:
    """Segments of two seconds as ffmpeg's HLS muxer writes them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_ffmpeg(
            *("-v", "error", *inputs(video, audio, seconds)),
            *("-f", "hls", "-hls_time", "2", "-hls_segment_type", "fmp4", "-hls_playlist_type", "vod"),
            *("-hls_segment_filename", str(folder / "%03d.m4s"), str(folder / "list.m3u8")),
        )
        bodies = tuple(path.read_bytes() for path in sorted(folder.glob("*.m4s")))
        return Fragments((folder / "init.mp4").read_bytes(), bodies)


@cache
def make_coloured(colour: str, *options: str, size: str = "256x144", fragments: bool = True) -> Fragments:
    """Four seconds of a colour with a tone, in segments of two; ``options`` are the picture's encoder and more.

    Without ``fragments`` as transport streams, which have no initialization section.
    """
    ending, more = (".m4s", ("-hls_segment_type", "fmp4")) if fragments else (".ts", ())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_ffmpeg(
            *("-v", "error", "-f", "lavfi", "-i", f"color={colour}:s={size}:r=30:d=4,noise=alls=20:allf=t"),
            *("-f", "lavfi", "-i", "sine=r=48000:d=4", "-pix_fmt", "yuv420p", "-g", "30"),
            *("-sc_threshold", "0", *options),
            *(*_AUDIO["aac"], "-ac", "2", "-f", "hls", "-hls_time", "2", *more, "-hls_playlist_type", "vod"),
            *("-hls_segment_filename", str(folder / f"%03d{ending}"), str(folder / "list.m3u8")),
        )
        bodies = tuple(path.read_bytes() for path in sorted(folder.glob(f"*{ending}")))
        return Fragments((folder / "init.mp4").read_bytes() if fragments else b"", bodies)


@cache
def make_transport_segments(video: str, audio: str, *, seconds: int = 6) -> tuple[bytes, ...]:
    """Segments of two seconds as transport streams."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_ffmpeg(
            *("-v", "error", *inputs(video, audio, seconds)),
            *("-f", "hls", "-hls_time", "2", "-hls_playlist_type", "vod"),
            *("-hls_segment_filename", str(folder / "%03d.ts"), str(folder / "list.m3u8")),
        )
        return tuple(path.read_bytes() for path in sorted(folder.glob("*.ts")))


def split_stream(stream: bytes) -> Fragments:
    """A fragmented file as one initialization section and one segment, cut before its first moof."""
    at = stream.index(b"moof") - 4
    return Fragments(stream[:at], (stream[at:],))


def read_packets(source: Path | bytes) -> dict[str, list[Packet]]:
    """All packets of a file by kind, in the order of the file."""
    found: dict[str, list[Packet]] = {}
    with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source), mode="r", format="mp4") as container:
        for packet in container.demux(*container.streams.video, *container.streams.audio):
            if packet.size:
                found.setdefault(packet.stream.type, []).append(
                    Packet(bytes(packet), packet.pts, packet.dts, packet.duration, packet.is_keyframe)
                )
    return found


def packets_of(segments: Sequence[SegmentSamples], kind: Literal["video", "audio"]) -> list[Packet]:
    """What a reader of the segments, one after the other, should find."""
    tracks = [track for segment in segments if (track := segment.track(kind)) is not None]
    packets: list[Packet] = []
    for number, track in enumerate(tracks):
        ends = np.cumsum(track.sizes, dtype=np.int64)
        starts = ends - track.sizes
        after = int(tracks[number + 1].dts[0]) if number + 1 < len(tracks) else int(track.dts[-1]) + track.tail
        durations = np.diff(track.dts, append=after)
        packets += [
            Packet(bytes(track.payload[start:end]), int(dts + cts), int(dts), int(duration), bool(key))
            for start, end, dts, cts, duration, key in zip(
                starts, ends, track.dts, track.cts, durations, track.sync, strict=True
            )
        ]
    return packets


@dataclass(frozen=True)
class Laid:
    """Segments in a file that has no index yet."""

    path: Path
    segments: tuple[SegmentSamples, ...]
    extents: Mapping[int, int]  # where each begins
    reserve: int
    end: int

    def tracks(self, later: Mapping[str, int] | None = None) -> list[IndexTrack]:
        """What goes into the index; ``later`` moves a track by so many ticks."""
        kinds: tuple[Literal["video", "audio"], ...] = ("video", "audio")
        found = []
        for kind in kinds:
            first = next((track for segment in self.segments if (track := segment.track(kind))), None)
            if first is not None:
                start = int(first.dts[0]) + (later or {}).get(kind, 0)
                found.append(IndexTrack(kind, first.format.timescale, start, partial(self._chunks, kind)))
        return found

    def _chunks(self, kind: Literal["video", "audio"]) -> Iterator[IndexChunk]:
        parts = [(number, track) for number, item in enumerate(self.segments) if (track := item.track(kind))]
        for place, (number, track) in enumerate(parts):
            after = int(parts[place + 1][1].dts[0]) if place + 1 < len(parts) else int(track.dts[-1]) + track.tail
            durations = np.diff(track.dts, append=after).astype(np.uint32)
            tracks = self.segments[number].tracks
            for chunk in interleave(tracks)[0]:
                if tracks[chunk.track] is track:
                    part = slice(chunk.first, chunk.first + chunk.count)
                    yield IndexChunk(
                        self.extents[number] + chunk.offset,
                        track.format,
                        track.sizes[part],
                        durations[part],
                        track.cts[part],
                        track.sync[part],
                    )

    def write_index(self, movie: Movie | None = None, later: Mapping[str, int] | None = None) -> IndexPlacement:
        with self.path.open("r+b") as file:
            return write_index(
                file,
                self.tracks(later),
                movie or Movie(),
                front_offset=front_offset(),
                front_size=self.reserve,
                end_offset=self.end,
                spool=tempfile.TemporaryFile,
            )


def lay_out(
    path: Path, segments: Sequence[SegmentSamples], *, reserve: int = 256 * 1024, seed: int | None = 1, apart: int = 0
) -> Laid:
    """Write the media as the engine does, in an order shuffled by ``seed``, ``apart`` bytes between the extents."""
    order = list(range(len(segments)))
    if seed is not None:
        random.Random(seed).shuffle(order)
    extents: dict[int, int] = {}
    with path.open("wb") as file:
        file.write(file_header(reserve))
        assert file.tell() == media_offset(reserve)
        for number in order:
            extents[number] = file.tell()
            for body in interleave(segments[number].tracks)[1]:
                file.write(body)
            file.seek(apart, 1)
        end = file.tell()
        file.truncate(end)
    return Laid(path, tuple(segments), extents, reserve, end)


def make_movie(path: Path, segments: Sequence[SegmentSamples], movie: Movie | None = None, **layout: int) -> Path:
    """A finished file of the segments."""
    lay_out(path, segments, **layout).write_index(movie)
    return path


def read_chapters(path: Path) -> list[tuple[float, float, str]]:
    """The chapters that libavformat finds: beginning and end in seconds, and the title."""
    with av.open(str(path), mode="r") as container:
        return [
            (float(one["start"] * Fraction(one["time_base"] or 0)), float(one["end"] * Fraction(one["time_base"] or 0)),
             one["metadata"]["title"])
            for one in container.chapters()
        ]  # fmt: skip


def read_labels(path: Path) -> dict[str, str]:
    """Title, artist, date and comment as libavformat finds them; what is missing is left out."""
    with av.open(str(path), mode="r") as container:
        return {
            key: container.metadata[key] for key in ("title", "artist", "date", "comment") if key in container.metadata
        }
