"""Chooses a rendition among those that yt-dlp lists; docs/capture.md has the rule for people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from vodkeep.quality import AUDIO, Kind, Quality

# 59.94 is what encoders mean by 60, and a source that says 60 was measured at 61.
_FPS_SLACK = 2.0
_LARGEST_NUMBER = 10**9
_NAMED = re.compile(r"(?i)(?:^|[^0-9])([1-9][0-9]{1,3})p([1-9][0-9]{0,2})?(?:$|[^0-9])")


@dataclass(frozen=True, slots=True)
class Rendition:
    """One form in which the broadcast can be had."""

    format_id: str
    url: str  # of its media playlist
    height: int | None  # lines; None for sound only; 0 when nobody says
    fps: float  # 0 when nobody says
    bitrate_bps: int  # as announced; 0 when nobody says
    source: bool  # what the broadcaster sent, not made anew by Twitch
    other_urls: tuple[str, ...] = ()  # where the same is to be had from other hosts

    @property
    def has_picture(self) -> bool:
        """Whether it is more than sound."""
        return self.height is not None


def choose_rendition(listed: object, wish: Quality) -> Rendition | None:
    """The rendition for ``wish`` among ``formats`` of ``yt-dlp -J``, whatever that holds; see `_choose`."""
    renditions = read_renditions(listed)
    chosen = _choose(renditions, wish)
    return with_twins(chosen, renditions) if chosen is not None else None


def with_twins(chosen: Rendition, renditions: Sequence[Rendition]) -> Rendition:
    """``chosen`` with the addresses of its redundant streams (RFC 8216 section 6.2.4): the same, from other hosts."""

    def form(one: Rendition) -> tuple[object, ...]:
        return one.height, one.fps, one.bitrate_bps, one.source

    hosts = {urlsplit(one.url).netloc: one.url for one in reversed(renditions) if form(one) == form(chosen)}
    hosts.pop(urlsplit(chosen.url).netloc, None)
    # Where nobody says how many bits there are, nothing tells that two are the same.
    return replace(chosen, other_urls=tuple(reversed(hosts.values()))) if chosen.bitrate_bps else chosen


def _choose(renditions: Sequence[Rendition], wish: Quality) -> Rendition | None:
    """The one for ``wish``.

    ``best``: the highest; of several, the source, then the most frames, then the most bits. A height: exactly that,
    else the next lower one, else the next higher one. Sound alone only when it is asked for or nothing else exists;
    when it is asked for and not offered, the smallest picture. None when nothing usable is listed.
    """
    pictures = [one for one in renditions if one.has_picture]
    sounds = [one for one in renditions if not one.has_picture]
    if wish == AUDIO:
        if sounds:
            return max(sounds, key=_bits)
        return min(pictures, key=_rank, default=None)
    if not pictures:
        return max(sounds, key=_bits, default=None)
    if wish.kind is Kind.BEST:
        return max(pictures, key=_rank_best)
    most = (wish.height, wish.fps + _FPS_SLACK if wish.fps is not None else float("inf"))
    # One that hides its height is no answer to a question about heights, as long as there is another.
    told = [one for one in pictures if one.height] or pictures
    fitting = [one for one in told if (one.height or 0, one.fps) <= most]
    if fitting:
        return max(fitting, key=_rank)
    above = min((one.height or 0, one.fps) for one in told)
    return max((one for one in told if (one.height or 0, one.fps) == above), key=_rank)


def read_renditions(listed: object) -> list[Rendition]:
    """The usable entries of ``formats``: HLS with sound; anything else, of whatever shape, is passed over."""
    return [
        rendition
        for entry in (listed if isinstance(listed, list) else ())
        if isinstance(entry, dict) and (rendition := _read(entry)) is not None
    ]


def _read(entry: dict[str, Any]) -> Rendition | None:
    name, url, protocol = (_text(entry.get(key)) for key in ("format_id", "url", "protocol"))
    if not name or not protocol.startswith("m3u8") or not _is_address(url):
        return None
    if entry.get("has_drm") is True or (entry.get("acodec") == "none" and entry.get("vcodec") != "none"):
        return None
    note = _text(entry.get("format_note"))
    height, fps = _number(entry.get("height")), _number(entry.get("fps"))
    if entry.get("vcodec") == "none":
        lines = None
    else:
        # Where the master playlist has no RESOLUTION or FRAME-RATE, the name often tells.
        named = _NAMED.search(name) or _NAMED.search(note)
        if named is not None:
            height = height or float(named[1])
            fps = fps or (float(named[2]) if named[2] and height == float(named[1]) else 0.0)
        lines = int(height)
    return Rendition(
        format_id=name,
        url=url,
        height=lines,
        fps=fps,
        bitrate_bps=int(_number(entry.get("tbr")) * 1000),
        source="source" in note.lower() or name.lower() == "chunked" or "/chunked/" in url,
    )


def _is_address(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https") and bool(urlsplit(url).netloc)
    except ValueError:
        return False


def _bits(rendition: Rendition) -> int:
    return rendition.bitrate_bps


def _rank(rendition: Rendition) -> tuple[int, float, bool, int]:
    return rendition.height or 0, rendition.fps, rendition.source, rendition.bitrate_bps


def _rank_best(rendition: Rendition) -> tuple[float, bool, float, int]:
    # Twitch only ever makes less of what was sent, so a source of unknown height is not lower than anything.
    height = float("inf") if rendition.source and not rendition.height else float(rendition.height or 0)
    return height, rendition.source, rendition.fps, rendition.bitrate_bps


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LARGEST_NUMBER:
        return 0.0
    return float(value)
