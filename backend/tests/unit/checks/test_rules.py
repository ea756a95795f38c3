"""The rules of single checks: how old a tool is, and whose clock is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from vodkeep.checks.model import State
from vodkeep.checks.programs import age_days
from vodkeep.checks.twitch import judge_clock

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("version", "days"),
    [
        ("2026.10.26", 28),
        ("2026.11.20.232815.dev0", 3),
        ("2026.1.2", 325),
        ("7.1", None),
        ("2026.13.40", None),
        ("", None),
    ],
)
def test_a_version_of_ytdlp_is_a_date(version: str, days: int | None) -> None:
    assert age_days(version, NOW) == days


@pytest.mark.parametrize(
    ("off_s", "state", "words"),
    [
        pytest.param(0, State.OK, "agrees", id="right"),
        pytest.param(4, State.OK, "agrees", id="within a breath"),
        pytest.param(60, State.WARN, "60 s ahead of", id="ahead"),
        pytest.param(-60, State.WARN, "60 s behind", id="behind"),
        pytest.param(-86_400, State.FAIL, "86400 s behind", id="a day behind"),
        pytest.param(86_400, State.FAIL, "86400 s ahead of", id="a day ahead"),
    ],
)
def test_the_clock_is_compared_with_the_answer(off_s: int, state: State, words: str) -> None:
    date = format_datetime(NOW - timedelta(seconds=off_s), usegmt=True)
    found = judge_clock(date, NOW, NOW)
    assert found.state is state
    assert words in found.sentence


def test_a_slow_answer_is_not_the_clocks_fault() -> None:
    date = format_datetime(NOW, usegmt=True)
    assert judge_clock(date, NOW - timedelta(seconds=30), NOW + timedelta(seconds=30)).state is State.OK


@pytest.mark.parametrize("date", [None, "", "yesterday", "Mon, 99 Foo 2026 12:00:00 GMT"])
def test_without_a_readable_date_nothing_is_said(date: str | None) -> None:
    assert judge_clock(date, NOW, NOW).state is State.SKIPPED
