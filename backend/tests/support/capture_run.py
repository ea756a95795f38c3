"""The capture engine alone, from the address of a playlist: in this process, or in a child that can be killed.

``python -m support.capture_run PLAYLIST_URL DATA_DIR CONNECTIONS`` captures `VIDEO_ID` and prints each phase as it
begins, then ``done``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import urllib3

from support.warm import Process, start
from vodkeep.capture.download import media_pool
from vodkeep.capture.model import Progress, ResolvedVod
from vodkeep.capture.patience import Patience
from vodkeep.capture.resolve import Resolver
from vodkeep.capture.service import Captured, CaptureService, CaptureTools, DownloadWhole
from vodkeep.capture.space import RESERVE_BYTES
from vodkeep.capture.whole import WantedFilm
from vodkeep.clock import SystemClock
from vodkeep.errors import PermanentError
from vodkeep.rate import RateLimiter
from vodkeep.telemetry.log import get_logger

VIDEO_ID = "2301"


class KnownPlaylist:
    """A resolver that has the answer already, or knows that there is none any more."""

    def __init__(
        self,
        url: str,
        *,
        format_id: str = "chunked",
        gone: PermanentError | None = None,
        other_urls: tuple[str, ...] = (),
    ) -> None:
        self._url = url
        self._other_urls = other_urls
        self._format_id = format_id
        self._gone = gone

    async def resolve(self, video_id: str, rendition: str | None = None) -> ResolvedVod:
        """What Twitch would have said."""
        if self._gone is not None:
            raise self._gone
        return ResolvedVod(
            video_id=video_id,
            channel="lumen_plays",
            channel_name="Lumen_Plays",
            title="A broadcast",
            date=None,
            duration_s=None,
            still_recording=False,
            playlist_url=self._url,
            format_id=self._format_id,
            bitrate_bps=100_000,
            thumbnail_url=None,
            chapters=(),
            resolver="test",
            other_urls=self._other_urls,
        )


def service_of(
    data_dir: Path,
    resolver: Resolver,
    *,
    connections: int = 4,
    rate: RateLimiter | None = None,
    patience: Patience = Patience(),  # noqa: B008 - a value that never changes
    pool: urllib3.PoolManager | None = None,
    download_whole: DownloadWhole | None = None,
    reserve_bytes: int = RESERVE_BYTES,
) -> CaptureService:
    """The engine as the service builds it; without ``download_whole`` it has to do all by itself."""

    async def no_other_way(wanted: WantedFilm, target: Path, on_progress: Callable[[Progress], None]) -> None:
        raise AssertionError(f"the engine gave {wanted.video_id} up")

    tools = CaptureTools(
        resolver=resolver,
        download_whole=download_whole or no_other_way,
        pool=pool or media_pool(max(16, connections)),
        rate=rate or RateLimiter(None),
        connections=connections,
        user_agent="vodkeep/test",
        clock=SystemClock(),
        log=get_logger("vod_download"),
        patience=patience,
        reserve_bytes=reserve_bytes,
    )
    return CaptureService(data_dir, tools)


async def capture(
    service: CaptureService,
    *,
    video_id: str = VIDEO_ID,
    accept_holes: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Captured:
    """Capture once; the finished files stay in the work folder."""
    folder = service.work_folder(video_id)
    with folder.hold():
        return await service.capture(folder, on_progress=on_progress, accept_holes=accept_holes)


def start_child(url: str, data_dir: Path, *, connections: int) -> Process:
    """A capture in a process of its own; its standard output says how far it is."""
    return start(
        *("support.capture_run", url, str(data_dir), str(connections)),
        env={"PATH": os.environ.get("PATH", "")},
        cwd=data_dir.parent,
        stdout=subprocess.PIPE,
        stderr=2,
    )


def _main(url: str, data_dir: Path, connections: int) -> None:
    said: list[str] = []

    def say(progress: Progress) -> None:
        if progress.phase not in said:
            said.append(progress.phase)
            print(progress.phase, flush=True)  # noqa: T201

    anyio.run(lambda: capture(service_of(data_dir, KnownPlaylist(url), connections=connections), on_progress=say))
    print("done", flush=True)  # noqa: T201


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
