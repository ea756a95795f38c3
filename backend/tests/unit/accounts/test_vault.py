"""Sealed tokens open as what they are, where they are, and with the key they were sealed with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.accounts.model import Kind, Provider
from vodkeep.accounts.vault import FORM, TokenUnreadable, Vault, key_id_of

KEY, OLD = b"k" * 32, b"o" * 32
providers, kinds = st.sampled_from(list(Provider)), st.sampled_from(list(Kind))
channels = st.text(max_size=12)
places = st.tuples(providers, channels, kinds)


@given(st.text(max_size=200), places)
def test_what_is_sealed_opens_at_its_place(text: str, place: tuple[Provider, str, Kind]) -> None:
    vault = Vault(KEY)
    sealed = vault.seal(text, *place)
    assert vault.open(sealed, vault.key_id, *place) == text
    assert vault.seal(text, *place) != sealed


@given(places, places)
def test_it_opens_nowhere_else(place: tuple[Provider, str, Kind], other: tuple[Provider, str, Kind]) -> None:
    vault = Vault(KEY)
    sealed = vault.seal("token", *place)
    if place != other:
        with pytest.raises(TokenUnreadable):
            vault.open(sealed, vault.key_id, *other)


@given(st.data())
def test_a_text_that_was_changed_anywhere_does_not_open(data: st.DataObject) -> None:
    vault, place = Vault(KEY), (Provider.YOUTUBE, "otter", Kind.REFRESH)
    sealed = vault.seal("1//refresh-token", *place)
    at = data.draw(st.integers(0, len(sealed) - 1))
    char = data.draw(st.characters(codec="ascii"))
    mangled = data.draw(
        st.sampled_from([sealed[:at], sealed[:at] + char + sealed[at + 1 :], sealed[at:], sealed + char])
    )
    if mangled != sealed:
        with pytest.raises(TokenUnreadable) as caught:
            vault.open(mangled, vault.key_id, *place)
        assert "refresh-token" not in str(caught.value)
        assert caught.value.remedy


def test_the_old_key_opens_and_the_current_one_seals() -> None:
    place = (Provider.TWITCH, "otter", Kind.ACCESS)
    sealed = Vault(OLD).seal("token", *place)
    both = Vault(KEY, OLD)
    assert both.open(sealed, key_id_of(OLD), *place) == "token"
    assert both.key_id == key_id_of(KEY)
    assert [both.standing(each) for each in (None, key_id_of(KEY), key_id_of(OLD), "other")] == [
        "none",
        "current",
        "old",
        "unknown",
    ]
    with pytest.raises(TokenUnreadable, match=key_id_of(OLD)):
        Vault(KEY).open(sealed, key_id_of(OLD), *place)
    # A row whose key id was exchanged does not open either.
    with pytest.raises(TokenUnreadable):
        both.open(sealed, key_id_of(KEY), *place)


def test_without_a_key_tokens_are_plain_and_stay_readable_with_one() -> None:
    place = (Provider.TWITCH, "", Kind.ACCESS)
    assert (Vault(None).seal("token", *place), Vault(None).key_id) == ("token", None)
    assert Vault(KEY).open("token", None, *place) == "token"
    assert Vault(KEY).open(f"{FORM}not-ours", None, *place) == f"{FORM}not-ours"


def test_a_key_id_says_nothing_of_the_key() -> None:
    assert KEY.hex() not in key_id_of(KEY)
    assert len(key_id_of(KEY)) == 12
    assert KEY.decode() not in repr(vars(Vault(KEY)))
