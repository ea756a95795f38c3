"""The quality a person asks for, as the settings write it: ``best``, ``audio``, ``1080p60``, ``720p``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_PICTURE = re.compile(r"(?P<height>[1-9][0-9]{1,3})p(?P<fps>[1-9][0-9]{0,2})?")
EXPECTED = "must be best, audio, or a height such as 720p, 1080p60 or 480p30"


class Kind(StrEnum):
    """What is asked for."""

    BEST = "best"
    AUDIO = "audio"
    PICTURE = "picture"


@dataclass(frozen=True, slots=True)
class Quality:
    """One wish."""

    kind: Kind
    height: int = 0  # lines; 0 unless a picture is named
    fps: int | None = None  # frames per second; None takes the most there are at this height

    def __str__(self) -> str:
        if self.kind is not Kind.PICTURE:
            return self.kind.value
        return f"{self.height}p{self.fps if self.fps is not None else ''}"


BEST = Quality(Kind.BEST)
AUDIO = Quality(Kind.AUDIO)


def parse_quality(text: str) -> Quality:
    """Read a wish in any case; raises ``ValueError`` with the rest of a sentence ("must ...")."""
    word = text.strip().lower()
    if word in {Kind.BEST, Kind.AUDIO}:
        return Quality(Kind(word))
    found = _PICTURE.fullmatch(word)
    if found is None:
        raise ValueError(EXPECTED)
    return Quality(Kind.PICTURE, int(found["height"]), int(found["fps"]) if found["fps"] else None)


@dataclass(frozen=True, slots=True)
class Qualities:
    """The wishes of a whole service."""

    everywhere: Quality = BEST
    by_channel: tuple[tuple[str, Quality], ...] = ()  # (login, wish), each login once

    def of(self, channel: str) -> Quality:
        """The wish for the channel with this login."""
        return dict(self.by_channel).get(channel, self.everywhere)
