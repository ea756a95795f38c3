from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vodkeep.settings import check_data_dir, check_locks

NOBODY = 65534


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder reachable by everybody, seen by a process without root's rights."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        if os.geteuid() != 0:
            yield folder
            return
        os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            os.seteuid(0)


def _own(folder: Path, mode: int) -> Path:
    """A folder inside ``folder`` with ``mode`` that belongs to whoever runs the test."""
    uid = os.geteuid()
    if uid == NOBODY:
        os.seteuid(0)
    inner = folder / "data"
    inner.mkdir()
    if uid == NOBODY:
        os.chown(inner, NOBODY, -1)
        os.seteuid(NOBODY)
    inner.chmod(mode)
    return inner


def test_a_missing_folder_is_made_for_its_owner_and_group(tmp_path: Path) -> None:
    data_dir = tmp_path / "a" / "b"
    assert check_data_dir(data_dir) == []
    assert stat.S_IMODE(data_dir.stat().st_mode) & 0o007 == 0


def test_a_usable_folder_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "keep").write_text("x")
    assert check_data_dir(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["keep"]


def test_a_file_in_its_place_or_above_it_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for path in (file, file / "data"):
        assert check_data_dir(path) == [f'DATA_DIR is "{path}" but must be a folder, and something else stands there.']


def test_a_folder_without_write_permission_is_refused(as_nobody: Path) -> None:
    path = _own(as_nobody, 0o500)
    assert check_data_dir(path) == [
        f'DATA_DIR is "{path}" but must be a folder that can be written: permission denied.'
    ]


def test_a_folder_without_any_permission_is_told_twice(as_nobody: Path) -> None:
    path = _own(as_nobody, 0o000)
    assert [sentence.rpartition(" but ")[2] for sentence in check_data_dir(path)] == [
        "must be a folder that can be read: permission denied.",
        "must be a folder that can be written: permission denied.",
    ]


def test_a_folder_that_cannot_be_made_is_refused(as_nobody: Path) -> None:
    path = _own(as_nobody, 0o500) / "inner"
    assert check_data_dir(path) == [f'DATA_DIR is "{path}" but must be a folder that can be made: permission denied.']


class TestLocks:
    def test_an_ordinary_folder_has_them(self, tmp_path: Path) -> None:
        assert check_locks(tmp_path) == []
        assert list(tmp_path.iterdir()) == []

    def test_a_file_system_without_them_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def unsupported(_descriptor: int, _operation: int) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(fcntl, "flock", unsupported)
        (sentence,) = check_locks(tmp_path)
        assert sentence == (
            f'DATA_DIR is "{tmp_path}" but must be on a file system with file locks (flock): no locks available.'
        )

    def test_locks_that_keep_nobody_out_are_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fcntl, "flock", lambda _descriptor, _operation: None)
        (sentence,) = check_locks(tmp_path)
        assert "a locked file can be locked again" in sentence
