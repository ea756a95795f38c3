"""Removing images that nothing leads to any more: planned first, carried out only as decided.

Nothing of this happens by itself. A set that ends keeps its images, because old broadcasts are shown with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from vodkeep.chat.vault.files import ImageFiles
from vodkeep.chat.vault.model import StoredImage
from vodkeep.chat.vault.store import EmoteStore
from vodkeep.db.engine import Database, UnitOfWork


@dataclass(frozen=True, slots=True)
class TidyPlan:
    """What could go."""

    unreferenced: tuple[StoredImage, ...]  # images to which no address leads
    strays: tuple[Path, ...]  # files that the tables do not know, such as a crash leaves

    @property
    def size_bytes(self) -> int:
        """Of the images; strays are not counted."""
        return sum(image.size_bytes for image in self.unreferenced)


async def plan_tidying(database: Database, files: ImageFiles, *, older_than_s: float) -> TidyPlan:
    """Look for what could go; files younger than ``older_than_s`` seconds may belong to a fetch at work."""

    def ask(unit: UnitOfWork) -> tuple[list[StoredImage], set[str]]:
        store = EmoteStore(unit.connection)
        return store.unreferenced(), store.known_hashes()

    unreferenced, known = await database.run(ask, write=False)
    strays = await anyio.to_thread.run_sync(_strays, files, known, older_than_s)
    return TidyPlan(tuple(unreferenced), tuple(strays))


async def carry_out(plan: TidyPlan, database: Database, files: ImageFiles) -> int:
    """Remove what a plan names, as far as it still holds; returns how many files went. Raises OSError.

    The row goes first: a file without a row is a stray, a row without its file would be a loss.
    """

    def forget(unit: UnitOfWork) -> tuple[set[str], set[str]]:
        store = EmoteStore(unit.connection)
        forgotten = set(store.forget_unreferenced([image.hash for image in plan.unreferenced]))
        known = store.known_hashes()
        unit.commit()
        return forgotten, known

    forgotten, known = await database.run(forget)
    paths = [files.path(image) for image in plan.unreferenced if image.hash in forgotten]
    paths += [path for path in plan.strays if path.name.partition(".")[0] not in known]
    await anyio.to_thread.run_sync(_remove, paths)
    return len(paths)


def _strays(files: ImageFiles, known: set[str], older_than_s: float) -> list[Path]:
    unknown = [path for name, path in files.found() if name not in known] + list(files.unfinished())
    if not unknown:
        return []
    now_s = files.disk_time_s()
    return [path for path in unknown if now_s - path.stat().st_mtime >= older_than_s]


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
