"""Gaps of an item's chat are filled from comments, once, and completeness is known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
from sqlalchemy import text

from vodkeep.chat.comment_pages import Comment, Taken, message_of
from vodkeep.chat.erasure import ErasureStore
from vodkeep.chat.fill import Broadcast, ChatFiller, Filled
from vodkeep.chat.model import Chatter, Source
from vodkeep.chat.sessions import SessionStore, base_of
from vodkeep.chat.store import insert_messages
from vodkeep.chat.walk import load_sessions, walk
from vodkeep.db.engine import Database
from vodkeep.errors import NetworkError, PermanentError
from vodkeep.telemetry.log import get_logger

pytestmark = pytest.mark.anyio

START_MS = 1_795_435_200_000
LENGTH_MS = 600_000
ITEM = Broadcast("2600000001", "lumen", "4242", START_MS, LENGTH_MS)


def comment(number: int) -> Comment:
    """Number 17 is said 17.25 s into the broadcast."""
    who = Chatter(str(100 + number % 7), f"user{number % 7}", f"User{number % 7}", "", "")
    return Comment(
        f"00000000-0000-4000-8000-{number:012d}", number, START_MS + number * 1000 + 250, who, f"line {number}", ""
    )


@dataclass
class Shelf:
    """A comment each second, in pages of 20."""

    fails_after: int | None = None
    error: Exception = field(default_factory=lambda: NetworkError("Twitch does not answer."))
    holes: list[tuple[int, int]] = field(default_factory=list)
    asked: list[tuple[int, int]] = field(default_factory=list)

    async def read(self, video_id: str, start_ms: int, end_ms: int) -> AsyncIterator[Taken]:
        assert video_id == ITEM.vod_id
        self.asked.append((start_ms, end_ms))
        first, last = start_ms // 1000, -(-end_ms // 1000)
        for number, begin in enumerate(range(first, last, 20)):
            if number == self.fails_after:
                raise self.error
            end = min(begin + 20, last)
            holes = [hole for hole in self.holes if begin * 1000 <= hole[0] < end * 1000]
            yield Taken([comment(second) for second in range(begin, end)], end * 1000, holes)


def filler(database: Database, shelf: Shelf | None) -> ChatFiller:
    return ChatFiller(database, shelf, get_logger("test"))


def numbers(database: Database) -> list[int]:
    return [int(each.message.body.split()[1]) for each in walk(database, load_sessions(database, ITEM.vod_id))]


def record(database: Database, first: int, last: int, *, offset_ms: int = 0) -> None:
    """What a recorder has that was in the channel from ``first`` to ``last``, seconds."""
    with database.unit_of_work() as unit:
        store = SessionStore(unit.connection)
        session = store.open("lumen", base_ms=base_of(START_MS - 20_000), stream_id="4242", vod_offset_ms=offset_ms)
        insert_messages(
            unit.connection,
            session,
            [message_of(comment(number), channel="lumen", start_ms=START_MS) for number in range(first, last)],
        )
        store.end(session.id, START_MS + LENGTH_MS + 5_000)
        unit.connection.execute(
            text(
                "INSERT INTO chat_spans (channel, started_ms, ended_ms, seen_ms, reason, recorder)"
                " VALUES ('lumen', :start, :end, :end, '', 'r')"
            ),
            {"start": START_MS + first * 1000, "end": START_MS + last * 1000},
        )
        unit.commit()


async def test_an_item_without_a_recording_gets_its_whole_chat(chat_database: Database) -> None:
    shelf = Shelf()
    filled = await filler(chat_database, shelf).fill(ITEM)
    assert filled == Filled(messages=600, completeness=1.0, gaps=(), added=600)
    assert numbers(chat_database) == list(range(600))
    placed = list(walk(chat_database, load_sessions(chat_database, ITEM.vod_id), page=7))
    assert [each.offset_ms for each in placed] == [number * 1000 + 250 for number in range(600)]
    assert {each.message.source for each in placed} == {Source.VOD}
    assert placed[3].message.chatter == comment(3).chatter
    # Nothing is left to ask for.
    assert await filler(chat_database, shelf).fill(ITEM) == Filled(messages=600, completeness=1.0)
    assert len(shelf.asked) == 1


async def test_only_the_gaps_are_asked_for_and_nothing_comes_twice(chat_database: Database) -> None:
    record(chat_database, 100, 300)
    shelf = Shelf()
    filled = await filler(chat_database, shelf).fill(ITEM)
    # The recorder counts from 5 s after it joined until 5 s before it left.
    assert shelf.asked == [(0, 105_000), (294_000, 600_000)]
    assert (filled.messages, filled.completeness, filled.added) == (600, 1.0, 400)
    assert numbers(chat_database) == list(range(600))
    [session] = load_sessions(chat_database, ITEM.vod_id)
    assert session.stream_id == "4242"


async def test_what_came_before_a_stream_was_noticed_is_not_recorded(chat_database: Database) -> None:
    """Though somebody was in the channel all the time."""
    record(chat_database, 0, 600)
    with chat_database.unit_of_work() as unit:
        store = SessionStore(unit.connection)
        session = store.by_stream("lumen", "4242")
        assert session is not None
        store.note_beginning(session.id, START_MS + 240_000)
        store.note_beginning(session.id, START_MS + 300_000)
        unit.commit()
    shelf = Shelf()
    filled = await filler(chat_database, shelf).fill(ITEM)
    assert shelf.asked == [(0, 240_000), (594_000, 600_000)]
    assert filled.completeness == 1.0
    unread = await filler(chat_database, None).fill(replace(ITEM, vod_id="2600000002"))
    assert unread.completeness == pytest.approx(355 / 600)


async def test_a_recording_is_laid_to_the_picture(chat_database: Database) -> None:
    record(chat_database, 0, 600, offset_ms=77)
    await filler(chat_database, Shelf()).fill(ITEM)
    placed = next(iter(walk(chat_database, load_sessions(chat_database, ITEM.vod_id))))
    assert placed.offset_ms == 250


async def test_what_is_said_behind_a_pause_of_the_picture_lies_where_it_is_seen(chat_database: Database) -> None:
    """The picture of 600 s took 700 s to broadcast; the recorder left 50 s before its end."""
    paused = replace(ITEM, pauses=((200_000, 300_000),))
    record(chat_database, 0, 650)
    with chat_database.unit_of_work() as unit:
        session = SessionStore(unit.connection).by_stream("lumen", "4242")
        assert session is not None
        SessionStore(unit.connection).reopen(session)
        SessionStore(unit.connection).end(session.id, START_MS + 700_000)
        unit.commit()
    shelf = Shelf()
    filled = await filler(chat_database, shelf).fill(paused)
    assert shelf.asked == [(0, 5_000), (544_000, 600_000)]
    assert filled.completeness == 1.0
    offsets = {
        int(each.message.body.split()[1]): each.offset_ms
        for each in walk(chat_database, load_sessions(chat_database, ITEM.vod_id))
    }
    assert [offsets[number] for number in (199, 200, 299, 300, 649)] == [199_250, 200_000, 200_000, 200_250, 549_250]


async def test_what_was_read_before_a_failure_is_not_read_again(chat_database: Database) -> None:
    shelf = Shelf(fails_after=55)
    long = Broadcast("2600000001", "lumen", None, START_MS, 2_000_000)
    with pytest.raises(NetworkError):
        await filler(chat_database, shelf).fill(long)
    shelf.fails_after = None
    filled = await filler(chat_database, shelf).fill(long)
    assert (filled.messages, filled.completeness, filled.added) == (2000, 1.0, 1000)
    assert shelf.asked == [(0, 2_000_000), (999_000, 2_000_000)]


async def test_the_last_chance_goes_on_with_what_there_is_and_says_why(chat_database: Database) -> None:
    record(chat_database, 0, 300)
    filled = await filler(chat_database, Shelf(fails_after=0)).fill(ITEM, last_chance=True)
    assert isinstance(filled.reason, NetworkError)
    assert (filled.messages, filled.gaps) == (300, ((0, 5_000), (295_000, 600_000)))
    assert filled.completeness == pytest.approx(290 / 600)


@pytest.mark.parametrize("code", ["deleted", "chat_not_offered"])
async def test_a_chat_that_is_not_to_be_had_is_a_reason_and_no_error(chat_database: Database, code: str) -> None:
    shelf = Shelf(fails_after=0, error=PermanentError("It is not to be had.", code=code))
    filled = await filler(chat_database, shelf).fill(ITEM)
    assert filled.reason is not None
    assert (filled.reason.code, filled.messages, filled.completeness) == (code, 0, 0.0)


async def test_without_comments_and_without_a_vod_the_reason_is_told(chat_database: Database) -> None:
    off = await filler(chat_database, None).fill(ITEM)
    assert off.reason is not None
    assert off.reason.code == "chat_import_off"
    placeholder = Broadcast("live-1795435200", "lumen", None, START_MS, LENGTH_MS)
    none = await filler(chat_database, Shelf()).fill(placeholder)
    assert none.reason is not None
    assert none.reason.code == "no_vod"


async def test_a_hole_keeps_the_chat_from_being_complete(chat_database: Database) -> None:
    filled = await filler(chat_database, Shelf(holes=[(40_000, 41_000)])).fill(ITEM)
    assert filled.gaps == ((40_000, 41_000),)
    assert filled.completeness == pytest.approx(599 / 600)
    assert filled.reason is not None
    assert filled.reason.code == "chat_too_dense"


async def test_what_was_erased_does_not_come_back(chat_database: Database) -> None:
    with chat_database.unit_of_work() as unit:
        ErasureStore(unit.connection).add(user_ids={"103"}, logins={"user4"}, until_ms=START_MS + 300_000)
        unit.commit()
    await filler(chat_database, Shelf()).fill(ITEM)
    gone = {number for number in range(300) if number % 7 in (3, 4)}
    assert set(numbers(chat_database)) == set(range(600)) - gone
