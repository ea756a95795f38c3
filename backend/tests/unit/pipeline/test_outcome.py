from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.queue_items import NOW
from vodkeep.errors import (
    CredentialsError,
    DatabaseUnavailable,
    DiskFull,
    Incomplete,
    NetworkError,
    PermanentError,
    RateLimited,
    ServerError,
    StillRecording,
    TransientError,
)
from vodkeep.pipeline.breaker import Verdict
from vodkeep.pipeline.model import DownloadState
from vodkeep.pipeline.outcome import Setback, judge
from vodkeep.pipeline.retry import RetryPolicy

S = DownloadState
POLICY = RetryPolicy(max_attempts=3, backoff_base=timedelta(seconds=2), cooldown=timedelta(minutes=10))


def _judge(error: Exception, failures: int = 0, own_failures: int = 0) -> Setback:
    return judge(error, failures=failures, own_failures=own_failures, policy=POLICY, now=NOW, rng=random.Random(5))


@pytest.mark.parametrize(
    ("error", "state", "code", "counts", "verdict"),
    [
        (StillRecording("live"), S.WAITING, "still_recording", False, Verdict.ANSWERED),
        (PermanentError("gone", code="deleted"), S.PARKED, "deleted", True, Verdict.ANSWERED),
        (PermanentError("subs", code="sub_only"), S.PARKED, "sub_only", True, Verdict.ANSWERED),
        (DiskFull("full"), S.FAILED, "disk_full", False, Verdict.SILENT),
        (NetworkError("reset"), S.FAILED, "network", True, Verdict.SYSTEMIC),
        (ServerError("502"), S.FAILED, "server_error", True, Verdict.SYSTEMIC),
        (CredentialsError("401"), S.FAILED, "credentials", True, Verdict.SYSTEMIC),
        (RateLimited("429"), S.FAILED, "rate_limited", True, Verdict.SILENT),
        (DatabaseUnavailable("away"), S.FAILED, "database", True, Verdict.SILENT),
        (Incomplete("hole"), S.FAILED, "incomplete", True, Verdict.SILENT),
        (TransientError("packets", code="verify_failed"), S.FAILED, "verify_failed", True, Verdict.SILENT),
        (KeyError("data"), S.FAILED, "bug", True, Verdict.SILENT),
        (ExceptionGroup("two", [NetworkError("a"), KeyError("b")]), S.FAILED, "bug", True, Verdict.SILENT),
    ],
    ids=lambda value: getattr(value, "code", None) or str(value),
)
def test_what_each_error_means(
    error: Exception, state: DownloadState, code: str, counts: bool, verdict: Verdict
) -> None:
    setback = _judge(error)
    assert (setback.state, setback.code, setback.counts, setback.verdict) == (state, code, counts, verdict)
    assert setback.sentence
    assert (setback.not_before is None) == (state is S.PARKED)
    assert setback.is_failure == (state is not S.WAITING)


@pytest.mark.parametrize(
    "error",
    [NetworkError("x"), ServerError("x"), CredentialsError("x"), RateLimited("x"), DiskFull("x"), RuntimeError("x")],
    ids=lambda error: type(error).__name__,
)
def test_what_is_not_the_items_own_never_parks_it(error: Exception) -> None:
    setback = _judge(error, failures=1000, own_failures=1000)
    assert setback.state is S.FAILED
    assert setback.not_before is not None
    assert POLICY.cooldown <= setback.not_before - NOW <= POLICY.cooldown * 1.1


@pytest.mark.parametrize("error", [Incomplete("hole"), TransientError("bad", code="verify_failed")])
def test_the_items_own_cause_parks_it_after_the_last_attempt(error: Exception) -> None:
    assert _judge(error, 1, 1).state is S.FAILED
    parked = _judge(error, 2, 2)
    assert parked.state is S.PARKED
    assert parked.remedy


def test_failures_of_others_making_do_not_bring_an_item_closer_to_parking() -> None:
    """Two network failures, then the first hole: the third failed attempt, but only the first of its own."""
    setback = _judge(Incomplete("hole"), failures=2, own_failures=0)
    assert setback.state is S.FAILED
    assert setback.not_before is not None
    assert setback.not_before - NOW >= POLICY.cooldown


def test_a_live_broadcast_is_looked_at_again_as_late_as_asked() -> None:
    assert _judge(StillRecording("live")).not_before == NOW + POLICY.recheck
    assert _judge(StillRecording("live", delay_s=3600)).not_before == NOW + timedelta(hours=1)


def test_the_servers_wait_is_obeyed() -> None:
    setback = _judge(RateLimited("slow down", delay_s=120))
    assert setback.not_before == NOW + timedelta(seconds=120)


