"""What other programs left on disk: their recordings, and what is told of them beside. Reads only.

Learned from their documentation, their files and what they write (all read 2026-11-24): ganymede's wiki, "File
Structure", and the fields of its ``-info.json``, which are those of Helix; the ``.info.json`` of yt-dlp (README,
"Output template"); the head of TwitchDownloader's chat JSON and the tags it gives to its MP4.
"""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from vodkeep.keep.manifest import MANIFEST_NAME, ChapterEntry
from vodkeep.keep.origins import Origin

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".ts", ".flv", ".webm")
"""Of what is taken for a recording; the first that exists is the one."""

_PICTURES = (".jpg", ".jpeg")
_MOST_INFO_BYTES = 32 << 20
# The head of a chat file: what comes before the comments, chapters included.
_HEAD_CHARACTERS = 1 << 20

_LOGIN = re.compile(r"[a-z0-9_]{1,25}")
_ID = re.compile(r"[0-9]{6,20}")
# "title [123456789]", "[v123456789]", "v123456789-title"; and TwitchDownloader's tag "title (123456789)".
_ID_IN_NAME = re.compile(r"\[v?([0-9]{6,20})\]|(?:^|[^0-9A-Za-z])v([0-9]{6,20})(?![0-9A-Za-z])")
_ID_IN_TAGS = re.compile(r"Video id: v?([0-9]{6,20})\s*$", re.MULTILINE)
_TITLE_WITH_ID = re.compile(r"(.*) \(v?([0-9]{6,20})\)", re.DOTALL)
_CREATED_IN_TAGS = re.compile(r"Created at: (\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ)")
_NAME_WITH_LOGIN = re.compile(r".* \(([a-z0-9_]{1,25})\)", re.IGNORECASE | re.DOTALL)
_DATE_IN_NAME = re.compile(r"(?<!\d)(\d{4}-\d\d-\d\d)(?!\d)")
_GO_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)(?:\.\d+)?s)?")

