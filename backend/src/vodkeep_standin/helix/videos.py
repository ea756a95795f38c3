"""``GET /helix/videos``."""

from __future__ import annotations

from typing import Any

from vodkeep_standin.edge.pictures import thumbnail_url
from vodkeep_standin.helix.gate import guarded
from vodkeep_standin.helix.parameters import BadParameter, page, values
from vodkeep_standin.helix.shapes import cursor, duration, timestamp
from vodkeep_standin.scenario.model import Video
from vodkeep_standin.serving.call import Call, Reply, helix_problem, json_reply
from vodkeep_standin.serving.routes import Route, route
from vodkeep_standin.world import World

TYPES = {"all": frozenset({"archive", "highlight", "upload"})} | {
    kind: frozenset({kind}) for kind in ("archive", "highlight", "upload")
}


@guarded
async def videos(call: Call) -> Reply:
    """Videos by ``id``, or of one ``user_id``, newest first, in pages."""
    try:
        ids, owners = values(call, "id"), values(call, "user_id")
        if ids:
            return _by_id(call, ids)
        if len(owners) != 1:
            raise BadParameter("Must provide one of: id, user_id, game_id")
        offset, count = page(call)
    except BadParameter as error:
        return helix_problem(400, "Bad Request", str(error))
    types = TYPES.get(call.query.get("type", "all"))
    if types is None:
        return helix_problem(400, "Bad Request", 'The parameter "type" was malformed')
    channel = call.world.scenario.channel_by_id(owners[0])
    if channel is None:
        return json_reply({"data": [], "pagination": {}})
    listing = call.world.scenario.listing(channel.login, types)
    entries = [video(call.world, entry) for entry in listing.page(offset, count)]
    reached = offset + len(entries)
    pagination = {"cursor": cursor(reached)} if reached < len(listing) else {}
    return json_reply({"data": entries, "pagination": pagination})


def _by_id(call: Call, ids: list[str]) -> Reply:
    found = [entry for video_id in ids if (entry := call.world.scenario.video(video_id)) is not None]
    if not found:
        return helix_problem(404, "Not Found", "videos not found")
    return json_reply({"data": [video(call.world, entry) for entry in found], "pagination": {}})


def video(world: World, entry: Video) -> dict[str, Any]:
    """A video as Helix writes it."""
    owner = world.owner(entry)
    muted = [{"duration": span.duration_s, "offset": span.start_s} for span in entry.recipe.muted]
    return {
        "id": entry.id,
        "stream_id": entry.stream_id,
        "user_id": owner.id,
        "user_login": owner.login,
        "user_name": owner.display_name,
        "title": entry.title,
        "description": entry.description,
        "created_at": timestamp(entry.created_at),
        "published_at": timestamp(entry.created_at),
        "url": f"https://www.twitch.tv/videos/{entry.id}",
        "thumbnail_url": thumbnail_url(world, entry, "%{width}", "%{height}"),
        "viewable": "public",
        "view_count": entry.view_count,
        "language": entry.language,
        "type": entry.type,
        "duration": duration(world.duration_s(entry)),
        "muted_segments": muted or None,
    }


ROUTES: list[Route] = [route("GET", "api.twitch.tv", "/helix/videos", videos)]
