from __future__ import annotations

import threading

import pytest

from vodkeep.capture.download import CanceledError
from vodkeep.capture.gate import Gate
from vodkeep.capture.pace import Pace


class Visitors:
    """Threads that go through a gate, one for each that is sent, and stay inside until they are let go."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.came_in: list[int] = []
        self.turned_away: list[int] = []
        self.changed = threading.Condition()
        self.leave = threading.Semaphore(0)
        self.threads: list[threading.Thread] = []

    def send(self, order: int) -> None:
        before = len(self.gate._waiting) + len(self.came_in)
        thread = threading.Thread(target=self._visit, args=(order,), daemon=True)
        self.threads.append(thread)
        thread.start()
        with self.changed:  # Until it waits, or is inside.
            while len(self.gate._waiting) + len(self.came_in) <= before:
                self.changed.wait(0.001)

    def _visit(self, order: int) -> None:
        try:
            with self.gate.turn(order):
                with self.changed:
                    self.came_in.append(order)
                    self.changed.notify_all()
                self.leave.acquire()
        except CanceledError:
            self.turned_away.append(order)

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.came_in) >= count, 5)

    def finish(self) -> None:
        for _ in self.threads:
            self.leave.release()
        for thread in self.threads:
            thread.join(5)
            assert not thread.is_alive()


def test_no_more_than_the_level_and_the_lowest_first() -> None:
    visitors = Visitors(Gate(Pace(2)))
    for order in (7, 8, 9, 4, 6, 5):
        visitors.send(order)
    visitors.wait_for(2)
    assert visitors.came_in == [7, 8]
    for expected in (4, 5, 6, 9):
        visitors.leave.release()
        visitors.wait_for(len(visitors.came_in) + 1)
        assert visitors.came_in[-1] == expected
    visitors.finish()


def test_a_higher_level_counts_at_once() -> None:
    now = 0.0
    pace = Pace(8, lambda: now)
    visitors = Visitors(gate := Gate(pace))
    for order in range(6):
        visitors.send(order)
    visitors.wait_for(4)
    assert visitors.came_in == [0, 1, 2, 3]
    for _ in range(4):
        pace.answered()
    pace.received(1)
    now = 1.0
    assert pace.received(10_000_000)
    gate.admit()
    visitors.wait_for(6)
    visitors.finish()


def test_a_closed_gate_turns_everybody_away() -> None:
    visitors = Visitors(gate := Gate(Pace(1)))
    visitors.send(1)
    visitors.wait_for(1)
    visitors.send(2)
    gate.close()
    visitors.finish()
    assert visitors.turned_away == [2]
    with pytest.raises(CanceledError), gate.turn(0):
        raise AssertionError("nobody gets in")


def test_a_failure_inside_leaves_room_for_others() -> None:
    gate = Gate(Pace(1))
    with pytest.raises(ValueError, match="broken"), gate.turn(0):
        raise ValueError("broken")
    with gate.turn(1):
        pass
