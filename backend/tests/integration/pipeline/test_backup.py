"""The restore drill: a backup made while somebody writes, and the database had back from it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text

from support.postgres import PostgresServer, fresh_database
from vodkeep.chat.database import chat_database as beside
from vodkeep.chat.tables import chat_session
from vodkeep.db.engine import Database
from vodkeep.db.tables import vods
from vodkeep.errors import PermanentError, RequestRefused
from vodkeep.keep.manifest import MANIFEST_NAME
from vodkeep.pipeline.backup import NAME, compare_with_library, make_backup, read_backup, restore_backup

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 24, 1, 2, 3, tzinfo=UTC)


@dataclass
class Site:
    """An archive, the program that copies it, and another database to restore into."""

    database: Database
    chat: Database
    again: Database
    library: Path
    target: Path
    pg_dump: str | None

    async def back_up(self, now: datetime = NOW) -> Path:
        place, _ = await make_backup(self.database, self.chat, self.library, self.target, now, pg_dump=self.pg_dump)
        return place

    async def restore(self, source: Path, *, force: bool = False) -> list[str]:
        chat = beside(self.again)
        try:
            _, aside = await restore_backup(source, self.again, chat, NOW, force=force, pg_dump=self.pg_dump)
        finally:
            close(chat)
        return aside


@pytest.fixture
def site(
    database: Database, chat_database: Database, database_kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Site]:
    library, target = tmp_path / "library", tmp_path / "backups"
    for number in range(3):
        folder = library / "otter" / str(number)
        folder.mkdir(parents=True)
        (folder / MANIFEST_NAME).write_text(f"{number}", "utf-8")
        add(database, chat_database, number, downloaded_path=f"otter/{number}/video.mp4")
    if database_kind == "sqlite":
        again = Database(database.url.set(database=str(tmp_path / "again" / "vodkeep.db")))
        (tmp_path / "again").mkdir()
        yield Site(database, chat_database, again, library, target, None)
        again.dispose()
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    # The account of the server need not be able to read ours; the client's programs run as we do.
    with fresh_database(server) as name:
        again = Database(server.url(name))
        yield Site(database, chat_database, again, library, target, server.program("pg_dump"))
        again.dispose()


def add(database: Database, chat: Database, number: int, **values: Any) -> None:
    with database.unit_of_work() as unit:
        row = {"twitch_vod_id": f"25{number:08d}", "channel": "otter", "title": "Otters 🦦", **values}
        unit.connection.execute(insert(vods).values(row))
        unit.commit()
    with chat.unit_of_work() as unit:
        unit.connection.execute(insert(chat_session).values(channel="otter", source=0, base_ms=number))
        unit.commit()
    close(chat)


def close(chat: Database) -> None:
    """On PostgreSQL it is the main database, which others use."""
    if chat.is_sqlite:
        chat.dispose()


def contents(database: Database) -> list[tuple[Any, ...]]:
    columns = [column for column in vods.c if column.name != "updated_at"]
    with database.unit_of_work(write=False) as unit:
        rows = [tuple(row) for row in unit.connection.execute(select(*columns).order_by(vods.c.id))]
    chat = beside(database)
    with chat.unit_of_work(write=False) as unit:
        rows += [tuple(row) for row in unit.connection.execute(select(chat_session).order_by(chat_session.c.id))]
    close(chat)
    return rows


async def test_what_was_backed_up_while_somebody_writes_is_had_back(site: Site) -> None:
    before = contents(site.database)
    ended = threading.Event()

    def write() -> None:
        number = 1000
        while not ended.is_set():
            add(site.database, site.chat, number)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        place = await site.back_up()
    finally:
        ended.set()
        writer.join()
    assert [path.name for path in site.target.iterdir()] == [place.name], "nothing unfinished is left"
    backup = read_backup(place)
    assert await site.restore(place) == []
    restored = contents(site.again)
    assert all(row in restored for row in before)
    assert len(restored) == backup.rows["vods"] + backup.rows["chat_session"]
    everything = contents(site.database)
    assert all(row in everything for row in restored), "of what was written meanwhile some, and each whole"
    compared = compare_with_library(backup, site.library)
    assert (compared.missing, compared.changed, compared.unknown) == ((), (), ())


async def test_a_database_that_is_not_empty_is_refused_and_kept_beside_when_forced(site: Site) -> None:
    place = await site.back_up()
    await site.restore(place)
    add(site.again, beside(site.again), 77)
    full = contents(site.again)
    with pytest.raises(RequestRefused, match="is not empty") as refused:
        await site.restore(place)
    assert "--force" in refused.value.remedy
    assert contents(site.again) == full
    site.again.dispose()
    aside = await site.restore(place, force=True)
    assert contents(site.again) == contents(site.database)
    if site.again.is_sqlite:
        old = Database(site.again.url.set(database=aside[0]))
        with old.unit_of_work(write=False) as unit:
            assert unit.connection.execute(text("SELECT count(*) FROM vods")).scalar_one() == 4
        old.dispose()
    else:
        schema = aside[0].removeprefix("the schema ")
        with site.again.unit_of_work(write=False) as unit:
            assert unit.connection.execute(text(f"SELECT count(*) FROM {schema}.vods")).scalar_one() == 4


async def test_a_backup_is_never_written_over_and_a_damaged_one_is_refused(site: Site) -> None:
    place = await site.back_up()
    with pytest.raises(RequestRefused, match="is there already"):
        await site.back_up()
    later = await site.back_up(NOW + timedelta(seconds=1))
    copy = next(path for path in later.iterdir() if path.name != NAME)
    data = bytearray(copy.read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(data)
    with pytest.raises(RequestRefused, match="is damaged"):
        await site.restore(later)
    with pytest.raises(RequestRefused, match="is no backup"):
        await site.restore(site.target)
    assert {oct(path.stat().st_mode & 0o777) for path in place.iterdir()} == {"0o600"}, "it holds tokens"


async def test_library_and_backup_are_compared(site: Site) -> None:
    place = await site.back_up()
    shutil.rmtree(site.library / "otter" / "0")
    (site.library / "otter" / "1" / MANIFEST_NAME).write_text("changed", "utf-8")
    (site.library / "otter" / "new").mkdir()
    (site.library / "otter" / "new" / MANIFEST_NAME).write_text("new", "utf-8")
    compared = compare_with_library(read_backup(place), site.library)
    assert compared.missing == ("2500000000",)
    assert compared.changed == ("2500000001",)
    assert compared.unknown == ("otter/new",)


@pytest.mark.postgres
async def test_a_pg_dump_that_is_missing_or_too_old_is_told(site: Site, tmp_path: Path) -> None:
    if site.database.is_sqlite:
        pytest.skip("SQLite needs no program")
    old = tmp_path / "pg_dump"
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.1'\n", "utf-8")
    old.chmod(0o755)
    with pytest.raises(PermanentError, match="at least as new"):
        await replace(site, pg_dump=str(old)).back_up()
    with pytest.raises(PermanentError, match="cannot be started"):
        await replace(site, pg_dump=str(tmp_path / "gone")).back_up()
    assert list(site.target.iterdir()) == []
