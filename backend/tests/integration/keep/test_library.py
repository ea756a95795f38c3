"""Placing items, with the crash put at every step."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest

from vodkeep.keep.library import Library, describe_file
from vodkeep.keep.manifest import MANIFEST_NAME, Manifest, write_manifest

PLACE = PurePosixPath("nightotter/2026-11-01 A title [2301]")


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path, "{channel}/{date} {title} [{id}]")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    path = tmp_path / ".work" / "2301"
    path.mkdir(parents=True)
    return path


def finish(work: Path, content: bytes = b"media", video_id: str = "2301") -> Path:
    output = work / "out"
    output.mkdir()
    (output / "video.mp4").write_bytes(content)
    manifest = Manifest(
        video_id=video_id,
        stream_id=None,
        channel="nightotter",
        channel_name="NightOtter",
        title="A title",
        date=datetime(2026, 11, 1, tzinfo=UTC),
        duration_ms=1,
        completeness=1.0,
        rendition="",
        tools=(),
        captured_at=datetime(2026, 11, 2, tzinfo=UTC),
        files=(describe_file(output / "video.mp4"),),
        streams=(),
        ledger=(),
        chapters=(),
    )
    (output / MANIFEST_NAME).write_text(write_manifest(manifest))
    return output


def test_a_placed_item_is_found_whole_and_private(library: Library, work: Path) -> None:
    library.place(finish(work), work, PLACE)

    item = library.find(PLACE, "2301")

    assert item is not None
    assert library.is_intact(item)
    assert (library.root / PLACE / "video.mp4").stat().st_mode & 0o777 == 0o640
    assert (library.root / PLACE).stat().st_mode & 0o777 == 0o750


def test_an_item_of_another_id_is_not_found(library: Library, work: Path) -> None:
    library.place(finish(work, video_id="9"), work, PLACE)
    assert library.find(PLACE, "2301") is None


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damage_is_noticed(library: Library, work: Path, damage: str) -> None:
    library.place(finish(work), work, PLACE)
    video = library.root / PLACE / "video.mp4"
    match damage:
        case "flip":
            video.write_bytes(b"meDia")
        case "truncate":
            video.write_bytes(b"med")
        case _:
            video.unlink()
    item = library.find(PLACE, "2301")
    assert item is not None
    assert not library.is_intact(item)


def test_after_a_crash_behind_the_move_the_item_is_found_in_its_place(library: Library, work: Path) -> None:
    library.place(finish(work), work, PLACE)
    found = library.find_placed(work, "2301")
    assert found is not None
    assert found.path == PLACE


def test_after_a_crash_before_the_move_it_is_finished(
    library: Library, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    output = finish(work)
    with monkeypatch.context() as patch:
        patch.setattr(Library, "_move", crash)
        with pytest.raises(KeyboardInterrupt):
            library.place(output, work, PLACE)
    assert not (library.root / PLACE).exists()

    found = library.find_placed(work, "2301")

    assert found is not None
    assert library.is_intact(found)
    assert not output.exists()


def refuse() -> None:
    raise PermissionError("the item is another's")


def test_what_is_not_confirmed_leaves_the_library_as_it_is(library: Library, work: Path) -> None:
    library.place(finish(work, b"old"), work, PLACE)
    output = finish(work, b"new")
    with pytest.raises(PermissionError):
        library.place(output, work, PLACE, confirm=refuse)
    assert (library.root / PLACE / "video.mp4").read_bytes() == b"old"
    assert (output / "video.mp4").read_bytes() == b"new"


def test_a_move_that_was_cut_off_is_not_finished_without_being_confirmed(library: Library, work: Path) -> None:
    output = finish(work)
    with pytest.raises(PermissionError):
        library.place(output, work, PLACE, confirm=refuse)
    with pytest.raises(PermissionError):
        library.find_placed(work, "2301", confirm=refuse)
    assert not (library.root / PLACE).exists()
    assert library.find_placed(work, "2301") is not None


def test_without_a_note_nothing_was_placed(library: Library, work: Path) -> None:
    finish(work)
    assert library.find_placed(work, "2301") is None


@pytest.mark.parametrize("note", ["/etc", "../../etc", "", "\xff"])
def test_a_damaged_note_leads_nowhere(library: Library, work: Path, note: str) -> None:
    (work / "placed").write_bytes(note.encode("latin-1"))
    assert library.find_placed(work, "2301") is None


def test_what_lay_there_before_is_kept_aside_and_not_lost(library: Library, work: Path) -> None:
    library.place(finish(work, b"old"), work, PLACE)
    library.place(finish(work, b"new"), work, PLACE)
    library.place(finish(work, b"newer"), work, PLACE)

    assert (library.root / PLACE / "video.mp4").read_bytes() == b"newer"
    assert (work / "replaced-0" / "video.mp4").read_bytes() == b"old"
    assert (work / "replaced-1" / "video.mp4").read_bytes() == b"new"


def test_a_manifest_without_its_files_is_not_intact(library: Library, work: Path) -> None:
    library.place(finish(work), work, PLACE)
    item = library.find(PLACE, "2301")
    assert item is not None
    missing = replace(item.manifest, files=(replace(item.manifest.files[0], name="gone.mp4"),))
    assert not library.is_intact(replace(item, manifest=missing))
