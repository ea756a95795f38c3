from __future__ import annotations

from datetime import UTC, datetime, timedelta

from vodkeep.pipeline.fleet.stalled import Sign, Watchman

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOLDS = Sign(AT, has_run_out=False)
RAN_OUT = Sign(AT, has_run_out=True)
NO_LEASE = Sign(None, has_run_out=True)


def watchman() -> Watchman:
    return Watchman(limit_s=5, longest_gap_s=3)


def test_a_run_that_stays_silent_is_dead_once_it_was_seen_so_for_long_enough() -> None:
    man = watchman()
    assert [man.look({"1": RAN_OUT}, now) for now in range(7)] == [set()] * 5 + [{"1"}, {"1"}]


def test_a_ticket_whose_run_never_began_counts_as_silent() -> None:
    man = watchman()
    assert [man.look({"1": NO_LEASE}, now) for now in range(6)] == [set()] * 5 + [{"1"}]


def test_a_lease_that_holds_is_a_sign_of_life_however_long_it_stays_the_same() -> None:
    man = watchman()
    assert [man.look({"1": HOLDS}, now) for now in range(20)] == [set()] * 20
    assert man.look({"1": RAN_OUT}, 20) == {"1"}, "the same lease, seen all along"


def test_each_renewal_starts_the_count_anew() -> None:
    man = watchman()
    seen = [man.look({"1": Sign(AT + timedelta(seconds=now // 4), has_run_out=True)}, now) for now in range(20)]
    assert seen == [set()] * 20


def test_what_could_not_be_seen_proves_nothing() -> None:
    """The process that looks was frozen, or the database was away."""
    frozen, away = watchman(), watchman()
    for man in (frozen, away):
        for now in range(5):
            man.look({"1": RAN_OUT}, now)
    assert frozen.look({"1": RAN_OUT}, 60) == set()
    away.forget()
    assert away.look({"1": RAN_OUT}, 6) == set()
    assert [frozen.look({"1": RAN_OUT}, now) for now in range(61, 66)] == [set()] * 4 + [{"1"}]


def test_who_comes_back_counts_from_the_beginning() -> None:
    man = watchman()
    for now in range(5):
        man.look({"1": RAN_OUT, "2": RAN_OUT}, now)
    assert man.look({"2": RAN_OUT}, 5) == {"2"}
    assert man.look({"1": RAN_OUT, "2": RAN_OUT}, 6) == {"2"}
