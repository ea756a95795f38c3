"""In which channels we are, over all connections: two of them may hold one channel for a while."""

from __future__ import annotations

from vodkeep.chat.client import Sink


class Presence:
    """Tells the sink when a channel is held by the first connection and no longer by any."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._holders: dict[str, set[object]] = {}

    async def joined(self, channel: str, holder: object, at_ms: int) -> None:
        """``holder`` receives the channel since ``at_ms`` (Unix ms)."""
        holders = self._holders.setdefault(channel, set())
        holders.add(holder)
        if len(holders) == 1:
            await self._sink.joined(channel, at_ms)

    async def left(self, channel: str, holder: object, at_ms: int, reason: str) -> None:
        """``holder`` no longer receives the channel; what it received ends at ``at_ms``."""
        holders = self._holders.get(channel, set())
        if holder in holders:
            holders.remove(holder)
            if not holders:
                del self._holders[channel]
                await self._sink.left(channel, at_ms, reason)
