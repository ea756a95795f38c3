"""Whether the folder of the archive can be used; looked at before the service starts."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from pathlib import Path


def check_data_dir(data_dir: Path) -> list[str]:
    """Problems with ``data_dir`` as sentences; none when it can be read and written.

    A folder that does not exist yet is made (mode 0750). Writing is tried for real, because permission bits say
    nothing about read-only mounts, full disks, or root.
    """
    try:
        data_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        return [f'DATA_DIR is "{data_dir}" but must be a folder, and something else stands there.']
    except OSError as error:
        return [f'DATA_DIR is "{data_dir}" but must be a folder that can be made: {_reason(error)}.']
    problems = []
    try:
        with os.scandir(data_dir) as entries:
            next(entries, None)
    except OSError as error:
        problems.append(f'DATA_DIR is "{data_dir}" but must be a folder that can be read: {_reason(error)}.')
    try:
        with tempfile.NamedTemporaryFile(dir=data_dir, prefix=".vodkeep-check-") as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        problems.append(f'DATA_DIR is "{data_dir}" but must be a folder that can be written: {_reason(error)}.')
    return problems


def check_locks(data_dir: Path) -> list[str]:
    """Problems with file locks (``flock``) in ``data_dir``, which keep two processes from one item's work folder."""
    try:
        with tempfile.NamedTemporaryFile(dir=data_dir, prefix=".vodkeep-check-") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            with Path(file.name).open("rb") as other:
                try:
                    fcntl.flock(other.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return []
        reason = "a locked file can be locked again"
    except OSError as error:
        reason = _reason(error)
    return [f'DATA_DIR is "{data_dir}" but must be on a file system with file locks (flock): {reason}.']


def _reason(error: OSError) -> str:
    match error.errno:
        case errno.EROFS:
            return "it is on a read-only file system"
        case errno.ENOSPC | errno.EDQUOT:
            return "no space is left"
        case errno.EACCES | errno.EPERM:
            return "permission denied"
        case _:
            return (error.strerror or "unknown error").lower()
