"""The disk: can it be written, is there room, can items be moved into the library."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

from vodkeep.capture.workfolder import WORK_DIR_NAME
from vodkeep.checks.model import Check, Found, State, in_thread, some
from vodkeep.settings import check_data_dir, check_locks

# A broadcast of ten hours in 1080p60 (6 Mbit/s) has 27 GB.
ROOMY_BYTES = 30 * 10**9
TIGHT_BYTES = 10**9
_MOST_FOLDERS = 100
_PROBE_PREFIX = ".vodkeep-check-"


def storage_checks(data_dir: Path) -> list[Check]:
    """The checks of DATA_DIR."""
    return [
        Check("data_dir", partial(in_thread, partial(_writable, data_dir))),
        Check("space", partial(in_thread, partial(_space, data_dir))),
        Check("one_file_system", partial(in_thread, partial(_one_file_system, data_dir))),
    ]


def _writable(data_dir: Path) -> Found:
    if not data_dir.exists():
        return Found(State.WARN, f"{data_dir} does not exist yet; the service makes it when it starts.")
    problems = check_data_dir(data_dir)
    if problems:
        return Found(State.FAIL, " ".join(problems), "Give the user of the service write permission on DATA_DIR.")
    unlockable = check_locks(data_dir)
    if unlockable:
        return Found(State.FAIL, " ".join(unlockable), "Mount it with locks, or choose another file system.")
    return Found(State.OK, f"{data_dir.absolute()} can be written.")


def _space(data_dir: Path) -> Found:
    place = next(path for path in (data_dir.absolute(), *data_dir.absolute().parents) if path.exists())
    usage = shutil.disk_usage(place)
    room = f"{usage.free / 1e9:.1f} GB of {usage.total / 1e9:.1f} GB are free"
    if _free_names(place) == 0:
        return Found(State.FAIL, f"{room}, but no more files can be made.", "Remove files, or enlarge the file system.")
    if usage.free < TIGHT_BYTES:
        return Found(State.FAIL, f"{room}; no broadcast fits.", "Free some space; waiting items go on by themselves.")
    if usage.free < ROOMY_BYTES:
        return Found(State.WARN, f"{room}; a long broadcast needs {ROOMY_BYTES / 1e9:.0f} GB.", "Free some space.")
    return Found(State.OK, f"{room}.")


def _free_names(place: Path) -> int | None:
    """Files that can still be made; None on file systems that do not count them."""
    figures = os.statvfs(place)
    return figures.f_favail if figures.f_files else None


def _one_file_system(data_dir: Path) -> Found:
    """Move a file from the work folder into every folder of the library: the same device number promises nothing."""
    if not data_dir.exists():
        return Found(State.SKIPPED, "DATA_DIR does not exist yet.")
    work = data_dir / WORK_DIR_NAME
    source = work if work.is_dir() else data_dir
    folders = sorted(path for path in data_dir.iterdir() if path.is_dir() and not path.name.startswith("."))
    apart, closed = [], []
    for folder in folders[:_MOST_FOLDERS]:
        reason = _cannot_move(source, folder)
        if reason == errno.EXDEV:
            apart.append(folder.name)
        elif reason is not None:
            closed.append(folder.name)
    if apart:
        return Found(
            State.FAIL,
            f"{some(apart)} in DATA_DIR lies on another file system than {WORK_DIR_NAME}.",
            "Mount all of DATA_DIR from one file system; finished items are moved there with one rename.",
        )
    if closed:
        return Found(
            State.FAIL,
            f"Nothing can be moved into {some(closed)} in DATA_DIR.",
            "Give the user of the service write permission on everything below DATA_DIR.",
        )
    return Found(State.OK, "Finished items can be moved into the library.")


def _cannot_move(source: Path, folder: Path) -> int | None:
    """The number of the error when a file is moved from one folder to the other; None when it works."""
    descriptor, name = tempfile.mkstemp(prefix=_PROBE_PREFIX, dir=source)
    os.close(descriptor)
    probe = Path(name)
    try:
        moved = probe.rename(folder / probe.name)
    except OSError as error:
        probe.unlink(missing_ok=True)
        return error.errno
    moved.unlink()
    return None
