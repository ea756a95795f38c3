"""Lets as many requests be under way at once as the pace allows, those for the oldest segment first.

A segment is asked for in pieces, and those wait here: so a higher level counts at once, for the pieces that wait
already, and not only when the next segment begins. Because the oldest go first, few segments are unfinished at a time,
which is what a crash costs.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from vodkeep.capture.download import CanceledError
from vodkeep.capture.pace import Pace


class Gate:
    """Safe to use from any thread."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._lock = threading.Lock()
        self._inside = 0
        self._numbers = count()
        # By what they are for, then by when they came; each is woken by its own lock, since waking all costs too much.
        self._waiting: list[tuple[int, int, threading.Lock]] = []
        self._is_closed = False

    @contextmanager
    def turn(self, order: int) -> Iterator[None]:
        """Wait until a request may be sent; it is under way for as long as the block runs.

        The lowest ``order`` goes first. Raises `CanceledError` once the gate is closed.
        """
        bell = threading.Lock()
        bell.acquire()
        with self._lock:
            heapq.heappush(self._waiting, (order, next(self._numbers), bell))
        self.admit()
        with bell:
            pass
        try:
            if self._is_closed:
                raise CanceledError
            yield
        finally:
            with self._lock:
                self._inside -= 1
            self.admit()

    def admit(self) -> None:
        """Let in whom the pace allows by now."""
        with self._lock:
            while self._waiting and (self._is_closed or self._inside < self._pace.level):
                _, _, bell = heapq.heappop(self._waiting)
                self._inside += 1
                bell.release()

    def close(self) -> None:
        """Turn everybody away who waits, and who comes later."""
        self._is_closed = True
        self.admit()
