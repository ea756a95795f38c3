"""What a piece of media should be; the cache key is a hash of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

GENERATION = 3
"""Raised whenever the way media is built changes, so that old caches are not used."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the timeline in whole seconds."""

    start_s: int
    duration_s: int

    def overlaps(self, start_s: float, end_s: float) -> bool:
        """Whether the span shares time with ``start_s``..``end_s`` (more than a millisecond)."""
        return self.start_s < end_s - 0.001 and start_s < self.start_s + self.duration_s - 0.001


@dataclass(frozen=True, slots=True)
class Recipe:
    """Media of one broadcast: a test picture with running timecode and a beeping tone.

    Each entry of ``runs_s`` (seconds) is encoded on its own, so timestamps start again with every run, as
    they do when a streamer's encoder reconnects.
    """

    runs_s: tuple[int, ...] = (30,)
    segment_s: int = 2
    """Twitch cuts at 10 s; short segments make short test media behave like long broadcasts."""
    hevc: bool = False
    """fMP4 with HEVC instead of MPEG-TS with H.264."""
    width: int = 640
    height: int = 360
    fps: int = 30
    hue_degrees: int = 0
    """Colour of the picture, to tell broadcasts apart by eye."""
    tone_hz: int = 440
    muted: tuple[Span, ...] = ()
    """Stretches whose sound is silent."""
    bitrate_kbps: int | None = None
    """Constant bit rate of the best quality, padded; ``None`` lets the encoder take what it needs."""

    @property
    def duration_s(self) -> int:
        """Length of the whole timeline in seconds."""
        return sum(self.runs_s)

    @property
    def key(self) -> str:
        """Name of the media's folder in the cache."""
        canonical = json.dumps([GENERATION, asdict(self)], sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:24]
