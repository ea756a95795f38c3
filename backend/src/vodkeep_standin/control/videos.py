"""``/control/videos``, ``/control/tokens`` and ``/control/clock``."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import anyio.to_thread
import msgspec

from vodkeep_standin.media.build import MediaBuildError
from vodkeep_standin.scenario.model import Video
from vodkeep_standin.serving.call import Call, Reply, json_reply
from vodkeep_standin.serving.routes import LOOPBACK, Route, route

_CHANGEABLE = frozenset(field.name for field in fields(Video)) - {"id", "recording"}


async def listed(call: Call) -> Reply:
    """All videos that are not synthetic, with how far they are recorded."""
    world = call.world
    shown = [
        {
            "id": video.id,
            "channel": video.channel,
            "title": video.title,
            "recording": world.is_recording(video),
            "deleted": video.deleted,
            "duration_s": world.duration_s(video),
        }
        for video in world.scenario.videos.values()
    ]
    return json_reply({"videos": shown})


async def added(call: Call) -> Reply:
    """Add or replace a video; the body holds the fields of ``Video``. Media is built first."""
    try:
        video = msgspec.json.decode(call.body, type=Video)
    except msgspec.DecodeError as error:
        return json_reply({"error": str(error)}, 400)
    if video.channel not in call.world.scenario.channels:
        return json_reply({"error": f"no channel {video.channel!r}"}, 400)
    try:
        await anyio.to_thread.run_sync(call.world.media.ensure, video.recipe)
    except MediaBuildError as error:
        return json_reply({"error": str(error)}, 500)
    call.world.add_video(video)
    return json_reply({"id": video.id}, 201)


async def changed(call: Call) -> Reply:
    """``{"finish": true}`` ends a recording; other members replace fields of the video."""
    video_id = call.params["video"]
    video = call.world.scenario.video(video_id)
    if video is None:
        return json_reply({"error": "no such video"}, 404)
    try:
        wanted: dict[str, Any] = msgspec.json.decode(call.body or b"{}", type=dict[str, Any])
        finish = wanted.pop("finish", False)
        if unknown := set(wanted) - _CHANGEABLE:
            raise msgspec.ValidationError(f"cannot change {', '.join(sorted(unknown))}")
        document = msgspec.to_builtins(video) | wanted
        replacement = msgspec.convert(document, Video)
    except msgspec.MsgspecError as error:
        return json_reply({"error": str(error)}, 400)
    if wanted:
        call.world.scenario.update_video(video_id, **{name: getattr(replacement, name) for name in wanted})
    if finish:
        call.world.finish(video_id)
    return json_reply({"id": video_id})


async def removed(call: Call) -> Reply:
    """Forget the video, Helix included."""
    try:
        call.world.scenario.remove_video(call.params["video"])
    except KeyError:
        return json_reply({"error": "no such video"}, 404)
    return Reply(204)


async def tokens_revoked(call: Call) -> Reply:
    """Make all app access tokens invalid."""
    call.world.app_tokens.clear()
    return Reply(204)


async def clock_advanced(call: Call) -> Reply:
    """Let scenario time pass: ``{"seconds": 20}``."""
    try:
        seconds = msgspec.json.decode(call.body, type=dict[str, float])["seconds"]
    except (msgspec.DecodeError, KeyError):
        return json_reply({"error": 'expected {"seconds": <number>}'}, 400)
    call.world.clock.advance(seconds)
    return json_reply({"now": call.world.clock.now().isoformat()})


ROUTES: list[Route] = [
    route("GET", LOOPBACK, "/control/videos", listed),
    route("POST", LOOPBACK, "/control/videos", added),
    route("POST", LOOPBACK, "/control/videos/{video}", changed),
    route("DELETE", LOOPBACK, "/control/videos/{video}", removed),
    route("DELETE", LOOPBACK, "/control/tokens", tokens_revoked),
    route("POST", LOOPBACK, "/control/clock", clock_advanced),
]
