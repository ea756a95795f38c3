"""The recorder's journal: every line that came in, on disk before anything else happens to it.

It is the queue between the connections and the database, the spool while the database is away, and the place where the
minutes before a stream was noticed are looked up. There is one folder per process, ``.chat-journal/<recorder>/``, with
numbered files; only that process appends, and the kernel's lock on the folder's ``lock`` file says that it lives. What
a dead process has left is read by whoever gets the lock.

A file is made of *entries*. Each begins with a line of the byte 0x1E, which no line of IRC begins with, a time in Unix
milliseconds, and for an event its name and words; in an entry without a name follow lines as they came from the socket,
at most ``_MOST_LINES`` or ``_MOST_BYTES`` of them. An append is one write. Nothing is synced: a kill loses nothing that
was appended, a power cut up to what the kernel had not written yet, and what is in the database is synced there.

All of this blocks and belongs into threads. One thread at a time may append, another read.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vodkeep.disk import FILE_MODE, FOLDER_MODE, disk_errors

FOLDER = ".chat-journal"
"""Below DATA_DIR, of all recorders."""

ROTATE_BYTES = 64 << 20
PIECE_BYTES = 1 << 20
"""As much is read at once: some 2,000 lines."""

_MARK = b"\x1e"
_BOUNDARY = b"\n\x1e"
_MOST_LINES = 256
_MOST_BYTES = 128 << 10
_LOCK = "lock"
_TIME = re.compile(rb"[0-9]{1,20}")

JOINED = "joined"
LEFT = "left"


class Position(NamedTuple):
    """A place in a journal; later ones are greater."""

    file: str = ""  # empty: before the first
    offset: int = 0  # bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """What was appended at once: lines, or an event."""

    at_ms: int  # when the lines were received, or the event happened
    event: str = ""
    words: tuple[str, ...] = ()  # of the event
    lines: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """Entries in the order in which they were appended."""

    entries: list[Entry]
    end: Position


def encode_lines(lines: Iterable[bytes], received_ms: int) -> bytes:
    """Lines as they are appended; empty ones, and one that looks like the beginning of an entry, are left out."""
    header = b"%b%d" % (_MARK, received_ms)
    out: list[bytes] = []
    count = size = 0
    for line in lines:
        if not line or line.startswith(_MARK):
            continue
        if count == 0 or count == _MOST_LINES or size > _MOST_BYTES:
            out.append(header)
            count = size = 0
        out.append(line)
        count += 1
        size += len(line)
    return b"\n".join([*out, b""]) if out else b""


def encode_event(event: str, at_ms: int, *words: str) -> bytes:
    """An event as it is appended; only the last of ``words`` may hold spaces."""
    text = " ".join([str(at_ms), event, *words])
    return _MARK + text.replace("\n", " ").encode("utf-8", "replace") + b"\n"


def decode(data: bytes) -> list[Entry]:
    """The entries of whole lines; those before the first entry are left out."""
    entries: list[Entry] = []
    for part in (b"\n" + data).split(_BOUNDARY)[1:]:
        header, *lines = part.removesuffix(b"\n").split(b"\n")
        at, _, rest = header.partition(b" ")
        if not at.isdigit():
            continue
        event, *words = rest.decode("utf-8", "replace").split(" ", 2)
        entries.append(Entry(int(at), event, tuple(words), lines))
    return entries


class Journal:
    """The journal this process appends to; made with its folder and lock. Raises as ``disk_errors`` does."""

    def __init__(self, root: Path, recorder: str, *, rotate_bytes: int = ROTATE_BYTES) -> None:
        self.folder = root / recorder
        self.recorder = recorder
        self._rotate_bytes = rotate_bytes
        with disk_errors(self.folder):
            root.mkdir(mode=FOLDER_MODE, exist_ok=True)
            # It appears under its name when it is locked: another recorder would take it for that of a dead one.
            hidden = root / f".{recorder}"
            hidden.mkdir(mode=FOLDER_MODE)
            lock = lock_folder(hidden)
            assert lock is not None  # nobody else looks there
            self._lock = lock
            hidden.rename(self.folder)
            self._number = 0
            self._file = -1
            self._end = Position()
            self._open_next()

    @property
    def end(self) -> Position:
        """Up to here everything was appended whole."""
        return self._end

    def append(self, data: bytes) -> None:
        """Write whole lines. Raises `DiskFull` and the like, and then has written nothing."""
        with disk_errors(self.folder):
            if self._end.offset and self._end.offset + len(data) > self._rotate_bytes:
                self._open_next()
            start, done = self._end.offset, 0
            try:
                while done < len(data):
                    done += os.pwrite(self._file, data[done:] if done else data, start + done)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._file, start)
                raise
            self._end = Position(self._end.file, start + len(data))

    def sync(self) -> None:
        """Bring it to the disk, where it is all there is while the database is away."""
        with disk_errors(self.folder):
            os.fdatasync(self._file)

    def close(self) -> None:
        """Let others have what is left."""
        os.close(self._file)
        os.close(self._lock)

    def _open_next(self) -> None:
        name = f"{self._number + 1:08d}"
        file = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        if self._file >= 0:
            os.close(self._file)
        self._file = file
        self._number += 1
        self._end = Position(name, 0)


class Reader:
    """Reads a journal from a position on."""

    def __init__(self, folder: Path, position: Position) -> None:
        self.folder = folder
        self.position = position

    def read(self, upto: Position | None = None, limit: int = PIECE_BYTES) -> Piece | None:
        """The next entries, ``None`` when there are none; does not move.

        A living journal is read ``upto`` its end. A dead one is read as far as it goes: what a kill left of its last
        line is nothing that anybody was told to have.
        """
        for name in file_names(self.folder):
            if name < self.position.file or (upto is not None and name > upto.file):
                continue
            offset = self.position.offset if name == self.position.file else 0
            last = upto.offset if upto is not None and name == upto.file else None
            data = _read_entries(self.folder / name, offset, last, limit)
            if data:
                return Piece(decode(data), Position(name, offset + len(data)))
        return None

    def left(self, upto: Position | None = None) -> int:
        """How many bytes are still to be read."""
        total = 0
        for name in file_names(self.folder):
            if name >= self.position.file and (upto is None or name <= upto.file):
                size = upto.offset if upto is not None and name == upto.file else _size(self.folder / name)
                total += size - (self.position.offset if name == self.position.file else 0)
        return max(total, 0)


def lines_since(folder: Path, since_ms: int, upto: Position | None = None) -> Iterator[tuple[bytes, int]]:
    """The lines received at ``since_ms`` or later, with the time of each; a journal that vanishes ends them."""
    with suppress(FileNotFoundError):
        for name in file_names(folder):
            path = folder / name
            if (upto is not None and name > upto.file) or path.stat().st_mtime * 1000 < since_ms:
                continue
            last = upto.offset if upto is not None and name == upto.file else None
            offset = _offset_of(path, since_ms)
            while data := _read_entries(path, offset, last, PIECE_BYTES):
                offset += len(data)
                for entry in decode(data):
                    if entry.at_ms >= since_ms and not entry.event:
                        for line in entry.lines:
                            yield line, entry.at_ms


def lock_folder(folder: Path) -> int | None:
    """A descriptor that keeps the journal for us until it is closed; ``None`` when another process has it."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return None
    return descriptor


