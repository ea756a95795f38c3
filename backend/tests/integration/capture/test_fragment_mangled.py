"""Mangled fragments: see ``support.fragment_fuzz``, which can do this for as long as one likes."""

from __future__ import annotations

import pytest

from support.fragment_fuzz import Original, hunt, originals


@pytest.fixture(scope="module")
def healthy() -> list[Original]:
    return originals()


@pytest.mark.parametrize("first", range(0, 2000, 500))
def test_the_reader_refuses_or_reads_what_is_there(healthy: list[Original], first: int) -> None:
    answers = hunt(healthy, range(first, first + 500))
    assert min(answers["refused"], answers["read"], answers["missing end noticed"]) > 20
