"""The folder a capture works in, and who may work there.

``DATA_DIR/.work/<video id>/`` holds the reel (`vodkeep.capture.reel`), the plan, and ``out``, the folder that will
become the item. A lock held through the kernel says who works here: it vanishes with its holder, whatever
ends it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vodkeep.disk import FILE_MODE, FOLDER_MODE, disk_errors
from vodkeep.errors import TransientError

WORK_DIR_NAME = ".work"
_LOCK_NAME = "lock"


class ItemBusyError(TransientError):
    """Another process works on the item; it is left to that one."""

    code = "busy"


class WorkFolder:
    """One item's work on disk."""

    def __init__(self, root: Path, video_id: str) -> None:
        self.path = root / WORK_DIR_NAME / video_id
        self.video_id = video_id
        self.output = self.path / "out"

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Own the folder for the time of the block; raises `ItemBusyError` when another process does."""
        with disk_errors(self.path):
            descriptor = self._take_lock()
        try:
            yield
        finally:
            # Nothing was begun, as with a broadcast that is still live: nothing stays behind.
            if {path.name for path in self.path.glob("*")} == {_LOCK_NAME}:
                shutil.rmtree(self.path, ignore_errors=True)
            os.close(descriptor)

    def is_held(self) -> bool:
        """Whether somebody works here at this moment; blocking."""
        try:
            descriptor = os.open(self.path / _LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _take_lock(self) -> int:
        # Whoever opened a lock file that was deleted meanwhile would hold a lock on nothing, so the file that was
        # locked is compared with the one that is there.
        path = self.path / _LOCK_NAME
        while True:
            self.path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(descriptor)
                raise ItemBusyError(
                    f"Item {self.video_id} is being captured by another process.", delay_s=30
                ) from error
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
            os.close(descriptor)

    def take_back_video(self) -> None:
        """Undo `hand_out_video` of an earlier run that was cut off before the item was whole."""
        reel = self.path / "video.mp4"
        with disk_errors(self.output):
            for path in self.output.glob("*.mp4"):
                # Where the reel is still there, what was handed out came another way and cannot be gone on with.
                if not reel.exists():
                    path.replace(reel)
            if self.output.exists():
                shutil.rmtree(self.output)

    def hand_out_video(self, video: Path, name: str) -> Path:
        """Move the finished ``video`` into the folder that becomes the item, and return that folder."""
        with disk_errors(self.output):
            self.output.mkdir(mode=FOLDER_MODE, exist_ok=True)
            video.replace(self.output / name)
        return self.output

    def remove(self) -> None:
        """Delete the folder, once the item's row says that it lies in the library; another holder keeps it."""
        if not self.path.exists():
            return
        with suppress(ItemBusyError), self.hold(), disk_errors(self.path):
            shutil.rmtree(self.path)
