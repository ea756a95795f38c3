"""What the transport stream reader makes of real media, beside what FFmpeg's demuxer and muxer make of it."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import imageio_ffmpeg
import numpy as np
import pytest

from vodkeep.capture.samples import SegmentDamagedError, SegmentSamples, TrackSamples, UnsupportedMediaError
from vodkeep.capture.transport_stream import read_transport_stream

TURN = 1 << 33
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "15")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Arguments for ffmpeg."""

    size: str = "160x90"
    fps: str = "30"
    video: tuple[str, ...] = X264
    rate: int = 48_000
    channels: int = 2
    audio: tuple[str, ...] = ("-c:a", "aac", "-b:a", "64k")
    output: tuple[str, ...] = ()
    has: tuple[Literal["video", "audio"], ...] = ("video", "audio")
    seconds: float = 1.2

    def arguments(self) -> list[str]:
        given: list[str] = []
        if "video" in self.has:
            given += ["-f", "lavfi", "-i", f"testsrc2=size={self.size}:rate={self.fps}:duration={self.seconds}"]
        if "audio" in self.has:
            noise = "|".join(f"0.2*random({channel})" for channel in range(self.channels))
            given += ["-f", "lavfi", "-i", f"aevalsrc={noise}:s={self.rate}:d={self.seconds}"]
        return [
            *given,
            *(self.video if "video" in self.has else ()),
            *(self.audio if "audio" in self.has else ()),
            *self.output,
        ]


def x264(parameters: str, *others: str) -> tuple[str, ...]:
    return (*X264, *others, "-x264-params", parameters)


RECIPES = {
    "30 frames a second": Recipe(),
    "60 frames a second": Recipe(fps="60"),
    "film": Recipe(fps="24000/1001"),
    "television": Recipe(fps="30000/1001"),
    "no pictures out of order": Recipe(video=(*X264, "-bf", "0", "-tune", "zerolatency")),
    "two pictures out of order": Recipe(video=x264("bframes=2:b-adapt=0")),
    "pyramid": Recipe(fps="60", video=x264("bframes=5:b-adapt=0:b-pyramid=normal:ref=4")),
    "open groups": Recipe(video=x264("open-gop=1:bframes=3:b-adapt=0")),
    "intra refresh": Recipe(video=x264("intra-refresh=1")),
    "slices": Recipe(size="320x180", video=x264("slices=4")),
    "many slices": Recipe(size="320x180", video=x264("slices=12"), seconds=3),
    "delimiters": Recipe(video=x264("aud=1")),
    "filler": Recipe(video=x264("nal-hrd=cbr:vbv-maxrate=600:vbv-bufsize=600:bitrate=600:filler=1")),
    "interlaced frames": Recipe(size="160x96", video=x264("interlaced=1")),
    "progressive in interlaced": Recipe(size="160x96", video=x264("fake-interlaced=1")),
    "scaling lists": Recipe(video=x264("cqm=jvt")),
    "baseline": Recipe(video=(*X264, "-profile:v", "baseline")),
    "main": Recipe(video=(*X264, "-profile:v", "main")),
    "4:2:2": Recipe(video=("-c:v", "libx264", "-pix_fmt", "yuv422p")),
    "4:4:4": Recipe(video=("-c:v", "libx264", "-pix_fmt", "yuv444p")),
    "ten bits": Recipe(video=("-c:v", "libx264", "-pix_fmt", "yuv420p10le")),
    "another encoder": Recipe(video=("-c:v", "libopenh264", "-b:v", "300k")),
    "cropped": Recipe(size="162x94"),
    "wide pixels": Recipe(video=(*X264, "-vf", "setsar=4/3")),
    "odd pixels": Recipe(video=(*X264, "-vf", "setsar=13/7")),
    "square pixels": Recipe(video=(*X264, "-vf", "setsar=1")),
    "colours": Recipe(video=x264("colorprim=bt709:transfer=bt709:colormatrix=bt709")),
    "full range": Recipe(video=x264("fullrange=on")),
    "44.1 kHz": Recipe(rate=44_100, seconds=3),
    "8 kHz": Recipe(rate=8_000),
    "96 kHz": Recipe(rate=96_000),
    "mono": Recipe(channels=1),
    "5.1": Recipe(channels=6),
    "sound alone": Recipe(has=("audio",), seconds=4),
    "a frame of sound per PES packet": Recipe(has=("audio",), output=("-pes_payload_size", "100")),
    "picture alone": Recipe(has=("video",)),
    "one picture": Recipe(has=("video",), seconds=0.02),
    "the clock wraps": Recipe(output=("-output_ts_offset", "95442.7")),
    "the clock wraps between pictures out of order": Recipe(
        fps="60", video=x264("bframes=3:b-adapt=0"), output=("-output_ts_offset", "95442.9")
    ),
    "the clock wraps at once": Recipe(output=("-muxdelay", "0", "-output_ts_offset", "95443.71768")),
    "other PIDs": Recipe(output=("-mpegts_start_pid", "0x400", "-mpegts_pmt_start_pid", "0x30")),
    "low PIDs": Recipe(output=("-streamid", "0:33", "-streamid", "1:34")),
    "tables all the time": Recipe(output=("-pat_period", "0.01", "-mpegts_flags", "resend_headers")),
    "tables at each key frame": Recipe(output=("-mpegts_flags", "pat_pmt_at_frames")),
    "begins with a discontinuity": Recipe(output=("-mpegts_flags", "initial_discontinuity")),
    "DVB": Recipe(output=("-mpegts_flags", "system_b")),
    "stated lengths of pictures": Recipe(output=("-omit_video_pes_length", "0")),
    "constant rate": Recipe(output=("-muxrate", "2M")),
    "clocks all the time": Recipe(output=("-pcr_period", "20")),
}

