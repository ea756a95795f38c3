"""The feed of what happens: complete, in order for each broadcast, and never a burden."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from sqlalchemy import text

from support.clock import START, FakeClock
from support.web_site import Serve, Site, add_vod
from vodkeep.db.engine import Database
from vodkeep.db.events import EventLog
from vodkeep.errors import DatabaseUnavailable
from vodkeep.settings import load_settings
from vodkeep.web import feed as feed_module
from vodkeep.web.feed import MOST_MISSED, EventStream, Feed
from vodkeep.web.reading import DatabaseStatusReader
from vodkeep.web.schema import retry_config_of

pytestmark = pytest.mark.anyio

FEED = "/api/v1/events"


@dataclass
class Heard:
    """One event, or a comment."""

    event: str
    data: Any
    id: int | None = None


class Ear:
    """A client of the feed."""

    def __init__(self, answer: Any, clock: FakeClock) -> None:
        self._answer = answer
        self._clock = clock

    async def next(self) -> Heard:
        """The next event, as soon as it is there; time goes on until then."""
        heard = Heard("", None)
        while True:
            line = await self._line()
            name, _, value = line.partition(": ")
            match name:
                case "id":
                    heard.id = int(value)
                case "event":
                    heard.event = value
                case "data":
                    heard.data = json.loads(value)
                case "":
                    if value:
                        return Heard("comment", value)
                    if heard.event:
                        return heard

    async def until(self, event: str) -> Heard:
        """The next event of that kind."""
        while (heard := await self.next()).event != event:
            pass
        return heard

    async def _line(self) -> str:
        with anyio.fail_after(60):
            while True:
                with anyio.move_on_after(0.05):
                    line: bytes = await self._answer.content.readuntil(b"\n")
                    return line.decode().rstrip("\n")
                await self._clock.advance(0.5)


@asynccontextmanager
async def listening(site: Site, clock: FakeClock, last: int | None = None) -> AsyncIterator[Ear]:
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    async with site.get(FEED, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        yield Ear(answer, clock)


def happen(database: Database, sentence: str, vod_id: str | None = "1", number: int | None = None) -> int:
    with database.unit_of_work() as unit:
        log = EventLog(unit.connection)
        if number is None:
            log.append(vod_id, at=START, kind="state", to_state="done", sentence=sentence)
        else:
            statement = text("INSERT INTO events (id, twitch_vod_id, kind, sentence) VALUES (:id, :vod, 'late', :said)")
            unit.connection.execute(statement, {"id": number, "vod": vod_id, "said": sentence})
        unit.commit()
        return log.newest()


async def test_how_things_stand_and_then_what_happens(serve_site: Serve, database: Database, clock: FakeClock) -> None:
    happen(database, "before")
    async with serve_site() as site, listening(site, clock) as ear:
        assert (await ear.next()).data["pending"] == 0
        assert (await ear.next()) == Heard("progress", {"active": []})
        number = happen(database, "It is whole.")
        heard = await ear.until("timeline")
        assert (heard.id, heard.data["vod_id"], heard.data["sentence"]) == (number, "1", "It is whole.")
        add_vod(database, "2", download_state="downloading", download_bytes=50, download_total=100)
        assert (await ear.until("status")).data["pending"] == 1
        (active,) = (await ear.until("progress")).data["active"]
        assert (active["id"], active["progress"]["percent"]) == ("2", 50.0)


async def test_nothing_new_is_only_a_heartbeat(serve_site: Serve, clock: FakeClock) -> None:
    async with serve_site() as site, listening(site, clock) as ear:
        await ear.until("progress")
        began_s = clock.monotonic()
        assert (await ear.next()) == Heard("comment", "still here")
        assert clock.monotonic() - began_s >= 14


async def test_who_comes_back_gets_what_was_missed_and_no_more(
    serve_site: Serve, database: Database, clock: FakeClock
) -> None:
    async with serve_site() as site:
        had = happen(database, "had")
        missed = [happen(database, f"missed {n}") for n in range(3)]
        async with listening(site, clock, had) as ear:
            # The events of the last seconds come again, in case one of them was committed late.
            heard = {one.id for one in [await ear.until("timeline") for _ in range(4)]}
            assert heard == {had, *missed}
            number = happen(database, "now")
            assert (await ear.until("timeline")).id == number


async def test_an_event_that_was_committed_late_is_not_lost(
    serve_site: Serve, database: Database, clock: FakeClock
) -> None:
    with database.unit_of_work() as unit:
        # A number that was given out before, to a transaction that takes its time.
        unit.connection.execute(text("INSERT INTO events (id, twitch_vod_id, kind) VALUES (500, '1', 'state')"))
        unit.commit()
    async with serve_site() as site, listening(site, clock) as ear:
        await ear.until("progress")
        happen(database, "late", number=499)
        assert (await ear.until("timeline")).id == 499


@pytest.mark.parametrize("last", [10**9, 1])
async def test_who_missed_too_much_is_told_to_begin_anew(
    serve_site: Serve, database: Database, clock: FakeClock, last: int
) -> None:
    with database.unit_of_work() as unit:
        rows = [{"vod": str(number)} for number in range(MOST_MISSED + 5)]
        unit.connection.execute(text("INSERT INTO events (twitch_vod_id, kind) VALUES (:vod, 'state')"), rows)
        unit.commit()
    async with serve_site() as site, listening(site, clock, last) as ear:
        assert (await ear.next()) == Heard("reset", {})
        assert (await ear.next()).event == "status"


@pytest.mark.parametrize("last", ["-1", "x", "9" * 30])
async def test_what_is_no_id_is_refused(serve_site: Serve, last: str) -> None:
    async with serve_site() as site, site.get(FEED, headers={"Last-Event-ID": last}) as answer:
        assert answer.status == 422


async def test_it_is_behind_the_login(serve_site: Serve) -> None:
    async with serve_site(env={"ADMIN_TOKEN": "a-long-enough-token"}) as site, site.get(FEED) as answer:
        assert answer.status == 401


class Reader(DatabaseStatusReader):
    """Counts its questions, and may be told to refuse."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, [])
        self.asked = 0
        self.is_away = False

    async def events_after(self, number: int, *, limit: int) -> list[Any]:
        self.asked += 1
        if self.is_away:
            raise DatabaseUnavailable("The database does not answer.")
        return await super().events_after(number, limit=limit)


