"""Chat over real sockets, on both databases: windows, segments, search, replay, and what nobody should send."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from sqlalchemy import URL, event

from support.chat_messages import START_MS, a_chatter, a_message, a_session, message_id
from support.clock import FakeClock
from support.web_site import Serve, Site, add_vod, problem
from vodkeep.chat.ids import MARGIN_MS
from vodkeep.chat.indexer import Indexer
from vodkeep.chat.model import ChatMessage, Kind
from vodkeep.chat.reading import ChatReader
from vodkeep.chat.search_index import forget, prepare
from vodkeep.chat.sessions import Session, SessionStore
from vodkeep.chat.store import insert_messages
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.errors import DatabaseUnavailable
from vodkeep.telemetry.log import get_logger

pytestmark = pytest.mark.anyio

VOD = "2500000001"
CHAT = f"/api/v1/vods/{VOD}/chat"


def put(database: Database, session: Session, *messages: ChatMessage) -> None:
    with database.unit_of_work() as unit:
        insert_messages(unit.connection, session, messages)
        unit.commit()


@pytest.fixture
def session(database: Database, chat_database: Database) -> Session:
    """The chat of an item whose picture began with its stream."""
    add_vod(database, VOD, title="A broadcast")
    return a_session(chat_database, "chan", vod_id=VOD, vod_offset_ms=-MARGIN_MS)


def end(database: Database, session: Session) -> None:
    with database.unit_of_work() as unit:
        SessionStore(unit.connection).end(session.id, START_MS)
        unit.commit()


async def index(database: Database) -> None:
    def make(unit: UnitOfWork) -> None:
        prepare(unit.connection)
        unit.commit()

    await database.run(make)
    while await Indexer(database, FakeClock(), get_logger("chat_index")).work():
        pass


async def test_windows_by_offset_and_cursor(serve_site: Serve, chat_database: Database, session: Session) -> None:
    put(chat_database, session, *(a_message(n, after_ms=n // 20 * 1000) for n in range(50)))
    async with serve_site() as site:
        found: list[str] = []
        answer = await site.json(f"{CHAT}?limit=7")
        while answer["messages"]:
            found += [each["body"] for each in answer["messages"]]
            assert {each["chatter"] for each in answer["messages"]} == set(answer["chatters"])
            answer = await site.json(f"{CHAT}?limit=7&cursor={answer['next']}")
        assert found == [f"message {n}" for n in range(50)]
        assert answer["next"] is not None, "more may be said"
        put(chat_database, session, a_message(99, after_ms=5000))
        assert [each["id"] for each in (await site.json(f"{CHAT}?cursor={answer['next']}"))["messages"]] == [
            message_id(99).replace("-", "").upper()
        ]
        end(chat_database, session)
        answer = await site.json(f"{CHAT}?offset_ms=2000")
        assert [answer["messages"][0]["offset_ms"], len(answer["messages"]), answer["next"]] == [2000, 11, None]
        async with site.get(f"{CHAT}?offset_ms=2000") as first:
            tag = first.headers["ETag"]
        assert (await site.get(f"{CHAT}?offset_ms=2000", headers={"If-None-Match": tag})).status == 304


async def test_a_message_taken_away_is_shown_both_ways(
    serve_site: Serve, chat_database: Database, session: Session
) -> None:
    clear = a_message(9, kind=Kind.CLEAR_USER, chatter=None, body="", extra={"target_user_id": "1"})
    put(chat_database, session, a_message(1, chatter=a_chatter(1)), a_message(2, chatter=a_chatter(2)), clear)
    async with serve_site() as site:
        seen = (await site.json(f"{CHAT}?as=seen"))["messages"]
        left = (await site.json(f"{CHAT}?as=moderated"))["messages"]
    assert [each["body"] for each in seen] == ["message 1", "message 2", ""]
    assert [(each["body"], each.get("removed")) for each in left] == [("", True), ("message 2", None), ("", None)]


async def test_histogram_person_and_search(serve_site: Serve, chat_database: Database, session: Session) -> None:
    put(chat_database, session, *(a_message(n, after_ms=n * 1000, chatter=a_chatter(n % 3)) for n in range(90)))
    foreign = a_session(chat_database, "other", stream_id="s2", base_ms=session.base_ms + 3_600_000)
    put(chat_database, foreign, a_message(200, sent_ms=START_MS + 3_600_000, channel="other", body="message elsewhere"))
    async with serve_site() as site:
        assert (await site.json(f"{CHAT}/histogram?bucket_s=30")) == {
            "bucket_ms": 30_000, "buckets": [[0, 30], [30_000, 30], [60_000, 30]],
        }  # fmt: skip
        async with site.get(f"{CHAT}/search?q=message") as answer:
            await problem(answer, 503, "search_not_ready")
        end(chat_database, session)
        end(chat_database, foreign)
        await index(chat_database)
        page = await site.json(f"{CHAT}/users/User1?limit=20")
        rest = await site.json(f"{CHAT}/users/User1?limit=20&cursor={page['next']}")
        assert [hit["offset_ms"] for hit in page["items"] + rest["items"]] == [n * 1000 for n in range(1, 90, 3)]
        assert rest["next"] is None
        found = await site.json(f"{CHAT}/search", params={"q": '"message 41"'})
        assert found["complete"]
        (hit,) = found["items"]
        assert {name: hit[name] for name in ("vod_id", "title", "channel", "offset_ms", "login", "snippet")} == {
            "vod_id": VOD, "title": "A broadcast", "channel": "chan", "offset_ms": 41_000, "login": "user2",
            "snippet": "message 41",
        }  # fmt: skip
        everywhere = await site.json("/api/v1/chat/search?q=message&limit=2")
        assert [(each["channel"], each["title"], each["offset_ms"]) for each in everywhere["items"]] == [
            ("other", None, None), ("chan", "A broadcast", 89_000),
        ]  # fmt: skip
        since = datetime.fromtimestamp(START_MS / 1000 + 1800, UTC).isoformat()
        later = await site.json("/api/v1/chat/search", params={"q": "message", "since": since})
        assert [each["channel"] for each in later["items"]] == ["other"]
        assert (await site.json("/api/v1/chat/search?q=message&channel=CHAN&user=user1"))["items"]


async def test_segments_of_a_finished_broadcast_are_kept_until_something_changes(
    serve_site: Serve, chat_database: Database, session: Session
) -> None:
    put(chat_database, session, *(a_message(n + 5, after_ms=n * 1000) for n in range(-5, 130)))
    async with serve_site() as site:
        async with site.get(f"{CHAT}/segments/0") as answer:
            assert "ETag" not in answer.headers, "it is still recorded"
            assert len((await answer.json())["messages"]) == 60
        end(chat_database, session)
        tags = []
        for number, count in ((0, 60), (1, 60), (2, 10), (3, 0)):
            async with site.get(f"{CHAT}/segments/{number}") as answer:
                found = await answer.json()
                tags.append(answer.headers["ETag"])
                assert (len(found["messages"]), found["next"]) == (count, None)
        assert len(set(tags)) == 4
        assert not tags[0].startswith("W/")
        known = {"If-None-Match": tags[0]}
        async with site.get(f"{CHAT}/segments/0", headers=known) as answer:
            assert (answer.status, await answer.read()) == (304, b"")
        assert (await site.get(f"{CHAT}/segments/0?as=moderated", headers=known)).status == 200
        put(chat_database, session, a_message(1000, after_ms=500))
        assert (await site.get(f"{CHAT}/segments/0", headers=known)).status == 200
        async with site.get(f"{CHAT}/segments/0") as answer:
            known = {"If-None-Match": answer.headers["ETag"]}
        with chat_database.unit_of_work() as unit:
            forget(unit.connection, [session.id << 32])
            unit.commit()
        assert (await site.get(f"{CHAT}/segments/0", headers=known)).status == 200, "something was erased"


# --- replay --------------------------------------------------------------------------------------------------------


@dataclass
class Heard:
    """An event of a stream; a comment has only text."""

    id: str = ""
    event: str = ""
    data: Any = None
    comment: str = ""


@asynccontextmanager
async def replaying(site: Site, query: str = "", **headers: str) -> AsyncIterator[Any]:
    """A replay; call what it yields for the next event."""
    async with site.get(f"{CHAT}/replay{query}", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Content-Type"].startswith("text/event-stream")

        async def following() -> Heard | None:
            heard = Heard()
            with anyio.fail_after(60):
                while line := (await answer.content.readuntil(b"\n")).decode().rstrip("\n"):
                    name, _, value = line.partition(": ")
                    match name:
                        case "id":
                            heard.id = value
                        case "event":
                            heard.event = value
                        case "data":
                            heard.data = json.loads(value)
                        case "":
                            heard.comment = value
                        case "retry":
                            assert int(value) > 0
            return heard

        first = await following()
        assert first == Heard()
        yield following


def said(heard: Heard) -> list[str]:
    assert heard.event == "messages", heard
    assert {each["chatter"] for each in heard.data["messages"]} == set(heard.data["chatters"])
    return [each["body"] for each in heard.data["messages"]]


async def test_replay_keeps_time_is_coalesced_and_ends(
    serve_site: Serve, chat_database: Database, session: Session, clock: FakeClock
) -> None:
    times = [0, 100, 240, 1000, 1010, 1020, 60_000]
    put(chat_database, session, *(a_message(n, after_ms=at) for n, at in enumerate(times)))
    end(chat_database, session)
    async with serve_site() as site, replaying(site) as following:
        assert said(await following()) == ["message 0"]
        await clock.until_sleeping()
        await clock.advance(0.25)
        assert said(await following()) == ["message 1", "message 2"]
        await clock.until_sleeping()
        await clock.advance(0.74)
        assert clock.sleeping == 1, "nothing is due yet"
        await clock.advance(0.25)
        assert said(await following()) == ["message 3"]
        await clock.until_sleeping()
        await clock.advance(0.25)
        assert said(await following()) == ["message 4", "message 5"]
        beats = 0
        while True:
            await clock.until_sleeping()
            await clock.advance(5)
            if clock.monotonic() % 15 < 5 and clock.monotonic() < 60:
                heard = await following()
                assert heard.comment == "still here"
                beats += 1
            if clock.monotonic() > 61:
                break
        assert beats >= 2
        heard = await following()
        while heard.comment:
            heard = await following()
        assert said(heard) == ["message 6"]
        heard = await following()
        assert (heard.event, heard.data) == ("end", {"offset_ms": 60_000})


async def test_replay_goes_on_behind_the_last_event_at_another_speed(
    serve_site: Serve, chat_database: Database, session: Session, clock: FakeClock
) -> None:
    put(chat_database, session, *(a_message(n, after_ms=n // 2 * 1000) for n in range(20)))
    end(chat_database, session)
    async with serve_site() as site:
        async with replaying(site, "?offset_ms=1000") as following:
            heard = await following()
            assert said(heard) == ["message 2", "message 3"]
        async with replaying(site, "?speed=2&offset_ms=1000", **{"Last-Event-ID": heard.id}) as following:
            await clock.until_sleeping()
            await clock.advance(0.5)
            assert said(await following()) == ["message 4", "message 5"]


async def test_replay_of_a_live_broadcast_goes_on_until_it_ends_and_holds_no_connection(
    serve_site: Serve, chat_database: Database, session: Session, clock: FakeClock
) -> None:
    put(chat_database, session, a_message(0, after_ms=0))
    async with serve_site() as site:
        open_now: list[int] = [0]
        served = site.deps.chat._database._engine
        event.listen(served, "checkout", lambda *_: open_now.__setitem__(0, open_now[0] + 1))
        event.listen(served, "checkin", lambda *_: open_now.__setitem__(0, open_now[0] - 1))
        async with replaying(site, "?speed=100") as following:
            assert said(await following()) == ["message 0"]
            for number in (1, 2):
                await clock.until_sleeping()
                await clock.advance(3)
                await clock.until_sleeping()
                assert open_now == [0]
                put(chat_database, session, a_message(number, after_ms=number * 1000))
                await clock.advance(1)
                heard = await following()
                while heard.comment:
                    heard = await following()
                assert said(heard) == [f"message {number}"]
            end(chat_database, session)
            await clock.until_sleeping()
            await clock.advance(1)
            await clock.until_sleeping(0)
            assert (await following()).event == "end"


async def test_replay_outlives_an_absence_of_the_database(
    serve_site: Serve, chat_database: Database, session: Session, clock: FakeClock
) -> None:
    put(chat_database, session, *(a_message(n, after_ms=n) for n in range(600)))
    end(chat_database, session)
    away = [False]

    class Flaky(ChatReader):
        async def piece(self, *arguments: Any, **options: Any) -> Any:
            if away[0]:
                raise DatabaseUnavailable("It is away.")
            return await super().piece(*arguments, **options)

    async with serve_site(chat=Flaky(chat_database)) as site, replaying(site, "?speed=100") as following:
        heard = said(await following())
        away[0] = True
        while len(heard) < 500:
            await clock.until_sleeping()
            await clock.advance(0.25)
            heard += said(await following())
        await clock.until_sleeping()
        await clock.advance(20)
        await clock.until_sleeping()
        away[0] = False
        await clock.advance(2)
        while len(heard) < 600:
            one = await following()
            heard += [] if one.comment else said(one)
        assert heard == [f"message {n}" for n in range(600)]


# --- what is refused -----------------------------------------------------------------------------------------------


def nowhere() -> Database:
    return Database(URL.create("postgresql", username="u", password="p", host="127.0.0.1", port=9))


NUMBERS = (
    "-1",
    "NaN",
    "1e400",
    "inf",
    "99999999999999999999999",
    "x",
    "",
    "1.5",
    "%00",
    "1%00",
    "%D9%A3",
    "0x10",
    "null",
)
BAD: list[tuple[str, tuple[str, ...]]] = [
    ("?offset_ms={}", NUMBERS),
    ("?limit={}", (*NUMBERS, "0", "2001")),
    ("?cursor={}", ("-1", "NaN", "x", "1.5", "9" * 30, str(2**63), "%00", "%D9%A3", "1%00", "4294967296000")),
    ("?as={}", ("", "x", "SEEN", "%00")),
    ("/histogram?bucket_s={}", (*NUMBERS, "0", "5", "15", "86410")),
    ("/segments/{}", tuple(each for each in NUMBERS if each)),
    ("/users/{}", ("a%00", "a-b", "%F0%9F%8E%89", "a" * 51)),
    ("/users/a?limit={}", (*NUMBERS, "201")),
    ("/search?q={}", ("", "...", "%00", "x" * 301)),
    ("/search?q=a&user={}", ("", "%00", "a%20b", "a" * 51)),
    ("/search?q=a&offset_ms={}", NUMBERS),
    ("/search?q=a&until_ms={}", NUMBERS),
    ("/search?q=a&cursor={}", ("x", "-1", "9" * 19, "4294967296000")),
    ("/replay?speed={}", ("0", "-1", "NaN", "nan", "inf", "1e400", "101", "x", "", "%00")),
    ("/replay?offset_ms={}", NUMBERS),
    ("//chat/search?q=a&channel={}", ("", "%00", "a%20b")),
    ("//chat/search?q=a&since={}", ("x", "NaN", "2026-11-23", "2026-11-23T12:00:00", "99999999999999999", "%00")),
    ("//chat/search?q=a&until={}", ("", "10000-01-01T00:00:00Z", "0000-01-01T00:00:00Z")),
    ("//chat/search?q=a&cursor={}", ("x", "9" * 19, "4294967296000")),
]  # fmt: skip


async def test_nothing_that_is_sent_is_an_error_of_ours(
    serve_site: Serve, chat_database: Database, session: Session
) -> None:
    put(chat_database, session, a_message(1))
    end(chat_database, session)
    await index(chat_database)
    async with serve_site() as site:
        wrong = {}
        for template, values in BAD:
            for value in values:
                path = template.format(value)
                path = "/api/v1" + path[1:] if path.startswith("//") else CHAT + path
                answer = (
                    await site.raw(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
                ).decode()
                status = int(answer.split(" ", 2)[1])
                if status not in (400, 404, 422) or "application/problem+json" not in answer:
                    wrong[path] = status
        assert wrong == {}
        for header in ("x", "-1", "9" * 40, "4294967296000"):
            async with site.get(f"{CHAT}/replay", headers={"Last-Event-ID": header}) as answer:
                assert answer.status == 422


async def test_broadcasts_without_chat_and_those_that_are_none(
    serve_site: Serve, database: Database, chat_database: Database
) -> None:
    add_vod(database, "2500000002")
    await index(chat_database)
    async with serve_site() as site:
        silent = "/api/v1/vods/2500000002/chat"
        assert await site.json(silent) == {"messages": [], "chatters": {}, "next": None}
        assert (await site.json(f"{silent}/histogram"))["buckets"] == []
        assert (await site.json(f"{silent}/segments/0"))["messages"] == []
        assert (await site.json(f"{silent}/search?q=a"))["items"] == []
        assert (await site.json(f"{silent}/users/a"))["items"] == []
        async with site.get(f"{silent}/replay") as answer:
            await problem(answer, 404, "no_chat")
        for path in ("", "/histogram", "/segments/0", "/search?q=a", "/users/a"):
            for vod_id in ("404", "a%00b", "x" * 65):
                async with site.get(f"/api/v1/vods/{vod_id}/chat{path}") as answer:
                    assert answer.status == 404, (vod_id, path)


async def test_without_the_database_each_answer_is_a_503(serve_site: Serve) -> None:
    away = nowhere()
    async with serve_site(chat=ChatReader(away)) as site:
        for path in ("", "/histogram", "/segments/0", "/search?q=a", "/users/a", "/replay"):
            async with site.get(CHAT + path) as answer:
                await problem(answer, 503, "database")
        async with site.get("/api/v1/chat/search?q=a") as answer:
            await problem(answer, 503, "database")
    away.dispose()


async def test_chat_is_behind_the_login(serve_site: Serve) -> None:
    async with serve_site(env={"ADMIN_TOKEN": "letmein-0123456789abcdef"}) as site:
        for path in (CHAT, f"{CHAT}/replay", f"{CHAT}/segments/0", "/api/v1/chat/search?q=a"):
            assert (await site.get(path)).status == 401


async def test_messages_are_as_the_document_says(serve_site: Serve, chat_database: Database, session: Session) -> None:
    put(
        chat_database,
        session,
        a_message(1),
        a_message(2, kind=Kind.USER_NOTICE, emotes="25:0-4", reply_to=message_id(1), extra={"bits": 5}),
        a_message(9, kind=Kind.CLEAR_CHAT, chatter=None, body=""),
    )
    async with serve_site() as site:
        schemas = (await site.json("/openapi.json"))["components"]["schemas"]
        for view in ("seen", "moderated"):
            answer = await site.json(f"{CHAT}?as={view}")
            for message in answer["messages"]:
                described = schemas["ChatMessageJson"]
                assert set(described["required"]) <= set(message) <= set(described["properties"])
                assert message.get("kind", "message") in described["properties"]["kind"]["enum"]
            for chatter in answer["chatters"].values():
                assert set(chatter) == set(schemas["ChatterJson"]["properties"])
