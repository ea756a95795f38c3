"""YouTube, as far as publishing needs it: uploads, what became of them, thumbnails and playlists.

One object per connected account. The calls and what they cost are those of
https://developers.google.com/youtube/v3/docs, read in November 2026; docs/youtube-api.md tells how they are used.
"""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import anyio.to_thread

from vodkeep.clock import Clock
from vodkeep.errors import PermanentError, ServerError
from vodkeep.publish.calls import Calls, Spending, TokenSource
from vodkeep.publish.exchange import Answer, Limits
from vodkeep.publish.model import Committed, Finished, VideoMetadata, VideoStatus
from vodkeep.publish.resources import (
    ChannelList,
    PlaylistItems,
    VideoList,
    decoded,
    insert_document,
    status_of,
    update_document,
)
from vodkeep.publish.resumable import begin_headers, is_trusted
from vodkeep.publish.source_file import SourceFile
from vodkeep.publish.upload import INSERT, Persistence, Uploader, Watchers
from vodkeep.rate import RateLimiter

DEFAULT_CHUNK_BYTES = 32 * 1024 * 1024
LARGEST_THUMBNAIL_BYTES = 2 * 1024 * 1024
_BATCH = 50
# Clocks differ, and a list may be a moment behind.
_SLACK = timedelta(hours=1)
_MOST_PAGES = 200


