"""Make the media of a recipe with ffmpeg.

One ffmpeg call per run writes all qualities cut into HLS segments; the segments are then demuxed once with
PyAV so that tests can compare packet counts. testsrc2 paints the running time into the picture with a font
of its own, so no font file is needed.
"""

from __future__ import annotations

import io
import re
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg

from vodkeep_standin.media.model import Media, Rendition, Segment
from vodkeep_standin.media.recipe import Recipe

BUILD_DEADLINE_S = 600.0
_SOUND_ENCODERS = {"aac": "aac", "opus": "libopus", "mp3": "libmp3lame", "ac3": "ac3"}
_SOUND_NAMES = {"aac": "mp4a.40.2", "opus": "opus", "mp3": "mp4a.40.34", "ac3": "ac-3"}
"""As the CODECS attribute names them, RFC 6381."""
_LISTED = re.compile(r"#EXTINF:([0-9.]+),\s*\n(\S+)")


class MediaBuildError(Exception):
    """ffmpeg could not make the media; carries the end of what it said."""


def build_media(recipe: Recipe, folder: Path) -> Media:
    """Build ``recipe`` into the empty ``folder``. Blocks for seconds. Raises ``MediaBuildError``."""
    listed: dict[str, list[Segment]] = {}
    extension = "mp4" if recipe.in_fmp4 else "ts"
    names = ["chunked", "160p30", "audio_only"]
    for name in names:
        (folder / name).mkdir(parents=True)
        listed[name] = []
    for run, run_s in enumerate(recipe.runs_s):
        firsts = {name: len(segments) for name, segments in listed.items()}
        _run_ffmpeg(_encode_arguments(recipe, run, run_s, firsts), folder)
        for name in names:
            playlist = folder / name / f"run-{run}.m3u8"
            init = (folder / name / f"init-{run}.mp4").read_bytes() if recipe.in_fmp4 else b""
            for duration, segment_name in _LISTED.findall(playlist.read_text()):
                body = (folder / name / segment_name).read_bytes()
                video, audio = count_packets(init + body)
                listed[name].append(Segment(segment_name, float(duration), len(body), run, video, audio))
            playlist.unlink()
    _make_pictures(recipe, folder, f"chunked/0.{extension}")
    sizes = {"chunked": (recipe.width, recipe.height), "160p30": (284, 160), "audio_only": (0, 0)}
    renditions = []
    for name in names:
        width, height = sizes[name]
        renditions.append(
            Rendition(
                name=name,
                label={"chunked": f"{recipe.height}p{recipe.fps}", "audio_only": "Audio Only"}.get(name, name),
                codecs=_codecs(recipe, folder / name / f"0.{extension}", has_picture=width > 0),
                bandwidth=max(int(s.size_bytes * 8 / s.duration_s) for s in listed[name]),
                width=width,
                height=height,
                fps=_fps(recipe, name) if width else 0.0,
                segments=tuple(listed[name]),
                init_names=tuple(f"init-{run}.mp4" for run in range(len(recipe.runs_s))) if recipe.in_fmp4 else (),
            )
        )
    return Media(folder=str(folder), renditions=tuple(renditions))


def count_packets(body: bytes) -> tuple[int, int]:
    """Video and audio packets in ``body`` (a whole TS segment, or init section plus fMP4 segment)."""
    counts = {"video": 0, "audio": 0}
    with av.open(io.BytesIO(body), mode="r") as container:
        for packet in container.demux():
            if packet.size and packet.stream.type in counts:
                counts[packet.stream.type] += 1
    return counts["video"], counts["audio"]