# Their key frames are places to begin which are not instantaneous refreshes; FFmpeg marks them nevertheless.
WITH_RECOVERY_POINTS = {"open groups", "intra refresh"}


def ffmpeg(*arguments: str | Path) -> None:
    program = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([program, "-v", "error", "-nostdin", "-y", *map(str, arguments)], check=True, timeout=60)


def make(recipe: Recipe, path: Path) -> bytes:
    ffmpeg(*recipe.arguments(), "-f", "mpegts", path)
    return path.read_bytes()


def samples(track: TrackSamples) -> list[bytes]:
    ends = np.cumsum(track.sizes, dtype=np.int64).tolist()
    return [bytes(track.payload[end - size : end]) for end, size in zip(ends, track.sizes.tolist(), strict=True)]


@dataclass(frozen=True, slots=True)
class Packet:
    digest: str
    dts: int
    pts: int
    is_key: bool


def packets(path: Path, kind: Literal["video", "audio"]) -> list[Packet]:
    with av.open(path) as container:
        stream = container.streams.video[0] if kind == "video" else container.streams.audio[0]
        found = []
        for packet in container.demux(stream):
            if packet.size:
                assert packet.dts is not None
                assert packet.pts is not None
                digest = hashlib.sha256(bytes(packet)).hexdigest()
                found.append(Packet(digest, packet.dts, packet.pts, packet.is_keyframe))
        return found


def box(kind: bytes, body: bytes) -> bytes:
    """The first box of this kind, wherever it is; empty if there is none."""
    at = body.find(kind)
    return body[at - 4 : at - 4 + int.from_bytes(body[at - 4 : at], "big")] if at > 0 else b""


def is_refresh(sample: bytes) -> bool:
    while sample:
        if sample[4] & 0x1F == 5:
            return True
        sample = sample[4 + int.from_bytes(sample[:4], "big") :]
    return False


