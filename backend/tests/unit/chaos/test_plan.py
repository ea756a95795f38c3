"""The plan of the chaos test: the same for the same seed, and within its bounds."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from support.chaos.lines import LASTING, LINES
from support.chaos.plan import (
    BY_OPERATOR,
    DATABASE,
    LONGEST_FREEZE_S,
    LONGEST_OUTAGE_S,
    TO_PROCESSES,
    Deed,
    Kind,
    plan_deeds,
)


def plan(seed: int = 7, seconds: float = 600.0, *, postgres: bool = True, full_disk: bool = True) -> tuple[Deed, ...]:
    return plan_deeds(seed, seconds, lines=LASTING, postgres=postgres, full_disk=full_disk)


def test_a_seed_gives_the_same_plan_again() -> None:
    assert plan(7) == plan(7)
    assert plan(7) != plan(8)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("seconds", [20.0, 600.0])
def test_everything_happens_within_its_bounds(seed: int, seconds: float) -> None:
    deeds = plan(seed, seconds)
    kinds = Counter(deed.kind for deed in deeds)
    assert set(kinds) >= TO_PROCESSES | BY_OPERATOR | {Kind.LINE}
    assert kinds.keys() & DATABASE
    assert {deed.detail for deed in deeds if deed.kind is Kind.LINE} == set(LINES)
    assert [deed.at_s for deed in deeds] == sorted(deed.at_s for deed in deeds)
    assert all(0 <= deed.at_s <= seconds for deed in deeds)
    longest = {Kind.FREEZE: LONGEST_FREEZE_S, **dict.fromkeys(DATABASE, LONGEST_OUTAGE_S)}
    assert all(0 <= deed.lasts_s <= min(seconds, longest.get(deed.kind, 20.0)) for deed in deeds)


@pytest.mark.parametrize("kinds", [DATABASE, {Kind.FULL_DISK}])
def test_outages_of_one_thing_do_not_overlap(kinds: set[Kind]) -> None:
    for seed in range(20):
        outages = [deed for deed in plan(seed) if deed.kind in kinds]
        assert all(one.at_s + one.lasts_s < other.at_s for one, other in pairwise(outages))


def test_what_is_not_possible_is_left_out() -> None:
    kinds = {deed.kind for deed in plan(postgres=False, full_disk=False)}
    assert not kinds & (DATABASE | {Kind.FULL_DISK})
