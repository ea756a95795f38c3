"""The picture that stands for an item: the one Twitch shows, else a frame of our own."""

from __future__ import annotations

from pathlib import Path

import anyio

from vodkeep.capture.child import run_child
from vodkeep.errors import VodkeepError

MAX_BYTES = 10 * 1024 * 1024
_JPEG_MAGIC = b"\xff\xd8\xff"
_DEADLINE_S = 60.0


def is_jpeg(body: bytes) -> bool:
    """Whether the bytes begin like a JPEG file (ITU-T T.81 annex B)."""
    return body.startswith(_JPEG_MAGIC)


async def grab_frame(ffmpeg: str, video: Path, target: Path, at_s: float) -> bool:
    """Write the frame at ``at_s`` seconds of ``video`` as a JPEG; False when there is none (a broadcast of sound)."""
    try:
        result = await run_child(
            [
                ffmpeg,
                *("-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-ss", f"{at_s:.3f}", "-i", str(video)),
                *("-map", "0:v:0", "-frames:v", "1", "-vf", "scale='min(1280,iw)':-2", "-q:v", "4", "-f", "image2"),
                *("-update", "1", str(target)),
            ],
            deadline_s=_DEADLINE_S,
        )
    except VodkeepError:
        return False
    return result.returncode == 0 and await anyio.Path(target).exists()
