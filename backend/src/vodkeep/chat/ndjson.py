"""Our own form of a chat: a line that says what it is, then a line of JSON for each message (``docs/chat.md``)."""

from __future__ import annotations

from typing import Any

import msgspec

from vodkeep.chat.model import ChatMessage, Chatter, Kind, Source
from vodkeep.chat.walk import Placed

FORMAT = "vodkeep-chat/1"

_encode = msgspec.json.Encoder().encode
_KINDS = {kind.name.lower(): kind for kind in Kind}
_SOURCES = {source.name.lower(): source for source in Source}


class Head(msgspec.Struct):
    """The first line: which chat it is."""

    format: str
    video_id: str
    channel: str  # login
    start_ms: int  # of the picture, Unix milliseconds
    duration_ms: int
    completeness: float | None  # 0..1; None: not known


class _User(msgspec.Struct, omit_defaults=True):
    id: str = ""
    login: str = ""
    name: str = ""
    color: str = ""
    badges: str = ""


class _Line(msgspec.Struct, omit_defaults=True):
    offset_ms: int
    sent_ms: int
    id: str
    kind: str = "message"
    source: str = "live"
    user: _User | None = None
    body: str = ""
    emotes: str = ""
    reply_to: str | None = None
    extra: dict[str, Any] = {}


_decode = msgspec.json.Decoder(_Line).decode


def write_head(head: Head) -> bytes:
    """The first line."""
    return _encode(head) + b"\n"


def write_line(placed: Placed) -> bytes:
    """One message."""
    message = placed.message
    who = message.chatter
    line = _Line(
        offset_ms=placed.offset_ms,
        sent_ms=message.sent_ms,
        id=message.msg_id,
        kind=message.kind.name.lower(),
        source=message.source.name.lower(),
        user=_User(who.user_id, who.login, who.display_name, who.color, who.badges) if who is not None else None,
        body=message.body,
        emotes=message.emotes,
        reply_to=message.reply_to,
        extra=dict(message.extra),
    )
    return _encode(line) + b"\n"


def read_head(line: bytes) -> Head:
    """Read the first line; raises ``ValueError``."""
    head = msgspec.json.decode(line, type=Head)
    if head.format != FORMAT:
        raise ValueError(f"it is of the format {head.format[:40]!r}")
    return head


def read_line(line: bytes, channel: str) -> Placed:
    """Read a message; raises ``ValueError``."""
    told = _decode(line)
    if told.kind not in _KINDS or told.source not in _SOURCES or not told.id:
        raise ValueError("a message is of no kind that is known here")
    user = told.user
    message = ChatMessage(
        channel=channel,
        kind=_KINDS[told.kind],
        sent_ms=told.sent_ms,
        chatter=Chatter(user.id, user.login, user.name, user.color, user.badges) if user is not None else None,
        body=told.body,
        emotes=told.emotes,
        msg_id=told.id,
        reply_to=told.reply_to,
        extra=told.extra,
        source=_SOURCES[told.source],
    )
    return Placed(told.offset_ms, message)
