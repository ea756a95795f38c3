from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from vodkeep.catalog.retrying import RetryLimits, wait_before_retry_s
from vodkeep.errors import CredentialsError, NetworkError, PermanentError, RateLimited, ServerError, VodkeepError

LIMITS = RetryLimits(attempts=4, total_s=75.0, backoff_base_s=0.5, backoff_cap_s=10.0)


class Highest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return b


def wait(failure: VodkeepError, attempt: int = 1, elapsed_s: float = 0.0) -> float | None:
    return wait_before_retry_s(failure, attempt=attempt, elapsed_s=elapsed_s, limits=LIMITS, rng=Highest())


def test_the_wait_doubles_up_to_its_cap_and_attempts_are_bounded() -> None:
    assert [wait(NetworkError("x"), n) for n in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, None]


@given(st.integers(1, 3), st.integers(0, 2**32))
def test_full_jitter_stays_between_nothing_and_the_cap(attempt: int, seed: int) -> None:
    chosen = wait_before_retry_s(ServerError("x"), attempt=attempt, elapsed_s=0, limits=LIMITS, rng=random.Random(seed))
    assert chosen is not None
    assert 0 <= chosen <= 0.5 * 2 ** (attempt - 1)


def test_a_429_waits_for_the_reset_but_never_past_the_deadline() -> None:
    assert wait(RateLimited("x", delay_s=30)) == 30.5
    assert wait(RateLimited("x", delay_s=0)) == 1.5
    assert wait(RateLimited("x")) == 1.5
    assert wait(RateLimited("x", delay_s=74.9)) is None
    assert wait(RateLimited("x", delay_s=30), elapsed_s=50) is None


def test_no_wait_ends_after_the_deadline() -> None:
    assert wait(NetworkError("x"), elapsed_s=74.4) == 0.5
    assert wait(NetworkError("x"), elapsed_s=74.6) is None


def test_refusals_are_never_tried_again() -> None:
    assert wait(CredentialsError("x")) is None
    assert wait(PermanentError("x")) is None
