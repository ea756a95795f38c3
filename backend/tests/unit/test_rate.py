from __future__ import annotations

from vodkeep.rate import RateLimiter


def test_the_rate_holds_over_all_takers() -> None:
    now = [0.0]
    limiter = RateLimiter(1000, lambda: now[0])
    taken = 0
    while now[0] < 10.0:
        taken += 100
        now[0] += limiter.take(100)
    assert abs(taken - 10_000) <= 500


def test_idle_time_earns_no_more_than_a_quarter_second() -> None:
    now = [0.0]
    limiter = RateLimiter(1000, lambda: now[0])
    now[0] = 100.0
    assert limiter.take(250) == 0.0
    assert limiter.take(1000) == 1.0


def test_no_limit_never_waits() -> None:
    assert RateLimiter(None).take(10**12) == 0.0
