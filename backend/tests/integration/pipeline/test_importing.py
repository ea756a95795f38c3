"""Recordings of other programs become items, on both databases; the source stays as it is."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from support.clock import FakeClock
from support.mp4_media import FFMPEG, inputs, run_ffmpeg
from vodkeep.capture.verify import VerificationError
from vodkeep.db.engine import Database
from vodkeep.errors import RequestRefused
from vodkeep.keep.fixity import check_files
from vodkeep.keep.library import Library
from vodkeep.keep.manifest import CHAT_NAME, Manifest, load_manifest
from vodkeep.keep.origins import How, Origin
from vodkeep.keep.recordings import Recording, find_recordings
from vodkeep.pipeline import importing
from vodkeep.pipeline.chat_library import ChatLibrary
from vodkeep.pipeline.importing import Importer, Wishes, make_ledger, read_tags

pytestmark = pytest.mark.anyio

ITEM = "2500000001"
STARTED = datetime(2026, 11, 2, 18, 30, tzinfo=UTC)
TEMPLATE = "{channel}/{date} {title} [{id}]"


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds in each container."""
    folder = tmp_path_factory.mktemp("films")
    run_ffmpeg("-v", "error", *inputs("h264", "aac", 2), str(folder / "film.mp4"))
    for ending in ("mkv", "ts"):
        run_ffmpeg("-v", "error", "-i", str(folder / "film.mp4"), "-c", "copy", str(folder / f"film.{ending}"))
    chapters = folder / "chapters.txt"
    chapters.write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=One\n")
    # A chapter list is a stream of text in an MP4.
    run_ffmpeg(
        *("-v", "error", "-i", str(folder / "film.mp4"), "-i", str(chapters), "-map_metadata", "1"),
        *("-c", "copy", str(folder / "chaptered.mp4")),
    )
    return folder


class House:
    """An archive, and the folder of another program beside it."""

    def __init__(self, database: Database, chat: Database, clock: FakeClock, root: Path, films: Path) -> None:
        self.database, self.clock, self.films = database, clock, films
        self.data_dir = root / "data"
        self.data_dir.mkdir()
        self.source = root / "elsewhere"
        self.source.mkdir()
        self.chats = ChatLibrary(database, chat, self.data_dir)

    def importer(self, wishes: Wishes | None = None) -> Importer:
        return Importer(
            database=self.database,
            chats=self.chats,
            library=Library(self.data_dir, TEMPLATE),
            clock=self.clock,
            ffmpeg=FFMPEG,
            wishes=wishes or Wishes(),
        )

    def recording(self, film: str = "film.mp4", **changes: object) -> Recording:
        video = self.source / f"Rafting [v{ITEM}]{Path(film).suffix}"
        if not video.exists():
            video.write_bytes((self.films / film).read_bytes())
        known: dict[str, object] = {
            "video_id": ITEM, "channel": "otter", "channel_name": "Otter", "title": "Rafting", "date": STARTED,
        }  # fmt: skip
        return Recording(Origin.YT_DLP, video, **(known | changes))  # type: ignore[arg-type]

    def row(self) -> dict[str, object]:
        with self.database.unit_of_work(write=False) as unit:
            query = text("SELECT * FROM vods WHERE twitch_vod_id = :id")
            return dict(unit.connection.execute(query, {"id": ITEM}).mappings().one())

    def folder(self) -> Path:
        (path,) = (self.data_dir / "otter").iterdir()
        return path

    def manifest(self) -> Manifest:
        manifest = load_manifest(self.folder())
        assert manifest is not None
        assert check_files(self.folder(), manifest, lambda _: None) == ()
        return manifest


@pytest.fixture
def house(database: Database, chat_database: Database, clock: FakeClock, tmp_path: Path, films: Path) -> House:
    return House(database, chat_database, clock, tmp_path, films)


