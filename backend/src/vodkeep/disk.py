"""What capture and archive share about files: durability, checksums, and the errors of a disk."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from vodkeep.errors import DiskFull, TransientError

FILE_MODE = 0o640
FOLDER_MODE = 0o750
_HASH_CHUNK_BYTES = 1024 * 1024

RESERVE_BYTES = 128 * 1024 * 1024
"""What captures leave free, for the database, the log and what an estimate got wrong."""

_ASSUMED_BITRATE_BPS = 6_000_000


def bytes_of(duration: timedelta, bitrate_bps: int | None = None) -> int:
    """About how much space a broadcast takes; without a bit rate, what Twitch recommends at the most."""
    return (bitrate_bps or _ASSUMED_BITRATE_BPS) // 8 * (duration // timedelta(microseconds=1)) // 1_000_000


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


def hash_file(path: Path, on_bytes: Callable[[int], None] = lambda _: None) -> str:
    """SHA-256 of the file, hexadecimal, as ``sha256sum`` prints it; reads it from end to end.

    ``on_bytes`` is told the size of each piece when it has been read; what it raises ends the reading.
    """
    with path.open("rb", buffering=0) as file:
        digest = RunningHash(file.fileno())
        digest.advance(None, on_bytes)
        return digest.hexdigest()


class RunningHash:
    """SHA-256 of an open file that is read bit by bit, whatever else its descriptor is used for."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self._position = 0
        self._buffer = memoryview(bytearray(_HASH_CHUNK_BYTES))

    def advance(self, offset: int | None, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        """Take in the bytes before ``offset``, all that there are with None, as far as they have not been yet."""
        while offset is None or self._position < offset:
            wanted = _HASH_CHUNK_BYTES if offset is None else min(_HASH_CHUNK_BYTES, offset - self._position)
            size = os.preadv(self._descriptor, [self._buffer[:wanted]], self._position)
            if not size:
                return
            self._digest.update(self._buffer[:size])
            self._position += size
            on_bytes(size)

    def hexdigest(self) -> str:
        """The checksum of the bytes so far, hexadecimal."""
        return self._digest.hexdigest()
