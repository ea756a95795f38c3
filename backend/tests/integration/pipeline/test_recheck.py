"""Verifying again what is in the library, on real files and a real database."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import imageio_ffmpeg
import pytest

from support.queue_items import NOW
from support.queue_rows import Rows
from vodkeep.capture.verify import read_facts
from vodkeep.db.engine import Database
from vodkeep.disk import checksum_of
from vodkeep.keep.library import describe_file
from vodkeep.keep.manifest import MANIFEST_NAME, LedgerEntry, Manifest, StreamEntry, write_manifest
from vodkeep.pipeline.model import Asked, Asker
from vodkeep.pipeline.recheck import Finding, Subject, Verdict, check, is_unplugged, plan_all, plan_one, repair
from vodkeep.pipeline.store import QueueStore

FOLDER = PurePosixPath("chan/2026-11-22 A broadcast [100]")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("film") / "video.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-t", "4", "-i", "testsrc2=rate=30"]
    command += ["-f", "lavfi", "-t", "4", "-i", "sine", "-pix_fmt", "yuv420p", "-g", "30", "-c:a", "aac", str(target)]
    subprocess.run(command, check=True, timeout=60)
    return target


class Shelf:
    """A library with one item."""

    def __init__(self, root: Path, film: Path) -> None:
        self.root = root
        self.folder = root / FOLDER
        self.folder.mkdir(parents=True)
        (self.folder / "video.mp4").write_bytes(film.read_bytes())
        (self.folder / "thumbnail.jpg").write_bytes(b"\xff\xd8\xff picture")
        facts = read_facts(film)
        self.manifest = Manifest(
            video_id="100",
            stream_id=None,
            channel="chan",
            channel_name="Chan",
            title="A broadcast",
            date=None,
            duration_ms=4000,
            completeness=1.0,
            rendition="chunked",
            tools=(),
            captured_at=datetime(2026, 11, 23, tzinfo=UTC),
            files=(describe_file(self.folder / "video.mp4"), describe_file(self.folder / "thumbnail.jpg")),
            streams=tuple(StreamEntry(s.kind, s.codec, s.packets, s.width, s.height, s.fps) for s in facts.streams),
            ledger=(LedgerEntry(0, 4000, "vod", ""),),
            chapters=(),
        )
        self.write(self.manifest)

    def write(self, manifest: Manifest) -> None:
        (self.folder / MANIFEST_NAME).write_text(write_manifest(manifest), "utf-8")

    def sum_with(self, algorithm: str) -> None:
        """Another kind of checksum in the manifest."""
        files = tuple(
            replace(entry, checksum=checksum_of(self.folder / entry.name, algorithm)) for entry in self.manifest.files
        )
        self.write(replace(self.manifest, files=files))

    def damage(self, name: str) -> None:
        """Change one byte and neither size nor time."""
        path = self.folder / name
        body = bytearray(path.read_bytes())
        body[len(body) // 2] ^= 0xFF
        path.write_bytes(body)

    def look(self, subject: Subject, *, deep: bool = False) -> Finding:
        """Check it; what was announced to be read was read."""
        read = 0

        def on_bytes(size: int) -> None:
            nonlocal read
            read += size

        finding = check(subject, self.root, deep=deep, on_bytes=on_bytes)
        self.read = read
        return finding


@pytest.fixture
def shelf(tmp_path: Path, film: Path) -> Shelf:
    return Shelf(tmp_path / "library", film)


@pytest.fixture
def rows(database: Database) -> Rows:
    rows = Rows(database)
    rows.add("100", download_state="done", processed=1, downloaded_path=str(FOLDER / "video.mp4"), generation=3)
    return rows


def subject_of(database: Database, shelf: Shelf, video_id: str = "100") -> Subject:
    with database.unit_of_work(write=False) as unit:
        return plan_one(video_id, QueueStore(unit.connection).find(video_id), shelf.root)


@pytest.mark.parametrize("deep", [False, True], ids=["files", "deep"])
def test_a_whole_item_is_fine_and_every_byte_was_read(shelf: Shelf, rows: Rows, database: Database, deep: bool) -> None:
    subject = subject_of(database, shelf)
    finding = shelf.look(subject, deep=deep)

    assert (finding.verdict, finding.problems, finding.notes) == (Verdict.FINE, (), ())
    assert shelf.read == subject.size_bytes


@pytest.mark.parametrize("deep", [False, True], ids=["files", "deep"])
@pytest.mark.parametrize("algorithm", ["blake3", "sha256"])
@pytest.mark.parametrize(
    ("name", "words", "repairs"),
    [
        pytest.param("video.mp4", "video.mp4 has another checksum", True, id="video"),
        pytest.param("thumbnail.jpg", "thumbnail.jpg has another checksum", False, id="thumbnail"),
    ],
)
def test_one_wrong_byte_is_found(
    shelf: Shelf, rows: Rows, database: Database, name: str, words: str, repairs: bool, algorithm: str, deep: bool
) -> None:
    shelf.sum_with(algorithm)
    assert shelf.look(subject_of(database, shelf), deep=deep).verdict is Verdict.FINE
    shelf.damage(name)
    finding = shelf.look(subject_of(database, shelf), deep=deep)

    assert finding.verdict is Verdict.DAMAGED
    assert words in finding.problems[0]
    with database.unit_of_work() as unit:
        repair(unit, finding, NOW, Asked(Asker.CLI, "abc"))
        unit.commit()
    row = rows.get("100")
    assert row["download_state"] == ("pending" if repairs else "done")
    assert row["downloaded_path"] == str(FOLDER / "video.mp4")
    assert (shelf.folder / name).exists()
    if repairs:
        assert row["processed"] == 0
        assert rows.events("100") == [("done", "pending", "reset"), (None, "pending", "damaged")]


def test_a_file_cut_short_is_found_without_reading_it(shelf: Shelf, rows: Rows, database: Database) -> None:
    with (shelf.folder / "video.mp4").open("r+b") as file:
        file.truncate(1000)
    subject = subject_of(database, shelf)
    finding = shelf.look(subject)

    assert "video.mp4 has 1000 bytes" in finding.problems[0]
    assert shelf.read == subject.size_bytes


def test_what_the_manifest_says_is_compared_with_the_packets(shelf: Shelf, rows: Rows, database: Database) -> None:
    """The files agree with their checksums; only reading the packets tells."""
    streams = tuple(replace(stream, packets=stream.packets + 1) for stream in shelf.manifest.streams)
    shelf.write(replace(shelf.manifest, streams=streams))
    subject = subject_of(database, shelf)

    assert shelf.look(subject).verdict is Verdict.FINE
    deep = shelf.look(subject, deep=True)
    assert deep.verdict is Verdict.DAMAGED
    assert len(deep.problems) == 2


@pytest.mark.parametrize("before", [True, False], ids=["before it was kept", "since it was kept"])
def test_an_index_that_lies_is_found(shelf: Shelf, rows: Rows, database: Database, before: bool) -> None:
    """Fetched again is what has changed since; what was so from the start would come out the same."""
    video = shelf.folder / "video.mp4"
    body = bytearray(video.read_bytes())
    body[body.index(b"stco") + 12 : body.index(b"stco") + 16] = b"\xff\xff\xff\x00"
    video.write_bytes(body)
    if before:
        shelf.write(replace(shelf.manifest, files=(describe_file(video),)))
    finding = shelf.look(subject_of(database, shelf), deep=True)

    assert any("lies outside of the media" in problem for problem in finding.problems)
    assert any("another checksum" in problem for problem in finding.problems) is not before
    with database.unit_of_work() as unit:
        repair(unit, finding, NOW, Asked(Asker.CLI, None))
        unit.commit()
    assert rows.get("100")["download_state"] == ("done" if before else "pending")


def test_pictures_that_cannot_be_decoded_are_found(shelf: Shelf, rows: Rows, database: Database) -> None:
    """A file that was damaged before its checksum was taken."""
    video = shelf.folder / "video.mp4"
    body = bytearray(video.read_bytes())
    start, end = body.index(b"mdat") + 4, body.index(b"moov") - 4
    for place in range(start, end - 200, 1000):
        body[place : place + 200] = bytes(200)
    video.write_bytes(body)
    shelf.write(replace(shelf.manifest, files=(describe_file(video),)))
    subject = subject_of(database, shelf)

    assert shelf.look(subject).verdict is Verdict.FINE
    assert any("cannot be decoded" in problem for problem in shelf.look(subject, deep=True).problems)


def test_a_row_without_its_folder_is_missing_and_can_be_repaired(shelf: Shelf, rows: Rows, database: Database) -> None:
    shelf.folder.rename(shelf.root / "elsewhere")
    (shelf.root / "elsewhere" / MANIFEST_NAME).unlink()
    finding = shelf.look(subject_of(database, shelf))

    assert finding.verdict is Verdict.MISSING
    with database.unit_of_work() as unit:
        repair(unit, finding, NOW, Asked(Asker.CLI, None))
        unit.commit()
    assert rows.get("100")["download_state"] == "pending"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("{", "manifest.json: it cannot be read", id="torn"),
        pytest.param('{"format": "other/2"}', "manifest.json: it has another format", id="other format"),
        pytest.param(None, "manifest.json is missing", id="missing"),
    ],
)
def test_without_a_readable_manifest_an_item_is_damaged(
    shelf: Shelf, rows: Rows, database: Database, text: str | None, words: str
) -> None:
    (shelf.folder / MANIFEST_NAME).unlink()
    if text is not None:
        (shelf.folder / MANIFEST_NAME).write_text(text)
    finding = shelf.look(subject_of(database, shelf))

    assert finding.verdict is Verdict.DAMAGED
    assert words in finding.problems[0]


def test_a_folder_of_another_item_is_not_taken_for_this_one(shelf: Shelf, rows: Rows, database: Database) -> None:
    shelf.write(replace(shelf.manifest, video_id="777"))
    assert "holds VOD 777" in shelf.look(subject_of(database, shelf)).problems[0]


def test_a_manifest_cannot_send_us_to_other_places(shelf: Shelf, rows: Rows, database: Database) -> None:
    (shelf.root / "secret").write_text("x")
    entry = replace(describe_file(shelf.root / "secret"), name="../../secret")
    shelf.write(replace(shelf.manifest, files=(entry,)))
    assert "leads out of" in shelf.look(subject_of(database, shelf)).problems[0]


def test_an_item_being_captured_is_left_alone(shelf: Shelf, rows: Rows, database: Database) -> None:
    shelf.damage("video.mp4")
    rows.execute("UPDATE vods SET download_state='downloading', processed=0")
    finding = shelf.look(subject_of(database, shelf))
    assert finding.verdict is Verdict.BUSY
    assert not finding.is_bad


def test_an_item_not_captured_yet_and_one_that_is_not_there(shelf: Shelf, rows: Rows, database: Database) -> None:
    rows.add("200")
    assert "it is pending" in shelf.look(subject_of(database, shelf, "200")).problems[0]
    assert shelf.look(subject_of(database, shelf, "300")).problems == ("there is no item 300",)


def test_a_file_that_may_not_be_read_is_told_and_not_fetched_again(
    shelf: Shelf, rows: Rows, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(path: Path, *_: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("vodkeep.keep.fixity.checksum_of", deny)
    finding = shelf.look(subject_of(database, shelf))

    assert "video.mp4 cannot be read: Permission denied" in finding.problems
    with database.unit_of_work() as unit:
        assert "may not be read" in repair(unit, finding, NOW, Asked(Asker.CLI, None))
        unit.commit()
    assert rows.get("100")["download_state"] == "done"


def test_a_disk_that_is_not_mounted_is_not_a_lost_library(shelf: Shelf, rows: Rows, database: Database) -> None:
    rows.add("300", download_state="done", processed=1, downloaded_path="chan/gone [300]/video.mp4")
    with database.unit_of_work(write=False) as unit:
        placed = QueueStore(unit.connection).load_placed()

    assert not is_unplugged(plan_all(placed, shelf.root), shelf.root)
    shelf.folder.rename(shelf.root / "unmounted")
    assert is_unplugged(plan_all(placed, shelf.root), shelf.root)
    # A single one may well be lost.
    assert not is_unplugged(plan_all(placed[:1], shelf.root), shelf.root)


def test_all_means_rows_and_folders(shelf: Shelf, rows: Rows, database: Database) -> None:
    rows.add("200")  # not captured: nothing to look at
    rows.add("300", download_state="done", processed=1, downloaded_path="chan/gone [300]/video.mp4")
    other = shelf.root / "chan" / "by hand [400]"
    other.mkdir()
    (other / MANIFEST_NAME).write_text(write_manifest(replace(shelf.manifest, video_id="400", files=())))
    (shelf.root / ".work" / "500").mkdir(parents=True)
    (shelf.root / ".work" / "500" / MANIFEST_NAME).write_text("{}")
    with database.unit_of_work(write=False) as unit:
        subjects = plan_all(QueueStore(unit.connection).load_placed(), shelf.root)

    found = {subject.video_id: shelf.look(subject) for subject in subjects}
    assert {name: finding.verdict for name, finding in found.items()} == {
        "100": Verdict.FINE,
        "300": Verdict.MISSING,
        "400": Verdict.DAMAGED,  # its manifest names no video
    }
    assert found["400"].notes == ("the database does not know this folder",)


def test_reading_ends_when_nobody_wants_the_result(shelf: Shelf, rows: Rows, database: Database) -> None:
    class EnoughError(Exception):
        pass

    def stop(_: int) -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        check(subject_of(database, shelf), shelf.root, deep=False, on_bytes=stop)
