from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vodkeep.durations import LONGEST, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("6h", timedelta(hours=6)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("1h0m1s", timedelta(hours=1, seconds=1)),
        ("500ms", timedelta(milliseconds=500)),
        ("1s500ms", timedelta(seconds=1, milliseconds=500)),
        ("5m5ms", timedelta(minutes=5, milliseconds=5)),
        ("90m", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        ("0.1s", timedelta(milliseconds=100)),
        ("0", timedelta(0)),
        ("0s", timedelta(0)),
        ("87600h", LONGEST),
    ],
)
def test_durations_are_read_as_operators_write_them(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "5 minutes", "5min", "5M", "5", "-5m", "+5m", "5m ", "5m\n", "m", "h30m", "30m1h", "1m1m", "1h 30m",
        ".5h", "5.h", "1,5h", "1e3s", "٥m", "5d", "1w", "99999999999999999999h", "0x5s", "infs", "nan", "1_0s",
        "87601h",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be a duration"):
        parse_duration(text)


def test_a_forgotten_unit_is_answered_with_the_units() -> None:
    with pytest.raises(ValueError, match="such as 30s or 30m"):
        parse_duration("30")


@given(st.timedeltas(min_value=timedelta(0), max_value=LONGEST))
@example(timedelta(0))
@example(timedelta(microseconds=1))
@example(timedelta(milliseconds=10, microseconds=10))
def test_what_is_written_is_read_back_unchanged(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@given(st.text() | st.text(alphabet="0123456789.hms -+e"))
def test_garbage_is_a_value_error_and_a_result_stays_in_range(text: str) -> None:
    try:
        duration = parse_duration(text)
    except ValueError:
        return
    assert timedelta(0) <= duration <= LONGEST
    assert text.isascii()


def test_a_negative_duration_has_no_spelling() -> None:
    with pytest.raises(ValueError, match="negative"):
        format_duration(timedelta(seconds=-1))
