"""What the end of one try to fetch an image means."""

from __future__ import annotations

import random

from vodkeep.errors import PermanentError, RateLimited, VodkeepError

_BASE_S = 60.0
_CAP_S = 6 * 3600.0
_TRIES_REFUSED = 5
"""A refusal is believed when it was given so often, the last time a good hour after the first."""


def retry_after_s(error: VodkeepError, attempts: int, rng: random.Random) -> float | None:
    """Seconds until the next try, or None for never; ``attempts`` is how many failed before this one.

    A provider that is away can stay so for days, and its images are wanted all the same: those tries have no end. One
    that gives us something else than an image, or nothing, is asked a few times.
    """
    if isinstance(error, PermanentError) and attempts + 1 >= _TRIES_REFUSED:
        return None
    wait_s = min(_CAP_S, _BASE_S * (1 << min(attempts, 12)))
    asked_s = (error.delay_s or 0.0) if isinstance(error, RateLimited) else 0.0
    return max(min(asked_s, _CAP_S), wait_s * rng.uniform(0.75, 1.25))
