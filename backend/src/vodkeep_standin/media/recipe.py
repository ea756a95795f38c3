"""What a piece of media should be; the cache key is a hash of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

GENERATION = 5
"""Raised whenever the way media is built changes, so that old caches are not used."""

Codec = Literal["h264", "hevc", "av1"]
Sound = Literal["aac", "opus", "mp3", "ac3"]


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
    codec: Codec = "h264"
    """H.264 comes in MPEG-TS unless ``fragmented``; HEVC and AV1 always come in fMP4."""
    sound: Sound = "aac"
    """MP3 and AC-3 are what Twitch never sends, but MPEG-TS can carry."""
    fragmented: bool = False
    """fMP4 instead of MPEG-TS for a codec that fits both."""
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
    def in_fmp4(self) -> bool:
        """Whether segments are movie fragments, which need an init section."""
        return self.fragmented or self.codec != "h264" or self.sound == "opus"

    @property
    def duration_s(self) -> int:
        """Length of the whole timeline in seconds."""
        return sum(self.runs_s)

    @property
    def key(self) -> str:
        """Name of the media's folder in the cache."""
        canonical = json.dumps([GENERATION, asdict(self)], sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:24]
