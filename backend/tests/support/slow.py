"""Ways to hold a download at a chosen place, so that a test can do something to it there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

from support.service import wait_until
from vodkeep_standin.faults.base import Fault, Firing
from vodkeep_standin.faults.latency import Latency
from vodkeep_standin.server import Standin
from vodkeep_standin.serving.call import Call, Reply

SEGMENTS = "/edge/*/chunked/[0-9]*"
"""The path of every segment of the best quality."""


def slow_segments(standin: Standin, delay_ms: float) -> int:
    """Make every segment wait that long; returns the fault's id."""
    return standin.faults.add(Latency(delay_ms), path=SEGMENTS)


class _UntilThere(Fault, frozen=True, tag="until_there"):
    """Answer once a file is there."""

    gate: str

    async def before(self, call: Call, firing: Firing) -> Reply | None:
        """Wait."""
        while not Path(self.gate).exists():  # noqa: ASYNC110 - a file, because another thread opens the gate
            await asyncio.sleep(0.01)
        return None


class HeldSegments:
    """Keeps back all segments after the first so many that are asked for, until they are released."""

    def __init__(self, gate: Path, standin: Standin, *, after: int) -> None:
        self._gate = gate
        standin.faults.add(cast(Any, _UntilThere(str(gate))), path=SEGMENTS, after=after)

    def release(self) -> None:
        """Hand them out."""
        self._gate.touch()


class HeldThumbnail:
    """Keeps Twitch from handing out the picture of a broadcast until it is released.

    It is asked for when the film is finished and verified and the item is not: the last moment before that is put into
    its place.
    """

    def __init__(self, folder: Path, standin: Standin) -> None:
        self._gate, self._standin = folder / "gate", standin
        # No fault of the stand-in's own list: only those can come in over its control port.
        gated = cast(Any, _UntilThere(str(self._gate)))
        self._fault = standin.faults.add(gated, path="/edge/thumbs/*")

    def wait_until_reached(self) -> None:
        """Return once the film is finished and the picture is asked for."""
        wait_until(lambda: self._standin.faults.applied(self._fault) > 0, "the picture is asked for")

    def release(self) -> None:
        """Hand the picture out."""
        self._gate.touch()


class _WithoutReceipt(Fault, frozen=True, tag="without_receipt"):
    """Keep back what is said of an upload that has all its bytes."""

    def after(self, call: Call, reply: Reply, firing: Firing) -> Reply:
        """Let the line go silent before the first byte of the answer's body."""
        if reply.status == 200:
            reply.delivery.cut_after, reply.delivery.ending = 0, "stall"
        return reply


class HeldReceipt:
    """Lets uploads to YouTube arrive whole, and keeps from the client that they did, until it is released."""

    def __init__(self, standin: Standin) -> None:
        self._standin = standin
        self._fault = standin.faults.add(cast(Any, _WithoutReceipt()), method="PUT", path="/upload/youtube/v3/videos")

    def wait_until_held(self) -> None:
        """Return once YouTube has a video of which the client does not know."""
        wait_until(lambda: len(self._standin.youtube.videos) > 0, "the last byte is there")

    def release(self) -> None:
        """Tell what is asked from now on."""
        self._standin.faults.remove(self._fault)
