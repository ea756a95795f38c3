"""Roles of processes, what they say of themselves, and how they share the channels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.pipeline.roles import ALL_ROLES, ProcessNote, Role, fingerprint, parse_roles, share_of


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("web,watch,work", ALL_ROLES),
        ("work", {Role.WORK}),
        (" Watch , WEB ", {Role.WATCH, Role.WEB}),
        ("web,web", {Role.WEB}),
    ],
)
def test_a_list_of_roles_is_read(text: str, roles: set[Role]) -> None:
    assert parse_roles(text) == roles


@pytest.mark.parametrize("text", ["", "all", "web,", "web watch", "web;work"])
def test_an_unknown_role_is_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(ValueError, match=r"web, watch, work with commas between them; there is no role '"):
        parse_roles(text)


def test_a_process_reads_what_another_wrote() -> None:
    note = ProcessNote("attic", 7, (Role.WATCH, Role.WORK), {"capture": 2}, "abc")
    assert ProcessNote.read(note.write()) == note


@pytest.mark.parametrize(
    "detail",
    ["", "{", "null", "[]", '"x"', "{}", '{"roles": 1, "slots": [], "pid": "x"}', '{"slots": {"capture": "2"}}'],
)
def test_what_another_version_says_otherwise_is_left_out(detail: str) -> None:
    assert ProcessNote.read(detail) == ProcessNote("", 0, (), {})


def test_roles_that_a_newer_version_has_are_left_out() -> None:
    assert ProcessNote.read('{"roles": ["web", "dream"]}').roles == (Role.WEB,)


def test_channels_are_the_same_in_any_order() -> None:
    assert fingerprint(["a", "b"]) == fingerprint(["b", "a"])
    assert fingerprint(["a", "b"]) != fingerprint(["ab"])


@given(
    channels=st.sets(st.text(min_size=1, max_size=5), max_size=40),
    watchers=st.sets(st.text(min_size=1, max_size=5), min_size=1, max_size=6),
)
def test_every_channel_is_exactly_one_watchers_and_the_shares_are_even(channels: set[str], watchers: set[str]) -> None:
    shares = [share_of(channels, watcher, watchers) for watcher in watchers]
    assert sorted(login for share in shares for login in share) == sorted(channels)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_watcher_that_is_not_listed_yet_counts_itself() -> None:
    assert share_of({"x", "y"}, "b", ["a"]) == {"y"}
    assert share_of({"x", "y"}, "b", []) == {"x", "y"}
