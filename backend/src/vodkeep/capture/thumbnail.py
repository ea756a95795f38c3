"""The picture that stands for an item: the one Twitch shows, else a frame of our own."""

from __future__ import annotations

from pathlib import Path

import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame

from vodkeep.capture.film import open_film
from vodkeep.capture.mp4_reader import MovieDamagedError

MAX_BYTES = 10 * 1024 * 1024
_JPEG_MAGIC = b"\xff\xd8\xff"
_MOST_WIDTH = 1280
_QUANTIZER = "4"  # Of MJPEG: from 2, the best, to 31.
# A decoder that has not shown anything after so many packets never will.
_MOST_PACKETS = 300


def is_jpeg(body: bytes) -> bool:
    """Whether the bytes begin like a JPEG file (ITU-T T.81 annex B)."""
    return body.startswith(_JPEG_MAGIC)


def grab_frame(video: Path, target: Path, at_s: float) -> bool:
    """Write the key frame at or before ``at_s`` seconds of ``video`` as the JPEG ``target``; blocking.

    False, and no file, when there is none (a broadcast of sound), or when it cannot be decoded or written.
    """
    try:
        with open_film(video) as film:
            for excerpt in film.excerpts([at_s], _MOST_PACKETS):
                with film.play(excerpt) as container:
                    frame = _first_frame(container)
                    if frame is not None:
                        _fit(frame).save(target, qmin=_QUANTIZER, qmax=_QUANTIZER)
                        return True
    except (MovieDamagedError, av.error.FFmpegError, OSError):
        target.unlink(missing_ok=True)
    return False


def _first_frame(container: InputContainer) -> VideoFrame | None:
    """The first picture that can be decoded."""
    for stream in container.streams.video[:1]:
        # One frame is to come out, and not one for each processor to be worked on.
        stream.codec_context.thread_count = 1
        return next(container.decode(stream), None)
    return None


def _fit(frame: VideoFrame) -> VideoFrame:
    """The frame in the size and the colours of a thumbnail; both sides are even, as the format needs them."""
    width = min(_MOST_WIDTH, frame.width) // 2 * 2
    height = max(2, round(frame.height * width / frame.width) // 2 * 2)
    return frame.reformat(width=width, height=height, format="yuvj420p")
