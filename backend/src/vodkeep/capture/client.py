"""One question to Twitch's GQL: does a VOD exist?

The resolver says "does not exist" of a deleted VOD and of a service fault alike; only this answer may end an item.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import aiohttp

from vodkeep.errors import NetworkError, ServerError

_TIMEOUT = aiohttp.ClientTimeout(total=20, connect=5, sock_read=10)
_MAX_BODY_BYTES = 1024 * 1024


class TwitchGql:
    """Asks ``gql_url`` with the public web client's id; needs no account."""

    def __init__(self, session: aiohttp.ClientSession, gql_url: str, client_id: str) -> None:
        self._session = session
        self._url = gql_url
        self._client_id = client_id

    async def video_exists(self, video_id: str) -> bool:
        """Whether Twitch has the VOD ``video_id`` (digits).

        False only for a well-formed answer without any error. Raises `NetworkError` when there is no answer and
        `ServerError` when the answer does not settle the question.
        """
        if not video_id.isdecimal():
            raise ValueError(f"not a video id: {video_id!r}")
        try:
            async with self._session.post(
                self._url,
                json={"query": f'query{{video(id:"{video_id}"){{id}}}}'},
                headers={"Client-ID": self._client_id},
                timeout=_TIMEOUT,
            ) as response:
                body = await response.content.read(_MAX_BODY_BYTES)
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NetworkError(f"Twitch's GQL gave no answer: {type(error).__name__}.") from error
        return read_video_exists(status, body)


def read_video_exists(status: int, body: bytes) -> bool:
    """Read the answer to `TwitchGql.video_exists`; raises `ServerError` unless it is beyond doubt."""
    if status != 200:
        raise ServerError(f"Twitch's GQL answered with status {status}.")
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise ServerError("Twitch's GQL answered with something that is not JSON.") from error
    if not isinstance(answer, Mapping) or answer.get("errors"):
        raise ServerError("Twitch's GQL reported an error of its own.")
    inner = answer.get("data")
    if not isinstance(inner, Mapping) or "video" not in inner:
        raise ServerError("Twitch's GQL answered without the video field.")
    return inner["video"] is not None
