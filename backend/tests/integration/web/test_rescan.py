"""The database is lost, and made again from the folders: what the API answers is what it answered before."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update

from support.clock import FakeClock
from support.postgres import fresh_database
from support.web_site import Serve
from vodkeep.chat.comment_pages import Comment, message_of
from vodkeep.chat.database import chat_database as beside
from vodkeep.chat.fill import Broadcast, Filled, load_read, merge_into_item
from vodkeep.chat.indexer import Indexer
from vodkeep.chat.model import Chatter
from vodkeep.chat.search_index import prepare
from vodkeep.db.engine import Database
from vodkeep.db.tables import channels, publications, vods
from vodkeep.keep.additions import change_manifest
from vodkeep.keep.library import describe_file
from vodkeep.keep.manifest import (
    MANIFEST_NAME,
    LedgerEntry,
    LetGoEntry,
    Manifest,
    PublicationEntry,
    load_manifest,
    write_manifest,
)
from vodkeep.pipeline.chat_stage import load_subject, write_into_folder
from vodkeep.pipeline.model import Asked, Asker
from vodkeep.pipeline.rescan import Outcome, Rescan, look_through, row_of, settle_doubles
from vodkeep.pipeline.store import QueueStore
from vodkeep.telemetry.log import get_logger

pytestmark = pytest.mark.anyio

START = datetime(2026, 11, 2, 18, 30, tzinfo=UTC)
MOSS = Chatter("7", "moss", "Moss", "#FF0000", "vip/1")
WHOLE, PUBLISHED, PART = "2500000001", "2500000002", "2500000003"


class Archive:
    """Three items with folders; one with a chat."""

    def __init__(self, database: Database, chat: Database, root: Path, clock: FakeClock) -> None:
        self.database, self.chat, self.root, self.clock = database, chat, root, clock

    def add(self, video_id: str, start: datetime, **changes: Any) -> Path:
        """A folder as the capture leaves it."""
        folder = self.root / "otter" / f"{start.date()} Rafting [{video_id}]"
        folder.mkdir(parents=True)
        (folder / "video.mp4").write_bytes(video_id.encode() * 100)
        manifest = Manifest(
            video_id, f"9{video_id}", "otter", "Otter", f"Rafting {video_id}", start, 60_400, 1.0, "1080p60",
            ("vodkeep",), start + timedelta(hours=2), (describe_file(folder / "video.mp4"),), (),
            (LedgerEntry(0, 60_400, "vod", ""),), (), description="Down the river.",
            found_at=start + timedelta(minutes=1), listed_seconds=61,
        )  # fmt: skip
        (folder / MANIFEST_NAME).write_text(write_manifest(replace(manifest, **changes)), "utf-8")
        return folder

    def enter(self, folder: Path, **values: Any) -> None:
        """The row that the service has of it."""
        seen = next(each for each in look_through(self.root) if self.root / each.path == folder)
        assert seen.manifest is not None
        with self.database.unit_of_work() as unit:
            row = {**row_of(seen, seen.manifest, self.clock.now()), "download_state": "done", "processed": 1, **values}
            unit.connection.execute(insert(vods).values(row))
            unit.commit()

    def say(self, folder: Path, words: list[str]) -> None:
        """A chat, in the database and in the folder."""
        manifest = load_manifest(folder)
        assert manifest is not None
        assert manifest.date is not None
        start_ms = round(manifest.date.timestamp() * 1000)
        broadcast = Broadcast(manifest.video_id, "otter", manifest.stream_id, start_ms, manifest.duration_ms)
        comments = [
            Comment(f"00000000-0000-4000-8000-{number:012d}", number, start_ms + number * 500, MOSS, said, "")
            for number, said in enumerate(words)
        ]
        with self.chat.unit_of_work() as unit:
            messages = [message_of(each, channel="otter", start_ms=start_ms) for each in comments]
            merge_into_item(unit.connection, broadcast, messages)
            unit.commit()
        with self.database.unit_of_work() as unit:
            item = QueueStore(unit.connection).find(manifest.video_id)
            assert item is not None
            subject = load_subject(unit, item, self.root)
            assert subject is not None
            write_into_folder(
                self.chat, subject, Filled(len(words), 0.75, ((45_300, 60_400),)), lambda: None, check=lambda: None
            )
            unit.connection.execute(
                update(vods)
                .where(vods.c.twitch_vod_id == manifest.video_id)
                .values(chat_messages=len(words), chat_completeness=0.75)
            )
            unit.commit()

    def rescan(self, database: Database, chat: Database) -> dict[str, tuple[Outcome, str]]:
        work = Rescan(database, chat, self.root, Asked(Asker.CLI, None))
        found = settle_doubles(look_through(self.root), work.rows())
        results = [work.enter(each, self.clock.now()) for each in found]
        return {str(result.seen.path): (result.outcome, result.sentence) for result in results}


@pytest.fixture
def archive(database: Database, chat_database: Database, data_dir: Path, clock: FakeClock) -> Archive:
    return Archive(database, chat_database, data_dir, clock)


@pytest.fixture
def another(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Database, Database]]:
    """A second pair of databases, new and migrated."""
    if database_kind == "sqlite":
        path = tmp_path / "again" / "vodkeep.db"
        path.parent.mkdir()
        shutil.copyfile(request.getfixturevalue("migrated_sqlite_file"), path)
        shutil.copyfile(request.getfixturevalue("migrated_chat_file"), path.with_name("chat.db"))
        database = Database(request.getfixturevalue("database_url").set(database=str(path)))
        yield database, beside(database)
        database.dispose()
        return
    server = request.getfixturevalue("postgres_server")
    with fresh_database(server, request.getfixturevalue("migrated_postgres_template")) as name:
        database = Database(server.url(name))
        yield database, database
        database.dispose()


async def answers(serve: Serve, database: Database, clock: FakeClock) -> dict[str, Any]:
    """What the API says, without what a rescan cannot know: numbers of rows, and what happened when."""
    chat = beside(database)
    with chat.unit_of_work() as unit:
        prepare(unit.connection)
        unit.commit()
    indexer = Indexer(chat, clock, get_logger("chat_index"))
    while await indexer.work():
        pass
    paths = [
        "/api/v1/vods?limit=50",
        *(f"/api/v1/vods/{video_id}" for video_id in (WHOLE, PUBLISHED, PART)),
        f"/api/v1/vods/{WHOLE}/chat?offset_ms=0",
        f"/api/v1/vods/{WHOLE}/chat/histogram?bucket_s=10",
        f"/api/v1/vods/{WHOLE}/chat/search?q=river",
        "/api/v1/chat/search?q=river",
    ]
    async with serve(on=database) as site:
        return {path: known(await site.json(path)) for path in paths}


def known(answer: Any) -> Any:
    if isinstance(answer, dict):
        unknowable = ("updated_at", "events", "next", "etag", "cursor", "revision", "session", "publications")
        return {key: known(value) for key, value in answer.items() if key not in unknowable}
    return [known(each) for each in answer] if isinstance(answer, list) else answer


async def test_the_answers_are_the_same_before_and_after(
    archive: Archive, another: tuple[Database, Database], serve_site: Serve, clock: FakeClock
) -> None:
    whole = archive.add(WHOLE, START)
    archive.enter(whole)
    archive.say(whole, [f"the river, {number} 🦦" for number in range(80)])
    published = archive.add(PUBLISHED, START + timedelta(days=1))
    archive.enter(published, youtube_url="https://www.youtube.com/watch?v=dQw4w9WgXcQ")
    entry = PublicationEntry(1, 1, 1, "processed", 0, 60_400, "dQw4w9WgXcQ", START, START)
    change_manifest(published, lambda manifest: replace(manifest, publications=(entry,)))
    part = archive.add(PART, START + timedelta(days=2), completeness=0.5)
    sentence = "Only 50.00% of the broadcast was captured; its manifest names the holes."
    archive.enter(part, download_state="parked", processed=0, processing_error=sentence, error_code="incomplete")
    before = await answers(serve_site, archive.database, clock)
    assert "otter" in str(before["/api/v1/chat/search?q=river"]), "there is something to be lost"

    database, chat = another
    assert {outcome for outcome, _ in archive.rescan(database, chat).values()} == {Outcome.ENTERED}
    assert await answers(serve_site, database, clock) == before
    with database.unit_of_work(write=False) as unit:
        row = unit.connection.execute(select(publications)).one()
        assert (row.youtube_id, row.state, row.marker) == ("dQw4w9WgXcQ", "processed", f"Vodkeep {PUBLISHED}/1.1")
        assert row.committed_bytes == row.size_bytes > 0
        assert unit.connection.execute(select(channels.c.display_name)).scalar_one() == "Otter"
    with chat.unit_of_work(write=False) as unit:
        assert load_read(unit.connection, WHOLE) == [(0, 45_300)], "what was read is not asked for again"

    assert {outcome for outcome, _ in archive.rescan(database, chat).values()} == {Outcome.KNOWN}
    assert await answers(serve_site, database, clock) == before, "twice is once"


def test_what_is_no_item_is_left_alone_and_told(archive: Archive) -> None:
    whole = archive.add(WHOLE, START)
    shutil.copytree(whole, archive.root / "copy")
    damaged = archive.add("2500000009", START)
    (damaged / MANIFEST_NAME).write_text("{", "utf-8")
    short = archive.add("2500000008", START)
    (short / "video.mp4").write_bytes(b"short")
    foreign = archive.add("2500000007", START, channel="../../etc")
    videoless = archive.add("2500000006", START, files=())
    before = {path: path.read_bytes() for path in archive.root.rglob("*") if path.is_file()}
    told = archive.rescan(archive.database, archive.chat)
    assert told == {
        "copy": (Outcome.ENTERED, ""),
        str(whole.relative_to(archive.root)): (Outcome.LEFT, f"it holds VOD {WHOLE}, as copy does"),
        str(damaged.relative_to(archive.root)): (Outcome.LEFT, told[str(damaged.relative_to(archive.root))][1]),
        str(short.relative_to(archive.root)): (Outcome.LEFT, "video.mp4 has 5 bytes, and the manifest says 1000"),
        str(foreign.relative_to(archive.root)): (Outcome.LEFT, "its manifest names no channel that could be"),
        str(videoless.relative_to(archive.root)): (Outcome.LEFT, "its manifest names no video"),
    }
    assert "manifest.json: it cannot be read" in told[str(damaged.relative_to(archive.root))][1]
    assert {path: path.read_bytes() for path in archive.root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("row", "outcome", "after"),
    [
        pytest.param({"download_state": "pending"}, Outcome.LINKED, "done", id="found by the catalog alone"),
        pytest.param(
            {"download_state": "done", "processed": 1, "downloaded_path": "otter/gone/video.mp4"},
            Outcome.LINKED, "done", id="moved by hand",
        ),
        pytest.param({"download_state": "downloading"}, Outcome.LEFT, "downloading", id="at work"),
        pytest.param(
            {"download_state": "canceled", "processing_error": "no", "downloaded_path": "otter/gone/video.mp4"},
            Outcome.LINKED, "canceled", id="canceled",
        ),
    ],
)  # fmt: skip
def test_a_row_without_its_folder_is_told_of_it(
    archive: Archive, row: dict[str, Any], outcome: Outcome, after: str
) -> None:
    whole = archive.add(WHOLE, START, chat=None, publications=(PublicationEntry(1, 1, 1, "vanished", 0, 1),))
    with archive.database.unit_of_work() as unit:
        unit.connection.execute(insert(vods).values(twitch_vod_id=WHOLE, channel="otter", priority=5, **row))
        unit.commit()
    told = archive.rescan(archive.database, archive.chat)
    assert told[str(whole.relative_to(archive.root))][0] is outcome
    with archive.database.unit_of_work(write=False) as unit:
        now = unit.connection.execute(select(vods)).one()
        events = unit.connection.execute(text("SELECT count(*) FROM events WHERE kind = 'rescan'")).scalar_one()
    assert (now.download_state, now.priority) == (after, 5)
    assert (now.downloaded_path == str(whole.relative_to(archive.root) / "video.mp4")) == (outcome is Outcome.LINKED)
    assert events == (outcome is Outcome.LINKED)


def test_a_restored_row_is_told_what_became_of_the_video_since(archive: Archive) -> None:
    back, let_go = archive.add(WHOLE, START), archive.add(PART, START)
    gone = LetGoEntry(START, "Old.", describe_file(let_go / "video.mp4"), ".trash/x")
    archive.enter(back, let_go_at=START)
    archive.enter(let_go)
    manifest = load_manifest(let_go)
    assert manifest is not None
    (let_go / MANIFEST_NAME).write_text(write_manifest(replace(manifest, files=(), let_go=gone)), "utf-8")
    # What is just being moved is not judged by what was read before.
    assert archive.rescan(archive.database, archive.chat) == {
        str(back.relative_to(archive.root)): (Outcome.LINKED, ""),
        str(let_go.relative_to(archive.root)): (Outcome.KNOWN, ""),
    }
    (let_go / "video.mp4").unlink()
    assert archive.rescan(archive.database, archive.chat) == {
        str(back.relative_to(archive.root)): (Outcome.KNOWN, ""),
        str(let_go.relative_to(archive.root)): (Outcome.LINKED, ""),
    }
    with archive.database.unit_of_work(write=False) as unit:
        rows = {row.twitch_vod_id: row for row in unit.connection.execute(select(vods))}
    assert (rows[WHOLE].let_go_at, rows[PART].let_go_at) == (None, START)
    assert {row.download_state for row in rows.values()} == {"done"}


def test_a_rescan_that_was_cut_off_in_a_chat_goes_on(archive: Archive, another: tuple[Database, Database]) -> None:
    whole = archive.add(WHOLE, START)
    archive.enter(whole)
    archive.say(whole, [f"the river, {number}" for number in range(2500)])
    database, chat = another
    work = Rescan(database, chat, archive.root, Asked(Asker.CLI, None))
    (seen,) = look_through(archive.root)
    pieces = iter([None, None])

    def cut_off() -> None:
        if next(pieces, "killed") == "killed":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work.enter(seen, archive.clock.now(), cut_off)
    with chat.unit_of_work(write=False) as unit:
        assert unit.connection.execute(text("SELECT count(*) FROM chat_message")).scalar_one() == 2000
    result = work.enter(seen, archive.clock.now())
    assert (result.outcome, result.messages) == (Outcome.ENTERED, 500)
