"""What a line of Twitch IRC means: the message or event in it.

After https://dev.twitch.tv/docs/chat/irc (read 2026-11-23) and lines seen there. Everything optional may be missing and
every value may be nonsense: what cannot be right is left out, the rest is kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import lru_cache

from vodkeep.chat.irc import Line, last_parameter_of
from vodkeep.chat.model import ChatMessage, Chatter, Kind

CHAT_COMMANDS = frozenset(
    {b"PRIVMSG", b"USERNOTICE", b"CLEARCHAT", b"CLEARMSG", b"NOTICE", b"ROOMSTATE"},
)
"""The commands of lines that ``message_of`` can make something of."""

_NOT_A_CHARACTER = "\ufffd"
_PARAMETER = "msg-param-"
_ACTION = "\x01ACTION"
_END_OF_ACTION = "\x01"

# No longer than what Twitch lets people say, in code points, with much room.
_RANGE = re.compile(r"([0-9]{1,5})-([0-9]{1,5})")
_EMOTE_ID = re.compile(r"[0-9A-Za-z_-]{1,100}")
_SIGNED = re.compile(r"-?[0-9]{1,15}")
_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")
_MOST_DIGITS = 15

# Tags of what was said that are kept as they are, and the key in `extra` each is kept by.
_KEPT_TAGS = {
    "reply-parent-user-id": "reply_user_id",
    "reply-parent-user-login": "reply_login",
    "reply-parent-display-name": "reply_name",
    "reply-parent-msg-body": "reply_body",
    "reply-thread-parent-msg-id": "thread_id",
    "reply-thread-parent-user-login": "thread_login",
    "custom-reward-id": "reward_id",
    "msg-id": "type",
    "system-msg": "system",
    "source-room-id": "source_room_id",
    "source-id": "source_id",
}
_MODES = ("emote-only", "followers-only", "r9k", "slow", "subs-only")


def message_of(line: Line, received_ms: int) -> ChatMessage | None:
    """The message or event of a channel in a line, or ``None`` when there is none of ours in it.

    ``received_ms`` (Unix milliseconds) is taken where the line does not say when it was sent.
    """
    meaning = _MEANINGS.get(line.command)
    if meaning is None or not line.params:
        return None
    channel = line.params[0]
    if not channel.startswith("#") or len(channel) < 2:
        return None
    message = meaning(line, channel[1:].lower(), _number(line.tags.get("tmi-sent-ts")) or received_ms)
    if not message.msg_id:
        message.msg_id = _digest_of(line, message, received_ms)
    if _NOT_A_CHARACTER in message.body:
        message.extra = {**message.extra, **_as_it_came(line)}
    return message


def valid_emotes(emotes: str, length: int) -> str:
    """The tag ``emotes`` with only the ranges that lie within a text of ``length`` code points and overlap no other.

    The first of two that overlap stays, in the order of the tag; an emote none of whose ranges is valid is left out.
    """
    if not emotes:
        return ""
    groups = []
    taken: list[tuple[int, int]] = []
    furthest = -1
    for group in emotes.split("/"):
        emote, _, ranges = group.partition(":")
        if not _EMOTE_ID.fullmatch(emote):
            continue
        kept = []
        for span in ranges.split(","):
            found = _RANGE.fullmatch(span)
            if found is None:
                continue
            start, end = int(found[1]), int(found[2])
            if start <= end < length and (start > furthest or not any(end >= a and start <= z for a, z in taken)):
                taken.append((start, end))
                furthest = max(furthest, end)
                kept.append(f"{start}-{end}")
        if kept:
            groups.append(f"{emote}:{','.join(kept)}")
    return "/".join(groups)


def _said(line: Line, channel: str, sent_ms: int) -> ChatMessage:
    """PRIVMSG."""
    tags = line.tags
    body = line.params[-1] if len(line.params) > 1 else ""
    kind = Kind.MESSAGE
    if body.startswith(_ACTION) and body[len(_ACTION) :][:1] in (" ", _END_OF_ACTION):
        # Emote ranges count from the first character after the mark. A long text may have lost its end mark.
        kind = Kind.ACTION
        body = body[len(_ACTION) :].removesuffix(_END_OF_ACTION).removeprefix(" ")
    extra: dict[str, object] = {}
    if not _KEPT_TAGS.keys().isdisjoint(tags):
        extra = {kept: value for tag, kept in _KEPT_TAGS.items() if (value := tags.get(tag))}
    if bits := _number(tags.get("bits")):
        extra["bits"] = bits
    if tags.get("first-msg") == "1":
        extra["first"] = True
    if tags.get("returning-chatter") == "1":
        extra["returning"] = True
    login = line.source.partition("!")[0]
    emotes = tags.get("emotes", "")
    reply_to = tags.get("reply-parent-msg-id") or None
    emotes = valid_emotes(emotes, len(body)) if emotes else ""
    # Positional, because keywords take twice as long and this is the line that runs for every message there is.
    return ChatMessage(channel, kind, sent_ms, _chatter(tags, login), body, emotes, tags.get("id", ""), reply_to, extra)


def _happened(line: Line, channel: str, sent_ms: int) -> ChatMessage:
    """USERNOTICE: what it is, in Twitch's words, with all its parameters; and what the person said with it."""
    message = _said(line, channel, sent_ms)
    message.kind = Kind.USER_NOTICE
    login = line.tags.get("login", "")
    # The source of such a line is the server.
    message.chatter = _chatter(line.tags, login) if login or line.tags.get("user-id") else None
    params = {key[len(_PARAMETER) :]: value for key, value in line.tags.items() if key.startswith(_PARAMETER)}
    if params:
        message.extra = {**message.extra, "params": params}
    return message


