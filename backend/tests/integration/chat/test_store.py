"""Messages in the tables: numbered by time, once, with what goes with them."""

from __future__ import annotations

import json
import random

import pytest
from sqlalchemy import insert, select

from support.chat_messages import (
    START_MS,
    a_chatter,
    a_message,
    a_session,
    message_id,
    reload,
    stored_ids,
    stored_times,
)
from vodkeep.chat.ids import LAST_OFFSET_MS, MARGIN_MS, first_id, offset_of, pack_msg_id
from vodkeep.chat.model import ChatMessage, Kind, Source
from vodkeep.chat.sessions import Session, SessionStore
from vodkeep.chat.store import MessageWriter, RecentIds, insert_messages, merge_messages
from vodkeep.chat.tables import chat_bucket, chat_clear, chat_index_queue, chat_message, chat_session, chatter
from vodkeep.db.engine import Database


def put(database: Database, session: Session, *messages: ChatMessage) -> int:
    with database.unit_of_work() as unit:
        count = insert_messages(unit.connection, session, messages)
        unit.commit()
    return count


def write(database: Database, writer: MessageWriter, session: Session, *messages: ChatMessage) -> int:
    with database.unit_of_work() as unit:
        written = writer.write(unit.connection, session, messages)
        unit.commit()
    writer.remember(written)
    return written.rows


def test_every_part_of_a_message_comes_back(chat_database: Database) -> None:
    session = a_session(chat_database)
    who = a_chatter(5, display_name="ユーザー", badges="broadcaster/1,subscriber/12")
    message = a_message(
        1, chatter=who, body="grüße ' \t\\N \\ 🎉\n", emotes="25:0-4", kind=Kind.ACTION, reply_to=message_id(9),
        extra={"bits": 100, "thread": "x"}, source=Source.VOD,
    )  # fmt: skip

    assert put(chat_database, session, message) == 1

    with chat_database.unit_of_work(write=False) as unit:
        row = unit.connection.execute(select(chat_message)).one()
        person = unit.connection.execute(select(chatter)).one()
    assert row.id == first_id(session.id, MARGIN_MS + 1)
    assert (row.kind, row.source, row.emotes, row.body) == (1, 1, "25:0-4", message.body)
    assert bytes(row.msg_id) == pack_msg_id(message.msg_id)
    assert bytes(row.reply_id) == pack_msg_id(message_id(9))
    assert json.loads(row.extra) == {"bits": 100, "thread": "x"}
    assert row.chatter_id == person.id == who.key()
    assert tuple(person)[1:] == ("5", "user5", "ユーザー", "#FF0000", who.badges)


def test_an_id_that_is_no_uuid_is_kept_beside_its_digest(chat_database: Database) -> None:
    odd = ["", "x" * 36, message_id(7).upper().replace("0", "A", 1), message_id(7).replace("-", "")]
    session = a_session(chat_database)
    put(chat_database, session, *(a_message(n, msg_id=text, chatter=None) for n, text in enumerate(odd)))

    with chat_database.unit_of_work(write=False) as unit:
        rows = unit.connection.execute(select(chat_message).order_by(chat_message.c.id)).all()
    assert [json.loads(row.extra)["id"] for row in rows] == odd
    assert [bytes(row.msg_id) for row in rows] == [pack_msg_id(text) for text in odd]
    assert {row.chatter_id for row in rows} == {None}


def test_sixteen_share_a_millisecond_and_the_next_one_goes_on(chat_database: Database) -> None:
    session = a_session(chat_database)
    put(chat_database, session, *(a_message(n, after_ms=50) for n in range(10)))
    put(chat_database, session, a_message(100, after_ms=51), *(a_message(n, after_ms=50) for n in range(10, 20)))

    times = stored_times(chat_database)
    assert [times[message_id(n)] for n in range(20)] == [50] * 16 + [51] * 4
    assert times[message_id(100)] == 51
    assert stored_ids(chat_database)[:10] == [message_id(n) for n in range(10)]


def test_thousands_in_one_millisecond_find_room(chat_database: Database) -> None:
    session = a_session(chat_database)
    for part in range(3):
        put(chat_database, session, *(a_message(n, after_ms=0) for n in range(part * 3000, (part + 1) * 3000)))
    assert stored_ids(chat_database) == [message_id(n) for n in range(9000)]


