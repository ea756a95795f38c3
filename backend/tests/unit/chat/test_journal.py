"""The journal: whole entries, in order, whatever happens to the process."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.chat import journal as module
from vodkeep.chat.journal import (
    JOINED,
    Entry,
    Journal,
    Piece,
    Position,
    Reader,
    decode,
    encode_event,
    encode_lines,
    file_names,
    lines_since,
    lock_folder,
)
from vodkeep.errors import DiskFull


def lines_of(piece: Piece | None) -> list[bytes]:
    assert piece is not None
    return [line for entry in piece.entries for line in entry.lines]


def read_on(reader: Reader, upto: Position | None = None, limit: int = 1 << 20) -> list[bytes]:
    found: list[bytes] = []
    while piece := reader.read(upto, limit):
        found += lines_of(piece)
        reader.position = piece.end
    return found


LINE = st.binary(min_size=1, max_size=50).filter(lambda line: b"\n" not in line and not line.startswith(b"\x1e"))


@given(st.lists(st.tuples(st.lists(LINE, min_size=1, max_size=5), st.integers(0, 2**50)), max_size=6))
def test_what_is_encoded_is_decoded(chunks: list[tuple[list[bytes], int]]) -> None:
    data = b"".join(encode_lines(lines, at) for lines, at in chunks)
    assert [(list(entry.lines), entry.at_ms) for entry in decode(data)] == chunks


def test_events_lie_between_the_lines() -> None:
    data = encode_lines([b"a"], 1) + encode_event("left", 2, "chan", "it was\nclosed") + encode_lines([b"b"], 3)
    assert decode(data) == [
        Entry(1, lines=[b"a"]),
        Entry(2, "left", ("chan", "it was closed"), []),
        Entry(3, lines=[b"b"]),
    ]


def test_a_line_that_looks_like_an_entry_is_left_out() -> None:
    assert decode(encode_lines([b"\x1e99 left chan", b"a"], 1)) == [Entry(1, lines=[b"a"])]
    assert encode_lines([b"\x1e"], 1) == encode_lines([], 1) == b""


def test_many_lines_become_entries_of_bounded_size() -> None:
    lines = [b"x" * 1000] * 1000
    entries = decode(encode_lines(lines, 7))
    assert [line for entry in entries for line in entry.lines] == lines
    assert {entry.at_ms for entry in entries} == {7}
    assert max(sum(map(len, entry.lines)) for entry in entries) < 200_000


def test_what_was_appended_is_read_from_any_position(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", "me", rotate_bytes=1000)
    lines = [b"line %d" % n for n in range(500)]
    ends = []
    for n in range(0, 500, 5):
        journal.append(encode_lines(lines[n : n + 5], n))
        ends.append(journal.end)

    assert len(file_names(journal.folder)) > 3
    assert read_on(Reader(journal.folder, Position()), journal.end, limit=300) == lines
    for n, end in enumerate(ends):
        assert read_on(Reader(journal.folder, end), journal.end, limit=64) == lines[(n + 1) * 5 :]
        assert (Reader(journal.folder, end).left(journal.end) == 0) == (end == journal.end)
    journal.close()


def test_pieces_hold_about_as_much_as_asked_for(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "me")
    journal.append(encode_lines([b"x" * 1000] * 3000, 1))
    piece = Reader(journal.folder, Position()).read(journal.end, limit=500_000)
    assert 300 < len(lines_of(piece)) <= 500
    journal.close()


@pytest.mark.parametrize("kept", range(1, 40))
def test_of_a_torn_end_the_whole_lines_are_read(tmp_path: Path, kept: int) -> None:
    journal = Journal(tmp_path, "me")
    journal.append(encode_lines([b"first"], 1))
    whole = journal.end.offset
    data = encode_lines([b"second", b"third"], 2)
    journal.append(data)
    path = journal.folder / journal.end.file
    os.truncate(path, min(whole + kept, whole + len(data)))

    found = read_on(Reader(journal.folder, Position()))

    # The first line of an entry is its header.
    assert found == [b"first", b"second", b"third"][: 1 + max(0, data[:kept].count(b"\n") - 1)]
    journal.close()


def test_a_living_journal_is_not_read_beyond_its_end(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "me")
    journal.append(encode_lines([b"a"], 1))
    with (journal.folder / journal.end.file).open("ab") as file:
        file.write(encode_lines([b"half of an append"], 2))
    assert read_on(Reader(journal.folder, Position()), journal.end) == [b"a"]
    journal.append(encode_lines([b"b"], 3))
    assert read_on(Reader(journal.folder, Position()), journal.end) == [b"a", b"b"]
    journal.close()


def test_a_full_disk_leaves_nothing_of_an_append(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, "me")
    journal.append(encode_lines([b"before"], 1))
    real = os.pwrite
    room = 5

    def full(file: int, data: bytes, offset: int) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written, room = real(file, data[:room], offset), 0
        return written

    monkeypatch.setattr(os, "pwrite", full)
    end = journal.end
    with pytest.raises(DiskFull):
        journal.append(encode_lines([b"lost"], 2))
    assert journal.end == end
    assert (journal.folder / end.file).stat().st_size == end.offset

    monkeypatch.undo()
    journal.append(encode_lines([b"after"], 3))
    assert read_on(Reader(journal.folder, Position()), journal.end) == [b"before", b"after"]
    journal.close()


def test_the_lock_tells_the_living_from_the_dead(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "me")
    assert lock_folder(journal.folder) is None
    journal.append(encode_event(JOINED, 1, "chan"))
    journal.sync()
    journal.close()
    lock = lock_folder(journal.folder)
    assert lock is not None
    os.close(lock)


def test_lines_since_a_time_are_found_without_reading_all(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "me", rotate_bytes=4_000_000)
    for n in range(5000):
        journal.append(encode_lines([b"%05d" % n + b"x" * 1000, b"y"], 1_000_000 + n))
        if n % 7 == 0:
            journal.append(encode_event(JOINED, 1_000_000 + n, "chan"))
    now = journal.folder.stat().st_mtime_ns // 1_000_000
    for name in file_names(journal.folder):
        os.utime(journal.folder / name, (now, now))

    for first in (0, 1, 2500, 4998, 4999):
        found = list(lines_since(journal.folder, 1_000_000 + first, journal.end))
        assert len(found) == 2 * (5000 - first)
        assert found[0][0].startswith(b"%05d" % first)
        assert found[-1] == (b"y", 1_004_999)
    assert list(lines_since(journal.folder, 1_005_000, journal.end)) == []
    path = journal.folder / file_names(journal.folder)[0]
    assert module._offset_of(path, 1_000_000 + 3000) > 2_000_000
    assert list(lines_since(tmp_path / "nobody", 0)) == []
    journal.close()
