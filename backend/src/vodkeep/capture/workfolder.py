"""The folder a capture works in, and the journal of what it has.

``DATA_DIR/.work/<video id>/`` holds one file per segment and ``journal.ndjson``, one line per segment that counts. The
segment is durable before its line is written, and a line is believed only while the file it speaks of has the size it
names; so at any instant a crash, or a cut of the power, costs the segments in flight and nothing else.

A lock held through the kernel says who works here: it vanishes with its holder, also after ``kill -9``.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from vodkeep.capture.model import FetchedSegment, PacketCounts
from vodkeep.disk import FILE_MODE, FOLDER_MODE, disk_errors, sync
from vodkeep.errors import TransientError

WORK_DIR_NAME = ".work"
_JOURNAL_VERSION = 1
_LOCK_NAME = "lock"


class ItemBusyError(TransientError):
    """Another process works on the item; it is left to that one."""

    code = "busy"


class WorkFolder:
    """One item's work on disk; safe to use from several threads."""

    def __init__(self, root: Path, video_id: str) -> None:
        self.path = root / WORK_DIR_NAME / video_id
        self.video_id = video_id
        self.segments = self.path / "segments"
        self.output = self.path / "out"
        self._journal: IO[str] | None = None
        self._lock = threading.Lock()
        self.fetched: dict[int, FetchedSegment] = {}

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Own the folder for the time of the block; raises `ItemBusyError` when another process does."""
        with disk_errors(self.path):
            self.path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            descriptor = self._take_lock()
        try:
            yield
        finally:
            self.close()
            # Nothing was begun, as with a broadcast that is still live: nothing stays behind.
            if {path.name for path in self.path.glob("*")} == {_LOCK_NAME}:
                shutil.rmtree(self.path, ignore_errors=True)
            os.close(descriptor)

    def _take_lock(self) -> int:
        # Beside the folder's content and never removed by itself: whoever opened a lock file that was deleted
        # meanwhile would hold a lock on nothing, so the inode is compared after locking.
        path = self.path / _LOCK_NAME
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(descriptor)
                raise ItemBusyError(
                    f"Item {self.video_id} is being captured by another process.", delay_s=30
                ) from error
            try:
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
            except FileNotFoundError:
                self.path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            os.close(descriptor)

    def open_journal(self, format_id: str) -> None:
        """Read what an earlier run left and go on from there.

        Segments of another rendition are useless beside those of this one, so a journal of another ``format_id`` begins
        anew.
        """
        with disk_errors(self.path):
            self.segments.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            path = self.path / "journal.ndjson"
            header = {"journal": _JOURNAL_VERSION, "video_id": self.video_id, "format_id": format_id}
            entries = _read_lines(path)
            if entries[:1] == [header]:
                self.fetched = {
                    segment.media_sequence: segment
                    for segment in map(_read_entry, entries[1:])
                    if segment is not None and self._is_there(segment)
                }
            else:
                shutil.rmtree(self.segments)
                self.segments.mkdir(mode=FOLDER_MODE)
                self.fetched = {}
            # Written anew in one piece: a torn last line would otherwise swallow the next entry.
            fresh = path.with_suffix(".new")
            with _open_private(fresh) as file:
                for entry in (header, *map(_write_entry, self.fetched.values())):
                    file.write(json.dumps(entry) + "\n")
                _sync(file)
            fresh.replace(path)
            sync(self.path)
            self._journal = path.open("a", encoding="utf-8")
            self._remove_strays()

    def forget(self, media_sequence: int) -> None:
        """Stop counting a segment, so that it is fetched again."""
        self.fetched.pop(media_sequence, None)

    def segment_path(self, media_sequence: int) -> Path:
        """Where the bytes of a segment lie."""
        return self.segments / f"{media_sequence:08d}.seg"

    def keep(self, segment: FetchedSegment, body: bytes) -> None:
        """Make a segment count: its bytes first, then its line, each durable."""
        path = self.segment_path(segment.media_sequence)
        part = path.with_suffix(".part")
        with disk_errors(path):
            with part.open("wb") as file:
                file.write(body)
                _sync(file)
            part.chmod(FILE_MODE)
            part.replace(path)
            with self._lock:
                assert self._journal is not None, "the journal is open while segments are fetched"
                self._journal.write(json.dumps(_write_entry(segment)) + "\n")
                _sync(self._journal)
                self.fetched[segment.media_sequence] = segment

    def fresh_output(self) -> Path:
        """An empty folder for the finished files; whatever an earlier run left there was never claimed."""
        with disk_errors(self.output):
            if self.output.exists():
                shutil.rmtree(self.output)
            self.output.mkdir(mode=FOLDER_MODE)
        return self.output

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def remove(self) -> None:
        """Delete the folder, once the item's row says that it lies in the library; another holder keeps it."""
        if not self.path.exists():
            return
        with suppress(ItemBusyError), self.hold(), disk_errors(self.path):
            shutil.rmtree(self.path)

    def _is_there(self, segment: FetchedSegment) -> bool:
        try:
            return self.segment_path(segment.media_sequence).stat().st_size == segment.size_bytes
        except FileNotFoundError:
            return False

    def _remove_strays(self) -> None:
        for path in self.segments.iterdir():
            if path.suffix != ".seg" or int(path.stem) not in self.fetched:
                path.unlink()


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return []
    entries = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def _write_entry(segment: FetchedSegment) -> dict[str, Any]:
    return {
        "sn": segment.media_sequence,
        "name": segment.name,
        "size": segment.size_bytes,
        "video": segment.packets.video,
        "audio": segment.packets.audio,
        "muted": segment.muted,
    }


def _read_entry(entry: dict[str, Any]) -> FetchedSegment | None:
    try:
        return FetchedSegment(
            media_sequence=int(entry["sn"]),
            name=str(entry["name"]),
            size_bytes=int(entry["size"]),
            packets=PacketCounts(int(entry["video"]), int(entry["audio"])),
            muted=bool(entry["muted"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _open_private(path: Path) -> IO[str]:
    return os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE), "w", encoding="utf-8"
    )


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())
