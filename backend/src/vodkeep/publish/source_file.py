"""The file that is uploaded, read in threads, a piece at a time."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import anyio.to_thread

from vodkeep.errors import PermanentError


class SourceFile:
    """A file of a known size; used as an async context manager, and read from any place."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self._descriptor = -1
        # A request that was given up may still be reading in its thread when the file is closed.
        self._lock = threading.Lock()

    async def __aenter__(self) -> SourceFile:
        """Open the file. Raises PermanentError when it is not there or has another size."""
        await anyio.to_thread.run_sync(self._open)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await anyio.to_thread.run_sync(self._close)

    async def read(self, start: int, amount: int) -> bytes:
        """``amount`` bytes from ``start``. Raises PermanentError when the file no longer has them."""
        return await anyio.to_thread.run_sync(self._read, start, amount)

    def _open(self) -> None:
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise PermanentError(
                f"The file to upload, {self._path}, cannot be opened: {error.strerror}.", code="source_missing"
            ) from error
        if os.fstat(self._descriptor).st_size != self._size_bytes:
            self._close()
            raise self._changed()

    def _close(self) -> None:
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _read(self, start: int, amount: int) -> bytes:
        with self._lock:
            if self._descriptor < 0:
                raise self._changed()
            piece = os.pread(self._descriptor, amount, start)
        if len(piece) != amount:
            raise self._changed()
        return piece

    def _changed(self) -> PermanentError:
        return PermanentError(
            f"The file to upload, {self._path}, does not have {self._size_bytes} bytes any more.",
            code="source_changed",
            remedy="Check it with vodkeep verify, and publish again.",
        )
