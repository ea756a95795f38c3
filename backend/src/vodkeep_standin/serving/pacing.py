"""Slow lines: a byte rate shared by whoever holds the same pacer."""

from __future__ import annotations

import asyncio


class Pacer:
    """Lets bytes through at ``rate_bytes_s``; waiters queue in the order they came."""

    def __init__(self, rate_bytes_s: float) -> None:
        self.rate_bytes_s = rate_bytes_s
        self._free_at = 0.0

    def chunk_bytes(self) -> int:
        """A piece small enough that a reader sees an even flow (about 50 ms worth)."""
        return max(256, int(self.rate_bytes_s * 0.05))

    async def take(self, size_bytes: int) -> None:
        """Wait until ``size_bytes`` may pass."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._free_at = max(self._free_at, now) + size_bytes / self.rate_bytes_s
        if (wait := self._free_at - now) > 0:
            await asyncio.sleep(wait)
