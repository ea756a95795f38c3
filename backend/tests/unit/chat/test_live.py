from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.chat.live import (
    MISSES_TO_END,
    Began,
    Change,
    Ended,
    LiveStream,
    Sight,
    Silence,
    Watched,
    batches,
    look,
    sights,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
POLL = timedelta(seconds=30)
A, B = (LiveStream(name, NOW - timedelta(minutes=1), "7", "hello") for name in ("A", "B"))

# What a poll can say, by a letter.
SAYS: dict[str, Sight] = {"a": A, "b": B, "-": Silence.OFFLINE, "?": Silence.UNKNOWN}


def told(changes: Sequence[Change]) -> str:
    return "".join(("+" if isinstance(each, Began) else "!") + each.stream.stream_id for each in changes)


def run(polls: str, watched: Watched = Watched()) -> list[str]:  # noqa: B008 - a frozen value
    """What each poll changes."""
    seen = []
    for number, letter in enumerate(polls):
        watched, changes = look(watched, SAYS[letter], NOW + number * POLL)
        seen.append(told(changes))
    return seen


@pytest.mark.parametrize(
    ("polls", "changes"),
    [
        pytest.param("---", ["", "", ""], id="nobody is live"),
        pytest.param("-aaa", ["", "+A", "", ""], id="a stream begins at its first sight"),
        pytest.param("aa--", ["+A", "", "", "!A"], id="and ends with the second reply without it"),
        pytest.param("a-a-a", ["+A", "", "", "", ""], id="one reply without it is nothing"),
        pytest.param("a-a--", ["+A", "", "", "", "!A"], id="seen again, it is counted anew"),
        pytest.param("a-?-", ["+A", "", "", "!A"], id="a failure in between is no sight"),
        pytest.param("a????????", ["+A", *[""] * 8], id="failures alone end nothing, however many"),
        pytest.param("a-?????", ["+A", *[""] * 6], id="nor after one reply without it"),
        pytest.param("??-", ["", "", ""], id="failures begin nothing"),
        pytest.param("a--a", ["+A", "", "!A", "+A"], id="back with the same id after the end: the same again"),
        pytest.param("ab", ["+A", "!A+B"], id="another id: another stream, at once"),
        pytest.param("a-b", ["+A", "", "!A+B"], id="after a gap too short to be the end"),
        pytest.param("a--b", ["+A", "", "!A", "+B"], id="after the end"),
        pytest.param("aba", ["+A", "!A+B", "!B+A"], id="an old reply that comes late is taken at its word"),
    ],
)
def test_what_polls_make_of_a_channel(polls: str, changes: list[str]) -> None:
    assert run(polls) == changes


@pytest.mark.parametrize(
    ("polls", "changes"),
    [
        pytest.param("a", [""], id="still live: nothing begins a second time"),
        pytest.param("b", ["!A+B"], id="another one meanwhile"),
        pytest.param("-a", ["", ""], id="not in the first reply"),
        pytest.param("--", ["", "!A"], id="over"),
        pytest.param("??--", ["", "", "", "!A"], id="over, after failures"),
    ],
)
def test_after_a_restart_the_session_in_the_database_goes_on(polls: str, changes: list[str]) -> None:
    assert run(polls, Watched(A)) == changes


def test_the_end_is_when_it_was_first_missing() -> None:
    watched, _ = look(Watched(A), Silence.OFFLINE, NOW)
    watched, _ = look(watched, Silence.UNKNOWN, NOW + POLL)
    _, changes = look(watched, Silence.OFFLINE, NOW + 2 * POLL)
    assert changes == (Ended(A, NOW),)


def test_the_start_of_a_stream_does_not_move_but_its_title_may() -> None:
    other = replace(A, started_at=NOW, title="another title")
    watched, changes = look(Watched(A), other, NOW)
    assert (watched.stream, changes) == (replace(other, started_at=A.started_at), ())


@given(st.text(alphabet="ab-?", max_size=40))
def test_begins_and_ends_alternate_and_never_overlap(polls: str) -> None:
    running: str | None = None
    for event in "".join(run(polls)).replace("+", " +").replace("!", " !").split():
        if event[0] == "+":
            assert running is None
            running = event[1]
        else:
            assert running == event[1]
            running = None


@given(st.text(alphabet="ab-?", max_size=40))
def test_no_stream_ends_without_enough_complete_replies_or_another_stream(polls: str) -> None:
    for number, changes in enumerate(run(polls)):
        if changes.startswith("!"):
            before = [letter for letter in polls[: number + 1] if letter != "?"]
            assert before[-1] in "ab" or before[-MISSES_TO_END:] == ["-"] * MISSES_TO_END


@given(st.text(alphabet="ab-?", max_size=40))
def test_what_fails_could_as_well_not_have_been_asked(polls: str) -> None:
    assert [each for each in run(polls) if each] == [each for each in run(polls.replace("?", "")) if each]


def test_a_complete_reply_speaks_of_all_that_were_asked_and_of_nobody_else() -> None:
    assert sights({"one", "two"}, [("One", A), ("three", B)], complete=True) == {"one": A, "two": Silence.OFFLINE}


def test_an_entry_that_could_not_be_read_may_be_anybodys() -> None:
    assert sights({"one", "two"}, [("one", A)], complete=False) == {"one": A, "two": Silence.UNKNOWN}


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (100, [100]), (101, [51, 50]), (250, [84, 83, 83])])
def test_channels_are_asked_for_in_batches_of_100_at_most(count: int, sizes: list[int]) -> None:
    channels = [f"c{number}" for number in range(count)]
    groups = batches(channels)
    assert [len(group) for group in groups] == sizes
    assert sorted(login for group in groups for login in group) == sorted(channels)
