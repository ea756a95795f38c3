"""What is known of the media servers of one capture."""

from __future__ import annotations

import pytest

from vodkeep.capture.hosts import FAILURES_UNTIL_DOWN, Hosts, Turn

EDGE, OTHER = "edge:443", "other:443"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hosts(clock: Clock) -> Hosts:
    return Hosts(60, clock)


def bring_down(hosts: Hosts, *, number: int) -> None:
    assert [hosts.failed(EDGE, number) for _ in range(FAILURES_UNTIL_DOWN)] == [False, False, True]


def test_a_failure_now_and_then_holds_nobody_back(hosts: Hosts) -> None:
    for number in range(10):
        assert not hosts.failed(EDGE, number)
        assert hosts.turn(EDGE, number) is Turn.GO
        hosts.answered(EDGE)
    assert not hosts.is_down(EDGE)


def test_while_one_tries_the_others_wait(hosts: Hosts) -> None:
    bring_down(hosts, number=7)
    assert hosts.is_down(EDGE)
    assert hosts.turn(EDGE, 7) is Turn.GO
    assert hosts.turn(EDGE, 8) is Turn.WAIT
    assert hosts.turn(OTHER, 8) is Turn.GO
    assert hosts.is_any_tried


def test_others_that_fail_late_change_nothing(hosts: Hosts) -> None:
    bring_down(hosts, number=7)
    assert not hosts.failed(EDGE, 8)
    assert hosts.turn(EDGE, 7) is Turn.GO
    assert not hosts.ended(8)


def test_tried_in_vain_it_is_given_up_for_a_while_and_then_gets_one_try(hosts: Hosts, clock: Clock) -> None:
    bring_down(hosts, number=7)
    assert hosts.most_tries(EDGE) == 6
    assert hosts.ended(7)
    assert not hosts.is_any_tried
    assert hosts.turn(EDGE, 8) is Turn.GIVE_UP
    clock.now = 59.9
    assert hosts.turn(EDGE, 8) is Turn.GIVE_UP
    clock.now = 60
    assert hosts.turn(EDGE, 8) is Turn.GO
    assert hosts.most_tries(EDGE) == 1
    assert hosts.turn(EDGE, 9) is Turn.WAIT
    hosts.failed(EDGE, 8)
    assert hosts.ended(8)
    assert hosts.turn(EDGE, 9) is Turn.GIVE_UP
    assert hosts.down_since(EDGE) == 0


def test_an_answer_of_any_kind_ends_it(hosts: Hosts) -> None:
    bring_down(hosts, number=7)
    hosts.answered(EDGE)
    assert hosts.turn(EDGE, 8) is Turn.GO
    assert hosts.ended(7)
    assert not hosts.is_down(EDGE)


def test_hosts_are_judged_apart(hosts: Hosts) -> None:
    bring_down(hosts, number=7)
    for _ in range(FAILURES_UNTIL_DOWN):
        hosts.failed(OTHER, 8)
    assert hosts.ended(7)
    assert hosts.turn(EDGE, 9) is Turn.GIVE_UP
    assert hosts.turn(OTHER, 9) is Turn.WAIT
    assert hosts.is_any_tried
