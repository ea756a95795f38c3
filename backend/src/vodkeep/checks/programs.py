"""The programs that are called."""

from __future__ import annotations

import re
import shutil
import sys
from datetime import date, datetime
from functools import partial
from pathlib import Path

from vodkeep.capture.resolve import find_ytdlp
from vodkeep.capture.tools import ffmpeg_version, find_ffmpeg, tool_version
from vodkeep.checks.model import Check, Found, State
from vodkeep.clock import Clock
from vodkeep.settings import ToolSettings

# Twitch changes something that matters to yt-dlp a few times a year.
_OLD_DAYS = 90
_DATED = re.compile(r"(\d{4})\.(\d{1,2})\.(\d{1,2})")
_LIMIT_S = 60.0


def program_checks(tools: ToolSettings, data_dir: Path, clock: Clock) -> list[Check]:
    """The checks of the external programs."""
    return [
        Check("yt_dlp", partial(_ytdlp, tools.ytdlp_path, data_dir, clock), _LIMIT_S),
        Check("ffmpeg", partial(_ffmpeg, tools.ffmpeg_path), _LIMIT_S),
        Check("setpriv", _setpriv),
        Check("streamlink", _streamlink),
    ]


async def _ytdlp(path: str | None, data_dir: Path, clock: Clock) -> Found:
    command = find_ytdlp(path, data_dir)
    version = await tool_version(command)
    told = f"yt-dlp {version} ({'YTDLP_PATH' if path is not None else command.origin}): {command.path}"
    age = age_days(version, clock.now())
    if age is not None and age > _OLD_DAYS:
        return Found(State.WARN, f"{told} is {age} days old.", "Try a newer one: vodkeep tools upgrade.")
    return Found(State.OK, f"{told}.")


def age_days(version: str, now: datetime) -> int | None:
    """The age of a yt-dlp, whose versions are dates; None when this one is none."""
    found = _DATED.match(version)
    try:
        made = date(int(found[1]), int(found[2]), int(found[3])) if found else None
    except ValueError:
        made = None
    return (now.date() - made).days if made is not None else None


async def _ffmpeg(path: str | None) -> Found:
    command = find_ffmpeg(path)
    if command is None:
        return Found(State.FAIL, "There is no ffmpeg.", "Install one, and name it in FFMPEG_PATH if it is not found.")
    version = await ffmpeg_version(command)
    return Found(
        State.OK, f"ffmpeg {version} ({'FFMPEG_PATH' if path is not None else command.origin}): {command.path}."
    )


async def _setpriv() -> Found:
    if not sys.platform.startswith("linux"):
        return Found(State.SKIPPED, "It is only used on Linux.")
    found = shutil.which("setpriv")
    if found is None:
        return Found(
            State.WARN,
            "setpriv is not there, so a program that was called may outlive a service that is killed.",
            "Install the package util-linux.",
        )
    return Found(State.OK, f"setpriv: {found}.")


async def _streamlink() -> Found:
    found = shutil.which("streamlink")
    where = f"It is at {found}" if found else "It is not installed"
    return Found(State.SKIPPED, f"Not used yet. {where}.")