async def test_a_recording_becomes_an_item_that_waits_for_its_chat(house: House) -> None:
    recording = house.recording()
    before = recording.video.stat()
    taken = await house.importer().take(recording)
    assert (taken.video_id, taken.completeness) == (ITEM, 1.0)
    manifest = house.manifest()
    assert (manifest.title, manifest.channel, manifest.date) == ("Rafting", "otter", STARTED)
    assert [(entry.source, entry.reason) for entry in manifest.ledger] == [("import", "")]
    assert {stream.kind: stream.packets for stream in manifest.streams}["video"] == 60
    assert "imported from yt-dlp" in manifest.tools
    assert {path.name for path in house.folder().iterdir()} == {"manifest.json", "thumbnail.jpg", "video.mp4"}
    row = house.row()
    assert (row["download_state"], row["stage"], row["skip_upload"]) == ("downloaded", "chat", 1)
    assert row["downloaded_path"] == str(taken.path / "video.mp4")
    assert row["completeness"] == 1.0
    after = recording.video.stat()
    assert (after.st_mode, after.st_size, after.st_mtime_ns, after.st_nlink) == (
        before.st_mode, before.st_size, before.st_mtime_ns, 1,
    )  # fmt: skip
    assert list((house.data_dir / ".work").iterdir()) == []


@pytest.mark.parametrize("film", ["film.mkv", "film.ts", "chaptered.mp4"])
async def test_other_containers_become_mp4_without_a_loss(house: House, film: str) -> None:
    await house.importer().take(house.recording(film))
    packets = {stream.kind: stream.packets for stream in house.manifest().streams}
    assert packets["video"] == 60
    assert packets["audio"] >= 94


async def test_what_twitch_said_of_its_length_shows_what_is_missing(house: House) -> None:
    taken = await house.importer().take(house.recording(duration_ms=8_000, muted=((500, 1000),)))
    ledger = house.manifest().ledger
    assert [(entry.source, entry.reason) for entry in ledger] == [
        ("import", ""), ("import", "muted"), ("import", ""), ("missing", "the recording ends here"),
    ]  # fmt: skip
    assert ledger[-1].end_ms == 8_000
    assert 0.24 < taken.completeness < 0.27
    assert house.row()["completeness"] == taken.completeness


async def test_its_chat_comes_with_it(house: House) -> None:
    chat = house.source / "chat.json"
    comments = [
        {
            "_id": f"00000000-0000-4000-8000-{number:012d}",
            "created_at": "2026-11-02T18:30:01Z",
            "content_offset_seconds": number / 2,
            "commenter": {"_id": "7", "name": "moss", "display_name": "Moss"},
            "message": {"body": f"hello {number}", "fragments": [{"text": f"hello {number}"}]},
        }
        for number in range(3)
    ]
    chat.write_text(json.dumps({"video": {"id": ITEM}, "comments": comments}))
    taken = await house.importer().take(house.recording(chat=chat))
    assert taken.chat is not None
    assert (taken.chat.found, taken.chat.added) == (3, 3)
    assert house.manifest().file(CHAT_NAME) is not None
    assert house.row()["chat_messages"] == 3


async def test_a_chat_that_cannot_be_read_costs_nothing_but_itself(house: House) -> None:
    chat = house.source / "chat.json"
    chat.write_text("<html>")
    taken = await house.importer().take(house.recording(chat=chat))
    assert "chat.json" in taken.chat_problem
    assert house.row()["download_state"] == "downloaded"


async def test_a_link_is_the_same_file_and_a_move_takes_the_source(house: House) -> None:
    recording = house.recording()
    await house.importer(Wishes(how=How.LINK)).take(recording)
    assert recording.video.samefile(house.folder() / "video.mp4")
    with house.database.unit_of_work() as unit:
        unit.connection.execute(text("DELETE FROM vods"))
        unit.commit()
    # Its row is lost and its folder is not: it is found in its place.
    await house.importer(Wishes(how=How.MOVE)).take(recording)
    assert not recording.video.exists()
    house.manifest()
    assert house.row()["download_state"] == "downloaded"


