from __future__ import annotations

from datetime import timedelta

from vodkeep.web.throttle import _MOST_CLIENTS, Throttle

MINUTE = timedelta(minutes=1)


def test_the_limit_is_per_client_and_window() -> None:
    throttle = Throttle(3, MINUTE)
    assert [throttle.wait_s("192.0.2.1", now) for now in (0, 1, 2)] == [None] * 3
    assert throttle.wait_s("192.0.2.1", 10.5) == 50
    assert throttle.wait_s("192.0.2.2", 10.5) is None
    assert throttle.wait_s("192.0.2.1", 59.9) == 1
    assert throttle.wait_s("192.0.2.1", 60) is None


def test_refused_requests_do_not_prolong_the_wait() -> None:
    throttle = Throttle(1, MINUTE)
    assert throttle.wait_s("a", 0) is None
    assert [throttle.wait_s("a", now) for now in (10, 20, 50)] == [50, 40, 10]
    assert throttle.wait_s("a", 60) is None


def test_an_ipv6_network_is_one_client() -> None:
    throttle = Throttle(1, MINUTE)
    assert throttle.wait_s("2001:db8:1:2::1", 0) is None
    assert throttle.wait_s("2001:db8:1:2:ffff::9", 0) is not None
    assert throttle.wait_s("2001:db8:1:3::1", 0) is None


def test_a_mapped_address_is_the_ipv4_client() -> None:
    throttle = Throttle(1, MINUTE)
    assert throttle.wait_s("::ffff:192.0.2.1", 0) is None
    assert throttle.wait_s("192.0.2.1", 0) is not None


def test_a_flood_from_many_addresses_takes_bounded_memory_and_keeps_the_newest() -> None:
    throttle = Throttle(1, MINUTE)
    for number in range(_MOST_CLIENTS + 500):
        assert throttle.wait_s(f"client-{number}", 0) is None
    assert len(throttle._windows) <= _MOST_CLIENTS
    assert throttle.wait_s(f"client-{_MOST_CLIENTS + 499}", 1) is not None
    throttle.wait_s("late", 61)
    assert len(throttle._windows) == 1