Tags = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording, and what is known of it; what is not told is None or empty."""

    origin: Origin
    video: Path
    video_id: str | None = None
    channel: str | None = None  # login
    channel_name: str | None = None
    title: str = ""
    date: datetime | None = None  # start, UTC
    stream_id: str | None = None
    description: str = ""
    duration_ms: int | None = None  # of the broadcast, by the word of Twitch and not of the file
    chapters: tuple[ChapterEntry, ...] = ()
    muted: tuple[tuple[int, int], ...] = ()  # ms, start and end
    thumbnail: Path | None = None
    chat: Path | None = None


@dataclass(slots=True)
class Found:
    """What lies below a path."""

    recordings: list[Recording] = field(default_factory=list)
    passed_over: list[tuple[Path, str]] = field(default_factory=list)  # and why


def find_recordings(origin: Origin, path: Path, *, read_tags: Callable[[Path], Tags]) -> Found:
    """The recordings that ``origin`` left at ``path``, a folder or one of its files, in the order of their names.

    ``read_tags`` tells what a video says about itself, and nothing for one that cannot be read. Links are not
    followed, and neither are folders that are items of an archive already.
    """
    found = Found()
    for folder, names in _folders(path, found):
        for name in names:
            if path.is_dir() or (folder / name) == path or name.startswith(_stem(path.name)):
                match origin:
                    case Origin.YT_DLP:
                        _look_for_yt_dlp(folder, name, found)
                    case Origin.GANYMEDE:
                        _look_for_ganymede(folder, name, found)
                    case Origin.TWITCH_DOWNLOADER:
                        _look_for_twitch_downloader(folder, name, found, read_tags)
                    case Origin.FILES:
                        _look_for_files(folder, name, found)
    return found


def _folders(path: Path, found: Found) -> Iterator[tuple[Path, list[str]]]:
    """The folders to look into, each with the names of its files."""
    if not path.is_dir():
        yield path.parent, sorted(each.name for each in path.parent.iterdir() if each.is_file())
        return
    for root, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if MANIFEST_NAME in names:
            folders.clear()
            found.passed_over.append((Path(root), "is an item of an archive already"))
            continue
        yield Path(root), sorted(names)


# --- the programs --------------------------------------------------------------------------------------------------


def _look_for_yt_dlp(folder: Path, name: str, found: Found) -> None:
    if not name.endswith(".info.json"):
        return
    info = _info_of(folder / name, found)
    if info is None:
        return
    if not _text(info.get("extractor_key")).startswith("Twitch"):
        found.passed_over.append((folder / name, "is not of Twitch"))
        return
    stem = name.removesuffix(".info.json")
    video = _video_of(folder, stem, found)
    if video is None:
        return
    date = _moment(info.get("timestamp")) or _moment(info.get("release_timestamp"))
    found.recordings.append(
        Recording(
            Origin.YT_DLP,
            video,
            video_id=_id(_text(info.get("id")).removeprefix("v")),
            channel=_login(info.get("uploader_id")),
            channel_name=_text(info.get("uploader")) or None,
            title=_text(info.get("title")),
            date=date,
            description=_text(info.get("description")),
            duration_ms=_ms(info.get("duration"), 1000),
            chapters=_chapters(info.get("chapters"), "start_time", "end_time", 1000),
            thumbnail=_beside(folder, stem, _PICTURES),
            chat=_beside(folder, stem, (".rechat.json", ".live_chat.json")),
        )
    )


def _look_for_ganymede(folder: Path, name: str, found: Found) -> None:
    if not name.endswith("-info.json"):
        return
    info = _info_of(folder / name, found)
    if info is None:
        return
    stem = name.removesuffix("-info.json")
    video = _video_of(folder, f"{stem}-video", found)
    if video is None:
        return
    # A stream that was recorded live has the stream's id where a VOD has its own, and a start instead of a creation.
    is_live = "started_at" in info
    found.recordings.append(
        Recording(
            Origin.GANYMEDE,
            video,
            video_id=None if is_live else _id(_text(info.get("id")).removeprefix("v")),
            channel=_login(info.get("user_login")),
            channel_name=_text(info.get("user_name")) or None,
            title=_text(info.get("title")),
            date=_moment(info.get("started_at") if is_live else info.get("created_at")),
            stream_id=_id(_text(info.get("id") if is_live else info.get("stream_id"))),
            description=_text(info.get("description")),
            duration_ms=_spoken_ms(_text(info.get("duration"))),
            chapters=_chapters(info.get("chapters"), "start", "end", 1000),
            muted=_muted(info.get("muted_segments")),
            thumbnail=_beside(folder, f"{stem}-thumbnail", _PICTURES),
            chat=_beside(folder, f"{stem}-chat", (".json",)),
        )
    )


def _look_for_twitch_downloader(folder: Path, name: str, found: Found, read_tags: Callable[[Path], Tags]) -> None:
    if not name.lower().endswith(VIDEO_SUFFIXES):
        return
    video, stem = folder / name, name.rpartition(".")[0]
    chat = _beside(folder, stem, (".json", ".json.gz")) or _beside(folder, f"{stem}_chat", (".json", ".json.gz"))
    head = _chat_head(chat) if chat is not None else {}
    about, streamer = head.get("video") or {}, head.get("streamer") or {}
    tags = read_tags(video)
    titled = _TITLE_WITH_ID.fullmatch(tags.get("title", ""))
    comment = tags.get("comment", "")
    told, made = _ID_IN_TAGS.search(comment), _CREATED_IN_TAGS.search(comment)
    artist = tags.get("artist", "")
    named = _NAME_WITH_LOGIN.fullmatch(artist)
    # What was cut out of a VOD has another timeline than the VOD.
    is_cut = _number(about.get("start")) > 1
    found.recordings.append(
        Recording(
            Origin.TWITCH_DOWNLOADER,
            video,
            video_id=_id(_text(about.get("id"))) or (told[1] if told else titled[2] if titled else _id_in(stem)),
            channel=_login(streamer.get("login"))
            or _login(streamer.get("name"))
            or _login(named[1] if named else artist),
            channel_name=_text(streamer.get("name")) or artist or None,
            title=_text(about.get("title")) or (titled[1] if titled else stem),
            date=_moment(about.get("created_at")) or (_moment(made[1]) if made else None) or _date_in(stem),
            description=_text(about.get("description")),
            duration_ms=None if is_cut else _ms(about.get("length"), 1000),
            chapters=_twitch_downloader_chapters(about.get("chapters")),
            thumbnail=_beside(folder, stem, _PICTURES),
            chat=chat if head else None,
        )
    )


def _look_for_files(folder: Path, name: str, found: Found) -> None:
    if not name.lower().endswith(VIDEO_SUFFIXES):
        return
    stem = name.rpartition(".")[0]
    title = _DATE_IN_NAME.sub("", _ID_IN_NAME.sub(" ", stem)).strip(" -_.")
    found.recordings.append(
        Recording(
            Origin.FILES,
            folder / name,
            video_id=_id_in(stem),
            title=" ".join(title.split()) or stem,
            date=_date_in(stem),
            thumbnail=_beside(folder, stem, _PICTURES),
            chat=_beside(folder, stem, (".rechat.json", ".live_chat.json", ".chat.json", ".json")),
        )
    )


# --- files ---------------------------------------------------------------------------------------------------------


def _stem(name: str) -> str:
    """What the files that belong to one have in common at least."""
    return name.removesuffix(".info.json").removesuffix("-info.json").rpartition(".")[0] or name


def _beside(folder: Path, stem: str, endings: tuple[str, ...]) -> Path | None:
    for ending in endings:
        path = folder / f"{stem}{ending}"
        if path.is_file() and not path.is_symlink():
            return path
    return None


def _video_of(folder: Path, stem: str, found: Found) -> Path | None:
    video = _beside(folder, stem, VIDEO_SUFFIXES)
    if video is None:
        found.passed_over.append((folder / stem, "has no video beside its description"))
    return video


def _info_of(path: Path, found: Found) -> dict[str, Any] | None:
    """The object in a JSON file; None, and a word on it, for anything else."""
    try:
        if path.stat().st_size > _MOST_INFO_BYTES:
            found.passed_over.append((path, "is too large for a description"))
            return None
        info = json.loads(path.read_bytes())
    except OSError as error:
        found.passed_over.append((path, f"cannot be read: {error.strerror}"))
        return None
    except (ValueError, RecursionError):
        found.passed_over.append((path, "is no JSON"))
        return None
    if not isinstance(info, dict):
        found.passed_over.append((path, "describes nothing"))
        return None
    return info


def _chat_head(path: Path) -> dict[str, Any]:
    """``streamer`` and ``video`` of TwitchDownloader's chat; empty for a file that has neither.

    They come before the comments, of which there may be a gigabyte.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            text = file.read(_HEAD_CHARACTERS).removeprefix("\ufeff")
    except (OSError, EOFError, UnicodeDecodeError):
        return {}
    head: dict[str, Any] = {}
    for key in ("streamer", "video"):
        place = re.search(rf'"{key}"\s*:\s*(?={{)', text)
        if place is None:
            continue
        try:
            value, _ = json.JSONDecoder().raw_decode(text, place.end())
        except (ValueError, RecursionError):
            continue
        head[key] = value
    return head


