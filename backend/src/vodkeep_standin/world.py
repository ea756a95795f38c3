"""What the resources ask: the scenario, the clock, the media and the secrets handed out, in one place.

Only the server's loop touches it, so nothing here locks.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from vodkeep_standin.clock import StandinClock
from vodkeep_standin.edge.window import Window, visible_window
from vodkeep_standin.helix.budget import PointBucket
from vodkeep_standin.media.cache import MediaCache
from vodkeep_standin.media.model import Media
from vodkeep_standin.oauth.account_tokens import AccountTokens
from vodkeep_standin.scenario.chat import ChatLine, ChatScript, VideoChat
from vodkeep_standin.scenario.model import Channel, Scenario, Stream, Video
from vodkeep_standin.youtube.model import Library


@dataclass(frozen=True, slots=True)
class AppToken:
    """An app access token."""

    value: str
    client_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to fetch one video's playlists and segments; every answer of usher makes a new one."""

    serial: int
    video_id: str
    user_agent: str = ""
    """What the program that asked for it called itself; tells runs apart."""


class World:
    """The pretended Twitch behind all endpoints."""

    def __init__(self, scenario: Scenario, clock: StandinClock, media: MediaCache, *, base_url: str) -> None:
        self.scenario = scenario
        self.clock = clock
        self.media = media
        self.base_url = base_url
        """Address of the plain HTTP port, without a slash at the end."""
        self.random = random.Random(scenario.seed)
        self.app_tokens: dict[str, AppToken] = {}
        self.google_tokens = AccountTokens(
            clock, random.Random(f"google-{scenario.seed}"), account="kept", access_lifetime_s=3599, prefix="ya29."
        )
        """What was granted at Google; the YouTube API asks here whether a bearer token is good."""
        self.youtube = Library(clock, random.Random(f"youtube-{scenario.seed}"))
        """What was uploaded, and what became of it."""
        self.twitch_tokens = AccountTokens(
            clock, random.Random(f"twitch-{scenario.seed}"), account=scenario.chat_account, access_lifetime_s=14_124
        )
        """What people granted at Twitch."""
        self.budgets: dict[str, PointBucket] = {}
        self.grants: dict[str, Grant] = {}
        self.said: dict[str, list[tuple[datetime, ChatLine]]] = {}
        """By channel: what was said over IRC beside the script, and when; the comments of its videos hold it too."""
        self.streams: dict[str, Stream] = {}
        """By channel: streams that were started by control; who has none is live while a video of theirs records."""
        self._scripts: dict[tuple[str, float, VideoChat], ChatScript] = {}
        self._past_streams: dict[str, Stream] = {}
        self._streams_made = 0
        self._began: dict[str, datetime] = {}
        self._finished: dict[str, float] = {}
        for video in list(scenario.videos.values()):
            self._begin(video)

    def epoch_s(self) -> float:
        """Real seconds since the epoch; rate limits run on real time whatever the scenario's speed."""
        return time.time()

    # Videos -----------------------------------------------------------------------------------------------

    def add_video(self, video: Video) -> None:
        """Add or replace a video whose media exists; a recording starts now. Raises ``KeyError`` for no channel."""
        self.scenario.put_video(video)
        self._finished.pop(video.id, None)
        self._began.pop(video.id, None)
        self._begin(video)

    def finish(self, video_id: str) -> None:
        """End a recording at what is visible now. Raises ``KeyError`` when there is no such video."""
        video = self.scenario.video(video_id)
        if video is None:
            raise KeyError(video_id)
        self._finished.setdefault(video_id, self._elapsed_s(video))

    def playable(self, video_id: str) -> Video | None:
        """The video if anything but Helix still knows it."""
        video = self.scenario.video(video_id)
        return None if video is None or video.deleted else video

    def media_of(self, video: Video) -> Media:
        """The video's media; built at the start or when the video was added."""
        media = self.media.get(video.recipe)
        # A scenario object changed from outside may name media nobody announced: build it late, not never.
        return media if media is not None else self.media.ensure(video.recipe)

    def window(self, video: Video, rendition: str = "chunked") -> Window:
        """How much of the video can be seen now."""
        media = self.media_of(video)
        chosen = media.rendition(rendition) or media.source
        if video.recording is None:
            return Window(len(chosen.segments), chosen.duration_s, ended=True)
        elapsed = self._finished.get(video.id)
        ended = elapsed is not None
        if elapsed is None:
            elapsed = self._elapsed_s(video)
            ended = video.recording.ends and elapsed >= chosen.duration_s
        return visible_window(chosen, elapsed, ended=ended)

    def is_recording(self, video: Video) -> bool:
        """Whether the broadcast still runs."""
        return video.recording is not None and not self.window(video).ended

    def duration_s(self, video: Video) -> float:
        """What Helix and GQL say about the length, in seconds."""
        if video.listed_duration_s is not None:
            return float(video.listed_duration_s)
        return self.window(video).duration_s

    def start_stream(
        self, login: str, *, stream_id: str | None = None, title: str = "Live now", started_s_ago: float = 0
    ) -> Stream:
        """Let a channel be live until it is stopped; no video comes of it by itself. Raises ``KeyError``.

        With the id of a stream before, it is that one, which flaps or goes on; a new id is made up for a new one.
        """
        channel = self.scenario.channels[login]
        started_at = (self.clock.now() - timedelta(seconds=started_s_ago)).replace(microsecond=0)
        if stream_id is None:
            self._streams_made += 1
            stream_id = str(43_000_000_000 + self._streams_made)
        known = self._past_streams.get(stream_id)
        stream = Stream(stream_id, channel.login, known.started_at if known is not None else started_at, title)
        self.streams[login] = self._past_streams[stream_id] = stream
        return stream

    def stop_stream(self, login: str) -> None:
        """End what was started. Raises ``KeyError`` when the channel has no such stream."""
        del self.streams[login]

    def stream_of(self, channel: Channel) -> Stream | None:
        """The stream of the channel if it is live."""
        if (started := self.streams.get(channel.login)) is not None:
            return started
        video = self.live_video(channel)
        if video is None:
            return None
        return Stream(
            video.stream_id or video.id,
            channel.login,
            video.created_at,
            video.title,
            video.view_count,
            video.chapters[-1] if video.chapters else None,
        )

    def live_video(self, channel: Channel) -> Video | None:
        """The video the channel is recording right now."""
        videos = (video for video in self.scenario.videos.values() if video.channel == channel.login)
        return next((video for video in videos if not video.deleted and self.is_recording(video)), None)

    def owner(self, video: Video) -> Channel:
        """The channel of a video."""
        return self.scenario.channels[video.channel]

    def chat_script(self, video: Video) -> ChatScript:
        """What is said during the video, as far as it goes."""
        key = (video.id, self.duration_s(video), video.chat)
        script = self._scripts.get(key)
        if script is None:
            stream = video.stream_id or video.id
            script = ChatScript(video.chat, stream=stream, seed=self.scenario.seed, duration_s=key[1])
            self._scripts[key] = script
        return script

    def _begin(self, video: Video) -> None:
        if video.recording is not None and video.id not in self._began:
            now = self.clock.now()
            self._began[video.id] = now
            began_at = now - timedelta(seconds=video.recording.head_s)
            self.scenario.update_video(video.id, created_at=began_at.replace(microsecond=0))

    def _elapsed_s(self, video: Video) -> float:
        head_s = video.recording.head_s if video.recording else 0
        self._begin(video)
        return head_s + (self.clock.now() - self._began.get(video.id, self.clock.now())).total_seconds()

    # Tokens -----------------------------------------------------------------------------------------------

    def issue_app_token(self, client_id: str) -> AppToken:
        """A new app access token; older ones stay valid, as on Twitch."""
        value = self._secret(15)
        lifetime = timedelta(seconds=self.scenario.app_token_lifetime_s)
        token = AppToken(value, client_id, self.clock.now() + lifetime)
        self.app_tokens[value] = token
        return token

    def valid_app_token(self, value: str) -> AppToken | None:
        """The token if it is known and has not expired."""
        token = self.app_tokens.get(value)
        return token if token is not None and token.expires_at > self.clock.now() else None

    def sign_playback(self, video: Video) -> dict[str, str]:
        """The playback access token of a video as GQL returns it: a JSON document and its signature."""
        restricted = ["audio_only", "160p30", "chunked", "archives"] if video.sub_only else []
        expires = self.clock.now() + timedelta(seconds=self.scenario.playback_token_lifetime_s)
        value = json.dumps(
            {
                "authorization": {"forbidden": False, "reason": ""},
                "chansub": {"restricted_bitrates": restricted},
                "device_id": None,
                "expires": int(expires.timestamp()),
                "https_required": True,
                "privileged": False,
                "user_id": None,
                "version": 3,
                "vod_id": int(video.id) if video.id.isdecimal() else video.id,
            },
            separators=(",", ":"),
        )
        return {"value": value, "signature": self._signature(value)}

    def playback_token_problem(self, value: str, signature: str, video_id: str) -> str | None:
        """Why a playback access token is refused, or ``None`` when it is good."""
        if not hmac.compare_digest(self._signature(value), signature):
            return "invalid_sig"
        token: dict[str, Any] = json.loads(value)
        if str(token["vod_id"]) != video_id:
            return "nauth_vod_mismatch"
        if token["expires"] <= self.clock.now().timestamp():
            return "nauth_token_expired"
        return None

    def issue_grant(self, video: Video, user_agent: str = "") -> str:
        """A new key for the edge; it is the first part of every playlist and segment path."""
        key = self._secret(10)
        self.grants[key] = Grant(len(self.grants) + 1, video.id, user_agent)
        return key

    def _signature(self, value: str) -> str:
        key = f"standin-{self.scenario.seed}".encode()
        return hmac.new(key, value.encode(), hashlib.sha1).hexdigest()

    def _secret(self, size_bytes: int) -> str:
        return self.random.randbytes(size_bytes).hex()
