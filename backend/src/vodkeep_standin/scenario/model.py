"""What exists on the pretended Twitch: channels, videos and how each of them misbehaves.

Values are frozen; a ``Scenario`` holds them in dictionaries and is changed while it is being served
(``put_video``, ``update_video``), so that a test can finish, delete or retitle a broadcast in mid-flight.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from vodkeep_standin.emotes.model import EmoteCatalog, builtin_emotes
from vodkeep_standin.media.recipe import Recipe
from vodkeep_standin.scenario.chat import VideoChat

if TYPE_CHECKING:
    from vodkeep_standin.faults.rule import Rule


class Muting(StrEnum):
    """How the playlist of a video with muted parts names them."""

    MUTED_PLAYLIST = "muted_playlist"
    """usher hands out ``index-muted-<random>.m3u8``, which lists ``7-muted.ts``; what most VODs look like."""
    UNMUTED_NAMES = "unmuted_names"
    """``index-dvr.m3u8`` lists ``7-unmuted.ts``, which is refused with 403; only ``7-muted.ts`` can be had."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A broadcaster. ``id``, ``login`` and ``display_name`` are three different things on Twitch."""

    id: str
    login: str
    display_name: str
    description: str = ""
    broadcaster_type: str = "partner"
    created_at: datetime = datetime(2016, 4, 12, 17, 3, 9, tzinfo=UTC)
    language: str = "en"


@dataclass(frozen=True, slots=True)
class Chapter:
    """A game change inside a video; lasts until the next chapter starts."""

    start_s: int
    title: str
    game_id: str = "509658"


@dataclass(frozen=True, slots=True)
class Recording:
    """The broadcast is still running when the stand-in starts."""

    head_s: int = 10
    """Seconds already recorded at the start."""
    ends: bool = False
    """Whether it ends by itself once the media is used up; otherwise it stays open until finished by control."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A channel that is live now, with or without a video that records it."""

    id: str
    channel: str
    """Login."""
    started_at: datetime
    title: str = "Live now"
    view_count: int = 321
    game: Chapter | None = None


@dataclass(frozen=True, slots=True)
class Video:
    """One video of a channel."""

    id: str
    channel: str
    """Login of the owner."""
    title: str
    created_at: datetime
    recipe: Recipe = field(default_factory=Recipe)
    stream_id: str | None = None
    description: str = ""
    type: str = "archive"
    """``archive``, ``highlight`` or ``upload``."""
    view_count: int = 1234
    language: str = "en"
    chapters: tuple[Chapter, ...] = ()
    muting: Muting = Muting.MUTED_PLAYLIST
    sub_only: bool = False
    """usher refuses it with ``vod_manifest_restricted``."""
    deleted: bool = False
    """Helix still lists it, everything else no longer knows it; Twitch does that for a while."""
    missing_segments: frozenset[int] = frozenset()
    """Indices that the edge answers with 404, in every quality."""
    recording: Recording | None = None
    listed_duration_s: int | None = None
    """What Helix and GQL say instead of the media's duration."""
    chat: VideoChat = field(default_factory=VideoChat)


class VideoSource(Protocol):
    """Many videos of one channel that are made on demand, newest first."""

    @property
    def channel(self) -> str:
        """Login of the owner."""
        ...

    def __len__(self) -> int: ...

    def at(self, index: int) -> Video:
        """The video at ``index``, 0 being the newest."""
        ...

    def newer_than(self, moment: datetime) -> int:
        """How many videos were created strictly after ``moment``."""
        ...

    def find(self, video_id: str) -> Video | None:
        """The video of this id."""
        ...


