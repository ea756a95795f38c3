"""What the resolver's messages mean: the one table for a tool that leaves only text.

Each pattern was taken from what yt-dlp really printed. Status codes are matched only where the tool says that they
are one, so that digits inside a video id never look like an answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class ToolVerdict(StrEnum):
    """What a message says about the VOD or the way to it."""

    SUB_ONLY = "sub_only"
    DOES_NOT_EXIST = "does_not_exist"  # said of deleted VODs and of service faults alike: ask again elsewhere
    GEO_BLOCKED = "geo_blocked"
    LOGIN_NEEDED = "login_needed"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    REFUSED = "refused"
    NETWORK = "network"
    PART_MISSING = "part_missing"  # of a whole download: a segment cannot be had
    DISK_FULL = "disk_full"
    NOT_OURS = "not_ours"  # the address is not one of a VOD
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ToolMessage:
    """A classified message."""

    verdict: ToolVerdict
    line: str  # the line it was read from, without the tool's prefix and advice


_TABLE: tuple[tuple[ToolVerdict, re.Pattern[str]], ...] = tuple(
    (verdict, re.compile(pattern, re.IGNORECASE))
    for verdict, pattern in (
        (ToolVerdict.DISK_FULL, r"no space left on device|disk quota exceeded"),
        (ToolVerdict.PART_MISSING, r"\bfragment \d+ not found"),
        (
            ToolVerdict.SUB_ONLY,
            r"only available to subscribers|subscriber-only|vod_manifest_restricted|unauthorized_entitlements",
        ),
        (ToolVerdict.DOES_NOT_EXIST, r"\bvideo v?\d+ does not exist|\bHTTP Error (?:404|410)\b"),
        (
            ToolVerdict.GEO_BLOCKED,
            r"not available (?:in|from) your (?:country|location|region)|geo.?restrict|\bHTTP Error 451\b",
        ),
        (ToolVerdict.LOGIN_NEEDED, r"\bregistered users\b|you must be logged into|login required"),
        (ToolVerdict.RATE_LIMITED, r"\bHTTP Error 429\b|too many requests"),
        (
            ToolVerdict.SERVER_ERROR,
            r"\bHTTP Error 5\d\d\b|failed to parse JSON|\bservice error\b|\bserver error\b",
        ),
        (ToolVerdict.REFUSED, r"\bHTTP Error (?:400|401|403)\b|\bunauthorized\b|\bforbidden\b"),
        (
            ToolVerdict.NETWORK,
            r"timed out|connection (?:refused|reset|aborted)|failed to resolve|name or service not known|"
            r"temporary failure in name resolution|network is unreachable|no route to host|"
            r"certificate verify failed|\bSSL\b|remote end closed|incomplete ?read|tunnel connection failed|"
            r"unable to connect to proxy|urlopen error|transporterror",
        ),
        (ToolVerdict.NOT_OURS, r"unsupported url|is not a valid url"),
    )
)
_ERROR_LINE = re.compile(r"^(?:ERROR|yt-dlp: error):\s*", re.IGNORECASE)
_GIVEN_UP = re.compile(r"\[download\] Got error: (.*?)\. Giving up after")
# What says something about the way to a segment and nothing about the segment.
_OF_THE_WAY = {
    ToolVerdict.DISK_FULL,
    ToolVerdict.NETWORK,
    ToolVerdict.RATE_LIMITED,
    ToolVerdict.SERVER_ERROR,
}
_EXTRACTOR_PREFIX = re.compile(r"^\[[\w:.-]+\]\s*(?:v?\d+:\s*)?")
_ADVICE = re.compile(r"\s*(?:; please report this issue|\(caused by |Use --).*$", re.IGNORECASE | re.DOTALL)


def classify_tool_output(stderr: str) -> ToolMessage:
    """Find the first telling ``ERROR:`` line of a tool's stderr and say what it means."""
    spoken = stderr.splitlines()
    errors = [(at, _ERROR_LINE.sub("", line)) for at, line in enumerate(spoken) if _ERROR_LINE.match(line)]
    if not errors:
        last = next((line for line in reversed(spoken) if line.strip()), "it gave no reason")
        return ToolMessage(ToolVerdict.UNKNOWN, _shorten(last))
    for at, line in errors:
        said = _EXTRACTOR_PREFIX.sub("", line)
        verdict = _verdict_of(said)
        if verdict is ToolVerdict.PART_MISSING:
            return _why_missing(said, spoken[:at])
        if verdict is not ToolVerdict.UNKNOWN:
            return ToolMessage(verdict, _shorten(said))
    # yt-dlp begins a report on several lines with an empty one.
    told = _EXTRACTOR_PREFIX.sub("", next((line for _, line in errors if line.strip()), "it gave no reason"))
    # With several connections the others' failure to go on may be all that is called an error.
    if any(_GIVEN_UP.match(line) for line in spoken):
        return _why_missing(told, spoken)
    return ToolMessage(ToolVerdict.UNKNOWN, _shorten(told))


def _verdict_of(said: str) -> ToolVerdict:
    return next((verdict for verdict, pattern in _TABLE if pattern.search(said)), ToolVerdict.UNKNOWN)


def _why_missing(said: str, before: Sequence[str]) -> ToolMessage:
    """A segment is called missing whatever the reason; what was said just before tells an outage from a hole."""
    reason = next((match[1] for line in reversed(before) if (match := _GIVEN_UP.match(line))), None)
    if reason is None:
        return ToolMessage(ToolVerdict.PART_MISSING, _shorten(said))
    verdict = _verdict_of(reason)
    return ToolMessage(verdict if verdict in _OF_THE_WAY else ToolVerdict.PART_MISSING, _shorten(f"{said} ({reason})"))


def _shorten(line: str) -> str:
    return _ADVICE.sub("", line).strip()[:300]
