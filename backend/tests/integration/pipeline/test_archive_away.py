"""A disk that goes while an item is worked on: nothing is written in its place, and that is the reason that is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.clock import FakeClock
from support.queue_items import NOW, make_item
from vodkeep.capture.workfolder import WorkFolder
from vodkeep.chat.vault.files import ImageFiles, hash_of
from vodkeep.chat.vault.images import inspect
from vodkeep.chat.vault.model import StoredImage
from vodkeep.db.engine import Database
from vodkeep.errors import ArchiveAway, NetworkError
from vodkeep.keep.library import Library
from vodkeep.pipeline.archive import Archivist
from vodkeep.pipeline.chat_stage import ChatKeeper
from vodkeep.pipeline.identity import ArchiveMark
from vodkeep.pipeline.stages import CapturedItem
from vodkeep.settings import load_settings
from vodkeep.telemetry.log import get_logger
from vodkeep_standin.emotes.images import image

pytestmark = pytest.mark.anyio


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """An empty folder for the archive."""
    folder = tmp_path / "archive"
    folder.mkdir()
    return folder


@pytest.fixture
def mark(database: Database, data_dir: Path) -> ArchiveMark:
    """Of the archive that stands there."""
    mark = ArchiveMark(data_dir)
    mark.claim(database, NOW)
    return mark


def unmount(data_dir: Path) -> None:
    """Leave the empty folder that the disk was mounted on."""
    shutil.rmtree(data_dir)
    data_dir.mkdir()


async def keep(mark: ArchiveMark, data_dir: Path, clock: FakeClock, capture: Callable[[], None]) -> CapturedItem:
    """One attempt of the capture stage, whose capture is ``capture``."""

    async def captured(*_arguments: object, **_options: object) -> Any:
        capture()

    settings = load_settings({"DATA_DIR": str(data_dir)}, None)
    archivist = Archivist(
        capture=SimpleNamespace(work_folder=lambda video_id: WorkFolder(data_dir, video_id), capture=captured),  # type: ignore[arg-type]
        library=Library(data_dir, settings.storage.folder_template),
        clock=clock,
        log=get_logger("test"),
        require_archive=mark.require,
    )
    return await archivist.capture(
        make_item(),
        on_progress=lambda _progress: None,
        report_phase=lambda _phase: None,
        confirm=lambda: None,
        accept_holes=False,
    )


async def test_no_item_begins(mark: ArchiveMark, data_dir: Path, clock: FakeClock) -> None:
    unmount(data_dir)
    with pytest.raises(ArchiveAway):
        await keep(mark, data_dir, clock, lambda: pytest.fail("it was captured"))
    assert list(data_dir.iterdir()) == []


async def test_whatever_a_capture_ends_with_the_reason_is_the_disk(
    mark: ArchiveMark, data_dir: Path, clock: FakeClock
) -> None:
    def lose() -> None:
        unmount(data_dir)
        (data_dir / ".work" / "100" / "reel").read_bytes()

    with pytest.raises(ArchiveAway) as ended:
        await keep(mark, data_dir, clock, lose)
    assert isinstance(ended.value.__context__, FileNotFoundError)


async def test_an_error_with_the_disk_in_its_place_stays_what_it_is(
    mark: ArchiveMark, data_dir: Path, clock: FakeClock
) -> None:
    def fail() -> None:
        raise NetworkError("No answer.")

    with pytest.raises(NetworkError):
        await keep(mark, data_dir, clock, fail)


async def test_an_item_whose_folder_is_away_keeps_its_chat_for_later(
    mark: ArchiveMark, data_dir: Path, database: Database
) -> None:
    """Else it would go on as one that has no folder."""
    keeper = ChatKeeper(
        database, database, None, library=data_dir, require_archive=mark.require, log=get_logger("test")
    )
    unmount(data_dir)
    with pytest.raises(ArchiveAway):
        await keeper.keep(make_item(), confirm=lambda: None, last_chance=True)


async def test_no_emote_is_kept_where_it_would_be_gone_with_the_mount_point(mark: ArchiveMark, data_dir: Path) -> None:
    files = ImageFiles(data_dir, mark.problem)
    body = image("png", "Kappa", 32)
    kept = StoredImage(hash_of(body), inspect(body), len(body))
    files.save(kept, body)
    assert files.load(kept) == body
    unmount(data_dir)
    with pytest.raises(OSError, match="no longer the archive"):
        files.save(kept, body)
    assert list(data_dir.iterdir()) == []
