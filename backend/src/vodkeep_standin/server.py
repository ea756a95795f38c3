"""Put the parts together and serve them.

``running_standin`` is the one entry: tests await it, the command line awaits it. Three ports on loopback: plain HTTP
(all resources by path, or by Host when a proxied client names one), the proxy in front of it, and IRC.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread

from vodkeep_standin.clock import StandinClock
from vodkeep_standin.control.faults import fault_routes
from vodkeep_standin.control.irc import irc_routes
from vodkeep_standin.control.requests import request_routes
from vodkeep_standin.control.streams import ROUTES as LIVE_ROUTES
from vodkeep_standin.control.videos import ROUTES as CONTROL_ROUTES
from vodkeep_standin.control.youtube import ROUTES as YOUTUBE_CONTROL_ROUTES
from vodkeep_standin.edge.endpoints import ROUTES as EDGE_ROUTES
from vodkeep_standin.edge.pictures import ROUTES as PICTURE_ROUTES
from vodkeep_standin.emotes.endpoints import ROUTES as EMOTE_ROUTES
from vodkeep_standin.faults.registry import Faults
from vodkeep_standin.gql.endpoint import ROUTES as GQL_ROUTES
from vodkeep_standin.helix.streams import ROUTES as STREAM_ROUTES
from vodkeep_standin.helix.users import ROUTES as USER_ROUTES
from vodkeep_standin.helix.videos import ROUTES as VIDEO_ROUTES
from vodkeep_standin.irc.server import IrcServer
from vodkeep_standin.media.cache import MediaCache
from vodkeep_standin.media.model import Media
from vodkeep_standin.oauth.consent import ROUTES as CONSENT_ROUTES
from vodkeep_standin.oauth.google import ROUTES as GOOGLE_ROUTES
from vodkeep_standin.oauth.tokens import ROUTES as OAUTH_ROUTES
from vodkeep_standin.scenario.builtin import scenario_named
from vodkeep_standin.scenario.model import Scenario, Stream, Video
from vodkeep_standin.serving.http import HttpFront
from vodkeep_standin.serving.proxy import CertificateAuthority, Proxy
from vodkeep_standin.serving.requestlog import KEPT, RequestLog
from vodkeep_standin.serving.routes import Route
from vodkeep_standin.serving.targets import Targets
from vodkeep_standin.usher.vod import ROUTES as USHER_ROUTES
from vodkeep_standin.world import World
from vodkeep_standin.youtube.model import Library
from vodkeep_standin.youtube.resources import ROUTES as YOUTUBE_ROUTES
from vodkeep_standin.youtube.sessions import ROUTES as UPLOAD_ROUTES

LOOPBACK_ADDRESS = "127.0.0.1"
GRACE_S = 0.5

RESOURCES: list[Route] = [
    *USER_ROUTES,
    *VIDEO_ROUTES,
    *STREAM_ROUTES,
    *EMOTE_ROUTES,
    *OAUTH_ROUTES,
    *CONSENT_ROUTES,
    *GOOGLE_ROUTES,
    *YOUTUBE_ROUTES,
    *UPLOAD_ROUTES,
    *GQL_ROUTES,
    *USHER_ROUTES,
    # Pictures first: their paths have as many elements as a segment's.
    *PICTURE_ROUTES,
    *EDGE_ROUTES,
]


class Standin:
    """A stand-in that is being served."""

    def __init__(
        self,
        world: World,
        faults: Faults,
        log: RequestLog,
        targets: Targets,
        irc: IrcServer,
        *,
        proxy_port: int,
        ca_path: Path,
    ) -> None:
        self.world = world
        self.irc = irc
        """The chat: what is said in it, what was sent, and its faults."""
        self.faults = faults
        self.requests = log
        self.refused = targets.refused
        """What clients of the proxy asked for and did not get; tests expect it to be empty."""
        self.ca_path = ca_path
        """Certificate of the proxy's CA, PEM."""
        self.http_url = world.base_url
        self.proxy_url = f"http://{LOOPBACK_ADDRESS}:{proxy_port}"

    @property
    def scenario(self) -> Scenario:
        """What exists; may be changed while it is served."""
        return self.world.scenario

    @property
    def youtube(self) -> Library:
        """What was uploaded to YouTube."""
        return self.world.youtube

    def env(self) -> dict[str, str]:
        """Environment with which ``vodkeep run`` keeps this stand-in's channels."""
        logins = list(self.scenario.channels)
        return {
            "TWITCH_CHANNEL": logins[0],
            "TWITCH_CHANNELS": ",".join(logins),
            "TWITCH_CLIENT_ID": self.scenario.client_id,
            "TWITCH_CLIENT_SECRET": self.scenario.client_secret,
            "TWITCH_API_URL": f"{self.http_url}/helix",
            "TWITCH_AUTH_URL": f"{self.http_url}/oauth2",
            "YT_CLIENT_ID": self.scenario.google_client_id,
            "YT_CLIENT_SECRET": self.scenario.google_client_secret,
            "YT_AUTH_URL": f"{self.http_url}/o/oauth2/v2/auth",
            "YT_TOKEN_URL": self.http_url,
            "YT_API_URL": self.http_url,
            "TWITCH_GQL_URL": f"{self.http_url}/gql",
            "TWITCH_IRC_URL": self.irc.url,
            "TWITCH_CDN_URL": self.http_url,
            "BTTV_API_URL": f"{self.http_url}/bttv/3",
            "BTTV_CDN_URL": f"{self.http_url}/bttv",
            "FFZ_API_URL": f"{self.http_url}/ffz/v1",
            "SEVENTV_API_URL": f"{self.http_url}/7tv/v3",
            "YTDLP_ARGS": shlex.join(self.ytdlp_args()),
            "SSL_CERT_FILE": str(self.ca_path),
        }

    def ytdlp_args(self) -> list[str]:
        """Arguments with which unmodified yt-dlp reaches this stand-in (with ``SSL_CERT_FILE`` in its environment)."""
        return ["--proxy", self.proxy_url, "--compat-options", "no-certifi"]

    def media(self, video_id: str) -> Media:
        """What a complete copy of a video must contain. Raises ``KeyError``."""
        video = self.scenario.video(video_id)
        if video is None:
            raise KeyError(video_id)
        return self.world.media_of(video)

    def advance(self, seconds: float) -> None:
        """Let scenario time pass at once: recordings grow, tokens age, chat goes on."""
        self.world.clock.advance(seconds)
        self.irc.catch_up()

    def finish(self, video_id: str) -> None:
        """End a recording."""
        self.world.finish(video_id)

    def start_stream(self, login: str, **options: Any) -> Stream:
        """Let a channel be live without a video; ``options`` are those of ``World.start_stream``."""
        return self.world.start_stream(login, **options)

    def stop_stream(self, login: str) -> None:
        """End such a stream."""
        self.world.stop_stream(login)

    def put_video(self, video: Video) -> None:
        """Add or replace a video. Blocks while its media is built, if nobody has built it before."""
        self.world.media.ensure(video.recipe)
        self.world.add_video(video)

    def update_video(self, video_id: str, **changes: object) -> Video:
        """Replace fields of a video."""
        return self.scenario.update_video(video_id, **changes)

    def revoke_tokens(self) -> None:
        """Make all app access tokens invalid."""
        self.world.app_tokens.clear()


