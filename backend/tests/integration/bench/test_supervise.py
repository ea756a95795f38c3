"""The measuring itself: whatever a command's tree of processes uses is found, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SUPERVISOR = Path(__file__).resolve().parents[4] / "bench/capture/supervise.py"
MIB = 1 << 20


def measure(folder: Path, *command: str, patience_s: float = 60) -> dict[str, Any]:
    watched = folder / "watched"
    watched.mkdir(exist_ok=True)
    spec = {
        "command": command,
        "cwd": str(watched),
        "env": dict(os.environ),
        "watch": str(watched),
        "log": str(folder / "log.txt"),
        "patience_s": patience_s,
    }
    result = subprocess.run(
        [sys.executable, "-I", "-S", str(SUPERVISOR)],
        input=json.dumps(spec),
        capture_output=True,
        text=True,
        check=True,
    )
    measured: dict[str, Any] = json.loads(result.stdout)
    return measured


def is_running(argument: str) -> bool:
    """Whether any process was started with this argument."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if argument.encode() in path.read_bytes():
                return True
    return False


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(tmp_path)], capture_output=True, text=True, check=True).stdout
    if kind.strip() in {"tmpfs", "overlayfs"}:
        pytest.skip("Bytes that go to the disk are counted only where there is one.")
    return tmp_path


def test_bytes_written_by_orphans_count_and_bytes_in_pipes_do_not(disk: Path) -> None:
    # The orphan's parent has ended before it: only a reaper of orphans sees it.
    orphan = "(setsid dd if=/dev/zero of=orphan bs=1M count=8 status=none &)"
    measured = measure(disk, "sh", "-c", f"{orphan}; dd if=/dev/zero bs=1M count=16 status=none | cat >piped")

    assert 24 * MIB <= measured["written_bytes"] < 26 * MIB
    assert measured["exit_code"] == 0


def test_files_that_are_gone_at_the_end_count_as_extra_disk(disk: Path) -> None:
    # The pause is as long as several samples.
    measured = measure(disk, "sh", "-c", "dd if=/dev/zero of=passing bs=1M count=8 status=none; sleep 0.4; rm passing")

    assert 8 * MIB <= measured["disk_peak_bytes"] < 9 * MIB


def test_threads_and_grandchildren_count(tmp_path: Path) -> None:
    work = "import time\nx = bytearray(96 << 20)\nwhile time.process_time() < 0.5: pass"
    in_thread = f"import threading\nt = threading.Thread(target=exec, args=({work!r},)); t.start(); t.join()"
    script = tmp_path / "work.py"
    script.write_text(in_thread)
    measured = measure(tmp_path, "sh", "-c", f"{sys.executable} {script} & {sys.executable} {script}; wait")

    assert 1.0 <= measured["cpu_user_s"] + measured["cpu_system_s"] < 2.0
    # Both processes had their 96 MiB at the same time.
    assert 192 * MIB <= measured["rss_peak_bytes"] < 320 * MIB


def test_a_command_that_takes_too_long_is_ended_with_all_its_children(tmp_path: Path) -> None:
    measured = measure(tmp_path, "sh", "-c", "setsid sleep 987.654 & sleep 987.654", patience_s=0.3)

    assert measured["gave_up"]
    assert 0.3 <= measured["wall_s"] < 60
    assert not is_running("987.654")


def test_the_exit_code_is_told(tmp_path: Path) -> None:
    assert measure(tmp_path, "sh", "-c", "exit 3")["exit_code"] == 3


def test_whoever_stops_the_measurement_stops_the_command(tmp_path: Path) -> None:
    (tmp_path / "ready").mkdir()
    spec = {
        "command": ["sh", "-c", "setsid sleep 987.321 & echo begun >begun; sleep 987.321"],
        "cwd": str(tmp_path),
        "env": dict(os.environ),
        "watch": str(tmp_path / "ready"),
        "log": str(tmp_path / "log.txt"),
        "patience_s": 60,
    }
    with subprocess.Popen([sys.executable, "-I", "-S", str(SUPERVISOR)], stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(spec))
        process.stdin.close()
        while not (tmp_path / "begun").exists():
            assert process.poll() is None
        process.terminate()

    assert process.returncode == 128 + 15
    assert not is_running("987.321")
