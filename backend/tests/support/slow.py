"""Ways to hold a download at a chosen place, so that a test can do something to it there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import imageio_ffmpeg

from support.service import wait_until
from vodkeep_standin.faults.latency import Latency
from vodkeep_standin.faults.status import Status
from vodkeep_standin.server import Standin

SEGMENTS = "/edge/*/chunked/[0-9]*"
"""The path of every segment of the best quality."""


def slow_segments(standin: Standin, delay_ms: float) -> int:
    """Make every segment wait that long; returns the fault's id."""
    return standin.faults.add(Latency(delay_ms), path=SEGMENTS)


class HeldFfmpeg:
    """An ffmpeg that writes the beginning of a file and then waits to be released.

    The service calls it for the picture of a broadcast that has none at Twitch, when the film is finished and verified
    and the item is not: the last moment before it is put into its place.
    """

    def __init__(self, folder: Path, standin: Standin) -> None:
        standin.faults.add(Status(404), path="/edge/thumbs/*")
        self.program = folder / "held-ffmpeg"
        self._reached, self._gate = folder / "reached", folder / "gate"
        os.mkfifo(self._gate)
        self.program.write_text(
            "#!/bin/sh\n"
            "for target; do :; done\n"
            'head -c 300000 /dev/zero > "$target"\n'
            f": > '{self._reached}'\n"
            f"read -r _ < '{self._gate}'\n"
            f"exec '{imageio_ffmpeg.get_ffmpeg_exe()}' \"$@\"\n"
        )
        self.program.chmod(stat.S_IRWXU)

    def wait_until_reached(self) -> None:
        """Return once the film is finished and the program has begun."""
        wait_until(self._reached.exists, "ffmpeg begins")

    def release(self) -> None:
        """Let the real ffmpeg do its work."""
        self._gate.write_text("go\n")
