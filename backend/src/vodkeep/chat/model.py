"""What chat consists of: chatters and the messages and events of a channel."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple


class Kind(IntEnum):
    """What a message is. The numbers are stored, so they are never given to anything else."""

    MESSAGE = 0
    """Something a chatter said."""
    ACTION = 1
    """Something a chatter said with ``/me``."""
    USER_NOTICE = 2
    """A subscription, gift, raid, announcement and the like; the body is what the person said with it, if anything."""
    NOTICE = 3
    """A word of Twitch to everybody in the channel, such as a mode that was switched on."""
    CLEAR_CHAT = 4
    """A moderator cleared the whole chat."""
    CLEAR_USER = 5
    """A moderator timed a person out, or banned one: their messages so far are gone."""
    CLEAR_MESSAGE = 6
    """A moderator deleted one message."""
    ROOM_STATE = 7
    """The channel's modes: slow, followers only, subscribers only, emotes only, unique messages."""


class Source(IntEnum):
    """Where a message came from. The numbers are stored, so they are never given to anything else."""

    LIVE = 0
    """Our own connection, while it was said."""
    VOD = 1
    """The comments Twitch replays beside the VOD."""
    IMPORT = 2
    """A file a person gave us."""


class Chatter(NamedTuple):
    """A person as they looked when they said something; a new colour or badge makes another ``Chatter``."""

    user_id: str
    """Twitch's number, as text; empty where only a name is known."""
    login: str
    """Lower case."""
    display_name: str
    """As the person spells it; may be in another script than ``login``."""
    color: str
    """``#RRGGBB``, or empty for a person who never chose one."""
    badges: str
    """Set and version of each badge in the order shown: ``broadcaster/1,subscriber/12``."""

    def key(self) -> int:
        """A number below 2**63 that is the same for the same five values, in every process and for ever."""
        # No field can hold a NUL: IRC forbids it, and what names are made of is replaced where lines are read.
        digest = hashlib.blake2b("\0".join(self).encode("utf-8"), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1


@dataclass(slots=True)
class ChatMessage:
    """One message or event of a channel's chat, as it is kept."""

    channel: str
    """The broadcaster's login, lower case, without ``#``."""
    kind: Kind
    sent_ms: int
    """When Twitch took it, Unix milliseconds (``tmi-sent-ts``); when it was received, for a line that does not say."""
    chatter: Chatter | None
    """Who said it, or whose subscription or raid it is; ``None`` where nobody speaks."""
    body: str
    """What was said, byte for byte; only NUL and bytes that are not UTF-8 became U+FFFD."""
    emotes: str
    """Where the pictures go: ``25:0-4,12-16/1902:6-10``, code points of ``body``, both ends included."""
    msg_id: str
    """Twitch's id, a UUID as text; for a line without one, a digest that is the same on every connection."""
    reply_to: str | None
    """``msg_id`` of the message it answers."""
    extra: Mapping[str, object]
    """Everything else, as plain JSON values; the keys are listed in ``docs/chat.md``."""
    source: Source = Source.LIVE
