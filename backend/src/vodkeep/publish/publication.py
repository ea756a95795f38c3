"""What is kept of a publication: a row for each part of an item, and for each time it was asked to be published anew.

::

    planned ──> uploading ──> uploaded ──> processed
                    ^              │  │         │
                    └── (again) ───┘  └─────────┴──> rejected | vanished
    any of them ──> superseded: a fresh publication was asked for
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class PublicationState(StrEnum):
    """Where a part stands; stored in ``publications.state``."""

    PLANNED = "planned"  # its stretch and its words are decided; YouTube knows nothing of it yet
    UPLOADING = "uploading"  # a session has begun
    UPLOADED = "uploaded"  # YouTube has every byte and gave it an id
    PROCESSED = "processed"  # YouTube says so, and its duration is ours
    REJECTED = "rejected"  # YouTube will never show it; ``reason`` says why
    VANISHED = "vanished"  # it was there, and YouTube does not have it any more
    SUPERSEDED = "superseded"  # a fresh publication was asked for


ON_YOUTUBE = frozenset({PublicationState.UPLOADED, PublicationState.PROCESSED})
"""A video is there, as far as is known."""


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """A part that is to be published."""

    part: int  # 1..parts
    parts: int
    start_ms: int  # its stretch of the picture
    end_ms: int
    source_name: str  # the file below the item's folder or its work folder
    size_bytes: int
    checksum: str
    title: str
    privacy: str
    marker: str  # the line of the description by which the video is found again


@dataclass(frozen=True, slots=True)
class Publication:
    """One row of ``publications``; times are UTC."""

    id: int
    twitch_vod_id: str
    round: int  # 1 for the first publication of the item
    part: int
    parts: int
    state: PublicationState
    start_ms: int
    end_ms: int
    source_name: str
    size_bytes: int
    checksum: str
    session_uri: str | None  # a capability: never in a log or an answer
    session_at: datetime | None
    committed_bytes: int  # of the file, that YouTube said it keeps
    youtube_id: str | None
    title: str
    privacy: str
    marker: str
    thumbnail_done: bool
    playlist_done: bool
    uploaded_at: datetime | None
    processed_at: datetime | None
    checked_at: datetime | None
    next_check_at: datetime | None
    checks: int
    youtube_duration_ms: int | None
    reason: str
    reason_code: str | None

    def __repr__(self) -> str:
        """Without the session, which would end up in a log or a traceback."""
        return f"<Publication {self.marker!r} {self.state}>"

    @property
    def duration_ms(self) -> int:
        """How long its stretch of the picture is."""
        return self.end_ms - self.start_ms


def marker_of(twitch_vod_id: str, publication_round: int, part: int) -> str:
    """The line of a description that tells which publication the video is."""
    return f"Vodkeep {twitch_vod_id}/{publication_round}.{part}"


def watch_url(youtube_id: str) -> str:
    """Where people watch a video."""
    return f"https://www.youtube.com/watch?v={youtube_id}"
