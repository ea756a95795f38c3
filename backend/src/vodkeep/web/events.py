"""``/api/v1/events``: what happens, as it happens."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header
from starlette.responses import Response, StreamingResponse

from vodkeep.web.feed import EventStream, Feed
from vodkeep.web.problems import documented
from vodkeep.web.routing import new_router

LastEventId = Annotated[
    int | None, Header(ge=0, lt=2**63, description="The last event that was had; a browser sends it by itself.")
]


def feed_routes(feed: Feed) -> APIRouter:
    """The route of the feed."""
    router = new_router(prefix="/api/v1", tags=["events"])

    @router.get(
        "/events",
        response_class=StreamingResponse,
        responses={
            200: {
                "content": {"text/event-stream": {}},
                "description": "`timeline`, with an id: what happened to a broadcast. `status` and `progress`: how"
                " things stand, at first and whenever that changes. `away`: the database does not answer. `reset`: too"
                " much was missed; read everything anew.",
            },
            **documented(401, 422, 503),
        },
    )
    async def events(last_event_id: LastEventId = None) -> Response:
        """Everything that happens, as server-sent events; goes on until the client leaves."""
        if last_event_id is None:
            await feed.newest()  # A database that is away is said before anything else is.
        return EventStream(feed.listen(last_event_id))

    return router
