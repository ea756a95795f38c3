"""Leases between processes, the same on both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from sqlalchemy import update

from vodkeep.db.engine import Database
from vodkeep.db.leases import PROCESS_PREFIX, Lease, LeaseStore
from vodkeep.db.tables import leases

T = TypeVar("T")

TTL = timedelta(seconds=60)


def within(database: Database, work: Callable[[LeaseStore], T]) -> T:
    """What ``work`` returns, its changes committed."""
    with database.unit_of_work() as unit:
        result = work(LeaseStore(unit.connection))
        unit.commit()
    return result


def run_out(database: Database, *names: str) -> None:
    """As if the holders had not renewed these for long."""
    with database.unit_of_work() as unit:
        past = datetime(2020, 1, 1, tzinfo=UTC)
        unit.connection.execute(update(leases).where(leases.c.name.in_(names)).values(expires_at=past))
        unit.commit()


def take(database: Database, name: str, holder: str, detail: str = "") -> Lease | None:
    return within(database, lambda store: store.take(name, holder, TTL, detail))


def token(lease: Lease | None) -> int:
    assert lease is not None
    return lease.token


def test_a_lease_has_one_holder(database: Database) -> None:
    first = take(database, "planner", "a")

    assert first is not None
    assert (first.name, first.holder, first.token, first.detail) == ("planner", "a", 1, "")
    assert take(database, "planner", "b") is None
    assert within(database, lambda store: store.live()) == [first]


def test_what_ran_out_may_be_taken_and_the_token_grows(database: Database) -> None:
    take(database, "planner", "a")
    run_out(database, "planner")

    assert within(database, lambda store: store.live()) == []
    assert token(take(database, "planner", "b")) == 2
    assert take(database, "planner", "a") is None


def test_who_holds_a_lease_takes_it_again_under_the_same_token(database: Database) -> None:
    take(database, "worker:a", "a", "one slot")
    again = take(database, "worker:a", "a", "two slots")
    assert again is not None
    assert (again.token, again.detail) == (1, "two slots")

    run_out(database, "worker:a")
    assert token(take(database, "worker:a", "a")) == 1


def test_a_lease_lasts_as_long_as_was_asked_by_the_clock_of_the_database(database: Database) -> None:
    """Both ends come from one clock: the difference is exact however wrong this machine's clock is."""
    short, long = within(
        database,
        lambda store: (
            store.take("a", "me", timedelta(seconds=1.5)),
            store.take("b", "me", timedelta(days=2, seconds=1.5)),
        ),
    )
    assert short is not None
    assert long is not None
    difference = long.expires_at - short.expires_at
    assert timedelta(days=2) <= difference < timedelta(days=2, seconds=10)
    assert take(database, "a", "other") is None


def test_a_lease_of_no_length_is_free_at_once(database: Database) -> None:
    within(database, lambda store: store.take("a", "me", timedelta()))

    assert token(take(database, "a", "other")) == 2


def test_renewing_touches_only_what_is_ours(database: Database) -> None:
    for name, holder in (("one", "a"), ("two", "a"), ("three", "b")):
        take(database, name, holder)
    run_out(database, "one", "two", "three")

    assert within(database, lambda store: store.renew("a", TTL, ["one", "two", "three"])) == {"one", "two"}
    assert [lease.name for lease in within(database, lambda store: store.live())] == ["one", "two"]


def test_renewing_by_name_leaves_the_others_of_the_same_holder_alone(database: Database) -> None:
    for name in ("planner", "run:1"):
        take(database, name, "a")
    run_out(database, "planner", "run:1")

    assert within(database, lambda store: store.renew("a", TTL, ["planner", "periodic"])) == {"planner"}
    assert [lease.name for lease in within(database, lambda store: store.live())] == ["planner"]
    assert within(database, lambda store: store.renew("a", TTL, [])) == set()


def test_what_was_taken_over_cannot_be_renewed(database: Database) -> None:
    take(database, "planner", "a")
    run_out(database, "planner")
    take(database, "planner", "b")

    assert within(database, lambda store: store.renew("a", TTL, ["planner"])) == set()
    assert [lease.holder for lease in within(database, lambda store: store.live())] == ["b"]


def test_what_was_released_is_free_and_its_token_still_grows(database: Database) -> None:
    take(database, "planner", "a", "me")
    take(database, "channel:x", "a")
    take(database, "periodic", "b")

    within(database, lambda store: store.release("a", ["planner"]))
    assert [lease.name for lease in within(database, lambda store: store.live())] == ["channel:x", "periodic"]
    assert within(database, lambda store: store.renew("a", TTL, ["planner", "channel:x"])) == {"channel:x"}

    within(database, lambda store: store.release("a"))
    assert [lease.holder for lease in within(database, lambda store: store.live())] == ["b"]
    assert token(take(database, "planner", "a")) == 2
    assert token(take(database, "channel:x", "b")) == 2


def test_the_only_process_alive_clears_what_is_left_of_earlier_ones(database: Database) -> None:
    take(database, "planner", "a")
    take(database, "periodic", "b")

    within(database, lambda store: store.release_all())

    assert within(database, lambda store: store.live()) == []
    assert token(take(database, "planner", "c")) == 2


