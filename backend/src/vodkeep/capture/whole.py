"""The way round our own fetcher: yt-dlp downloads a VOD whole, ffmpeg makes an MP4 of it.

For the format that our engine cannot read, and slower in every respect: each byte is written three times or more, and
a download that is cut off begins anew, because yt-dlp was seen to take up a killed download with a segment twice in the
file and an exit code of 0. What it leaves is never more than a candidate: the caller verifies it as it does its own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread
import av
import av.error

from vodkeep.capture.child import run_child
from vodkeep.capture.model import Phase, Progress
from vodkeep.capture.resolve import SITE_URL, error_for
from vodkeep.capture.tool_messages import classify_tool_output
from vodkeep.capture.tools import ToolCommand
from vodkeep.disk import FOLDER_MODE, disk_errors
from vodkeep.errors import DiskFull, TransientError
from vodkeep.telemetry.log import Logger

_MARK = "vodkeep-progress "
_FIELDS = "status,downloaded_bytes,total_bytes,total_bytes_estimate,fragment_index,fragment_count,speed,eta"

# yt-dlp gives up on a silent connection by itself; what it does after the last byte (joining the parts) it does in
# silence, at the speed of the disk.
_DOWNLOAD_STALL_S = 900.0
_REMUX_STALL_S = 180.0
_SOCKET_TIMEOUT_S = 20
# Doubling pauses from a second to half a minute: an outage of about two minutes is sat out, as nothing can be resumed.
# yt-dlp counts an answer of 5xx as one kind of failure and everything else as another.
_RETRIES = ("--retries", "8", "--fragment-retries", "8")
_RETRY_PAUSES = ("--retry-sleep", "http:exp=1:30", "--retry-sleep", "fragment:exp=1:30")


async def download_whole(
    program: ToolCommand,
    args: Sequence[str],
    video_id: str,
    target: Path,
    *,
    ffmpeg: str,
    on_progress: Callable[[Progress], None],
    log: Logger,
    connections: int = 4,
    rate_limit: int | None = None,
    labels: str | None = None,
    format_id: str = "",
    site_url: str = SITE_URL,
) -> None:
    """Download a VOD with yt-dlp and write ``target``, an MP4; it appears in one piece when everything went well.

    ``args`` are the operator's (YTDLP_ARGS) and have the last word. ``rate_limit`` is in bytes per second (yt-dlp
    counts it per connection, so then there is one). ``labels`` are title and chapters in ffmpeg's metadata format.
    ``format_id`` is the rendition by yt-dlp's name; empty leaves the choice to yt-dlp. Work happens in a folder beside
    ``target``, removed at the end however it comes. A finished file proves nothing: verify it.

    Raises what `YtDlpResolver.resolve` raises, `Incomplete` when a segment cannot be had, `DiskFull`, `ChildTimeout`,
    or `TransientError` (``mux_failed``).
    """
    folder = target.with_name(f"{target.name}.whole")
    await anyio.to_thread.run_sync(_make_anew, folder)
    try:
        media = await _download(
            _command(program, args, video_id, folder, ffmpeg, connections, rate_limit, format_id, site_url),
            video_id,
            folder,
            on_progress,
            log,
        )
        finished = folder / "finished.mp4"
        await _remux(ffmpeg, media, finished, labels, on_progress)
        with disk_errors(target):
            finished.replace(target)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))


def parse_progress(line: str) -> Progress | None:
    """Read a line that yt-dlp printed by our template; None for any other line and for a last word without figures."""
    if not line.startswith(_MARK):
        return None
    try:
        said: Any = json.loads(line[len(_MARK) :])
    except ValueError:
        return None
    if not isinstance(said, dict) or said.get("status") != "downloading":
        return None
    total = _count(said.get("total_bytes")) or _count(said.get("total_bytes_estimate"))
    segments = _count(said.get("fragment_count")) or 0
    return Progress(
        phase=Phase.FETCHING,
        fetched_bytes=_count(said.get("downloaded_bytes")) or 0,
        total_bytes=total,
        # With fMP4 the init section is counted, but not among all.
        segments_done=min(_count(said.get("fragment_index")) or 0, segments),
        segments_total=segments,
        rate_bytes_s=_number(said.get("speed")) or 0.0,
        eta_s=_number(said.get("eta")),
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        return None
    return float(value)


def _count(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None else None


def _command(
    program: ToolCommand,
    args: Sequence[str],
    video_id: str,
    folder: Path,
    ffmpeg: str,
    connections: int,
    rate_limit: int | None,
    format_id: str,
    site_url: str,
) -> list[str]:
    # A name with a quote in it would end the filter; then yt-dlp's own choice has to do.
    named = format_id and '"' not in format_id and "\\" not in format_id
    return [
        *program.argv,
        # A person's own configuration file must not change what an archive holds.
        "--ignore-config",
        "--no-playlist",
        "--no-mtime",
        *("--format", f'b*[format_id="{format_id}"]' if named else "b/bv*+ba/ba"),
        *("--newline", "--progress-template", f"download:{_MARK}%(progress.{{{_FIELDS}}})j"),
        # Without it a missing segment ends with exit code 0 and a hole.
        "--abort-on-unavailable-fragments",
        *_RETRIES,
        *_RETRY_PAUSES,
        *("--extractor-retries", "0", "--socket-timeout", str(_SOCKET_TIMEOUT_S)),
        "--no-continue",
        # The one remux is ours: it says how far it is, and it works on a name that nobody takes for a result.
        *("--fixup", "never", "--ffmpeg-location", ffmpeg),
        *(("--limit-rate", str(rate_limit)) if rate_limit else ("--concurrent-fragments", str(connections))),
        *("--paths", str(folder), "--output", "media.%(ext)s"),
        *args,
        f"{site_url}/videos/{video_id}",
    ]


async def _download(
    command: Sequence[str], video_id: str, folder: Path, on_progress: Callable[[Progress], None], log: Logger
) -> Path:
    """Run yt-dlp; the one file that it made."""

    def read(line: str) -> None:
        progress = parse_progress(line)
        if progress is not None:
            on_progress(progress)
        elif line and not line.startswith(_MARK):
            log.debug("yt-dlp", vod_id=video_id, line=line[:500])

    result = await run_child(command, deadline_s=None, stall_s=_DOWNLOAD_STALL_S, on_line=read)
    for line in result.stderr.splitlines():
        log.debug("yt-dlp", vod_id=video_id, line=line[:500])
    if result.returncode != 0:
        # It was resolved a moment ago; whether it was deleted meanwhile is for the next attempt to find out.
        raise error_for(classify_tool_output(result.stderr), video_id, exists=True)
    made = await anyio.to_thread.run_sync(_finished_files, folder)
    if len(made) != 1:
        raise TransientError(f"yt-dlp ended well on VOD {video_id} but left {len(made)} files.", code="tool_failed")
    return made[0]


async def _remux(
    ffmpeg: str, media: Path, finished: Path, labels: str | None, on_progress: Callable[[Progress], None]
) -> None:
    """Copy the packets of ``media`` into an MP4 with its index at the front."""
    size, codec = await anyio.to_thread.run_sync(_size_and_video_codec, media)
    described: tuple[str, ...] = ("-map_metadata", "-1")
    if labels is not None:
        path = media.with_name("labels.ffmeta")
        with disk_errors(path):
            path.write_text(labels, "utf-8")
        described = ("-i", str(path), "-map_metadata", "1", "-map_chapters", "1")

    def read(line: str) -> None:
        key, _, value = line.partition("=")
        if key == "total_size" and value.isdecimal():
            on_progress(Progress(Phase.MUXING, fetched_bytes=int(value), total_bytes=size))

    result = await run_child(
        [
            ffmpeg,
            *("-hide_banner", "-nostdin", "-nostats", "-loglevel", "warning", "-y"),
            *("-progress", "pipe:1", "-stats_period", "1"),
            *("-i", str(media), *described),
            *("-map", "0:v?", "-map", "0:a?", "-c", "copy"),
            # Without -copyinkf ffmpeg silently drops what stands before the first key frame.
            "-copyinkf",
            *(("-tag:v", "hvc1") if codec == "hevc" else ()),
            *("-movflags", "+faststart", "-f", "mp4", str(finished)),
        ],
        deadline_s=None,
        stall_s=_REMUX_STALL_S,
        on_line=read,
    )
    if result.returncode != 0:
        if "No space left on device" in result.stderr:
            raise DiskFull(f"No space is left on the disk of {finished}.", remedy="Free some space.")
        reason = (result.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise TransientError(f"ffmpeg could not write the video: {reason[:300]}", code="mux_failed")


def _finished_files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("media.*") if path.suffix not in (".part", ".ytdl")]


def _size_and_video_codec(media: Path) -> tuple[int, str | None]:
    """Size in bytes, and the codec of the picture; None for a broadcast of sound."""
    try:
        with av.open(str(media), mode="r") as container:
            streams = [stream for stream in container.streams.video if stream.codec_context is not None]
            return media.stat().st_size, streams[0].codec_context.name if streams else None
    except (av.error.FFmpegError, OSError) as error:
        raise TransientError(f"What yt-dlp downloaded cannot be read: {error}", code="tool_failed") from error


def _make_anew(folder: Path) -> None:
    with disk_errors(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=FOLDER_MODE, parents=True)
