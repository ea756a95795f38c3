"""Whether a media server takes the names in the library for what they are: Jellyfin's documented rules, pure.

Sources, read in November 2026: jellyfin.org/docs/general/server/media/movies (with its sections on extras, parts,
versions, 3D and external images), .../media/excluding-directory and .../metadata/identifiers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

# "The following characters are known to cause issues".
_RESERVED = frozenset('<>:"/\\|?*')
_EXTRAS_FOLDERS = frozenset(
    {
        "backdrops", "behind the scenes", "clips", "deleted scenes", "extras", "featurettes", "interviews", "other",
        "samples", "scenes", "shorts", "theme-music", "trailers",
    }
)  # fmt: skip
_EXTRAS_NAMES = frozenset({"trailer", "sample", "theme"})
_EXTRAS_SUFFIX = re.compile(
    r"(?i)(?:[-._ ](?:trailer|sample)"
    r"|-(?:scene|clip|interview|behindthescenes|deleted|deletedscene|featurette|short|other|extra))$"
)
_PART = re.compile(r"(?i)[-._ ](?:cd|dvd|part|pt|disc|disk)[-._ ]?(?:[0-9]+|[a-d])$")
_PROVIDER = re.compile(r"(?i)[\[({](?:imdb|tmdb|tvdb)(?:id)?[-=][^\])}]*[\])}]")
_3D = re.compile(r"(?i)(?:^|[-._ ])3d[-._ ](?:hsbs|fsbs|htab|ftab|mvc)(?:$|[-._ ])")
_VIDEO_ENDINGS = frozenset({".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".ts", ".webm"})
_POSTERS = frozenset({"poster", "folder", "cover", "default", "movie"})
_PICTURE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_MOST_NAME_BYTES = 255


@dataclass(frozen=True, slots=True)
class NameProblem:
    """Something that a media server would take for something else."""

    path: str  # relative to the library
    sentence: str
    remedy: str
    is_hint: bool = False  # it would be shown, only not as well as it could be


def check_item(folder: PurePosixPath, files: Collection[str]) -> list[NameProblem]:
    """What Jellyfin would not accept of an item in ``folder`` (relative to the library) with these ``files``."""
    problems = [problem for level, name in enumerate(folder.parts) for problem in _check_folder(folder, level, name)]
    for name in sorted(files):
        problems += _check_file(folder, name)
    return [*problems, *_check_whole(folder, files)]


def _check_folder(folder: PurePosixPath, level: int, name: str) -> Iterator[NameProblem]:
    path = str(PurePosixPath(*folder.parts[: level + 1]))
    renaming = "Rename the folder with the service stopped, or change FOLDER_TEMPLATE for what comes."
    yield from _check_characters(path, name, renaming)
    if name.casefold() in _EXTRAS_FOLDERS:
        yield NameProblem(path, f'A folder named "{name}" holds extras of another film.', renaming)
    if name.startswith("."):
        yield NameProblem(path, "Hidden folders are not shown.", renaming)
    if _PROVIDER.search(name):
        yield NameProblem(path, "It names a film of a catalogue, which would be shown instead.", renaming)
    if level == len(folder.parts) - 1 and _3D.search(name):
        yield NameProblem(path, "It would be shown as a film in 3D.", renaming)


def _check_file(folder: PurePosixPath, name: str) -> Iterator[NameProblem]:
    path = str(folder / name)
    file = PurePosixPath(name)
    yield from _check_characters(path, name, "Rename the file.")
    if name == ".ignore":
        yield NameProblem(path, "A folder with this file is not shown.", "Remove the file.")
    if file.suffix.casefold() not in _VIDEO_ENDINGS:
        return
    stem = file.stem
    if stem.casefold() in _EXTRAS_NAMES or _EXTRAS_SUFFIX.search(stem):
        yield NameProblem(path, "It would be shown as an extra of another film.", "Rename the file.")
    if _PART.search(stem):
        yield NameProblem(path, "It would be shown as one part of a film.", "Rename the file.")
    if _3D.search(stem):
        yield NameProblem(path, "It would be shown as a film in 3D.", "Rename the file.")


def _check_characters(path: str, name: str, remedy: str) -> Iterator[NameProblem]:
    found = sorted(_RESERVED & set(name))
    if found:
        yield NameProblem(path, f"It holds characters that Jellyfin reserves: {' '.join(found)}", remedy)
    if len(name.encode("utf-8", "surrogateescape")) > _MOST_NAME_BYTES:
        yield NameProblem(path, f"The name has more than {_MOST_NAME_BYTES} bytes.", remedy)
    if name != name.strip() or name.endswith("."):
        yield NameProblem(path, "The name begins or ends with a space, or ends with a dot.", remedy)


def _check_whole(folder: PurePosixPath, files: Collection[str]) -> Iterator[NameProblem]:
    """What can only be said of all files together."""
    path = str(folder)
    videos = [name for name in files if PurePosixPath(name).suffix.casefold() in _VIDEO_ENDINGS]
    if not videos:
        yield NameProblem(path, "It has no video.", "Check it with vodkeep verify.")
    if len(videos) > 1 and not all(name.startswith(folder.name) for name in videos):
        yield NameProblem(
            path,
            "It has several videos that do not begin with the name of the folder, so each would be a film of its own.",
            "Keep one video in each folder.",
        )
    descriptions = {"movie.nfo", *(f"{PurePosixPath(name).stem}.nfo" for name in videos)}
    if not descriptions & set(files):
        yield NameProblem(
            path,
            "It has no description, so its name would be looked up among films.",
            "Set MEDIA_SERVER_FILES=1, and run vodkeep library check --write for what is there.",
            is_hint=True,
        )
    if not any(_is_poster(name) for name in files):
        yield NameProblem(
            path,
            "It has no poster.",
            "Set MEDIA_SERVER_FILES=1, and run vodkeep library check --write for what is there.",
            is_hint=True,
        )


def _is_poster(name: str) -> bool:
    file = PurePosixPath(name)
    return file.stem.casefold() in _POSTERS and file.suffix.casefold() in _PICTURE_ENDINGS
