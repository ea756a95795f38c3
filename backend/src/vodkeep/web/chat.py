"""``/api/v1/.../chat``: what was said in a broadcast, and finding it again."""

from __future__ import annotations

from hashlib import blake2b
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query
from pydantic import AwareDatetime
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from vodkeep.chat.places import BadCursor
from vodkeep.chat.reading import ChatReader, View, Window
from vodkeep.chat.search import ChatSearch
from vodkeep.chat.search import Query as Wanted
from vodkeep.chat.sessions import RECORDING, Session
from vodkeep.clock import Clock
from vodkeep.web.answers import answer_bytes, answer_json
from vodkeep.web.chat_replay import PIECE, Replay
from vodkeep.web.chat_schema import ChatHistogram, ChatHits, ChatWindow, hits_of
from vodkeep.web.media import is_vod_id
from vodkeep.web.problems import ProblemError, documented
from vodkeep.web.ranges import etag_matches
from vodkeep.web.reading import StatusReader
from vodkeep.web.routing import new_router, readable

SEGMENT_MS = 60_000
"""How much of the timeline a segment covers."""

# Twitch ends a broadcast after 48 hours; sessions number 74.
_LONGEST_MS = 400_000_000
_MOST_OF_A_SEGMENT = 5_000

# Part of every tag of a segment: another way to write messages is another content.
_FORM = 1

