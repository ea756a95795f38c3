"""A database and a folder know that they belong together."""

from __future__ import annotations

import errno
import os
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import URL, delete

from support.queue_items import NOW
from support.queue_rows import Rows
from vodkeep.db.engine import Database
from vodkeep.db.kv import KvStore
from vodkeep.db.tables import kv
from vodkeep.errors import ArchiveAway, SettingsError
from vodkeep.pipeline.identity import MARK_NAME, ArchiveMark, claim_archive, find_archive_problem

OTHER = "12345678-1234-4234-8234-123456789abc"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """An empty folder for the archive."""
    folder = tmp_path / "archive"
    folder.mkdir()
    return folder


def known(database: Database) -> str | None:
    with database.unit_of_work(write=False) as unit:
        return KvStore(unit.connection).get("archive_id")


def forget(database: Database) -> None:
    with database.unit_of_work() as unit:
        unit.connection.execute(delete(kv))
        unit.commit()


def mark(data_dir: Path) -> str:
    return (data_dir / MARK_NAME).read_text()


def refusal(database: Database, data_dir: Path) -> str:
    """Why it is not the archive; the same for who only looks."""
    with pytest.raises(SettingsError) as refused:
        claim_archive(database, data_dir, NOW)
    (sentence,) = refused.value.problems
    assert find_archive_problem(database, data_dir) == sentence
    return sentence


def test_the_first_start_gives_both_one_id(database: Database, data_dir: Path) -> None:
    archive_id = claim_archive(database, data_dir, NOW)

    assert uuid.UUID(archive_id)
    assert known(database) == archive_id
    assert mark(data_dir) == f"{archive_id}\n"
    assert [path.name for path in data_dir.iterdir()] == [MARK_NAME]
    assert claim_archive(database, data_dir, NOW) == archive_id
    assert find_archive_problem(database, data_dir) is None


def test_looking_changes_nothing(database: Database, data_dir: Path) -> None:
    assert find_archive_problem(database, data_dir) is None
    assert (known(database), list(data_dir.iterdir())) == (None, [])


def test_a_new_database_takes_the_archive_that_is_there(database: Database, data_dir: Path) -> None:
    (data_dir / MARK_NAME).write_text(OTHER)
    assert find_archive_problem(database, data_dir) is None
    assert claim_archive(database, data_dir, NOW) == OTHER
    assert known(database) == OTHER


def test_an_empty_folder_is_marked_while_nothing_is_kept(database: Database, rows: Rows, data_dir: Path) -> None:
    rows.add("1")
    archive_id = claim_archive(database, data_dir, NOW)
    (data_dir / MARK_NAME).unlink()

    assert claim_archive(database, data_dir, NOW) == archive_id
    assert mark(data_dir) == f"{archive_id}\n"


def test_a_disk_that_is_not_mounted_is_refused(database: Database, rows: Rows, data_dir: Path) -> None:
    archive_id = claim_archive(database, data_dir, NOW)
    rows.add("1", "2", download_state="done", processed=1, downloaded_path="chan/x/video.mp4")
    (data_dir / MARK_NAME).unlink()

    sentence = refusal(database, data_dir)

    assert f'DATA_DIR is "{data_dir}" and has no .vodkeep-archive' in sentence
    assert "knows 2 items" in sentence
    assert "is its disk mounted?" in sentence
    command = sentence.rpartition("mark it: ")[2]
    assert os.system(command) == 0
    assert claim_archive(database, data_dir, NOW) == archive_id


def test_the_folder_of_another_archive_is_refused(database: Database, data_dir: Path) -> None:
    archive_id = claim_archive(database, data_dir, NOW)
    (data_dir / MARK_NAME).write_text(f"{OTHER}\n")

    sentence = refusal(database, data_dir)

    assert "belongs to another archive than the database" in sentence
    assert f"says {OTHER}, the database {archive_id}" in sentence
    assert mark(data_dir) == f"{OTHER}\n"