def test_the_errors_remedy_reaches_the_person() -> None:
    assert _judge(PermanentError("subs", code="sub_only", remedy="Log in.")).remedy == "Log in."
    assert "room" in _judge(DiskFull("full")).remedy


def test_a_bugs_text_stays_in_the_log() -> None:
    """It may quote anything; the row names only its kind."""
    assert "hunter2" not in _judge(ValueError("password hunter2")).sentence
    assert "ValueError" in _judge(ValueError("x")).sentence


@pytest.mark.parametrize(
    "text",
    ["", "  ", "x" * 100_000, "nul \x00 inside", "lone \ud800 surrogate"],
    ids=["empty", "blank", "long", "nul", "lone"],
)
def test_foreign_text_becomes_a_sentence_any_database_stores(text: str) -> None:
    sentence = _judge(ServerError(text)).sentence
    assert 0 < len(sentence) <= 510
    assert "\x00" not in sentence
    sentence.encode()


# --- a whole life ----------------------------------------------------------------------------------------------------

OWN = [Incomplete("hole"), TransientError("packets", code="verify_failed")]
OTHERS = [
    NetworkError("reset"),
    ServerError("502"),
    CredentialsError("401"),
    RateLimited("429", delay_s=20),
    DiskFull("full"),
    StillRecording("live", delay_s=5),
    KeyError("data"),
]


def _live(
    policy: RetryPolicy, bad_s: float, errors: list[Exception], rng: random.Random
) -> tuple[DownloadState, int, timedelta]:
    """An item that is tried whenever it is due, from some moment of a time on in which everything fails.

    An attempt that begins within ``bad_s`` ends with one of ``errors`` (in turn), after up to half a minute; later ones
    succeed. Returns how it ended, with which attempt, and how long after the bad time.
    """
    good = NOW + timedelta(seconds=bad_s)
    now = NOW + timedelta(seconds=rng.uniform(0, bad_s / 2))
    failures = own_failures = attempts = 0
    while True:
        attempts += 1
        if now >= good:
            return S.DONE, attempts, now - good
        error = errors[attempts % len(errors)]
        now += timedelta(seconds=rng.uniform(0, 30))
        setback = judge(error, failures=failures, own_failures=own_failures, policy=policy, now=now, rng=rng)
        if setback.state is S.PARKED:
            return S.PARKED, attempts, now - good
        failures += setback.counts
        own_failures += setback.state is S.FAILED and error in OWN
        assert setback.not_before is not None
        assert setback.not_before > now, "no attempt follows on another without a wait"
        now = setback.not_before


_policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(2, 8),
    backoff_base=st.sampled_from([timedelta(milliseconds=100), timedelta(seconds=2), timedelta(minutes=2)]),
    cooldown=st.sampled_from([timedelta(minutes=1), timedelta(minutes=10), timedelta(hours=2)]),
)


@given(
    _policies,
    st.floats(0, 60),
    st.lists(st.sampled_from(OWN + OTHERS), min_size=1, max_size=12),
    st.integers(0, 2**32),
)
def test_a_bad_minute_never_parks_an_item(
    policy: RetryPolicy, bad_s: float, errors: list[Exception], seed: int
) -> None:
    """Whatever goes wrong in it, however often: the attempt that could park the item comes after it."""
    state, _, late = _live(policy, bad_s, errors, random.Random(seed))
    assert state is S.DONE
    longest = max(policy.cooldown * 1.1, timedelta(minutes=5))
    assert late <= longest + timedelta(seconds=30), "and it goes on by itself soon after"


@given(
    _policies,
    st.floats(0, 30 * 86_400),
    st.lists(st.sampled_from(OTHERS), min_size=1, max_size=12),
    st.integers(0, 2**32),
)
@settings(deadline=None)
def test_an_outage_parks_nothing_however_long_it_is_and_burdens_nobody(
    policy: RetryPolicy, bad_s: float, errors: list[Exception], seed: int
) -> None:
    rng = random.Random(seed)
    waiting = [error for error in errors if not isinstance(error, StillRecording)] or [NetworkError("reset")]
    state, attempts, late = _live(policy, bad_s, waiting, rng)
    assert state is S.DONE
    assert late <= max(policy.cooldown * 1.1, timedelta(minutes=5)) + timedelta(seconds=30)
    # A round at the pace of the backoff, and from then on one attempt for each cooldown.
    assert attempts <= 2 + policy.max_attempts + bad_s / policy.cooldown.total_seconds()


@given(_policies, st.lists(st.sampled_from(OWN), min_size=1, max_size=12), st.integers(0, 2**32))
def test_what_is_wrong_with_the_item_itself_is_given_up_after_its_attempts(
    policy: RetryPolicy, errors: list[Exception], seed: int
) -> None:
    state, attempts, _ = _live(policy, 10**9, errors, random.Random(seed))
    assert (state, attempts) == (S.PARKED, policy.max_attempts)
