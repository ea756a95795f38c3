"""Helix's rate limit: a token bucket per client."""

from __future__ import annotations

import math


class PointBucket:
    """``size`` points that come back evenly over a minute. Times are seconds since the epoch."""

    def __init__(self, size: int, now_s: float) -> None:
        self.size = size
        self._level = float(size)
        self._seen_s = now_s

    def take(self, now_s: float) -> bool:
        """Spend one point if there is one."""
        self._refill(now_s)
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True

    def headers(self, now_s: float) -> dict[str, str]:
        """The three headers every Helix reply carries; the reset is when the bucket is full again."""
        self._refill(now_s)
        missing = self.size - self._level
        return {
            "Ratelimit-Limit": str(self.size),
            "Ratelimit-Remaining": str(int(self._level)),
            "Ratelimit-Reset": str(math.ceil(now_s + missing * 60.0 / self.size)),
        }

    def _refill(self, now_s: float) -> None:
        elapsed = max(0.0, now_s - self._seen_s)
        self._level = min(float(self.size), self._level + elapsed * self.size / 60.0)
        self._seen_s = max(now_s, self._seen_s)
