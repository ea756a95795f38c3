"""The programs that are measured beside ours, at fixed versions, in a folder of their own.

None of them belongs to the project's environment: what pip gives goes into one virtual environment each below the
cache folder, what Debian has (aria2c, curl) is taken from the system. A program that cannot be had is told and left
out.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg

# yt-dlp gave up aria2c for HLS in 2026.6.9: newer ones take the option and download by themselves.
PACKAGES = {
    "yt-dlp-aria2c": "yt-dlp==2026.3.17",
    "streamlink": "streamlink==8.6.3",
    "twitch-dl": "twitch-dl==3.3.2",
}


class Tools:
    """Where the programs are."""

    def __init__(self, cache: Path, ffmpeg: str | None, say: Callable[[str], None]) -> None:
        self._home = cache / "tools"
        self._say = say
        self.bin = self._home / "bin"
        self.bin.mkdir(parents=True, exist_ok=True)
        self.ffmpeg = ffmpeg or imageio_ffmpeg.get_ffmpeg_exe()
        # Everybody uses the same ffmpeg, under the name they look for.
        link = self.bin / "ffmpeg"
        link.unlink(missing_ok=True)
        link.symlink_to(self.ffmpeg)

    def environment(self, name: str) -> Path | None:
        """The ``bin`` folder of the virtual environment of a package above; None when it cannot be installed."""
        return install(PACKAGES[name], self._home, self._say)

    def system(self, program: str) -> str | None:
        """A program of the system; None when it is not there."""
        return shutil.which(program)


def install(requirement: str, folder: Path, say: Callable[[str], None]) -> Path | None:
    """The ``bin`` folder of a virtual environment with one package in it; None when it cannot be installed."""
    home = folder / requirement.replace("==", "-")
    ready = home / "ready"
    if not ready.exists():
        shutil.rmtree(home, ignore_errors=True)
        say(f"Installing {requirement} ...")
        for command in (
            [sys.executable, "-m", "venv", str(home)],
            [str(home / "bin/pip"), "--disable-pip-version-check", "--quiet", "install", requirement],
        ):
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                reason = next((line for line in result.stderr.splitlines() if line.startswith("ERROR")), "")
                say(f"{requirement} cannot be installed and is left out. {reason}")
                return None
        ready.touch()
    return home / "bin"


def own_environment() -> Path:
    """The ``bin`` folder of the environment this runs in: the project's."""
    return Path(sys.prefix) / "bin"


def first_line(*command: str) -> str:
    """The first line a program prints: its version."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return next(iter((result.stdout or result.stderr).splitlines()), "").strip()
