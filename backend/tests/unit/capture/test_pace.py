from __future__ import annotations

import pytest

from vodkeep.capture.pace import FIRST_LEVEL, Pace


class Line:
    """A line of which each connection gets ``per_connection`` bytes a second, up to ``total``.

    A connection that is asked for is there ``late_s`` seconds later, and fast after another ``slow_s`` seconds. There
    are never more than ``most``.
    """

    def __init__(
        self,
        cap: int,
        *,
        per_connection: float,
        total: float,
        late_s: float = 0.05,
        slow_s: float = 0.0,
        most: int = 1000,
    ) -> None:
        self.now = 0.0
        self.pace = Pace(cap, lambda: self.now)
        self.per_connection = per_connection
        self.total = total
        self.late_s = late_s
        self.slow_s = slow_s
        self.most = most
        self.asked: list[float] = []  # when, for each connection
        self.answered = 0
        self.levels: list[int] = []

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.05
            del self.asked[self.pace.level :]
            self.answered = min(self.answered, len(self.asked))
            self.asked += [self.now] * (min(self.most, self.pace.level) - len(self.asked))
            there = sum(asked + self.late_s <= self.now for asked in self.asked)
            for _ in range(there - self.answered):
                self.pace.answered()
            self.answered = there
            fast = sum(asked + self.late_s + self.slow_s <= self.now for asked in self.asked)
            rate = min(self.total, self.per_connection * fast)
            self.pace.received(int(rate * 0.05))
            self.levels.append(self.pace.level)


def test_it_starts_small() -> None:
    assert Pace(32).level == FIRST_LEVEL
    assert Pace(2).level == 2


def test_a_line_capped_per_connection_gets_all_connections_within_seconds() -> None:
    line = Line(32, per_connection=5e6, total=1e12)
    line.run(5)
    assert line.pace.level == 32


@pytest.mark.parametrize(("late_s", "slow_s"), [(1.6, 0.0), (0.2, 0.6)], ids=["late", "slow at first"])
def test_a_level_is_not_judged_before_its_connections_are_there(late_s: float, slow_s: float) -> None:
    line = Line(32, per_connection=5e6, total=1e12, late_s=late_s, slow_s=slow_s)
    line.run(10)
    assert line.levels == sorted(line.levels)
    assert line.pace.level == 32


def test_connections_that_never_come_are_not_waited_for() -> None:
    line = Line(32, per_connection=5e6, total=1e12, most=FIRST_LEVEL)
    line.run(10)
    assert max(line.levels) == 2 * FIRST_LEVEL
    assert line.pace.level == FIRST_LEVEL


def test_it_knows_what_each_connection_brings() -> None:
    line = Line(32, per_connection=5e6, total=1e12)
    assert line.pace.rate_of_each is None
    line.run(5)
    assert line.pace.rate_of_each == pytest.approx(5e6, rel=0.15)


def test_a_full_line_keeps_the_level_that_paid() -> None:
    line = Line(32, per_connection=5e6, total=40e6)  # 8 connections fill it
    line.run(10)
    assert line.pace.level == 8
    # It tried more, once, and came back.
    assert max(line.levels) == 16


def test_it_tries_again_after_a_while() -> None:
    line = Line(32, per_connection=5e6, total=40e6)
    line.run(10)
    line.total = 1e12
    line.run(60)
    assert line.pace.level == 32


def test_being_throttled_halves_the_level_and_holds_it() -> None:
    line = Line(32, per_connection=5e6, total=1e12)
    line.run(5)
    line.pace.throttled()
    line.pace.throttled()  # of the same trouble
    assert line.pace.level == 16
    line.run(8)
    assert line.pace.level == 16
    line.run(60)
    assert line.pace.level == 32


def test_it_never_falls_below_one_nor_rises_above_its_cap() -> None:
    line = Line(3, per_connection=5e6, total=1e12)
    line.run(30)
    assert max(line.levels) == 3
    for _ in range(10):
        line.pace.throttled()
        line.now += 1
    assert line.pace.level == 1
