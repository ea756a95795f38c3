"""Windows on an item's chat, what moderators took away, and how busy it was; on both databases."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.chat_messages import START_MS, a_chatter, a_message, a_session, message_id
from vodkeep.chat.ids import MARGIN_MS
from vodkeep.chat.model import ChatMessage, Kind, Source
from vodkeep.chat.places import BadCursor
from vodkeep.chat.reading import ChatReader, View, Window
from vodkeep.chat.sessions import Session, SessionStore, base_of
from vodkeep.chat.store import insert_messages
from vodkeep.db import migrate
from vodkeep.db.engine import Database
from vodkeep.errors import DatabaseUnavailable

pytestmark = pytest.mark.anyio

VOD = "2500000001"


def put(database: Database, session: Session, *messages: ChatMessage) -> None:
    with database.unit_of_work() as unit:
        insert_messages(unit.connection, session, messages)
        unit.commit()


def end(database: Database, *sessions: Session) -> None:
    with database.unit_of_work() as unit:
        for session in sessions:
            SessionStore(unit.connection).end(session.id, START_MS)
        unit.commit()


def item_session(database: Database, **changes: object) -> Session:
    """A session whose picture began with its stream."""
    return a_session(database, "chan", **{"vod_id": VOD, "vod_offset_ms": -MARGIN_MS, **changes})


def told(window: Window | None) -> list[dict[str, Any]]:
    assert window is not None
    messages: list[dict[str, Any]] = json.loads(b"[" + window.messages + b"]")
    assert len(messages) == window.count
    json.loads(window.chatters)
    return messages


def bodies(window: Window | None) -> list[str]:
    return [each["body"] for each in told(window)]


async def walk(reader: ChatReader, *, limit: int, view: View = View.SEEN, **where: Any) -> list[dict[str, Any]]:
    """Every page from there on."""
    messages: list[dict[str, Any]] = []
    window = await reader.window(VOD, limit=limit, view=view, **where)
    while window is not None and window.count:
        assert window.count <= limit
        messages += told(window)
        window = await reader.window(VOD, limit=limit, view=view, cursor=str(window.last))
    return messages


async def test_a_message_is_told_with_all_it_has(chat_database: Database) -> None:
    session = item_session(chat_database)
    who = a_chatter(5, display_name="ユーザー", badges="broadcaster/1,subscriber/12")
    put(
        chat_database,
        session,
        a_message(1, chatter=who, body='plain " \\ \n \x01 🎉'),
        a_message(
            2, chatter=who, body="fancy", emotes="25:0-4", kind=Kind.ACTION, reply_to=message_id(1),
            extra={"bits": 100, "reply_body": "plain"}, source=Source.VOD,
        ),
        a_message(3, chatter=None, body="", kind=Kind.CLEAR_CHAT),
    )  # fmt: skip
    window = await ChatReader(chat_database).window(VOD, limit=10)
    plain, fancy, clear = told(window)
    assert window is not None
    number = str(who.key())
    hexadecimal = {n: message_id(n).replace("-", "").upper() for n in (1, 2, 3)}
    assert plain == {"id": hexadecimal[1], "offset_ms": 1, "chatter": number, "body": 'plain " \\ \n \x01 🎉'}
    assert fancy == {
        "id": hexadecimal[2], "offset_ms": 2, "chatter": number, "body": "fancy", "kind": "action", "source": "vod",
        "emotes": "25:0-4", "reply_to": hexadecimal[1], "extra": {"bits": 100, "reply_body": "plain"},
    }  # fmt: skip
    assert (clear["kind"], clear["chatter"]) == ("clear_chat", None)
    assert json.loads(window.chatters) == {
        number: {"user_id": "5", "login": "user5", "name": "ユーザー", "color": "#FF0000", "badges": who.badges}
    }


PAUSES = ((10_000, 25_000), (40_000, 41_000))


def pause(database: Database, *sessions: Session) -> None:
    with database.unit_of_work() as unit:
        for session in sessions:
            SessionStore(unit.connection).link(session.id, VOD, session.vod_offset_ms, PAUSES)
        unit.commit()


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_where_the_picture_stood_still_the_chat_waits_for_it(chat_database: Database, limit: int) -> None:
    first, second = item_session(chat_database), item_session(chat_database, stream_id="s2")
    put(chat_database, first, *(a_message(n, after_ms=n * 1000) for n in range(0, 60, 2)))
    put(chat_database, second, *(a_message(n, after_ms=n * 1000) for n in range(1, 60, 2)))
    pause(chat_database, first, second)
    reader = ChatReader(chat_database)
    found = await walk(reader, limit=limit)
    places = {int(each["body"].split()[1]): each["offset_ms"] // 1000 for each in found}
    assert len(found) == len(places) == 60, "none is lost and none comes twice"
    assert list(places.values()) == sorted(places.values())
    assert [places[n] for n in (10, 11, 24, 25, 26, 40, 41, 42, 59)] == [10, 10, 10, 10, 11, 25, 25, 26, 43]
    at_the_seam = {f"message {n}" for n in range(10, 26)}
    assert set(bodies(await reader.window(VOD, limit=100, offset_ms=10_000, until_ms=10_001))) == at_the_seam
    assert set(bodies(await reader.window(VOD, limit=100, offset_ms=10_001, until_ms=11_001))) == {"message 26"}
    activity = await reader.activity(VOD, width_ms=10_000)
    assert activity is not None
    # Counts are of ten seconds by the clock, each where its middle lies.
    assert sum(count for _, count in json.loads(activity)) == 60
    assert [slot for slot, _ in json.loads(activity)] == [0, 10_000, 20_000, 30_000]


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
async def test_pages_of_any_size_lose_and_repeat_nothing_where_many_share_a_millisecond(
    chat_database: Database, limit: int
) -> None:
    session = item_session(chat_database)
    put(chat_database, session, *(a_message(n, after_ms=n // 20 * 1000) for n in range(60)))
    found = await walk(ChatReader(chat_database), limit=limit)
    assert [each["body"] for each in found] == [f"message {n}" for n in range(60)]


async def test_a_window_begins_at_any_offset_and_ends_before_another(chat_database: Database) -> None:
    session = item_session(chat_database)
    put(chat_database, session, a_message(0, after_ms=-5000), *(a_message(n, after_ms=n * 1000) for n in range(1, 10)))
    reader = ChatReader(chat_database)
    assert bodies(await reader.window(VOD, limit=2)) == ["message 0", "message 1"]
    assert bodies(await reader.window(VOD, limit=2, offset_ms=0)) == ["message 1", "message 2"]
    assert bodies(await reader.window(VOD, limit=2, offset_ms=3001)) == ["message 4", "message 5"]
    assert bodies(await reader.window(VOD, limit=9, offset_ms=3000, until_ms=5000)) == ["message 3", "message 4"]
    assert bodies(await reader.window(VOD, limit=9, offset_ms=2**40)) == []
    assert await reader.window("another", limit=9) is None


async def test_moving_a_chat_moves_its_offsets_and_keeps_its_cursors(chat_database: Database) -> None:
    session = item_session(chat_database)
    put(chat_database, session, *(a_message(n, after_ms=n * 1000) for n in range(5)))
    reader = ChatReader(chat_database)
    first = await reader.window(VOD, limit=2)
    with chat_database.unit_of_work() as unit:
        SessionStore(unit.connection).link(session.id, VOD, 7000 - MARGIN_MS)
        unit.commit()
    assert first is not None
    found = told(await reader.window(VOD, limit=2, cursor=str(first.last)))
    assert [(each["body"], each["offset_ms"]) for each in found] == [("message 2", 9000), ("message 3", 10000)]


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
async def test_several_sessions_of_an_item_are_one_chat_in_the_order_of_time(
    chat_database: Database, limit: int
) -> None:
    """One broadcast interrupted, and a file that overlaps the second part."""
    first = item_session(chat_database)
    second = item_session(
        chat_database, stream_id="s2", base_ms=base_of(START_MS + 60_000), vod_offset_ms=60_000 - MARGIN_MS
    )
    third = item_session(
        chat_database, stream_id=None, base_ms=START_MS + 61_000, vod_offset_ms=61_000, source=Source.IMPORT
    )
    put(chat_database, first, *(a_message(n, after_ms=n * 1000) for n in range(10)))
    put(chat_database, second, *(a_message(n, after_ms=n * 1000) for n in range(60, 75)))
    put(chat_database, third, *(a_message(100 + n, after_ms=n * 1000) for n in range(61, 70)))
    found = await walk(ChatReader(chat_database), limit=limit)
    keys = [(each["offset_ms"], each["body"]) for each in found]
    assert [key[0] for key in keys] == sorted(key[0] for key in keys)
    assert len(set(keys)) == len(keys) == 10 + 15 + 9
    begun = await ChatReader(chat_database).window(VOD, limit=100, offset_ms=64_000)
    assert len(bodies(begun)) == 11 + 6


async def test_cursors_that_are_none_of_this_chat_are_refused(chat_database: Database) -> None:
    session = item_session(chat_database)
    put(chat_database, session, a_message(1))
    for cursor in ("", "-1", "x", "1" * 30, str(2**63), "٣", "1.0", str(999 << 32)):
        with pytest.raises(BadCursor):
            await ChatReader(chat_database).window(VOD, limit=1, cursor=cursor)


async def test_there_is_more_while_a_page_is_full_or_the_session_goes_on(chat_database: Database) -> None:
    session = item_session(chat_database)
    put(chat_database, session, a_message(1), a_message(2))
    reader = ChatReader(chat_database)
    for limit in (2, 5):
        window = await reader.window(VOD, limit=limit)
        assert window is not None
        assert window.more
    end(chat_database, session)
    window = await reader.window(VOD, limit=5)
    assert window is not None
    assert not window.more


# --- as seen, as moderated -----------------------------------------------------------------------------------------


def cleared(number: int, after_ms: int, **extra: object) -> ChatMessage:
    kind = Kind.CLEAR_MESSAGE if "target_msg_id" in extra else Kind.CLEAR_USER if extra else Kind.CLEAR_CHAT
    return a_message(number, after_ms=after_ms, kind=kind, chatter=None, body="", extra=extra)


async def moderated(database: Database, **where: Any) -> dict[str, bool]:
    found = await walk(ChatReader(database), limit=4, view=View.MODERATED, **where)
    for each in found:
        assert bool(each["body"]) != bool(each.get("removed")) or each["kind"].startswith("clear")
    return {each["id"][-2:]: each.get("removed", False) for each in found}


async def test_what_moderators_took_away_is_there_as_seen_and_not_as_moderated(chat_database: Database) -> None:
    session = item_session(chat_database)
    said = [a_message(n, after_ms=n * 1000, chatter=a_chatter(n % 3)) for n in range(9)]
    other_look = a_chatter(0, color="#00FF00")
    put(
        chat_database,
        session,
        *said,
        a_message(0x20, after_ms=3500, chatter=other_look),
        cleared(0x30, 4500, target_user_id="0", seconds=600),
        cleared(0x31, 600_000, target_msg_id=message_id(7)),
        cleared(0x32, 601_000, target_msg_id=message_id(404)),
    )
    assert all(not each.get("removed") for each in await walk(ChatReader(chat_database), limit=5))
    removed = {number for number, gone in (await moderated(chat_database)).items() if gone}
    # Chatter 0 said 0, 3, 6 and, in another colour, 20; 6 came after the timeout.
    assert removed == {"00", "03", "20", "07"}


async def test_a_cleared_chat_is_empty_up_to_there(chat_database: Database) -> None:
    session = item_session(chat_database)
    put(chat_database, session, *(a_message(n, after_ms=n * 1000) for n in range(6)), cleared(0x30, 3500))
    flags = await moderated(chat_database)
    assert {number for number, gone in flags.items() if gone} == {"00", "01", "02", "03"}


async def test_a_clear_in_a_later_part_of_the_broadcast_counts_for_the_earlier_one(chat_database: Database) -> None:
    first = item_session(chat_database)
    second = item_session(
        chat_database, stream_id="s2", base_ms=base_of(START_MS + 60_000), vod_offset_ms=60_000 - MARGIN_MS
    )
    foreign = a_session(chat_database, "elsewhere", stream_id="s3")
    put(chat_database, first, *(a_message(n, after_ms=n * 1000, chatter=a_chatter(n)) for n in range(1, 4)))
    put(chat_database, second, cleared(0x30, 70_000, target_user_id="2"))
    put(chat_database, foreign, cleared(0x31, 80_000, target_user_id="3"), cleared(0x32, 80_000))
    assert [number for number, gone in (await moderated(chat_database)).items() if gone] == ["02"]


# --- activity ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width_ms", [10_000, 30_000, 60_000, 3_600_000])
async def test_activity_adds_up_in_any_width(chat_database: Database, width_ms: int) -> None:
    session = item_session(chat_database)
    other = item_session(chat_database, stream_id="s2", base_ms=base_of(START_MS), vod_offset_ms=-MARGIN_MS)
    put(chat_database, session, *(a_message(n, after_ms=n * 1000 - 60_000) for n in range(500)))
    put(chat_database, other, *(a_message(1000 + n, after_ms=n * 1000) for n in range(50)))
    found = await ChatReader(chat_database).activity(VOD, width_ms=width_ms)
    assert found is not None
    slots = json.loads(found)
    assert sum(n for _, n in slots) == 550
    expected: dict[int, int] = {}
    for offset in [n * 1000 - 60_000 for n in range(500)] + [n * 1000 for n in range(50)]:
        expected[offset // width_ms * width_ms] = expected.get(offset // width_ms * width_ms, 0) + 1
    assert slots == [list(each) for each in sorted(expected.items())]


async def test_activity_of_nothing(chat_database: Database) -> None:
    reader = ChatReader(chat_database)
    assert await reader.activity(VOD, width_ms=10_000) is None
    item_session(chat_database)
    assert await reader.activity(VOD, width_ms=10_000) == b"[]"


async def test_before_the_first_migration_it_says_so(empty_database: Database) -> None:
    with empty_database.unit_of_work() as unit:
        unit.connection.exec_driver_sql("CREATE TABLE something (id INTEGER)")
        unit.commit()
    with pytest.raises(DatabaseUnavailable, match=migrate.head()) as raised:
        await ChatReader(empty_database).window(VOD, limit=1)
    assert raised.value.code == "migrations"
