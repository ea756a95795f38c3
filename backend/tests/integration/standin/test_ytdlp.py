"""The proof that the stand-in is real enough: yt-dlp as its makers ship it, in a child process."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import pytest

from support.standin import run_ytdlp
from vodkeep_standin.faults.gql_errors import GqlErrors
from vodkeep_standin.scenario import ids, titles
from vodkeep_standin.server import Standin


def resolve(standin: Standin, video_id: str) -> dict[str, Any]:
    done = run_ytdlp(standin, "-J", f"https://www.twitch.tv/videos/{video_id}")
    assert done.returncode == 0, done.stderr
    assert standin.refused == []
    resolved: dict[str, Any] = json.loads(done.stdout)
    return resolved


def count_packets(path: Path) -> dict[str, int]:
    counts = {"video": 0, "audio": 0}
    with av.open(str(path), mode="r") as container:
        for packet in container.demux():
            if packet.size:
                counts[packet.stream.type] += 1
    return counts


def test_plain_vod_resolves_with_formats_chapters_and_storyboard(standin: Standin) -> None:
    found = resolve(standin, ids.PLAIN)
    assert (found["id"], found["title"], found["duration"]) == (f"v{ids.PLAIN}", "A plain evening", 30)
    assert (found["uploader"], found["uploader_id"]) == ("Lumen_Plays", ids.CHANNEL)
    assert found["live_status"] == "was_live"
    assert [(chapter["start_time"], chapter["title"]) for chapter in found["chapters"]] == [
        (0, "Celeste"),
        (10, "Hollow Knight"),
        (22, "Just Chatting"),
    ]
    assert [entry["format_id"] for entry in found["formats"]] == ["sb0", "Audio_Only", "160p30", "360p30"]
    best = found["formats"][-1]
    assert (best["width"], best["height"], best["fps"]) == (640, 360, 30.0)
    assert best["vcodec"].startswith("avc1.")
    assert best["url"].startswith(standin.http_url)


def test_fmp4_vod_resolves_as_hevc(standin: Standin) -> None:
    assert resolve(standin, ids.FMP4)["formats"][-1]["vcodec"].startswith("hvc1.")


def test_recording_vod_is_live_until_it_is_finished(standin: Standin) -> None:
    assert resolve(standin, ids.RECORDING)["is_live"] is True
    standin.finish(ids.RECORDING)
    assert resolve(standin, ids.RECORDING)["live_status"] == "was_live"


def test_muted_vod_leads_to_the_muted_playlist(standin: Standin) -> None:
    url = resolve(standin, ids.MUTED)["formats"][-1]["url"]
    assert re.search(r"/chunked/index-muted-[A-Z]{10}\.m3u8$", url)


def test_hostile_title_arrives_unchanged(standin: Standin) -> None:
    assert resolve(standin, ids.HOSTILE[4])["title"] == titles.RIGHT_TO_LEFT


@pytest.mark.parametrize(
    ("video_id", "words"),
    [
        pytest.param(ids.SUB_ONLY, "access to this subscriber-only content", id="subscribers only"),
        pytest.param(ids.DELETED, f"Video {ids.DELETED} does not exist", id="deleted"),
        pytest.param("99", "Video 99 does not exist", id="never existed"),
    ],
)
def test_unavailable_vods_fail_with_the_known_sentence(standin: Standin, video_id: str, words: str) -> None:
    done = run_ytdlp(standin, "-J", f"https://www.twitch.tv/videos/{video_id}")
    assert done.returncode == 1
    assert words in done.stderr


@pytest.mark.parametrize("video_id", [ids.PLAIN, ids.FMP4], ids=["ts", "fmp4"])
def test_complete_download_has_every_packet(standin: Standin, tmp_path: Path, video_id: str) -> None:
    done = run_ytdlp(
        standin,
        "-f",
        "b",
        "-o",
        "out.%(ext)s",
        "--ffmpeg-location",
        imageio_ffmpeg.get_ffmpeg_exe(),
        f"https://www.twitch.tv/videos/{video_id}",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    media = standin.media(video_id)
    counts = count_packets(tmp_path / "out.mp4")
    assert counts["video"] == media.video_packets
    assert abs(counts["audio"] - media.audio_packets) <= 2  # Encoder padding may be cut off in MP4.
    assert standin.refused == []


def test_missing_segment_ends_with_success_and_a_hole(standin: Standin, tmp_path: Path) -> None:
    """What the capture engine must never believe: exit code 0 with frames gone."""
    done = run_ytdlp(
        standin,
        "-f",
        "b",
        "-o",
        "out.%(ext)s",
        "--fixup",
        "never",
        f"https://www.twitch.tv/videos/{ids.MISSING_SEGMENT}",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert count_packets(tmp_path / "out.mp4")["video"] == standin.media(ids.MISSING_SEGMENT).video_packets - 60


def test_gql_service_fault_looks_like_a_deletion_to_ytdlp(standin: Standin) -> None:
    standin.faults.add(GqlErrors(), operation="VideoMetadata")
    done = run_ytdlp(standin, "-J", f"https://www.twitch.tv/videos/{ids.PLAIN}")
    assert done.returncode == 1
    assert "does not exist" in done.stderr
