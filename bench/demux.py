"""Taking the samples out of transport stream segments: our reader beside FFmpeg's, in one process, on the same bytes.

``python -m bench.demux`` prints medians and ratios. The contenders take turns, and all must find the same samples.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
from bench.capture.vod import make_vod

from vodkeep.capture.samples import SegmentSamples
from vodkeep.capture.transport_stream import read_transport_stream

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vodkeep-bench"
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Turn:
    """One contender on one segment, once."""

    wall_s: float
    cpu_s: float
    faults: int  # memory pages the kernel had to hand out


def demux(body: bytes) -> object:
    """Packets, as PyAV's demuxer cuts them: start codes in the picture, headers on the sound."""
    with av.open(io.BytesIO(body), mode="r", format="mpegts") as container:
        return [packet for packet in container.demux() if packet.size]


def remux(body: bytes) -> bytes:
    """An MP4 in memory, by PyAV."""
    movie = io.BytesIO()
    with (
        av.open(io.BytesIO(body), mode="r", format="mpegts") as container,
        av.open(movie, mode="w", format="mp4") as output,
    ):
        streams = {stream.index: output.add_stream_from_template(stream) for stream in container.streams}
        for packet in container.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    return movie.getvalue()


CONTENDERS: dict[str, Callable[[bytes], object]] = {"ours": read_transport_stream, "demux": demux, "remux": remux}


def take_turn(contender: Callable[[bytes], object], body: bytes) -> Turn:
    """Run it once and forget what it found."""
    before = resource.getrusage(resource.RUSAGE_THREAD)
    wall = time.perf_counter()
    contender(body)
    wall = time.perf_counter() - wall
    after = resource.getrusage(resource.RUSAGE_THREAD)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Turn(wall, cpu, after.ru_minflt - before.ru_minflt)


def digests(segment: SegmentSamples) -> dict[str, list[str]]:
    """A checksum of every sample, by kind of track."""
    found: dict[str, list[str]] = {}
    for track in segment.tracks:
        ends = np.cumsum(track.sizes, dtype=np.int64).tolist()
        begins = [0, *ends[:-1]]
        found[track.format.kind] = [
            hashlib.sha256(track.payload[begin:end]).hexdigest() for begin, end in zip(begins, ends, strict=True)
        ]
    return found


def digests_of_movie(movie: bytes) -> dict[str, list[str]]:
    """The same of an MP4."""
    found: dict[str, list[str]] = {}
    with av.open(io.BytesIO(movie), mode="r") as container:
        for packet in container.demux():
            if packet.size:
                found.setdefault(packet.stream.type, []).append(hashlib.sha256(bytes(packet)).hexdigest())
    return found


def report(turns: dict[str, list[Turn]], size: float) -> str:
    """A table of medians; behind each figure in brackets its ratio to ours."""
    rows = ["| | wall ms | CPU ms | MB/s | fresh pages | wall from to |", "| --- | ---: | ---: | ---: | ---: | --- |"]
    ours = statistics.median(turn.wall_s for turn in turns["ours"])
    for name, own in turns.items():
        wall = statistics.median(turn.wall_s for turn in own)
        cpu = statistics.fmean(turn.cpu_s for turn in own)  # The kernel counts CPU time too coarsely for a median.
        pages = statistics.median(turn.faults for turn in own)
        least, most = min(turn.wall_s for turn in own), max(turn.wall_s for turn in own)
        rows.append(
            f"| {name} | {1000 * wall:.1f} ({wall / ours:.1f}x) | {1000 * cpu:.1f} | {size / MB / wall:.0f} "
            f"| {pages:.0f} | {1000 * least:.1f} to {1000 * most:.1f} |"
        )
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 1 if the contenders do not agree on the samples."""
    parser = argparse.ArgumentParser(prog="python -m bench.demux", description=__doc__)
    parser.add_argument("--segments", type=int, default=4, help="how many segments of 10 s, 7.8 MB each")
    parser.add_argument("--rounds", type=int, default=15, help="how often each contender reads each segment")
    wanted = parser.parse_args(arguments)
    say = sys.stdout.write
    vod = make_vod(_CACHE, wanted.segments, imageio_ffmpeg.get_ffmpeg_exe(), lambda line: None)
    bodies = [(vod.folder / name).read_bytes() for name in vod.segments]
    for body in bodies:
        if digests(read_transport_stream(body)) != digests_of_movie(remux(body)):
            say("The contenders do not find the same samples.\n")
            return 1
    turns: dict[str, list[Turn]] = {name: [] for name in CONTENDERS}
    for _ in range(wanted.rounds):
        for body in bodies:
            for name, contender in CONTENDERS.items():
                turns[name].append(take_turn(contender, body))
    libraries = ", ".join(f"{name} {'.'.join(map(str, number))}" for name, number in av.library_versions.items())
    say(f"{len(bodies)} segments of {vod.size_bytes / len(bodies) / MB:.1f} MB, {wanted.rounds} rounds\n")
    say(f"Python {platform.python_version()}, numpy {np.__version__}, PyAV {av.__version__} ({libraries})\n\n")
    say(report(turns, vod.size_bytes / len(bodies)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
