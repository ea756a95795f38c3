"""What an answer of YouTube's that is no success means; pure, one table.

Sources, read in November 2026: https://developers.google.com/youtube/v3/docs/errors,
https://developers.google.com/youtube/v3/docs/videos/insert (errors), and for the daily limit of uploads
https://github.com/googleapis/google-api-python-client/issues/2753: it comes as 429 ``rateLimitExceeded``, as do
the limits by the minute, and only its text tells them apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

LONGEST_WAIT_S = 3600.0


class Meaning(Enum):
    """What follows from a refusal."""

    TOKEN = "token"  # noqa: S105 - the access token is refused: another one may do
    QUOTA = "quota"  # the project's day is used up: until midnight on the Pacific coast
    UPLOAD_LIMIT = "upload_limit"  # the channel's uploads of 24 hours are used up
    SLOW_DOWN = "slow_down"  # too fast: a little later
    SERVER = "server"  # the other side's fault: a little later
    PERMANENT = "permanent"  # a person must decide


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is no success, understood."""

    meaning: Meaning
    code: str  # ours, stable
    sentence: str
    remedy: str = ""
    delay_s: float | None = None  # what the other side asked for, an hour at most


_CONNECT_AGAIN = "Connect YouTube again on the page of accounts."
_REFUSED: Mapping[str, tuple[str, str, str]] = {
    # reason: (code, what is wrong, remedy)
    "youtubeSignupRequired": (
        "youtube_signup_required",
        "the Google account has no YouTube channel",
        "Create a channel for this account at https://www.youtube.com/create_channel, or connect another account.",
    ),
    "invalidTitle": (
        "invalid_title",
        "it does not accept the title",
        "Change YOUTUBE_TITLE or the title of the broadcast.",
    ),
    "invalidDescription": (
        "invalid_description",
        "it does not accept the description",
        "Change YOUTUBE_DESCRIPTION or the broadcast's own description.",
    ),
    "invalidTags": ("invalid_tags", "it does not accept the tags", "Change YOUTUBE_TAGS."),
    "invalidCategoryId": ("invalid_category", "it does not know the category", "Change YOUTUBE_CATEGORY."),
    "invalidVideoMetadata": (
        "invalid_metadata",
        "it does not accept what it is told about the video",
        "Look at the YOUTUBE_ settings of videos, YOUTUBE_LANGUAGE among them, with vodkeep publish preview.",
    ),
    "insufficientPermissions": (
        "youtube_scope_missing",
        "the connection lacks the right to do this",
        "Add https://www.googleapis.com/auth/youtube to YT_SCOPES and connect YouTube again.",
    ),
    "playlistNotFound": ("playlist_not_found", "there is no such playlist", "Change YOUTUBE_PLAYLIST."),
    "playlistContainsMaximumNumberOfVideos": (
        "playlist_full",
        "the playlist is full",
        "Name another playlist in YOUTUBE_PLAYLIST.",
    ),
    "videoNotFound": ("video_not_found", "it no longer has the video", ""),
    "invalidImage": ("invalid_thumbnail", "it does not accept the thumbnail", ""),
    "authenticatedUserAccountSuspended": ("youtube_account_suspended", "the account is suspended", ""),
    "authenticatedUserAccountClosed": ("youtube_account_closed", "the account is closed", _CONNECT_AGAIN),
    "channelSuspended": ("youtube_account_suspended", "the channel is suspended", ""),
    "accessNotConfigured": (
        "youtube_api_disabled",
        "the YouTube Data API is not enabled for the Google project",
        "Enable the YouTube Data API v3 for the project of YT_CLIENT_ID in the Google console.",
    ),
}
_ALSO = {
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": "insufficientPermissions",
    "SERVICE_DISABLED": "accessNotConfigured",
    "invalidSnippet": "invalidVideoMetadata",
    "defaultLanguageNotSet": "invalidVideoMetadata",
}
_QUOTA = frozenset({"quotaExceeded", "dailyLimitExceeded", "dailyLimitExceededUnreg"})
_TOO_FAST = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "uploadRateLimitExceeded", "RATE_LIMIT_EXCEEDED"})
_SERVER = frozenset({"backendError", "internalError", "processingFailure", "SERVICE_UNAVAILABLE"})
_TAG = re.compile(r"<[^<>]*>")


def refusal_of(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """What an answer means that is neither a success nor "go on"; ``headers`` have names in lower case."""
    reason, message = _reason(body)
    reason = _ALSO.get(reason, reason)
    said = f"HTTP {status}{f' {reason}' if reason else ''}{f': {message}' if message else ''}"
    delay_s = _retry_after_s(headers)
    if reason in _REFUSED:
        code, wrong, remedy = _REFUSED[reason]
        return Refusal(Meaning.PERMANENT, code, f"YouTube refuses: {wrong} ({said}).", remedy)
    if reason in _QUOTA or (reason in _TOO_FAST and "per day" in message):
        return Refusal(
            Meaning.QUOTA,
            "quota_exhausted",
            f"The quota of the Google project is used up for today ({said}).",
            "Wait for the reset, or ask Google for a larger quota and raise YOUTUBE_QUOTA and YOUTUBE_UPLOAD_QUOTA.",
        )
    if reason == "uploadLimitExceeded":
        return Refusal(
            Meaning.UPLOAD_LIMIT,
            "upload_limit_exceeded",
            f"YouTube takes no more uploads to this channel for 24 hours ({said}).",
            "Lower UPLOAD_DAILY_LIMIT, or confirm the channel's phone number for a larger limit.",
        )
    if reason in _TOO_FAST or status == 429:
        return Refusal(Meaning.SLOW_DOWN, "rate_limited", f"YouTube asks us to slow down ({said}).", "", delay_s)
    if status == 401:
        return Refusal(Meaning.TOKEN, "credentials", f"YouTube refuses the access token ({said}).", _CONNECT_AGAIN)
    if status >= 500 or status < 400 or reason in _SERVER or not reason:
        # A page of HTML with any status is a proxy's or a front end's, and says nothing about the video.
        return Refusal(Meaning.SERVER, "server_error", f"YouTube answers with an error ({said}).", "", delay_s)
    return Refusal(Meaning.PERMANENT, "upload_rejected", f"YouTube refuses the request ({said}).")


def _reason(body: bytes) -> tuple[str, str]:
    """Google's reason and message, safe to print; empty where the body is not what Google writes."""
    try:
        error = json.loads(body)["error"]
        if not isinstance(error, dict):
            return "", ""
        entries = error.get("errors") or [{}]
        first = entries[0] if isinstance(entries, list) and isinstance(entries[0], dict) else {}
        details = error.get("details") or [{}]
        detail = details[0] if isinstance(details, list) and isinstance(details[0], dict) else {}
        # The newer detail is the more exact one: the older says "forbidden" for a right that is missing.
        stated = detail.get("reason") if detail.get("reason") in _ALSO else None
        return _short(stated or first.get("reason") or error.get("status"), 60), _short(error.get("message"), 200)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return "", ""


def _short(text: object, limit: int) -> str:
    if not isinstance(text, str):
        return ""
    plain = " ".join("".join(c if c.isprintable() else " " for c in _TAG.sub("", text)).split()).rstrip(".")
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    stated = headers.get("retry-after", "")
    return min(LONGEST_WAIT_S, float(stated)) if re.fullmatch(r"[0-9]{1,9}", stated, re.ASCII) else None
