"""Adds files to an item that is in its place, or replaces those it has, and keeps its manifest true.

Two names cannot be renamed at once. So the manifest first forgets the file, then the file is renamed into its place,
and at last the manifest names it: whenever that is cut off, the folder says nothing that is not so, and the file's
maker comes again. A lock on the folder keeps two makers apart.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from vodkeep.disk import FILE_MODE, disk_errors, sync
from vodkeep.keep.library import describe_file
from vodkeep.keep.manifest import MANIFEST_NAME, Manifest, load_manifest, write_manifest

_NEW = ".new"


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Keep others from changing the item's files meanwhile; waits for those that are at it. Blocking."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def put_file(
    folder: Path,
    name: str,
    pieces: Iterable[bytes],
    *,
    describe: Callable[[Manifest], Manifest] = lambda manifest: manifest,
    confirm: Callable[[], None] = lambda: None,
) -> Manifest:
    """Write a file of ``pieces`` into the item's folder, under ``name``, and enter it in the manifest.

    ``describe`` may change the manifest besides. ``confirm`` is called when everything is durable and nothing has been
    changed yet; what it raises leaves the item as it is, and so does what ``pieces`` raises. Blocking; raises
    ``FileNotFoundError`` when there is no item, ``ManifestError``, and the errors of a full or unwritable disk.
    """
    new = folder / f"{name}{_NEW}"
    with hold_folder(folder), disk_errors(folder):
        try:
            with new.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            new.chmod(FILE_MODE)
            entry = replace(describe_file(new), name=name)
            confirm()
            manifest = _manifest_of(folder)
            if manifest.file(name) is not None:
                _save(folder, _without(manifest, name))
            new.replace(folder / name)
        except BaseException:
            with suppress(OSError):
                new.unlink()
            raise
        sync(folder)
        changed = describe(_without(manifest, name))
        changed = replace(changed, files=(*changed.files, entry))
        _save(folder, changed)
        return changed


def drop_file(folder: Path, name: str, *, describe: Callable[[Manifest], Manifest] = lambda manifest: manifest) -> None:
    """Remove a file from the item and its manifest; one that is not there is no error. Blocking."""
    with hold_folder(folder), disk_errors(folder):
        manifest = _manifest_of(folder)
        _save(folder, describe(_without(manifest, name)))
        with suppress(FileNotFoundError):
            (folder / name).unlink()
        sync(folder)


def change_manifest(folder: Path, change: Callable[[Manifest], Manifest]) -> Manifest:
    """Enter in the manifest what has become of the item (its publications, say), and return it as it is then.

    What leaves it as it is writes nothing. Blocking; raises ``FileNotFoundError`` when there is no item,
    ``ManifestError``, and the errors of a full or unwritable disk.
    """
    with hold_folder(folder), disk_errors(folder):
        manifest = _manifest_of(folder)
        changed = change(manifest)
        if changed != manifest:
            _save(folder, changed)
        return changed


def _manifest_of(folder: Path) -> Manifest:
    manifest = load_manifest(folder)
    if manifest is None:
        raise FileNotFoundError(f"{folder} has no {MANIFEST_NAME}")
    return manifest


def _without(manifest: Manifest, name: str) -> Manifest:
    return replace(manifest, files=tuple(entry for entry in manifest.files if entry.name != name))


def _save(folder: Path, manifest: Manifest) -> None:
    new = folder / f"{MANIFEST_NAME}{_NEW}"
    with new.open("w", encoding="utf-8") as file:
        file.write(write_manifest(manifest))
        file.flush()
        os.fsync(file.fileno())
    new.chmod(FILE_MODE)
    new.replace(folder / MANIFEST_NAME)
    sync(folder)
