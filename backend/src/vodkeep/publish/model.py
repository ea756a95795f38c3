"""The words of publishing: what is told to YouTube about a video, how far an upload is, and what YouTube says of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from vodkeep.errors import TransientError

Privacy = Literal["private", "unlisted", "public"]
"""Who can see a video, in YouTube's words."""


@dataclass(frozen=True, slots=True)
class VideoMetadata:
    """What YouTube is told about a video; within its limits already, nothing is cut here.

    Source of the limits: https://developers.google.com/youtube/v3/docs/videos, ``snippet``, read in November 2026.
    """

    title: str  # 1 to 100 characters, without < and >
    description: str  # at most 5,000 bytes of UTF-8, without < and >; ends with the publication's marker
    tags: tuple[str, ...] = ()  # at most 500 characters together; see the page for how commas and spaces count
    category_id: str = "20"  # decimal digits; 20 is Gaming
    privacy: Privacy = "private"
    made_for_kids: bool = False
    recorded_at: datetime | None = None  # start of the broadcast, with a time zone
    language: str | None = None  # BCP 47, of the title and of what is said


@dataclass(frozen=True, slots=True)
class Committed:
    """An upload session that wants more: YouTube keeps the first ``bytes`` bytes of the file, 0 when it has none."""

    bytes: int


@dataclass(frozen=True, slots=True)
class Finished:
    """An upload session that ended: YouTube has every byte and made a video of them."""

    video_id: str


class SessionGone(TransientError):
    """YouTube does not know the upload session (any more): it ended a week after it began, or was never used.

    Before another one is begun, YouTube is asked whether the video is there: a session that was finished long ago
    answers like this too.
    """

    code = "upload_session_gone"

    def __init__(self) -> None:
        super().__init__("YouTube no longer knows the upload session.")


@dataclass(frozen=True, slots=True)
class VideoStatus:
    """A video as YouTube describes it; words it may add one day are passed on as they are.

    Source: https://developers.google.com/youtube/v3/docs/videos, ``status``, ``processingDetails`` and
    ``contentDetails.duration``, read in November 2026.
    """

    video_id: str
    upload_status: str  # "uploaded" (not processed yet), "processed", "failed", "rejected" or "deleted"
    title: str
    description: str
    privacy: str
    processing_status: str | None = None  # "processing", "succeeded", "failed" or "terminated"
    failure_reason: str | None = None  # with "failed": "codec", "conversion", "emptyFile", "invalidFile", ...
    rejection_reason: str | None = None  # with "rejected": "claim", "copyright", "duplicate", "length", ...
    duration_ms: int | None = None  # whole seconds, rounded by YouTube; None or 0 while it does not know

    @property
    def is_processed(self) -> bool:
        """Whether the video can be watched; its duration still has to be compared."""
        return self.upload_status == "processed"

    @property
    def refusal(self) -> str | None:
        """YouTube's word on why the video will never be watched; None while nothing speaks against it."""
        if self.upload_status not in ("failed", "rejected", "deleted"):
            return None
        return self.failure_reason or self.rejection_reason or self.upload_status
