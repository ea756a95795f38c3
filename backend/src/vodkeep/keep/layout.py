"""Names on disk: readable for people, safe on ext4, NTFS and SMB alike."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from pathlib import PurePosixPath

# NTFS and SMB count 255 UTF-16 units, ext4 255 bytes; 200 bytes leave room for what media servers append.
MAX_NAME_BYTES = 200
# What Windows and SMB forbid in a name; the slash and NUL are forbidden everywhere.
_FORBIDDEN = str.maketrans(dict.fromkeys('<>:"/\\|?*', " "))
# Device names of Windows are reserved with any ending (learn.microsoft.com, "Naming Files, Paths, and Namespaces").
_RESERVED = re.compile(r"^(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?$", re.IGNORECASE)
# Joiners hold emoji and Indic letters together; every other invisible format character can only mislead.
_KEPT_FORMAT = "\u200c\u200d"


def item_folder(template: str, *, channel: str, date: datetime | None, title: str, video_id: str) -> PurePosixPath:
    """The folder of an item, relative to the library, from ``template`` such as ``{channel}/{date} {title} [{id}]``.

    ``{date}`` is the UTC day the broadcast began. No value can add a folder level or leave the library. When a name
    would become too long, the title gives way, never the id.
    """
    values = {
        "channel": safe_name(channel) or "unknown",
        "date": date.date().isoformat() if date is not None else "undated",
        "year": f"{date.year:04}" if date is not None else "undated",
        "title": safe_name(title) or "untitled",
        "id": safe_name(video_id),
    }
    parts = [_fill(part, values) for part in template.split("/") if part.strip()]
    return PurePosixPath(*parts)


def safe_name(text: str) -> str:
    """``text`` as (a part of) a file name: no separators, controls, direction marks or runs of space; may be empty."""
    text = unicodedata.normalize("NFC", text).translate(_FORBIDDEN)
    kept = "".join(character if _is_visible(character) else " " for character in text)
    # Dots and spaces at the ends vanish on Windows; a leading dot hides the name elsewhere.
    return " ".join(kept.split()).strip(". ")


def _is_visible(character: str) -> bool:
    # Controls, format characters, surrogates, private use, unassigned, and line and paragraph separators.
    category = unicodedata.category(character)
    return not (category[0] == "C" or category in ("Zl", "Zp")) or character in _KEPT_FORMAT


def _fill(part: str, values: Mapping[str, str]) -> str:
    name = _finish(string.Formatter().vformat(part, (), values))
    while len(name.encode()) > MAX_NAME_BYTES and values["title"]:
        excess = len(name.encode()) - MAX_NAME_BYTES
        shorter = _cut(values["title"], max(0, len(values["title"].encode()) - excess))
        if shorter == values["title"] or "{title" not in part:
            break
        values = {**values, "title": shorter}
        name = _finish(string.Formatter().vformat(part, (), values))
    return _finish(_cut(name, MAX_NAME_BYTES)) or "_"


def _finish(name: str) -> str:
    name = safe_name(name)
    return f"_{name}" if _RESERVED.match(name) else name


def _cut(text: str, limit_bytes: int) -> str:
    """At most ``limit_bytes`` of UTF-8, cut between characters and never before a mark that belongs to the last one."""
    if len(text.encode()) <= limit_bytes:
        return text
    end = len(text.encode()[:limit_bytes].decode("utf-8", "ignore"))
    while end > 0 and (unicodedata.combining(text[end]) or text[end] in "\u200d\ufe0f" or text[end - 1] == "\u200d"):
        end -= 1
    return text[:end].rstrip()
