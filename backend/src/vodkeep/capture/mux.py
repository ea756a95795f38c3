"""Makes one MP4 out of the fetched segments with ffmpeg: copied packet by packet, never transcoded.

ffmpeg reads local playlists through its HLS demuxer, which joins the segments of one *run* byte by byte, as the
broadcast had them. A run ends where the timestamps start anew (a discontinuity) or where a hole is; the concat demuxer
then puts each run at its own place on the timeline, so that the picture of minute 90 is at minute 90 whatever is
missing before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import imageio_ffmpeg

from vodkeep.capture.child import run_child
from vodkeep.capture.model import ByteRange, Chapter, FetchedSegment, PacketCounts, Segment
from vodkeep.disk import disk_errors
from vodkeep.errors import DiskFull, TransientError

# Growing files on a sleepy disk pause; several minutes of silence are not a pause.
_STALL_S = 180.0
# Sample tables cost at most about this much per packet: size 4, composition offset 8, duration 8, sync sample 4 and,
# when the streams alternate packet by packet, chunk offset 8 and chunk map 12 (ISO/IEC 14496-12 section 8).
_INDEX_BYTES_PER_PACKET = 44
_INDEX_BYTES_FIXED = 256 * 1024


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring segments whose timestamps go on from one to the next."""

    segments: tuple[Segment, ...]

    @property
    def start_us(self) -> int:
        """Where it begins on the timeline."""
        return self.segments[0].start_us

    @property
    def end_us(self) -> int:
        """Where it ends on the timeline."""
        return self.segments[-1].end_us


@dataclass(frozen=True, slots=True)
class Labels:
    """What is written into the file beside the media."""

    title: str
    channel: str
    date: datetime | None
    comment: str
    chapters: tuple[Chapter, ...]


def split_into_runs(segments: Sequence[Segment], have: Mapping[int, FetchedSegment]) -> tuple[Run, ...]:
    """Group the segments that are there; a discontinuity, a hole or another init section begins a new run."""
    runs: list[list[Segment]] = []
    for segment in segments:
        if segment.media_sequence not in have:
            continue
        last = runs[-1][-1] if runs else None
        joined = (
            last is not None
            and not segment.discontinuity
            and segment.index == last.index + 1
            and (segment.init and segment.init.key) == (last.init and last.init.key)
        )
        if joined:
            runs[-1].append(segment)
        else:
            runs.append([segment])
    return tuple(Run(tuple(run)) for run in runs)


