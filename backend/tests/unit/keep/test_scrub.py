"""Which item is read again next, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from vodkeep.keep.scrub import Shelved, in_turn, is_due, next_turn

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
MONTH = timedelta(days=30)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def test_never_checked_goes_first_and_then_the_oldest_check() -> None:
    items = [
        Shelved("young", 1, ago(1)),
        Shelved("new", 1, None),
        Shelved("old", 1, ago(9)),
        Shelved("mended", 1, ago(0), was_mended=True),
    ]

    assert [item.video_id for item in in_turn(items)] == ["mended", "new", "old", "young"]


def test_the_archive_is_read_in_shares_of_the_interval() -> None:
    items = [Shelved("small", 1_000, ago(1)), Shelved("great", 9_000, ago(2)), Shelved("new", 10_000, None)]
    turn = next_turn(items, MONTH, NOW)

    assert turn is not None
    assert turn.item.video_id == "new"
    # The latest check was of one of three items and a twentieth of the bytes: about a fifth of the interval.
    assert ago(1) + timedelta(days=5) <= turn.at <= ago(1) + timedelta(days=5.8)


def test_what_is_late_does_not_wait() -> None:
    late = [Shelved("late", 1_000, ago(31)), Shelved("just read", 1_000, ago(0))]

    assert is_due(late[0], MONTH, NOW)
    assert next_turn(late, MONTH, NOW) == next_turn(late[::-1], MONTH, NOW)
    turn = next_turn(late, MONTH, NOW)
    assert turn is not None
    assert (turn.item.video_id, turn.at) == ("late", NOW)


def test_what_was_mended_does_not_wait() -> None:
    turn = next_turn([Shelved("1", 1, ago(0), was_mended=True), Shelved("2", 1, ago(1))], MONTH, NOW)

    assert turn is not None
    assert (turn.item.video_id, turn.at) == ("1", NOW)


def test_an_empty_archive_has_nothing_to_read() -> None:
    assert next_turn([], MONTH, NOW) is None


@given(st.lists(st.integers(min_value=0, max_value=10**12), min_size=1, max_size=12))
def test_every_item_is_read_within_the_interval(sizes: list[int]) -> None:
    """Two rounds of a service that is always there; reading takes no time."""
    checked: dict[str, datetime | None] = {str(number): None for number in range(len(sizes))}
    now, reads = NOW, 0
    while reads < 3 * len(sizes):
        turn = next_turn([Shelved(name, sizes[int(name)], at) for name, at in checked.items()], MONTH, now)
        assert turn is not None
        now = max(now, turn.at)
        before = checked[turn.item.video_id]
        assert now - (before or NOW) <= MONTH
        checked[turn.item.video_id] = now
        reads += 1
    # It is spread, too: so many rounds take about as many intervals, and not the time of a glance.
    assert now - NOW >= 2 * 0.8 * MONTH
