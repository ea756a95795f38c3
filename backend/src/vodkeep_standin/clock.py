"""The stand-in's time: the machine's, at a chosen speed, and it can be pushed forward."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class StandinClock:
    """Scenario time. It decides how far a broadcast has been recorded, never how fast bytes flow.

    ``speed`` is scenario seconds per real second; 0 stands still, so that only ``advance`` moves it.
    """

    def __init__(self, *, speed: float = 1.0, start: datetime | None = None) -> None:
        self._speed = speed
        self._start = start or datetime.now(UTC)
        self._origin = time.monotonic()
        self._pushed = timedelta()

    def now(self) -> datetime:
        """The scenario's wall clock, aware, in UTC."""
        elapsed = timedelta(seconds=(time.monotonic() - self._origin) * self._speed)
        return self._start + elapsed + self._pushed

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` of scenario time pass at once."""
        self._pushed += timedelta(seconds=seconds)
