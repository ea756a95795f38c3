"""The words of the catalog: channels, videos and streams as Twitch tells them, and how their texts are read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType
from urllib.parse import urlsplit

VodId = NewType("VodId", str)
"""A video id, decimal digits; ``vods.twitch_vod_id``."""

BroadcasterId = NewType("BroadcasterId", str)
"""The id of a Twitch account; it stays when the login changes."""

StreamId = NewType("StreamId", str)
"""The id of one live stream; the video that records it carries it too."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A broadcaster: id, login and display name are three things."""

    id: BroadcasterId
    login: str  # lower case; can change
    display_name: str
    profile_image_url: str | None = None


@dataclass(frozen=True, slots=True)
class Video:
    """One video in Twitch's list; ``None`` means that Twitch did not say, never that a value was removed."""

    id: VodId
    broadcaster_id: BroadcasterId
    created_at: datetime  # start of the broadcast, UTC
    broadcaster_login: str | None = None
    stream_id: StreamId | None = None  # None for uploads and highlights
    title: str | None = None
    description: str | None = None
    duration: timedelta | None = None  # whole seconds; grows while the broadcast is live
    thumbnail_url: str | None = None  # a template with %{width} and %{height}; None while Twitch has no picture
    kind: str = "archive"  # "archive" (a recording), "highlight" or "upload"


@dataclass(frozen=True, slots=True)
class Stream:
    """A channel that is live now."""

    id: StreamId
    broadcaster_id: BroadcasterId
    broadcaster_login: str
    display_name: str
    title: str
    started_at: datetime  # UTC


class ChannelState(StrEnum):
    """What the catalog knows about a configured channel."""

    UNCHECKED = "unchecked"  # Twitch has not been asked yet
    FOUND = "found"  # Twitch knows it
    UNKNOWN = "unknown"  # Twitch knows no such channel; asked again, slowly


# Hours alone may pass 59, and no number is padded: "47h59m59s", "1h", "50s", "1h0m5s".
_NUMBER = r"0|[1-9][0-9]{0,3}"
_BELOW_60 = r"[0-9]|[1-5][0-9]"
_DURATION = re.compile(rf"(?:({_NUMBER})h)?(?:({_BELOW_60})m)?(?:({_BELOW_60})s)?")


def parse_twitch_duration(text: str) -> timedelta:
    """Read a duration as Helix writes it: hours, minutes and seconds in this order, each at most once.

    Source: https://dev.twitch.tv/docs/api/reference/#get-videos, field ``duration`` (``3m21s``). Minutes and
    seconds stay below 60, hours below 10,000. Raises ValueError for everything else.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"not a Twitch duration: {text[:40]!r} (expected a form like 3h8m33s)")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


_VIDEO_ID = re.compile(r"v?([1-9][0-9]{0,19})")
_VIDEO_PATH = re.compile(r"/(?:videos|[A-Za-z0-9_]{1,25}/(?:v|video))/v?([1-9][0-9]{0,19})/?")
_TWITCH_HOSTS = frozenset({"twitch.tv", "www.twitch.tv", "m.twitch.tv", "go.twitch.tv"})


def video_id_from(text: str) -> VodId:
    """The video id in what a person typed or pasted: an id, ``v<id>`` or the address of a video page.

    ``https://www.twitch.tv/videos/<id>``, its mobile form, ``/<login>/v/<id>`` and ``/<login>/video/<id>`` are
    understood, with or without scheme, query (``?t=1h2m``) and fragment. Raises ValueError with one sentence that
    says what was expected.
    """
    given = text.strip()
    bare = _VIDEO_ID.fullmatch(given)
    if bare is not None:
        return VodId(bare.group(1))
    expected = "expected a video id like 2100000001 or an address like https://www.twitch.tv/videos/2100000001"
    try:
        parts = urlsplit(given if "://" in given else f"https://{given}")
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ValueError(f"{_shown(given)} is not an address; {expected}") from error
    if parts.scheme not in ("http", "https") or host not in _TWITCH_HOSTS or port not in (None, 80, 443):
        raise ValueError(f"{_shown(given)} is not a Twitch video; {expected}")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{_shown(given)} carries a user name, which no Twitch address does; {expected}")
    page = _VIDEO_PATH.fullmatch(parts.path)
    if page is None:
        raise ValueError(f"{_shown(given)} is on Twitch but is not the page of a video; {expected}")
    return VodId(page.group(1))


def item_id_from(text: str) -> str:
    """The id in what a person typed or pasted; what is no VOD's is taken as it stands, since not all items are VODs."""
    try:
        return video_id_from(text)
    except ValueError:
        return text.strip()


def _shown(given: str) -> str:
    """What was typed, quoted and cut, safe to print on a terminal."""
    return ascii(given if len(given) <= 80 else given[:79] + "…") if given else "an empty text"


_LOGIN = re.compile(r"[a-z0-9_]{1,25}")


def is_login(text: str) -> bool:
    """Whether ``text`` can be a login at all; Helix refuses a whole request because of one that cannot."""
    return _LOGIN.fullmatch(text) is not None
