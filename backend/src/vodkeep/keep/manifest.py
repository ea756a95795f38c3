"""The manifest: what an item's folder says of itself, so that the files outlive the program.

``manifest.json`` names every file with size and checksum, says where the broadcast came from, and holds the ledger.
It is written last, so a folder with a manifest is a whole item.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from vodkeep.disk import algorithm_of

MANIFEST_NAME = "manifest.json"
CHAT_NAME = "chat.ndjson.zst"
FORMAT = "vodkeep-manifest/2"
# It had SHA-256 alone, and no name for it.
_FORMAT_1 = "vodkeep-manifest/1"


class ManifestError(ValueError):
    """The file is not a manifest we can read; the message says why."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of the item."""

    name: str  # relative to the item's folder
    size_bytes: int
    checksum: str  # "blake3:" or "sha256:" and the digest, hexadecimal

    @property
    def algorithm(self) -> str:
        """What the checksum is of."""
        return algorithm_of(self.checksum)


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One stream of the video file."""

    kind: str  # "video" or "audio"
    codec: str
    packets: int
    width: int | None
    height: int | None
    fps: float | None


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A stretch of the timeline: where its picture came from, or why it is missing."""

    start_ms: int
    end_ms: int
    source: str  # "vod" or "missing"
    reason: str


@dataclass(frozen=True, slots=True)
class ChapterEntry:
    """A named stretch of the broadcast."""

    start_ms: int
    end_ms: int
    title: str


@dataclass(frozen=True, slots=True)
class ChatEntry:
    """The chat of the broadcast, which lies beside the video."""

    messages: int  # what people said
    completeness: float  # 0..1 of the broadcast; exactly 1.0 only without a gap
    gaps: tuple[tuple[int, int], ...] = ()  # ms of the broadcast of which nothing is known; the longest ones
    reason: str = ""  # why there is not more of it


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything a folder knows of its item."""

    video_id: str
    stream_id: str | None
    channel: str  # login
    channel_name: str  # display name
    title: str
    date: datetime | None  # start, UTC
    duration_ms: int  # of the broadcast's timeline, holes included
    completeness: float  # 0..1
    rendition: str  # the rendition's name at Twitch
    tools: tuple[str, ...]  # what made the file
    captured_at: datetime
    files: tuple[FileEntry, ...]
    streams: tuple[StreamEntry, ...]
    ledger: tuple[LedgerEntry, ...]
    chapters: tuple[ChapterEntry, ...]
    picture_start: datetime | None = None  # when its first picture was broadcast, UTC, where the playlist said so
    chat: ChatEntry | None = None  # None: nothing was kept of it, or it was not seen to yet

    def file(self, name: str) -> FileEntry | None:
        """The entry of the file called ``name``; None when the item has none."""
        return next((entry for entry in self.files if entry.name == name), None)


def write_manifest(manifest: Manifest) -> str:
    """The manifest as indented JSON, times in ISO 8601."""
    fields = asdict(manifest)
    fields["date"] = manifest.date.isoformat() if manifest.date else None
    fields["captured_at"] = manifest.captured_at.isoformat()
    fields["picture_start"] = manifest.picture_start.isoformat() if manifest.picture_start else None
    return json.dumps({"format": FORMAT, **fields}, indent=2, ensure_ascii=False) + "\n"


def read_manifest(text: str) -> Manifest:
    """Read what `write_manifest` wrote; raises `ManifestError`."""
    try:
        fields: dict[str, Any] = json.loads(text)
        form = fields.pop("format")
        if form not in (FORMAT, _FORMAT_1):
            raise ManifestError("it has another format")
        if form == _FORMAT_1:
            for entry in fields["files"]:
                entry["checksum"] = f"sha256:{entry.pop('sha256')}"
        manifest = Manifest(
            **{
                **fields,
                "date": datetime.fromisoformat(fields["date"]) if fields["date"] else None,
                "captured_at": datetime.fromisoformat(fields["captured_at"]),
                "tools": tuple(fields["tools"]),
                "files": tuple(FileEntry(**entry) for entry in fields["files"]),
                "streams": tuple(StreamEntry(**entry) for entry in fields["streams"]),
                "ledger": tuple(LedgerEntry(**entry) for entry in fields["ledger"]),
                "chapters": tuple(ChapterEntry(**entry) for entry in fields["chapters"]),
                "picture_start": (
                    datetime.fromisoformat(fields["picture_start"]) if fields.get("picture_start") else None
                ),
                "chat": _read_chat(fields["chat"]) if fields.get("chat") else None,
            }
        )
        _check_types(manifest)
        return manifest
    except ManifestError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"it cannot be read ({error})") from error


def _read_chat(told: dict[str, Any]) -> ChatEntry:
    return ChatEntry(**{**told, "gaps": tuple((int(start), int(end)) for start, end in told["gaps"])})


def _check_types(manifest: Manifest) -> None:
    """What others show of it has to be what it says it is."""
    fine = (
        isinstance(manifest.rendition, str)
        and type(manifest.completeness) in {int, float}
        and all(
            type(entry.start_ms) is int and type(entry.end_ms) is int
            and isinstance(entry.source, str) and isinstance(entry.reason, str)
            for entry in manifest.ledger
        )
    )  # fmt: skip
    if not fine:
        raise ManifestError("a field has the wrong type")
    for entry in manifest.files:
        algorithm_of(entry.checksum)


def load_manifest(folder: Path) -> Manifest | None:
    """The manifest of an item's folder; None when there is none. Raises `ManifestError` when it is unreadable."""
    try:
        text = (folder / MANIFEST_NAME).read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"it cannot be read ({error})") from error
    return read_manifest(text)
