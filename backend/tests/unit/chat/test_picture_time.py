"""Two times of one picture, and the way there and back."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.chat.picture_time import Pauses, to_clock, to_picture, to_picture_sql

TWO: Pauses = ((10_000, 25_000), (40_000, 41_000))


@st.composite
def some_pauses(draw: st.DrawFn) -> Pauses:
    found, at = [], 0
    for space, length in draw(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), max_size=4)):
        found.append((at + space, at + space + length))
        at += space + length
    return tuple(found)


@pytest.mark.parametrize(
    ("since_ms", "picture_ms"),
    [
        pytest.param(-3_000, -3_000, id="before the picture"),
        pytest.param(10_000, 10_000, id="the last moment before a pause"),
        pytest.param(17_000, 10_000, id="in a pause"),
        pytest.param(25_000, 10_000, id="where the picture goes on"),
        pytest.param(25_001, 10_001, id="behind it"),
        pytest.param(60_000, 44_000, id="behind both"),
    ],
)
def test_what_was_said_lies_where_the_picture_then_was(since_ms: int, picture_ms: int) -> None:
    assert to_picture(since_ms, TWO) == picture_ms


def test_without_a_pause_both_are_the_same() -> None:
    assert (to_picture(7, ()), to_clock(7, ()), to_picture_sql("x", ())) == (7, 7, "(x)")


@given(some_pauses(), st.integers(-50, 500))
def test_the_first_moment_of_a_place_is_found(pauses: Pauses, picture_ms: int) -> None:
    since_ms = to_clock(picture_ms, pauses)
    assert to_picture(since_ms, pauses) == picture_ms
    assert to_picture(since_ms - 1, pauses) < picture_ms


@given(some_pauses(), st.integers(-50, 500))
def test_the_database_comes_to_the_same(pauses: Pauses, since_ms: int) -> None:
    connection = sqlite3.connect(":memory:")
    (found,) = connection.execute(f"SELECT {to_picture_sql(f'({since_ms})', pauses)}").fetchone()
    connection.close()
    assert found == to_picture(since_ms, pauses)
