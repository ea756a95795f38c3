"""The body of a request that is read as it comes in, and what can happen to it on its way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import StreamReader

from vodkeep_standin.serving.pacing import Pacer

PIECE_BYTES = 256 * 1024

Break = Literal["reset", "close", "stall", "status"]


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a body ends before its time, and how."""

    after_bytes: int
    ending: Break = "reset"
    status: int = 503
    """With the ending ``status``: the status of the answer."""
    keeps_bytes: int | None = None
    """How much of what came is kept at most; ``None`` keeps every whole unit."""


class BodyCutError(Exception):
    """The body ended where a fault wanted it to."""


@dataclass(slots=True)
class Incoming:
    """A body still on the line."""

    content: StreamReader
    cut: Cut | None = None
    pacers: list[Pacer] = field(default_factory=list)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body piece by piece. Raises ``BodyCutError`` where it is cut."""
        came = 0
        while True:
            wanted = min([PIECE_BYTES, *(pacer.chunk_bytes() for pacer in self.pacers)])
            if self.cut is not None:
                wanted = min(wanted, self.cut.after_bytes - came)
                if wanted <= 0:
                    raise BodyCutError
            piece = await self.content.read(wanted)
            if not piece:
                return
            came += len(piece)
            for pacer in self.pacers:
                await pacer.take(len(piece))
            yield piece
