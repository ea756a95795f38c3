"""What an MP4 says about itself: title, artist, date, comment, and chapters in the two ways that players know.

Chapters stand in a ``chpl`` box (Nero) for VLC and mpv, and in a text track for Apple's players (QuickTime File Format
Specification, "Chapter Lists"); libavformat reads both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vodkeep.capture.model import Chapter
from vodkeep.capture.mp4_boxes import box, full_box

CHAPTER_TIMESCALE = 1000  # ticks per second of the chapter track

_MOST_NERO_CHAPTERS = 255  # Their number and the length of a title are one byte each.
_MOST_NERO_TITLE_BYTES = 255
_MOST_TEXT_BYTES = 0xFFFF  # The length of a text sample is two bytes.
_UTF_8 = box(b"encd", (0x100).to_bytes(4, "big"))  # Says that a text sample is UTF-8.


@dataclass(frozen=True, slots=True)
class Movie:
    """What is written into the file beside the media; empty texts are left out."""

    title: str = ""
    artist: str = ""
    date: str = ""  # ISO 8601, such as "2026-11-23"
    comment: str = ""
    encoder: str = ""
    chapters: tuple[Chapter, ...] = ()


def settle_chapters(chapters: Sequence[Chapter], end_ms: int) -> list[tuple[int, str]]:
    """Beginnings in milliseconds, ascending, with titles; what begins behind the end of the movie is left out."""
    starts = {max(0, chapter.start_us // 1000): " ".join(chapter.title.splitlines()) for chapter in chapters}
    return [(start, starts[start]) for start in sorted(starts) if start < end_ms]


def user_data(movie: Movie, chapters: Sequence[tuple[int, str]]) -> bytes:
    """The udta box of the movie (ISO/IEC 14496-12 section 8.10.1), or nothing."""
    boxes = b"".join((_nero_chapters(chapters) if chapters else b"", _tags(movie)))
    return box(b"udta", boxes) if boxes else b""


def _nero_chapters(chapters: Sequence[tuple[int, str]]) -> bytes:
    entries = []
    for start_ms, title in chapters[:_MOST_NERO_CHAPTERS]:
        text = _cut(title, _MOST_NERO_TITLE_BYTES)
        entries.append((start_ms * 10_000).to_bytes(8, "big") + bytes((len(text),)) + text)  # In 100 ns.
    return full_box(b"chpl", 1, 0, bytes(4), bytes((len(entries),)), *entries)


def _tags(movie: Movie) -> bytes:
    """Texts as iTunes writes them (ISO/IEC 14496-12 section 8.11; items of the "mdir" handler)."""
    texts = (
        (b"\xa9nam", movie.title),
        (b"\xa9ART", movie.artist),
        (b"\xa9day", movie.date),
        (b"\xa9cmt", movie.comment),
        (b"\xa9too", movie.encoder),
    )
    items = b"".join(
        box(kind, box(b"data", (1).to_bytes(4, "big"), bytes(4), _encode(text))) for kind, text in texts if text
    )  # Type 1 is UTF-8.
    if not items:
        return b""
    handler = full_box(b"hdlr", 0, 0, bytes(4), b"mdir", b"appl", bytes(9))
    return full_box(b"meta", 0, 0, handler, box(b"ilst", items))


def chapter_sample(title: str) -> bytes:
    """A sample of the chapter track: its length, the text, and that it is UTF-8."""
    text = _cut(title, _MOST_TEXT_BYTES)
    return len(text).to_bytes(2, "big") + text + _UTF_8


def chapter_sample_entry() -> bytes:
    """The sample entry of the chapter track (QuickTime File Format Specification, "Text Media"), all defaults."""
    font_table = box(b"ftab", (1).to_bytes(2, "big"), (1).to_bytes(2, "big"), b"\x00")
    display = (1).to_bytes(4, "big") + bytes(6) + bytes(8)  # Flags, justification, colour; the text box.
    style = bytes(4) + (1).to_bytes(2, "big") + bytes(6)  # Characters; font 1; style, size and colour.
    return box(b"text", bytes(6), (1).to_bytes(2, "big"), display, style, font_table)


def chapter_media_header() -> bytes:
    """The gmhd box of the chapter track (QuickTime File Format Specification, "Base Media Information Header")."""
    graphics = (0x40).to_bytes(2, "big") + (0x8000).to_bytes(2, "big") * 3 + bytes(4)
    matrix = b"".join(value.to_bytes(4, "big") for value in (0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000))
    return box(b"gmhd", full_box(b"gmin", 0, 0, graphics), box(b"text", matrix))


def _encode(text: str) -> bytes:
    """UTF-8; a lone surrogate, which no file can hold, becomes a question mark, and NUL, which ends a text, a space."""
    return text.replace("\0", " ").encode("utf-8", "replace")


def _cut(text: str, most_bytes: int) -> bytes:
    """UTF-8 of at most so many bytes, cut between characters."""
    return _encode(text)[:most_bytes].decode("utf-8", "ignore").encode()
