from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.pipeline.retry import BACKOFF_CAP, RetryPolicy, backoff, cooldown, obeyed, wait_after

POLICY = RetryPolicy(max_attempts=5, backoff_base=timedelta(seconds=2), cooldown=timedelta(minutes=10))


class _Edge(random.Random):
    """A random source that always draws one end of the range."""

    def __init__(self, *, high: bool) -> None:
        super().__init__(0)
        self._high = high

    def uniform(self, a: float, b: float) -> float:
        return b if self._high else a


@pytest.mark.parametrize(("failures", "longest_s"), [(1, 2), (2, 4), (3, 8), (4, 16), (8, 256), (9, 300), (5000, 300)])
def test_backoff_doubles_up_to_five_minutes_and_half_of_it_is_jitter(failures: int, longest_s: int) -> None:
    assert backoff(failures, POLICY, _Edge(high=True)) == timedelta(seconds=longest_s)
    assert backoff(failures, POLICY, _Edge(high=False)) == timedelta(seconds=longest_s / 2)


def test_waits_differ_between_items() -> None:
    rng = random.Random(7)
    assert len({backoff(3, POLICY, rng) for _ in range(20)}) == 20


@given(st.integers(1, 100), st.integers(1, 10), st.booleans(), st.integers())
def test_no_wait_is_negative_or_beyond_cap_and_cooldown(failures: int, attempts: int, own: bool, seed: int) -> None:
    policy = RetryPolicy(attempts, timedelta(seconds=2), timedelta(minutes=10))
    wait = wait_after(failures, policy, random.Random(seed), own=own)
    assert timedelta() < wait <= max(BACKOFF_CAP, policy.cooldown * 1.1)
    if failures >= attempts:
        assert wait >= policy.cooldown


def test_a_used_up_round_goes_on_at_the_cooldowns_pace() -> None:
    rng = random.Random(1)
    waits = [wait_after(failures, POLICY, rng, own=False) for failures in range(1, 8)]
    assert all(wait <= timedelta(seconds=16) for wait in waits[:4])
    assert all(timedelta(minutes=10) <= wait <= timedelta(minutes=11) for wait in waits[4:])


def test_the_attempt_that_can_park_comes_after_a_cooldown() -> None:
    rng = random.Random(1)
    assert wait_after(3, POLICY, rng, own=True) <= timedelta(seconds=8)
    assert wait_after(4, POLICY, rng, own=True) >= POLICY.cooldown


@pytest.mark.parametrize(
    ("asked_s", "wait_s"),
    [
        (None, 10),
        (3, 10),
        (900, 900),
        (10**9, 86400),
        (0, 10),
        (-5, 10),
        (float("inf"), 10),
        (float("nan"), 10),
    ],
)
def test_the_other_sides_wish_only_lengthens_the_wait(asked_s: float | None, wait_s: float) -> None:
    assert obeyed(timedelta(seconds=10), asked_s) == timedelta(seconds=wait_s)


def test_a_wish_is_obeyed_within_a_round_and_after_it() -> None:
    rng = random.Random(1)
    assert wait_after(1, POLICY, rng, own=False, asked_s=3600) == timedelta(hours=1)
    assert wait_after(9, POLICY, rng, own=False, asked_s=3600) == timedelta(hours=1)


def test_cooldown_is_never_shortened() -> None:
    assert cooldown(POLICY, _Edge(high=False)) == POLICY.cooldown
    assert cooldown(POLICY, _Edge(high=True)) == POLICY.cooldown * 1.1
