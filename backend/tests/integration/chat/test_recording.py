"""From lines to rows: once, in the right session, whatever happens to the process and the database."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select

from support.chat_messages import START_MS, a_session, message_id, reload, stored_ids
from support.clock import FakeClock
from support.irc_lines import privmsg
from vodkeep.chat import flushing
from vodkeep.chat.irc import parse_line
from vodkeep.chat.journal import FOLDER, Entry, Journal, encode_event, encode_lines
from vodkeep.chat.recording import Recording
from vodkeep.chat.sessions import ENDED, RECORDING, Session, SessionStore, base_of
from vodkeep.chat.store import MessageWriter
from vodkeep.chat.tables import chat_journal, chat_spans
from vodkeep.clock import Clock, SystemClock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.errors import DatabaseUnavailable, DiskFull
from vodkeep.telemetry.log import get_logger
from vodkeep.telemetry.metrics import Metrics

pytestmark = pytest.mark.anyio


class SlowedClock(SystemClock):
    """Our machine's time moved to the start of the stream; waits are short."""

    def __init__(self) -> None:
        self._ahead = datetime.now(UTC) - datetime.fromtimestamp(START_MS / 1000, UTC)

    def now(self) -> datetime:
        return super().now() - self._ahead

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(min(seconds, 0.02))


def recording_of(
    database: Database, data_dir: Path, name: str = "me", clock: Clock | None = None, metrics: Metrics | None = None
) -> Recording:
    log = get_logger("chat_recorder")
    return Recording(database, data_dir, name, clock or SlowedClock(), log, metrics or Metrics())


async def feed(recording: Recording, *numbers: int, channel: str = "chan") -> None:
    await recording.lines([privmsg(number, channel=channel) for number in numbers], START_MS)


def ids(*numbers: int) -> list[str]:
    return [message_id(number) for number in numbers]


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110  # nothing tells of it
            await anyio.sleep(0.01)


async def test_lines_become_rows_of_the_session(chat_database: Database, tmp_path: Path) -> None:
    session, metrics = a_session(chat_database), Metrics()
    async with recording_of(chat_database, tmp_path, metrics=metrics) as recording:
        await recording.begin("chan", session)
        await feed(recording, 1, 2)
        await feed(recording, 2, 3)
        await recording.lines([b"PING :tmi.twitch.tv", b"\xff garbage", privmsg(4, channel="another")], START_MS)
        await recording.end("chan", START_MS + 99)

        assert stored_ids(chat_database) == ids(1, 2, 3)
        found = reload(chat_database, session)
        assert (found.state, found.ended_ms, found.messages) == (ENDED, START_MS + 99, 3)
        state = recording.state()
        assert (state.stored, state.database_problem, state.disk_problem) == (3, None, None)
        assert state.stored_at_ms is not None
        await until(lambda: recording.state().spool_bytes == 0)
        samples = {
            sample.name: sample.value
            for family in text_string_to_metric_families(metrics.render().decode())
            for sample in family.samples
        }
        assert samples["chat_messages_stored_total"] == 3
        assert samples["chat_flush_seconds_count"] >= 1
        assert samples["chat_spool_bytes"] == 0

        await feed(recording, 5)
    assert stored_ids(chat_database) == ids(1, 2, 3)


async def test_a_channel_that_is_left_to_another_process_keeps_its_session_open(
    chat_database: Database, tmp_path: Path
) -> None:
    session = a_session(chat_database)
    async with recording_of(chat_database, tmp_path) as recording:
        await recording.release("chan")
        await recording.begin("chan", session)
        await feed(recording, 1)
        await recording.release("chan")
        await feed(recording, 2)
        await recording.end("chan", START_MS + 99)
    assert stored_ids(chat_database) == ids(1)
    assert reload(chat_database, session).state == RECORDING


async def test_without_being_asked_a_line_is_stored_soon(chat_database: Database, tmp_path: Path) -> None:
    session = a_session(chat_database)
    async with recording_of(chat_database, tmp_path) as recording:
        await recording.begin("chan", session)
        await feed(recording, 1)
        await until(lambda: stored_ids(chat_database) == ids(1))


