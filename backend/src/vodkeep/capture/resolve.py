"""From a VOD id to its playlist, with yt-dlp as a child process.

The resolver is a replaceable program (``YTDLP_PATH``, ``YTDLP_ARGS``, ``vodkeep tools upgrade``): when Twitch changes,
upgrading it is the cure.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from vodkeep.capture.model import Chapter, ResolvedVod
from vodkeep.capture.rendition import Rendition, choose_rendition, read_renditions, with_twins
from vodkeep.capture.tool_messages import ToolMessage, ToolVerdict, classify_tool_output
from vodkeep.capture.tools import Origin, ToolCommand, ToolShelf
from vodkeep.child import run_child
from vodkeep.errors import (
    DiskFull,
    Incomplete,
    NetworkError,
    PermanentError,
    RateLimited,
    ServerError,
    TransientError,
    VodkeepError,
)
from vodkeep.quality import Qualities
from vodkeep.telemetry.log import Logger

SITE_URL = "https://www.twitch.tv"

# Four requests of at most 20 s each, and slack for a slow NAS.
_DEADLINE_S = 120.0
_SOCKET_TIMEOUT_S = 20
TWITCH_FIRST = ("--use-extractors", "twitch.*,default")
"""Has yt-dlp try what it knows of Twitch before all else.

It asks its 1,800 extractors in turn whether an address is theirs, and prepares a pattern for each: half of the time it
computes at all, and seconds on a small machine.
"""

# With one of these in YTDLP_ARGS an operator chooses by yt-dlp's rules, which then count and not ours.
_FORMAT_OPTIONS = re.compile(r"-[fS].*|--format(-sort)?(=.*)?", re.DOTALL)

ChooseRendition = Callable[[str, object], Rendition | None]


class Resolver(Protocol):
    """Finds out where a VOD's picture is."""

    async def resolve(self, video_id: str, rendition: str | None = None) -> ResolvedVod:
        """Resolve ``video_id`` (digits); raises the errors of `vodkeep.errors`.

        With ``rendition`` (a `ResolvedVod.format_id`) that one and no other, whatever the settings say.
        """
        ...


class ExistenceCheck(Protocol):
    """Tells a deleted VOD from a service fault."""

    async def video_exists(self, video_id: str) -> bool:
        """Whether Twitch has the VOD; raises a `TransientError` when that cannot be told."""
        ...


class YtDlpResolver:
    """Runs ``yt-dlp -J`` for one VOD at a time."""

    def __init__(
        self,
        *,
        program: Callable[[], ToolCommand],
        args: Sequence[str],
        existence: ExistenceCheck,
        log: Logger,
        qualities: Qualities = Qualities(),  # noqa: B008 - a value that never changes
        site_url: str = SITE_URL,
    ) -> None:
        """``program`` is asked before each VOD, so that an upgrade counts at once; ``args`` come before the address.

        ``qualities`` are not looked at when ``args`` choose a format.
        """
        self._program = program
        self._args = tuple(args)
        self._existence = existence
        self._log = log
        self._qualities = qualities
        self._site_url = site_url

    async def resolve(self, video_id: str, rendition: str | None = None) -> ResolvedVod:
        """Resolve a VOD; see `Resolver`.

        Raises `PermanentError` (``sub_only``, ``deleted``, ``geo_blocked``, ``login_needed``, ``tool_missing``, and
        ``rendition_gone`` when ``rendition`` is not offered), `NetworkError`, `ServerError`, `RateLimited` or
        `TransientError` (``tool_failed``, ``tool_timeout``).
        """
        result = await run_child(self._command(video_id), deadline_s=_DEADLINE_S)
        for line in result.stderr.splitlines():
            self._log.debug("yt-dlp", vod_id=video_id, line=line[:500])
        if result.returncode != 0:
            await self._raise_reason(video_id, result.stderr)
        if rendition is None:
            resolved = read_resolved(result.stdout, video_id, self._choose)
            wish = str(self._qualities.of(resolved.channel))
        else:
            resolved = read_rendition(result.stdout, video_id, rendition)
            wish = rendition
        self._log.info("rendition chosen", vod_id=video_id, rendition=resolved.format_id, quality=wish)
        return resolved

    def _choose(self, channel: str, listed: object) -> Rendition | None:
        if any(_FORMAT_OPTIONS.fullmatch(word) for word in self._args):
            return None
        return choose_rendition(listed, self._qualities.of(channel))

    def _command(self, video_id: str) -> list[str]:
        return [
            *self._program().argv,
            # A person's own configuration file must not change what an archive holds.
            "--ignore-config",
            *TWITCH_FIRST,
            "--dump-single-json",
            "--no-playlist",
            "--no-progress",
            "--format",
            "b/bv*+ba/ba",
            "--socket-timeout",
            str(_SOCKET_TIMEOUT_S),
            # Retrying is decided at one level, and that is the pipeline's.
            "--extractor-retries",
            "0",
            "--retries",
            "0",
            *self._args,
            f"{self._site_url}/videos/{video_id}",
        ]

    async def _raise_reason(self, video_id: str, stderr: str) -> None:
        message = classify_tool_output(stderr)
        # Said of a deleted VOD and of a fault at Twitch alike.
        unsure = message.verdict is ToolVerdict.DOES_NOT_EXIST
        raise error_for(message, video_id, exists=not unsure or await self._existence.video_exists(video_id))


