"""What capture and archive share about files: durability, checksums, and the errors of a disk."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blake3 import blake3

from vodkeep.errors import DiskFull, TransientError

FILE_MODE = 0o640
FOLDER_MODE = 0o750
_CHUNK_BYTES = 256 * 1024  # Small enough for the caches of the processor.

ALGORITHM = "blake3"
_ALGORITHMS: dict[str, Callable[[], Any]] = {"blake3": blake3, "sha256": hashlib.sha256}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the errors of a full, failing or unwritable disk into ours; any other `OSError` passes."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"No space is left on the disk of {path}.",
                remedy="Free some space; the item goes on from where it stands.",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise TransientError(
                f"{path} cannot be written: {error.strerror}.",
                code="not_writable",
                remedy="Give the service's user write permission on DATA_DIR.",
            ) from error
        if error.errno == errno.EIO:
            raise TransientError(
                f"The disk of {path} reports an input/output error.",
                code="disk_error",
                remedy="Check the disk's health.",
            ) from error
        raise


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksum_of(path: Path, algorithm: str = ALGORITHM, on_bytes: Callable[[int], None] = lambda _: None) -> str:
    """The checksum of the file with its name: ``blake3:`` and what ``b3sum`` prints; or ``sha256:``, as ``sha256sum``.

    Reads it from end to end. ``on_bytes`` is told the size of each piece when it has been read; what it raises ends the
    reading.
    """
    with path.open("rb", buffering=0) as file:
        checksum = RunningChecksum(file.fileno(), algorithm)
        checksum.advance(None, on_bytes)
        return checksum.named()


def algorithm_of(checksum: str) -> str:
    """Which algorithm a named checksum is of; one that we do not know is `ValueError`."""
    algorithm, _, digest = checksum.partition(":")
    if algorithm not in _ALGORITHMS or not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError(f"{checksum[:80]!r} is no checksum that is known here")
    return algorithm


class RunningChecksum:
    """The checksum of an open file that is read bit by bit, whatever else its descriptor is used for."""

    def __init__(self, descriptor: int, algorithm: str = ALGORITHM) -> None:
        self._descriptor = descriptor
        self._algorithm = algorithm
        self._digest = _ALGORITHMS[algorithm]()
        self._position = 0
        self._buffer = memoryview(bytearray(_CHUNK_BYTES))

    def advance(self, offset: int | None, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        """Take in the bytes before ``offset``, all that there are with None, as far as they have not been yet."""
        while offset is None or self._position < offset:
            wanted = _CHUNK_BYTES if offset is None else min(_CHUNK_BYTES, offset - self._position)
            size = os.preadv(self._descriptor, [self._buffer[:wanted]], self._position)
            if not size:
                return
            self._digest.update(self._buffer[:size])
            self._position += size
            on_bytes(size)

    def named(self) -> str:
        """The checksum of the bytes so far, with the name of its algorithm."""
        return f"{self._algorithm}:{self._digest.hexdigest()}"