def _encode_arguments(recipe: Recipe, run: int, run_s: int, firsts: dict[str, int]) -> list[str]:
    """ffmpeg arguments for one run; ``firsts`` holds the index of its first segment per quality."""
    start_s = sum(recipe.runs_s[:run])
    silences = "".join(
        f",volume=0:enable='between(t,{span.start_s - start_s},{span.start_s + span.duration_s - start_s})'"
        for span in recipe.muted
    )
    # Without -t on the inputs only the first output would end.
    picture = f"testsrc2=size={recipe.width}x{recipe.height}:rate={recipe.fps}"
    tone = f"sine=frequency={recipe.tone_hz}:sample_rate=48000:beep_factor=4"
    graph = (
        f"[0:v]hue=h={(recipe.hue_degrees + run * 90) % 360},format=yuv420p,split=2[source][large];"
        f"[large]scale=284:160,fps={_fps(recipe, '160p30'):.0f}[small];"
        f"[1:a]aformat=channel_layouts=stereo{silences},asplit=3[a0][a1][a2]"
    )
    arguments = ["-f", "lavfi", "-t", str(run_s), "-i", picture, "-f", "lavfi", "-t", str(run_s), "-i", tone]
    arguments += ["-filter_complex", graph]
    outputs: list[tuple[str, list[str]]] = [
        ("chunked", ["-map", "[source]", "-map", "[a0]", *_video_codec(recipe, recipe.fps, recipe.bitrate_kbps)]),
        ("160p30", ["-map", "[small]", "-map", "[a1]", *_video_codec(recipe, int(_fps(recipe, "160p30")), None)]),
        ("audio_only", ["-map", "[a2]"]),
    ]
    for name, chosen in outputs:
        arguments += [*chosen, "-c:a", _SOUND_ENCODERS[recipe.sound], "-b:a", "64k", "-flags", "+bitexact", "-f", "hls"]
        arguments += ["-hls_time", str(recipe.segment_s), "-hls_list_size", "0", "-start_number", str(firsts[name])]
        if recipe.in_fmp4:
            arguments += ["-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", f"init-{run}.mp4"]
        pattern = "%d.mp4" if recipe.in_fmp4 else "%d.ts"
        arguments += ["-hls_segment_filename", f"{name}/{pattern}", f"{name}/run-{run}.m3u8"]
    return arguments


def _fps(recipe: Recipe, name: str) -> float:
    """Frames per second of a quality; the small one never has more than its name says."""
    return float(recipe.fps if name == "chunked" else min(recipe.fps, 30))


def _video_codec(recipe: Recipe, fps: int, bitrate_kbps: int | None) -> list[str]:
    gop = fps * recipe.segment_s
    if recipe.codec == "av1":
        # Key frames only where a segment begins.
        return ["-c:v", "libsvtav1", "-preset", "12", "-crf", "50", "-g", str(gop), "-svtav1-params", "scd=0:lp=2"]
    if recipe.codec == "hevc":
        params = f"log-level=error:keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0"
        return ["-c:v", "libx265", "-preset", "ultrafast", "-crf", "32", "-tag:v", "hvc1", "-x265-params", params]
    chosen = ["-c:v", "libx264", "-preset", "ultrafast", "-g", str(gop), "-keyint_min", str(gop)]
    chosen += ["-sc_threshold", "0"]
    if bitrate_kbps is None:
        return [*chosen, "-crf", "28"]
    rate = f"{bitrate_kbps}k"
    return [*chosen, "-b:v", rate, "-minrate", rate, "-maxrate", rate, "-bufsize", rate, "-x264-params", "nal-hrd=cbr"]


def _codecs(recipe: Recipe, first_segment: Path, *, has_picture: bool) -> str:
    """The CODECS attribute, RFC 6381. The H.264 profile is read from the first sequence parameter set."""
    sound = _SOUND_NAMES[recipe.sound]
    if not has_picture:
        return sound
    if recipe.codec == "hevc":
        return f"hvc1.1.6.L63.90,{sound}"
    if recipe.codec == "av1":
        return f"av01.0.04M.08,{sound}"
    found = re.search(rb"\x00\x00\x01[\x67\x27](...)", first_segment.read_bytes(), re.DOTALL)
    profile = found.group(1).hex().upper() if found else "42C01E"
    return f"avc1.{profile},{sound}"


def _make_pictures(recipe: Recipe, folder: Path, first_segment: str) -> None:
    """Two thumbnails and a storyboard sheet of 5 x 2 frames, real JPEG files."""
    source = f"concat:chunked/init-0.mp4|{first_segment}" if recipe.in_fmp4 else first_segment
    large, small = "scale=640:360", "scale=320:180"
    every = f"fps={Fraction(5, recipe.segment_s)},scale=220:124,tile=5x2"
    graph = f"[0:v]split=3[a][b][c];[a]{large}[l];[b]{small}[s];[c]{every}[t]"
    arguments = ["-i", source, "-filter_complex", graph]
    for label, name in (("[l]", "thumb-640.jpg"), ("[s]", "thumb-320.jpg"), ("[t]", "storyboard.jpg")):
        arguments += ["-map", label, "-frames:v", "1", "-q:v", "5", "-update", "1", name]
    _run_ffmpeg(arguments, folder)


def _run_ffmpeg(arguments: list[str], folder: Path) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *arguments]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=BUILD_DEADLINE_S)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace")[-800:]
        raise MediaBuildError(f"ffmpeg ended with code {error.returncode}: {said}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MediaBuildError(f"ffmpeg could not be run: {error}") from error
