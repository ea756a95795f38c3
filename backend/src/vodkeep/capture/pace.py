"""How many connections a capture uses: it starts small and grows while that makes it faster.

Lines differ: some CDNs cap each connection, so that eight times the connections are eight times the speed; on a line
that is full, more of them only take from each other. Nobody can know beforehand, so the rate is measured at each level
and the level is kept that paid. A level is measured when its connections are there: when as many requests as it has
brought were answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

FIRST_LEVEL = 4
_WINDOW_S = 0.5
# For as long it is waited for them at most: near the end there may be nothing left to ask for.
_SETTLE_S = 2.0
_WORTH_IT = 1.15
# A connection takes some time to become fast, so one window without a gain is not believed.
_DOUBTS = 1
# A line can get better; a level that did not pay is tried again after this long.
_HOLD_S = 10.0
# One trouble halves the level once, however many requests it hits.
_THROTTLE_S = 1.0


class Pace:
    """The number of connections for one capture; safe to use from several threads."""

    def __init__(self, cap: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        """``cap`` is the largest number of connections, at least 1."""
        self._cap = cap
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._level = min(FIRST_LEVEL, cap)
        self._paid_level = self._level
        self._paid_rate = 0.0
        self._rate_of_each: float | None = None
        self._doubts = 0
        self._awaited = self._level
        self._settled_by = monotonic() + _SETTLE_S
        self._window_start: float | None = None
        self._window_bytes = 0
        self._hold_until: float | None = None
        self._throttled_until = monotonic()

    @property
    def level(self) -> int:
        """How many connections to use now."""
        return self._level

    @property
    def rate_of_each(self) -> float | None:
        """Bytes a second that one connection brings at present; None before anything was measured."""
        return self._rate_of_each

    def answered(self) -> None:
        """A request was answered; its body begins to come in."""
        with self._lock:
            self._awaited -= 1

    def received(self, amount_bytes: int) -> bool:
        """Bytes came in; True when the level has just changed."""
        with self._lock:
            now = self._monotonic()
            if self._window_start is None:
                if self._awaited > 0 and now < self._settled_by:
                    return False
                self._window_start, self._window_bytes = now, 0
                return False
            self._window_bytes += amount_bytes
            elapsed_s = now - self._window_start
            if elapsed_s < _WINDOW_S:
                return False
            rate = self._window_bytes / elapsed_s
            before = self._level
            self._rate_of_each = rate / before
            self._judge(rate, now)
            self._open_window(now, more=self._level - before)
            return self._level != before

    def throttled(self) -> None:
        """The other side asked us to slow down, or broke under us: halve the level and stay there for a while."""
        with self._lock:
            now = self._monotonic()
            if now < self._throttled_until:  # Requests that were under way together fail together.
                return
            self._throttled_until = now + _THROTTLE_S
            self._level = self._paid_level = max(1, self._level // 2)
            self._paid_rate = 0.0
            self._hold_until = now + _HOLD_S
            self._doubts = 0
            self._open_window(now, more=0)

    def _judge(self, rate: float, now: float) -> None:
        if self._hold_until is not None:
            if now < self._hold_until:
                return
            self._hold_until = None
            self._paid_level, self._paid_rate = self._level, rate
            self._level = min(self._cap, self._level * 2)
        elif rate > self._paid_rate * _WORTH_IT:
            self._paid_level, self._paid_rate = self._level, rate
            self._doubts = 0
            self._level = min(self._cap, self._level * 2)
            if self._level == self._paid_level:
                self._hold_until = now + _HOLD_S
        elif self._doubts < _DOUBTS:
            self._doubts += 1
        else:
            self._doubts = 0
            self._level = self._paid_level
            self._hold_until = now + _HOLD_S

    def _open_window(self, now: float, *, more: int) -> None:
        """Begin to measure, once ``more`` connections are there."""
        self._window_start = now if more <= 0 else None
        self._window_bytes = 0
        self._awaited = more
        self._settled_by = now + _SETTLE_S
