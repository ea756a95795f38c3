from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from vodkeep.chat.stretches import Stretch, covered, joined, shrunk, within, without

STRETCHES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8)


def points(stretches: list[Stretch]) -> set[int]:
    return {point for start, end in stretches for point in range(start, end)}


@given(STRETCHES, STRETCHES)
def test_stretches_are_sets_of_moments(one: list[Stretch], other: list[Stretch]) -> None:
    assert points(joined(one)) == points(one)
    assert points(within(one, other)) == points(one) & points(other)
    assert points(without(one, other)) == points(one) - points(other)
    for result in (joined(one), within(one, other), without(one, other)):
        assert all(start < end for start, end in result)
        assert all(first[1] <= second[0] for first, second in pairwise(result))


@given(STRETCHES)
def test_the_share_is_one_only_without_a_gap(stretches: list[Stretch]) -> None:
    assert (covered(stretches, 60) == 1.0) == (points(stretches) >= set(range(60)))


def test_the_smallest_gap_is_a_gap() -> None:
    assert covered([(0, 10**17), (10**17 + 1, 10**18)], 10**18) < 1.0
    assert covered([], 0) == 0.0


def test_short_stretches_vanish_when_shrunk() -> None:
    assert shrunk([(0, 10), (20, 100)], 5) == [(25, 95)]
