"""Thumbnails and storyboards."""

from __future__ import annotations

import json
import struct
import zlib

from vodkeep_standin.edge.endpoints import not_found
from vodkeep_standin.scenario.model import Video
from vodkeep_standin.serving.call import Call, FileBody, Reply, text_reply
from vodkeep_standin.serving.routes import EDGE_HOSTS, Route, route
from vodkeep_standin.world import World


def thumbnail_url(world: World, video: Video, width: str, height: str) -> str:
    """Address of a thumbnail; a running broadcast has only the grey picture Twitch shows while processing.

    yt-dlp concludes from that picture's name that the broadcast is still live.
    """
    if world.is_recording(video):
        return f"{world.base_url}/edge/_404/404_processing_{width}x{height}.png"
    return f"{world.base_url}/edge/thumbs/{video.id}/thumb0-{width}x{height}.jpg"


def storyboard_url(world: World, video: Video) -> str | None:
    """Address of the storyboard's description; none while recording."""
    if world.is_recording(video):
        return None
    return f"{world.base_url}/edge/storyboards/{video.id}-info.json"


async def thumbnail(call: Call) -> Reply:
    """A real JPEG: 640x360, or 320x180 when at most that is asked for."""
    video = call.world.scenario.video(call.params["video"])
    if video is None:
        return not_found()
    name = "thumb-320.jpg" if 0 < int(call.params["width"]) <= 320 else "thumb-640.jpg"
    return _picture(call, video, name)


async def processing_picture(call: Call) -> Reply:
    """A plain grey PNG of the size asked for."""
    width, height = (min(1920, max(1, int(call.params[side]))) for side in ("width", "height"))
    return Reply(200, grey_png(width, height), {"Content-Type": "image/png"})


async def storyboard_info(call: Call) -> Reply:
    """The sheets of a storyboard, as the seek bar reads them."""
    video = call.world.scenario.video(call.params["video"])
    if video is None:
        return not_found()
    sheet = {
        "count": 10,
        "width": 220,
        "rows": 2,
        "images": [f"{video.id}-low-0.jpg"],
        "interval": max(1, round(call.world.duration_s(video) / 10)),
        "quality": "low",
        "cols": 5,
        "height": 124,
    }
    return text_reply(json.dumps([sheet]), "application/json")


async def storyboard_sheet(call: Call) -> Reply:
    """The one sheet of a storyboard."""
    video = call.world.scenario.video(call.params["video"])
    return not_found() if video is None else _picture(call, video, "storyboard.jpg")


def _picture(call: Call, video: Video, name: str) -> Reply:
    path = call.world.media_of(video).path(name)
    return Reply(200, FileBody(path, 0, path.stat().st_size), {"Content-Type": "image/jpeg"})


def grey_png(width: int, height: int) -> bytes:
    """An 8-bit greyscale PNG of one colour (PNG specification, third edition)."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = (b"\0" + b"\x60" * width) * height
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


_SIZE = r"{width:[0-9]+}x{height:[0-9]+}"
ROUTES: list[Route] = [
    route("GET", EDGE_HOSTS, f"/edge/thumbs/{{video}}/thumb0-{_SIZE}.jpg", thumbnail),
    route("GET", EDGE_HOSTS, f"/edge/_404/404_processing_{_SIZE}.png", processing_picture),
    route("GET", EDGE_HOSTS, "/edge/storyboards/{video:[^/-]+}-info.json", storyboard_info),
    route("GET", EDGE_HOSTS, "/edge/storyboards/{video:[^/-]+}-low-0.jpg", storyboard_sheet),
]
