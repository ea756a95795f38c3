from __future__ import annotations

from vodkeep.capture.pace import FIRST_LEVEL, Pace


class Line:
    """A line of which each connection gets ``per_connection`` bytes a second, up to ``total``."""

    def __init__(self, cap: int, *, per_connection: float, total: float) -> None:
        self.now = 0.0
        self.pace = Pace(cap, lambda: self.now)
        self.per_connection = per_connection
        self.total = total
        self.levels: list[int] = []

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.05
            rate = min(self.total, self.per_connection * self.pace.level)
            self.pace.received(int(rate * 0.05))
            self.levels.append(self.pace.level)


def test_it_starts_small() -> None:
    assert Pace(32).level == FIRST_LEVEL
    assert Pace(2).level == 2


def test_a_line_capped_per_connection_gets_all_connections_within_seconds() -> None:
    line = Line(32, per_connection=5e6, total=1e12)
    line.run(5)
    assert line.pace.level == 32


def test_a_full_line_keeps_the_level_that_paid() -> None:
    line = Line(32, per_connection=5e6, total=40e6)  # 8 connections fill it
    line.run(15)
    assert line.pace.level == 8
    # It tried more, once, and came back.
    assert max(line.levels) == 16


def test_it_tries_again_after_a_while() -> None:
    line = Line(32, per_connection=5e6, total=40e6)
    line.run(15)
    line.total = 1e12
    line.run(60)
    assert line.pace.level == 32


def test_being_throttled_halves_the_level_and_holds_it() -> None:
    line = Line(32, per_connection=5e6, total=1e12)
    line.run(5)
    line.pace.throttled()
    line.pace.throttled()  # of the same trouble
    assert line.pace.level == 16
    line.run(10)
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
