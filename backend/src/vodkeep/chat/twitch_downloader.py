"""The JSON of TwitchDownloader (https://github.com/lay295/TwitchDownloader), which many viewers and tools read.

Its comments have the shape of Twitch's former v5 API, which is also what older tools (rechat) left behind: a document
with the array ``comments``, offsets in seconds, and emotes both as fragments and as ranges in the body.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from vodkeep.chat.model import ChatMessage, Chatter, Kind, Source
from vodkeep.chat.ndjson import Head
from vodkeep.chat.walk import Placed

_SAID = frozenset({Kind.MESSAGE, Kind.ACTION, Kind.USER_NOTICE})
# What a message has that the format has no field for, so that nothing is lost on the way there and back.
_OURS = "vodkeep"
_BELIEVABLE_MS = 60_000

_encode = msgspec.json.Encoder().encode


def write_document(head: Head, title: str, channel_name: str, messages: Iterator[Placed]) -> Iterator[bytes]:
    """The document, piece by piece; events such as bans, which the format does not have, are left out."""
    made = _moment(head.start_ms)
    opening = {
        "FileInfo": {"Version": {"Major": 1, "Minor": 4, "Patch": 0}, "CreatedAt": made, "UpdatedAt": made},
        "streamer": {"name": channel_name or head.channel, "login": head.channel, "id": 0},
        "video": {
            "title": title,
            "description": None,
            "id": head.video_id,
            "created_at": made,
            "start": 0.0,
            "end": head.duration_ms / 1000,
            "length": head.duration_ms / 1000,
            "viewCount": 0,
            "game": None,
            "chapters": [],
        },
    }
    yield _encode(opening)[:-1] + b',"comments":['
    comma = b""
    for placed in messages:
        if placed.message.kind in _SAID:
            yield comma + _encode(_comment(placed, head.video_id))
            comma = b",\n"
    yield b'],"embeddedData":null}\n'


def read_comment(told: Any, *, channel: str, start_ms: int) -> Placed:
    """Read an entry of ``comments``; raises ``ValueError``."""
    try:
        offset_ms = round(float(told["content_offset_seconds"]) * 1000)
        message = told["message"]
        ours = told.get(_OURS) or {}
        body = str(message.get("body") or "")
        who = told.get("commenter") or {}
        badges = ",".join(f"{badge['_id']}/{badge['version']}" for badge in message.get("user_badges") or ())
        chatter = Chatter(
            user_id=str(who.get("_id") or ""),
            login=str(who.get("name") or ""),
            display_name=str(who.get("display_name") or ""),
            color=str(message.get("user_color") or ""),
            badges=badges,
        )
        bits = message.get("bits_spent") or 0
        extra: dict[str, object] = {**({"bits": bits} if isinstance(bits, int) and bits > 0 else {})}
        extra |= ours.get("extra") or {}
        return Placed(
            offset_ms,
            ChatMessage(
                channel=channel,
                kind=Kind(ours.get("kind", Kind.ACTION if message.get("is_action") else Kind.MESSAGE)),
                sent_ms=ours.get("sent_ms") or _sent_ms(told.get("created_at"), start_ms + offset_ms),
                chatter=chatter,
                body=body,
                emotes=_emotes_of(message, body),
                msg_id=str(told["_id"]),
                reply_to=ours.get("reply_to"),
                extra=extra,
                source=Source.IMPORT,
            ),
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"a comment has no {error}") from error


def _comment(placed: Placed, video_id: str) -> dict[str, Any]:
    message = placed.message
    who = message.chatter or Chatter("", "", "", "", "")
    ranges = _ranges(message.emotes)
    ours: dict[str, Any] = {"kind": int(message.kind), "sent_ms": message.sent_ms}
    if message.reply_to:
        ours["reply_to"] = message.reply_to
    if message.extra:
        ours["extra"] = dict(message.extra)
    bits = message.extra.get("bits")
    return {
        "_id": message.msg_id,
        "created_at": _moment(message.sent_ms),
        "channel_id": "",
        "content_type": "video",
        "content_id": video_id,
        "content_offset_seconds": placed.offset_ms / 1000,
        "commenter": {
            "display_name": who.display_name,
            "_id": who.user_id,
            "name": who.login,
            "bio": None,
            "created_at": _moment(0),
            "updated_at": _moment(0),
            "logo": None,
        },
        "message": {
            "body": message.body,
            "bits_spent": bits if isinstance(bits, int) else 0,
            "fragments": _fragments(message.body, ranges),
            "is_action": message.kind is Kind.ACTION,
            "user_badges": [
                {"_id": badge.partition("/")[0], "version": badge.partition("/")[2]}
                for badge in who.badges.split(",")
                if badge
            ],
            "user_color": who.color or None,
            "emoticons": [{"_id": emote, "begin": first, "end": last} for first, last, emote in ranges],
        },
        _OURS: ours,
    }


def _ranges(emotes: str) -> list[tuple[int, int, str]]:
    """First and last code point and id of each emote, in order; what is no range is left out."""
    found = []
    for part in emotes.split("/"):
        emote, _, places = part.rpartition(":")
        for place in places.split(","):
            first, _, last = place.partition("-")
            if emote and first.isdecimal() and last.isdecimal():
                found.append((int(first), int(last), emote))
    return sorted(found)


def _fragments(body: str, ranges: list[tuple[int, int, str]]) -> list[dict[str, Any]]:
    fragments: list[dict[str, Any]] = []
    position = 0
    for first, last, emote in ranges:
        if first > position:
            fragments.append({"text": body[position:first], "emoticon": None})
        fragments.append({"text": body[first : last + 1], "emoticon": {"emoticon_id": emote}})
        position = last + 1
    if position < len(body):
        fragments.append({"text": body[position:], "emoticon": None})
    return fragments


def _emotes_of(message: dict[str, Any], body: str) -> str:
    places: dict[str, list[str]] = {}
    for each in message.get("emoticons") or ():
        first, last = int(each["begin"]), int(each["end"])
        if 0 <= first <= last < len(body):
            places.setdefault(str(each["_id"]), []).append(f"{first}-{last}")
    if not places:
        position = 0
        for fragment in message.get("fragments") or ():
            text = str(fragment.get("text") or "")
            emote = (fragment.get("emoticon") or {}).get("emoticon_id")
            if emote and text and position + len(text) <= len(body):
                places.setdefault(str(emote), []).append(f"{position}-{position + len(text) - 1}")
            position += len(text)
    return "/".join(f"{emote}:{','.join(found)}" for emote, found in places.items())


def _sent_ms(created: object, replayed_ms: int) -> int:
    if isinstance(created, str):
        try:
            moment = datetime.fromisoformat(created)
        except ValueError:
            return replayed_ms
        if moment.tzinfo is not None:
            said_ms = round(moment.timestamp() * 1000)
            if abs(said_ms - replayed_ms) <= _BELIEVABLE_MS:
                return said_ms
    return replayed_ms


def _moment(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class CommentArray:
    """Takes the entries of ``comments`` out of a document that comes in pieces, without holding all of it.

    Raises ``ValueError`` for what is no such document, and for an entry or a value before the array that is larger
    than ``most`` characters. What follows the array (embedded pictures) is not looked at.
    """

    def __init__(self, most: int = 4 * 1024 * 1024) -> None:
        self._most = most
        self._buffer = ""
        self._place = "start"  # then "key", "value", "array", "end"
        self._decoder = json.JSONDecoder()

    @property
    def is_done(self) -> bool:
        """Whether the array has ended."""
        return self._place == "end"

    def feed(self, text: str, *, last: bool = False) -> Iterator[Any]:
        """Take in more; ``last`` when nothing follows."""
        self._buffer += text
        while self._place != "end":
            entry, again = self._step(last)
            if entry is not None:
                yield entry
            if not again:
                break
        if last and self._place != "end":
            raise ValueError("it ends in the middle")
        if len(self._buffer) > self._most and self._place != "end":
            raise ValueError("a single entry is larger than any message")

    def _step(self, last: bool) -> tuple[Any, bool]:
        """One piece of the document; the entry, if it was one, and whether there may be another piece."""
        rest = self._buffer.lstrip(" \t\r\n\ufeff")
        self._buffer = rest
        if not rest:
            return None, False
        match self._place:
            case "start":
                if rest[0] != "{":
                    raise ValueError("it is no JSON object")
                self._buffer, self._place = rest[1:], "key"
                return None, True
            case "key":
                if rest[0] == ",":
                    self._buffer = rest[1:]
                    return None, True
                if rest[0] == "}":
                    raise ValueError("it has no comments")
                key = self._decoded(rest, last)
                if key is None:
                    return None, False
                after = self._buffer.lstrip(" \t\r\n")
                if not after:
                    self._buffer = rest
                    return None, False
                if after[0] != ":":
                    raise ValueError("it is no JSON object")
                self._buffer, self._place = after[1:], "comments" if key == "comments" else "value"
                return None, True
            case "value":
                if self._decoded(rest, last) is None and self._buffer == rest:
                    return None, False
                self._place = "key"
                return None, True
            case "comments":
                if rest[0] != "[":
                    raise ValueError("its comments are no list")
                self._buffer, self._place = rest[1:], "array"
                return None, True
            case _:
                if rest[0] == "]":
                    self._place = "end"
                    return None, True
                if rest[0] == ",":
                    self._buffer = rest[1:]
                    return None, True
                return self._decoded(rest, last), self._buffer != rest

    def _decoded(self, rest: str, last: bool) -> Any:
        """The value that ``rest`` begins with, taken off the buffer; ``None`` when more has to come."""
        try:
            value, end = self._decoder.raw_decode(rest)
        except json.JSONDecodeError as error:
            if last:
                raise ValueError("it is no JSON, or ends in the middle") from error
            return None
        if end == len(rest) and not last:
            # A number or a name may go on.
            return None
        self._buffer = rest[end:]
        return value
