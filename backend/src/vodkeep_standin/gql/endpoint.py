"""``gql.twitch.tv/gql``: batches, persisted operations and plain queries."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vodkeep_standin.gql.comments import video_comments
from vodkeep_standin.gql.language import QueryError, Selection, parse_query
from vodkeep_standin.gql.objects import user_object, video_object
from vodkeep_standin.serving.call import Call, Reply, helix_problem, json_reply
from vodkeep_standin.serving.routes import Route, route
from vodkeep_standin.world import World

MAX_BATCH = 35


async def gql(call: Call) -> Reply:
    """One operation or a list of them; the answer has the same shape. Errors inside keep status 200."""
    if not call.headers.get("Client-ID"):
        return helix_problem(400, "Bad Request", 'The "Client-ID" header is missing from the request.')
    try:
        asked = json.loads(call.body)
    except ValueError:
        return helix_problem(400, "Bad Request", "failed to read request body as JSON")
    if isinstance(asked, list):
        if len(asked) > MAX_BATCH:
            return helix_problem(400, "Bad Request", "too many operations in the batch")
        return json_reply([answer(call.world, entry) for entry in asked])
    return json_reply(answer(call.world, asked))


def answer(world: World, entry: Any) -> dict[str, Any]:
    """The answer to one operation."""
    if not isinstance(entry, dict):
        return {"errors": [{"message": "operation must be an object"}]}
    variables = entry.get("variables")
    variables = variables if isinstance(variables, dict) else {}
    name = entry.get("operationName")
    query = entry.get("query")
    try:
        data = plain(world, query, variables) if isinstance(query, str) else persisted(world, entry, name, variables)
    except QueryError as error:
        return {"errors": [{"message": str(error)}]}
    extensions: dict[str, Any] = {"durationMilliseconds": 21, "requestID": "01STANDIN0000000000000000"}
    if name:
        extensions["operationName"] = name
    return {"data": data, "extensions": extensions}


def persisted(world: World, entry: dict[str, Any], name: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
    """An operation known by name and hash. Raises ``QueryError``."""
    extension = (entry.get("extensions") or {}).get("persistedQuery") or {}
    known = PERSISTED.get(name) if isinstance(name, str) else None
    if known is None or not re.fullmatch(r"[0-9a-f]{64}", str(extension.get("sha256Hash"))):
        raise QueryError("PersistedQueryNotFound")
    return known(world, variables)


def plain(world: World, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """A query with its text. Raises ``QueryError``."""
    data: dict[str, Any] = {}
    for root in parse_query(query, variables):
        resolve = ROOTS.get(root.name)
        if resolve is None:
            raise QueryError(f'Cannot query field "{root.name}" on type "Query".')
        data[root.alias] = pick(resolve(world, root.arguments), root.selections, root.name)
    return data


def pick(value: Any, selections: Sequence[Selection], where: str) -> Any:
    """The selected part of an object. Raises ``QueryError`` for fields it does not have."""
    if isinstance(value, list):
        return [pick(entry, selections, where) for entry in value]
    if not isinstance(value, dict):
        return value
    picked = {}
    for selection in selections:
        if selection.name not in value:
            raise QueryError(f'Cannot query field "{selection.name}" on "{where}".')
        picked[selection.alias] = pick(value[selection.name], selection.selections, selection.name)
    return picked


def _video(world: World, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    video = world.playable(str(arguments.get("id", "")))
    return None if video is None else video_object(world, video)


def _playback_token(world: World, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    video = world.playable(str(arguments.get("id", "")))
    if video is None:
        return None
    return {"__typename": "PlaybackAccessToken", **world.sign_playback(video)}


def _user(world: World, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    channel = world.scenario.channels.get(str(arguments.get("login", "")).lower())
    if channel is None:
        channel = world.scenario.channel_by_id(str(arguments.get("id", "")))
    return None if channel is None else user_object(channel)


def _video_metadata(world: World, variables: Mapping[str, Any]) -> dict[str, Any]:
    found = _video(world, {"id": variables.get("videoID")})
    wanted = (
        "id title description previewThumbnailURL createdAt viewCount publishedAt lengthSeconds broadcastType "
        "owner game language __typename"
    )
    return {"user": None, "currentUser": None, "video": _only(found, wanted)}


def _chapters(world: World, variables: Mapping[str, Any]) -> dict[str, Any]:
    return {"video": _only(_video(world, {"id": variables.get("videoID")}), "id moments __typename")}


def _seek_bar(world: World, variables: Mapping[str, Any]) -> dict[str, Any]:
    return {"video": _only(_video(world, {"id": variables.get("videoID")}), "id seekPreviewsURL __typename")}


def _only(found: dict[str, Any] | None, names: str) -> dict[str, Any] | None:
    return None if found is None else {name: found[name] for name in names.split()}


ROOTS: dict[str, Callable[[World, Mapping[str, Any]], Any]] = {
    "video": _video,
    "user": _user,
    "videoPlaybackAccessToken": _playback_token,
}
PERSISTED: dict[str, Callable[[World, Mapping[str, Any]], dict[str, Any]]] = {
    "VideoMetadata": _video_metadata,
    "VideoPlayer_ChapterSelectButtonVideo": _chapters,
    "VideoPlayer_VODSeekbarPreviewVideo": _seek_bar,
    "VideoCommentsByOffsetOrCursor": video_comments,
}
ROUTES: list[Route] = [route("POST", "gql.twitch.tv", "/gql", gql)]
