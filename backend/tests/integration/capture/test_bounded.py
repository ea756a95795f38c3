"""What a capture takes of the machine and of the line stays within its bounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import anyio
import pytest

from support.capture_run import VIDEO_ID, KnownPlaylist, capture, service_of
from support.edge import running_edge
from support.mounts import Mount, mount
from support.mp4_media import make_transport_segments, read_packets
from vodkeep.errors import DiskFull
from vodkeep.rate import RateLimiter

__all__ = ["mount"]

pytestmark = pytest.mark.anyio

BENCH = Path(__file__).resolve().parents[4] / "bench/memory.py"
RATE = 6_000_000  # bytes a second
MEASURED_S = 10.0
NULL_PACKET = b"\x47\x1f\xff\x10" + b"\xff" * 184


class CountingLimiter(RateLimiter):
    """Also writes down what came in and when."""

    def __init__(self, bytes_per_s: int) -> None:
        super().__init__(bytes_per_s)
        self.taken: list[tuple[float, int]] = []

    def take(self, amount_bytes: int) -> float:
        self.taken.append((time.monotonic(), amount_bytes))
        return super().take(amount_bytes)


async def test_two_captures_share_one_limit(tmp_path: Path) -> None:
    """Over ten seconds, both together: never more than 5 % above the limit, and not needlessly below it."""
    body = make_transport_segments("h264", "aac", seconds=6)[0]
    body += NULL_PACKET * ((1_000_000 - len(body)) // 188)  # As an encoder does to keep its bit rate.
    rate = CountingLimiter(RATE)
    segments = round(RATE * (MEASURED_S + 1) / len(body) / 2)
    with running_edge() as edge, anyio.move_on_after(60) as patience:
        names = [f"{number}.ts" for number in range(segments)]
        edge.serve(dict.fromkeys(names, body), segment_s=2, gaps=range(segments))
        async with anyio.create_task_group() as tasks:
            for video_id in ("1", "2"):
                service = service_of(tmp_path, KnownPlaylist(edge.playlist_url), rate=rate)
                tasks.start_soon(partial(capture, service, video_id=video_id))
    assert not patience.cancelled_caught
    begun = rate.taken[0][0]
    took_s = rate.taken[-1][0] - begun
    assert took_s >= MEASURED_S
    within = sum(amount for at, amount in rate.taken if at - begun <= MEASURED_S)
    assert within <= 1.05 * RATE * MEASURED_S
    # Wide, because a machine with other work to do falls behind the limit, and it has no way to make up for that.
    assert within >= 0.7 * RATE * MEASURED_S


async def test_full_disk_keeps_what_is_proven(tmp_path: Path, mount: Mount) -> None:
    """The disk fills up under the capture: it says so, and goes on from there once there is space."""
    part = make_transport_segments("h264", "aac", seconds=36)
    data_dir, reference = tmp_path / "small", tmp_path / "large"
    mount(data_dir, "size=3m")
    filler = data_dir / "filler"
    with running_edge() as edge:
        edge.serve({f"{number}.ts": body for number, body in enumerate(part)}, segment_s=2)
        await capture(service_of(reference, KnownPlaylist(edge.playlist_url)))
        before = len(edge.asked)

        def fill(asked: int) -> None:
            if asked == before + 8:
                free = os.statvfs(data_dir).f_bavail * os.statvfs(data_dir).f_frsize
                filler.write_bytes(bytes(max(0, free - 200_000)))

        edge.on_segment = fill
        with pytest.raises(DiskFull):
            await capture(service_of(data_dir, KnownPlaylist(edge.playlist_url), reserve_bytes=0))
        work = data_dir / ".work" / VIDEO_ID
        proven = (work / "journal.ndjson").read_bytes().count(b'"sn"')
        assert 4 <= proven < len(part)
        filler.unlink()
        edge.on_segment = lambda _: None
        before = len(edge.asked)
        captured = await capture(service_of(data_dir, KnownPlaylist(edge.playlist_url), reserve_bytes=0))
        assert captured.completeness == 1.0
        assert len(edge.asked) - before == len(part) - proven
    expected = read_packets(reference / ".work" / VIDEO_ID / "out" / "video.mp4")
    assert read_packets(work / "out" / "video.mp4") == expected


@pytest.mark.timeout(600)
def test_memory_does_not_grow_with_the_broadcast() -> None:
    """Ten minutes and twelve hours: what it takes to fetch them and to write the index is the same but for the plan."""
    done = subprocess.run(
        [sys.executable, str(BENCH), *("--segments", "60,4320", "--fps", "5", "--sound-hz", "8000"),
         *("--kilobits", "20", "--json")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=580, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    short, long = (json.loads(line) for line in done.stdout.splitlines())
    assert (short["segments"], long["segments"]) == (60, 4320)
    # The playlist, and where each segment lies, are held in memory: some 2 KB for each; the rest is the allocator's.
    assert long["peak_before_verifying_mib"] <= short["peak_before_verifying_mib"] + 32
    assert long["peak_before_verifying_mib"] <= 200
    assert long["planning_s"] < 10
    assert long["fetching_s"] / short["fetching_s"] < 4320 / 60 * 3


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux tells of them")
def test_importing_the_engine_starts_no_thread() -> None:
    """Least of all one for each processor, as the linear algebra that comes with numpy does."""
    count = "import os, vodkeep.capture.service; print(len(os.listdir('/proc/self/task')))"
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", count],
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "1"
