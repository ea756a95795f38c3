"""How much of a video can be seen while it is still being recorded."""

from __future__ import annotations

from dataclasses import dataclass

from vodkeep_standin.media.model import Rendition


@dataclass(frozen=True, slots=True)
class Window:
    """The visible part of a rendition."""

    segments: int
    """Number of segments from the beginning."""
    duration_s: float
    ended: bool
    """Whether the playlist carries ENDLIST."""


def visible_window(rendition: Rendition, elapsed_s: float, *, ended: bool) -> Window:
    """The segments that are complete after ``elapsed_s``; never fewer than one, as usher lists no empty VOD."""
    count, duration_s = 0, 0.0
    for segment in rendition.segments:
        if count and duration_s + segment.duration_s > elapsed_s + 0.001:
            break
        count += 1
        duration_s += segment.duration_s
    return Window(count, duration_s, ended)