Offset = Annotated[
    int | None, Query(ge=0, le=_LONGEST_MS, description="From there on, ms on the broadcast's timeline.")
]
Until = Annotated[int | None, Query(ge=0, le=_LONGEST_MS, description="Up to there, excluded, ms on the timeline.")]
Many = Annotated[int, Query(ge=1, le=2000, description="How many messages at most.")]
Few = Annotated[int, Query(ge=1, le=200, description="How many at most.")]
Cursor = Annotated[str | None, Query(max_length=20, description="`next` of the answer before.")]
As = Annotated[View, Query(alias="as", description="As it was seen, or as the moderators left it.")]
Words = Annotated[str, Query(max_length=300, description='Words that must all be there; "a phrase" in quotes.')]
_LOGIN = r"^[A-Za-z0-9_]{1,50}$"
User = Annotated[str | None, Query(pattern=_LOGIN, description="Who said it, by login.")]
Channel = Annotated[str | None, Query(pattern=_LOGIN, description="Only this channel, by its login.")]
Moment = Annotated[AwareDatetime | None, Query(description="RFC 3339 with a time zone.")]
Width = Annotated[int, Query(ge=10, le=86_400, multiple_of=10, description="Seconds, a multiple of 10.")]
Speed = Annotated[float, Query(ge=0.1, le=100, allow_inf_nan=False, description="1: as it happened.")]
LastEventId = Annotated[str | None, Header(max_length=20, description="Where a broken replay goes on.")]
SegmentNumber = Annotated[int, Path(ge=0, le=_LONGEST_MS // SEGMENT_MS, description="Minutes from the start.")]
Login = Annotated[str, Path(pattern=_LOGIN)]

_UNKNOWN = ("unknown_vod", "There is no broadcast with this id.")


def chat_routes(reader: StatusReader, chat: ChatReader, search: ChatSearch, clock: Clock) -> APIRouter:
    """The routes of chat."""
    router = new_router(prefix="/api/v1", tags=["chat"])
    item = "/vods/{vod_id}/chat"

    @readable(router, item, response_model=ChatWindow, responses=documented(401, 404, 422, 503))
    async def read_window(
        request: Request,
        vod_id: str,
        offset_ms: Offset = None,
        limit: Many = 500,
        cursor: Cursor = None,
        view: As = View.SEEN,
    ) -> Response:
        """Messages from an offset or behind a cursor on; with neither, from the very first, before the picture."""
        _check(vod_id)
        try:
            window = await chat.window(vod_id, limit=limit, offset_ms=offset_ms, cursor=cursor, view=view)
        except BadCursor as error:
            raise _bad_cursor(error) from error
        return answer_bytes(request, _body(window or await _nothing(vod_id), cursor), "application/json")

    @readable(router, f"{item}/histogram", response_model=ChatHistogram, responses=documented(401, 404, 422, 503))
    async def read_histogram(request: Request, vod_id: str, bucket_s: Width = 60) -> Response:
        """How many messages there were in each stretch of time."""
        _check(vod_id)
        buckets = await chat.activity(vod_id, width_ms=bucket_s * 1000)
        if buckets is None:
            await _nothing(vod_id)
            buckets = b"[]"
        return answer_bytes(request, b'{"bucket_ms":%d,"buckets":%b}' % (bucket_s * 1000, buckets), "application/json")

    @readable(
        router,
        f"{item}/segments/{{number}}",
        response_model=ChatWindow,
        responses={304: {"description": "Unchanged."}, **documented(401, 404, 422, 503)},
    )
    async def read_segment(request: Request, vod_id: str, number: SegmentNumber, view: As = View.SEEN) -> Response:
        """One minute of chat, for players that keep what they have; a minute with more messages has a `next`."""
        _check(vod_id)
        before = await chat.sessions(vod_id)
        etag = _segment_tag(before, number, view)
        offered = request.headers.get("if-none-match")
        if etag is not None and offered is not None and etag_matches(offered, etag):
            return Response(status_code=304, headers={"etag": etag, "cache-control": "private, no-cache"})
        start_ms = number * SEGMENT_MS
        window = await chat.window(
            vod_id, limit=_MOST_OF_A_SEGMENT, offset_ms=start_ms, until_ms=start_ms + SEGMENT_MS, view=view
        )
        body = _body(window or await _nothing(vod_id), None)
        # What changed while it was read may be in it or not, so it is nothing to keep.
        if etag is None or etag != _segment_tag(await chat.sessions(vod_id), number, view):
            return Response(body, media_type="application/json", headers={"cache-control": "no-store"})
        return answer_bytes(request, body, "application/json", etag)

    @readable(router, f"{item}/users/{{login}}", response_model=ChatHits, responses=documented(401, 404, 422, 503))
    async def read_user(
        request: Request, vod_id: str, login: Login, limit: Few = 50, cursor: Cursor = None
    ) -> Response:
        """What one person said in the broadcast, under this and any other name of theirs."""
        return await _in_item(request, vod_id, Wanted((), login.lower(), limit, cursor), None, None)

    @readable(router, f"{item}/search", response_model=ChatHits, responses=documented(401, 404, 422, 503))
    async def search_item(
        request: Request,
        vod_id: str,
        words: Annotated[Words, Query(alias="q")] = "",
        user: User = None,
        offset_ms: Offset = None,
        until_ms: Until = None,
        limit: Few = 50,
        cursor: Cursor = None,
    ) -> Response:
        """Messages of the broadcast by words, person and time, first to last."""
        wanted = _wanted(words, user, limit, cursor)
        return await _in_item(request, vod_id, wanted, offset_ms, until_ms)

    @readable(router, "/chat/search", response_model=ChatHits, responses=documented(401, 422, 503))
    async def search_library(
        request: Request,
        words: Annotated[Words, Query(alias="q")] = "",
        user: User = None,
        channel: Channel = None,
        since: Moment = None,
        until: Moment = None,
        limit: Few = 50,
        cursor: Cursor = None,
    ) -> Response:
        """Messages of all broadcasts by words, person, channel and time (`until` excluded), newest first."""
        wanted = _wanted(words, user, limit, cursor)
        try:
            hits = await search.in_library(
                wanted,
                channel=channel and channel.lower(),
                since_ms=None if since is None else round(since.timestamp() * 1000),
                until_ms=None if until is None else round(until.timestamp() * 1000),
            )
        except BadCursor as error:
            raise _bad_cursor(error) from error
        titles = await reader.titles({hit.vod_id for hit in hits.hits if hit.vod_id is not None})
        return answer_json(request, hits_of(hits, wanted.terms, dict(titles)))

    @router.get(
        f"{item}/replay",
        response_class=StreamingResponse,
        responses={
            200: {"content": {"text/event-stream": {}}, "description": "`messages`, and one `end` when it is over."},
            **documented(401, 404, 422, 503),
        },
    )
    async def replay(
        vod_id: str,
        offset_ms: Offset = None,
        speed: Speed = 1.0,
        view: As = View.SEEN,
        last_event_id: LastEventId = None,
    ) -> Response:
        """The chat as it happened, as server-sent events; of a live broadcast it goes on until the stream ends."""
        _check(vod_id)
        cursor = last_event_id or None
        try:
            first = await chat.piece(vod_id, limit=PIECE, offset_ms=offset_ms, cursor=cursor, view=view)
        except BadCursor as error:
            raise _bad_cursor(error) from error
        if first is None:
            raise ProblemError(404, "no_chat", "No chat was recorded for this broadcast.")
        events = Replay(chat, clock, vod_id, first, speed=speed, view=view).events(cursor)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    async def _nothing(vod_id: str) -> Window:
        """The answer for a broadcast without chat; raises the problem if there is no such broadcast."""
        if not await reader.titles([vod_id]):
            raise ProblemError(404, *_UNKNOWN)
        return Window(b"", b"{}", 0, None, False)

    async def _in_item(
        request: Request, vod_id: str, wanted: Wanted, from_ms: int | None, to_ms: int | None
    ) -> Response:
        _check(vod_id)
        try:
            hits = await search.in_item(vod_id, wanted, from_ms=from_ms, to_ms=to_ms)
        except BadCursor as error:
            raise _bad_cursor(error) from error
        titles = await reader.titles([vod_id])
        if hits is None:
            await _nothing(vod_id)
            return answer_json(request, ChatHits(items=[], next=None, complete=True))
        return answer_json(request, hits_of(hits, wanted.terms, dict(titles)))

    return router


def _check(vod_id: str) -> None:
    if not is_vod_id(vod_id):
        raise ProblemError(404, *_UNKNOWN)


def _bad_cursor(error: BadCursor) -> ProblemError:
    return ProblemError(422, "bad_cursor", f"The cursor is not usable: {error}.")


def _wanted(words: str, user: str | None, limit: int, cursor: str | None) -> Wanted:
    wanted = Wanted.typed(words, login=user and user.lower(), limit=limit, cursor=cursor)
    if not wanted.terms and user is None:
        raise ProblemError(
            422, "nothing_to_search", "There is no word in `q`.", remedy="Give a word of letters or digits, or `user`."
        )
    return wanted


def _body(window: Window, cursor: str | None) -> bytes:
    """The answer; of a chat that goes on, the end has the cursor to ask again with."""
    following = str(window.last) if window.last is not None else cursor
    told = f'"{following}"' if window.more and following is not None else "null"
    return b'{"messages":[%b],"chatters":%b,"next":%b}' % (window.messages, window.chatters, told.encode())


def _segment_tag(sessions: list[Session], number: int, view: View) -> str | None:
    """What changes whenever a segment could; None while somebody still writes."""
    if not sessions or any(each.state == RECORDING for each in sessions):
        return None
    state = (_FORM, number, view, [(each.id, each.revision, each.vod_offset_ms, each.pauses) for each in sessions])
    return f'"{blake2b(repr(state).encode(), digest_size=12).hexdigest()}"'
