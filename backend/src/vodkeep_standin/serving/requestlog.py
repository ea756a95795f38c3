"""What clients asked for; tests look here instead of guessing."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime
from fnmatch import fnmatchcase

import msgspec

KEPT = 20_000


class RequestEntry(msgspec.Struct, frozen=True):
    """One request, written down just before its client can see the end of the reply."""

    time: datetime
    """When the request came in (real time, UTC)."""
    method: str
    host: str
    path: str
    query: str
    status: int
    """Status that was sent; 0 when the connection was reset before any."""
    sent_bytes: int
    """Body bytes handed to the socket."""
    duration_ms: float
    connection: int
    operations: tuple[str, ...] = ()
    """GQL operations."""
    faults: tuple[str, ...] = ()
    """Kinds of faults that were applied."""
    range: str | None = None
    """The Range header."""


class Line:
    """A place in the log, so that an entry can be corrected."""

    __slots__ = ("entry",)

    def __init__(self, entry: RequestEntry) -> None:
        self.entry = entry


class RequestLog:
    """The latest ``kept`` requests, oldest first. May be used from any thread."""

    def __init__(self, kept: int = KEPT) -> None:
        self._lines: deque[Line] = deque(maxlen=kept)
        self._changed = threading.Condition()

    def write(self, entry: RequestEntry, line: Line | None = None) -> Line:
        """Write down a request, or correct the ``line`` it has already."""
        with self._changed:
            if line is None:
                line = Line(entry)
                self._lines.append(line)
            else:
                line.entry = entry
            self._changed.notify_all()
            return line

    def entries(self, path: str = "*", *, method: str = "*", host: str = "*") -> list[RequestEntry]:
        """The requests whose path, method and host match these globs."""
        with self._changed:
            return [
                entry
                for entry in (line.entry for line in self._lines)
                if fnmatchcase(entry.path, path) and fnmatchcase(entry.method, method) and fnmatchcase(entry.host, host)
            ]

    def clear(self) -> None:
        """Forget everything."""
        with self._changed:
            self._lines.clear()

    def wait_for(self, wanted: Callable[[RequestEntry], bool], *, count: int = 1, timeout_s: float = 30.0) -> bool:
        """Block until ``count`` entries are ``wanted``; ``False`` when they did not come in time.

        Never call it on the stand-in's own event loop.
        """
        with self._changed:
            return self._changed.wait_for(
                lambda: sum(1 for line in self._lines if wanted(line.entry)) >= count, timeout=timeout_s
            )
