"""The way round our own fetcher: real yt-dlp and ffmpeg against the pretended Twitch."""

from __future__ import annotations

import os
import signal
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import anyio
import anyio.to_thread
import av
import pytest

from support.home import count_packets, scenario_with
from support.mp4_media import read_chapters
from support.standin import StandinFactory
from vodkeep.capture.model import Chapter, Phase, Progress
from vodkeep.capture.mp4_labels import Movie
from vodkeep.capture.resolve import find_installed_ytdlp
from vodkeep.capture.tools import find_ffmpeg
from vodkeep.capture.verify import read_facts, sample_decode
from vodkeep.capture.whole import WantedFilm, download_whole
from vodkeep.errors import (
    Incomplete,
    NetworkError,
    PermanentError,
    RateLimited,
    ServerError,
    TransientError,
    VodkeepError,
)
from vodkeep.telemetry.log import get_logger
from vodkeep_standin.faults.garbage import Garbage, GarbageForm
from vodkeep_standin.faults.reset import Reset
from vodkeep_standin.faults.stall import Stall
from vodkeep_standin.faults.status import Status
from vodkeep_standin.media.recipe import Recipe
from vodkeep_standin.scenario import ids
from vodkeep_standin.server import Standin

pytestmark = pytest.mark.anyio


LABELED = Movie(
    title="A title = with;\nall # that \\ matters",
    artist="Lumen",
    date="2026-11-01",
    comment="a=b",
    encoder="not the one that wrote it",
    chapters=(
        Chapter(0, 7_000_000, "One; two = three"),
        Chapter(7_000_000, 99_000_000, "Zwei # \\ ✓"),
        Chapter(99_000_000, 100_000_000, "behind the end"),
    ),
)


class Download:
    """One download into an own folder."""

    def __init__(self, standin: Standin, folder: Path) -> None:
        self.standin = standin
        self.target = folder / "item" / "video.mp4"
        self.target.parent.mkdir()
        self.seen: list[Progress] = []
        self.moved = anyio.Event()

    def note(self, progress: Progress) -> None:
        self.seen.append(progress)
        if progress.segments_done:
            self.moved.set()

    async def run(self, video_id: str, *args: str, movie: Movie = Movie(), rate_limit: int | None = None) -> None:  # noqa: B008
        ffmpeg = find_ffmpeg(None)
        assert ffmpeg is not None
        media = self.standin.media(video_id)
        await download_whole(
            find_installed_ytdlp(),
            [
                *self.standin.ytdlp_args(),
                "--no-cache-dir",
                "--retry-sleep",
                "http:0",
                "--retry-sleep",
                "fragment:0",
                *args,
            ],
            WantedFilm(
                video_id,
                movie=movie,
                duration_us=round(media.duration_s * 1e6),
                in_fragments=bool(media.source.init_names),
            ),
            self.target,
            ffmpeg=ffmpeg.path,
            on_progress=self.note,
            log=get_logger("vod_download"),
            rate_limit=rate_limit,
        )

    def files(self) -> list[str]:
        return sorted(path.name for path in self.target.parent.iterdir())


@pytest.fixture
def download(standin: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Download:
    monkeypatch.setenv("SSL_CERT_FILE", str(standin.ca_path))
    return Download(standin, tmp_path)


@pytest.mark.parametrize("video_id", [ids.PLAIN, ids.FMP4, ids.DISCONTINUITY], ids=["ts", "fmp4", "discontinuity"])
async def test_every_packet_arrives(download: Download, video_id: str) -> None:
    await download.run(video_id, movie=LABELED)

    media = download.standin.media(video_id)
    video, audio = count_packets(download.target)
    assert video == media.video_packets
    assert abs(audio - media.audio_packets) <= 2
    facts = read_facts(download.target)
    assert facts.in_order
    assert abs(facts.duration_us / 1e6 - media.duration_s) < 0.2
    assert sample_decode(download.target, (0.0, 10.0, 19.0)) == 0
    with av.open(str(download.target)) as container:
        labels = {key: container.metadata[key] for key in ("title", "artist", "date", "comment")}
        assert labels == {"title": LABELED.title, "artist": "Lumen", "date": "2026-11-01", "comment": "a=b"}
        assert container.streams.video[0].codec_context.codec_tag in ("avc1", "hvc1")
    assert read_chapters(download.target) == [
        (0, 7, "One; two = three"),
        (7, pytest.approx(media.duration_s, abs=0.05), "Zwei # \\ ✓"),
    ]
    body = download.target.read_bytes()
    assert body.index(b"moov") < body.index(b"mdat")
    assert download.files() == ["video.mp4"]
    fetching = [progress for progress in download.seen if progress.phase is Phase.FETCHING]
    assert fetching[-1].segments_total == len(media.source.segments)
    assert max(progress.segments_done for progress in fetching) > 1


async def test_a_missing_segment_is_an_error_and_no_file(download: Download) -> None:
    with pytest.raises(Incomplete, match="HTTP Error 404"):
        await download.run(ids.MISSING_SEGMENT)
    assert download.files() == []


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        pytest.param(Status(status=503), ServerError, id="503"),
        pytest.param(Status(status=429), RateLimited, id="429"),
        pytest.param(Status(status=404), Incomplete, id="404"),
        pytest.param(Reset(), NetworkError, id="reset"),
    ],
)
async def test_a_failing_edge_has_its_own_cause_and_bounded_requests(
    download: Download, fault: Status | Reset, error: type[VodkeepError]
) -> None:
    download.standin.faults.add(fault, path="/edge/*.ts")
    with pytest.raises(error):
        await download.run(ids.PLAIN, "--retries", "2", "--fragment-retries", "2", "--concurrent-fragments", "1")
    asked = Counter(entry.path for entry in download.standin.requests.entries("/edge/*.ts"))
    assert max(asked.values()) == 3
    assert download.files() == []