async def test_what_is_kept_already_or_not_known_is_refused_and_nothing_touched(house: House) -> None:
    importer = house.importer()
    await importer.take(house.recording())
    for recording, words in (
        (house.recording(), "is kept already"),
        (house.recording(video_id=None), "Say so with --id."),
        (house.recording(video_id="2500000002", channel=None), "Say so with --channel."),
    ):
        refusal = await importer.refusal(recording)
        assert refusal is not None
        assert words in refusal
        with pytest.raises(RequestRefused):
            await importer.take(recording)
    assert await house.importer(Wishes(video_id="2500000003", channel="otter")).refusal(house.recording()) is None


async def test_what_the_catalog_knows_and_nobody_has_fetched_is_taken_in(house: House) -> None:
    with house.database.unit_of_work() as unit:
        unit.connection.execute(
            text(
                "INSERT INTO vods (twitch_vod_id, channel, title, download_state, processing_error, error_code)"
                " VALUES (:id, 'otter', 'Rafting at Twitch', 'parked', 'It was deleted at Twitch.', 'gone')"
            ),
            {"id": ITEM},
        )
        unit.commit()
    await house.importer(Wishes(publish=True)).take(house.recording())
    row = house.row()
    assert (row["download_state"], row["processing_error"], row["skip_upload"]) == ("downloaded", None, 0)


async def test_a_copy_that_is_not_the_file_is_no_item(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "checksum_of", lambda _: "blake3:00")
    with pytest.raises(VerificationError, match="not the same"):
        await house.importer(Wishes(how=How.MOVE)).take(house.recording())
    assert house.recording().video.exists()
    assert not (house.data_dir / "otter").exists()


async def test_what_is_no_film_is_refused(house: House) -> None:
    recording = house.recording()
    recording.video.write_bytes(b"not a film at all")
    with pytest.raises(RequestRefused, match="no film that can be kept"):
        await house.importer().take(recording)
    assert not (house.data_dir / "otter").exists()


async def test_an_import_that_was_cut_off_is_made_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    recording, steps = house.recording(), ("_finish", "_save")
    for step in steps:
        with monkeypatch.context() as patched:
            # As far as the disk and the database go, this is where a kill would leave it.
            patched.setattr(Importer, step, _killed)
            with pytest.raises(KeyboardInterrupt):
                await house.importer().take(recording)
    await house.importer().take(recording)
    house.manifest()
    assert house.row()["download_state"] == "downloaded"


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_the_tags_of_a_video_are_read(films: Path, tmp_path: Path) -> None:
    tagged = tmp_path / "tagged.mp4"
    comment = "comment=Created at: 2026-11-02 18:30:00Z\nVideo id: 2500000001\nViews: 7"
    run_ffmpeg(
        *("-v", "error", "-i", str(films / "film.mp4"), "-c", "copy", "-metadata", "artist=Otter"),
        *("-metadata", "title=Rafting (2500000001)", "-metadata", comment, str(tagged)),
    )
    (found,) = find_recordings(Origin.TWITCH_DOWNLOADER, tagged, read_tags=read_tags).recordings
    assert (found.video_id, found.channel, found.title, found.date) == (ITEM, "otter", "Rafting", STARTED)
    (tmp_path / "broken.mp4").write_bytes(b"no")
    assert read_tags(tmp_path / "broken.mp4") == {}


@given(
    st.integers(1, 10**8),
    st.none() | st.integers(1, 10**8),
    st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 10**8)), max_size=6),
)
def test_a_ledger_has_neither_gap_nor_overlap(file_ms: int, told_ms: int | None, muted: list[tuple[int, int]]) -> None:
    ledger, duration_ms, completeness = make_ledger(file_ms, told_ms, muted)
    assert ledger[0].start_ms == 0
    assert ledger[-1].end_ms == duration_ms
    assert all(before.end_ms == after.start_ms for before, after in pairwise(ledger))
    assert all(entry.end_ms > entry.start_ms for entry in ledger)
    held = sum(entry.end_ms - entry.start_ms for entry in ledger if entry.source == "import")
    assert held == file_ms
    assert completeness == held / duration_ms
    assert (completeness == 1.0) is all(entry.source == "import" for entry in ledger)
