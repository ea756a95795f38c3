"""Mangled streams: see ``support.chat_fuzz``, which can do this for as long as one likes."""

from __future__ import annotations

import random

import pytest

from support.chat_fuzz import BrokenPromise, check, hunt


def test_mangled_streams_cost_no_good_line() -> None:
    counts = hunt(seed=1, streams=300)
    assert counts["messages"] > 500
    assert counts["texts that were not UTF-8"]
    assert counts["too long"]


def test_the_hunt_notices_a_line_that_is_gone() -> None:
    with pytest.raises(BrokenPromise, match="a good line was lost"):
        check(b"PING :x\r\n", [b"PING :y"], random.Random(1))