@pytest.mark.parametrize("form", get_args(GarbageForm)[:3])
@pytest.mark.parametrize(
    ("video_id", "path"),
    [(ids.PLAIN, "0.ts"), (ids.PLAIN, "5.ts"), (ids.PLAIN, "14.ts"), (ids.FMP4, "5.mp4")],
    ids=["first", "middle", "last", "fragment"],
)
async def test_a_segment_of_garbage_never_becomes_a_whole_file(
    download: Download, form: GarbageForm, video_id: str, path: str
) -> None:
    """yt-dlp calls it a success."""
    download.standin.faults.add(Garbage(form=form), path=f"/edge/*/{path}")
    with pytest.raises(TransientError):
        await download.run(video_id)
    assert download.files() == []


async def test_permanent_causes_are_those_of_resolving(download: Download) -> None:
    with pytest.raises(PermanentError) as caught:
        await download.run(ids.SUB_ONLY)
    assert caught.value.code == "sub_only"


def children() -> list[int]:
    """Processes whose parent is this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]) == os.getpid():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


async def test_a_killed_child_leaves_nothing_under_the_final_name(download: Download) -> None:
    download.standin.faults.add(Stall(), path="/edge/*/9.ts")
    before = set(children())

    async def kill() -> None:
        await download.moved.wait()
        (child,) = set(children()) - before
        os.killpg(child, signal.SIGKILL)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(kill)
        with pytest.raises(TransientError) as caught:
            await download.run(ids.PLAIN)
    assert caught.value.code == "tool_failed"
    assert download.files() == []


async def test_cancelling_ends_the_child_and_clears_away(download: Download) -> None:
    download.standin.faults.add(Stall(), path="/edge/*/9.ts")
    before = set(children())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(download.run, ids.PLAIN))
        await download.moved.wait()
        tasks.cancel_scope.cancel()
    assert set(children()) <= before
    assert download.files() == []


async def test_what_a_killed_run_left_is_not_taken_up(download: Download) -> None:
    """yt-dlp was seen to resume a killed download with a segment twice in the file."""
    left = download.target.parent / "video.mp4.whole"
    left.mkdir()
    (left / "media.mp4.part").write_bytes(b"x" * 10_000)
    (left / "media.mp4.ytdl").write_text('{"downloader": {"current_fragment": {"index": 3}}, "extra_state": {}}')
    (left / "finished.mp4").write_bytes(b"x")
    await download.run(ids.PLAIN)
    assert count_packets(download.target)[0] == download.standin.media(ids.PLAIN).video_packets


async def test_the_rate_limit_is_one_for_all(download: Download) -> None:
    await download.run(ids.PLAIN, rate_limit=2_000_000)
    # Nearly 6 MB; the first second is free because yt-dlp counts per segment.
    edge = [entry.time for entry in download.standin.requests.entries("/edge/*.ts")]
    assert (max(edge) - min(edge)).total_seconds() > 2.0


async def test_short_runs_keep_the_length_of_the_broadcast(
    standin_of: StandinFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timestamps that start anew by less than what ffmpeg takes for a new start by itself."""
    plain = scenario_with(ids.PLAIN).videos[ids.PLAIN]
    standin = standin_of(scenario_with(replace(plain, recipe=Recipe(runs_s=(4, 6, 4)), chapters=())), speed=0)
    monkeypatch.setenv("SSL_CERT_FILE", str(standin.ca_path))
    download = Download(standin, tmp_path)

    await download.run(ids.PLAIN)

    facts = read_facts(download.target)
    assert facts.in_order
    assert facts.packets.video == standin.media(ids.PLAIN).video_packets
    assert abs(facts.duration_us / 1e6 - 14) < 0.2
