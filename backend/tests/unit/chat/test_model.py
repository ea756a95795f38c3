from __future__ import annotations

import pytest

from vodkeep.chat.model import Chatter, Kind, Source

KAI = Chatter("1001", "kai", "Kai", "#FF0000", "subscriber/12")


def test_numbers_that_are_stored_stay() -> None:
    assert {kind.name: int(kind) for kind in Kind} == {
        "MESSAGE": 0,
        "ACTION": 1,
        "USER_NOTICE": 2,
        "NOTICE": 3,
        "CLEAR_CHAT": 4,
        "CLEAR_USER": 5,
        "CLEAR_MESSAGE": 6,
        "ROOM_STATE": 7,
    }
    assert {source.name: int(source) for source in Source} == {"LIVE": 0, "VOD": 1, "IMPORT": 2}


def test_the_key_of_a_chatter_is_stored_so_it_stays_for_ever() -> None:
    assert KAI.key() == 7620957045739812409


@pytest.mark.parametrize("field", ["user_id", "login", "display_name", "color", "badges"])
def test_a_chatter_who_looks_different_has_another_key(field: str) -> None:
    assert KAI._replace(**{field: "x"}).key() != KAI.key()


def test_a_key_fits_a_signed_column() -> None:
    assert all(0 <= KAI._replace(user_id=str(number)).key() < 2**63 for number in range(100))


def test_where_a_field_ends_is_part_of_the_key() -> None:
    assert Chatter("1", "ab", "c", "", "").key() != Chatter("1", "a", "bc", "", "").key()
