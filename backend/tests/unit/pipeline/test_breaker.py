"""The breaker is driven by scripts: events in, what may start and what is stored out."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.queue_items import NOW
from vodkeep.pipeline.breaker import (
    CLOSED,
    Breaker,
    BreakerPhase,
    BreakerPolicy,
    Gate,
    Verdict,
    after_attempt,
    gate,
    renew_probe,
    take_probe,
)

POLICY = BreakerPolicy(threshold=3, cooldown=timedelta(minutes=5))
MINUTE = timedelta(minutes=1)


def _at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def _fail(breaker: Breaker, at: datetime = NOW, *, probe: bool = False) -> Breaker:
    return after_attempt(breaker, Verdict.SYSTEMIC, at, POLICY, probe=probe)


def _opened() -> Breaker:
    return _fail(_fail(_fail(CLOSED)))


def test_opens_at_the_threshold_and_not_before() -> None:
    twice = _fail(_fail(CLOSED))
    assert gate(twice, NOW) is Gate.OPEN
    opened = _fail(twice)
    assert opened == Breaker(BreakerPhase.OPEN, 3, _at(5))
    assert gate(opened, _at(4.99)) is Gate.SHUT
    assert gate(opened, _at(5)) is Gate.PROBE


def test_a_success_in_between_starts_the_count_anew() -> None:
    twice = _fail(_fail(CLOSED))
    assert after_attempt(twice, Verdict.WORKS, NOW, POLICY, probe=False) == CLOSED
    assert not _fail(_fail(CLOSED)).is_open


@pytest.mark.parametrize("verdict", [Verdict.ANSWERED, Verdict.SILENT])
def test_what_is_not_systemic_neither_opens_nor_resets(verdict: Verdict) -> None:
    twice = _fail(_fail(CLOSED))
    after = twice
    for _ in range(10):
        after = after_attempt(after, verdict, NOW, POLICY, probe=False)
    assert after == twice


def test_while_the_probe_is_out_nothing_else_goes() -> None:
    out = take_probe(_opened(), _at(5), POLICY)
    assert out.phase is BreakerPhase.HALF_OPEN
    assert gate(out, _at(6)) is Gate.SHUT
    with pytest.raises(ValueError, match="no probe may start"):
        take_probe(out, _at(6), POLICY)


def test_a_renewed_probe_keeps_its_turn_and_a_dead_one_loses_it() -> None:
    out = take_probe(_opened(), _at(5), POLICY)
    renewed = renew_probe(out, _at(9), POLICY)
    assert gate(renewed, _at(13)) is Gate.SHUT
    assert gate(out, _at(10)) is Gate.PROBE


def test_the_probe_decides() -> None:
    out = take_probe(_opened(), _at(5), POLICY)
    assert after_attempt(out, Verdict.WORKS, _at(6), POLICY, probe=True) == CLOSED
    assert after_attempt(out, Verdict.ANSWERED, _at(6), POLICY, probe=True) == CLOSED
    failed = _fail(out, _at(6), probe=True)
    assert failed == Breaker(BreakerPhase.OPEN, 4, _at(11))


def test_a_probe_that_says_nothing_lets_the_next_one_go_at_once() -> None:
    out = take_probe(_opened(), _at(5), POLICY)
    after = after_attempt(out, Verdict.SILENT, _at(6), POLICY, probe=True)
    assert after.phase is BreakerPhase.OPEN
    assert gate(after, _at(6)) is Gate.PROBE


def test_an_old_attempt_does_not_stand_in_for_the_probe() -> None:
    """Attempts that began before the breaker opened end while the probe is out."""
    out = take_probe(_opened(), _at(5), POLICY)
    after = _fail(out, _at(6))
    assert (after.phase, after.open_until) == (BreakerPhase.HALF_OPEN, out.open_until)
    assert after_attempt(out, Verdict.ANSWERED, _at(6), POLICY, probe=False) == out
    assert after_attempt(out, Verdict.SILENT, _at(6), POLICY, probe=False) == out
    assert after_attempt(out, Verdict.WORKS, _at(6), POLICY, probe=False) == CLOSED


def test_failures_of_old_attempts_do_not_prolong_the_cooldown() -> None:
    assert _fail(_opened(), _at(4)).open_until == _at(5)


def test_a_probe_that_outlived_an_operators_reset_starts_from_closed() -> None:
    """The keys were deleted while the probe ran: its failure is the first of a new count."""
    assert _fail(CLOSED, probe=True) == Breaker(BreakerPhase.CLOSED, 1, None)


def test_no_probe_from_a_closed_breaker() -> None:
    with pytest.raises(ValueError, match="no probe may start"):
        take_probe(CLOSED, NOW, POLICY)


def test_renewing_touches_only_a_probe_that_is_out() -> None:
    assert renew_probe(CLOSED, NOW, POLICY) == CLOSED
    assert renew_probe(_opened(), NOW, POLICY) == _opened()


@given(st.lists(st.tuples(st.sampled_from([*Verdict, None]), st.integers(0, 400)), max_size=40))
def test_there_is_never_more_than_one_probe_out(script: list[tuple[Verdict | None, int]]) -> None:
    """``None`` tries to start something; a verdict ends the oldest thing started."""
    breaker, now = CLOSED, NOW
    out: list[bool] = []  # attempts under way; True for a probe
    for verdict, seconds in script:
        now += timedelta(seconds=seconds)
        if any(out):
            breaker = renew_probe(breaker, now, POLICY)
        if verdict is None:
            passage = gate(breaker, now)
            if passage is Gate.PROBE:
                assert not any(out)
                breaker = take_probe(breaker, now, POLICY)
            if passage is not Gate.SHUT:
                out.append(passage is Gate.PROBE)
        elif out:
            breaker = after_attempt(breaker, verdict, now, POLICY, probe=out.pop(0))
        assert breaker.is_open == (breaker.open_until is not None)
        assert breaker.is_open or breaker.failures < POLICY.threshold
