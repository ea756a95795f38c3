"""The circuit breaker of a channel, as a pure state machine.

::

    closed ──(threshold systemic failures in a row)──> open ──(cooldown over, probe taken)──> half_open
      ^                                                 ^                                        │
      └──────────────(success, or the probe was answered)───────────────────(probe failed)───────┤
                                                        └──(probe said nothing: next one at once)┘

Only systemic failures count (network, server, credentials): what the next item would meet too. ``half_open`` means
that the one probe is out; its deadline is a lease that the probe's run renews, so that a probe whose process died
does not hold the channel for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto


class BreakerPhase(StrEnum):
    """Stored in ``kv`` as ``circuit_state``."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Breaker:
    """The breaker of one channel."""

    phase: BreakerPhase = BreakerPhase.CLOSED
    failures: int = 0  # systemic failures in a row
    open_until: datetime | None = None  # open: no probe before it; half open: the probe's lease ends, UTC

    @property
    def is_open(self) -> bool:
        """Whether it holds work back (half open still does)."""
        return self.phase is not BreakerPhase.CLOSED


CLOSED = Breaker()


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When it opens and for how long."""

    threshold: int  # systemic failures in a row, at least 1
    cooldown: timedelta


class Verdict(Enum):
    """What an ended attempt says about the other side."""

    WORKS = auto()  # the attempt succeeded
    ANSWERED = auto()  # a proper answer about this item: deleted, sub-only, still recording
    SYSTEMIC = auto()  # the next item would meet this failure too
    SILENT = auto()  # nothing: canceled, our disk, our bug


class Gate(Enum):
    """What the breaker lets through."""

    OPEN = auto()  # everything
    PROBE = auto()  # exactly one attempt
    SHUT = auto()  # nothing


def gate(breaker: Breaker, now: datetime) -> Gate:
    """What may start at ``now``."""
    if not breaker.is_open:
        return Gate.OPEN
    if breaker.open_until is not None and now < breaker.open_until:
        return Gate.SHUT
    return Gate.PROBE


def take_probe(breaker: Breaker, now: datetime, policy: BreakerPolicy) -> Breaker:
    """The breaker once its one probe has started; raises ``ValueError`` when none may."""
    if gate(breaker, now) is not Gate.PROBE:
        raise ValueError(f"no probe may start while the breaker is {breaker.phase} until {breaker.open_until}")
    return Breaker(BreakerPhase.HALF_OPEN, breaker.failures, now + policy.cooldown)


def renew_probe(breaker: Breaker, now: datetime, policy: BreakerPolicy) -> Breaker:
    """Extend the lease of a probe that is still at work; anything but half open stays as it is."""
    if breaker.phase is not BreakerPhase.HALF_OPEN:
        return breaker
    return Breaker(BreakerPhase.HALF_OPEN, breaker.failures, now + policy.cooldown)


def after_attempt(breaker: Breaker, verdict: Verdict, now: datetime, policy: BreakerPolicy, *, probe: bool) -> Breaker:
    """The breaker once an attempt has ended.

    ``probe`` says that the attempt was this breaker's probe. An attempt that began before the breaker opened may
    close it by succeeding, but its failure does not prolong the cooldown.
    """
    if verdict is Verdict.WORKS:
        return CLOSED
    ours = probe and breaker.phase is BreakerPhase.HALF_OPEN
    if verdict is Verdict.SYSTEMIC:
        failures = breaker.failures + 1
        if ours or (not breaker.is_open and failures >= policy.threshold):
            return Breaker(BreakerPhase.OPEN, failures, now + policy.cooldown)
        return Breaker(breaker.phase, failures, breaker.open_until)
    if not ours:
        return breaker
    # A proper answer about one item shows that the other side is there again. Outside of a probe it does not reset
    # the count: resolving can work while the edge is down.
    return CLOSED if verdict is Verdict.ANSWERED else Breaker(BreakerPhase.OPEN, breaker.failures, now)
