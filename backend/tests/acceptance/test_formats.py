"""Every format that Twitch has, and some it has not: kept whole, playable, in the quality that was asked for."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import pytest

from support.home import CHANNEL, Home, HomeOf, check_kept, scenario_with
from support.mp4_media import read_chapters, read_labels
from support.service import wait_until
from support.slow import slow_segments
from vodkeep_standin.media.recipe import Recipe
from vodkeep_standin.scenario import ids
from vodkeep_standin.scenario.model import Chapter, Video

NATIVE = {
    "H.264 at 30": (Recipe((3,), 1, width=320, height=180), "avc1", "mp4a"),
    "H.264 at 60": (Recipe((3,), 1, width=320, height=180, fps=60), "avc1", "mp4a"),
    "1080p60": (Recipe((3,), 1, width=1920, height=1080, fps=60), "avc1", "mp4a"),
    "1440p60 in a transport stream": (Recipe((3,), 1, width=2560, height=1440, fps=60), "avc1", "mp4a"),
    "1440p60": (Recipe((3,), 1, width=2560, height=1440, fps=60, codec="hevc"), "hvc1", "mp4a"),
    "H.264 in fragments": (Recipe((3,), 1, width=320, height=180, fragmented=True), "avc1", "mp4a"),
    "H.264 with Opus": (Recipe((3,), 1, width=320, height=180, sound="opus"), "avc1", "Opus"),
    "HEVC in two runs": (Recipe((3, 2), 1, width=320, height=180, codec="hevc"), "hvc1", "mp4a"),
    "AV1": (Recipe((3,), 1, width=320, height=180, codec="av1"), "av01", "mp4a"),
    "AV1 with Opus": (Recipe((3,), 1, width=320, height=180, codec="av1", sound="opus"), "av01", "Opus"),
}
FOREIGN = {
    "MP3": Recipe((4,), 1, width=320, height=180, sound="mp3"),
    "AC-3": Recipe((4,), 1, width=320, height=180, sound="ac3"),
}
TALL = "2700000091"
FIRST_ID = 2_700_000_100


def a_video(video_id: str, title: str, recipe: Recipe, channel: str = CHANNEL) -> Video:
    """A broadcast of this recipe."""
    moment = scenario_with(ids.PLAIN).videos[ids.PLAIN].created_at
    return Video(video_id, channel, title, moment, recipe, stream_id=str(int(video_id) + 10**10))


def packets_of(path: Path, kind: str) -> list[bytes]:
    """The content of each packet of picture or sound, in the order of decoding."""
    with av.open(str(path), mode="r") as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        return [bytes(packet) for packet in container.demux(streams) if packet.size] if streams else []


def reference(home: Home, video_id: str, quality: str, folder: Path) -> Iterator[Path]:
    """What ffmpeg makes of each run of a rendition without touching a packet."""
    media = home.standin.media(video_id)
    rendition = media.rendition(quality)
    assert rendition is not None
    for run in sorted({segment.run for segment in rendition.segments}):
        names = [*rendition.init_names[run : run + 1], *(s.name for s in rendition.segments if s.run == run)]
        source = folder / f"{video_id}-{run}{Path(names[-1]).suffix}"
        source.write_bytes(b"".join(media.path(quality, name).read_bytes() for name in names))
        target = folder / f"{video_id}-{run}-copy.mp4"
        ffmpeg("-i", source, "-map", "0", "-c", "copy", "-copyinkf", target)
        yield target


def ffmpeg(*arguments: str | Path) -> None:
    """Run it; a single word of complaint is a failure."""
    done = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-xerror", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, ""), arguments


def check_playable(path: Path, *, tags: dict[str, str]) -> None:
    """Decode everything, look at the codec tags, and jump to several places."""
    # In the file's own times: two runs have no one frame rate that it could count in.
    ffmpeg("-i", path, "-fps_mode", "passthrough", "-enc_time_base", "demux", "-f", "null", "-")
    with av.open(str(path)) as container:
        assert {s.type: s.codec_context.codec_tag for s in container.streams if s.type in {"video", "audio"}} == tags
        stream = next(iter(container.streams.video or container.streams.audio))
        assert container.duration is not None
        assert stream.time_base is not None
        packets = sum(1 for packet in container.demux(stream) if packet.size)
        container.seek(0)
        times = [frame.pts for frame in container.decode(stream) if frame.pts is not None]
        assert len(times) == packets
        assert times == sorted(set(times))
        for share in (0.9, 0.1, 0.6):
            wanted_s = share * container.duration / 1e6
            container.seek(int(wanted_s * 1e6))
            frame = next(container.decode(stream))
            assert frame.pts is not None
            # Key frames are a second apart.
            assert -0.1 <= wanted_s - float(frame.pts * stream.time_base) <= 1.1


def check_same_packets(home: Home, video_id: str, quality: str, tmp_path: Path) -> None:
    """The kept file holds the packets of the source, byte by byte."""
    video = home.folder(video_id) / "video.mp4"
    copies = list(reference(home, video_id, quality, tmp_path))
    for kind in ("video", "audio"):
        assert packets_of(video, kind) == [packet for copy in copies for packet in packets_of(copy, kind)], kind


def test_every_format_of_twitch_is_kept_as_it_is(home_of: HomeOf, tmp_path: Path) -> None:
    videos = {str(FIRST_ID + number): title for number, title in enumerate(NATIVE)}
    home = home_of(*(a_video(video_id, title, NATIVE[title][0]) for video_id, title in videos.items()))
    service = home.start(MAX_CONCURRENT_DOWNLOADS="2")
    for video_id in videos:
        service.wait_for("vod processed", vod_id=video_id, timeout_s=100)
    assert service.terminate() == 0

    assert service.lines("format is left to another tool") == []
    for video_id, title in videos.items():
        recipe, picture, sound = NATIVE[title]
        manifest = check_kept(home, video_id)
        assert manifest["rendition"] == f"{recipe.height}p{recipe.fps}"
        check_same_packets(home, video_id, "chunked", tmp_path)
        check_playable(home.folder(video_id) / "video.mp4", tags={"video": picture, "audio": sound})
        codecs = {"avc1": "h264", "hvc1": "hevc", "av01": "av1", "mp4a": "aac", "Opus": "opus"}
        assert {stream["codec"] for stream in manifest["streams"]} == {codecs[picture], codecs[sound]}
        (pictures,) = [stream for stream in manifest["streams"] if stream["kind"] == "video"]
        assert (pictures["width"], pictures["height"]) == (recipe.width, recipe.height)
        assert pictures["fps"] == pytest.approx(recipe.fps, rel=0.01)
        assert pictures["packets"] == recipe.duration_s * recipe.fps


def test_the_quality_that_is_asked_for_is_kept(home_of: HomeOf, tmp_path: Path) -> None:
    tall = Recipe((3,), 1, width=640, height=360, fps=60)
    sound = Recipe((3,), 1, width=320, height=180, codec="av1", sound="opus")
    other = [
        a_video("2700000092", "Sound of a stream", tall, ids.OTHER_CHANNEL),
        a_video("2700000093", "Sound of fragments", sound, ids.OTHER_CHANNEL),
    ]
    home = home_of(a_video(TALL, "Small enough", tall), *other)
    service = home.start(
        TWITCH_CHANNELS=ids.OTHER_CHANNEL,
        VOD_QUALITY="240p60",
        VOD_QUALITY_CHANNELS=f"{ids.OTHER_CHANNEL}=audio",
    )
    for video_id in (TALL, *(video.id for video in other)):
        service.wait_for("vod processed", vod_id=video_id)
    assert service.terminate() == 0

    service.wait_for("rendition chosen", vod_id=TALL, rendition="160p30", quality="240p60")
    assert home.manifest(TALL)["rendition"] == "160p30"
    check_same_packets(home, TALL, "160p30", tmp_path)
    check_playable(home.folder(TALL) / "video.mp4", tags={"video": "avc1", "audio": "mp4a"})
    for video, tag in zip(other, ("mp4a", "Opus"), strict=True):
        folder = home.folder(video.id, ids.OTHER_CHANNEL)
        service.wait_for("rendition chosen", vod_id=video.id, rendition="Audio_Only", quality="audio")
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        assert (manifest["rendition"], manifest["completeness"]) == ("Audio_Only", 1.0)
        assert [stream["kind"] for stream in manifest["streams"]] == ["audio"]
        (copy,) = reference(home, video.id, "audio_only", tmp_path)
        assert packets_of(folder / "video.mp4", "audio") == packets_of(copy, "audio")
        check_playable(folder / "video.mp4", tags={"audio": tag})


def test_what_cannot_be_taken_apart_goes_the_way_round(home_of: HomeOf, tmp_path: Path) -> None:
    """It says about itself what our own films say; beside them lies one of those."""
    chapters = (Chapter(0, "Celeste"), Chapter(2, "Hollow Knight; a=b"))
    recipes = {**FOREIGN, "AAC": Recipe((4,), 1, width=320, height=180)}
    videos = {str(FIRST_ID + number): title for number, title in enumerate(recipes)}
    home = home_of(
        *(
            dataclasses.replace(a_video(video_id, "The same title", recipes[title]), chapters=chapters)
            for video_id, title in videos.items()
        )
    )
    slow_segments(home.standin, 300)
    service = home.start(CAPTURE_CONNECTIONS="3")
    *foreign, own = videos
    for video_id in foreign:
        service.wait_for("format is left to another tool", vod_id=video_id)
        if video_id == foreign[0]:
            wait_until(
                lambda: any("--concurrent-fragments 3 " in command for command in home.processes().values()),
                "yt-dlp uses as many connections as we",
                every_s=0.01,
            )
        service.wait_for("vod processed", vod_id=video_id, timeout_s=100)
    service.wait_for("vod processed", vod_id=own, timeout_s=100)
    assert service.terminate() == 0

    labels = labels_of(home.folder(own) / "video.mp4")
    assert labels["title"] == "The same title"
    assert [title for *_, title in labels["chapters"]] == ["Celeste", "Hollow Knight; a=b"]
    for video_id in foreign:
        title = videos[video_id]
        manifest = check_kept(home, video_id)
        assert {stream["kind"]: stream["codec"] for stream in manifest["streams"]} == {
            "video": "h264",
            "audio": {"MP3": "mp3", "AC-3": "ac3"}[title],
        }
        check_same_packets(home, video_id, "chunked", tmp_path)
        film = home.folder(video_id) / "video.mp4"
        ffmpeg("-i", film, "-f", "null", "-")
        assert labels_of(film) == {**labels, "comment": f"https://www.twitch.tv/videos/{video_id}"}
        body = film.read_bytes()
        assert body.index(b"moov") < body.index(b"mdat")


def labels_of(path: Path) -> dict[str, Any]:
    """What a film says about itself; times of chapters in seconds."""
    chapters = [(round(start, 1), round(end, 1), title) for start, end, title in read_chapters(path)]
    return {**read_labels(path), "chapters": chapters}


def test_the_way_round_keeps_to_the_quality(home_of: HomeOf, tmp_path: Path) -> None:
    video = a_video(TALL, "Small and foreign", FOREIGN["MP3"])
    home = home_of(video)
    service = home.start(VOD_QUALITY="160p30")
    service.wait_for("format is left to another tool", vod_id=TALL)
    service.wait_for("vod processed", vod_id=TALL)
    assert service.terminate() == 0

    assert home.manifest(TALL)["rendition"] == "160p30"
    check_same_packets(home, TALL, "160p30", tmp_path)


def test_when_the_way_round_is_closed_too_nothing_is_claimed(home_of: HomeOf) -> None:
    video = a_video(TALL, "Foreign and gone", FOREIGN["AC-3"])
    home = home_of(dataclasses.replace(video, missing_segments=frozenset({2})))
    # Its own pauses between attempts add up to two minutes.
    hasty = "--retry-sleep http:0 --retry-sleep fragment:0"
    service = home.start(DOWNLOAD_MAX_ATTEMPTS="1", YTDLP_ARGS=f"{home.standin.env()['YTDLP_ARGS']} {hasty}")
    service.wait_for("format is left to another tool", vod_id=TALL)
    service.wait_for("vod parked", vod_id=TALL, timeout_s=100)
    assert service.terminate() == 0

    row = home.vod(TALL)
    assert (row["download_state"], row["error_code"], row["processed"]) == ("parked", "incomplete", 0)
    assert row["processing_error"]
    assert (row["downloaded_path"], row["completeness"]) == (None, None)
    assert home.folders() == []
