"""What the edge serves below ``/edge/<grant>/<broadcast>/<quality>/``."""

from __future__ import annotations

from vodkeep_standin.edge.playlist import playlist_name, render_media_playlist, served_names
from vodkeep_standin.media.model import Rendition
from vodkeep_standin.scenario.model import Video
from vodkeep_standin.serving.call import Call, FileBody, Reply, text_reply
from vodkeep_standin.serving.ranges import apply_range
from vodkeep_standin.serving.routes import EDGE_HOSTS, Route, route

HLS_TYPE = "application/vnd.apple.mpegurl"


def refused() -> Reply:
    """What the CDN says when a link is not, or no longer, good."""
    return _cdn_error(403, "AccessDenied")


def not_found() -> Reply:
    """What the CDN says about a file that does not exist."""
    return _cdn_error(404, "NoSuchKey")


def _cdn_error(status: int, code: str) -> Reply:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code></Error>'
    return text_reply(body, "application/xml", status)


async def media_playlist(call: Call) -> Reply:
    """``index-dvr.m3u8``, or ``index-muted-<letters>.m3u8`` of a video with muted parts."""
    found = _lookup(call)
    if isinstance(found, Reply):
        return found
    video, rendition = found
    name = call.params["file"]
    if name not in ("index-dvr.m3u8", playlist_name(video)):
        return not_found()
    window = call.world.window(video, rendition.name)
    unmuted_names = name == "index-dvr.m3u8"
    text = render_media_playlist(
        video, rendition, window, generated_at=call.world.clock.now(), unmuted_names=unmuted_names
    )
    reply = text_reply(text, HLS_TYPE)
    reply.headers["Cache-Control"] = "max-age=31536000" if window.ended else "no-cache"
    return reply


async def segment(call: Call) -> Reply:
    """A segment or an init section, with byte ranges."""
    found = _lookup(call)
    if isinstance(found, Reply):
        return found
    video, rendition = found
    name = call.params["file"]
    media = call.world.media_of(video)
    if name in rendition.init_names:
        path = media.path(rendition.name, name)
        return _media_file(call, FileBody(path, 0, path.stat().st_size))
    names = served_names(video, rendition)
    if name not in names:
        # The original sound of a muted stretch exists, but not for the public.
        return refused() if name.replace("-unmuted.", "-muted.") in names else not_found()
    index = names[name]
    if index in video.missing_segments or index >= call.world.window(video, rendition.name).segments:
        return not_found()
    chosen = rendition.segments[index]
    return _media_file(call, FileBody(media.path(rendition.name, chosen.name), 0, chosen.size_bytes))


def _media_file(call: Call, body: FileBody) -> Reply:
    kind = "video/mp4" if body.path.suffix == ".mp4" else "video/MP2T"
    reply = Reply(200, body, {"Content-Type": kind, "ETag": f'"{body.path.parent.parent.name[:12]}-{body.path.stem}"'})
    return apply_range(reply, call.headers.get("Range"))


def _lookup(call: Call) -> tuple[Video, Rendition] | Reply:
    grant = call.world.grants.get(call.params["grant"])
    video = call.world.playable(grant.video_id) if grant else None
    if video is None:
        return refused()
    rendition = call.world.media_of(video).rendition(call.params["quality"])
    return (video, rendition) if rendition is not None else not_found()


ROUTES: list[Route] = [
    route("GET", EDGE_HOSTS, "/edge/{grant}/{broadcast}/{quality}/{file:index-[^/]+m3u8}", media_playlist),
    route("GET", EDGE_HOSTS, "/edge/{grant}/{broadcast}/{quality}/{file}", segment),
]
