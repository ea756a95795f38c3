"""Who is measured, and how each is started: with the options a person would give it who wants the file soon."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.capture.tools import Tools, first_line, own_environment

_TWITCH_DL_DRIVER = Path(__file__).with_name("twitch_dl_driver.py")
# The most that streamlink allows.
_STREAMLINK_THREADS = 10
_TWITCH_DL_WORKERS = 20
# As many as our engine may use. curl opens connections only as it needs them unless it is told to do it at once.
_CURL_CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Job:
    """What a contender is to fetch, and where to."""

    playlist_url: str
    segments: Sequence[str]  # file names beside the playlist
    folder: Path  # empty; everything it writes goes there


@dataclass(frozen=True, slots=True)
class Contender:
    """A program that turns a media playlist into a file."""

    name: str  # for the command line
    words: str
    version: str
    command: Callable[[Job], Sequence[str]]
    makes_mp4: bool = True


def find_contenders(
    tools: Tools, names: Sequence[str], connections: int, say: Callable[[str], None]
) -> list[Contender]:
    """The contenders of these names that can be had here, in the order of `NAMES`."""
    found = []
    for name in NAMES:
        if name in names:
            contender = _FINDERS[name](tools, connections)
            if contender is None:
                say(f"Left out: {name}, which is not to be had here.")
            else:
                found.append(contender)
    return found


def _ours(_: Tools, connections: int) -> Contender:
    def command(job: Job) -> list[str]:
        return [sys.executable, "-m", "bench.capture.ours", job.playlist_url, str(job.folder), str(connections)]

    return Contender("ours", "Vodkeep", "", command)


def _yt_dlp(program: Path, tools: Tools, *options: str) -> Callable[[Job], Sequence[str]]:
    def command(job: Job) -> list[str]:
        return [
            str(program), "--ignore-config", "--no-progress", "--no-mtime", "--ffmpeg-location", str(tools.bin),
            *options, "--output", str(job.folder / "video.%(ext)s"), job.playlist_url,
        ]  # fmt: skip

    return command


def _yt_dlp_native(tools: Tools, _: int) -> Contender:
    program = own_environment() / "yt-dlp"
    version = first_line(str(program), "--version")
    return Contender("yt-dlp", "yt-dlp -N 16", version, _yt_dlp(program, tools, "--concurrent-fragments", "16"))


def _yt_dlp_aria2c(tools: Tools, _: int) -> Contender | None:
    home = tools.environment("yt-dlp-aria2c")
    if home is None or tools.system("aria2c") is None:
        return None
    program = home / "yt-dlp"
    aria2c = first_line("aria2c", "--version").removeprefix("aria2 version ")
    version = f"{first_line(str(program), '--version')} with aria2c {aria2c}"
    # It gives aria2c 16 connections by itself.
    return Contender("yt-dlp-aria2c", "yt-dlp, aria2c", version, _yt_dlp(program, tools, "--downloader", "aria2c"))


def _yt_dlp_ffmpeg(tools: Tools, _: int) -> Contender:
    program = own_environment() / "yt-dlp"
    version = first_line(str(program), "--version")
    return Contender("yt-dlp-ffmpeg", "yt-dlp, ffmpeg", version, _yt_dlp(program, tools, "--downloader", "ffmpeg"))


def _ffmpeg(tools: Tools, _: int) -> Contender:
    def command(job: Job) -> list[str]:
        return [
            tools.ffmpeg, "-nostdin", "-hide_banner", "-nostats", "-i", job.playlist_url, "-c", "copy",
            str(job.folder / "video.mp4"),
        ]  # fmt: skip

    return Contender("ffmpeg", "ffmpeg", _ffmpeg_version(tools), command)


def _streamlink(tools: Tools, _: int) -> Contender | None:
    home = tools.environment("streamlink")
    if home is None:
        return None

    def command(job: Job) -> list[str]:
        download = [
            str(home / "streamlink"), "--no-config", "--loglevel", "warning", "--stream-segment-threads",
            str(_STREAMLINK_THREADS), "--stdout", f"hls://{job.playlist_url}", "best",
        ]  # fmt: skip
        mux = [tools.ffmpeg, "-hide_banner", "-nostats", "-i", "pipe:0", "-c", "copy", str(job.folder / "video.mp4")]
        return ["sh", "-c", f"{shlex.join(download)} | {shlex.join(mux)}"]

    version = (
        f"{first_line(str(home / 'streamlink'), '--version').removeprefix('streamlink ')}, {_ffmpeg_version(tools)}"
    )
    return Contender("streamlink", "streamlink, ffmpeg", version, command)


def _twitch_dl(tools: Tools, _: int) -> Contender | None:
    home = tools.environment("twitch-dl")
    if home is None:
        return None

    def command(job: Job) -> list[str]:
        driver, target = str(_TWITCH_DL_DRIVER), str(job.folder / "video.mp4")
        return [str(home / "python"), driver, job.playlist_url, target, str(_TWITCH_DL_WORKERS)]

    version = first_line(str(home / "twitch-dl"), "--version").rpartition(" ")[2]
    return Contender("twitch-dl", f"twitch-dl, {_TWITCH_DL_WORKERS} workers", version, command)


def _curl(tools: Tools, _: int) -> Contender | None:
    program = tools.system("curl")
    if program is None:
        return None

    def command(job: Job) -> list[str]:
        base = job.playlist_url.rpartition("/")[0]
        names = ",".join(job.segments)
        return [
            program, "--fail", "--silent", "--show-error", "--parallel", "--parallel-immediate",
            "--parallel-max", str(_CURL_CONNECTIONS), "--remote-name-all", f"{base}/{{{names}}}",
        ]  # fmt: skip

    words = f"curl, {_CURL_CONNECTIONS} at once (no MP4)"
    return Contender("curl", words, first_line(program, "--version").split(" ")[1], command, makes_mp4=False)


def _ffmpeg_version(tools: Tools) -> str:
    return "ffmpeg " + first_line(tools.ffmpeg, "-version").removeprefix("ffmpeg version ").split(" ")[0]


_FINDERS: Mapping[str, Callable[[Tools, int], Contender | None]] = {
    "ours": _ours,
    "yt-dlp": _yt_dlp_native,
    "yt-dlp-aria2c": _yt_dlp_aria2c,
    "yt-dlp-ffmpeg": _yt_dlp_ffmpeg,
    "ffmpeg": _ffmpeg,
    "streamlink": _streamlink,
    "twitch-dl": _twitch_dl,
    "curl": _curl,
}
NAMES = tuple(_FINDERS)