@dataclass(slots=True)
class Scenario:
    """Everything that is being pretended; ``seed`` fixes whatever is left to chance."""

    name: str
    channels: dict[str, Channel]
    """By login."""
    videos: dict[str, Video]
    """By id."""
    sources: tuple[VideoSource, ...] = ()
    faults: tuple[Rule, ...] = ()
    """Faults that are in force from the start."""
    seed: int = 1
    client_id: str = "st4ndin0cl13nt0id0for0vodkeep00"
    client_secret: str = "st4ndin0s3cr3t0for0vodkeep0000"  # noqa: S105 - of a pretended application
    chat_account: str = "keepbot"
    """Login of the account that may read chat with ``chat_token``."""
    chat_token: str = "st4ndin0ch4t0t0k3n0for0vodkeep"  # noqa: S105 - of a pretended account
    google_client_id: str = "standin.apps.googleusercontent.com"
    google_client_secret: str = "GOCSPX-st4ndin0s3cr3t0for0vk"  # noqa: S105 - of a pretended application
    registered_redirects: frozenset[str] | None = None
    """Where the applications may send people back to; ``None`` takes any address."""
    rate_limit_points: int = 800
    """Helix points per minute and client."""
    emotes: EmoteCatalog = field(default_factory=EmoteCatalog)
    app_token_lifetime_s: int = 5_011_271
    playback_token_lifetime_s: int = 1_200

    @classmethod
    def of(cls, name: str, channels: Iterable[Channel], videos: Iterable[Video] = (), **rest: Any) -> Scenario:
        """A scenario of these channels and videos; ``rest`` sets the other fields."""
        channels = tuple(channels)
        rest.setdefault("emotes", builtin_emotes([channel.id for channel in channels]))
        return cls(
            name=name,
            channels={channel.login: channel for channel in channels},
            videos={video.id: video for video in videos},
            **rest,
        )

    def may_return_to(self, redirect: str) -> bool:
        """Whether the applications are registered with this redirect, character for character."""
        return self.registered_redirects is None or redirect in self.registered_redirects

    def channel_by_id(self, channel_id: str) -> Channel | None:
        """The channel with this broadcaster id."""
        return next((channel for channel in self.channels.values() if channel.id == channel_id), None)

    def video(self, video_id: str) -> Video | None:
        """The video of this id, made on demand if it belongs to a source."""
        if (video := self.videos.get(video_id)) is not None:
            return video
        return next((found for source in self.sources if (found := source.find(video_id))), None)

    def put_video(self, video: Video) -> None:
        """Add or replace a video."""
        if video.channel not in self.channels:
            raise KeyError(f"no channel {video.channel!r} in scenario {self.name!r}")
        self.videos[video.id] = video

    def update_video(self, video_id: str, **changes: Any) -> Video:
        """Replace fields of a video and return it. Raises ``KeyError`` when there is none."""
        video = self.video(video_id)
        if video is None:
            raise KeyError(video_id)
        changed = replace(video, **changes)
        self.videos[video_id] = changed
        return changed

    def remove_video(self, video_id: str) -> None:
        """Forget a video everywhere, Helix included. Raises ``KeyError`` when there is none."""
        del self.videos[video_id]

    def recipes(self) -> list[Recipe]:
        """The media that the videos need, each once."""
        made_on_demand = (source.at(0) for source in self.sources if len(source))
        return list(dict.fromkeys(video.recipe for video in [*self.videos.values(), *made_on_demand]))

    def listing(self, channel: str, types: frozenset[str]) -> VideoListing:
        """A channel's videos of these types, newest first."""
        explicit = [v for v in self.videos.values() if v.channel == channel and v.type in types]
        sources = tuple(s for s in self.sources if s.channel == channel and "archive" in types)
        return VideoListing(sorted(explicit, key=lambda v: (v.created_at, v.id), reverse=True), sources)


class VideoListing:
    """A channel's videos, newest first, paged without making those that are not asked for."""

    def __init__(self, explicit: Sequence[Video], sources: Sequence[VideoSource]) -> None:
        self._source = sources[0] if sources else None
        self._placed: dict[int, Video] = {}
        for rank, video in enumerate(explicit):
            newer = self._source.newer_than(video.created_at) if self._source else 0
            self._placed[rank + newer] = video
        self._places = sorted(self._placed)

    def __len__(self) -> int:
        return len(self._placed) + (len(self._source) if self._source else 0)

    def page(self, offset: int, count: int) -> Iterator[Video]:
        """At most ``count`` videos from ``offset`` on."""
        for place in range(offset, min(offset + count, len(self))):
            if (video := self._placed.get(place)) is not None:
                yield video
            elif self._source is not None:
                yield self._source.at(place - sum(1 for taken in self._places if taken < place))


def days(count: float) -> timedelta:
    """A span of ``count`` days; keeps scenario tables short."""
    return timedelta(days=count)