def write_local_playlist(run: Run, paths: Mapping[int, Path], init_path: Path | None) -> str:
    """The media playlist by which ffmpeg finds the segments of ``run`` on disk."""
    longest_s = max(-(-segment.duration_us // 1_000_000) for segment in run.segments)
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", f"#EXT-X-TARGETDURATION:{longest_s}", "#EXT-X-MEDIA-SEQUENCE:0"]
    if init_path is not None:
        lines.append(f'#EXT-X-MAP:URI="{init_path.name}"')
    for segment in run.segments:
        lines += [f"#EXTINF:{segment.duration_us / 1e6:.6f},", paths[segment.media_sequence].name]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def write_concat_list(runs: Sequence[Run], playlists: Sequence[Path], end_us: int) -> str:
    """The list for ffmpeg's concat demuxer: each run lasts until the next one begins, holes included."""
    lines = ["ffconcat version 1.0"]
    for number, playlist in enumerate(playlists):
        next_start_us = runs[number + 1].start_us if number + 1 < len(runs) else end_us
        lines += [
            f"file '{playlist.name}'",
            f"duration {(next_start_us - runs[number].start_us) / 1e6:.6f}",
            # Our segments have one ending whatever they hold; their content was checked when they came in.
            "option allowed_extensions ALL",
            "option extension_picky 0",
        ]
    return "\n".join([*lines, ""])


def write_labels(labels: Labels, end_us: int) -> str:
    """Title, channel, date and chapters in ffmpeg's metadata format."""
    tags = {"title": labels.title, "artist": labels.channel, "comment": labels.comment}
    if labels.date is not None:
        tags["date"] = labels.date.date().isoformat()
    lines = [";FFMETADATA1", *(f"{key}={_escape(value)}" for key, value in tags.items() if value)]
    for chapter in labels.chapters:
        if chapter.start_us >= end_us:
            continue
        lines += [
            "[CHAPTER]",
            "TIMEBASE=1/1000",
            f"START={chapter.start_us // 1000}",
            f"END={min(chapter.end_us, end_us) // 1000}",
            f"title={_escape(chapter.title)}",
        ]
    return "\n".join([*lines, ""])


class Muxer:
    """Runs ffmpeg."""

    def __init__(self, ffmpeg_path: str | None) -> None:
        self.program = ffmpeg_path or imageio_ffmpeg.get_ffmpeg_exe()

    async def mux(
        self,
        runs: Sequence[Run],
        *,
        paths: Mapping[int, Path],
        inits: Mapping[tuple[str, ByteRange | None], Path],
        packets: PacketCounts,
        video_codec: str | None,
        labels: Labels,
        end_us: int,
        target: Path,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Write ``target``; ``paths`` are keyed by media sequence and lie in one folder, where the lists go too.

        ``on_progress`` is told the bytes written so far. The index is reserved at the front, so the file is written
        once and plays over HTTP at once. Raises `DiskFull` or `TransientError` (``mux_failed``, ``tool_timeout``).
        """
        folder = paths[runs[0].segments[0].media_sequence].parent
        with disk_errors(folder):
            playlists = [
                self._place(folder / f"run-{number}.m3u8", write_local_playlist(run, paths, _init_path(run, inits)))
                for number, run in enumerate(runs)
            ]
            concat = self._place(folder / "runs.ffconcat", write_concat_list(runs, playlists, end_us))
            metadata = self._place(folder / "labels.ffmeta", write_labels(labels, end_us))
        index_bytes = _INDEX_BYTES_FIXED + _INDEX_BYTES_PER_PACKET * (packets.video + packets.audio)
        result = await run_child(
            [
                self.program,
                *("-hide_banner", "-nostdin", "-nostats", "-loglevel", "warning", "-y"),
                *("-progress", "pipe:1", "-stats_period", "1"),
                *("-f", "concat", "-safe", "0", "-protocol_whitelist", "file"),
                *("-i", str(concat), "-i", str(metadata)),
                *("-map", "0:v?", "-map", "0:a?", "-map_metadata", "1", "-map_chapters", "1"),
                # Without -copyinkf ffmpeg silently drops what stands before the first key frame.
                *("-c", "copy", "-copyinkf"),
                *(("-tag:v", "hvc1") if video_codec == "hevc" else ()),
                *("-moov_size", str(index_bytes), "-f", "mp4", str(target)),
            ],
            deadline_s=None,
            stall_s=_STALL_S,
            on_line=lambda line: _read_progress(line, on_progress),
        )
        if result.returncode != 0:
            reason = result.stderr.strip().splitlines()[-1:] or ["it gave no reason"]
            if "No space left on device" in result.stderr:
                raise DiskFull(f"No space is left on the disk of {target}.", remedy="Free some space.")
            raise TransientError(f"ffmpeg could not write the video: {reason[0][:300]}", code="mux_failed")
        for path in (*playlists, concat, metadata):
            path.unlink()

    @staticmethod
    def _place(path: Path, text: str) -> Path:
        path.write_text(text, "utf-8")
        return path


def _init_path(run: Run, inits: Mapping[tuple[str, ByteRange | None], Path]) -> Path | None:
    init = run.segments[0].init
    return inits[init.key] if init is not None else None


def _read_progress(line: str, on_progress: Callable[[int], None]) -> None:
    key, _, value = line.partition("=")
    if key == "total_size" and value.isdecimal():
        on_progress(int(value))


def _escape(value: str) -> str:
    """Escape for ffmpeg's metadata format; line ends and NUL would end the value."""
    clean = "".join(" " if character in "\r\n\0" else character for character in value)
    return "".join(f"\\{character}" if character in "=;#\\" else character for character in clean)
