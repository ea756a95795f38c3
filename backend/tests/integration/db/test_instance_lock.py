"""Two services never share one SQLite file."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vodkeep
from vodkeep.db.instance_lock import InstanceLockedError, hold_instance_lock
from vodkeep.errors import SettingsError

HOLD = """
import sys
from pathlib import Path
from vodkeep.db.instance_lock import hold_instance_lock

with hold_instance_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_service(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds ``path`` until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(Path(vodkeep.__file__).parents[1])},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_second_service_is_told_file_and_holder(tmp_path: Path) -> None:
    path = tmp_path / "vodkeep.db"
    with another_service(path) as other, pytest.raises(InstanceLockedError) as refused, hold_instance_lock(path):
        raise AssertionError("both hold the file")

    (problem,) = refused.value.problems
    assert str(path) in problem
    assert f"(process {other.pid})" in problem


def test_a_link_to_the_same_file_is_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with (
        another_service(tmp_path / "real" / "vodkeep.db"),
        pytest.raises(InstanceLockedError),
        hold_instance_lock(tmp_path / "link" / "vodkeep.db"),
    ):
        raise AssertionError("both hold the file")


def test_kill_9_frees_the_file(tmp_path: Path) -> None:
    path = tmp_path / "vodkeep.db"
    with another_service(path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        with hold_instance_lock(path):
            pass


def test_a_child_program_does_not_inherit_the_lock(tmp_path: Path) -> None:
    """A capture that outlives a killed service by a moment must not keep the next one out."""
    path = tmp_path / "vodkeep.db"
    with hold_instance_lock(path):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with hold_instance_lock(path):
            pass
    finally:
        child.kill()
        child.wait()


def test_files_of_different_folders_do_not_disturb_each_other(tmp_path: Path) -> None:
    with another_service(tmp_path / "a" / "vodkeep.db"), hold_instance_lock(tmp_path / "b" / "vodkeep.db"):
        pass


def test_a_lock_file_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "vodkeep.db.lock").mkdir()
    with pytest.raises(SettingsError, match=r"vodkeep\.db\.lock cannot be opened"):
        hold_instance_lock(tmp_path / "vodkeep.db").__enter__()
