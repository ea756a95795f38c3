"""Captures one broadcast with Vodkeep's engine, from the address of its media playlist.

``python ours.py PLAYLIST_URL FOLDER CONNECTIONS``

What the service does around it (queue, database, Twitch's own interfaces) is not there, as it is not with the others,
who get the same address: this measures the engine, from the playlist to the proven file in its place. Everything the
engine promises is in it: the journal, the checks of each segment, the verification of the file with its checksum, the
thumbnail.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import anyio

from vodkeep.capture.download import media_pool
from vodkeep.capture.model import Progress, ResolvedVod
from vodkeep.capture.rate import RateLimiter
from vodkeep.capture.service import CaptureService, CaptureTools
from vodkeep.capture.whole import WantedFilm
from vodkeep.clock import SystemClock
from vodkeep.telemetry.log import configure_logging, get_logger

_VIDEO_ID = "1000000001"


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


def build(data_dir: Path, url: str, connections: int) -> CaptureService:
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


async def capture(url: str, target: Path, connections: int) -> None:
    """Capture the broadcast at ``url`` into ``target``, as the service does: capture, place, tidy."""
    service = build(target, url, connections)
    folder = service.work_folder(_VIDEO_ID)

    def ignore(_: Progress) -> None:
        pass

    with folder.hold():
        captured = await service.capture(folder, on_progress=ignore)
        if captured.completeness != 1.0:
            raise RuntimeError(f"The capture is not whole: {captured.completeness:.3f}")
        captured.output.rename(target / "kept")
    folder.remove()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("connections", type=int)
    given = parser.parse_args()
    configure_logging("warning", stream=sys.stderr)
    anyio.run(capture, given.url, given.folder, given.connections)


if __name__ == "__main__":
    main()
