"""What YouTube has: videos, uploads under way, playlists, and how much of the quota is used."""

from __future__ import annotations

import hashlib
import random
import string
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import anyio

from vodkeep_standin.clock import StandinClock

UNIT_BYTES = 256 * 1024
"""Uploads are kept in multiples of this."""

SESSION_LIFETIME = timedelta(days=7)

Outcome = Literal["processed", "failed", "rejected"]


@dataclass(slots=True)
class Details:
    """What an uploader says about a video."""

    title: str
    description: str = ""
    tags: tuple[str, ...] = ()
    category_id: str = "22"
    privacy: str = "public"
    made_for_kids: bool = False
    language: str | None = None
    recorded_at: str | None = None


@dataclass(slots=True)
class PublishedVideo:
    """A video that was uploaded whole."""

    id: str
    account: str
    details: Details
    path: Path
    """The uploaded bytes."""
    size_bytes: int
    sha256: str
    uploaded_at: datetime
    duration_s: float | None
    """From the file itself; ``None`` for what is no video."""
    outcome: Outcome = "processed"
    reason: str | None = None
    """Of a failure or a rejection."""
    vanished: bool = False
    thumbnail: bytes = b""


@dataclass(slots=True)
class UploadSession:
    """A resumable upload; ``path`` holds what came so far."""

    id: str
    account: str
    details: Details
    size_bytes: int
    path: Path
    begun_at: datetime
    received: int = 0
    """Bytes in the file."""
    acknowledged: int = 0
    """Bytes that were there when the present request began; those are never lost again."""
    arrived_bytes: int = 0
    """Every byte of content that ever came in, those that came twice as well."""
    turn: int = 0
    """Grows with every request, so that an earlier one that still hangs on its line writes no more."""
    overtaken: anyio.Event | None = None
    """Wakes a request that hangs on its line, once another one has come."""
    is_writing: bool = False
    gone: int | None = None
    """The status with which it is denied, 404 or 410."""
    video_id: str | None = None

    def take_turn(self) -> None:
        """Another request has come: what an earlier one wrote is settled, and that one ends."""
        self.turn += 1
        self.settle()
        if self.overtaken is not None:
            self.overtaken.set()
        self.overtaken = anyio.Event()

    def settle(self, keeps_bytes: int | None = None) -> None:
        """Keep whole units of what a broken request brought, up to ``keeps_bytes``, and forget the rest of it."""
        if not self.is_writing:
            return
        self.is_writing = False
        kept = self.received if keeps_bytes is None else min(self.received, keeps_bytes)
        self.received = max(self.acknowledged, kept // UNIT_BYTES * UNIT_BYTES)
        with self.path.open("r+b") as file:
            file.truncate(self.received)


@dataclass(slots=True)
class Quota:
    """What a Google project may spend in a day of the Pacific coast."""

    units: int = 10_000
    uploads: int = 100
    used_units: int = 0
    used_uploads: int = 0
    day: str = ""

    def take(self, now: datetime, *, units: int = 0, uploads: int = 0) -> bool:
        """Count a request; ``False`` when it is over the limit."""
        today = now.astimezone(ZoneInfo("America/Los_Angeles")).date().isoformat()
        if today != self.day:
            self.day, self.used_units, self.used_uploads = today, 0, 0
        if self.used_units + units > self.units or self.used_uploads + uploads > self.uploads:
            return False
        self.used_units += units
        self.used_uploads += uploads
        return True


@dataclass(slots=True)
class Library:
    """The whole of it; touched by the server's loop, and by tests between requests."""

    clock: StandinClock
    random: random.Random
    folder: Path = Path()
    """Where uploaded bytes are; the server says before the first request."""
    processing_s: float = 10.0
    """Scenario seconds from the last byte to ``processed``."""
    outcome: Outcome = "processed"
    """What becomes of videos that are uploaded from now on."""
    reason: str | None = None
    videos: dict[str, PublishedVideo] = field(default_factory=dict)
    sessions: dict[str, UploadSession] = field(default_factory=dict)
    playlists: dict[str, list[str]] = field(default_factory=lambda: {"PLstandin": []})
    quota: Quota = field(default_factory=Quota)

    def begin(self, account: str, details: Details, size_bytes: int) -> UploadSession:
        """A new upload session."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = self.random.randbytes(20).hex()
        path = self.folder / f"{len(self.sessions)}.part"
        path.touch()
        session = UploadSession(number, account, details, size_bytes, path, self.clock.now())
        self.sessions[number] = session
        return session

    def session(self, number: str) -> UploadSession | None:
        """The session, if it has not run out."""
        found = self.sessions.get(number)
        if found is None or self.clock.now() - found.begun_at >= SESSION_LIFETIME:
            return None
        return found

    def finish(self, session: UploadSession, sha256: str, duration_s: float | None) -> PublishedVideo:
        """Make a video of an upload whose bytes are all there."""
        alphabet = string.ascii_letters + string.digits + "-_"
        video_id = "".join(self.random.choice(alphabet) for _ in range(11))
        broken = duration_s is None and self.outcome == "processed"
        video = PublishedVideo(
            video_id,
            session.account,
            session.details,
            session.path,
            session.size_bytes,
            sha256,
            self.clock.now(),
            duration_s,
            "failed" if broken else self.outcome,
            "invalidFile" if broken else self.reason,
        )
        self.videos[video_id] = video
        session.video_id = video_id
        session.is_writing = False
        return video

    def is_through(self, video: PublishedVideo) -> bool:
        """Whether YouTube has done with it, for better or worse."""
        return (self.clock.now() - video.uploaded_at).total_seconds() >= self.processing_s

    def uploads_of(self, account: str) -> list[PublishedVideo]:
        """What the account uploaded, newest first."""
        mine = [video for video in self.videos.values() if video.account == account and not video.vanished]
        return mine[::-1]


def channel_id(account: str) -> str:
    """The id of an account's channel; its uploads playlist is the same with ``UU``."""
    return "UC" + hashlib.sha256(account.encode()).hexdigest()[:22]
