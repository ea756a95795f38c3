"""Around the recorder: its account, its note, and what happens when it cannot begin."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import anyio
import pytest
from sqlalchemy import insert, select, update

from support.chat_messages import START_MS, a_session, message_id, reload, stored_ids
from support.clock import START, FakeClock
from support.irc_lines import privmsg
from vodkeep.accounts.setup import build_keeper
from vodkeep.chat.connections import Connections
from vodkeep.chat.conversation import Credentials
from vodkeep.chat.recording import Recording
from vodkeep.chat.sessions import RECORDING, Session
from vodkeep.clock import SystemClock
from vodkeep.db.engine import Database
from vodkeep.db.kv import KvStore
from vodkeep.db.tables import kv, oauth_tokens
from vodkeep.errors import DiskFull
from vodkeep.pipeline.chat_login import ChatLogin
from vodkeep.pipeline.chat_recorder import ChatRecorder, KeptRecorder
from vodkeep.pipeline.live_watch import LiveWatch
from vodkeep.pipeline.recorder_note import PREFIX, RecorderNote, RecorderNotes, load_notes
from vodkeep.settings import load_settings
from vodkeep.telemetry.log import get_logger
from vodkeep.telemetry.metrics import Metrics

pytestmark = pytest.mark.anyio


def chat_login(database: Database, username: str | None, token: str | None) -> ChatLogin:
    keeper = build_keeper(load_settings({}, None), database, SystemClock())
    return ChatLogin(keeper, username, token, get_logger("chat_recorder"))


def store_token(database: Database, token: str, *, channel: str = "", key_id: str | None = None) -> None:
    with database.unit_of_work() as unit:
        unit.connection.execute(
            insert(oauth_tokens).values(
                provider="twitch", channel=channel, access_token=token, encryption_key_id=key_id
            )
        )
        unit.commit()


def notes(database: Database, *holders: str) -> list[RecorderNote]:
    with database.unit_of_work(write=False) as unit:
        return load_notes(unit, holders)


# --- the account -----------------------------------------------------------------------------------------------------


async def test_without_a_name_or_a_token_chat_is_read_anonymously(database: Database) -> None:
    assert await chat_login(database, None, "token")() is None
    assert await chat_login(database, "keeper", None)() is None


async def test_the_token_of_the_settings_goes_before_a_stored_one(database: Database) -> None:
    store_token(database, "stored")
    assert await chat_login(database, "keeper", "given")() == Credentials("keeper", "given")


async def test_a_stored_token_is_looked_up_anew_each_time(database: Database) -> None:
    login = chat_login(database, "keeper", None)
    store_token(database, "general")
    assert await login() == Credentials("keeper", "general")
    store_token(database, "own", channel="keeper")
    assert await login() == Credentials("keeper", "own")
    with database.unit_of_work() as unit:
        unit.connection.execute(update(oauth_tokens).values(access_token="refreshed"))
        unit.commit()
    assert await login() == Credentials("keeper", "refreshed")


async def test_tokens_of_others_and_those_of_an_unknown_key_are_left_alone(database: Database) -> None:
    store_token(database, "other", channel="somebody")
    store_token(database, "cipher", key_id="k1")
    assert await chat_login(database, "keeper", None)() is None


# --- the note --------------------------------------------------------------------------------------------------------


async def test_a_note_is_written_when_it_changes_and_now_and_then_and_taken_back(
    database: Database, clock: FakeClock
) -> None:
    note = RecorderNote(True, joined=1)
    written = []

    def told() -> RecorderNote:
        return note

    def look() -> None:
        with database.unit_of_work(write=False) as unit:
            query = select(kv.c.updated_at).where(kv.c.key == f"{PREFIX}me")
            written.append(unit.connection.execute(query).scalar_one())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(RecorderNotes(database, clock, "me", told).run)
        await clock.until_sleeping()
        assert notes(database, "me") == [note]
        for _ in range(14):
            await clock.advance(2)
            await clock.until_sleeping()
        look()
        assert written == [START], "the same is not written again so soon"
        await clock.advance(2)
        await clock.until_sleeping()
        look()
        note = RecorderNote(True, joined=2)
        await clock.advance(2)
        await clock.until_sleeping()
        assert notes(database, "me") == [note]
        tasks.cancel_scope.cancel()
    assert [(moment - START).total_seconds() for moment in written] == [0, 30]
    assert notes(database, "me") == []


async def test_the_note_of_a_process_that_was_killed_counts_for_nothing_and_goes(
    database: Database, clock: FakeClock
) -> None:
    with database.unit_of_work() as unit:
        KvStore(unit.connection).set(f"{PREFIX}dead", '{"enabled":true,"joined":9}', START)
        KvStore(unit.connection).set(f"{PREFIX}strange", '["nonsense"]', START)
        unit.commit()
    assert notes(database, "dead", "strange") == [RecorderNote(True, joined=9)]
    assert notes(database, "me") == []
    await clock.advance(91)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(RecorderNotes(database, clock, "me", lambda: RecorderNote(True)).run)
        await clock.until_sleeping()
        tasks.cancel_scope.cancel()
    with database.unit_of_work(write=False) as unit:
        assert KvStore(unit.connection).all() == {}


# --- the end ---------------------------------------------------------------------------------------------------------


class Feeding:
    """Stands for connections, watch and notes: begins a session, hands in a line, and then only is there."""

    def __init__(self, recording: Recording, session: Session) -> None:
        self.recording = recording
        self.session = session
        self.fed = anyio.Event()

    async def run(self) -> None:
        await self.recording.begin("chan", self.session)
        try:
            await self.recording.lines([privmsg(1)], START_MS)
            self.fed.set()
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await self.recording.lines([privmsg(2)], START_MS)
                await self.recording.release("chan")


class Idle:
    async def run(self) -> None:
        await anyio.sleep_forever()


async def test_what_has_come_is_stored_when_the_service_stops(chat_database: Database, tmp_path: Path) -> None:
    session = a_session(chat_database)
    recording = Recording(chat_database, tmp_path, "me", SystemClock(), get_logger("chat_recorder"), Metrics())
    feeding, idle = Feeding(recording, session), Idle()
    recorder = ChatRecorder(recording, cast(Connections, feeding), cast(LiveWatch, idle), cast(RecorderNotes, idle))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(recorder.run)
        await feeding.fed.wait()
        tasks.cancel_scope.cancel()
    assert stored_ids(chat_database) == [message_id(1), message_id(2)]
    assert reload(chat_database, session).state == RECORDING


# --- a recorder that cannot begin ------------------------------------------------------------------------------------


async def test_a_recorder_that_cannot_begin_is_made_anew(clock: FakeClock) -> None:
    made = []

    def build() -> ChatRecorder:
        made.append(clock.monotonic())
        if len(made) == 1:
            raise DiskFull("There is no space for the journal.")
        raise RuntimeError("a bug")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(KeptRecorder(build, clock, get_logger("chat_recorder")).run)
        await clock.until_sleeping()
        await clock.advance(15)
        await clock.until_sleeping()
        await clock.advance(15)
        await clock.until_sleeping()
        tasks.cancel_scope.cancel()
    assert made == [0, 15, 30]
