"""The capture engine alone, for measurements: its resolver knows the answer, and there is no other way round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vodkeep.capture.download import media_pool
from vodkeep.capture.model import Progress, ResolvedVod
from vodkeep.capture.service import CaptureService, CaptureTools
from vodkeep.capture.whole import WantedFilm
from vodkeep.clock import SystemClock
from vodkeep.rate import RateLimiter
from vodkeep.telemetry.log import get_logger

VIDEO_ID = "1000000001"


class KnownPlaylist:
    """A resolver that has the answer already."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def resolve(self, video_id: str, rendition: str | None = None) -> ResolvedVod:
        """The same as Twitch would have said."""
        return ResolvedVod(
            video_id=video_id,
            channel="bench",
            channel_name="Bench",
            title="A broadcast",
            date=None,
            duration_s=None,
            still_recording=False,
            playlist_url=self._url,
            format_id="chunked",
            bitrate_bps=None,
            thumbnail_url=None,
            chapters=(),
            resolver="bench",
        )


def build_capture(data_dir: Path, url: str, connections: int) -> CaptureService:
    """The engine as the service builds it."""

    async def no_other_way(wanted: WantedFilm, target: Path, on_progress: Callable[[Progress], None]) -> None:
        raise RuntimeError(f"The engine gave {wanted.video_id} up.")

    tools = CaptureTools(
        resolver=KnownPlaylist(url),
        download_whole=no_other_way,
        pool=media_pool(connections),
        rate=RateLimiter(None),
        connections=connections,
        user_agent="vodkeep/bench",
        clock=SystemClock(),
        log=get_logger("vod_download"),
    )
    return CaptureService(data_dir, tools)
