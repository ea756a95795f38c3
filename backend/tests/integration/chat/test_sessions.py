"""Sessions: one per stream, moved as a whole."""

from __future__ import annotations

from support.chat_messages import START_MS, a_message, a_session, reload, writer_of
from vodkeep.chat.ids import MARGIN_MS
from vodkeep.chat.model import Source
from vodkeep.chat.sessions import ENDED, RECORDING, SessionStore
from vodkeep.chat.store import insert_messages
from vodkeep.db.engine import Database


def test_a_stream_has_one_session_however_often_it_is_opened(chat_database: Database) -> None:
    first = a_session(chat_database, vod_id="live-1")
    with chat_database.unit_of_work() as unit:
        SessionStore(unit.connection).end(first.id, START_MS + 5)
        SessionStore(unit.connection).end(first.id, START_MS + 9)
        unit.commit()
    ended = reload(chat_database, first)
    assert (ended.state, ended.ended_ms) == (ENDED, START_MS + 5)

    again = a_session(chat_database, base_ms=5)

    assert again.id == first.id
    assert (again.state, again.ended_ms, again.vod_id) == (RECORDING, None, "live-1")
    assert again.start_ms == START_MS == again.base_ms + MARGIN_MS
    assert a_session(chat_database, stream_id="s2").id != first.id


def test_without_a_stream_every_session_is_a_new_one(chat_database: Database) -> None:
    one = a_session(chat_database, stream_id=None, source=Source.IMPORT)
    other = a_session(chat_database, stream_id=None, source=Source.IMPORT)
    assert one.id != other.id
    assert other.source is Source.IMPORT


def test_an_item_has_its_sessions_in_order(chat_database: Database) -> None:
    late = a_session(chat_database, stream_id="late", base_ms=2000)
    early = a_session(chat_database, stream_id="early", base_ms=1000)
    a_session(chat_database, stream_id="another")
    with chat_database.unit_of_work() as unit:
        for session in (late, early):
            SessionStore(unit.connection).link(session.id, "123", session.base_ms - 500)
        unit.commit()
        sessions = SessionStore(unit.connection)
        assert [(each.id, each.vod_offset_ms) for each in sessions.of_item("123")] == [(early.id, 500), (late.id, 1500)]
        assert sessions.by_stream("chan", "late") == reload(chat_database, late)
        assert sessions.by_stream("chan", "never") is None
        assert sessions.get(999) is None


def test_what_is_recorded_and_what_was(chat_database: Database) -> None:
    ended, running = a_session(chat_database), a_session(chat_database, stream_id="s2")
    with chat_database.unit_of_work() as unit:
        sessions = SessionStore(unit.connection)
        sessions.end(ended.id, START_MS + 1000)
        unit.commit()
        assert [each.id for each in sessions.recording()] == [running.id]
        assert [each.id for each in sessions.live_since(START_MS + 1000)] == [ended.id, running.id]
        assert [each.id for each in sessions.live_since(START_MS + 1001)] == [running.id]


def test_disowning_takes_the_writers_name_away(chat_database: Database) -> None:
    session, other = a_session(chat_database), a_session(chat_database, stream_id="s2")
    with chat_database.unit_of_work() as unit:
        unit.connection.exec_driver_sql("UPDATE chat_session SET writer = 'somebody'")
        SessionStore(unit.connection).disown([session.id])
        unit.commit()
    assert (writer_of(chat_database, session), writer_of(chat_database, other)) == ("", "somebody")
    with chat_database.unit_of_work() as unit:
        SessionStore(unit.connection).disown()
        unit.commit()
    assert writer_of(chat_database, other) == ""


def test_moving_a_chat_changes_no_message(chat_database: Database) -> None:
    session = a_session(chat_database)
    with chat_database.unit_of_work() as unit:
        insert_messages(unit.connection, session, [a_message(1)])
        SessionStore(unit.connection).link(session.id, "9", 4000)
        unit.commit()
    assert reload(chat_database, session).vod_offset_ms == 4000
    assert reload(chat_database, session).messages == 1