class Nothing:
    def progress(self) -> Mapping[str, Any]:
        return {}


async def nobody() -> list[Any]:
    return []


def feed_of(reader: Reader, clock: FakeClock) -> Feed:
    settings = load_settings({"TWITCH_CHANNEL": "otter"}, None)
    return Feed(reader, Nothing(), nobody, clock, retry=retry_config_of(settings.pipeline), version="1")


async def take(stream: AsyncIterator[bytes], clock: FakeClock, wanted: bytes) -> bytes:
    """Listen until something begins so; nothing when the stream ends before."""
    found: list[bytes] = []
    ended = anyio.Event()

    async def listen() -> None:
        with suppress(StopAsyncIteration):
            while not (chunk := await anext(stream)).partition(b"event: ")[2].startswith(wanted):
                pass
            found.append(chunk)
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        with anyio.fail_after(60):
            while not ended.is_set():
                await clock.advance(0.5)
                await anyio.sleep(0.01)
    return b"".join(found)


async def test_many_listeners_are_one_question(database: Database, clock: FakeClock) -> None:
    reader = Reader(database)
    feed = feed_of(reader, clock)
    streams = [feed.listen(None) for _ in range(20)]
    for stream in streams:
        assert (await anext(stream)).startswith(b"retry")
        assert b"status" in await anext(stream)
    assert reader.asked == 1


async def test_an_absent_database_is_told_and_its_return_too(database: Database, clock: FakeClock) -> None:
    reader = Reader(database)
    stream = feed_of(reader, clock).listen(None)
    await take(stream, clock, b"progress")
    reader.is_away = True
    assert b"does not answer" in await take(stream, clock, b"away")
    reader.is_away = False
    number = happen(database, "while it was away")
    assert f"id: {number}\n".encode() in await take(stream, clock, b"timeline")


async def test_a_client_that_is_too_slow_is_cut_off(
    database: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "_MEMORY", 5)
    feed = feed_of(Reader(database), clock)
    slow, quick = feed.listen(None), feed.listen(None)
    await take(slow, clock, b"progress")
    await take(quick, clock, b"progress")
    for number in range(8):
        happen(database, f"{number}")
        await take(quick, clock, b"timeline")
    assert await take(slow, clock, b"timeline") == b""


async def test_a_client_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "_SEND_LIMIT_S", 0.01)
    sent: list[Any] = []

    async def chunks() -> AsyncIterator[bytes]:
        while True:
            yield b"x"

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == 3:
            await anyio.sleep_forever()

    async def receive() -> Any:
        await anyio.sleep_forever()

    with anyio.fail_after(60):
        await EventStream(chunks())({"type": "http"}, receive, send)
    assert len(sent) == 3
