"""Which media servers of a capture can be reached.

A machine that is dead costs seconds for each connection that is tried, so its segments must not be tried one after the
other. After a few failures in a row a host is *down*: one segment goes on trying, as often as segments are tried, and
the others of that host are put off meanwhile. When that one has tried in vain, the host is *given up* for a while, and
its segments with it, without another request. Then one try decides whether that goes on.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from vodkeep.capture.tries import TRIES_UNREACHABLE

FAILURES_UNTIL_DOWN = 3


class Turn(Enum):
    """What a segment does next."""

    GO = "go"
    WAIT = "wait"  # another segment finds out whether the host lives
    GIVE_UP = "give up"  # the host was tried in vain not long ago


@dataclass(slots=True)
class _Host:
    failures: int = 0  # connections in a row that did not come about
    down_since: float = math.inf  # monotonic
    tried_by: int | None = None  # the number of the segment that tries while the host is down
    given_up_until: float = -math.inf  # monotonic
    was_given_up: bool = False


class Hosts:
    """What is known of each host of one capture; safe from several threads. A segment is known by its number."""

    def __init__(self, given_up_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._given_up_s = given_up_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}
        self._trying: set[int] = set()

    def turn(self, host: str, number: int) -> Turn:
        """Whether segment ``number`` may be asked for at ``host`` now."""
        with self._lock:
            known = self._hosts.get(host)
            if known is None or known.failures < FAILURES_UNTIL_DOWN or known.tried_by == number:
                return Turn.GO
            if known.tried_by is not None:
                return Turn.WAIT
            if self._monotonic() < known.given_up_until:
                return Turn.GIVE_UP
            known.tried_by = number
            self._trying.add(number)
            return Turn.GO

    def failed(self, host: str, number: int) -> bool:
        """A connection to ``host`` did not come about; True when that makes it one that is down."""
        with self._lock:
            known = self._hosts.setdefault(host, _Host())
            known.failures += 1
            if known.failures != FAILURES_UNTIL_DOWN:
                return False
            known.down_since = self._monotonic()
            known.tried_by = number
            self._trying.add(number)
            return True

    def answered(self, host: str) -> None:
        """Somebody is there, whatever the answer was."""
        with self._lock:
            self._hosts.pop(host, None)

    def most_tries(self, host: str) -> int:
        """How often a segment tries to reach ``host``."""
        with self._lock:
            known = self._hosts.get(host)
            return 1 if known is not None and known.was_given_up else TRIES_UNREACHABLE

    def is_down(self, host: str) -> bool:
        """Whether nobody was there lately."""
        return self.down_since(host) < math.inf

    def down_since(self, host: str) -> float:
        """Since when nobody has been there (monotonic), infinity for never."""
        with self._lock:
            known = self._hosts.get(host)
            return known.down_since if known is not None else math.inf

    @property
    def is_any_tried(self) -> bool:
        """Whether some segment is finding out about a host that is down."""
        with self._lock:
            return bool(self._trying)

    def ended(self, number: int) -> bool:
        """Segment ``number`` is not tried any more; True when it was one that tried while a host was down."""
        with self._lock:
            for host in self._hosts.values():
                if host.tried_by == number:
                    host.tried_by = None
                    host.was_given_up = True
                    host.given_up_until = self._monotonic() + self._given_up_s
            if number not in self._trying:
                return False
            self._trying.remove(number)
            return True
