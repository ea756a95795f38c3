"""Errors as Google writes them.

The reasons are those of https://developers.google.com/youtube/v3/docs/errors and of
https://developers.google.com/youtube/v3/docs/videos/insert, read 2026-11; the daily limit of uploads is the answer that
https://github.com/googleapis/google-api-python-client/issues/2753 shows.
"""

from __future__ import annotations

from dataclasses import dataclass

from vodkeep_standin.serving.call import Reply, json_reply


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of error."""

    status: int
    message: str
    domain: str = "youtube.video"


_DAILY_UPLOADS = (
    "Quota exceeded for quota metric 'Video Uploads' and limit 'Video Uploads per day' of service"
    " 'youtube.googleapis.com' for consumer 'project_number:1'."
)

PROBLEMS: dict[str, Problem] = {
    "authError": Problem(401, "Invalid Credentials", "global"),
    "youtubeSignupRequired": Problem(401, "Unauthorized", "youtube.header"),
    "quotaExceeded": Problem(
        403,
        'The request cannot be completed because you have exceeded your <a href="/youtube/v3/getting-started#quota">'
        "quota</a>.",
        "youtube.quota",
    ),
    "dailyLimitExceeded": Problem(403, "Daily Limit Exceeded. The quota will be reset at midnight.", "usageLimits"),
    "rateLimitExceeded": Problem(429, "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute'."),
    "dailyUploads": Problem(429, _DAILY_UPLOADS, "global"),
    "userRateLimitExceeded": Problem(403, "User Rate Limit Exceeded", "usageLimits"),
    "uploadLimitExceeded": Problem(400, "The user has exceeded the number of videos they may upload."),
    "uploadRateLimitExceeded": Problem(429, "The channel has uploaded too many thumbnails recently.", "youtube"),
    "invalidTitle": Problem(400, "The request metadata specifies an invalid or empty video title."),
    "invalidDescription": Problem(400, "The request metadata specifies an invalid video description."),
    "invalidTags": Problem(400, "The request metadata specifies invalid video keywords."),
    "invalidCategoryId": Problem(400, "The snippet.categoryId property specifies an invalid category ID."),
    "invalidVideoMetadata": Problem(400, "The request metadata is invalid."),
    "mediaBodyRequired": Problem(400, "The request does not include the video content."),
    "insufficientPermissions": Problem(403, "Request had insufficient authentication scopes.", "global"),
    "forbidden": Problem(403, "Forbidden", "global"),
    "videoNotFound": Problem(404, "The video that you are trying to change cannot be found."),
    "playlistNotFound": Problem(
        404, "The playlist identified with the request cannot be found.", "youtube.playlistItem"
    ),
    "backendError": Problem(503, "Backend Error", "global"),
}


def problem(reason: str, *, status: int | None = None, message: str | None = None) -> Reply:
    """The answer for a reason; unknown ones are a 400. ``dailyUploads`` is ours for one form of rateLimitExceeded."""
    kind = PROBLEMS.get(reason, Problem(400, "Bad Request", "global"))
    shown = "rateLimitExceeded" if reason == "dailyUploads" else reason
    code, said = status or kind.status, message or kind.message
    entry = {"message": said, "domain": kind.domain, "reason": shown}
    return json_reply({"error": {"code": code, "message": said, "errors": [entry]}}, code)
