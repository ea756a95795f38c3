"""Keeps a second service off a SQLite file that one already uses.

The lock is the kernel's (``flock``), so that ``kill -9`` frees it; what is written into the lock file only names the
holder.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vodkeep.errors import SettingsError


class InstanceLockedError(SettingsError):
    """Another service holds the SQLite file."""


@contextmanager
def hold_instance_lock(path: Path) -> Iterator[None]:
    """Hold the SQLite file ``path`` for this service; raises ``InstanceLockedError`` when another has it.

    A lock file that cannot be opened or locked at all raises ``SettingsError``. Who only reads, or writes what the
    service does not, needs no lock: the database itself keeps writers apart.
    """
    lock_path = path.resolve().with_name(path.resolve().name + ".lock")
    try:
        lock_path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise SettingsError([f"The lock file {lock_path} cannot be opened ({error.strerror})."]) from error
    try:
        _lock(descriptor, path)
        # The name is a courtesy; a full disk must not keep the service from starting.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        # The file stays: removing it would let two services lock two files of the same name.
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise SettingsError(
                [f"The database {path} cannot be locked ({error.strerror}): put DATA_DIR on a local file system."]
            ) from error
        raise InstanceLockedError(
            [
                f"The database {path} is in use by another vodkeep service ({_holder(descriptor)}):"
                " end that one, or give this one a DATA_DIR of its own."
            ]
        ) from error


def _holder(descriptor: int) -> str:
    """Who holds the lock; the process may be on another machine or in another container."""
    words = os.pread(descriptor, 300, 0).decode(errors="replace").split()
    match words:
        case [pid, host] if host == socket.gethostname():
            return f"process {pid}"
        case [pid, host]:
            return f"process {pid} on {host}"
        case _:
            return "starting or ending at this moment"