def _announced(line: Line, channel: str, sent_ms: int) -> ChatMessage:
    """NOTICE."""
    extra: dict[str, object] = {"type": found} if (found := line.tags.get("msg-id")) else {}
    return _event(Kind.NOTICE, line, channel, sent_ms, extra, body=line.params[-1] if len(line.params) > 1 else "")


def _cleared(line: Line, channel: str, sent_ms: int) -> ChatMessage:
    """CLEARCHAT: of everybody, or of one person, for some seconds or for good."""
    login = line.params[-1] if len(line.params) > 1 else ""
    user_id = line.tags.get("target-user-id", "")
    if not login and not user_id:
        return _event(Kind.CLEAR_CHAT, line, channel, sent_ms, {})
    extra: dict[str, object] = {}
    if user_id:
        extra["target_user_id"] = user_id
    if login:
        extra["target_login"] = login.lower()
    if seconds := _number(line.tags.get("ban-duration")):
        extra["seconds"] = seconds
    return _event(Kind.CLEAR_USER, line, channel, sent_ms, extra)


def _deleted(line: Line, channel: str, sent_ms: int) -> ChatMessage:
    """CLEARMSG. What was deleted is kept beside, for the case that the message itself was never seen."""
    extra: dict[str, object] = {}
    if target := line.tags.get("target-msg-id"):
        extra["target_msg_id"] = target
    if login := line.tags.get("login"):
        extra["target_login"] = login.lower()
    if len(line.params) > 1:
        extra["text"] = line.params[-1]
    return _event(Kind.CLEAR_MESSAGE, line, channel, sent_ms, extra)


def _room(line: Line, channel: str, sent_ms: int) -> ChatMessage:
    """ROOMSTATE: all modes after joining, the one that changed later."""
    modes = {
        mode.replace("-", "_"): int(value)
        for mode in _MODES
        if (value := line.tags.get(mode)) is not None and _SIGNED.fullmatch(value)
    }
    return _event(Kind.ROOM_STATE, line, channel, sent_ms, {"modes": modes} if modes else {})


_MEANINGS: dict[str, Callable[[Line, str, int], ChatMessage]] = {
    "PRIVMSG": _said,
    "USERNOTICE": _happened,
    "NOTICE": _announced,
    "CLEARCHAT": _cleared,
    "CLEARMSG": _deleted,
    "ROOMSTATE": _room,
}


def _event(
    kind: Kind, line: Line, channel: str, sent_ms: int, extra: dict[str, object], *, body: str = ""
) -> ChatMessage:
    return ChatMessage(
        channel=channel,
        kind=kind,
        sent_ms=sent_ms,
        chatter=None,
        body=body,
        emotes="",
        msg_id=line.tags.get("id", ""),
        reply_to=None,
        extra=extra,
    )


def _chatter(tags: dict[str, str], login: str) -> Chatter:
    get = tags.get
    return _look(get("user-id", ""), login, get("display-name", ""), get("color", ""), get("badges", ""))


# Most messages of an evening are said by people who have said something before.
@lru_cache(maxsize=20_000)
def _look(user_id: str, login: str, display_name: str, color: str, badges: str) -> Chatter:
    color = color if not color or _COLOR.fullmatch(color) else ""
    return Chatter(user_id, login.lower(), display_name.strip() or login, color, badges)


def _number(text: str | None) -> int | None:
    return int(text) if text and len(text) <= _MOST_DIGITS and text.isascii() and text.isdigit() else None


def _digest_of(line: Line, message: ChatMessage, received_ms: int) -> str:
    """An id for a line without one, in the form of a UUID: the same for the same line on another connection.

    What people said twice is said twice: where nothing in such a line tells two apart, the time of receiving does.
    """
    digest = hashlib.blake2b(line.raw, digest_size=16)
    if message.chatter is not None and "tmi-sent-ts" not in line.tags:
        digest.update(f"\0{received_ms}".encode())
    text = digest.hexdigest()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _as_it_came(line: Line) -> dict[str, object]:
    """The bytes of a text that is not UTF-8 or has a NUL in it, in hexadecimal, as the text itself cannot have them."""
    came = last_parameter_of(line.raw)
    return {} if came == line.params[-1].encode() else {"body_hex": came.hex()}
