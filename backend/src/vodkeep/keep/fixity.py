"""Fixity: whether the files of an item are still what its manifest says, and which items lie in the library at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vodkeep.disk import checksum_of
from vodkeep.keep.manifest import MANIFEST_NAME, FileEntry, Manifest


@dataclass(frozen=True, slots=True)
class FileProblem:
    """A file that is not what the manifest says."""

    name: str
    sentence: str
    denied: bool = False  # we may not read it, which says nothing about the file


def check_files(
    folder: Path, manifest: Manifest, on_bytes: Callable[[int], None], *, but: str | None = None
) -> tuple[FileProblem, ...]:
    """Compare size and checksum of every file that the manifest names, ``but`` for that one; reads all of them.

    ``on_bytes`` is told how much was read; for a file that need not be read to the end (it is missing, or its size is
    wrong) it is told all of its size at once, so that the sum is always that of the manifest's sizes. Files that the
    manifest does not name are somebody's notes and no problem.
    """
    problems = [check_file(folder, entry, on_bytes) for entry in manifest.files if entry.name != but]
    return tuple(problem for problem in problems if problem is not None)


def check_file(folder: Path, entry: FileEntry, on_bytes: Callable[[int], None]) -> FileProblem | None:
    """Compare size and checksum of one file, as `check_files` does."""
    told = 0

    def tell(size: int) -> None:
        nonlocal told
        told += size
        on_bytes(size)

    def compare(path: Path) -> FileProblem | None:
        return _compare_size(entry, path) or compare_checksum(entry, checksum_of(path, entry.algorithm, tell))

    problem = _look(folder, entry, compare)
    if problem is not None and told < entry.size_bytes:
        on_bytes(entry.size_bytes - told)
    return problem


def check_size(folder: Path, entry: FileEntry) -> FileProblem | None:
    """Compare the size of one file, which says nothing of what is in it."""
    return _look(folder, entry, lambda path: _compare_size(entry, path))


def _look(folder: Path, entry: FileEntry, compare: Callable[[Path], FileProblem | None]) -> FileProblem | None:
    """What ``compare`` finds; or that there is nothing to compare."""
    name = PurePosixPath(entry.name)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        return FileProblem(entry.name, "has a name that leads out of the item's folder")
    try:
        return compare(folder / name)
    except FileNotFoundError:
        return FileProblem(entry.name, "is missing")
    except OSError as error:
        return FileProblem(entry.name, f"cannot be read: {error.strerror}", denied=isinstance(error, PermissionError))


def _compare_size(entry: FileEntry, path: Path) -> FileProblem | None:
    size = path.stat().st_size
    if size == entry.size_bytes:
        return None
    return FileProblem(entry.name, f"has {size} bytes, and the manifest says {entry.size_bytes}")


def compare_checksum(entry: FileEntry, found: str) -> FileProblem | None:
    """Compare a checksum with that of the manifest."""
    return FileProblem(entry.name, "has another checksum than the manifest says") if found != entry.checksum else None


def find_folders(library: Path, *, hidden: bool = False) -> Iterator[PurePosixPath]:
    """The folders below ``library`` with a manifest, relative to it.

    Hidden folders (work, tools) are left out, unless what was replaced and what is not in its place yet count, too.
    """
    for root, folders, files in os.walk(library):
        folders[:] = sorted(name for name in folders if hidden or not name.startswith("."))
        if MANIFEST_NAME in files:
            folders.clear()
            yield PurePosixPath(Path(root).relative_to(library))
