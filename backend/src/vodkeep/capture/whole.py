"""The way round our own fetcher: yt-dlp downloads a VOD whole, ffmpeg makes an MP4 of it.

For the format that our engine cannot read, and slower in every respect: each byte is written three times or more, and
a download that is cut off begins anew, because yt-dlp was seen to take up a killed download with a segment twice in the
file and an exit code of 0. What it leaves is never more than a candidate: the caller verifies it as it does its own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import anyio.to_thread
import av
import av.error

from vodkeep.capture.ffmetadata import write_ffmetadata
from vodkeep.capture.model import Phase, Progress
from vodkeep.capture.mp4_labels import Movie
from vodkeep.capture.resolve import SITE_URL, TWITCH_FIRST, error_for
from vodkeep.capture.tool_messages import classify_tool_output
from vodkeep.capture.tools import ToolCommand
from vodkeep.child import run_child
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

_PACKET_BYTES = 188
_SYNC = b"\x47"
_DAMAGED = "verify_failed"


@dataclass(frozen=True, slots=True)
class WantedFilm:
    """What is to be downloaded whole."""

    video_id: str
    format_id: str = ""  # the rendition by yt-dlp's name; empty leaves the choice to yt-dlp
    movie: Movie = field(default_factory=Movie)  # what the file says about itself
    duration_us: int = 0  # of the playlist; chapters that begin later are left out
    in_fragments: bool = False  # its segments are fragmented MP4, not transport streams


async def download_whole(
    program: ToolCommand,
    args: Sequence[str],
    wanted: WantedFilm,
    target: Path,
    *,
    ffmpeg: str,
    on_progress: Callable[[Progress], None],
    log: Logger,
    connections: int = 4,
    rate_limit: int | None = None,
    site_url: str = SITE_URL,
) -> None:
    """Download a VOD with yt-dlp and write ``target``, an MP4; it appears in one piece when everything went well.

    ``args`` are the operator's (YTDLP_ARGS) and have the last word. ``rate_limit`` is in bytes per second (yt-dlp
    counts it per connection, so then there is one). Work happens in a folder beside ``target``, removed at the end
    however it comes. A finished file proves nothing: verify it.

    Raises what `YtDlpResolver.resolve` raises, `Incomplete` when a segment cannot be had, `DiskFull`, `ChildTimeout`,
    or `TransientError` (``mux_failed``, and ``verify_failed`` for what is no whole transport stream).
    """
    folder = target.with_name(f"{target.name}.whole")
    await anyio.to_thread.run_sync(_make_anew, folder)
    try:
        media = await _download(
            _command(program, args, wanted, folder, ffmpeg, connections, rate_limit, site_url),
            wanted.video_id,
            folder,
            on_progress,
            log,
        )
        finished = folder / "finished.mp4"
        await _remux(ffmpeg, media, finished, wanted, on_progress)
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
    wanted: WantedFilm,
    folder: Path,
    ffmpeg: str,
    connections: int,
    rate_limit: int | None,
    site_url: str,
) -> list[str]:
    # A name with a quote in it would end the filter; then yt-dlp's own choice has to do.
    format_id = wanted.format_id
    named = format_id and '"' not in format_id and "\\" not in format_id
    return [
        *program.argv,
        # A person's own configuration file must not change what an archive holds.
        "--ignore-config",
        *TWITCH_FIRST,
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
        f"{site_url}/videos/{wanted.video_id}",
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
    ffmpeg: str, media: Path, finished: Path, wanted: WantedFilm, on_progress: Callable[[Progress], None]
) -> None:
    """Copy the packets of ``media`` into an MP4 with its index at the front."""
    source = await anyio.to_thread.run_sync(partial(_inspect, media, in_fragments=wanted.in_fragments))
    labels = media.with_name("labels.ffmeta")
    with disk_errors(labels):
        labels.write_text(write_ffmetadata(wanted.movie, wanted.duration_us // 1000), "utf-8")

    def read(line: str) -> None:
        key, _, value = line.partition("=")
        if key == "total_size" and value.isdecimal():
            on_progress(Progress(Phase.MUXING, fetched_bytes=int(value), total_bytes=source.size_bytes))

    result = await run_child(
        [
            ffmpeg,
            *("-hide_banner", "-nostdin", "-nostats", "-loglevel", "warning", "-y"),
            *("-progress", "pipe:1", "-stats_period", "1"),
            *("-i", str(media), "-i", str(labels), "-map_metadata", "1", "-map_chapters", "1"),
            *("-map", "0:v?", "-map", "0:a?", "-c", "copy"),
            # Without -copyinkf ffmpeg silently drops what stands before the first key frame.
            "-copyinkf",
            *(("-tag:v", "hvc1") if source.codec == "hevc" else ()),
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


@dataclass(frozen=True, slots=True)
class _Source:
    """What yt-dlp made."""

    size_bytes: int
    codec: str | None  # of the picture; None for a broadcast of sound


def _inspect(media: Path, *, in_fragments: bool) -> _Source:
    """yt-dlp joins segments whatever is in them, and readers pass over what they do not understand."""
    try:
        size = media.stat().st_size
        with media.open("rb") as file:
            whole = _has_whole_boxes(file, size) if in_fragments else _has_whole_packets(file)
        if not whole:
            raise TransientError("What yt-dlp downloaded is not whole: a segment is something else.", code=_DAMAGED)
        with av.open(str(media), mode="r") as container:
            streams = [stream for stream in container.streams.video if stream.codec_context is not None]
            return _Source(size, streams[0].codec_context.name if streams else None)
    except (av.error.FFmpegError, OSError) as error:
        raise TransientError(f"What yt-dlp downloaded cannot be read: {error}", code="tool_failed") from error


def _has_whole_packets(file: BinaryIO) -> bool:
    """Every packet of a transport stream begins with its sync byte (ISO/IEC 13818-1 section 2.4.3.2)."""
    while block := file.read(_PACKET_BYTES * 4096):
        packets, rest = divmod(len(block), _PACKET_BYTES)
        if rest or block[::_PACKET_BYTES] != _SYNC * packets:
            return False
    return True


def _has_whole_boxes(file: BinaryIO, size: int) -> bool:
    """One box follows the other up to the end (ISO/IEC 14496-12 section 4.2)."""
    position = 0
    while position < size:
        file.seek(position)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8 or not head[4:8].isalnum():
            return False
        position += length
    return position == size


def _make_anew(folder: Path) -> None:
    with disk_errors(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=FOLDER_MODE, parents=True)
