"""How much memory and time a capture takes as the broadcast gets longer.

``python -m bench.memory --segments 60,4320,17274``

A server makes up broadcasts of any length from one segment: it moves the clocks in it (PTS, DTS and PCR), so every
segment is a valid continuation of the one before. For each length a fresh process captures the broadcast with the
engine, from the playlist to the verified file, and says what it took.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import imageio_ffmpeg
from bench.engine_alone import VIDEO_ID, KnownPlaylist, build_capture

from vodkeep.capture.model import Phase, Progress
from vodkeep.capture.plan import keep_plan
from vodkeep.capture.playlist import parse_media_playlist
from vodkeep.telemetry.log import configure_logging

_SEGMENT_S = 10
_CLOCK_HZ = 90_000
_CLOCK_TURN = 1 << 33
_PACKET = 188
_STEP = 5_000  # segments; the time for each such stretch is told
_MIB = 1 << 20
_HEADING = (
    "segments   file MiB   peak MiB (before verifying, at start)   planning s   fetching s (per 5,000)   finishing s"
)
_PATH = re.compile(r"^/(\d+)/(?:index\.m3u8|(\d+)\.ts)$")


@dataclass(frozen=True, slots=True)
class Taken:
    """What one capture took."""

    segments: int
    bytes: int
    peak_mib: float  # the largest resident set of the process
    peak_before_verifying_mib: float  # the same until everything was fetched and the index written
    base_mib: float  # before the capture: the interpreter and its libraries
    planning_s: float  # reading the playlist and writing the plan
    fetching_s: float
    steps_s: list[float]  # fetching, for each 5,000 segments
    finishing_s: float  # index, verification, thumbnail


class Template:
    """One segment, and where the clocks are in it."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._stamps: list[tuple[int, int, int]] = []  # where, the upper four bits, ticks
        self._references: list[tuple[int, int]] = []  # where, ticks of the base
        for start in range(0, len(body), _PACKET):
            self._look_at(start)

    def _look_at(self, start: int) -> None:
        body = self._body
        at = start + 4
        if body[start + 3] & 0x20:
            if body[at] and body[at + 1] & 0x10:
                self._references.append((at + 2, int.from_bytes(body[at + 2 : at + 7], "big") >> 7))
            at += 1 + body[at]
        if not body[start + 1] & 0x40 or body[at : at + 3] != b"\0\0\1" or body[at + 3] < 0xC0:
            return
        flags = body[at + 7]
        for place, there in ((at + 9, flags & 0x80), (at + 14, flags & 0x40)):
            if there:
                field = body[place : place + 5]
                ticks = (
                    (field[0] >> 1 & 7) << 30 | field[1] << 22 | (field[2] >> 1) << 15 | field[3] << 7 | field[4] >> 1
                )
                self._stamps.append((place, field[0] & 0xF0, ticks))

    def at(self, number: int) -> bytes:
        """The segment as the ``number``-th of a broadcast."""
        body = bytearray(self._body)
        later = number * _SEGMENT_S * _CLOCK_HZ
        for place, upper, ticks in self._stamps:
            now = (ticks + later) % _CLOCK_TURN
            body[place : place + 5] = bytes(
                (
                    upper | now >> 29 & 0xE | 1,
                    now >> 22 & 0xFF,
                    now >> 14 & 0xFE | 1,
                    now >> 7 & 0xFF,
                    now << 1 & 0xFE | 1,
                )
            )
        for place, ticks in self._references:
            now = (ticks + later) % _CLOCK_TURN
            body[place : place + 5] = (now << 7 | self._body[place + 4] & 0x7F).to_bytes(5, "big")
        return bytes(body)


