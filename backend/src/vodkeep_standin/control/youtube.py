"""``/control/youtube``: what YouTube has, what becomes of it, and its tokens."""

from __future__ import annotations

import msgspec

from vodkeep_standin.serving.call import Call, Reply, json_reply
from vodkeep_standin.serving.routes import LOOPBACK, Route, route
from vodkeep_standin.youtube.model import Outcome
from vodkeep_standin.youtube.resources import video_resource


class _Rules(msgspec.Struct, forbid_unknown_fields=True):
    """What holds from now on; what is left out stays."""

    processing_s: float | None = None
    outcome: Outcome | None = None
    reason: str | None = None
    quota_units: int | None = None
    quota_uploads: int | None = None


class _Changes(msgspec.Struct, forbid_unknown_fields=True):
    """What becomes of one video."""

    outcome: Outcome | None = None
    reason: str | None = None
    vanished: bool | None = None
    duration_s: float | None = None


async def listed(call: Call) -> Reply:
    """Every video with the hash of its bytes, every upload session, and what of the quota is used."""
    library = call.world.youtube
    videos = [
        {
            "id": video.id,
            "sha256": video.sha256,
            "size_bytes": video.size_bytes,
            "vanished": video.vanished,
            "has_thumbnail": bool(video.thumbnail),
            "resource": video_resource(library, video),
        }
        for video in library.videos.values()
    ]
    sessions = [
        {
            "size_bytes": session.size_bytes,
            "received": session.received,
            "arrived_bytes": session.arrived_bytes,
            "video_id": session.video_id,
        }
        for session in library.sessions.values()
    ]
    used = {"units": library.quota.used_units, "uploads": library.quota.used_uploads}
    return json_reply({"videos": videos, "sessions": sessions, "playlists": library.playlists, "used": used})


async def ruled(call: Call) -> Reply:
    """``{"processing_s": 60, "outcome": "rejected", "reason": "copyright"}`` and the like."""
    try:
        rules = msgspec.json.decode(call.body, type=_Rules)
    except msgspec.DecodeError as error:
        return json_reply({"error": str(error)}, 400)
    library = call.world.youtube
    if rules.processing_s is not None:
        library.processing_s = rules.processing_s
    if rules.outcome is not None:
        library.outcome, library.reason = rules.outcome, rules.reason
    if rules.quota_units is not None:
        library.quota.units = rules.quota_units
    if rules.quota_uploads is not None:
        library.quota.uploads = rules.quota_uploads
    return Reply(204)


async def changed(call: Call) -> Reply:
    """``{"vanished": true}``, ``{"outcome": "rejected", "reason": "claim"}`` or ``{"duration_s": 12}``."""
    video = call.world.youtube.videos.get(call.params["video"])
    if video is None:
        return json_reply({"error": "no such video"}, 404)
    try:
        changes = msgspec.json.decode(call.body, type=_Changes)
    except msgspec.DecodeError as error:
        return json_reply({"error": str(error)}, 400)
    if changes.outcome is not None:
        video.outcome, video.reason = changes.outcome, changes.reason
    if changes.vanished is not None:
        video.vanished = changes.vanished
    if changes.duration_s is not None:
        video.duration_s = changes.duration_s
    return Reply(204)


async def sessions_ended(call: Call) -> Reply:
    """Deny every upload session from now on, with status 404 or that of ``?status=410``."""
    for session in call.world.youtube.sessions.values():
        session.gone = int(call.query.get("status", "404"))
    return Reply(204)


async def token_issued(call: Call) -> Reply:
    """An access token as if somebody had consented."""
    token = call.world.google_tokens.issue(client_id=call.world.scenario.google_client_id)
    return json_reply({"access_token": token.value}, 201)


async def tokens_expired(call: Call) -> Reply:
    """End every access token of Google's; refresh tokens stay."""
    call.world.google_tokens.expire()
    return Reply(204)


ROUTES: list[Route] = [
    route("GET", LOOPBACK, "/control/youtube", listed),
    route("POST", LOOPBACK, "/control/youtube", ruled),
    route("POST", LOOPBACK, "/control/youtube/videos/{video}", changed),
    route("DELETE", LOOPBACK, "/control/youtube/sessions", sessions_ended),
    route("POST", LOOPBACK, "/control/youtube/tokens", token_issued),
    route("DELETE", LOOPBACK, "/control/youtube/tokens", tokens_expired),
]
