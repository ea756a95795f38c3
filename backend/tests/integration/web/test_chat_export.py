"""A chat as a file, over HTTP."""

from __future__ import annotations

import json

import pytest

from support.web_site import Serve
from vodkeep.chat.comment_pages import Comment, message_of
from vodkeep.chat.fill import Broadcast, merge_into_item
from vodkeep.chat.model import Chatter
from vodkeep.db.engine import Database

pytestmark = pytest.mark.anyio

START_MS = 1_795_435_200_000
EXPORT = "/api/v1/vods/1/chat/export"


@pytest.fixture
def chat(database: Database, chat_database: Database) -> int:
    """A broadcast with more messages than a page; how many."""
    with database.unit_of_work() as unit:
        unit.connection.exec_driver_sql(
            "INSERT INTO vods (twitch_vod_id, channel, title, date, duration_seconds)"
            " VALUES ('1', 'lumen', 'Evening', '2026-11-23T12:00:00.000000Z', 3600)"
        )
        unit.commit()
    who = Chatter("7", "moss", "Moss", "", "")
    messages = [
        message_of(Comment(f"id-{number}", number, None, who, f"line {number}", ""), channel="lumen", start_ms=START_MS)
        for number in range(3000)
    ]
    with chat_database.unit_of_work() as unit:
        merge_into_item(unit.connection, Broadcast("1", "lumen", None, START_MS, 3_600_000), messages)
        unit.commit()
    return len(messages)


async def test_a_chat_is_exported_in_a_form_that_is_asked_for(serve_site: Serve, chat: int) -> None:
    async with serve_site() as site:
        async with site.get(EXPORT) as answer:
            lines = (await answer.read()).splitlines()
            assert answer.headers["Content-Type"] == "application/x-ndjson"
            assert answer.headers["Content-Disposition"] == 'attachment; filename="1-chat.ndjson"'
        assert len(lines) == chat + 1
        assert json.loads(lines[-1])["id"] == f"id-{chat - 1}"
        async with site.get(f"{EXPORT}?format=txt") as answer:
            assert (await answer.text()).splitlines()[61] == "[0:01:01] Moss: line 61"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        pytest.param(f"{EXPORT}?format=docx", 422, None, id="unknown form"),
        pytest.param("/api/v1/vods/2/chat/export", 404, "unknown_vod", id="no such broadcast"),
        pytest.param("/api/v1/vods/..%2f/chat/export", 404, None, id="no id"),
    ],
)
async def test_what_cannot_be_exported_is_a_problem(
    serve_site: Serve, chat: int, path: str, status: int, code: str | None
) -> None:
    async with serve_site() as site, site.get(path) as answer:
        assert answer.status == status
        assert code is None or (await answer.json())["code"] == code
