"""Where the chat of a test's connections goes, and a way to wait for what it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio

from vodkeep.chat.irc import parse_line

_PATIENCE_S = 60.0


class CollectingSink:
    """Implements ``vodkeep.chat.client.Sink``; keeps everything in order."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.calls: list[tuple[str, str, int]] = []
        """``joined`` and ``left`` with channel and time."""
        self.reasons: list[str] = []
        self.gate = anyio.Event()
        """While it is not set, ``lines`` waits."""
        self.gate.set()
        self.waiting = 0
        self._changed = anyio.Event()

    async def lines(self, lines: Sequence[bytes], received_ms: int) -> None:
        self.waiting += 1
        self._notice()
        await self.gate.wait()
        self.waiting -= 1
        self.received += lines
        self._notice()

    async def joined(self, channel: str, at_ms: int) -> None:
        self.calls.append(("joined", channel, at_ms))
        self._notice()

    async def left(self, channel: str, at_ms: int, reason: str) -> None:
        self.calls.append(("left", channel, at_ms))
        self.reasons.append(reason)
        self._notice()

    @property
    def ids(self) -> list[str]:
        """Of everything received that has one."""
        parsed = [line for raw in self.received if (line := parse_line(raw)) is not None]
        return [line.tags["id"] for line in parsed if "id" in line.tags]

    def present(self) -> set[str]:
        """The channels that are joined now."""
        channels: set[str] = set()
        for what, channel, _ in self.calls:
            (channels.add if what == "joined" else channels.discard)(channel)
        return channels

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait, in real time, until something holds that a call here can make true."""
        with anyio.fail_after(_PATIENCE_S):
            while not holds():
                await self._changed.wait()

    def _notice(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
