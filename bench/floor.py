"""What bounds a capture on this machine: the same broadcast, with one thing more done to its bytes at each step.

``python -m bench.floor`` serves the broadcast as ``bench.capture`` does on its raw line and runs each step in a fresh
process, in turns: nothing but imports; receiving with plain sockets; receiving and writing; taking segments apart
before they are written; the checksums; and the engine with everything it promises. What one step costs is the
difference to the step before it. The steps keep no promise: no retries, no checks of answers, no journal, no index.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

STEPS = ("imports", "receive", "write", "take apart", "checksums", "the engine")
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vodkeep-bench"
_BODY_LIMIT_BYTES = 64 * 1024 * 1024
_SYNC_S = 1.0


class Film:
    """A file that grows at its end, made durable once a second while it does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self._lock = threading.Lock()
        self._end = 0
        self._stop = threading.Event()
        self._syncer = threading.Thread(target=self._sync)
        self._syncer.start()

    def append(self, *pieces: memoryview) -> None:
        """Write ``pieces`` one behind the other."""
        with self._lock:
            offset, self._end = self._end, self._end + sum(map(len, pieces))
        for piece in pieces:
            if os.pwrite(self._file, piece, offset) != len(piece):
                raise OSError(f"{self.path} took a part of what was written")
            offset += len(piece)

    def _sync(self) -> None:
        while not self._stop.wait(_SYNC_S):
            os.fdatasync(self._file)

    def finish(self) -> None:
        """Make all of it durable."""
        self._stop.set()
        self._syncer.join()
        os.fdatasync(self._file)
        os.close(self._file)


def receive(connection: socket.socket, host: str, path: str, buffer: memoryview) -> memoryview:
    """One GET, as plainly as can be; the body lies in ``buffer``."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    filled = connection.recv_into(buffer)
    while (head := bytes(buffer[: min(filled, 4096)]).find(b"\r\n\r\n")) < 0:
        filled += connection.recv_into(buffer[filled:])
    lines = bytes(buffer[:head]).lower().split(b"\r\n")
    if b" 200 " not in lines[0]:
        raise RuntimeError(lines[0].decode("latin-1"))
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
    end = head + 4 + length
    while filled < end:
        filled += connection.recv_into(buffer[filled:end])
    return buffer[head + 4 : end]


def fetch_all(base: str, names: Sequence[str], connections: int, use: Callable[[memoryview], None]) -> None:
    """Receive all of ``names`` below ``base`` with so many connections; ``use`` is called for each body."""
    parts = urlsplit(base)
    assert parts.hostname is not None
    left = iter(names)
    lock = threading.Lock()

    def work() -> None:
        buffer = memoryview(bytearray(_BODY_LIMIT_BYTES))  # Pages that are never touched cost nothing.
        with socket.create_connection((parts.hostname, parts.port or 80)) as connection:
            while True:
                with lock:
                    name = next(left, None)
                if name is None:
                    return
                use(receive(connection, parts.netloc, parts.path + name, buffer))

    with ThreadPoolExecutor(connections) as threads:
        for done in [threads.submit(work) for _ in range(connections)]:
            done.result()


def run_step(step: str, base: str, names: Sequence[str], folder: Path, connections: int) -> None:
    """Do one of `STEPS` but the last, in this process."""
    if step == "receive":
        fetch_all(base, names, connections, lambda _: None)
        return
    if step == "write":
        film = Film(folder / "film")
        fetch_all(base, names, connections, film.append)
        film.finish()
        return
    # Not at the top: the steps before these need nothing of it.
    import vodkeep.capture.service  # noqa: F401  What the engine imports, these steps import.
    from vodkeep.capture.transport_stream import read_transport_stream
    from vodkeep.disk import checksum_of

    if step == "imports":
        return
    film = Film(folder / "film")
    with ThreadPoolExecutor(1) as dismantler:

        def take_apart(body: memoryview) -> None:
            tracks = dismantler.submit(read_transport_stream, body).result().tracks
            if step == "checksums":
                for track in tracks:
                    zlib.crc32(track.payload)
            film.append(*(track.payload for track in tracks))

        fetch_all(base, names, connections, take_apart)
    film.finish()
    if step == "checksums":
        checksum_of(film.path)


@dataclass(frozen=True, slots=True)
class Turn:
    """One step, once."""

    wall_s: float
    cpu_s: float


def measure(command: Sequence[str]) -> Turn:
    """Run ``command`` to its end."""
    os.sync()
    begun = time.monotonic()
    process = subprocess.Popen(command)
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return Turn(wall_s, used.ru_utime + used.ru_stime)


def say(line: str) -> None:
    """To standard output."""
    sys.stdout.write(line + "\n")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="make bench-floor", description=(__doc__ or "").split("\n\n", 1)[0])
    parser.add_argument("--runs", type=int, default=5, help="of each step (default 5)")
    parser.add_argument("--segments", type=int, default=135, help="of 7.8 MB each (default 135)")
    parser.add_argument("--connections", type=int, default=4, help="of the steps; the engine decides for itself")
    parser.add_argument("--step", nargs=2, metavar=("STEP", "BASE"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        names = [f"{number}.ts" for number in range(given.segments)]
        step, base = given.step
        run_step(step, base, names, given.folder, given.connections)
        return

    import imageio_ffmpeg
    from bench.capture.server import PROFILES, serving
    from bench.capture.vod import make_vod

    vod = make_vod(_CACHE, given.segments, imageio_ffmpeg.get_ffmpeg_exe(), say)
    turns: dict[str, list[Turn]] = {step: [] for step in STEPS}
    with tempfile.TemporaryDirectory(prefix="floor-", dir=_CACHE) as name:
        work = Path(name)
        with serving(vod.folder, work, PROFILES[:1]) as server:
            base = server.addresses[PROFILES[0].name]
            for number in range(given.runs + 1):
                for step in STEPS:
                    folder = work / "film"
                    folder.mkdir()
                    command = [sys.executable, "-m", "bench.floor", "--step", step, base, "--folder", str(folder)]
                    command += ["--segments", str(given.segments), "--connections", str(given.connections)]
                    if step == STEPS[-1]:
                        command = [sys.executable, "-m", "bench.capture.ours", base + vod.playlist, str(folder), "32"]
                    turn = measure(command)
                    if number:  # The first round is for what is compiled and read once.
                        turns[step].append(turn)
                    shutil.rmtree(folder)
    say(f"{vod.size_bytes / 1e6:.0f} MB, {given.runs} runs, {os.cpu_count()} processors; medians, and the least")
    say("| step | wall s | CPU s |\n| --- | ---: | ---: |")
    for step, taken in turns.items():
        walls, cpus = [turn.wall_s for turn in taken], [turn.cpu_s for turn in taken]
        say(
            f"| {step} | {statistics.median(walls):.2f} ({min(walls):.2f}) "
            f"| {statistics.median(cpus):.2f} ({min(cpus):.2f}) |"
        )


if __name__ == "__main__":
    main()
