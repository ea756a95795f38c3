"""Small file systems of a test's own, as far as this machine lets one have them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

Mount = Callable[[Path, str], None]


def _run(*command: str) -> str:
    """What the command complained about; empty when it worked."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


def remount(path: Path, options: str) -> None:
    """Change the options of a file system that ``mount`` made."""
    assert _run("mount", "-o", f"remount,{options}", str(path)) == ""


def try_mount(path: Path, options: str) -> str:
    """Mount a tmpfs with these options; returns why it cannot be done, or nothing."""
    try:
        return _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path))
    except OSError as error:
        return str(error)


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mounts a tmpfs at a folder, ``mount(path, "size=64m")``, until the end of the test; skips where it is refused."""
    with ExitStack() as stack:

        def make(path: Path, options: str) -> None:
            path.mkdir(parents=True, exist_ok=True)
            reason = try_mount(path, options)
            if reason:
                pytest.skip(f"a small file system cannot be mounted here: {reason}")
            # Lazily: whatever a test that failed left open must not keep the next one from running.
            stack.callback(_run, "umount", "--lazy", str(path))

        yield make
