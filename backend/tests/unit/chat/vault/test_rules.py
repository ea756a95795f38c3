"""Emote ranges, retries and views, as plain values."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.chat.vault.model import GLOBAL, Entry, Kind, Provider, SetKey, Span
from vodkeep.chat.vault.ranges import emotes_in
from vodkeep.chat.vault.retrying import retry_after_s
from vodkeep.chat.vault.view import view_of
from vodkeep.errors import NetworkError, PermanentError, RateLimited


@pytest.mark.parametrize(
    ("ranges", "body", "found"),
    [
        ("25:0-4,12-16/1902:6-10", "Kappa Keepo Kappa", {"25": "Kappa", "1902": "Keepo"}),
        ("25:2-6", "𝄞 Kappa", {"25": "Kappa"}),
        ("emotesv2_0a:0-1", "hi", {"emotesv2_0a": "hi"}),
        ("25:7-9", "short", {}),
        ("25:4-0", "Kappa", {}),
        ("../../etc:0-1", "hi", {"etc": "hi"}),
        ("a.b:0-1", "hi", {}),
        ("25", "Kappa", {}),
        ("", "Kappa", {}),
    ],
)
def test_emotes_of_a_message(ranges: str, body: str, found: dict[str, str]) -> None:
    assert emotes_in(ranges, body) == found


@given(st.text(), st.text())
def test_no_ranges_raise(ranges: str, body: str) -> None:
    assert all(code in body for code in emotes_in(ranges, body).values())


def test_an_outage_is_waited_out_for_ever_and_a_refusal_is_not() -> None:
    rng = random.Random(1)
    waits = [retry_after_s(NetworkError("away"), attempts, rng) for attempts in range(50)]
    assert all(wait is not None and 45 <= wait <= 6 * 3600 * 1.25 for wait in waits)
    refused = [retry_after_s(PermanentError("gone"), attempts, rng) for attempts in range(6)]
    assert [wait is None for wait in refused] == [False, False, False, False, True, True]
    asked = retry_after_s(RateLimited("slowly", delay_s=900), 0, rng)
    assert asked == 900


def span(provider: Provider, channel_id: str, ref: str, since: int = 0, until: int | None = None) -> Span:
    """The code "Pog" in one set."""
    return Span(SetKey(provider, Kind.EMOTE, channel_id), Entry("Pog", ref, f"https://x/{ref}"), since, until)


def test_a_channels_own_emote_comes_before_one_that_everybody_has() -> None:
    spans = [
        span(Provider.FFZ, GLOBAL, "global ffz"),
        span(Provider.SEVENTV, "1", "own 7tv"),
        span(Provider.BTTV, "1", "own bttv", since=150),
    ]
    view = view_of({each.set: 0 for each in spans}, spans, start_ms=100, end_ms=200)
    assert view.codes["Pog"].entry.ref == "own 7tv"
    assert [(change.at_ms, change.meaning and change.meaning.entry.ref) for change in view.changes] == [
        (150, "own bttv")
    ]


def test_what_hides_another_for_a_while_gives_it_back() -> None:
    spans = [span(Provider.FFZ, GLOBAL, "global"), span(Provider.FFZ, "1", "own", since=120, until=160)]
    view = view_of({each.set: 0 for each in spans}, spans, start_ms=100, end_ms=200)
    assert view.codes["Pog"].entry.ref == "global"
    assert [(change.at_ms, change.meaning and change.meaning.entry.ref) for change in view.changes] == [
        (120, "own"),
        (160, "global"),
    ]


def test_a_set_first_seen_during_the_broadcast_counts_from_its_start() -> None:
    late = span(Provider.FFZ, "1", "own", since=180)
    view = view_of({late.set: 180}, [late], start_ms=100, end_ms=200)
    assert view.codes["Pog"].entry.ref == "own"
    assert view.changes == ()
    assert [(seen.as_of_ms, seen.exact) for seen in view.sets] == [(180, True)]