def journal_folders(root: Path) -> list[Path]:
    """The folders of all recorders, the living and the dead."""
    with suppress(FileNotFoundError):
        return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return []


def file_names(folder: Path) -> list[str]:
    """The names of a journal's files, oldest first."""
    return sorted(path.name for path in folder.iterdir() if path.name.isdigit())


def _read_entries(path: Path, offset: int, last: int | None, limit: int) -> bytes:
    """Bytes from ``offset``, where an entry begins, to where one ends, at least one if there is any."""
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while True:
            wanted = limit if last is None else min(limit, last - offset)
            data = _read_all(file, wanted)
            at_the_end = len(data) < limit or (last is not None and offset + len(data) >= last)
            if at_the_end:
                return data[: data.rfind(b"\n") + 1]
            cut = data.rfind(_BOUNDARY)
            if cut >= 0:
                return data[: cut + 1]
            limit *= 2
            file.seek(offset)


def _read_all(file: object, wanted: int) -> bytes:
    pieces: list[bytes] = []
    while wanted > 0 and (piece := os.read(file.fileno(), wanted)):  # type: ignore[attr-defined]
        pieces.append(piece)
        wanted -= len(piece)
    return b"".join(pieces)


def _offset_of(path: Path, since_ms: int) -> int:
    """Where an entry begins, with at most 256 KiB of earlier ones from there to the first of ``since_ms``."""
    low, high = 0, _size(path)
    with path.open("rb") as file:
        while high - low > 2 * _MOST_BYTES:
            middle = (low + high) // 2
            file.seek(middle)
            around = file.read(2 * _MOST_BYTES)
            start = around.find(_BOUNDARY)
            found = _TIME.match(around, start + 2) if start >= 0 else None
            if found is not None and int(found[0]) < since_ms:
                low = middle + start + 1
            else:
                high = middle
    return low


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
