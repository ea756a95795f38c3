"""The id of a placeholder: a broadcast that is known from its live stream only, because it has no VOD yet.

It stands where otherwise Twitch's video id stands and becomes that once there is one. Until then nothing can be
captured, so a placeholder is in no queue.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

PREFIX = "live-"


def is_placeholder(item_id: str) -> bool:
    """Whether the id is one of ours and not Twitch's, whose ids are digits."""
    return item_id.startswith(PREFIX)


def placeholder_id(started_at: datetime, login: str, is_taken: Callable[[str], bool]) -> str:
    """``live-<unix seconds>`` of the stream's start, with the channel's login behind it if another channel has that."""
    plain = f"{PREFIX}{int(started_at.timestamp())}"
    return f"{plain}-{login}" if is_taken(plain) else plain
