"""YouTube's JSON: a video's metadata as it is sent, and a video as it is described.

Source: https://developers.google.com/youtube/v3/docs/videos and .../playlistItems, read in November 2026. Reading is
lenient: what is missing or null is unknown, never a reason to fail; but an answer that is no such document at all is a
ServerError and never an empty list.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from vodkeep.errors import ServerError
from vodkeep.publish.model import VideoMetadata, VideoStatus

T = TypeVar("T")

_DURATION = re.compile(r"P(?:(\d{1,6})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,9})S)?)?")


def insert_document(metadata: VideoMetadata) -> dict[str, Any]:
    """The video resource that begins an upload (parts snippet, status, recordingDetails)."""
    document: dict[str, Any] = {
        "snippet": _snippet(metadata),
        "status": {
            "privacyStatus": metadata.privacy,
            "selfDeclaredMadeForKids": metadata.made_for_kids,
        },
    }
    if metadata.recorded_at is not None:
        recorded = metadata.recorded_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        document["recordingDetails"] = {"recordingDate": recorded}
    return document


def update_document(video_id: str, metadata: VideoMetadata) -> dict[str, Any]:
    """The resource that changes a video's snippet; all of it, since what is left out is removed."""
    return {"id": video_id, "snippet": _snippet(metadata)}


def _snippet(metadata: VideoMetadata) -> dict[str, Any]:
    snippet: dict[str, Any] = {
        "title": metadata.title,
        "description": metadata.description,
        "tags": list(metadata.tags),
        "categoryId": metadata.category_id,
    }
    if metadata.language is not None:
        snippet |= {"defaultLanguage": metadata.language, "defaultAudioLanguage": metadata.language}
    return snippet


class _Snippet(msgspec.Struct):
    title: str | None = None
    description: str | None = None


class _Status(msgspec.Struct):
    uploadStatus: str | None = None  # noqa: N815 - the API's own word, as the others below
    failureReason: str | None = None  # noqa: N815
    rejectionReason: str | None = None  # noqa: N815
    privacyStatus: str | None = None  # noqa: N815


class _Processing(msgspec.Struct):
    processingStatus: str | None = None  # noqa: N815


class _Content(msgspec.Struct):
    duration: str | None = None
    videoId: str | None = None  # noqa: N815


class Video(msgspec.Struct):
    """A video resource, as far as we read it."""

    id: str
    snippet: _Snippet | None = None
    status: _Status | None = None
    processingDetails: _Processing | None = None  # noqa: N815
    contentDetails: _Content | None = None  # noqa: N815


class VideoList(msgspec.Struct):
    """The answer of videos.list."""

    items: list[Video]


class _Playlists(msgspec.Struct):
    uploads: str


class _ChannelContent(msgspec.Struct):
    relatedPlaylists: _Playlists  # noqa: N815


class _Channel(msgspec.Struct):
    contentDetails: _ChannelContent  # noqa: N815


class ChannelList(msgspec.Struct):
    """The answer of channels.list; an account without a channel has no items at all."""

    items: list[_Channel] = []


class _ItemSnippet(msgspec.Struct):
    publishedAt: str | None = None  # noqa: N815
    description: str | None = None


class PlaylistItem(msgspec.Struct):
    """A video in a playlist."""

    snippet: _ItemSnippet | None = None
    contentDetails: _Content | None = None  # noqa: N815

    @property
    def video_id(self) -> str | None:
        """The id of its video."""
        return self.contentDetails.videoId if self.contentDetails is not None else None

    @property
    def added_at(self) -> datetime | None:
        """When it came into the playlist, for the uploads the time of the upload; None if it is not said."""
        try:
            moment = datetime.fromisoformat((self.snippet and self.snippet.publishedAt) or "")
        except ValueError:
            return None
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)

    def carries(self, marker: str) -> bool:
        """Whether the marker stands in the description, on a line of its own."""
        description = (self.snippet and self.snippet.description) or ""
        return any(line.strip() == marker for line in description.splitlines())


class PlaylistItems(msgspec.Struct):
    """One page of playlistItems.list."""

    items: list[PlaylistItem]
    nextPageToken: str | None = None  # noqa: N815


def decoded(body: bytes, kind: type[T]) -> T:
    """The document in an answer. Raises ServerError when there is none."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Nothing of the body is repeated: it may be a page of somebody else's.
        raise ServerError("YouTube answers with something that is not the document it should be.") from None


def status_of(video: Video) -> VideoStatus:
    """A video resource in our words."""
    snippet, status = video.snippet or _Snippet(), video.status or _Status()
    return VideoStatus(
        video_id=video.id,
        upload_status=status.uploadStatus or "uploaded",
        title=snippet.title or "",
        description=snippet.description or "",
        privacy=status.privacyStatus or "",
        processing_status=video.processingDetails.processingStatus if video.processingDetails else None,
        failure_reason=status.failureReason,
        rejection_reason=status.rejectionReason,
        duration_ms=duration_ms((video.contentDetails and video.contentDetails.duration) or ""),
    )


def duration_ms(text: str) -> int | None:
    """Milliseconds of an ISO 8601 duration such as ``PT1H2M3S`` or ``P1DT2S``; None for what is none."""
    found = _DURATION.fullmatch(text)
    if found is None or text in ("P", "PT", ""):
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000
