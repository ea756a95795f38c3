"""How many requests Helix still grants us, from the headers of its answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from vodkeep.catalog.helix import remaining_points, wait_until_reset_s

LONGEST_WAIT_S = 900.0
"""A reset further away than this is taken for a mistake; Helix's bucket refills within a minute."""


class RateBudget:
    """The bucket as the last answer described it, less what was sent since."""

    def __init__(self) -> None:
        self._remaining: int | None = None  # None until an answer has said it
        self._reset_at = 0.0  # monotonic
        self._in_flight = 0

    def wait_s(self, monotonic: float) -> float:
        """Seconds to wait before the next request may be sent; 0 while points are left or nothing is known."""
        if self._remaining is None or self._remaining > 0:
            return 0.0
        return max(0.0, self._reset_at - monotonic)

    @contextmanager
    def request(self) -> Iterator[SentRequest]:
        """Counts one request from the moment it is sent until the end of the block."""
        self._in_flight += 1
        if self._remaining is not None:
            self._remaining -= 1
        try:
            yield SentRequest(self)
        finally:
            self._in_flight -= 1

    def _answered(self, headers: Mapping[str, str], now: datetime, monotonic: float) -> None:
        remaining, wait_s = remaining_points(headers), wait_until_reset_s(headers, now=now)
        if remaining is None or wait_s is None:
            return
        # Those still under way may not be in the number yet; this one is.
        self._remaining = remaining - (self._in_flight - 1)
        self._reset_at = monotonic + min(wait_s, LONGEST_WAIT_S)


class SentRequest:
    """A request under way."""

    def __init__(self, budget: RateBudget) -> None:
        self._budget = budget

    def answered(self, headers: Mapping[str, str], *, now: datetime, monotonic: float) -> None:
        """Take the bucket's state from the headers of the answer; answers without them change nothing."""
        self._budget._answered(headers, now, monotonic)
