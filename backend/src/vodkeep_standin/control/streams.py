"""``/control/streams``: who is live, whether or not a video records it."""

from __future__ import annotations

import msgspec

from vodkeep_standin.serving.call import Call, Reply, json_reply
from vodkeep_standin.serving.routes import LOOPBACK, Route, route


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """A stream to start; with the id of an earlier one it is that one again."""

    channel: str
    stream_id: str | None = None
    title: str = "Live now"
    started_s_ago: float = 0


async def listed(call: Call) -> Reply:
    """The streams that control started and not those that a recording makes."""
    return Reply(
        200,
        msgspec.json.encode({"streams": list(call.world.streams.values())}),
        {"Content-Type": "application/json"},
    )


async def started(call: Call) -> Reply:
    """Let a channel be live: ``{"channel": "login"}``, and what else ``_Wanted`` has."""
    try:
        wanted = msgspec.json.decode(call.body, type=_Wanted)
    except msgspec.DecodeError as error:
        return json_reply({"error": str(error)}, 400)
    try:
        stream = call.world.start_stream(
            wanted.channel, stream_id=wanted.stream_id, title=wanted.title, started_s_ago=wanted.started_s_ago
        )
    except KeyError:
        return json_reply({"error": f"no channel {wanted.channel!r}"}, 400)
    return json_reply({"id": stream.id, "started_at": stream.started_at.isoformat()}, 201)


async def stopped(call: Call) -> Reply:
    """End the channel's stream."""
    try:
        call.world.stop_stream(call.params["channel"])
    except KeyError:
        return json_reply({"error": "the channel has no stream that was started here"}, 404)
    return Reply(204)


ROUTES: list[Route] = [
    route("GET", LOOPBACK, "/control/streams", listed),
    route("POST", LOOPBACK, "/control/streams", started),
    route("DELETE", LOOPBACK, "/control/streams/{channel}", stopped),
]
