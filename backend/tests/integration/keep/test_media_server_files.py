from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from support.clock import FakeClock
from support.queue_items import make_item
from vodkeep.capture.workfolder import WorkFolder
from vodkeep.keep.fixity import check_files
from vodkeep.keep.library import Library, describe_file
from vodkeep.keep.manifest import MANIFEST_NAME, LetGoEntry, Manifest, load_manifest, write_manifest
from vodkeep.keep.media_server import write_media_server_files
from vodkeep.library_command import check_library
from vodkeep.pipeline.archive import Archivist
from vodkeep.settings import load_settings
from vodkeep.telemetry.log import get_logger


def keep(library: Path, video_id: str = "2301") -> Path:
    folder = library / "otter" / f"A title [{video_id}]"
    folder.mkdir(parents=True)
    (folder / "video.mp4").write_bytes(b"video")
    (folder / "thumbnail.jpg").write_bytes(b"\xff\xd8\xff picture")
    manifest = Manifest(
        video_id=video_id,
        stream_id=None,
        channel="otter",
        channel_name="Otter",
        title="A title",
        date=datetime(2026, 11, 23, tzinfo=UTC),
        duration_ms=1000,
        completeness=1.0,
        rendition="chunked",
        tools=(),
        captured_at=datetime(2026, 11, 23, tzinfo=UTC),
        files=(describe_file(folder / "video.mp4"), describe_file(folder / "thumbnail.jpg")),
        streams=(),
        ledger=(),
        chapters=(),
    )
    (folder / MANIFEST_NAME).write_text(write_manifest(manifest), "utf-8")
    return folder


def test_the_manifest_stays_true_and_a_second_time_writes_nothing(tmp_path: Path) -> None:
    folder = keep(tmp_path)
    assert write_media_server_files(folder) == ("video.nfo", "poster.jpg", "landscape.jpg")
    manifest = load_manifest(folder)
    assert manifest is not None
    assert len(manifest.files) == 5
    assert check_files(folder, manifest, lambda _size: None) == ()
    assert (folder / "poster.jpg").read_bytes() == (folder / "thumbnail.jpg").read_bytes()
    assert write_media_server_files(folder) == ()
    (folder / "poster.jpg").unlink()
    assert write_media_server_files(folder) == ("poster.jpg",)


def test_a_claim_that_is_lost_leaves_the_item_as_it_is(tmp_path: Path) -> None:
    folder = keep(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def lost() -> None:
        raise PermissionError

    with pytest.raises(PermissionError):
        write_media_server_files(folder, confirm=lost)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.anyio
@pytest.mark.parametrize("switch", [True, False])
async def test_an_item_that_is_whole_already_gets_them_if_they_are_wanted(
    switch: bool, tmp_path: Path, clock: FakeClock
) -> None:
    folder = keep(tmp_path)

    class Capture:
        def work_folder(self, video_id: str) -> WorkFolder:
            return WorkFolder(tmp_path, video_id)

    archivist = Archivist(
        capture=Capture(),  # type: ignore[arg-type]
        library=Library(tmp_path, "{channel}/{title} [{id}]"),
        clock=clock,
        log=get_logger("test"),
        require_archive=lambda: None,
        media_server_files=switch,
    )
    await archivist.capture(
        make_item("2301", channel="otter", title="A title"),
        on_progress=lambda _progress: None,
        report_phase=lambda _phase: None,
        confirm=lambda: None,
        accept_holes=False,
    )
    assert (folder / "video.nfo").exists() is switch


@pytest.mark.anyio
async def test_the_library_is_checked_and_mended(tmp_path: Path) -> None:
    settings = load_settings({"DATA_DIR": str(tmp_path)})
    keep(tmp_path)

    async def check(*, write: bool = False, as_json: bool = False) -> tuple[int, str]:
        console = Console(file=(printed := io.StringIO()), width=40)
        return await check_library(settings, console, write=write, as_json=as_json), printed.getvalue()

    code, told = await check()
    assert (code, told.splitlines()[-1]) == (0, "1 items, 0 problems, 2 hints.")
    assert await check(write=True) == (0, "3 files were written.\n1 items, 0 problems, 0 hints.\n")
    let_go = keep(tmp_path, "2303")
    manifest = load_manifest(let_go)
    assert manifest is not None
    gone = LetGoEntry(manifest.captured_at, "It was old.", manifest.files[0], None)
    (let_go / MANIFEST_NAME).write_text(write_manifest(replace(manifest, files=(), let_go=gone)), "utf-8")
    (let_go / "video.mp4").unlink()
    assert await check() == (0, "2 items, 0 problems, 0 hints.\n")
    folder = keep(tmp_path, "2302 [tmdbid-603]")
    (folder / "video.nfo").write_text("<movie>")
    code, told = await check(as_json=True)
    problems = json.loads(told)["problems"]
    assert code == 1
    assert [problem["is_hint"] for problem in problems] == [False, True, False]
    assert "cannot be read" in problems[2]["sentence"]
