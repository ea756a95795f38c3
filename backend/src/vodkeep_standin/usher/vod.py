"""``usher.ttvnw.net/vod/<id>.m3u8`` and the newer ``/vod/v2/``."""

from __future__ import annotations

import hashlib

from vodkeep_standin.edge.endpoints import HLS_TYPE
from vodkeep_standin.edge.playlist import playlist_name
from vodkeep_standin.scenario.model import Video
from vodkeep_standin.serving.call import Call, Reply, json_reply, text_reply
from vodkeep_standin.serving.routes import Route, route
from vodkeep_standin.world import World

HOST = "usher.ttvnw.net"


async def vod_playlist(call: Call) -> Reply:
    """The multivariant playlist; its links carry a new grant each time."""
    video = call.world.playable(call.params["video"])
    if video is None:
        return _problem(call, 404, "vod_not_found", "Video does not exist")
    problem = call.world.playback_token_problem(
        call.query.get("token") or call.query.get("nauth") or "",
        call.query.get("sig") or call.query.get("nauthsig") or "",
        video.id,
    )
    if problem is not None:
        return _problem(call, 403, problem, "Access token is not valid")
    if video.sub_only:
        return _problem(call, 403, "vod_manifest_restricted", "Manifest is restricted")
    grant = call.world.issue_grant(video, call.headers.get("User-Agent", ""))
    return text_reply(render_multivariant_playlist(call.world, video, grant), HLS_TYPE)


def _problem(call: Call, status: int, code: str, sentence: str) -> Reply:
    """usher's errors are a list of one object; yt-dlp wants exactly this content type."""
    url = f"https://{HOST}{call.path}"
    reply = json_reply([{"url": url, "error": sentence, "error_code": code, "type": "error"}], status)
    reply.headers["Content-Type"] = "application/json"
    return reply


def render_multivariant_playlist(world: World, video: Video, grant: str) -> str:
    """All qualities of a video. Links lead to the plain HTTP edge, so clients without the proxy can follow."""
    media = world.media_of(video)
    server_time = f"{world.clock.now().timestamp():.2f}"
    lines = [
        "#EXTM3U",
        '#EXT-X-TWITCH-INFO:ORIGIN="s3",B="false",REGION="EU",USER-IP="127.0.0.1",'
        f'SERVING-ID="{grant}",CLUSTER="cloudfront_vod",USER-COUNTRY="DE",MANIFEST-CLUSTER="cloudfront_vod",'
        f'SERVER-TIME="{server_time}"',
    ]
    for rendition in media.renditions:
        url = f"{world.base_url}/edge/{grant}/{broadcast_path(world, video)}/{rendition.name}/{playlist_name(video)}"
        has_picture = rendition.width > 0
        automatic = "YES" if has_picture and rendition is not media.source else "NO"
        lines.append(
            f'#EXT-X-MEDIA:TYPE=VIDEO,GROUP-ID="{rendition.name}",NAME="{rendition.label}",'
            f"AUTOSELECT={automatic},DEFAULT={automatic}"
        )
        attributes = f'BANDWIDTH={rendition.bandwidth},CODECS="{rendition.codecs}"'
        if has_picture:
            attributes += f",RESOLUTION={rendition.width}x{rendition.height}"
        attributes += f',VIDEO="{rendition.name}"'
        if has_picture:
            attributes += f",FRAME-RATE={rendition.fps:.3f}"
        lines += [f"#EXT-X-STREAM-INF:{attributes}", url]
    return "\n".join(lines) + "\n"


def broadcast_path(world: World, video: Video) -> str:
    """The path element Twitch's CDN uses per broadcast: hash, login, stream id and start time."""
    login = world.owner(video).login
    digest = hashlib.sha1(f"{world.scenario.seed}/{video.id}".encode()).hexdigest()[:20]  # noqa: S324 - only a name
    return f"{digest}_{login}_{video.stream_id or video.id}_{int(video.created_at.timestamp())}"


ROUTES: list[Route] = [
    route("GET", HOST, "/vod/{video}.m3u8", vod_playlist),
    route("GET", HOST, "/vod/v2/{video}.m3u8", vod_playlist),
]