def find_ytdlp(path: str | None, data_dir: Path) -> ToolCommand:
    """The yt-dlp that is used: ``path`` (YTDLP_PATH), else an upgraded copy, else the installed one."""
    if path is not None:
        return ToolCommand((path,), Origin.SETTING)
    return ToolShelf(data_dir).current() or find_installed_ytdlp()


def find_installed_ytdlp() -> ToolCommand:
    """The yt-dlp beside our own Python, else the one on the PATH, else the bare name (told when it is used)."""
    beside = Path(sys.executable).with_name("yt-dlp")
    if beside.exists():
        return ToolCommand((str(beside),), Origin.INSTALLED)
    return ToolCommand((shutil.which("yt-dlp") or "yt-dlp",), Origin.PATH)


def error_for(message: ToolMessage, video_id: str, *, exists: bool) -> VodkeepError:
    """The error that a message of yt-dlp about a VOD means; ``exists`` is whether Twitch has the VOD, as GQL knows."""
    said = f"yt-dlp said: {message.line}"
    match message.verdict:
        case ToolVerdict.SUB_ONLY:
            return PermanentError(
                f"VOD {video_id} is for subscribers only.",
                code="sub_only",
                remedy="Give yt-dlp the cookies of a subscribed account in YTDLP_ARGS, then retry the item.",
            )
        case ToolVerdict.LOGIN_NEEDED:
            return PermanentError(
                f"VOD {video_id} needs a logged-in account. {said}",
                code="login_needed",
                remedy="Give yt-dlp the cookies of an account in YTDLP_ARGS, then retry the item.",
            )
        case ToolVerdict.GEO_BLOCKED:
            return PermanentError(
                f"VOD {video_id} is not available from here. {said}",
                code="geo_blocked",
                remedy="Reach Twitch through a proxy (YTDLP_ARGS) in a place where the VOD is available.",
            )
        case ToolVerdict.DOES_NOT_EXIST:
            if exists:
                return ServerError(f"Twitch did not show VOD {video_id}, although it exists. {said}")
            return PermanentError(
                f"VOD {video_id} does not exist on Twitch (any more).",
                code="deleted",
                remedy="Nothing can be fetched; the item keeps what it has.",
            )
        case ToolVerdict.RATE_LIMITED:
            return RateLimited(f"Twitch asks to slow down. {said}")
        case ToolVerdict.SERVER_ERROR | ToolVerdict.REFUSED:
            return ServerError(f"Twitch refused VOD {video_id}. {said}")
        case ToolVerdict.NETWORK:
            return NetworkError(f"Twitch cannot be reached. {said}")
        case ToolVerdict.PART_MISSING:
            return Incomplete(f"A part of VOD {video_id} cannot be had. {said}")
        case ToolVerdict.DISK_FULL:
            return DiskFull(f"No space is left for VOD {video_id}. {said}", remedy="Free some space.")
        case ToolVerdict.NOT_OURS:
            return PermanentError(f"VOD {video_id} has an address that yt-dlp does not know.", code="not_a_vod")
        case _:
            return TransientError(
                f"yt-dlp failed on VOD {video_id}. {said}",
                code="tool_failed",
                remedy="If it persists, try `vodkeep tools upgrade`, or point YTDLP_PATH to a newer one.",
            )


