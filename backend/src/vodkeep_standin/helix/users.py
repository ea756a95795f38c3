"""``GET /helix/users``."""

from __future__ import annotations

from typing import Any

from vodkeep_standin.helix.gate import guarded
from vodkeep_standin.helix.parameters import BadParameter, values
from vodkeep_standin.helix.shapes import timestamp
from vodkeep_standin.scenario.model import Channel
from vodkeep_standin.serving.call import Call, Reply, helix_problem, json_reply
from vodkeep_standin.serving.routes import Route, route


@guarded
async def users(call: Call) -> Reply:
    """Channels by ``login`` and ``id``; unknown ones are left out of the answer."""
    try:
        logins, ids = values(call, "login"), values(call, "id")
    except BadParameter as error:
        return helix_problem(400, "Bad Request", str(error))
    if not logins and not ids:
        return helix_problem(400, "Bad Request", "Must provide an ID, Login or OAuth Token")
    if len(logins) + len(ids) > 100:
        return helix_problem(400, "Bad Request", "Too many ids and logins: the limit is 100")
    scenario = call.world.scenario
    found = [scenario.channels.get(login.lower()) for login in logins]
    found += [scenario.channel_by_id(channel_id) for channel_id in ids]
    return json_reply({"data": [user(channel) for channel in dict.fromkeys(found) if channel is not None]})


def user(channel: Channel) -> dict[str, Any]:
    """A user as Helix writes it."""
    picture = f"https://static-cdn.jtvnw.net/jtv_user_pictures/{channel.login}-profile_image-300x300.png"
    return {
        "id": channel.id,
        "login": channel.login,
        "display_name": channel.display_name,
        "type": "",
        "broadcaster_type": channel.broadcaster_type,
        "description": channel.description,
        "profile_image_url": picture,
        "offline_image_url": "",
        "view_count": 0,
        "created_at": timestamp(channel.created_at),
    }


ROUTES: list[Route] = [route("GET", "api.twitch.tv", "/helix/users", users)]
