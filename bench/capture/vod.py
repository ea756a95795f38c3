"""The broadcast that every contender fetches: real media, made once.

Forty seconds of moving noise are encoded; then ffmpeg's own HLS muxer writes them again and again, with timestamps that
go on, into transport stream segments of 10 s. Forty seconds are the shortest stretch that holds a whole number of
segments, of pictures (60 a second) and of AAC frames (1024 samples at 48 kHz), so nothing is torn or missing where the
stretch begins anew: the result is one continuous broadcast.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.capture.packets import Fingerprint, fingerprint

SEGMENT_S = 10
_STRETCH_S = 40
_FRAMES_PER_S = 60
_SAMPLE_RATE_HZ = 48_000
_SAMPLES_PER_AAC_FRAME = 1024
# Video, audio and what the transport stream itself costs come to about 6.2 Mbit/s, 7.8 MB a segment.
_VIDEO_KBPS = 5_850
_AUDIO_KBPS = 160
SEGMENT_BYTES = 7_780_000
# Raised when what is made changes, so that nobody measures with media of another recipe.
_RECIPE = 1


@dataclass(frozen=True, slots=True)
class Vod:
    """A broadcast on disk."""

    folder: Path
    playlist: str  # file name in the folder
    segments: tuple[str, ...]  # file names, in order
    size_bytes: int  # of all segments
    packets: Fingerprint

    @property
    def duration_s(self) -> float:
        """How long it plays."""
        return float(len(self.segments) * SEGMENT_S)


def segments_for(size_bytes: int) -> int:
    """How many segments come closest to a size; at least two, so that there is something to join."""
    return max(2, round(size_bytes / SEGMENT_BYTES))


def make_vod(cache: Path, segments: int, ffmpeg: str, say: Callable[[str], None]) -> Vod:
    """The broadcast of so many segments, from the cache if it is there; making 1 GB takes about half a minute."""
    folder = cache / f"vod-{_RECIPE}"
    folder.mkdir(parents=True, exist_ok=True)
    names = tuple(f"{index}.ts" for index in range(segments))
    if not all((folder / name).exists() for name in names):
        started = time.monotonic()
        say(f"Making {segments} segments ...")
        _write_segments(folder, _make_stretch(folder, ffmpeg), segments, ffmpeg)
        say(f"Made in {time.monotonic() - started:.0f} s; kept in {folder}.")
    playlist = f"{segments}.m3u8"
    (folder / playlist).write_text(write_playlist(names), "utf-8")
    return Vod(
        folder=folder,
        playlist=playlist,
        segments=names,
        size_bytes=sum((folder / name).stat().st_size for name in names),
        packets=_expected_packets(folder, names),
    )


def write_playlist(names: tuple[str, ...]) -> str:
    """A media playlist as Twitch has it for a broadcast that has ended (RFC 8216, with Twitch's two own tags)."""
    total_s = len(names) * SEGMENT_S
    return "\n".join(
        [
            "#EXTM3U",
            "#EXT-X-VERSION:3",
            f"#EXT-X-TARGETDURATION:{SEGMENT_S}",
            "#EXT-X-PLAYLIST-TYPE:EVENT",
            "#EXT-X-MEDIA-SEQUENCE:0",
            "#EXT-X-TWITCH-ELAPSED-SECS:0.000",
            f"#EXT-X-TWITCH-TOTAL-SECS:{total_s:.3f}",
            *(f"#EXTINF:{SEGMENT_S:.3f},\n{name}" for name in names),
            "#EXT-X-ENDLIST",
            "",
        ]
    )


def _make_stretch(folder: Path, ffmpeg: str) -> Path:
    """Forty seconds of picture and sound, exactly, as an MP4."""
    stretch = folder / "stretch.mp4"
    if stretch.exists():
        return stretch
    # Encoded a little longer and cut at a whole number of frames: an encoder adds a frame of its own at the start.
    noise = "testsrc2=size=1280x720:rate=60,noise=alls=30:allf=t"
    rate = [f"{_VIDEO_KBPS}k"]
    _run(
        ffmpeg, "-f", "lavfi", "-i", noise, "-f", "lavfi", "-i", f"anoisesrc=r={_SAMPLE_RATE_HZ}:a=0.2:c=pink",
        "-map", "0:v", "-frames:v", str(_STRETCH_S * _FRAMES_PER_S), "-c:v", "libx264", "-preset", "ultrafast",
        # A reference picture every 2 s and pictures that refer to later ones, as Twitch's own encoders have them.
        "-g", str(2 * _FRAMES_PER_S), "-keyint_min", str(2 * _FRAMES_PER_S), "-sc_threshold", "0", "-bf", "2",
        "-b:v", *rate, "-maxrate", *rate, "-bufsize", *rate, "-pix_fmt", "yuv420p", str(folder / "video.mp4"),
        "-map", "1:a", "-t", str(_STRETCH_S + 1), "-ac", "2", "-c:a", "aac", "-b:a", f"{_AUDIO_KBPS}k",
        str(folder / "long.aac"),
    )  # fmt: skip
    frames = _STRETCH_S * _SAMPLE_RATE_HZ // _SAMPLES_PER_AAC_FRAME
    (folder / "audio.aac").write_bytes(_first_adts_frames((folder / "long.aac").read_bytes(), frames))
    unfinished = stretch.with_suffix(".new.mp4")
    _run(
        ffmpeg, "-i", str(folder / "video.mp4"), "-i", str(folder / "audio.aac"), "-map", "0:v", "-map", "1:a",
        "-c", "copy", str(unfinished),
    )  # fmt: skip
    unfinished.replace(stretch)
    for name in ("video.mp4", "long.aac", "audio.aac"):
        (folder / name).unlink()
    return stretch


def _first_adts_frames(stream: bytes, count: int) -> bytes:
    """The first frames of an ADTS stream (ISO/IEC 13818-7 section 6.2: a 13-bit length at bit 30 of each header)."""
    position = 0
    for _ in range(count):
        header = stream[position : position + 7]
        if len(header) < 7 or header[0] != 0xFF or header[1] >> 4 != 0xF:
            raise ValueError("The encoded sound is shorter than it should be.")
        position += (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return stream[:position]


def _write_segments(folder: Path, stretch: Path, segments: int, ffmpeg: str) -> None:
    unfinished = folder / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    repetitions = -(-segments * SEGMENT_S // _STRETCH_S)
    _run(
        ffmpeg, "-stream_loop", str(repetitions - 1), "-i", str(stretch), "-map", "0", "-c", "copy",
        "-f", "hls", "-hls_time", str(SEGMENT_S), "-hls_list_size", "0", "-hls_playlist_type", "vod",
        "-hls_segment_filename", str(unfinished / "%d.ts"), str(unfinished / "index.m3u8"),
    )  # fmt: skip
    lengths = [line for line in (unfinished / "index.m3u8").read_text().splitlines() if line.startswith("#EXTINF")]
    if set(lengths) != {f"#EXTINF:{SEGMENT_S:.6f},"}:
        raise ValueError(f"ffmpeg cut the broadcast into other pieces than asked for: {sorted(set(lengths))}")
    for file in folder.glob("*.packets.json"):
        file.unlink()
    for path in unfinished.glob("*.ts"):
        path.replace(folder / path.name)
    shutil.rmtree(unfinished)
    os.sync()


def _expected_packets(folder: Path, names: tuple[str, ...]) -> Fingerprint:
    """What the segments hold, read as one stream."""
    known = folder / f"{len(names)}.packets.json"
    if known.exists():
        return Fingerprint(**json.loads(known.read_text()))
    joined = "concat:" + "|".join(str(folder / name) for name in names)
    found = fingerprint(joined, container="mpegts")
    known.write_text(json.dumps(found.as_dict()))
    return found


def _run(ffmpeg: str, *arguments: str) -> None:
    command = [ffmpeg, "-nostdin", "-hide_banner", "-loglevel", "error", "-y", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"ffmpeg failed while making the broadcast: {result.stderr.strip()[-800:]}")
