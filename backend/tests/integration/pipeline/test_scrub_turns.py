"""Reading the archive again, on real folders and databases."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from support.clock import START, FakeClock
from support.kept_items import KeptItems
from vodkeep.chat.comment_pages import Comment, message_of
from vodkeep.chat.fill import Broadcast, Filled, merge_into_item
from vodkeep.chat.model import Chatter
from vodkeep.checks.database import DatabaseChecks
from vodkeep.checks.model import State
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.events import Event, EventLog
from vodkeep.errors import ArchiveAway, PermanentError
from vodkeep.keep import additions
from vodkeep.keep.fixity import check_files
from vodkeep.keep.manifest import CHAT_NAME, MANIFEST_NAME, load_manifest, write_manifest
from vodkeep.pipeline.chat_stage import load_subject, write_into_folder
from vodkeep.pipeline.identity import MARK_NAME, ArchiveMark
from vodkeep.pipeline.recheck import Verdict
from vodkeep.pipeline.scrub import Scrubber
from vodkeep.pipeline.scrub_store import Scrubbed, ScrubStore
from vodkeep.pipeline.store import QueueStore
from vodkeep.telemetry.log import get_logger
from vodkeep.web.reading import DatabaseStatusReader

pytestmark = pytest.mark.anyio

MONTH = timedelta(days=30)
YOUNG = 5.0  # days: Twitch still has it


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "archive"
    path.mkdir()
    return path


@pytest.fixture
def kept(database: Database, library: Path) -> KeptItems:
    return KeptItems(database, library)


@pytest.fixture
def scrub(kept: KeptItems, chat_database: Database, clock: FakeClock) -> Scrubber:
    return scrub_of(kept, chat_database, clock)


def scrub_of(kept: KeptItems, chat: Database, clock: FakeClock, *, repairs: bool = True) -> Scrubber:
    mark = ArchiveMark(kept.library)
    mark.claim(kept.database, START)
    return Scrubber(
        database=kept.database,
        chat=chat,
        library=kept.library,
        clock=clock,
        log=get_logger("scrub"),
        interval=MONTH,
        rate_bytes_s=None,
        require_archive=mark.require,
        repairs=repairs,
    )


def flip(path: Path) -> None:
    """Turn one bit of a file round; size and time say nothing of it."""
    times = path.stat()
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def events_of(kept: KeptItems, video_id: str, code: str | None = None) -> list[Event]:
    with kept.database.unit_of_work(write=False) as unit:
        found = EventLog(unit.connection).of_item(video_id)
    return [event for event in found if event.code == code or (code is None and event.kind in ("scrub", "verify"))]


def found_of(kept: KeptItems, video_id: str) -> Scrubbed | None:
    with kept.database.unit_of_work(write=False) as unit:
        return ScrubStore(unit.connection).find(video_id)


def damaged(kept: KeptItems) -> list[str]:
    with kept.database.unit_of_work(write=False) as unit:
        return ScrubStore(unit.connection).load_damaged()


def recaptured(kept: KeptItems, video_id: str, body: bytes) -> None:
    """What the capture stage leaves when it has fetched the item again."""
    kept.video(video_id).write_bytes(body)
    with kept.database.unit_of_work() as unit:
        unit.connection.exec_driver_sql(
            "UPDATE vods SET download_state = 'done', stage = 'tidy', processed = 1, generation = generation + 1"
            f" WHERE twitch_vod_id = '{video_id}'"
        )
        unit.commit()


async def test_each_item_has_its_turn_and_then_a_pause(kept: KeptItems, scrub: Scrubber, clock: FakeClock) -> None:
    for video_id in ("1", "2", "3"):
        kept.add(video_id)
    kept.add("gone", let_go_at=START)
    kept.add("at work", download_state="downloading", processed=0)
    kept.add("due", download_state="pending", processed=0)

    assert await scrub.due() == ["1", "2", "3"]
    read = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scrub.run_forever)
        for _ in range(30):
            await clock.until_sleeping()
            await clock.advance(24 * 3600)
            await clock.until_sleeping()
            read.append(sum(found_of(kept, video_id) is not None for video_id in ("1", "2", "3")))
        tasks.cancel_scope.cancel()

    assert read[0] == 1
    assert read[-1] == 3
    assert 2 in read
    assert [found_of(kept, name) for name in ("gone", "at work", "due")] == [None, None, None]
    assert damaged(kept) == []
    assert events_of(kept, "1") == []


async def test_a_flipped_bit_is_told_once_and_fetched_again(kept: KeptItems, scrub: Scrubber, clock: FakeClock) -> None:
    kept.add("1", days_old=YOUNG)
    whole = kept.video("1").read_bytes()
    flip(kept.video("1"))

    assert await scrub.take_turn() == 0.0
    (event,) = events_of(kept, "1", "damaged")
    assert "video.mp4 has another checksum" in event.sentence
    assert kept.row("1")["download_state"] == "pending"
    assert damaged(kept) == ["1"]
    await scrub.take_turn()  # It is due to be captured, and left alone until it has been.
    assert len(events_of(kept, "1", "damaged")) == 1

    recaptured(kept, "1", whole)
    await scrub.take_turn()
    assert damaged(kept) == []
    assert [event.code for event in events_of(kept, "1")] == ["damaged", "mended"]
    assert found_of(kept, "1") == Scrubbed(clock.now(), Verdict.FINE)


async def test_doctor_and_status_tell_of_damage_unless_its_video_was_let_go(kept: KeptItems, scrub: Scrubber) -> None:
    kept.add("1")
    flip(kept.video("1"))
    (check,) = [each for each in DatabaseChecks(kept.database, kept.library).checks() if each.name == "fixity"]
    assert (await check.look()).state is State.OK
    await scrub.take_turn()

    found = await check.look()
    assert (found.state, found.sentence) == (State.FAIL, "1 item was found damaged: 1.")
    assert (await DatabaseStatusReader(kept.database, ()).figures()).damaged == 1
    with kept.database.unit_of_work() as unit:
        unit.connection.exec_driver_sql("UPDATE vods SET let_go_at = created_at")
        unit.commit()
    assert (await check.look()).state is State.OK
    assert (await DatabaseStatusReader(kept.database, ()).figures()).damaged == 0


async def test_an_item_that_is_damaged_again_waits_for_its_next_turn(
    kept: KeptItems, scrub: Scrubber, clock: FakeClock
) -> None:
    kept.add("1", days_old=YOUNG)
    flip(kept.video("1"))
    await scrub.take_turn()
    for _ in range(4):
        recaptured(kept, "1", b"not the video of 1")
        await scrub.take_turn()

    assert kept.row("1")["download_state"] == "done"
    assert len(events_of(kept, "1", "damaged")) == 2
    found = found_of(kept, "1")
    assert found is not None
    assert "look at the disk" in found.remedy
    assert await DatabaseStatusReader(kept.database, ()).find_scrubbed("1") == found
    await clock.advance(MONTH.total_seconds())
    await scrub.take_turn()
    assert kept.row("1")["download_state"] == "pending"


@pytest.mark.parametrize("harm", ["missing", "shorter", "folder"])
def test_other_damage_is_found_and_a_vod_that_twitch_deleted_is_not_asked_for(
    kept: KeptItems, scrub: Scrubber, harm: str
) -> None:
    kept.add("1", days_old=100)
    kept.add("2", days_old=100)
    if harm == "missing":
        kept.video("1").unlink()
    elif harm == "shorter":
        kept.video("1").write_bytes(b"short")
    else:
        shutil.rmtree(kept.folder("1"))

    anyio.run(scrub.take_turn)
    (event,) = events_of(kept, "1")
    assert event.code == ("missing" if harm == "folder" else "damaged")
    assert "backup" in event.remedy
    assert kept.row("1")["download_state"] == "done"
    assert damaged(kept) == ["1"]


async def test_without_repairs_it_is_only_told(kept: KeptItems, chat_database: Database, clock: FakeClock) -> None:
    kept.add("1", days_old=YOUNG)
    flip(kept.video("1"))
    await scrub_of(kept, chat_database, clock, repairs=False).take_turn()

    (event,) = events_of(kept, "1", "damaged")
    assert "verify --repair" in event.remedy
    assert kept.row("1")["download_state"] == "done"


async def test_a_death_between_the_find_and_the_word_loses_nothing(
    kept: KeptItems, scrub: Scrubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.add("1", days_old=YOUNG)
    flip(kept.video("1"))
    commit = UnitOfWork.commit

    def die(unit: UnitOfWork) -> None:
        raise KilledError

    monkeypatch.setattr(UnitOfWork, "commit", die)
    with pytest.raises(KilledError):
        await scrub.take_turn()
    monkeypatch.setattr(UnitOfWork, "commit", commit)
    assert (found_of(kept, "1"), events_of(kept, "1")) == (None, [])
    assert kept.row("1")["download_state"] == "done"

    await scrub.take_turn()
    assert len(events_of(kept, "1", "damaged")) == 1
    assert damaged(kept) == ["1"]


async def test_a_disk_that_is_away_is_no_damage(kept: KeptItems, scrub: Scrubber, library: Path) -> None:
    kept.add("1")
    kept.add("2")
    shutil.move(library / "otter", library.parent / "otter")
    with pytest.raises(ArchiveAway, match="Not one of the 2 folders"):
        await scrub.take_turn()
    shutil.move(library.parent / "otter", library / "otter")
    mark = (library / MARK_NAME).read_text()
    (library / MARK_NAME).unlink()
    with pytest.raises(ArchiveAway):
        await scrub.take_turn()
    assert found_of(kept, "1") is None

    (library / MARK_NAME).write_text(mark)
    await scrub.take_turn()
    found = found_of(kept, "1")
    assert found is not None
    assert found.verdict is Verdict.FINE


def add_chat(kept: KeptItems, chat: Database, video_id: str) -> Path:
    """Give the item a chat of three messages; returns its file."""
    broadcast = Broadcast(video_id, "otter", None, round(kept.row(video_id)["date"].timestamp() * 1000), 60_000)
    who = Chatter("7", "moss", "Moss", "", "")
    with chat.unit_of_work() as unit:
        said = [
            message_of(
                Comment(f"00000000-0000-4000-8000-{n:012d}", n, broadcast.start_ms + n * 1000, who, f"hello {n}", ""),
                channel="otter",
                start_ms=broadcast.start_ms,
            )
            for n in range(3)
        ]
        merge_into_item(unit.connection, broadcast, said)
        unit.commit()
    with kept.database.unit_of_work(write=False) as unit:
        item = QueueStore(unit.connection).find(video_id)
        assert item is not None
        subject = load_subject(unit, item, kept.library)
    assert subject is not None
    reason = PermanentError("Twitch did not say more.")
    filled = Filled(3, 0.5, ((0, 30_000),), reason=reason)
    write_into_folder(chat, subject, filled, lambda: None, check=lambda: None)
    return kept.folder(video_id) / CHAT_NAME


async def test_a_damaged_chat_file_is_written_again(kept: KeptItems, chat_database: Database, scrub: Scrubber) -> None:
    kept.add("1")
    path = add_chat(kept, chat_database, "1")
    before, manifest = path.read_bytes(), load_manifest(path.parent)
    flip(path)
    await scrub.take_turn()

    assert path.read_bytes() == before
    after = load_manifest(path.parent)
    assert after is not None
    assert manifest is not None
    assert after.chat == manifest.chat
    assert check_files(path.parent, after, lambda _: None) == ()
    assert [event.code for event in events_of(kept, "1")] == ["damaged", "mended"]
    assert damaged(kept) == []
    assert kept.row("1")["download_state"] == "done"


async def test_a_chat_file_is_not_replaced_by_less(kept: KeptItems, chat_database: Database, scrub: Scrubber) -> None:
    kept.add("1")
    path = add_chat(kept, chat_database, "1")
    manifest = load_manifest(path.parent)
    assert manifest is not None
    assert manifest.chat is not None
    more = replace(manifest, chat=replace(manifest.chat, messages=4))
    (path.parent / MANIFEST_NAME).write_text(write_manifest(more))
    flip(path)
    harmed = path.read_bytes()
    await scrub.take_turn()

    assert path.read_bytes() == harmed
    found = found_of(kept, "1")
    assert found is not None
    assert "3 of the 4 messages" in found.remedy
    assert (found.verdict, found.is_repairing) == (Verdict.DAMAGED, False)


async def test_a_death_while_the_chat_is_written_is_made_good(
    kept: KeptItems, chat_database: Database, scrub: Scrubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest has forgotten the old file, and does not name the new one yet."""
    kept.add("1")
    path = add_chat(kept, chat_database, "1")
    flip(path)
    save, saved = additions._save, 0

    def die(*arguments: object) -> None:
        nonlocal saved
        saved += 1
        if saved == 2:
            raise KilledError
        save(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(additions, "_save", die)
    with pytest.raises(KilledError):
        await scrub.take_turn()
    monkeypatch.setattr(additions, "_save", save)
    assert damaged(kept) == ["1"]

    await scrub.take_turn()
    assert damaged(kept) == []
    manifest = load_manifest(path.parent)
    assert manifest is not None
    assert manifest.file(CHAT_NAME) is not None
    assert check_files(path.parent, manifest, lambda _: None) == ()


class KilledError(BaseException):
    """The process ends here."""
