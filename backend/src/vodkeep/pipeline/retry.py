"""How long to wait after a failed attempt, and when a person must decide.

Attempts come in rounds. Within a round (``max_attempts``) the waits double from ``backoff_base`` with jitter up to
``BACKOFF_CAP``; after it the item goes on at the pace of ``cooldown``. Only a cause that is the item's own can
park it, and the attempt that decides comes after a cooldown, so that one bad minute at Twitch never parks anything.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

BACKOFF_CAP = timedelta(minutes=5)
RECHECK = timedelta(minutes=5)

# The other side's wish is obeyed even beyond our own cap, up to what can be a sane wish.
_LONGEST_OBEYED = timedelta(days=1)

# Items that cool down together should not all come back in the same second.
_COOLDOWN_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The retry settings of a stage."""

    max_attempts: int  # in a round; at least 1
    backoff_base: timedelta  # the wait after the first failure, before jitter
    cooldown: timedelta  # between attempts once a round is used up
    recheck: timedelta = RECHECK  # until a live broadcast is looked at again


def backoff(failures: int, policy: RetryPolicy, rng: random.Random) -> timedelta:
    """The wait after the ``failures``-th failure of a round (from 1): doubled each time, capped, half of it jitter."""
    # 2**40 times any base is beyond the cap; the limit keeps the float finite.
    doubled = policy.backoff_base.total_seconds() * 2.0 ** min(max(failures, 1) - 1, 40)
    return timedelta(seconds=min(doubled, BACKOFF_CAP.total_seconds()) * rng.uniform(0.5, 1.0))


def cooldown(policy: RetryPolicy, rng: random.Random) -> timedelta:
    """The wait once a round is used up: never less than the setting, up to a tenth more."""
    return policy.cooldown * rng.uniform(1.0, 1.0 + _COOLDOWN_JITTER)


def obeyed(wait: timedelta, asked_s: float | None) -> timedelta:
    """``wait``, or longer if the other side asked for more (``asked_s``, seconds); nonsense is not obeyed."""
    if asked_s is None or not 0 < asked_s < float("inf"):
        return wait
    return max(wait, min(timedelta(seconds=min(asked_s, _LONGEST_OBEYED.total_seconds())), _LONGEST_OBEYED))


def wait_after(
    failures: int, policy: RetryPolicy, rng: random.Random, *, own: bool, asked_s: float | None = None
) -> timedelta:
    """The wait after the ``failures``-th counted failure since the last success or reset.

    ``own`` (the cause is the item's own) makes the wait before the round's last attempt a cooldown.
    """
    quick = policy.max_attempts - 2 if own else policy.max_attempts - 1
    wait = backoff(failures, policy, rng) if failures <= quick else cooldown(policy, rng)
    return obeyed(wait, asked_s)