async def test_the_first_messages_of_a_stream_that_is_noticed_late(chat_database: Database, tmp_path: Path) -> None:
    async with recording_of(chat_database, tmp_path) as recording:
        await recording.lines([privmsg(1, after_ms=-5), privmsg(2), privmsg(3, channel="chanel")], START_MS)
        await recording.lines([privmsg(4)], START_MS - flushing.PRE_ROLL_MS - 5000)
        await until(lambda: recording.state().spool_bytes == 0)
        await feed(recording, 5)
        session = a_session(chat_database)
        await recording.begin("chan", session)
        await recording.begin("chan", session)
        assert set(ids(2)) <= set(stored_ids(chat_database)) <= set(ids(2, 5))
    assert stored_ids(chat_database) == ids(2, 5)


async def test_from_when_on_a_stream_is_recorded_is_written_down_once(
    chat_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = a_session(chat_database, "late", base_ms=base_of(START_MS - 3_600_000), stream_id="1")
    early = a_session(chat_database, "early", stream_id="2")
    busy = a_session(chat_database, "busy", base_ms=base_of(START_MS - 3_600_000), stream_id="3")
    async with recording_of(chat_database, tmp_path) as recording:
        await recording.begin("late", late)
        await recording.begin("early", early)
        noted = reload(chat_database, late).recorded_from_ms
        assert noted is not None
        # Some time has passed on our clock since the stream's beginning.
        assert 0 <= noted - (START_MS - flushing.PRE_ROLL_MS) < 600_000
        assert reload(chat_database, early).recorded_from_ms == START_MS

        monkeypatch.setattr(flushing, "_MOST_PRE_ROLL", 2)
        await recording.lines([privmsg(number, channel="busy") for number in (1, 2, 3)], START_MS)
        await recording.begin("busy", busy)
        assert reload(chat_database, busy).recorded_from_ms == START_MS + 2
    async with recording_of(chat_database, tmp_path, "next") as recording:
        await recording.begin("late", late)
    assert reload(chat_database, late).recorded_from_ms == noted


async def test_each_channel_and_each_stream_has_its_own(chat_database: Database, tmp_path: Path) -> None:
    first, other = a_session(chat_database), a_session(chat_database, "other")
    async with recording_of(chat_database, tmp_path) as recording:
        await recording.begin("chan", first)
        await recording.begin("other", other)
        await feed(recording, 1)
        await feed(recording, 2, channel="other")
        second = a_session(chat_database, stream_id="s2", base_ms=base_of(START_MS + 100))
        await recording.begin("chan", second)
        await feed(recording, 200)
    assert stored_ids(chat_database, first.id) == ids(1)
    assert stored_ids(chat_database, other.id) == ids(2)
    assert stored_ids(chat_database, second.id) == ids(200)


def spans(database: Database) -> list[tuple[str, int, int | None, int, str]]:
    columns = chat_spans.c
    query = select(columns.channel, columns.started_ms, columns.ended_ms, columns.seen_ms, columns.reason)
    with database.unit_of_work(write=False) as unit:
        return [tuple(row) for row in unit.connection.execute(query.order_by(columns.id))]


async def test_presence_is_written_down(chat_database: Database, tmp_path: Path) -> None:
    async with recording_of(chat_database, tmp_path) as recording:
        await recording.joined("chan", 1000)
        await recording.left("chan", 4000, "connection lost: reset by peer")
        await recording.left("chan", 5000, "never there")
        await recording.joined("chan", 6000)
        await recording.lines([b"PING"], 20_000)
    found = spans(chat_database)
    assert found[0] == ("chan", 1000, 4000, 4000, "connection lost: reset by peer")
    assert found[1][:3] == ("chan", 6000, None)
    assert found[1][3] >= 20_000


async def test_the_next_process_stores_what_a_killed_one_had(chat_database: Database, tmp_path: Path) -> None:
    """Its last transaction may have been done or not; a part of its lines is in the table already."""
    session = a_session(chat_database)
    with chat_database.unit_of_work() as unit:
        unit.connection.execute(
            chat_spans.insert().values(channel="chan", started_ms=START_MS, seen_ms=START_MS, recorder="dead")
        )
        unit.commit()
    journal = Journal(tmp_path / FOLDER, "dead")
    journal.append(encode_lines([privmsg(1), privmsg(2)], START_MS + 2))
    written_upto = journal.end
    journal.append(encode_lines([privmsg(n) for n in range(3, 2000)], START_MS + 3000))
    journal.close()  # as the kernel does
    with chat_database.unit_of_work() as unit:
        lines = [privmsg(1), privmsg(2), privmsg(3)]
        messages = list(flushing._messages([Entry(START_MS, lines=lines)]))
        MessageWriter("dead").write(unit.connection, session, messages)
        unit.connection.execute(
            chat_journal.insert().values(recorder="dead", file=written_upto.file, position=written_upto.offset)
        )
        unit.commit()

    async with recording_of(chat_database, tmp_path, "new") as recording:
        await feed(recording, 2, 1999, 2000)
        await until(lambda: len(stored_ids(chat_database)) >= 2000 and spans(chat_database)[0][4] != "")
        await recording.end("chan")

    assert stored_ids(chat_database) == ids(*range(1, 2001))
    assert reload(chat_database, session).messages == 2000
    assert spans(chat_database) == [("chan", START_MS, START_MS + 3000, START_MS + 3000, "the recorder was ended")]


@pytest.mark.parametrize(
    ("ended_after_ms", "kept"), [(1, (1, 2, 400_000)), (50_000, (1, 2)), (400_000, (1, 2, 400_000))]
)
async def test_a_dead_journal_whose_stream_was_ended_meanwhile(
    chat_database: Database, tmp_path: Path, ended_after_ms: int, kept: tuple[int, ...]
) -> None:
    """The end is known, or nothing but the last message in the table (here that of the first millisecond)."""
    session = a_session(chat_database)
    journal = Journal(tmp_path / FOLDER, "dead")
    journal.append(encode_lines([privmsg(1), privmsg(2), privmsg(400_000)], START_MS + 400_000))
    journal.close()
    with chat_database.unit_of_work() as unit:
        messages = list(flushing._messages([Entry(START_MS, lines=[privmsg(1)])]))
        MessageWriter("dead").write(unit.connection, session, messages)
        SessionStore(unit.connection).end(session.id, START_MS + ended_after_ms)
        unit.commit()

    async with recording_of(chat_database, tmp_path) as recording:
        await until(lambda: len(stored_ids(chat_database)) == len(kept))
        await until(lambda: recording.state().spool_bytes == 0)
    assert stored_ids(chat_database) == ids(*kept)


async def test_a_dead_journal_is_kept_for_its_last_minutes_and_then_removed(
    chat_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service was restarted between the start of a stream and its being noticed."""
    monkeypatch.setattr("vodkeep.chat.recording._IDLE_S", 0.02)
    clock = SlowedClock()
    async with recording_of(chat_database, tmp_path, "old", clock) as recording:
        await feed(recording, 1, 2)
    folder = tmp_path / FOLDER / "old"
    async with recording_of(chat_database, tmp_path, "new", SystemClock()) as recording:
        await until(lambda: recording.state().spool_bytes == 0)
        assert folder.exists()
        session = a_session(chat_database)
        await recording._persistently(lambda: recording._flusher.begin("chan", session, START_MS - 1000))
        assert stored_ids(chat_database) == ids(1, 2)

        recording._flusher._clock = late = FakeClock(datetime.now(UTC) + timedelta(minutes=4))
        assert late.now() > datetime.now(UTC)
        await until(lambda: not folder.exists())
    with chat_database.unit_of_work(write=False) as unit:
        assert unit.connection.execute(select(chat_journal)).all() == []


async def test_the_journal_of_a_living_process_is_left_alone(chat_database: Database, tmp_path: Path) -> None:
    session = a_session(chat_database)
    journal = Journal(tmp_path / FOLDER, "alive")
    journal.append(encode_lines([privmsg(1)], START_MS))
    async with recording_of(chat_database, tmp_path) as recording:
        await recording.begin("chan", session)
        await feed(recording, 2)
        await recording.end("chan")
    assert message_id(2) in stored_ids(chat_database)
    assert (tmp_path / FOLDER / "alive").exists()
    with chat_database.unit_of_work(write=False) as unit:
        assert [row.recorder for row in unit.connection.execute(select(chat_journal))] == ["me"]
    journal.close()


@asynccontextmanager
async def without_database(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    def refuse(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("The database is not available: it is a test.")

    with monkeypatch.context() as patch:
        patch.setattr(recording._database, "unit_of_work", refuse)
        yield


async def test_while_the_database_is_away_the_journal_grows(
    chat_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = a_session(chat_database)
    async with recording_of(chat_database, tmp_path) as recording:
        await recording.begin("chan", session)
        async with without_database(recording, monkeypatch):
            for number in range(0, 6000, 100):
                await feed(recording, *range(number, number + 100))
            await until(lambda: recording.state().database_problem is not None)
            state = recording.state()
            assert "it is a test" in str(state.database_problem)
            assert state.spool_bytes > 1_000_000
        await recording.end("chan")
        assert recording.state().database_problem is None
    assert stored_ids(chat_database) == ids(*range(6000))


async def test_a_commit_whose_answer_was_lost_is_not_done_again(
    chat_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = a_session(chat_database)
    lost = 0

    async with recording_of(chat_database, tmp_path) as recording:
        await recording.begin("chan", session)
        real = type(chat_database).unit_of_work

        @contextmanager
        def losing(self: Database, **options: Any) -> Iterator[UnitOfWork]:
            nonlocal lost
            with real(self, **options) as unit:
                yield unit
            if options.get("write", True) and lost < 3:
                lost += 1
                raise DatabaseUnavailable("The database is not available: the connection broke.")

        monkeypatch.setattr(type(chat_database), "unit_of_work", losing)
        for number in range(20):
            await feed(recording, number)
            await anyio.sleep(0.02)
        await recording.end("chan")
        monkeypatch.undo()
    assert lost == 3
    assert stored_ids(chat_database) == ids(*range(20))
    assert reload(chat_database, session).messages == 20


async def test_a_line_that_cannot_be_stored_is_put_aside_and_holds_up_no_other(
    chat_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = a_session(chat_database)
    real = MessageWriter.write

    def write(self: MessageWriter, connection: object, session: Session, messages: object, **options: object) -> object:
        if any(each.msg_id == message_id(2) for each in messages):  # type: ignore[attr-defined]
            raise sqlite3.IntegrityError("it is a test")
        return real(self, connection, session, messages, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(MessageWriter, "write", write)
    async with recording_of(chat_database, tmp_path) as recording:
        await recording.begin("chan", session)
        await feed(recording, 1, 2, 3)
        await feed(recording, 4)
        await recording.end("chan")
    assert stored_ids(chat_database) == ids(1, 3, 4)
    assert (tmp_path / FOLDER / "refused-lines").read_bytes() == b"%d %b\n" % (START_MS, privmsg(2))


async def test_a_full_disk_is_told_and_nothing_is_taken(
    chat_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = a_session(chat_database)
    async with recording_of(chat_database, tmp_path) as recording, anyio.create_task_group() as tasks:
        await recording.begin("chan", session)
        journal, real = recording._journal, recording._journal.append

        def refuse(_: bytes) -> None:
            raise DiskFull("No space is left on the disk of the journal.")

        monkeypatch.setattr(journal, "append", refuse)
        taken = anyio.Event()

        async def give() -> None:
            await feed(recording, 1)
            taken.set()

        tasks.start_soon(give)
        await until(lambda: recording.state().disk_problem is not None)
        assert not taken.is_set()

        monkeypatch.setattr(journal, "append", real)
        with anyio.fail_after(60):
            await taken.wait()
        assert recording.state().disk_problem is None
        await recording.end("chan")
    assert stored_ids(chat_database) == ids(1)


async def test_two_recorders_of_a_channel_store_each_message_once(chat_database: Database, tmp_path: Path) -> None:
    """For a moment, while one takes over from the other."""
    session = a_session(chat_database)
    async with recording_of(chat_database, tmp_path, "a") as one, recording_of(chat_database, tmp_path, "b") as other:
        await one.begin("chan", session)
        await other.begin("chan", session)
        async with anyio.create_task_group() as tasks:

            async def give(recording: Recording, start: int) -> None:
                for number in range(start, start + 300, 10):
                    await feed(recording, *range(number, number + 10))
                    await anyio.sleep(0.02)

            tasks.start_soon(give, one, 0)
            tasks.start_soon(give, other, 100)
    found = stored_ids(chat_database)
    assert len(found) == len(set(found))
    assert sorted(found) == sorted(ids(*range(400)))


async def test_the_event_loop_neither_parses_nor_writes(
    chat_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a burst of 5,000 messages holds up no request; how long they wait is measured by `make bench-chat-ingest`."""
    loop, threads = threading.get_ident(), dict[str, set[int]]()

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            threads.setdefault(name, set()).add(threading.get_ident())
            return function(*arguments, **options)

        return call

    session = a_session(chat_database)
    async with recording_of(chat_database, tmp_path) as recording:
        await recording.begin("chan", session)
        monkeypatch.setattr(flushing, "parse_line", watched("parse", parse_line))
        monkeypatch.setattr(Journal, "append", watched("append", Journal.append))
        monkeypatch.setattr(MessageWriter, "write", watched("write", MessageWriter.write))
        for start in range(0, 5000, 200):
            await feed(recording, *range(start, start + 200))
        await recording.end("chan")
    assert threads.keys() == {"parse", "append", "write"}
    assert loop not in set().union(*threads.values())
    assert len(stored_ids(chat_database)) == 5000


async def test_old_files_of_the_journal_are_removed(chat_database: Database, tmp_path: Path) -> None:
    session = a_session(chat_database)
    async with recording_of(chat_database, tmp_path) as recording:
        await recording.begin("chan", session)
        recording._journal._rotate_bytes = 1000
        await feed(recording, *range(10))
        await recording._until_stored(recording._journal.end)
        first = tmp_path / FOLDER / "me" / "00000001"
        assert first.exists()
        recording._flusher._clock = FakeClock(datetime.now(UTC) + timedelta(minutes=4))
        await feed(recording, *range(10, 20))
        await feed(recording, *range(20, 30))
        await recording._until_stored(recording._journal.end)
        assert not first.exists()
    assert stored_ids(chat_database) == ids(*range(30))


async def test_what_an_earlier_process_recorded_goes_on_before_anybody_says_so(
    chat_database: Database, tmp_path: Path
) -> None:
    """Whether the channel is still live is known only after a while, and Twitch may not answer."""
    session = a_session(chat_database)
    async with recording_of(chat_database, tmp_path, "old") as recording:
        await recording.begin("chan", session)
        await feed(recording, 1)
    async with recording_of(chat_database, tmp_path, "new") as recording:
        await feed(recording, 2)
        await until(lambda: stored_ids(chat_database) == ids(1, 2))
        await recording.end("chan", START_MS + 5)
    assert reload(chat_database, session).ended_ms == START_MS + 5
    with chat_database.unit_of_work(write=False) as unit:
        assert SessionStore(unit.connection).recording() == []


async def test_an_event_between_lines_is_no_line(chat_database: Database, tmp_path: Path) -> None:
    session = a_session(chat_database)
    journal = Journal(tmp_path / FOLDER, "dead")
    journal.append(encode_lines([privmsg(1)], START_MS) + encode_event("joined", START_MS, "chan"))
    journal.append(encode_event("left", START_MS + 5, "chan", "the end") + encode_lines([privmsg(2)], START_MS))
    journal.close()
    async with recording_of(chat_database, tmp_path):
        await until(lambda: stored_ids(chat_database) == ids(1, 2))
    assert spans(chat_database) == [("chan", START_MS, START_MS + 5, START_MS + 5, "the end")]
    assert reload(chat_database, session).messages == 2
