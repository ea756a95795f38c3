"""IRC without I/O: bytes from a socket become lines, a line becomes its parts.

Follows RFC 1459 section 2.3.1 and the IRCv3 message tags (https://ircv3.net/specs/extensions/message-tags, read
2026-11-23), and forgives what they forbid: nothing that arrives raises, and a line that makes no sense never takes a
good one with it.
"""

from __future__ import annotations

from typing import NamedTuple

# IRCv3 allows 8191 bytes of tags and 512 of the rest; Twitch has been seen to send more. A peer that never ends a
# line makes us hold this much and no more.
LONGEST_LINE_BYTES = 32 * 1024

# NUL has no place in IRC, PostgreSQL takes none, and C programs that read an export would stop there.
_NUL = "\0"
_NOT_A_CHARACTER = "\ufffd"


class Line(NamedTuple):
    """The parts of one line. Text is UTF-8; NUL and bytes that are not UTF-8 became U+FFFD."""

    tags: dict[str, str]
    """By key, unescaped; a tag without a value has the empty one, and of equal keys the last counts."""
    source: str
    """``nick!user@host`` or the server's name; empty when the line has none."""
    command: str
    """Upper case; never empty."""
    params: list[str]
    """The last one may contain spaces."""
    raw: bytes
    """The line as it came, without its end."""


class Splitter:
    """Cuts a stream of bytes into lines. It ends a line at LF, with or without CRs before it.

    Where the stream was cut into chunks makes no difference, not even inside a character. A line of more than
    ``LONGEST_LINE_BYTES`` is left out up to its end and counted in ``dropped``; empty lines are left out. What comes
    after the last LF waits for the next chunk.
    """

    def __init__(self) -> None:
        self.dropped = 0
        """Lines that were too long."""
        self._unfinished = bytearray()
        self._skipping = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that are complete now, without their ends; may be empty."""
        pieces = chunk.split(b"\n")
        rest = pieces.pop()
        if pieces and (self._unfinished or self._skipping):
            if self._skipping:
                del pieces[0]
                self._skipping = False
            else:
                pieces[0] = bytes(self._unfinished) + pieces[0]
            self._unfinished.clear()
        if not self._skipping:
            self._unfinished += rest
            if len(self._unfinished) > LONGEST_LINE_BYTES:
                self.dropped += 1
                self._skipping = True
                self._unfinished.clear()
        lines = [line for piece in pieces if len(piece) <= LONGEST_LINE_BYTES and (line := piece.rstrip(b"\r"))]
        if len(lines) < len(pieces):
            self.dropped += sum(len(piece) > LONGEST_LINE_BYTES for piece in pieces)
        return lines


def parse_line(raw: bytes) -> Line | None:
    """The parts of a line that has no CR LF at its end, or ``None`` when there is no command in it."""
    text = decode(raw)
    tags: dict[str, str] = {}
    if text.startswith("@"):
        section, _, text = text[1:].partition(" ")
        tags = _parse_tags(section)
        text = text.lstrip(" ")
    source = ""
    if text.startswith(":"):
        source, _, text = text[1:].partition(" ")
        text = text.lstrip(" ")
    middle, colon, trailing = text.partition(" :")
    words = middle.split(" ")
    if "" in words:
        words = [word for word in words if word]
        if not words:
            return None
    command = words[0].upper()
    del words[0]
    if colon:
        words.append(trailing)
    return Line(tags, source, command, words, raw)


def command_of(raw: bytes) -> bytes:
    """Only the command of a line, as it is spelled there; empty when there is none. A fifth of the work of parsing."""
    start = _start_of_command(raw)
    end = raw.find(b" ", start)
    return raw[start:] if end < 0 else raw[start:end]


def last_parameter_of(raw: bytes) -> bytes:
    """The last parameter of a line as it came, of a line that has one."""
    middle, colon, trailing = raw[_start_of_command(raw) :].partition(b" :")
    return trailing if colon else middle.rstrip(b" ").rpartition(b" ")[2]


def _start_of_command(raw: bytes) -> int:
    start = 0
    for mark in (b"@", b":"):
        if raw.startswith(mark, start):
            start = raw.find(b" ", start)
            if start < 0:
                return len(raw)
        while raw.startswith(b" ", start):
            start += 1
    return start


def decode(raw: bytes) -> str:
    """Text of bytes that should be UTF-8: each stretch that is not becomes U+FFFD, and so does NUL."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode(errors="replace")
    return text.replace(_NUL, _NOT_A_CHARACTER) if _NUL in text else text


def unescape(value: str) -> str:
    """The value of a tag as it is meant: a backslash before anything that is no escape, and at the end, is dropped."""
    if "\\" not in value:
        return value
    # Between pairs of backslashes each one stands alone, so plain replacing cannot take two escapes for a third.
    parts = value.split(r"\\")
    for place, part in enumerate(parts):
        if "\\" in part:
            meant = part.replace(r"\s", " ").replace(r"\:", ";").replace(r"\n", "\n").replace(r"\r", "\r")
            parts[place] = meant.replace("\\", "")
    return "\\".join(parts)


def _parse_tags(section: str) -> dict[str, str]:
    try:
        # Twitch writes every tag as key=value, so this one line does nearly all of them.
        tags = dict([tag.split("=", 1) for tag in section.split(";")])
    except ValueError:
        tags = {}
        for tag in section.split(";"):
            key, _, value = tag.partition("=")
            tags[key] = value
    if "" in tags:
        del tags[""]
    if "\\" in section:
        for key, value in tags.items():
            if "\\" in value:
                tags[key] = unescape(value)
    return tags
