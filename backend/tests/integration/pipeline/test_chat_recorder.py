"""Around the recorder: its account, its note, and what happens when it cannot begin."""

from __future__ import annotations

import anyio
import pytest
from sqlalchemy import insert, select, update

from support.clock import START, FakeClock
from vodkeep.chat.conversation import Credentials
from vodkeep.db.engine import Database
from vodkeep.db.kv import KvStore
from vodkeep.db.tables import kv, oauth_tokens
from vodkeep.errors import DiskFull
from vodkeep.pipeline.chat_login import ChatLogin
from vodkeep.pipeline.chat_recorder import ChatRecorder, KeptRecorder
from vodkeep.pipeline.recorder_note import PREFIX, RecorderNote, RecorderNotes, load_notes
from vodkeep.telemetry.log import get_logger

pytestmark = pytest.mark.anyio


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
    assert await ChatLogin(database, None, "token")() is None
    assert await ChatLogin(database, "keeper", None)() is None


async def test_the_token_of_the_settings_goes_before_a_stored_one(database: Database) -> None:
    store_token(database, "stored")
    assert await ChatLogin(database, "keeper", "given")() == Credentials("keeper", "given")


async def test_a_stored_token_is_looked_up_anew_each_time(database: Database) -> None:
    login = ChatLogin(database, "keeper", None)
    store_token(database, "general")
    assert await login() == Credentials("keeper", "general")
    store_token(database, "own", channel="keeper")
    assert await login() == Credentials("keeper", "own")
    with database.unit_of_work() as unit:
        unit.connection.execute(update(oauth_tokens).values(access_token="refreshed"))
        unit.commit()
    assert await login() == Credentials("keeper", "refreshed")


async def test_tokens_of_others_and_encrypted_ones_are_left_alone(database: Database) -> None:
    store_token(database, "other", channel="somebody")
    store_token(database, "cipher", key_id="k1")
    assert await ChatLogin(database, "keeper", None)() is None


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
