"""What is entered in the manifest of an item that lies in its place."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from vodkeep.keep.additions import change_manifest
from vodkeep.keep.manifest import MANIFEST_NAME, Manifest, PublicationEntry, load_manifest, write_manifest

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MANIFEST = Manifest(
    "2301", None, "lumen", "Lumen", "Evening", START, 60_000, 1.0, "chunked", ("vodkeep",), START, (), (), (), ()
)


def test_a_publication_is_entered_and_what_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).write_text(write_manifest(MANIFEST), "utf-8")
    entry = PublicationEntry(1, 1, 1, "uploaded", 0, 60_000, "dQw4w9WgXcQ", START)
    changed = change_manifest(tmp_path, lambda manifest: replace(manifest, publications=(entry,)))
    assert changed.publications == (entry,)
    assert load_manifest(tmp_path) == changed
    file = (tmp_path / MANIFEST_NAME).stat().st_ino
    assert change_manifest(tmp_path, lambda manifest: replace(manifest, publications=(entry,))) == changed
    assert (tmp_path / MANIFEST_NAME).stat().st_ino == file
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST_NAME]


def test_a_folder_without_an_item_has_nothing_to_enter_it_in(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        change_manifest(tmp_path, lambda manifest: manifest)