@asynccontextmanager
async def running_standin(
    scenario: Scenario | str = "test",
    cache_dir: Path | None = None,
    *,
    port: int = 0,
    proxy_port: int = 0,
    irc_port: int = 0,
    ca_path: Path | None = None,
    speed: float = 1.0,
    kept_requests: int = KEPT,
) -> AsyncIterator[Standin]:
    """Serve ``scenario`` (an object or the name of a built-in one) until the block is left.

    Missing media is built first, which takes seconds. ``speed`` is scenario seconds per real second, ``kept_requests``
    how many requests the log remembers. Without ``ca_path`` the CA goes into a temporary file that is removed at the
    end. Raises ``MediaBuildError`` and ``OSError`` (port taken).
    """
    if isinstance(scenario, str):
        scenario = scenario_named(scenario)
    media = MediaCache(cache_dir)
    await anyio.to_thread.run_sync(media.ensure_all, scenario.recipes())
    loop = asyncio.get_running_loop()
    faults = Faults(scenario.seed)
    for rule in scenario.faults:
        faults.add_rule(rule)
    log = RequestLog(kept_requests)
    authority = CertificateAuthority()
    world = World(scenario, StandinClock(speed=speed), media, base_url="")
    control = [
        *CONTROL_ROUTES,
        *LIVE_ROUTES,
        *YOUTUBE_CONTROL_ROUTES,
        *fault_routes(faults),
        *request_routes(log),
        *irc_routes(lambda: irc),
    ]
    irc = IrcServer(world)
    targets = Targets(RESOURCES)
    front = HttpFront(world, RESOURCES, control, targets, faults, log)
    proxy = Proxy(authority, front.server, targets)
    with tempfile.TemporaryDirectory(prefix="vodkeep-standin-") as scratch:
        world.youtube.folder = Path(scratch) / "youtube"
        ca_file = ca_path or Path(scratch) / "ca.pem"
        write_whole(ca_file, authority.pem())
        http_listener = await loop.create_server(front.server, LOOPBACK_ADDRESS, port, backlog=512)
        try:
            http_port = int(http_listener.sockets[0].getsockname()[1])
            world.base_url = f"http://{LOOPBACK_ADDRESS}:{http_port}"
            targets.own_port = http_port
            proxy_listener = await loop.create_server(proxy.protocol, LOOPBACK_ADDRESS, proxy_port, backlog=512)
            try:
                real_proxy_port = int(proxy_listener.sockets[0].getsockname()[1])
                await irc.start(authority.context(LOOPBACK_ADDRESS), LOOPBACK_ADDRESS, irc_port)
                yield Standin(world, faults, log, targets, irc, proxy_port=real_proxy_port, ca_path=ca_file)
            finally:
                await irc.close()
                proxy_listener.close()
                await proxy.close()
        finally:
            http_listener.close()
            front.server.pre_shutdown()
            await front.server.shutdown(GRACE_S)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that readers see it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(path)
