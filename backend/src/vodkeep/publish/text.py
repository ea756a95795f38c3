"""What YouTube takes in a text, and cutting texts to a length without breaking a character."""

from __future__ import annotations

import re
import unicodedata

# YouTube refuses < and > wherever they stand (developers.google.com/youtube/v3/docs/videos, snippet.title).
_ANGLES = str.maketrans("<>", "‹›")
# Marks that turn the writing direction for everything behind them, and the byte order mark.
_MISLEADING = re.compile("[\u202a-\u202e\u2066-\u2069\ufeff]")
_LINE_ENDS = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_ELLIPSIS = "…"


def clean_text(text: str) -> str:
    """``text`` as YouTube takes it: valid UTF-8 without angle brackets and controls; line ends are ``\\n``."""
    plain = _MISLEADING.sub("", _LINE_ENDS.sub("\n", text)).replace("\t", " ").translate(_ANGLES)
    return unicodedata.normalize("NFC", "".join(character for character in plain if _is_text(character)))


def clean_line(text: str) -> str:
    """``text`` on one line, without space at its ends or runs of it."""
    return " ".join(clean_text(text).split())


def units(text: str) -> int:
    """The length as UTF-16 counts it, which is never less than the number of characters.

    YouTube does not say which of the two it means by a character; what fits by this count fits by both.
    """
    return len(text.encode("utf-16-le")) // 2


def cut_units(text: str, limit: int) -> str:
    """At most ``limit`` UTF-16 units of ``text``, with an ellipsis where something went."""
    return text if units(text) <= limit else _cut(text, limit - 1, "utf-16-le", 2)


def cut_bytes(text: str, limit: int) -> str:
    """At most ``limit`` bytes of UTF-8, with an ellipsis where something went; empty when not even that fits."""
    if len(text.encode()) <= limit:
        return text
    room = limit - len(_ELLIPSIS.encode())
    return _cut(text, room, "utf-8", 1) if room > 0 else ""


def _cut(text: str, limit: int, encoding: str, width: int) -> str:
    end = len(text.encode(encoding)[: limit * width].decode(encoding, "ignore"))
    # Never before a mark that belongs to the last character, nor behind a joiner.
    while 0 < end < len(text) and (_belongs_to_last(text[end]) or text[end - 1] == "\u200d"):
        end -= 1
    return text[:end].rstrip() + _ELLIPSIS


def _belongs_to_last(character: str) -> bool:
    return (
        unicodedata.combining(character) != 0
        or character in "\u200d\ufe0e\ufe0f"
        or "\U0001f3fb" <= character <= "\U0001f3ff"  # skin tones
        or "\U000e0020" <= character <= "\U000e007f"  # tags, as in the flag of Scotland
    )


def _is_text(character: str) -> bool:
    if character == "\n":
        return True
    # Controls, surrogates, and code points that stand for no character (Unicode 23.7) in any version of it.
    return unicodedata.category(character) not in ("Cc", "Cs") and ord(character) & 0xFFFE != 0xFFFE
