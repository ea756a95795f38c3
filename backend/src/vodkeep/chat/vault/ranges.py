"""Which of Twitch's emotes a message has, from its emote ranges (``25:0-4,12-16/1902:6-10``, in code points)."""

from __future__ import annotations

import re

_REF = re.compile(r"[A-Za-z0-9_]{1,64}")
_RANGE = re.compile(r"([0-9]{1,5})-([0-9]{1,5})")


def emotes_in(ranges: str, body: str) -> dict[str, str]:
    """What was typed for each emote, by its id. Nothing raises: what makes no sense is left out."""
    found: dict[str, str] = {}
    for part in ranges.split("/"):
        ref, _, places = part.partition(":")
        place = _RANGE.match(places)
        if place is None or _REF.fullmatch(ref) is None:
            continue
        typed = body[int(place[1]) : int(place[2]) + 1]
        if 1 <= len(typed) <= 100:
            found[ref] = typed
    return found
