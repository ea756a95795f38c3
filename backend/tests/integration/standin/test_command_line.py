"""The stand-in as a program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import urllib3

import vodkeep_standin

SOURCE = Path(vodkeep_standin.__file__).parents[1]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "vodkeep_standin", "--scenario", "catalog:3", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCE)}


def test_serves_until_sigterm(http: urllib3.PoolManager, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    ca = tmp_path / "ca.pem"
    with subprocess.Popen(
        command("--ready-file", str(ready), "--ca-file", str(ca)),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        # The same document goes to standard output once it is in the file.
        lines: list[str] = []
        while not lines or lines[-1] != "}\n":
            lines.append(program.stdout.readline())
            assert lines[-1], "it ended before it was ready"
        described = json.loads("".join(lines))
        assert described == json.loads(ready.read_text())
        assert described["pid"] == program.pid
        assert http.request("GET", f"{described['env']['TWITCH_API_URL']}/users").status == 401
        assert ca.read_text().startswith("-----BEGIN CERTIFICATE-----")
        program.send_signal(signal.SIGTERM)
        _, said = program.communicate(timeout=60)
        assert (program.returncode, said) == (0, "")
        assert not ready.exists()


def test_ends_with_its_parent(tmp_path: Path) -> None:
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as parent,
        subprocess.Popen(
            command("--parent-pid", str(parent.pid)), env=environment(), stdout=subprocess.PIPE, text=True
        ) as program,
    ):
        assert program.stdout is not None
        assert program.stdout.readline() == "{\n"
        parent.kill()
        assert program.wait(timeout=60) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--scenario", "opera"], "unknown scenario 'opera'", id="unknown scenario"),
        pytest.param(["--speed", "0"], "must be greater than 0", id="no time"),
    ],
)
def test_bad_usage_ends_with_2(arguments: list[str], words: str) -> None:
    done = subprocess.run(
        command(*arguments), env=environment(), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert words in done.stderr
