"""What a client tells of an answer before it has seen a byte of its body."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from vodkeep.capture.download import _raise_for_status, _retry_after_s
from vodkeep.errors import RateLimited, ServerError


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120),
        (" 7 ", 7),
        ("0", 0),
        ("9" * 400, 86_400),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
        ("Fri, 99 Dec 2026 23:59:59 GMT", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert _retry_after_s(value) == seconds


def test_retry_after_with_a_date() -> None:
    asked = _retry_after_s(formatdate(time.time() + 90, usegmt=True))
    assert asked is not None
    assert 85 <= asked <= 91


@pytest.mark.parametrize("status", [500, 502, 503, 504, 304, 199])
def test_what_is_no_success_and_no_refusal_is_the_servers_fault(status: int) -> None:
    with pytest.raises(ServerError, match=str(status)) as raised:
        _raise_for_status(status, 3.0)
    assert raised.value.delay_s == 3.0


def test_too_many_requests() -> None:
    with pytest.raises(RateLimited) as raised:
        _raise_for_status(429, None)
    assert raised.value.delay_s is None
