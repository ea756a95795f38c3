"""Scrubbing, on real files and a real database: flipped bits are found, told and mended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text, update

from support.clock import FakeClock
from vodkeep.chat.comment_pages import Comment, message_of
from vodkeep.chat.fill import Broadcast, Filled, merge_into_item
from vodkeep.chat.model import Chatter
from vodkeep.db.engine import Database
from vodkeep.db.tables import scrubs, vods
from vodkeep.errors import ArchiveAway
from vodkeep.keep.fixity import check_files
from vodkeep.keep.library import describe_file
from vodkeep.keep.manifest import CHAT_NAME, MANIFEST_NAME, Manifest, load_manifest, write_manifest
from vodkeep.pipeline.chat_stage import load_subject, write_into_folder
from vodkeep.pipeline.recheck import Verdict
from vodkeep.pipeline.scrub import Scrubber
from vodkeep.pipeline.store import QueueStore
from vodkeep.telemetry.log import get_logger
from vodkeep.web.reading import DatabaseStatusReader

pytestmark = pytest.mark.anyio

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
START_MS = round(START.timestamp() * 1000)


class Shelf:
    """Items with folders, and what reads them."""

    def __init__(self, database: Database, chat: Database, clock: FakeClock, root: Path) -> None:
        self.database, self.chat, self.clock, self.root = database, chat, clock, root
        self.away = False
        self.scrubber = Scrubber(
            database=database, chat=chat, library=root, clock=clock, log=get_logger("scrub"),
            interval=timedelta(days=30), rate_bytes_s=None, require_archive=self._require,
        )  # fmt: skip

    def _require(self) -> None:
        if self.away:
            raise ArchiveAway("The disk is away.")

    def add(self, video_id: str) -> Path:
        folder = self.root / "otter" / video_id
        folder.mkdir(parents=True)
        (folder / "video.mp4").write_bytes(b"film" * 1000)
        manifest = Manifest(
            video_id, None, "otter", "Otter", "Rafting", START, 60_000, 1.0, "chunked", ("vodkeep",), START,
            (describe_file(folder / "video.mp4"),), (), (), (),
        )  # fmt: skip
        (folder / MANIFEST_NAME).write_text(write_manifest(manifest), "utf-8")
        with self.database.unit_of_work() as unit:
            unit.connection.execute(
                insert(vods).values(
                    twitch_vod_id=video_id, channel="otter", title="Rafting", date=START, download_state="done",
                    processed=1, downloaded_path=f"otter/{video_id}/video.mp4",
                )
            )  # fmt: skip
            unit.commit()
        return folder

    def say(self, video_id: str, count: int) -> None:
        broadcast = Broadcast(video_id, "otter", None, START_MS, 60_000)
        moss = Chatter("7", "moss", "Moss", "", "")
        comments = [
            Comment(f"00000000-0000-4000-8000-{n:012d}", n, START_MS + n * 10, moss, "hi", "") for n in range(count)
        ]
        with self.chat.unit_of_work() as unit:
            messages = [message_of(each, channel="otter", start_ms=START_MS) for each in comments]
            merge_into_item(unit.connection, broadcast, messages)
            unit.commit()
        with self.database.unit_of_work(write=False) as unit:
            item = QueueStore(unit.connection).find(video_id)
            assert item is not None
            subject = load_subject(unit, item, self.root)
        assert subject is not None
        write_into_folder(self.chat, subject, Filled(count, 0.5), lambda: None, check=lambda: None)

    def problems(self) -> dict[str, str]:
        with self.database.unit_of_work(write=False) as unit:
            return {row.twitch_vod_id: row.problems for row in unit.connection.execute(select(scrubs))}


def flip(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


@pytest.fixture
def shelf(database: Database, chat_database: Database, clock: FakeClock, tmp_path: Path) -> Shelf:
    return Shelf(database, chat_database, clock, tmp_path / "library")


async def test_every_item_has_its_turn_and_those_longest_ago_come_first(shelf: Shelf, clock: FakeClock) -> None:
    for video_id in ("1", "2", "3"):
        shelf.add(video_id)
    seen = []
    while due := await shelf.scrubber.due():
        finding = (await shelf.scrubber.check(due[0])).finding
        seen.append((finding.subject.video_id, finding.verdict))
        await clock.advance(1.0)
    assert seen == [("1", Verdict.FINE), ("2", Verdict.FINE), ("3", Verdict.FINE)], "each once"
    with shelf.database.unit_of_work() as unit:
        for video_id, days in (("2", 50), ("3", 40)):
            past = {"checked_at": clock.now() - timedelta(days=days)}
            unit.connection.execute(update(scrubs).where(scrubs.c.twitch_vod_id == video_id).values(past))
        unit.commit()
    assert await shelf.scrubber.due() == ["2", "3"]


async def test_a_flipped_bit_of_a_video_is_found_and_the_item_due_again(shelf: Shelf) -> None:
    folder = shelf.add("1")
    flip(folder / "video.mp4")
    finding = (await shelf.scrubber.check("1")).finding
    assert finding.verdict is Verdict.DAMAGED
    assert "video.mp4 has another checksum" in shelf.problems()["1"]
    assert (await DatabaseStatusReader(shelf.database, ()).figures()).damaged == 1
    with shelf.database.unit_of_work(write=False) as unit:
        assert unit.connection.execute(select(vods.c.download_state)).scalar_one() == "pending"
        events = unit.connection.execute(text("SELECT code, remedy FROM events WHERE kind = 'scrub'")).all()
    assert events[0].code == "damaged"
    assert "fetched again" in events[0].remedy


async def test_a_flipped_bit_of_a_chat_is_mended_from_the_database(shelf: Shelf) -> None:
    folder = shelf.add("1")
    shelf.say("1", 50)
    before = load_manifest(folder)
    flip(folder / CHAT_NAME)
    finding = (await shelf.scrubber.check("1")).finding
    assert finding.only_chat
    after = load_manifest(folder)
    assert after == before, "the same messages make the same file"
    assert after is not None
    assert check_files(folder, after, lambda _: None) == ()
    with shelf.database.unit_of_work(write=False) as unit:
        assert unit.connection.execute(select(vods.c.download_state)).scalar_one() == "done", "nothing is fetched"


async def test_a_chat_that_the_database_has_less_of_stays_as_it_is(shelf: Shelf) -> None:
    folder = shelf.add("1")
    shelf.say("1", 50)
    flip(folder / CHAT_NAME)
    damaged = (folder / CHAT_NAME).read_bytes()
    with shelf.chat.unit_of_work() as unit:
        unit.connection.execute(text("UPDATE chat_session SET messages = 49"))
        unit.commit()
    await shelf.scrubber.check("1")
    assert (folder / CHAT_NAME).read_bytes() == damaged
    assert "another checksum" in shelf.problems()["1"]


async def test_a_disk_that_is_away_is_no_damage(shelf: Shelf) -> None:
    shelf.add("1")
    shelf.away = True
    with pytest.raises(ArchiveAway):
        await shelf.scrubber.check("1")
    assert shelf.problems() == {}