class YouTube:
    """The YouTube of one account.

    Every method raises CredentialsError (the account has to be connected again), LimitReached (a quota or limit; it
    says until when), RateLimited, NetworkError and ServerError (trying again later can help), or PermanentError
    (a person must change something). None of them looks like an empty answer, and none holds a session's address.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        tokens: TokenSource,
        spending: Spending,
        api_url: str,
        clock: Clock,
        rng: random.Random,
        limiter: RateLimiter,
        chunk_bytes: int = DEFAULT_CHUNK_BYTES,
        limits: Limits | None = None,
        persistence: Persistence | None = None,
    ) -> None:
        """``api_url`` is the address before ``/youtube/v3``; ``limiter`` holds all uploads of the process together."""
        limits = limits or Limits()
        self._api_url = api_url.rstrip("/")
        self._calls = Calls(session, tokens=tokens, spending=spending, clock=clock, limits=limits)
        self._uploader = Uploader(
            self._calls,
            limiter=limiter,
            clock=clock,
            rng=rng,
            limits=limits,
            persistence=persistence or Persistence(),
            chunk_bytes=chunk_bytes,
        )

    async def begin(self, metadata: VideoMetadata, *, size_bytes: int, content_type: str = "video/mp4") -> str:
        """Begin an upload and return its session's address, which is as secret as a password.

        Nothing is published by this: sessions that nobody fills end after a week.
        """
        parts = "snippet,status" + (",recordingDetails" if metadata.recorded_at is not None else "")
        answer = await self._call(
            "POST",
            "/upload/youtube/v3/videos",
            INSERT,
            {"uploadType": "resumable", "part": parts, "notifySubscribers": "false"},
            document=insert_document(metadata),
            headers=begin_headers(size_bytes, content_type),
        )
        session_uri = answer.headers.get("location", "")
        if not is_trusted(session_uri, self._api_url):
            raise ServerError("YouTube begins an upload without saying where its bytes go.")
        return session_uri

    async def ask(self, session_uri: str, *, size_bytes: int) -> Committed | Finished:
        """How much of an upload YouTube keeps, or the video it became. Raises SessionGone. Costs no quota."""
        return await self._uploader.ask(session_uri, size_bytes)

    async def send(
        self,
        session_uri: str,
        path: Path,
        *,
        size_bytes: int,
        start: int,
        on_sent: Callable[[int], None],
        on_committed: Callable[[int], Awaitable[None]],
        confirm: Callable[[], Awaitable[None]],
        content_type: str = "video/mp4",
    ) -> Finished:
        """Send the file from ``start`` on, which the session said it lacks; after breaks only what it lacks then.

        ``on_sent`` is told the position up to which bytes went out, ``on_committed`` how much YouTube keeps, whenever
        that changed; ``confirm`` is awaited before each chunk and stops the upload by raising. Raises SessionGone,
        and PermanentError when the file is not there or has another size.
        """
        watch = Watchers(on_sent, on_committed, confirm)
        async with SourceFile(path, size_bytes) as source:
            return await self._uploader.send(
                session_uri, source, content_type, size_bytes=size_bytes, start=start, watch=watch
            )

    async def find(self, marker: str, *, since: datetime) -> VideoStatus | None:
        """The video of this account whose description has ``marker`` on a line, uploaded after ``since`` (aware).

        The uploads are read newest first. None says that YouTube listed all of them and none has it; a video that
        was finished a few seconds ago may not be listed yet.
        """
        answer = await self._call(
            "GET", "/youtube/v3/channels", "channels.list", {"part": "contentDetails", "mine": "true"}
        )
        own = decoded(answer.body, ChannelList).items
        if not own:
            raise PermanentError(
                "The Google account has no YouTube channel.",
                code="youtube_signup_required",
                remedy="Create a channel for this account, or connect another account.",
            )
        query = {
            "part": "snippet,contentDetails",
            "playlistId": own[0].contentDetails.relatedPlaylists.uploads,
            "maxResults": str(_BATCH),
        }
        for _ in range(_MOST_PAGES):
            answer = await self._call("GET", "/youtube/v3/playlistItems", "playlistItems.list", query)
            page = decoded(answer.body, PlaylistItems)
            for item in page.items:
                if item.added_at is not None and item.added_at < since - _SLACK:
                    return None
                if item.video_id is not None and item.carries(marker):
                    found = await self.look([item.video_id])
                    if item.video_id in found:
                        return found[item.video_id]
            if page.nextPageToken is None:
                return None
            query["pageToken"] = page.nextPageToken
        raise ServerError("YouTube's list of uploads does not end.")

    async def look(self, video_ids: Sequence[str]) -> Mapping[str, VideoStatus]:
        """What YouTube says of these videos; an id that it does not have is absent."""
        found: dict[str, VideoStatus] = {}
        wanted = list(dict.fromkeys(video_ids))
        for first in range(0, len(wanted), _BATCH):
            answer = await self._call(
                "GET",
                "/youtube/v3/videos",
                "videos.list",
                {
                    "part": "snippet,status,contentDetails,processingDetails",
                    "id": ",".join(wanted[first : first + _BATCH]),
                },
            )
            for video in decoded(answer.body, VideoList).items:
                found[video.id] = status_of(video)
        return found

    async def set_thumbnail(self, video_id: str, path: Path) -> None:
        """Give the video a picture, JPEG or PNG. Raises PermanentError when it has more than 2 MB."""
        content = await anyio.to_thread.run_sync(_thumbnail, path)
        kind = "image/png" if content.startswith(b"\x89PNG") else "image/jpeg"
        await self._call(
            "POST",
            "/upload/youtube/v3/thumbnails/set",
            "thumbnails.set",
            {"videoId": video_id, "uploadType": "media"},
            content=content,
            headers={"Content-Type": kind},
        )

    async def add_to_playlist(self, playlist_id: str, video_id: str) -> None:
        """Put the video into the playlist, unless it is there already."""
        listing = {"part": "contentDetails", "playlistId": playlist_id, "videoId": video_id, "maxResults": "1"}
        answer = await self._call("GET", "/youtube/v3/playlistItems", "playlistItems.list", listing)
        if decoded(answer.body, PlaylistItems).items:
            return
        resource = {"kind": "youtube#video", "videoId": video_id}
        await self._call(
            "POST",
            "/youtube/v3/playlistItems",
            "playlistItems.insert",
            {"part": "snippet"},
            document={"snippet": {"playlistId": playlist_id, "resourceId": resource}},
        )

    async def set_description(self, video_id: str, metadata: VideoMetadata) -> None:
        """Replace title, description, tags, category and language of a video."""
        await self._call(
            "PUT",
            "/youtube/v3/videos",
            "videos.update",
            {"part": "snippet"},
            document=update_document(video_id, metadata),
        )

    async def _call(
        self,
        method: str,
        path: str,
        name: str,
        query: Mapping[str, str],
        *,
        document: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Spend, send, and raise for what is no success; ``name`` is the method in the table of costs."""
        await self._calls.spend(name)
        body, kind = content, {}
        if document is not None:
            body, kind = json.dumps(document).encode(), {"Content-Type": "application/json; charset=UTF-8"}
        answer = await self._calls.send(
            method, self._api_url + path, doing=name, headers={**kind, **(headers or {})}, query=query, content=body
        )
        if not 200 <= answer.status < 300:
            raise await self._calls.error_of(answer, name)
        return answer


def _thumbnail(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size <= LARGEST_THUMBNAIL_BYTES:
            return path.read_bytes()
    except OSError as error:
        raise PermanentError(
            f"The thumbnail {path} cannot be read: {error.strerror}.", code="source_missing"
        ) from error
    raise PermanentError(f"The thumbnail {path} has {size} bytes; YouTube takes 2 MB.", code="invalid_thumbnail")
