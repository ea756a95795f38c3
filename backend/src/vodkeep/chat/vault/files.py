"""The images on disk: each once, under the hash of its bytes, below ``DATA_DIR/.emotes``. Everything here blocks."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from blake3 import blake3

from vodkeep.chat.vault.manifest import IMAGES, NAME
from vodkeep.chat.vault.model import ImageType, StoredImage

FOLDER = ".emotes"
"""Below DATA_DIR; its name begins with a dot, so that nobody takes it for a channel."""

_FILE_MODE = 0o640
_FOLDER_MODE = 0o750
_HASH = re.compile(r"[0-9a-f]{64}")
_EXTENSIONS = frozenset(kind.extension for kind in ImageType)


def is_hash(text: str) -> bool:
    """Whether a text can be the hash of an image at all."""
    return _HASH.fullmatch(text) is not None


def hash_of(data: bytes) -> str:
    """The name of an image: BLAKE3 of its bytes, 64 hex digits."""
    return blake3(data).hexdigest()


class ImageFiles:
    """The folder of images; it is made when the first one comes."""

    def __init__(self, data_dir: Path, archive_problem: Callable[[], str | None] = lambda: None) -> None:
        """``archive_problem`` says why nothing may be written: ``data_dir`` is not the archive. It may block."""
        self._root = data_dir / FOLDER
        self._archive_problem = archive_problem

    def path(self, image: StoredImage) -> Path:
        """Where an image is, or will be."""
        return self._root / image.file_name

    def save(self, image: StoredImage, data: bytes) -> None:
        """Write an image so that it is whole and on the disk, or not there at all. Raises OSError."""
        path = self.path(image)
        if self._is_whole(path, image):
            return
        problem = self._archive_problem()
        if problem is not None:
            raise OSError(problem)
        made = [folder for folder in (path.parent, self._root) if not folder.exists()]
        path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        _write(path, data)
        for folder in (path.parent, *(folder.parent for folder in made)):
            _sync_folder(folder)

    def load(self, image: StoredImage) -> bytes | None:
        """The bytes of an image; None when they are not there, or are not what they were."""
        try:
            data = self.path(image).read_bytes()
        except FileNotFoundError:
            return None
        return data if hash_of(data) == image.hash else None

    def found(self) -> Iterator[tuple[str, Path]]:
        """Hash and path of every image that lies here."""
        for path in sorted(self._root.glob("[0-9a-f][0-9a-f]/*")):
            name, _, extension = path.name.partition(".")
            if is_hash(name) and path.parent.name == name[:2] and extension in _EXTENSIONS:
                yield name, path

    def write_beside(self, folder: Path, manifest: bytes, images: Sequence[StoredImage]) -> tuple[str, ...]:
        """Write a manifest and the images it names into an item's folder; returns the names. Raises OSError."""
        names = []
        if images:
            (folder / IMAGES).mkdir(mode=_FOLDER_MODE, exist_ok=True)
        for image in images:
            data = self.load(image)
            if data is not None:
                name = f"{IMAGES}/{image.hash}.{image.facts.type.extension}"
                _write(folder / name, data)
                names.append(name)
        if images:
            _sync_folder(folder / IMAGES)
        # Last, so that what it names is there.
        _write(folder / NAME, manifest)
        _sync_folder(folder)
        return (NAME, *names)

    def unfinished(self) -> Iterator[Path]:
        """What is being written, or was when a process was killed."""
        yield from self._root.glob("[0-9a-f][0-9a-f]/.[0-9a-f]*.*.*")

    def disk_time_s(self) -> float:
        """What time it is for the disk, which may be another machine's; Unix seconds."""
        with tempfile.TemporaryFile(dir=self._root) as file:
            return os.fstat(file.fileno()).st_mtime

    def _is_whole(self, path: Path, image: StoredImage) -> bool:
        try:
            return path.stat().st_size == image.size_bytes and hash_of(path.read_bytes()) == image.hash
        except FileNotFoundError:
            return False


def _write(path: Path, data: bytes) -> None:
    """Write beside the place and rename; the bytes are on the disk before the name is."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
