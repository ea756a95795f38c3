"""The comments of a video answer in ways that lead astray."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

from vodkeep_standin.faults.base import Fault, Firing
from vodkeep_standin.serving.call import Call, Reply, json_reply

OPERATION = "VideoCommentsByOffsetOrCursor"

CommentsForm = Literal["integrity", "empty", "null_commenters", "repeated", "null_comments", "no_more"]


class GqlComments(Fault, frozen=True, tag="gql_comments"):
    """Bend pages of comments; other operations pass.

    ``form``: ``integrity`` (a request with a cursor is refused, as for clients that are not a browser), ``empty`` (no
    edges although more pages follow), ``null_commenters`` (all accounts are gone), ``repeated`` (the first page again),
    ``null_comments`` (a ``service error`` with null comments), ``no_more`` (no edges, and no page follows).
    """

    form: CommentsForm

    def after(self, call: Call, reply: Reply, firing: Firing) -> Reply:
        """Rewrite the body."""
        if reply.status != 200 or not isinstance(reply.body, bytes) or OPERATION not in call.operations:
            return reply
        asked, answered = json.loads(call.body), json.loads(reply.body)
        if isinstance(asked, list):
            return json_reply([self._bend(*pair, firing) for pair in zip(asked, answered, strict=True)])
        return json_reply(self._bend(asked, answered, firing))

    def _bend(self, asked: dict[str, Any], answered: dict[str, Any], firing: Firing) -> dict[str, Any]:
        if self.form == "integrity":
            return _refused(answered) if (asked.get("variables") or {}).get("cursor") else answered
        video = (answered.get("data") or {}).get("video")
        if not video or not video.get("comments"):
            return answered
        comments = video["comments"]
        match self.form:
            case "empty":
                comments["edges"] = []
                comments["pageInfo"]["hasNextPage"] = True
            case "no_more":
                comments["edges"] = []
                comments["pageInfo"]["hasNextPage"] = False
            case "null_commenters":
                for edge in comments["edges"]:
                    edge["node"]["commenter"] = None
            case "repeated":
                video["comments"] = firing.remember("page", _always(comments))
            case "null_comments":
                video["comments"] = None
                answered["errors"] = [{"message": "service error", "path": ["video", "comments"]}]
        return answered


def _always(page: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    return lambda: page


def _refused(answered: dict[str, Any]) -> dict[str, Any]:
    """What Twitch answers when it wants the token of an integrity check."""
    return {
        "errors": [{"message": "failed integrity check", "path": ["video", "comments"]}],
        "data": {"video": None},
        "extensions": {**answered.get("extensions", {}), "challenge": {"type": "integrity"}},
    }
