"""The job as it runs in the service: by itself, whatever is away, and beside another one."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from support.clock import FakeClock
from support.vault import VaultHouse, vault_house
from vodkeep.chat.vault.model import StoredImage
from vodkeep.db.engine import Database
from vodkeep.errors import DatabaseUnavailable
from vodkeep_standin.emotes.model import Emote
from vodkeep_standin.faults.status import Status
from vodkeep_standin.scenario import ids
from vodkeep_standin.server import Standin

pytestmark = pytest.mark.anyio

CHANNEL = ids.CHANNEL_ID


async def one_turn(house: VaultHouse) -> None:
    """Let everything run until it sleeps, and time pass until it wakes."""
    await house.clock.until_sleeping(3)
    house.clock.jump(15)
    await anyio.lowlevel.checkpoint()
    await house.clock.until_sleeping(3)


async def test_the_job_keeps_what_is_being_recorded(house: VaultHouse) -> None:
    session = await house.add_session(CHANNEL)
    await house.add_messages(session, (0, "777000:0-4", "Other"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.vault.run)
        for _ in range(3):
            await one_turn(house)
        tasks.cancel_scope.cancel()
    emotes = await house.view(CHANNEL)
    shown = [*emotes.view.codes.values(), *emotes.view.badges.values()]
    assert len(shown) > 10
    assert {meaning.entry.url for meaning in shown} <= set(emotes.images)
    assert emotes.used["777000"].url in emotes.images


async def test_the_job_outlives_a_database_a_disk_and_a_bug(
    house: VaultHouse, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    await house.add_session(CHANNEL)
    run, save = house.database.run, house.files.save
    failing: list[Exception] = []
    full: list[bool] = []

    async def unwell(*arguments: object, **options: object) -> object:
        if failing:
            raise failing[0]
        return await run(*arguments, **options)  # type: ignore[arg-type]

    def no_room(image: StoredImage, data: bytes) -> None:
        if full:
            raise OSError(28, "No space left on device")
        save(image, data)

    monkeypatch.setattr(house.database, "run", unwell)
    monkeypatch.setattr(house.files, "save", no_room)
    full.append(True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.vault.run)
        await one_turn(house)
        for failure in (DatabaseUnavailable("away"), ValueError("a bug")):
            failing[:] = [failure]
            await one_turn(house)
        failing.clear()
        await one_turn(house)
        assert not any(path.is_file() for path in (house.data_dir / ".emotes").rglob("*"))
        full.clear()
        for _ in range(3):
            await one_turn(house)
        tasks.cancel_scope.cancel()
    emotes = await house.view(CHANNEL)
    assert {meaning.entry.url for meaning in emotes.view.codes.values()} <= set(emotes.images)


async def test_two_processes_that_see_the_same_write_it_once(
    chat_database: Database, standin: Standin, clock: FakeClock, tmp_path: Path
) -> None:
    channels = [CHANNEL, ids.OTHER_CHANNEL_ID]
    shared = [Emote(f"01S{n:022d}", f"shared{n}", "webp") for n in range(40)]
    for channel in channels:
        standin.scenario.emotes.seventv[channel] = shared if channel == CHANNEL else shared[::-1]
    second = Database(chat_database.url)
    try:
        async with (
            vault_house(chat_database, standin, clock, tmp_path) as one,
            vault_house(second, standin, clock, tmp_path) as other,
        ):
            async with anyio.create_task_group() as tasks:
                for house in (one, other):
                    for channel in channels:
                        tasks.start_soon(house.vault.snapshot, channel, clock.now())
            async with anyio.create_task_group() as tasks:
                for house in (one, other):
                    tasks.start_soon(house.fetch_all)
            clock.jump(60)
            for channel in channels:
                emotes = await one.view(channel)
                assert {emote.code for emote in shared} <= set(emotes.view.codes)
                assert not emotes.view.changes
                assert {meaning.entry.url for meaning in emotes.view.codes.values()} <= set(emotes.images)
    finally:
        second.dispose()


async def test_snapshots_and_images_do_not_wait_for_each_other(house: VaultHouse) -> None:
    await house.add_session(CHANNEL)
    await house.vault.see_recorded()
    house.standin.faults.add(Status(503), path="/*/v?/*")
    house.standin.faults.add(Status(503), path="/helix/*")
    house.clock.jump(7200)
    await house.vault.see_recorded()
    await house.fetch_all()
    emotes = await house.view(CHANNEL)
    assert {meaning.entry.url for meaning in emotes.view.codes.values()} <= set(emotes.images)