def read_resolved(
    output: bytes, video_id: str, choose: ChooseRendition = lambda _channel, _listed: None
) -> ResolvedVod:
    """Read the JSON of ``yt-dlp -J``; raises `TransientError` (``tool_failed``) when it lacks what we need.

    ``choose`` gets the channel's login and ``formats`` as listed; None leaves the choice to yt-dlp.
    """
    try:
        info = json.loads(output)
        if not isinstance(info, dict):
            raise TypeError("not an object")
        channel = (_text(info.get("uploader_id")) or "unknown").lower()
        rendition = choose(channel, info.get("formats"))
        url = rendition.url if rendition is not None else info["url"]
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise ValueError("no playlist address")
    except (ValueError, KeyError, TypeError) as error:
        raise TransientError(
            f"yt-dlp described VOD {video_id} in a form we cannot use ({error}).",
            code="tool_failed",
            remedy="Try `vodkeep tools upgrade`, or point YTDLP_PATH to another one.",
        ) from error
    duration_s = _number(info.get("duration"))
    bitrate_kbps = _number(info.get("tbr")) if rendition is None else rendition.bitrate_bps / 1000
    version = info.get("_version")
    return ResolvedVod(
        video_id=video_id,
        channel=channel,
        channel_name=_text(info.get("uploader")) or _text(info.get("uploader_id")) or "unknown",
        title=_text(info.get("title")) or "",
        date=_instant(info.get("timestamp")),
        duration_s=duration_s,
        still_recording=info.get("is_live") is True,
        playlist_url=url,
        other_urls=rendition.other_urls if rendition is not None else (),
        format_id=rendition.format_id if rendition is not None else _text(info.get("format_id")) or "",
        bitrate_bps=int(bitrate_kbps * 1000) if bitrate_kbps else None,
        thumbnail_url=_thumbnail(info),
        chapters=_chapters(info.get("chapters"), duration_s),
        resolver=f"yt-dlp {_text(version.get('version')) or ''}".strip() if isinstance(version, dict) else "yt-dlp",
    )


def read_rendition(output: bytes, video_id: str, rendition: str) -> ResolvedVod:
    """Like `read_resolved` for one rendition by its name; raises `PermanentError` (``rendition_gone``) without it."""
    offered: list[str] = []

    def choose(_: str, listed: object) -> Rendition | None:
        usable = read_renditions(listed)
        offered.extend(one.format_id for one in usable)
        return next((with_twins(one, usable) for one in usable if one.format_id == rendition), None)

    resolved = read_resolved(output, video_id, choose)
    if resolved.format_id == rendition:
        return resolved
    raise PermanentError(
        f"VOD {video_id} was captured as {rendition}, and Twitch has it only as {', '.join(offered) or 'another'} now.",
        code="rendition_gone",
        remedy="What there is of it stays as it is; to have it in another quality, move its folder away and try again.",
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 10**11:
        return None
    return float(value)


def _instant(value: object) -> datetime | None:
    seconds = _number(value)
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None


def _thumbnail(info: Mapping[str, Any]) -> str | None:
    # yt-dlp sorts thumbnails from worst to best.
    listed = info.get("thumbnails")
    best = listed[-1].get("url") if isinstance(listed, list) and listed and isinstance(listed[-1], dict) else None
    url = _text(best) or _text(info.get("thumbnail"))
    return url if url and url.startswith(("http://", "https://")) else None


def _chapters(value: object, duration_s: float | None) -> tuple[Chapter, ...]:
    chapters: list[Chapter] = []
    for entry in value if isinstance(value, list) else ():
        if not isinstance(entry, dict):
            continue
        start = _number(entry.get("start_time"))
        end = _number(entry.get("end_time"))
        end = duration_s if end is None else end
        if start is None or end is None or end <= start:
            continue
        chapters.append(Chapter(int(start * 1e6), int(end * 1e6), _text(entry.get("title")) or ""))
    return tuple(chapters)
