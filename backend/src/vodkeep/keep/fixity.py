"""Fixity: whether the files of an item are still what its manifest says, and which items lie in the library at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vodkeep.disk import hash_file
from vodkeep.keep.manifest import MANIFEST_NAME, FileEntry, Manifest


@dataclass(frozen=True, slots=True)
class FileProblem:
    """A file that is not what the manifest says."""

    name: str
    sentence: str
    denied: bool = False  # we may not read it, which says nothing about the file


def check_files(folder: Path, manifest: Manifest, on_bytes: Callable[[int], None]) -> tuple[FileProblem, ...]:
    """Compare size and SHA-256 of every file that the manifest names; reads all of them.

    ``on_bytes`` is told how much was read; for a file that need not be read to the end (it is missing, or its size is
    wrong) it is told all of its size at once, so that the sum is always that of the manifest's sizes. Files that the
    manifest does not name are somebody's notes and no problem.
    """
    problems = [_check_file(folder, entry, on_bytes) for entry in manifest.files]
    return tuple(problem for problem in problems if problem is not None)


def _check_file(folder: Path, entry: FileEntry, on_bytes: Callable[[int], None]) -> FileProblem | None:
    told = 0

    def tell(size: int) -> None:
        nonlocal told
        told += size
        on_bytes(size)

    problem = _problem_of(folder, entry, tell)
    if problem is not None and told < entry.size_bytes:
        on_bytes(entry.size_bytes - told)
    return problem


def _problem_of(folder: Path, entry: FileEntry, on_bytes: Callable[[int], None]) -> FileProblem | None:
    name = PurePosixPath(entry.name)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        return FileProblem(entry.name, "has a name that leads out of the item's folder")
    path = folder / name
    try:
        size = path.stat().st_size
        if size != entry.size_bytes:
            return FileProblem(entry.name, f"has {size} bytes, and the manifest says {entry.size_bytes}")
        if hash_file(path, on_bytes) != entry.sha256:
            return FileProblem(entry.name, "has another checksum than the manifest says")
    except FileNotFoundError:
        return FileProblem(entry.name, "is missing")
    except OSError as error:
        return FileProblem(entry.name, f"cannot be read: {error.strerror}", denied=isinstance(error, PermissionError))
    return None


def find_folders(library: Path) -> Iterator[PurePosixPath]:
    """The folders below ``library`` with a manifest, relative to it; hidden folders (work, tools) are left out."""
    for root, folders, files in os.walk(library):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if MANIFEST_NAME in files:
            folders.clear()
            yield PurePosixPath(Path(root).relative_to(library))
