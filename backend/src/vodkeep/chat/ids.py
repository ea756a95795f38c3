"""How a message is numbered, and how Twitch's ids are kept.

A message's number is ``session << 32 | offset_ms << 4 | tie``: in its order lies the order of the chat, in its lower
half the time, and no index besides the key is needed. The offset counts from the session's ``base_ms`` and has 28 bits,
74 hours; Twitch ends a broadcast after 48 (https://help.twitch.tv/s/article/broadcasting-guidelines, read 2026-11-23).
The tie counts messages of one millisecond; the seventeenth goes on in the next, as adding one to a number does.
"""

from __future__ import annotations

import hashlib
import re

TIE_BITS = 4
SESSION_SHIFT = 32
LOWER_HALF = (1 << SESSION_SHIFT) - 1

LAST_OFFSET_MS = (1 << (SESSION_SHIFT - TIE_BITS)) - 1
"""The largest offset in a session."""

MARGIN_MS = 600_000
"""How far before the start of its stream a session's offsets begin, since our clock, Helix and the chat disagree."""

_UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def first_id(session_id: int, offset_ms: int) -> int:
    """The number of the first message of that millisecond; an offset outside the session becomes its nearest one."""
    offset_ms = min(max(offset_ms, 0), LAST_OFFSET_MS)
    return session_id << SESSION_SHIFT | offset_ms << TIE_BITS


def last_id(session_id: int, offset_ms: int) -> int:
    """The number of the last message that millisecond has room for, likewise."""
    return first_id(session_id, offset_ms) | (1 << TIE_BITS) - 1


def session_of(message_id: int) -> int:
    """The session that a message belongs to."""
    return message_id >> SESSION_SHIFT


def offset_of(message_id: int) -> int:
    """When it was sent, ms from the session's ``base_ms``."""
    return (message_id & LOWER_HALF) >> TIE_BITS


def pack_uuid(text: str) -> bytes | None:
    """The 16 bytes of a UUID as Twitch writes it; ``None`` for any other id."""
    return bytes.fromhex(text.replace("-", "")) if _UUID.fullmatch(text) else None


def pack_msg_id(text: str) -> bytes:
    """Any id in 16 bytes: a UUID's own, or those of a digest, from which the id cannot be had again."""
    return pack_uuid(text) or hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


def unpack_uuid(packed: bytes) -> str:
    """The UUID that the 16 bytes are, as Twitch writes it."""
    digits = packed.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