# --- values --------------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        return 0.0
    return float(value)


def _ms(value: object, factor: int) -> int | None:
    return round(_number(value) * factor) or None


def _id(text: str) -> str | None:
    return text if _ID.fullmatch(text) else None


def _id_in(name: str) -> str | None:
    """The id in a name; none where there could be two."""
    ids = {first or second for first, second in _ID_IN_NAME.findall(name)}
    return ids.pop() if len(ids) == 1 else None


def _login(value: object) -> str | None:
    text = _text(value).lower()
    return text if _LOGIN.fullmatch(text) else None


def _moment(value: object) -> datetime | None:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC) if value > 0 else None
        moment = datetime.fromisoformat(_text(value))
    except (ValueError, OverflowError, OSError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _date_in(name: str) -> datetime | None:
    found = _DATE_IN_NAME.search(name)
    return _moment(found[1]) if found else None


def _spoken_ms(text: str) -> int | None:
    """``3h8m33s``, as Helix and Go write a duration."""
    found = _GO_DURATION.fullmatch(text)
    if found is None or not text:
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return round(timedelta(hours=hours, minutes=minutes, seconds=seconds).total_seconds() * 1000) or None


def _chapters(value: object, start: str, end: str, factor: int) -> tuple[ChapterEntry, ...]:
    chapters = [
        ChapterEntry(round(_number(each.get(start)) * factor), round(_number(each.get(end)) * factor), title)
        for each in (value if isinstance(value, list) else [])
        if isinstance(each, dict) and (title := _text(each.get("title")))
    ]
    return tuple(sorted((each for each in chapters if each.end_ms > each.start_ms), key=lambda each: each.start_ms))


def _twitch_downloader_chapters(value: object) -> tuple[ChapterEntry, ...]:
    chapters = []
    for each in value if isinstance(value, list) else []:
        if isinstance(each, dict):
            start, length = (
                round(_number(each.get("startMilliseconds"))),
                round(_number(each.get("lengthMilliseconds"))),
            )
            title = _text(each.get("gameDisplayName")) or _text(each.get("description"))
            if length and title:
                chapters.append(ChapterEntry(start, start + length, title))
    return tuple(sorted(chapters, key=lambda each: each.start_ms))


def _muted(value: object) -> tuple[tuple[int, int], ...]:
    stretches = []
    for each in value if isinstance(value, list) else []:
        if isinstance(each, dict):
            start, length = round(_number(each.get("offset")) * 1000), round(_number(each.get("duration")) * 1000)
            if length:
                stretches.append((start, start + length))
    return tuple(sorted(stretches))