def test_messages_out_of_order_and_far_apart_are_put_in_their_place(chat_database: Database) -> None:
    session = a_session(chat_database)
    offsets = [n * 100_000 for n in range(100)] + [n * 7 + 1 for n in range(100)]
    random.Random(1).shuffle(offsets)
    for part in (offsets[:90], offsets[90:]):
        put(chat_database, session, *(a_message(offset, after_ms=offset) for offset in part))
    again = [a_message(100_000_000 + n, after_ms=offset) for n, offset in enumerate(sorted(set(offsets)))]
    put(chat_database, session, *again)

    assert stored_times(chat_database) == {
        **{message_id(offset): offset for offset in offsets},
        **{each.msg_id: each.sent_ms - START_MS for each in again},
    }


def test_what_was_sent_before_the_base_is_kept_at_the_base(chat_database: Database) -> None:
    put(chat_database, a_session(chat_database), a_message(1, after_ms=-MARGIN_MS - 5000))
    assert stored_times(chat_database) == {message_id(1): -MARGIN_MS}


def test_a_session_does_not_grow_into_the_next(chat_database: Database) -> None:
    session = a_session(chat_database)
    with pytest.raises(ValueError, match=f"session {session.id}"):
        put(chat_database, session, a_message(1, after_ms=LAST_OFFSET_MS - MARGIN_MS))


def test_activity_counts_what_people_said(chat_database: Database) -> None:
    session = a_session(chat_database)
    put(chat_database, session, a_message(1), a_message(2), a_message(3, after_ms=10_000))
    put(chat_database, session, a_message(4), a_message(5, kind=Kind.ROOM_STATE), a_message(6, kind=Kind.USER_NOTICE))

    with chat_database.unit_of_work(write=False) as unit:
        rows = unit.connection.execute(select(chat_bucket).order_by(chat_bucket.c.bucket)).all()
    assert [tuple(row) for row in rows] == [(session.id, 60, 4), (session.id, 61, 1)]
    found = reload(chat_database, session)
    assert (found.messages, found.last_ms) == (5, START_MS + 10_000)


def test_what_moderators_took_away_is_listed(chat_database: Database) -> None:
    session = a_session(chat_database)
    put(
        chat_database, session,
        a_message(1, kind=Kind.CLEAR_CHAT),
        a_message(2, kind=Kind.CLEAR_USER, extra={"target_user_id": "7", "seconds": 600}),
        a_message(3, kind=Kind.CLEAR_USER, extra={"target_user_id": "8", "seconds": 10**30}),
        a_message(4, kind=Kind.CLEAR_MESSAGE, extra={"target_msg_id": message_id(1)}),
    )  # fmt: skip
    with chat_database.unit_of_work(write=False) as unit:
        rows = unit.connection.execute(select(chat_clear).order_by(chat_clear.c.id)).all()
    assert [offset_of(row.id) - MARGIN_MS for row in rows] == [1, 2, 3, 4]
    assert [(row.target_user_id, row.seconds) for row in rows] == [
        (None, None), ("7", 600), ("8", 2**62), (None, None),
    ]  # fmt: skip
    assert [row.target_msg_id and bytes(row.target_msg_id) for row in rows] == [
        None,
        None,
        None,
        pack_msg_id(message_id(1)),
    ]


def test_merging_stores_only_what_is_not_there(chat_database: Database) -> None:
    session, other = a_session(chat_database), a_session(chat_database, stream_id="s2")
    put(chat_database, session, *(a_message(n) for n in range(0, 100, 2)))
    put(chat_database, other, a_message(1))

    with chat_database.unit_of_work() as unit:
        messages = [a_message(n, source=Source.VOD) for n in range(100)]
        assert merge_messages(unit.connection, session, [*messages, *messages], besides=[other]) == 49
        assert merge_messages(unit.connection, session, messages, besides=[other]) == 0
        unit.commit()

    assert sorted(stored_ids(chat_database)) == sorted(message_id(n) for n in range(100))
    assert reload(chat_database, session).messages == 99


def test_merging_looks_as_far_around_as_it_is_told(chat_database: Database) -> None:
    """The replay of a VOD may give another time than the line did."""
    session = a_session(chat_database)
    put(chat_database, session, a_message(1, after_ms=0))
    with chat_database.unit_of_work() as unit:
        moved = a_message(1, after_ms=20_000)
        assert merge_messages(unit.connection, session, [moved], slack_ms=30_000) == 0
        assert merge_messages(unit.connection, session, [moved], slack_ms=1_000) == 1


