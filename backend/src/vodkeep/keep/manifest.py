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
    source: str  # "vod", "import" or "missing"
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
class PublicationEntry:
    """A part of the broadcast on YouTube, or on its way there; the publish stage writes it when one of these changes.

    A rescan makes the rows of ``publications`` from it, so that what is on YouTube is never uploaded a second time.
    """

    round: int  # 1, and one more each time that a fresh publication is asked for
    part: int  # 1..parts
    parts: int
    state: str  # as in ``publications.state``
    start_ms: int  # its stretch of the picture
    end_ms: int
    youtube_id: str | None = None  # None: YouTube has not given one yet
    uploaded_at: datetime | None = None  # UTC
    processed_at: datetime | None = None  # UTC


@dataclass(frozen=True, slots=True)
class LetGoEntry:
    """The video that is no longer in the folder, because retention let it go; see `vodkeep.keep.trash`."""

    at: datetime  # when it was decided, UTC
    reason: str  # as a sentence
    file: FileEntry  # what it was
    trash: str | None  # its folder in the trash, relative to the library; None: it was removed for good


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
    # ms since then in which nothing was broadcast and after which the picture goes on without a hole, from start to end
    pauses: tuple[tuple[int, int], ...] = ()
    chat: ChatEntry | None = None  # None: nothing was kept of it, or it was not seen to yet
    description: str = ""  # as Twitch had it
    found_at: datetime | None = None  # when the catalog first saw it, UTC; None: not told
    publications: tuple[PublicationEntry, ...] = ()  # by round and part
    let_go: LetGoEntry | None = None  # None: the video is among the files
    listed_seconds: int | None = None  # its length as Twitch lists it; None: not told

    def file(self, name: str) -> FileEntry | None:
        """The entry of the file called ``name``; None when the item has none."""
        return next((entry for entry in self.files if entry.name == name), None)


def write_manifest(manifest: Manifest) -> str:
    """The manifest as indented JSON, times in ISO 8601."""
    fields = asdict(manifest)
    fields["date"] = _iso(manifest.date)
    fields["captured_at"] = manifest.captured_at.isoformat()
    fields["picture_start"] = _iso(manifest.picture_start)
    fields["found_at"] = _iso(manifest.found_at)
    for told, entry in zip(fields["publications"], manifest.publications, strict=True):
        told |= {"uploaded_at": _iso(entry.uploaded_at), "processed_at": _iso(entry.processed_at)}
    if manifest.let_go is not None:
        fields["let_go"]["at"] = _iso(manifest.let_go.at)
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
                "date": _moment(fields["date"]),
                "captured_at": datetime.fromisoformat(fields["captured_at"]),
                "tools": tuple(fields["tools"]),
                "files": tuple(FileEntry(**entry) for entry in fields["files"]),
                "streams": tuple(StreamEntry(**entry) for entry in fields["streams"]),
                "ledger": tuple(LedgerEntry(**entry) for entry in fields["ledger"]),
                "chapters": tuple(ChapterEntry(**entry) for entry in fields["chapters"]),
                "picture_start": _moment(fields.get("picture_start")),
                "pauses": tuple((int(start), int(end)) for start, end in fields.get("pauses") or ()),
                "chat": _read_chat(fields["chat"]) if fields.get("chat") else None,
                "found_at": _moment(fields.get("found_at")),
                "publications": tuple(_read_publication(entry) for entry in fields.get("publications") or ()),
                "let_go": _read_let_go(fields["let_go"]) if fields.get("let_go") else None,
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


def _read_publication(told: dict[str, Any]) -> PublicationEntry:
    moments = {name: _moment(told.get(name)) for name in ("uploaded_at", "processed_at")}
    return PublicationEntry(**{**told, **moments})


def _read_let_go(told: dict[str, Any]) -> LetGoEntry:
    at, file = datetime.fromisoformat(told["at"]), FileEntry(**told["file"])
    return LetGoEntry(**{**told, "at": at, "file": file})


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None


def _moment(told: str | None) -> datetime | None:
    return datetime.fromisoformat(told) if told else None


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
        and isinstance(manifest.description, str)
        and (manifest.listed_seconds is None or type(manifest.listed_seconds) is int)
        and all(
            type(entry.round) is int and type(entry.part) is int and type(entry.parts) is int
            and type(entry.start_ms) is int and type(entry.end_ms) is int
            and isinstance(entry.state, str) and isinstance(entry.youtube_id, str | None)
            for entry in manifest.publications
        )
        and (
            manifest.let_go is None
            or (isinstance(manifest.let_go.reason, str) and isinstance(manifest.let_go.trash, str | None))
        )
    )  # fmt: skip
    if not fine:
        raise ManifestError("a field has the wrong type")
    for entry in (*manifest.files, *(() if manifest.let_go is None else (manifest.let_go.file,))):
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
