"""Built media as it lies in the cache: files, durations, packet counts."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Segment(msgspec.Struct, frozen=True):
    """One media segment of a rendition."""

    name: str
    """File name, e.g. ``7.ts``."""
    duration_s: float
    size_bytes: int
    run: int
    """Index of the run it belongs to; a change of run is a discontinuity."""
    video_packets: int
    audio_packets: int


class Rendition(msgspec.Struct, frozen=True):
    """One quality."""

    name: str
    """Folder and group id: ``chunked`` (the source), ``160p30``, ``audio_only``."""
    label: str
    """What Twitch shows: ``360p30``."""
    codecs: str
    bandwidth: int
    """Peak bits per second."""
    width: int
    height: int
    fps: float
    """All three are 0 without a picture."""
    segments: tuple[Segment, ...]
    init_names: tuple[str, ...] = ()
    """Init section per run (fMP4 only)."""

    @property
    def duration_s(self) -> float:
        """Sum of the segments' durations."""
        return sum(segment.duration_s for segment in self.segments)


class Media(msgspec.Struct, frozen=True):
    """Everything built from one recipe."""

    folder: str
    renditions: tuple[Rendition, ...]

    @property
    def source(self) -> Rendition:
        """The best quality."""
        return self.renditions[0]

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.source.duration_s

    def rendition(self, name: str) -> Rendition | None:
        """The quality of this name."""
        return next((rendition for rendition in self.renditions if rendition.name == name), None)

    def path(self, *parts: str) -> Path:
        """A file of this media."""
        return Path(self.folder).joinpath(*parts)

    @property
    def video_packets(self) -> int:
        """Video packets of the best quality; what a complete copy must contain."""
        return sum(segment.video_packets for segment in self.source.segments)

    @property
    def audio_packets(self) -> int:
        """Audio packets of the best quality."""
        return sum(segment.audio_packets for segment in self.source.segments)