def turned(ticks: int) -> int:
    """The distance on a clock that wraps."""
    return (ticks + TURN // 2) % TURN - TURN // 2


@pytest.mark.parametrize("name", RECIPES)
def test_samples_are_those_of_ffmpeg(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    source, remuxed = tmp_path / "source.ts", tmp_path / "remuxed.mp4"
    body = make(recipe, source)
    ffmpeg("-i", source, "-map", "0", "-c", "copy", remuxed)
    movie = remuxed.read_bytes()
    segment = read_transport_stream(body)
    assert tuple(track.format.kind for track in segment.tracks) == recipe.has
    for track in segment.tracks:
        kind = track.format.kind
        ours = samples(track)
        assert [hashlib.sha256(sample).hexdigest() for sample in ours] == [
            packet.digest for packet in packets(remuxed, kind)
        ]
        theirs = packets(source, kind)
        # A tick more or less: FFmpeg counts the length of sound frames in ticks, too.
        scale = 90_000 / track.format.timescale
        for index, packet in enumerate(theirs):
            dts = round(int(track.dts[index]) * scale)
            assert abs(turned(packet.dts - dts)) <= 1
            assert abs(turned(packet.pts - dts) - int(track.cts[index]) * scale) <= 1
        assert (np.diff(track.dts) > 0).all()
        assert (track.cts >= 0).all()
        if name in WITH_RECOVERY_POINTS and kind == "video":
            assert track.sync.tolist() == [is_refresh(sample) for sample in ours]
        else:
            assert track.sync.tolist() == [packet.is_key for packet in theirs]
        entry = track.format.sample_entry
        if kind == "video":
            assert box(b"avcC", entry) == box(b"avcC", movie)
            assert box(b"colr", entry) == box(b"colr", movie)
            # FFmpeg says 1:1 as well.
            assert box(b"pasp", entry) in (box(b"pasp", movie), b"")
            assert box(b"pasp", entry) or box(b"pasp", movie)[8:12] == box(b"pasp", movie)[12:16]
            width, height = map(int, recipe.size.split("x"))
            assert (track.format.width, track.format.height) == (width, height)
        else:
            assert (track.format.sample_rate, track.format.channels) == (recipe.rate, recipe.channels)
            with av.open(remuxed) as container:
                configuration = container.streams.audio[0].codec_context.extradata
            assert configuration
            # FFmpeg adds that there is no spectral band replication; whoever leaves that open says the same.
            assert b"\x05\x02" + configuration[:2] in box(b"esds", entry)


def test_the_tail_is_the_duration_of_a_frame(tmp_path: Path) -> None:
    for fps, ticks in (("30", 3000), ("60", 1500), ("30000/1001", 3003)):
        body = make(Recipe(fps=fps), tmp_path / "source.ts")
        assert [track.tail for track in read_transport_stream(body).tracks] == [ticks, 1024]


def test_segments_in_a_row_hold_what_the_whole_holds(tmp_path: Path) -> None:
    """Segments of an HLS muxer, with pictures out of order across the cuts."""
    recipe = Recipe(seconds=4.2, video=x264("bframes=3:b-adapt=0:keyint=30:scenecut=0"))
    ffmpeg(*recipe.arguments(), "-f", "hls", "-hls_time", "1", "-hls_list_size", "0", tmp_path / "list.m3u8")
    bodies = [path.read_bytes() for path in sorted(tmp_path.glob("*.ts"))]
    assert len(bodies) == 5
    whole, remuxed = tmp_path / "whole.mpegts", tmp_path / "remuxed.mp4"
    whole.write_bytes(b"".join(bodies))
    ffmpeg("-i", whole, "-map", "0", "-c", "copy", remuxed)
    segments = [read_transport_stream(body) for body in bodies]
    for kind in recipe.has:
        tracks = [tracked(segment, kind) for segment in segments]
        assert len({track.format for track in tracks}) == 1
        digests = [hashlib.sha256(sample).hexdigest() for track in tracks for sample in samples(track)]
        assert digests == [packet.digest for packet in packets(remuxed, kind)]
        for before, after in itertools.pairwise(tracks):
            assert abs(int(before.dts[-1]) + before.tail - int(after.dts[0])) <= 1


def tracked(segment: SegmentSamples, kind: Literal["video", "audio"]) -> TrackSamples:
    track = segment.track(kind)
    assert track is not None
    return track


@pytest.mark.parametrize(
    ("recipe", "complaint"),
    [
        (Recipe(audio=("-c:a", "libmp3lame")), "MPEG-1 audio"),
        (Recipe(audio=("-c:a", "ac3")), "AC-3"),
        (Recipe(audio=("-c:a", "libopus")), "Opus"),
        (Recipe(output=("-mpegts_flags", "latm")), "AAC in LATM"),
        (Recipe(video=("-c:v", "libx265", "-x265-params", "log-level=none")), "HEVC"),
        (Recipe(video=("-c:v", "mpeg2video")), "MPEG-2 video"),
        (Recipe(output=("-map", "0", "-map", "1", "-map", "1")), "2 streams of sound"),
        (Recipe(output=("-map", "0", "-map", "0", "-map", "1")), "2 streams of pictures"),
    ],
)
def test_other_media_is_named(recipe: Recipe, complaint: str, tmp_path: Path) -> None:
    body = make(recipe, tmp_path / "source.ts")
    with pytest.raises(UnsupportedMediaError, match=complaint):
        read_transport_stream(body)


def test_packets_with_arrival_times_are_no_transport_stream(tmp_path: Path) -> None:
    body = make(Recipe(output=("-mpegts_m2ts_mode", "1")), tmp_path / "source.ts")
    with pytest.raises(SegmentDamagedError, match="does not begin like"):
        read_transport_stream(body)