def make_template(kilobits: int, fps: int, sound_hz: int) -> Template:
    """A segment of ten seconds: noise at this bit rate, so many pictures a second, and a tone."""
    frames = round(_SEGMENT_S * sound_hz / 1024)
    command = [
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi"),
        *("-i", f"testsrc2=s=320x180:r={fps}:d={_SEGMENT_S}", "-f", "lavfi", "-i", f"sine=r={sound_hz}:d={_SEGMENT_S}"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-g", str(fps * 2), "-bf", "0"),
        *("-b:v", f"{kilobits}k", "-minrate", f"{kilobits}k", "-maxrate", f"{kilobits}k", "-bufsize", f"{kilobits}k"),
        *("-x264-params", "nal-hrd=cbr", "-c:a", "aac", "-b:a", "32k", "-frames:a", str(frames)),
        *("-f", "mpegts", "-"),
    ]
    return Template(subprocess.run(command, check=True, capture_output=True).stdout)


def playlist_of(segments: int) -> str:
    """The text of the playlist."""
    entries = "".join(f"#EXTINF:{_SEGMENT_S}.000,\n{number}.ts\n" for number in range(segments))
    return f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{_SEGMENT_S}\n{entries}#EXT-X-ENDLIST\n"


@contextmanager
def serving(template: Template) -> Iterator[str]:
    """Serve broadcasts of any length, ``/<segments>/index.m3u8``, for the time of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            match = _PATH.match(self.path)
            if match is None:
                self.send_error(404)
                return
            body = template.at(int(match[2])) if match[2] else playlist_of(int(match[1])).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


async def take(url: str, data_dir: Path, connections: int) -> Taken:
    """Capture the broadcast at ``url`` in this process."""

    service = build_capture(data_dir, url, connections)
    folder = service.work_folder(VIDEO_ID)
    text = playlist_of(int(url.rsplit("/", 2)[-2]))
    resolved = await KnownPlaylist(url).resolve(VIDEO_ID)
    with folder.hold():
        # As a run does that goes on: there is a plan already, and it is compared with what is on offer now.
        begun = time.monotonic()
        keep_plan(folder.path, resolved, parse_media_playlist(text, url), text)
        planning_s = time.monotonic() - begun
        base_mib = _peak_mib()
        seen: list[tuple[float, Progress]] = [(time.monotonic(), Progress(Phase.RESOLVING))]
        until_verified: list[float] = []

        def note(progress: Progress) -> None:
            seen.append((time.monotonic(), progress))
            if progress.phase is Phase.VERIFYING and not until_verified:
                until_verified.append(_peak_mib())

        captured = await service.capture(folder, on_progress=note)
    ended = time.monotonic()
    begun_fetching = seen[0][0]
    fetched = next(at for at, progress in seen if progress.phase is Phase.MUXING)
    return Taken(
        segments=captured.segments,
        bytes=captured.facts.size_bytes,
        peak_mib=round(_peak_mib(), 1),
        peak_before_verifying_mib=round(until_verified[0], 1),
        base_mib=round(base_mib, 1),
        planning_s=round(planning_s, 3),
        fetching_s=round(fetched - begun_fetching, 2),
        steps_s=_steps([(at - begun_fetching, progress.segments_done) for at, progress in seen]),
        finishing_s=round(ended - fetched, 2),
    )


def _steps(seen: list[tuple[float, int]]) -> list[float]:
    """How long each stretch of 5,000 segments took; between two reports segments are taken to come evenly."""
    ends, wanted = [0.0], _STEP
    for (before_s, before), (after_s, after) in pairwise(seen):
        while before < wanted <= after:
            ends.append(before_s + (after_s - before_s) * (wanted - before) / (after - before))
            wanted += _STEP
    return [round(end - start, 2) for start, end in pairwise(ends)]


def _peak_mib() -> float:
    """The largest resident set of this process so far; not that of the one it was forked from."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(url: str, segments: int, connections: int, folder: Path | None) -> Taken:
    """Capture a broadcast of so many segments in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="memory-") as name:
        command = [sys.executable, __file__, "--take", f"{url}/{segments}/index.m3u8", "--folder", name]
        done = subprocess.run(
            [*command, "--connections", str(connections)], check=True, stdout=subprocess.PIPE, text=True
        )
    return Taken(**json.loads(done.stdout))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", default="60,4320,17274", help="of 10 s each: 10 min, 12 h, 47 h 59 min")
    parser.add_argument("--kilobits", type=int, default=60, help="bit rate of the picture")
    parser.add_argument("--fps", type=int, default=60)
    parser.add_argument("--sound-hz", type=int, default=48_000)
    parser.add_argument("--connections", type=int, default=8, help="CAPTURE_CONNECTIONS")
    parser.add_argument("--folder", type=Path, help="where to capture to, if not to the folder of temporary files")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each length")
    parser.add_argument("--take", metavar="URL", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.take:
        configure_logging("warning", stream=sys.stderr)
        _say(json.dumps(asdict(anyio.run(take, given.take, given.folder, given.connections))))
        return
    if not given.json:
        _say(_HEADING)
    with serving(make_template(given.kilobits, given.fps, given.sound_hz)) as url:
        for segments in map(int, given.segments.split(",")):
            taken = measure(url, segments, given.connections, given.folder)
            if given.json:
                _say(json.dumps(asdict(taken)))
                continue
            steps = " ".join(f"{step:.1f}" for step in taken.steps_s)
            peaks = f"{taken.peak_mib:.1f} ({taken.peak_before_verifying_mib:.1f}, {taken.base_mib:.1f})"
            _say(
                f"{taken.segments:8d} {taken.bytes / _MIB:10.1f} {peaks:>28s}"
                f"{taken.planning_s:13.3f} {taken.fetching_s:12.1f} ({steps}) {taken.finishing_s:10.1f}"
            )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
