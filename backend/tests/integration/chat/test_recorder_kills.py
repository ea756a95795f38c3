"""Issue 5, item 3: a recorder is killed, and the database goes away, during a burst of 2,000 messages/s."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest

from support.chat_kills import Course, locked_file, run, stopped_server
from support.postgres import PostgresServer
from vodkeep.db.engine import Database

pytestmark = pytest.mark.anyio


async def test_nothing_acknowledged_is_lost_and_nothing_is_there_twice(
    chat_database: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """`make chaos-chat` is the same with a full minute without the database."""
    course = Course()
    if chat_database.is_sqlite:
        outage = partial(locked_file, chat_database.path)
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        outage = partial(stopped_server, server)

    report = await run(course, chat_database, tmp_path, outage)

    assert report.kills == course.kills
    assert report.resent > 0
    assert (report.missing, report.twice) == ([], 0)
    assert report.counted == report.sent == course.messages


@pytest.mark.parametrize("database_kind", [pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_recorders_that_are_frozen_and_go_on_beside_their_successors_lose_and_double_nothing(
    chat_database: Database, tmp_path: Path, database_kind: str
) -> None:
    """Wherever they stood, also in the middle of a transaction that the successor then waits for."""
    course = Course(kills=3, freezes=True)

    report = await run(course, chat_database, tmp_path, nullcontext)

    assert (report.kills, report.thaws) == (course.kills, course.kills)
    assert (report.missing, report.twice) == ([], 0)
    assert report.counted == report.sent == course.messages
