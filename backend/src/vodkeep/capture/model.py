"""What a capture talks about: segments, playlists, plans, what was fetched and what is missing.

Times on the broadcast's own line are integers in microseconds (``_us``) from its first frame as published, so that
the sum of thousands of segments carries no rounding error.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of a resource (RFC 8216 section 4.3.2.2)."""

    length: int  # bytes
    offset: int  # bytes from the start of the resource


@dataclass(frozen=True, slots=True)
class InitSection:
    """The media initialization section of fMP4 segments (``EXT-X-MAP``, RFC 8216 section 4.3.2.5)."""

    uri: str  # absolute
    byte_range: ByteRange | None = None

    @property
    def key(self) -> tuple[str, ByteRange | None]:
        """What stays the same while hosts and tokens in the address change."""
        return self.uri.split("?", 1)[0].rsplit("/", 1)[-1], self.byte_range


@dataclass(frozen=True, slots=True)
class Segment:
    """One media segment of a playlist."""

    index: int  # position in the playlist, from 0
    media_sequence: int  # RFC 8216 section 4.3.3.2
    uri: str  # absolute
    start_us: int  # where it begins on the timeline: the sum of all durations before it
    duration_us: int  # EXTINF
    discontinuity: bool = False  # EXT-X-DISCONTINUITY stands before it: timestamps start anew
    program_date_time: datetime | None = None  # wall clock of its first frame, when the playlist says
    init: InitSection | None = None
    byte_range: ByteRange | None = None
    muted: bool = False  # Twitch replaced its sound ("-muted" / "-unmuted" in the name)
    gap: bool = False  # EXT-X-GAP: the publisher says there is nothing to fetch

    @property
    def end_us(self) -> int:
        """Where it ends on the timeline."""
        return self.start_us + self.duration_us

    @property
    def name(self) -> str:
        """The last part of its path without the query: stable while hosts and tokens change."""
        return self.uri.split("?", 1)[0].rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class MediaPlaylist:
    """A media playlist (RFC 8216 section 4.3.3)."""

    segments: tuple[Segment, ...]
    target_duration_s: int
    ended: bool  # EXT-X-ENDLIST: nothing will be added
    version: int = 1

    @property
    def duration_us(self) -> int:
        """Length of the whole timeline."""
        return self.segments[-1].end_us if self.segments else 0


@dataclass(frozen=True, slots=True)
class Chapter:
    """A named stretch of the broadcast, on Twitch a game or category."""

    start_us: int
    end_us: int
    title: str


@dataclass(frozen=True, slots=True)
class ResolvedVod:
    """What a resolver found out about a VOD."""

    video_id: str
    channel: str  # login
    channel_name: str  # display name
    title: str
    date: datetime | None  # start, UTC
    duration_s: float | None
    still_recording: bool
    playlist_url: str
    format_id: str  # the rendition's name at Twitch, such as "1080p60" or "chunked"
    bitrate_bps: int | None  # as announced; None when unknown
    thumbnail_url: str | None
    chapters: tuple[Chapter, ...]
    resolver: str  # tool and version, for the manifest
    other_urls: tuple[str, ...] = ()  # playlists of the same rendition at other hosts


@dataclass(frozen=True, slots=True)
class PacketCounts:
    """How many packets each kind of stream has."""

    video: int
    audio: int

    def __add__(self, other: PacketCounts) -> PacketCounts:
        return PacketCounts(self.video + other.video, self.audio + other.audio)


class HoleCause(StrEnum):
    """Why a stretch of the timeline has no picture."""

    GONE = "gone"  # the server says it is not there (404, 410) or not ours (403)
    DAMAGED = "damaged"  # what the server has does not stand the checks
    GAP = "gap"  # the playlist marks it as absent, or lists it no more
    UNREACHABLE = "unreachable"  # no usable answer within the attempts


@dataclass(frozen=True, slots=True)
class FetchedSegment:
    """A segment whose bytes lie on disk and stood the checks."""

    media_sequence: int
    name: str  # of the resource it really came from, "17-muted.ts"
    size_bytes: int
    packets: PacketCounts
    muted: bool


@dataclass(frozen=True, slots=True)
class Hole:
    """A segment that cannot be had."""

    media_sequence: int
    cause: HoleCause
    sentence: str


class Source(StrEnum):
    """Where the picture of a stretch came from."""

    VOD = "vod"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class LedgerStretch:
    """A stretch of the timeline and what it is made of."""

    start_us: int
    end_us: int
    source: Source
    reason: str = ""  # "muted" for a VOD stretch without its sound; the hole's cause for a missing one


class Phase(StrEnum):
    """What a capture is doing."""

    RESOLVING = "resolving"
    FETCHING = "fetching"
    MUXING = "muxing"
    VERIFYING = "verifying"


@dataclass(frozen=True, slots=True)
class Progress:
    """A snapshot of a running capture."""

    phase: Phase
    fetched_bytes: int = 0
    total_bytes: int | None = None  # an estimate until the last segment is there
    segments_done: int = 0
    segments_total: int = 0
    rate_bytes_s: float = 0.0
    eta_s: float | None = None

    @property
    def fraction(self) -> float:
        """Share of the segments that are there, 0 to 1."""
        return self.segments_done / self.segments_total if self.segments_total else 0.0
