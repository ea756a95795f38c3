"""How often something is asked for again, and after how long: the same for playlists, init sections and segments."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from vodkeep.capture.download import CanceledError, GoneError
from vodkeep.capture.model import HoleCause
from vodkeep.capture.patience import Patience
from vodkeep.capture.playlist import PlaylistError
from vodkeep.capture.samples import SegmentDamagedError, UnsupportedMediaError
from vodkeep.errors import RateLimited, TransientError

TRIES_UNREACHABLE = 6
TRIES_THROTTLED = 8
TRIES_GONE = 2
TRIES_DAMAGED = 3
# A flipped bit can look like another format, so one answer is not believed.
TRIES_UNSUPPORTED = 2

T = TypeVar("T")


class Tries:
    """How often one thing has failed, and when."""

    def __init__(self) -> None:
        self._counts: dict[HoleCause | str, int] = {}
        self._failed = time.monotonic()
        self.failed_before = self._failed  # monotonic; the failure before the latest

    def used_up(self, kind: HoleCause | str, limit: int) -> bool:
        """Count a failure; True when it was the last one of its kind that is forgiven, or one after it."""
        self.failed_before, self._failed = self._failed, time.monotonic()
        self._counts[kind] = self.count(kind) + 1
        return self._counts[kind] >= limit

    def count(self, kind: HoleCause | str) -> int:
        """How many failures of this kind there were."""
        return self._counts.get(kind, 0)


def pause_s(patience: Patience, failures: int, asked_s: float | None) -> float:
    """How long to wait after so many ``failures``; ``asked_s`` is what the server asked for (Retry-After)."""
    # Jitter keeps those who failed together from coming back in step.
    wait_s = min(patience.backoff_cap_s, patience.backoff_base_s * 2.0 ** min(failures, 16)) * random.uniform(0.5, 1.0)
    return max(wait_s, min(asked_s or 0.0, patience.retry_after_cap_s))


def ask_again(ask: Callable[[], T], patience: Patience, cancel: threading.Event) -> T:
    """Call ``ask`` until it succeeds; blocking. When its tries are used up, its last error is raised.

    `CanceledError` soon after ``cancel`` is set.
    """
    tries = Tries()
    while True:
        try:
            return ask()
        except (GoneError, PlaylistError, SegmentDamagedError, UnsupportedMediaError, TransientError) as error:
            kind, limit = _kind_of(error)
            if tries.used_up(kind, limit):
                raise
            wait_s = pause_s(patience, tries.count(kind), getattr(error, "delay_s", None))
        if cancel.wait(wait_s):
            raise CanceledError


def _kind_of(error: Exception) -> tuple[HoleCause | str, int]:
    match error:
        case GoneError():
            return HoleCause.GONE, TRIES_GONE
        case PlaylistError() | SegmentDamagedError():
            return HoleCause.DAMAGED, TRIES_DAMAGED
        case UnsupportedMediaError():
            return "unsupported", TRIES_UNSUPPORTED
        case RateLimited():
            return "throttled", TRIES_THROTTLED
        case _:
            return HoleCause.UNREACHABLE, TRIES_UNREACHABLE