def test_a_writer_tells_what_comes_twice(chat_database: Database) -> None:
    session, writer = a_session(chat_database), MessageWriter("a")
    assert write(chat_database, writer, session, a_message(1), a_message(1), a_message(2)) == 2
    assert write(chat_database, writer, session, a_message(2), a_message(3)) == 1
    assert write(chat_database, writer, session, a_message(3)) == 0
    assert stored_ids(chat_database) == [message_id(n) for n in (1, 2, 3)]
    assert reload(chat_database, session).messages == 3


def test_what_was_rolled_back_is_not_taken_for_stored(chat_database: Database) -> None:
    session, writer = a_session(chat_database), MessageWriter("a")
    with chat_database.unit_of_work() as unit:
        writer.write(unit.connection, session, [a_message(1)])
    assert write(chat_database, writer, session, a_message(1)) == 1
    with chat_database.unit_of_work(write=False) as unit:
        assert len(unit.connection.execute(select(chatter)).all()) == 1


def test_two_writers_of_a_session_store_nothing_twice(chat_database: Database) -> None:
    """One was stopped for a while, its successor took over, and it wakes with what it had."""
    session, old, new = a_session(chat_database), MessageWriter("old"), MessageWriter("new")
    write(chat_database, old, session, a_message(1))
    write(chat_database, new, session, a_message(2), a_message(4, after_ms=40_000))
    assert write(chat_database, old, session, a_message(2), a_message(3)) == 1
    # A late one of those that the other wrote before: known, though it lies before what was written now.
    assert write(chat_database, new, session, a_message(5, after_ms=60_000)) == 1
    assert write(chat_database, new, session, a_message(3), a_message(1)) == 0
    assert stored_ids(chat_database) == [message_id(n) for n in (1, 2, 3, 4, 5)]


def test_a_chatter_who_was_removed_is_stored_again(chat_database: Database) -> None:
    session, writer = a_session(chat_database), MessageWriter("a")
    write(chat_database, writer, session, a_message(7))
    write(chat_database, writer, session, a_message(14))
    with chat_database.unit_of_work() as unit:
        unit.connection.execute(chatter.delete())
        SessionStore(unit.connection).disown()
        unit.commit()
    write(chat_database, writer, session, a_message(21))
    with chat_database.unit_of_work(write=False) as unit:
        assert [row.user_id for row in unit.connection.execute(select(chatter))] == ["0"]


def test_a_chatter_who_is_there_already_is_no_obstacle(chat_database: Database) -> None:
    session, who = a_session(chat_database), a_chatter(1)
    with chat_database.unit_of_work() as unit:
        unit.connection.execute(
            insert(chatter).values(
                id=who.key(), user_id="1", login="user1", display_name="User1", color="#FF0000", badges="vip/1"
            )
        )
        unit.commit()
    assert put(chat_database, session, a_message(1), a_message(8)) == 2


def test_what_is_remembered_of_ids_is_bounded() -> None:
    recent = RecentIds(10)
    for n in range(100):
        recent.add([bytes([n])])
    assert bytes([99]) in recent
    assert sum(bytes([n]) in recent for n in range(100)) <= 12
    assert all(bytes([n]) in recent for n in range(95, 100))


def test_what_the_search_index_has_gone_past_is_queued_for_it(chat_database: Database) -> None:
    session = a_session(chat_database)
    put(chat_database, session, a_message(10))
    with chat_database.unit_of_work() as unit:
        upto = first_id(session.id, MARGIN_MS + 10)
        unit.connection.exec_driver_sql(f"UPDATE chat_session SET fts_upto_id = {upto}, index_due = 0")
        unit.commit()

    put(chat_database, session, a_message(5), a_message(11))

    with chat_database.unit_of_work(write=False) as unit:
        assert list(unit.connection.execute(select(chat_index_queue)).scalars()) == [
            first_id(session.id, MARGIN_MS + 5)
        ]
        row = unit.connection.execute(select(chat_session)).one()
        assert (row.index_due, row.revision, row.fts_upto_id) == (1, 2, upto)
