"""How long, how often and after what waits one call to Twitch is tried."""

from __future__ import annotations

import random
from dataclasses import dataclass

from vodkeep.errors import CredentialsError, RateLimited, TransientError, VodkeepError


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """How long and how often one call is tried. Times in seconds."""

    attempts: int = 4  # exchanges, the first one included; a retry after a renewed token is not counted
    total_s: float = 75.0  # the whole call with all waits; a rate limit resets within 60 s
    exchange_s: float = 30.0  # one exchange
    connect_s: float = 10.0
    read_s: float = 15.0  # silence on the connection
    backoff_base_s: float = 0.5
    backoff_cap_s: float = 10.0
    rate_limit_floor_s: float = 1.0  # shortest wait after a 429, whatever it says
    max_body_bytes: int = 8 * 1024 * 1024  # a page of 100 videos has about 0.2 MB


def wait_before_retry_s(
    failure: VodkeepError, *, attempt: int, elapsed_s: float, limits: RetryLimits, rng: random.Random
) -> float | None:
    """Seconds to wait before the next exchange, or None to give up and raise ``failure``.

    ``attempt`` is the number of exchanges that failed (1 or more), ``elapsed_s`` the time since the call began.
    Full jitter: anything between nothing and the doubling cap, or on top of the wait the other side asked for. A
    wait that would end after the deadline is not begun. Credentials and refusals are never tried again here.
    """
    if not isinstance(failure, TransientError) or isinstance(failure, CredentialsError):
        return None
    if attempt >= limits.attempts:
        return None
    jitter_s = rng.uniform(0.0, min(limits.backoff_cap_s, limits.backoff_base_s * 2 ** (attempt - 1)))
    if isinstance(failure, RateLimited):
        wait_s = max(failure.delay_s or 0.0, limits.rate_limit_floor_s) + jitter_s
    else:
        wait_s = (failure.delay_s or 0.0) + jitter_s
    return wait_s if elapsed_s + wait_s < limits.total_s else None
