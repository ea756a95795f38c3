"""The id of a placeholder: a broadcast that is known from its live stream only, because it has no VOD yet.

It stands where otherwise Twitch's video id stands and becomes that once there is one. Until then nothing can be
captured, so a placeholder is in no queue.
"""

from __future__ import annotations

from datetime import datetime

PREFIX = "live-"


def is_placeholder(item_id: str) -> bool:
    """Whether the id is one of ours and not Twitch's, whose ids are digits."""
    return item_id.startswith(PREFIX)


def placeholder_ids(started_at: datetime, login: str, stream_id: str) -> tuple[str, str, str]:
    """The ids that a placeholder can have, best first: the next one is for when another stream has that one.

    ``live-<unix seconds>`` of the stream's start; with the channel's login, if another channel began in that second;
    with the stream's id, if Twitch gives two streams of a channel one start.
    """
    plain = f"{PREFIX}{int(started_at.timestamp())}"
    return plain, f"{plain}-{login}", f"{plain}-{login}-{stream_id}"
