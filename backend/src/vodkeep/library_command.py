"""``vodkeep library check``: whether media servers take the library's names and files for what they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree as ET

import anyio.to_thread
from rich.console import Console

from vodkeep.errors import TransientError
from vodkeep.keep.fixity import find_folders
from vodkeep.keep.library import load_manifest_quietly
from vodkeep.keep.manifest import ManifestError
from vodkeep.keep.media_names import NameProblem, check_item
from vodkeep.keep.media_server import NFO_NAME, write_media_server_files
from vodkeep.printing import say
from vodkeep.settings import Settings


@dataclass(frozen=True, slots=True)
class _Report:
    items: int
    written: int  # files
    problems: tuple[NameProblem, ...]

    @property
    def is_fine(self) -> bool:
        return all(problem.is_hint for problem in self.problems)


async def check_library(settings: Settings, console: Console, *, write: bool, as_json: bool) -> int:
    """Look at every folder; returns the exit code, 1 when something would not be shown as what it is."""
    report = await anyio.to_thread.run_sync(_check, settings.storage.data_dir, write)
    if as_json:
        told = {
            "items": report.items,
            "written": report.written,
            "problems": [asdict(problem) for problem in report.problems],
        }
        console.print_json(json.dumps(told, ensure_ascii=False))
        return 0 if report.is_fine else 1
    for problem in report.problems:
        say(console, f"{'hint' if problem.is_hint else 'problem'}: {problem.path}: {problem.sentence} {problem.remedy}")
    if write:
        say(console, f"{report.written} files were written.")
    wrong = sum(not problem.is_hint for problem in report.problems)
    say(console, f"{report.items} items, {wrong} problems, {len(report.problems) - wrong} hints.")
    return 0 if report.is_fine else 1


def _check(library: Path, write: bool) -> _Report:
    items = written = 0
    problems: list[NameProblem] = []
    for folder in find_folders(library):
        items += 1
        manifest = load_manifest_quietly(library / folder)
        if manifest is not None and manifest.let_go is not None:
            continue  # Its video went on purpose, and servers see an empty folder.
        if write:
            try:
                written += len(write_media_server_files(library / folder))
            except (OSError, ManifestError, TransientError) as error:
                problems.append(
                    NameProblem(str(folder), f"The files cannot be written: {error}.".replace("..", "."), "")
                )
        problems += check_item(folder, {path.name for path in (library / folder).iterdir()})
        problems += _check_nfo(library, folder)
    return _Report(items, written, tuple(problems))


def _check_nfo(library: Path, folder: PurePosixPath) -> Iterator[NameProblem]:
    path = folder / NFO_NAME
    try:
        root = ET.fromstring((library / path).read_bytes())  # noqa: S314  it is our own file, in our own folder
    except FileNotFoundError:
        return
    except (ET.ParseError, OSError) as error:
        yield NameProblem(str(path), f"It cannot be read: {error}.", "Remove it, and write it again with --write.")
        return
    if root.tag != "movie" or not (root.findtext("title") or "").strip():
        yield NameProblem(str(path), "It describes no film.", "Remove it, and write it again with --write.")
