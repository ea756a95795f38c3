"""``GET /helix/streams``."""

from __future__ import annotations

from typing import Any

from vodkeep_standin.helix.gate import guarded
from vodkeep_standin.helix.parameters import BadParameter, page, values
from vodkeep_standin.helix.shapes import cursor, timestamp
from vodkeep_standin.scenario.model import Channel, Stream
from vodkeep_standin.serving.call import Call, Reply, helix_problem, json_reply
from vodkeep_standin.serving.routes import Route, route


@guarded
async def streams(call: Call) -> Reply:
    """Who is live among ``user_login`` and ``user_id``; who is offline is left out."""
    try:
        logins, ids = values(call, "user_login"), values(call, "user_id")
        offset, count = page(call)
    except BadParameter as error:
        return helix_problem(400, "Bad Request", str(error))
    scenario = call.world.scenario
    if logins or ids:
        wanted = [scenario.channels.get(login.lower()) for login in logins]
        wanted += [scenario.channel_by_id(channel_id) for channel_id in ids]
    else:
        wanted = list(scenario.channels.values())
    channels = [channel for channel in dict.fromkeys(wanted) if channel is not None]
    live = [(channel, found) for channel in channels if (found := call.world.stream_of(channel)) is not None]
    shown = live[offset : offset + count]
    more = offset + len(shown) < len(live)
    return json_reply(
        {
            "data": [_stream(channel, found) for channel, found in shown],
            "pagination": {"cursor": cursor(offset + len(shown))} if more else {},
        }
    )


def _stream(channel: Channel, live: Stream) -> dict[str, Any]:
    """A stream as Helix writes it."""
    game = live.game
    preview = f"https://static-cdn.jtvnw.net/previews-ttv/live_user_{channel.login}-{{width}}x{{height}}.jpg"
    return {
        "id": live.id,
        "user_id": channel.id,
        "user_login": channel.login,
        "user_name": channel.display_name,
        "game_id": game.game_id if game else "",
        "game_name": game.title if game else "",
        "type": "live",
        "title": live.title,
        "viewer_count": live.view_count,
        "started_at": timestamp(live.started_at),
        "language": channel.language,
        "thumbnail_url": preview,
        "tag_ids": [],
        "tags": ["English"],
        "is_mature": False,
    }


ROUTES: list[Route] = [route("GET", "api.twitch.tv", "/helix/streams", streams)]
