"""One limit on bytes per second for everything of one kind in the process: all downloads, or all uploads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class RateLimiter:
    """A token bucket shared by threads; ``None`` means no limit.

    Credit is at most a quarter of a second's worth, so that the rate holds over short stretches too.
    """

    def __init__(self, bytes_per_s: int | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rate = bytes_per_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._paid_until = monotonic()

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit at all."""
        return bool(self._rate)

    def take(self, amount_bytes: int) -> float:
        """Account for bytes just moved; returns the seconds that the caller now has to wait."""
        if not self._rate:
            return 0.0
        with self._lock:
            now = self._monotonic()
            self._paid_until = max(self._paid_until, now - 0.25) + amount_bytes / self._rate
            return max(0.0, self._paid_until - now)
