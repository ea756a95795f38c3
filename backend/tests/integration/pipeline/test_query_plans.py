"""No question of the running service takes longer because the archive has grown."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, insert, text

from support.clock import FakeClock
from support.pipeline_workshop import GOOD, Workshop
from support.postgres import PostgresServer, fresh_database
from support.queue_items import NOW
from support.queue_rows import Rows
from support.statements import Asked, Statements, effort, full_scans, listening
from vodkeep.capture.model import Phase, Progress
from vodkeep.catalog.model import BroadcasterId, Video, VodId
from vodkeep.catalog.store import CatalogStore
from vodkeep.db.engine import Database
from vodkeep.db.tables import channels, events, kv, vods
from vodkeep.errors import Incomplete, NetworkError
from vodkeep.pipeline.due import UploadLimits
from vodkeep.pipeline.model import DownloadState, Stage
from vodkeep.pipeline.planner import Planner
from vodkeep.pipeline.stages import CapturedItem
from vodkeep.pipeline.store import QueueStore
from vodkeep.telemetry.log import get_logger
from vodkeep.web.reading import DatabaseStatusReader

pytestmark = pytest.mark.anyio

GROWING = frozenset({"vods", "events"})
CHANNELS = ("a", "b", "shut", "probing")
ROWS = 6000

# Of 6,000 rows, a question may look at those it answers with and a few beside them.
_FEW = 200


@pytest.fixture(scope="module")
def made() -> dict[str, Path | str]:
    """What is copied for each test: a file, or the name of a PostgreSQL database."""
    return {}


@pytest.fixture
def database_url(
    database_kind: str,
    made: dict[str, Path | str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[URL]:
    """A copy of the archive, which is made once."""
    if database_kind == "sqlite":
        if database_kind not in made:
            whole = tmp_path_factory.mktemp("archive") / "whole.db"
            shutil.copyfile(request.getfixturevalue("migrated_sqlite_file"), whole)
            fill(URL.create("sqlite", database=str(whole)))
            made[database_kind] = whole
        path = tmp_path / "vodkeep.db"
        shutil.copyfile(made[database_kind], path)
        yield URL.create("sqlite", database=str(path))
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    if database_kind not in made:
        with server.connect() as connection:
            template = request.getfixturevalue("migrated_postgres_template")
            connection.execute(f"CREATE DATABASE whole_archive TEMPLATE {template}")
        fill(server.url("whole_archive"))
        made[database_kind] = "whole_archive"
    with fresh_database(server, "whole_archive") as name:
        yield server.url(name)


@pytest.fixture
def archive(database: Database) -> Database:
    """Years of work in four channels."""
    return database


def fill(url: URL) -> None:
    """Make everything there can be in an archive, thousands of it."""
    database = Database(url)
    states = (
        {"download_state": "done", "processed": 1, "downloaded_path": "p", "completeness": 1.0},
        {"download_state": "done", "processed": 1, "downloaded_path": "p", "completeness": 0.5},
        {"download_state": "pending"},
        {"download_state": "failed", "processing_error": "x", "not_before": NOW + timedelta(hours=1)},
        {"download_state": "failed", "processing_error": "x", "stage": "publish"},
        {"download_state": "parked", "processing_error": "x"},
        {"download_state": "downloaded", "stage": "publish", "downloaded_path": "p"},
        {"download_state": "canceled", "processing_error": "x"},
    )
    plain: dict[str, Any] = {
        "processed": 0,
        "processing_error": None,
        "not_before": None,
        "stage": "capture",
        "downloaded_path": None,
        "completeness": None,
    }
    rows = [
        {
            "twitch_vod_id": str(1_000_000 + number),
            "channel": CHANNELS[number // 8 % 4],
            "date": NOW - timedelta(days=3, hours=number),
            "back_catalogue": number // 32 % 2,
            "priority": number // 64 % 3,
            "created_at": NOW,
            "updated_at": NOW,
            **plain,
            **states[number % len(states)],
        }
        for number in range(ROWS)
    ]
    moves = [
        {"twitch_vod_id": row["twitch_vod_id"], "at": NOW, "kind": "state", "from_state": source, "to_state": target}
        for row in rows
        for source, target in (("pending", "downloading"), ("downloading", "failed"))
    ]
    published = [
        {"twitch_vod_id": str(1_000_000 + number), "at": NOW - timedelta(hours=6 * number), "kind": "state"}
        | {"from_state": "uploading", "to_state": "done"}
        for number in range(1000)
    ]
    breakers = [
        {"channel": channel, "key": key, "value": value}
        for channel, until in (("shut", "2026-11-23T13:00:00Z"), ("probing", "2026-11-23T11:00:00Z"))
        for key, value in (("circuit_state", "open"), ("circuit_failures", "9"), ("circuit_open_until", until))
    ]
    with database.unit_of_work() as unit:
        unit.connection.execute(insert(channels), [{"login": each, "vod_days": 14} for each in CHANNELS])
        unit.connection.execute(insert(vods), rows)
        unit.connection.execute(insert(events), moves)
        unit.connection.execute(insert(events), published)
        unit.connection.execute(insert(kv), breakers)
        unit.commit()
    with database.unit_of_work() as unit:
        unit.connection.execute(text("ANALYZE"))
        unit.commit()
    database.dispose()


def check(database: Database, statements: Statements, *, at_least: int) -> None:
    """Each statement finds what it needs by an index, and little beside it."""
    asked = statements.about(*GROWING)
    assert len(asked) >= at_least, [one.text for one in asked]
    grows: dict[str, Any] = {}
    for one in asked:
        with database.unit_of_work() as unit:
            if found := full_scans(unit.connection, one, GROWING):
                grows[one.shape] = found
        # Executed, and undone, as the block ends without a commit.
        with database.unit_of_work() as unit:
            looked_at = effort(unit.connection, one, GROWING)
        if looked_at > _FEW:
            grows[one.shape] = f"{looked_at} rows"
    assert grows == {}


@pytest.mark.parametrize("slots", [{Stage.CAPTURE: 1}, {Stage.CAPTURE: 8, Stage.PUBLISH: 3}])
async def test_planning(archive: Database, clock: FakeClock, slots: dict[Stage, int]) -> None:
    shop = Workshop(archive, clock, channels=CHANNELS)

    class Asking:
        """An engine with these slots, which starts nothing: the rows stay as they are."""

        async def slots(self) -> dict[Stage, int]:
            return slots

        async def running(self) -> list[Any]:
            return []

        async def start(self, stage: Stage, item: object, *, probe: bool = False) -> bool:
            asked.append((stage, probe))
            return False

        async def cancel(self, item_id: str) -> bool:
            return True

    asked: list[tuple[Stage, bool]] = []
    planner = Planner(
        database=archive,
        engine=Asking(),
        circuits=shop.circuits,
        clock=clock,
        log=get_logger("vod_process"),
        channels=CHANNELS,
        publishes=True,
        upload_limits=UploadLimits(10, 10),
        free_space=lambda: 0,
    )
    with listening(archive) as statements:
        await planner.plan()
        planner._free_space = lambda: 10**15
        await planner.plan()
    assert {stage for stage, _ in asked} == set(slots)
    check(archive, statements, at_least=5)


async def test_what_ripens_and_what_is_not_published_any_more(archive: Database) -> None:
    with listening(archive) as statements, archive.unit_of_work() as unit:
        store = QueueStore(unit.connection)
        assert store.next_not_before() == NOW + timedelta(hours=1)
        assert store.ripen(NOW + timedelta(hours=1), limit=10) == 10
        assert len(store.load_unpublishable(limit=20, publishes=False)) == 20
        assert store.load_unpublishable(limit=20, publishes=True) == []
        assert store.depth() == sum(store.depths().values())
    check(archive, statements, at_least=3)


async def test_runs_from_their_claims_to_their_ends_and_their_heartbeats(archive: Database, clock: FakeClock) -> None:
    shop = Workshop(archive, clock, channels=CHANNELS, slots=3)
    endings: list[CapturedItem | Exception] = [GOOD, NetworkError("No answer."), Incomplete("Too little.")]
    with listening(archive) as statements:
        async with shop.running():
            begun = [await shop.capture.nth(number) for number in (1, 2, 3)]
            await clock.until_sleeping(4)
            for capturing in begun:
                capturing.on_progress(Progress(Phase.FETCHING, 5, 10, 1, 2, 1.0, 1.0))
                capturing.report_phase(Phase.VERIFYING)
            await clock.advance(1)
            await clock.until_sleeping(4)
            for capturing, ending in zip(begun, endings, strict=True):
                capturing.end(ending)
            await shop.hears("download failed", 2)
            await shop.capture.nth(4)
        await shop.hears("stopping")
    texts = "\n".join(statements.by_shape)
    for column in ("download_bytes=", "progress_updated_at=", "download_retries=", "generation="):
        assert column in texts, "an update of each kind was heard"
    check(archive, statements, at_least=9)


async def test_status_and_lists(archive: Database, rows: Rows) -> None:
    rows.execute("UPDATE vods SET download_state='downloading' WHERE twitch_vod_id='1000002'")
    reader = DatabaseStatusReader(archive, CHANNELS)
    with listening(archive) as statements:
        figures = await reader.figures()
        pages = [await reader.list_vods(limit=20)]
        pages.append(await reader.list_vods(limit=20, after=pages[0].following))
        for states in ((), (DownloadState.PARKED,), (DownloadState.FAILED, DownloadState.WAITING)):
            for channel in (None, "a"):
                first = await reader.list_vods(limit=20, channel=channel, states=states)
                pages.append(await reader.list_vods(limit=20, channel=channel, states=states, after=first.following))
        await reader.find_vod("1000002")
    assert (len(figures.active), figures.totals.depth + figures.totals.processed) == (1, ROWS)
    assert all(page.vods for page in pages[:2])
    check(archive, statements, at_least=10)


async def test_discovery_of_a_page_that_is_known(archive: Database) -> None:
    page = [
        Video(VodId(str(1_000_000 + 4 * number)), BroadcasterId("1"), NOW - timedelta(days=3, hours=4 * number))
        for number in range(20)
    ]
    with listening(archive) as statements, archive.unit_of_work() as unit:
        store = CatalogStore(unit.connection)
        assert store.save_videos("a", page, now=NOW).new == ()
        store.note_lifetime("a", page, is_end=True, now=NOW)
    check(archive, statements, at_least=1)


async def test_a_look_at_every_row_would_be_noticed(archive: Database) -> None:
    counting = Asked("SELECT sum(duration_seconds) FROM vods", () if archive.is_sqlite else {})
    with archive.unit_of_work(write=False) as unit:
        assert full_scans(unit.connection, counting, GROWING) or archive.is_sqlite
        assert effort(unit.connection, counting, GROWING) >= _FEW
