"""Gives finished items their place: one rename, from the work folder into the library.

The way there can be cut off at any instant. Before anything moves, a note in the work folder says where the item will
lie; whoever comes after a crash reads it and finds the item either still in the work folder or whole in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

from vodkeep.disk import FILE_MODE, FOLDER_MODE, checksum_of, disk_errors, sync
from vodkeep.keep.layout import item_folder
from vodkeep.keep.manifest import FileEntry, Manifest, ManifestError, load_manifest

_NOTE_NAME = "placed"
_REPLACED_NAME = "replaced"


def _agree() -> None:
    """Nobody else could have taken the item."""


@dataclass(frozen=True, slots=True)
class LibraryItem:
    """An item in its place."""

    path: PurePosixPath  # relative to the library, what vods.downloaded_path holds
    manifest: Manifest


class Library:
    """The folders of the finished items below ``root`` (DATA_DIR)."""

    def __init__(self, root: Path, template: str) -> None:
        self.root = root
        self._template = template

    def folder_for(self, *, channel: str, date: datetime | None, title: str, video_id: str) -> PurePosixPath:
        """Where an item belongs, relative to the library."""
        return item_folder(self._template, channel=channel, date=date, title=title, video_id=video_id)

    def find(self, path: PurePosixPath, video_id: str) -> LibraryItem | None:
        """The item at ``path`` if it is whole and is ``video_id``; None otherwise."""
        try:
            manifest = load_manifest(self.root / path)
        except ManifestError:
            return None
        if manifest is None or manifest.video_id != video_id:
            return None
        return LibraryItem(path, manifest)

    def find_placed(self, work: Path, video_id: str, *, confirm: Callable[[], None] = _agree) -> LibraryItem | None:
        """The item that an earlier run placed before it could tell anybody; finishes a move that was cut off.

        ``confirm`` as in `place`.
        """
        try:
            path = PurePosixPath((work / _NOTE_NAME).read_text("utf-8"))
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        if path.is_absolute() or ".." in path.parts:
            return None
        target, output = self.root / path, work / "out"
        if not target.exists() and load_manifest_quietly(output) is not None:
            confirm()
            with disk_errors(target):
                self._move(output, target)
        return self.find(path, video_id) if not output.exists() else None

    def is_intact(self, item: LibraryItem) -> bool:
        """Whether every file that the manifest names is there with its size and checksum; reads all of them."""
        for entry in item.manifest.files:
            path = self.root / item.path / entry.name
            try:
                if path.stat().st_size != entry.size_bytes or checksum_of(path, entry.algorithm) != entry.checksum:
                    return False
            except OSError:
                return False
        return True

    def place(self, output: Path, work: Path, path: PurePosixPath, *, confirm: Callable[[], None] = _agree) -> None:
        """Move the finished folder ``output`` (within ``work``) to ``path``; what lay there before goes into ``work``.

        Every byte is durable before the rename. ``confirm`` is called when nothing is left to do but renaming, and what
        it raises leaves the library as it is: the item may be another's by then, after minutes of writing. Raises the
        service's errors of a full or unwritable disk.
        """
        target = self.root / path
        with disk_errors(target):
            for file in output.iterdir():
                file.chmod(FILE_MODE)
                sync(file)
            output.chmod(FOLDER_MODE)
            sync(output)
            target.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            note = work / _NOTE_NAME
            note.with_suffix(".new").write_text(str(path), "utf-8")
            sync(note.with_suffix(".new"))
            note.with_suffix(".new").replace(note)
            sync(work)
            confirm()
            if target.exists():
                target.rename(self._free_name(work))
            self._move(output, target)

    def _move(self, output: Path, target: Path) -> None:
        target.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        output.rename(target)
        sync(target.parent)

    @staticmethod
    def _free_name(work: Path) -> Path:
        number = 0
        while (candidate := work / f"{_REPLACED_NAME}-{number}").exists():
            number += 1
        return candidate


def load_manifest_quietly(folder: Path) -> Manifest | None:
    """The manifest of ``folder``, or None when it has none that can be read."""
    with suppress(ManifestError):
        return load_manifest(folder)
    return None


def describe_file(path: Path) -> FileEntry:
    """Size and SHA-256 of a file; reads it from end to end."""
    return FileEntry(path.name, path.stat().st_size, checksum_of(path))
