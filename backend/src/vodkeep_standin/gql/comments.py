"""The comments of a video: its chat, page by page.

As the web player meets them (observed by others in July 2026, redacted fixtures): a page has 59 comments; asked for by
``contentOffsetSeconds`` it begins well before that second, and the cursor of its last edge leads to the next one
without overlap. Offsets are whole seconds. An offset behind the end is answered with a ``service error``, a video
whose chat is not offered with ``comments: null``.
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_left
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from vodkeep_standin.gql.language import QueryError
from vodkeep_standin.scenario.chat import ChatLine
from vodkeep_standin.scenario.model import Video
from vodkeep_standin.world import World

PAGE = 59
LEAD = 24
"""How many comments of a page that is asked for by offset lie before it."""


def video_comments(world: World, variables: Mapping[str, Any]) -> dict[str, Any]:
    """``VideoCommentsByOffsetOrCursor``. Raises ``QueryError``."""
    video = world.playable(str(variables.get("videoID", "")))
    if video is None:
        return {"video": None}
    shown: dict[str, Any] = {"__typename": "Video", "id": video.id, "creator": {"id": world.owner(video).id}}
    if video.chat.disabled:
        return {"video": {**shown, "comments": None}}
    chat = _Chat(world, video)
    cursor = variables.get("cursor")
    if isinstance(cursor, str) and cursor:
        first = _index_of(cursor, video)
    else:
        offset_s = variables.get("contentOffsetSeconds") or 0
        if not isinstance(offset_s, int):
            raise QueryError('Variable "contentOffsetSeconds" has an invalid value')
        if offset_s > world.duration_s(video):
            raise QueryError("service error")
        found = chat.index_at(max(0, offset_s) * 1000)
        first = max(0, min(found, len(chat) - 1) - LEAD)
    last = min(first + PAGE, len(chat))
    edges = [
        {"__typename": "VideoCommentEdge", "cursor": _cursor(video, index + 1), "node": _node(video, chat.line(index))}
        for index in range(first, last)
    ]
    pages = {"__typename": "PageInfo", "hasNextPage": last < len(chat), "hasPreviousPage": first > 0}
    connection = {"__typename": "VideoCommentConnection", "edges": edges, "pageInfo": pages}
    return {"video": {**shown, "comments": connection}}


class _Chat:
    """The script of a video and what was said beside it, in order."""

    def __init__(self, world: World, video: Video) -> None:
        self._script = world.chat_script(video)
        whole_ms = int(world.duration_s(video) * 1000)
        self._scripted = self._script.index_at(whole_ms)
        offsets = (
            (_milliseconds(at - video.created_at), line) for at, line in world.said.get(video.channel, ())
        )  # fmt: skip
        beside = sorted(
            ((offset_ms, line) for offset_ms, line in offsets if 0 <= offset_ms < whole_ms), key=lambda each: each[0]
        )
        # Where in the whole each of them stands: behind what the script says before it.
        self._beside = [
            (self._script.index_at(offset_ms) + number, offset_ms, line)
            for number, (offset_ms, line) in enumerate(beside)
        ]

    def __len__(self) -> int:
        return self._scripted + len(self._beside)

    def index_at(self, offset_ms: int) -> int:
        """The number of the first line at or after ``offset_ms``."""
        return self._script.index_at(offset_ms) + bisect_left(self._beside, offset_ms, key=lambda each: each[1])

    def line(self, index: int) -> tuple[int, ChatLine]:
        """When the line with this number was said, milliseconds into the video, and the line."""
        before = bisect_left(self._beside, index, key=lambda each: each[0])
        if before < len(self._beside) and self._beside[before][0] == index:
            return self._beside[before][1:]
        line = self._script.line(index - before)
        return line.offset_ms, line


def _node(video: Video, said: tuple[int, ChatLine]) -> dict[str, Any]:
    offset_ms, line = said
    moment = video.created_at + timedelta(milliseconds=offset_ms)
    return {
        "__typename": "VideoComment",
        "id": line.id,
        "contentOffsetSeconds": offset_ms // 1000,
        "createdAt": _precise(moment),
        "commenter": {
            "__typename": "User",
            "id": line.speaker.id,
            "login": line.speaker.login,
            "displayName": line.speaker.display_name,
        },
        "message": {
            "__typename": "VideoCommentMessage",
            "fragments": [
                {
                    "__typename": "VideoCommentMessageFragment",
                    "emote": None if emote is None else {"__typename": "EmbeddedEmote", "id": emote, "emoteID": emote},
                    "text": text,
                }
                for text, emote in line.fragments
            ],
            "userBadges": [
                {"__typename": "Badge", "id": "", "setID": name, "version": version}
                for name, version in line.speaker.badges
            ],
            "userColor": line.speaker.color or None,
        },
    }


def _precise(moment: datetime) -> str:
    """RFC 3339 with the digits of the second that are not zero, as Twitch writes comments' times."""
    utc = moment.astimezone(UTC)
    fraction = f"{utc.microsecond // 1000:03d}".rstrip("0")
    return f"{utc:%Y-%m-%dT%H:%M:%S}{'.' if fraction else ''}{fraction}Z"


def _milliseconds(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)


def _cursor(video: Video, index: int) -> str:
    return base64.b64encode(f"{video.id}:{index}".encode()).decode()


def _index_of(cursor: str, video: Video) -> int:
    try:
        owner, _, index = base64.b64decode(cursor, validate=True).decode().partition(":")
        if owner == video.id:
            return int(index)
    except (binascii.Error, ValueError):
        pass
    raise QueryError("invalid cursor")