def test_the_living_are_listed_by_name_and_prefix(database: Database) -> None:
    for name in ("worker:b", "worker:a", "workers", "worker_x", "planner", "worker%"):
        take(database, name, name)

    names = [lease.name for lease in within(database, lambda store: store.live("worker:"))]
    assert names == ["worker:a", "worker:b"]
    assert [lease.name for lease in within(database, lambda store: store.live("worker%"))] == ["worker%"]
    assert len(within(database, lambda store: store.live())) == 6
    assert [lease.name for lease in within(database, lambda store: store.live("worker:", besides="worker:a"))] == [
        "worker:b"
    ]


def test_only_what_ran_out_long_ago_is_forgotten(database: Database) -> None:
    take(database, "run:1", "a")
    take(database, "planner", "a")
    take(database, "periodic", "a")
    run_out(database, "run:1")
    within(database, lambda store: store.release("a", ["periodic"]))

    assert within(database, lambda store: store.forget(timedelta(days=1))) == 1
    assert token(take(database, "run:1", "b")) == 1
    assert token(take(database, "periodic", "b")) == 2


def test_of_several_wanted_at_once_those_that_are_free_are_taken(database: Database) -> None:
    take(database, "two", "b", "theirs")
    take(database, "three", "b")
    run_out(database, "three")
    take(database, "four", "a", "before")

    wanted = {"four": "now", "one": "new", "three": "late", "two": "never"}
    taken = within(database, lambda store: store.take_all(wanted, "a", TTL))

    assert {lease.name: (lease.token, lease.detail) for lease in taken} == {
        "four": (1, "now"),
        "one": (1, "new"),
        "three": (2, "late"),
    }
    assert {lease.name: lease.holder for lease in within(database, lambda store: store.live())} == {
        "four": "a",
        "one": "a",
        "three": "a",
        "two": "b",
    }
    assert within(database, lambda store: store.take_all({}, "a", TTL)) == []


def begin_life(database: Database, holder: str, *bound: str) -> None:
    """A process that lives, with leases that last as long."""

    def work(store: LeaseStore) -> None:
        assert store.take(PROCESS_PREFIX + holder, holder, TTL)
        assert len(store.take_all(dict.fromkeys(bound, ""), holder)) == len(bound)

    within(database, work)


def test_what_is_bound_to_a_life_is_held_until_it_is_buried(database: Database) -> None:
    begin_life(database, "a", "channel:x", "channel:y")
    begin_life(database, "b", "channel:z")
    within(database, lambda store: store.take("run:1", "a", TTL))

    assert within(database, lambda store: store.bury()) == []
    assert within(database, lambda store: store.bound_to("a")) == {"channel:x", "channel:y"}
    names = ["channel:x", "channel:z", "channel:new"]
    assert within(database, lambda store: store.held_by_others(names, "b")) == {"channel:x"}
    assert within(database, lambda store: store.take_all({"channel:x": ""}, "b")) == []

    run_out(database, "worker:a")
    assert within(database, lambda store: store.take_all({"channel:x": ""}, "b")) == []
    assert within(database, lambda store: store.bury()) == ["a"]
    assert [lease.name for lease in within(database, lambda store: store.live())] == ["channel:z", "run:1", "worker:b"]
    assert [lease.token for lease in within(database, lambda store: store.take_all({"channel:x": ""}, "b"))] == [2]


def test_who_is_buried_can_no_longer_say_that_it_lives(database: Database) -> None:
    begin_life(database, "a", "channel:x")
    run_out(database, "worker:a")
    assert within(database, lambda store: store.renew("a", TTL, ["worker:a"])) == {"worker:a"}, "nobody buried it"

    run_out(database, "worker:a")
    within(database, lambda store: store.bury())
    assert within(database, lambda store: store.renew("a", TTL, ["worker:a"])) == set()
    assert within(database, lambda store: store.bound_to("a")) == set()


def test_a_life_that_nobody_buried_is_not_forgotten(database: Database) -> None:
    """Else what is bound to it would be held for ever."""
    begin_life(database, "a", "channel:x")
    run_out(database, "worker:a")

    assert within(database, lambda store: store.forget(timedelta(days=1))) == 0
    assert within(database, lambda store: store.bury()) == ["a"]


def test_a_process_that_is_just_saying_that_it_lives_is_not_buried(database: Database) -> None:
    begin_life(database, "a", "channel:x")
    run_out(database, "worker:a")
    with ThreadPoolExecutor(1) as threads:
        with database.unit_of_work() as unit:
            assert LeaseStore(unit.connection).renew("a", TTL, ["worker:a"])
            other = threads.submit(within, database, lambda store: store.bury())
            if not database.is_sqlite:  # There a second writer waits.
                assert other.result(20) == []
            unit.commit()
        assert other.result(20) == []
    assert within(database, lambda store: store.bound_to("a")) == {"channel:x"}


@pytest.mark.parametrize("run", range(5))
def test_of_racing_takers_exactly_one_gets_it(database: Database, run: int) -> None:
    if run % 2:  # a free one and one that ran out
        take(database, "planner", "earlier")
        run_out(database, "planner")
    takers = 6
    barrier = threading.Barrier(takers)

    def race(number: int) -> Lease | None:
        barrier.wait(20)
        return take(database, "planner", f"holder {number}")

    with ThreadPoolExecutor(takers) as threads:
        taken = [lease for lease in threads.map(race, range(takers)) if lease is not None]

    assert len(taken) == 1
    assert taken == within(database, lambda store: store.live())