@pytest.mark.parametrize("text", ["", "archive", "12345678", OTHER.upper()])
def test_a_mark_that_is_no_id_is_refused_with_the_cure(database: Database, data_dir: Path, text: str) -> None:
    (data_dir / MARK_NAME).write_text(text)
    assert "remove it, and start again" in refusal(database, data_dir)
    assert known(database) is None

    (data_dir / MARK_NAME).unlink()
    archive_id = claim_archive(database, data_dir, NOW)
    (data_dir / MARK_NAME).write_text(text)
    assert f"write the one of the database into it, {archive_id}." in refusal(database, data_dir)


def test_a_database_from_before_there_were_ids_takes_the_folder_it_works_with(
    database: Database, rows: Rows, data_dir: Path
) -> None:
    rows.add("1", download_state="done", processed=1, downloaded_path="chan/x/video.mp4")
    archive_id = claim_archive(database, data_dir, NOW)
    assert mark(data_dir) == f"{archive_id}\n"


def test_a_folder_that_cannot_be_written_is_told(
    database: Database, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SettingsError, match=r"\.vodkeep-archive cannot be written \(No space left on device\)"):
        claim_archive(database, data_dir, NOW)
    assert list(data_dir.iterdir()) == []


def test_a_file_system_without_hard_links_is_marked_too(
    database: Database, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(_source: Path, _target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    archive_id = claim_archive(database, data_dir, NOW)
    assert mark(data_dir) == f"{archive_id}\n"
    assert [path.name for path in data_dir.iterdir()] == [MARK_NAME]


@pytest.mark.parametrize("run", range(5))
def test_processes_that_start_together_agree(database_url: URL, data_dir: Path, run: int) -> None:
    starters = 6
    barrier = threading.Barrier(starters)

    def start(_number: int) -> str:
        database = Database(database_url)
        try:
            barrier.wait(20)
            return claim_archive(database, data_dir, NOW)
        finally:
            database.dispose()

    with ThreadPoolExecutor(starters) as threads:
        (archive_id,) = set(threads.map(start, range(starters)))
    assert mark(data_dir) == f"{archive_id}\n"
    assert [path.name for path in data_dir.iterdir()] == [MARK_NAME]


@pytest.mark.parametrize("run", range(5))
def test_of_two_databases_that_meet_one_folder_one_gets_it(
    database: Database, migrated_sqlite_file: Path, tmp_path: Path, data_dir: Path, run: int
) -> None:
    second_file = tmp_path / "second.db"
    second_file.write_bytes(migrated_sqlite_file.read_bytes())
    second = Database(URL.create("sqlite", database=str(second_file)))
    barrier = threading.Barrier(2)

    def start(one: Database) -> str | None:
        barrier.wait(20)
        try:
            return claim_archive(one, data_dir, NOW)
        except SettingsError:
            return None

    with ThreadPoolExecutor(2) as threads:
        ids = list(threads.map(start, (database, second)))
    second.dispose()
    # Either the first had marked it when the second looked, who then takes the archive over, or one is refused.
    assert {f"{one}\n" for one in ids if one is not None} == {mark(data_dir)}


def test_a_disk_that_goes_is_noticed_and_so_is_its_return(database: Database, data_dir: Path) -> None:
    mark = ArchiveMark(data_dir)
    assert mark.problem() is None, "nothing is claimed yet"
    mark.claim(database, NOW)
    mark.require()

    away = data_dir.rename(data_dir.with_name("away"))
    with pytest.raises(ArchiveAway, match=r"no longer the archive: its \.vodkeep-archive is not there\."):
        mark.require()
    data_dir.mkdir()
    with pytest.raises(ArchiveAway):
        mark.require()
    (data_dir / MARK_NAME).write_text(OTHER)
    with pytest.raises(ArchiveAway, match="is that of another"):
        mark.require()

    (data_dir / MARK_NAME).unlink()
    data_dir.rmdir()
    away.rename(data_dir)
    mark.require()


def test_a_mark_that_cannot_be_read_is_no_mark(database: Database, data_dir: Path) -> None:
    mark = ArchiveMark(data_dir)
    mark.claim(database, NOW)
    (data_dir / MARK_NAME).unlink()
    (data_dir / MARK_NAME).mkdir()
    with pytest.raises(ArchiveAway, match=r"cannot be read \(Is a directory\)"):
        mark.require()
