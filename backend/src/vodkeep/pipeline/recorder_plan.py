"""Whether chat is recorded, whose, and if not, why: from the settings alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from vodkeep.settings import Settings


@dataclass(frozen=True, slots=True)
class IntoVod:
    """Manual mode: a channel whose chat goes into one VOD, whether it is live or not."""

    channel: str  # login
    vod_id: str
    started_at: datetime  # of the VOD, UTC


@dataclass(frozen=True, slots=True)
class RecorderPlan:
    """Chat is recorded."""

    channels: tuple[str, ...]  # logins, those whose streams are recorded
    into_vod: IntoVod | None = None  # its channel is not among them


@dataclass(frozen=True, slots=True)
class Disabled:
    """Chat is not recorded."""

    reason: str
    remedy: str


def plan_recorder(settings: Settings) -> RecorderPlan | Disabled:
    """What to record.

    Every kept channel with ``CHAT_AUTO_START``; else ``TWITCH_CHANNEL``, if there is an account to read its chat with.
    ``TWITCH_VOD_ID`` is recorded in any case. Streams need Helix, which says when they begin.
    """
    twitch, chat = settings.twitch, settings.chat
    into_vod = None
    if chat.vod_id is not None and chat.vod_start is not None and twitch.channel is not None:
        into_vod = IntoVod(twitch.channel, chat.vod_id, chat.vod_start)
    has_account = twitch.channel is not None and twitch.bot_username is not None and twitch.oauth_token is not None
    if chat.auto_start:
        wanted = twitch.channels
    else:
        wanted = (twitch.channel,) if has_account and twitch.channel is not None else ()
    channels = tuple(login for login in wanted if into_vod is None or login != into_vod.channel)
    has_helix = twitch.client_id is not None and twitch.client_secret is not None
    if channels and has_helix:
        return RecorderPlan(channels, into_vod)
    if into_vod is not None:
        return RecorderPlan((), into_vod)
    if channels:
        return Disabled(
            "Without TWITCH_CLIENT_ID and TWITCH_CLIENT_SECRET nobody says when a channel is live.",
            "Register an application at https://dev.twitch.tv/console and set both.",
        )
    if chat.auto_start:
        return Disabled("CHAT_AUTO_START is on and no channel is kept.", "Set TWITCH_CHANNEL or TWITCH_CHANNELS.")
    return Disabled(
        "CHAT_AUTO_START is off, and TWITCH_CHANNEL, TWITCH_BOT_USERNAME and TWITCH_OAUTH_TOKEN are not all set.",
        "Set CHAT_AUTO_START=1, or all of TWITCH_CHANNEL, TWITCH_BOT_USERNAME and TWITCH_OAUTH_TOKEN.",
    )
