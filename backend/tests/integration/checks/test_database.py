"""The checks of database and library, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import make_url

from support.queue_rows import Rows
from vodkeep.chat.database import CHAT
from vodkeep.checks.database import DatabaseChecks
from vodkeep.checks.model import CheckResult, State, run_checks
from vodkeep.db import migrate
from vodkeep.db.engine import Database
from vodkeep.telemetry.log import get_logger

pytestmark = pytest.mark.anyio


async def look(database: Database, data_dir: Path) -> dict[str, CheckResult]:
    checks = DatabaseChecks(database, data_dir).checks()
    return {result.name: result for result in await run_checks(checks, get_logger("test"))}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    (folder / "chan" / "A [100]").mkdir(parents=True)
    (folder / "chan" / "A [100]" / "video.mp4").write_bytes(b"x")
    return folder


def measured(rows: Rows, samples: str) -> None:
    """What the service saw of the disk."""
    rows.execute("DELETE FROM kv WHERE key = 'disk_samples'")
    # Colons are parameters elsewhere.
    written = samples.replace(":", "\\:")
    rows.execute(f"INSERT INTO kv (channel, key, value) VALUES ('', 'disk_samples', '{written}')")


@pytest.mark.usefixtures("chat_database")
async def test_all_in_order(database: Database, data_dir: Path) -> None:
    rows = Rows(database)
    rows.add("100", download_state="done", processed=1, downloaded_path="chan/A [100]/video.mp4")
    rows.add("200", download_state="downloading")
    (data_dir / ".work" / "200").mkdir(parents=True)

    measured(rows, "2026-11-20T00:00:00Z=9000000000 2026-11-22T00:00:00Z=9000000000")
    found = await look(database, data_dir)
    assert {result.state for result in found.values()} == {State.OK}
    measured(rows, "2026-11-20T00:00:00Z=9000000000 2026-11-22T00:00:00Z=6000000000")
    (forecast,) = [result for name, result in (await look(database, data_dir)).items() if name == "disk_forecast"]
    assert forecast.state is State.WARN
    assert "fills by 1.5 GB a day and is full on 2026-11-26" in forecast.sentence
    assert "The videos of all 1 kept items are there." in found["library"].sentence


async def test_missing_tables_of_chat_are_told(database: Database, chat_database: Database, data_dir: Path) -> None:
    migrate.downgrade(chat_database, "base", CHAT)

    found = await look(database, data_dir)

    assert found["database"].state is State.WARN
    assert "tables of chat" in found["database"].sentence


async def test_missing_videos_and_stray_work_are_told(database: Database, data_dir: Path) -> None:
    rows = Rows(database)
    rows.add("100", download_state="done", processed=1, downloaded_path="chan/A [100]/video.mp4")
    for number in range(300, 305):
        rows.add(str(number), download_state="done", processed=1, downloaded_path=f"chan/{number}/video.mp4")
    rows.add("400", download_state="done", processed=1, downloaded_path="/etc/passwd")
    (data_dir / ".work" / "999").mkdir(parents=True)
    (data_dir / ".work" / "999" / "part").write_bytes(bytes(1000))

    found = await look(database, data_dir)
    assert found["library"].state is State.FAIL
    assert "The video of 6 of 7 kept items is missing" in found["library"].sentence
    assert "verify --all --repair" in found["library"].fix
    assert found["leftovers"].state is State.WARN
    assert "999" in found["leftovers"].sentence


async def test_an_older_or_newer_schema_is_told(database: Database, data_dir: Path) -> None:
    Rows(database).execute("UPDATE alembic_version SET version_num='ffff_from_the_future'")
    found = await look(database, data_dir)
    assert found["database"].state is State.FAIL
    assert "newer version of vodkeep" in found["database"].sentence
    assert found["library"].state is State.SKIPPED


async def test_looking_makes_no_database(tmp_path: Path) -> None:
    database = Database(make_url(f"sqlite:///{tmp_path / 'data' / 'vodkeep.db'}"))
    found = await look(database, tmp_path / "data")
    assert found["database"].state is State.WARN
    assert found["library"].state is State.SKIPPED
    assert list(tmp_path.iterdir()) == []


async def test_a_server_that_is_away_fails_once(data_dir: Path) -> None:
    (data_dir / ".work" / "1").mkdir(parents=True)
    database = Database(make_url("postgresql+psycopg://someone:hunter2-hunter2@127.0.0.1:9/db"))
    found = await look(database, data_dir)
    assert found["database"].state is State.FAIL
    assert "hunter2" not in found["database"].sentence
    assert found["leftovers"].state is found["library"].state is State.SKIPPED
