from __future__ import annotations

from datetime import UTC, datetime

import pytest

from vodkeep.catalog.rate_limit import LONGEST_WAIT_S, RateBudget

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def headers(remaining: int, reset_in_s: int) -> dict[str, str]:
    return {"ratelimit-remaining": str(remaining), "ratelimit-reset": str(int(NOW.timestamp()) + reset_in_s)}


def test_nothing_is_waited_for_before_anything_is_known() -> None:
    assert RateBudget().wait_s(0.0) == 0.0


def test_the_reset_is_waited_for_when_nothing_is_left() -> None:
    budget = RateBudget()
    with budget.request() as sent:
        sent.answered(headers(remaining=0, reset_in_s=40), now=NOW, monotonic=100.0)
    assert budget.wait_s(100.0) == 40.0
    assert budget.wait_s(130.0) == 10.0
    assert budget.wait_s(141.0) == 0.0


def test_requests_under_way_count_against_the_points_left() -> None:
    budget = RateBudget()
    with budget.request() as first, budget.request(), budget.request():
        first.answered(headers(remaining=2, reset_in_s=40), now=NOW, monotonic=0.0)
        assert budget.wait_s(0.0) == 40.0


def test_each_request_sent_uses_a_point() -> None:
    budget = RateBudget()
    with budget.request() as sent:
        sent.answered(headers(remaining=1, reset_in_s=40), now=NOW, monotonic=0.0)
    assert budget.wait_s(0.0) == 0.0
    with budget.request():
        assert budget.wait_s(0.0) == 40.0


def test_a_request_that_fails_is_no_longer_under_way() -> None:
    budget = RateBudget()
    with pytest.raises(OSError, match="reset"), budget.request():
        raise OSError("reset")
    with budget.request() as sent:
        sent.answered(headers(remaining=1, reset_in_s=40), now=NOW, monotonic=0.0)
    assert budget.wait_s(0.0) == 0.0


def test_a_reset_in_the_far_future_is_a_mistake() -> None:
    budget = RateBudget()
    with budget.request() as sent:
        sent.answered(headers(remaining=0, reset_in_s=86_400), now=NOW, monotonic=0.0)
    assert budget.wait_s(0.0) == LONGEST_WAIT_S


def test_answers_without_the_headers_change_nothing() -> None:
    budget = RateBudget()
    with budget.request() as sent:
        sent.answered(headers(remaining=0, reset_in_s=40), now=NOW, monotonic=0.0)
    with budget.request() as sent:
        sent.answered({}, now=NOW, monotonic=0.0)
    assert budget.wait_s(0.0) == 40.0
