"""``/api/v1/retention``: what is let go from the disk, and what was."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from vodkeep.errors import UnknownItem
from vodkeep.keep.retention import Judged
from vodkeep.pipeline.model import Asked, Asker
from vodkeep.pipeline.retention import Retention
from vodkeep.pipeline.retention_store import Entry
from vodkeep.telemetry.correlation import current_corr
from vodkeep.web.actions import schema_fits
from vodkeep.web.answers import answer_json
from vodkeep.web.media import is_vod_id
from vodkeep.web.problems import documented
from vodkeep.web.reading import StatusReader
from vodkeep.web.routing import new_router, readable


class PlannedVideo(BaseModel):
    """A video and what becomes of it."""

    id: str = Field(description="The video id of the broadcast at Twitch.")
    channel: str
    size_bytes: int
    reason: str


class RetentionPlan(BaseModel):
    """What a run would do at this moment."""

    going: list[PlannedVideo] = Field(description="Their videos would go into the trash.")
    staying: list[PlannedVideo]
    going_bytes: int


class Decision(BaseModel):
    """A recorded decision."""

    id: str = Field(description="The video id of the broadcast at Twitch.")
    state: str = Field(
        description="`planned`, `moving`, `trashed`, `restoring`, `removing`, or its end: `dropped`, `restored`,"
        " `removed`."
    )
    size_bytes: int
    reason: str
    note: str = Field(description="Why it ended as it did.")
    decided_at: datetime
    trashed_at: datetime | None
    removable_at: datetime | None = Field(description="Until then it can be undone, and as long as it is there after.")


class Decisions(BaseModel):
    """The latest decisions, newest first."""

    items: list[Decision]


Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]


def retention_routes(retention: Retention, reader: StatusReader) -> APIRouter:
    """The routes of retention."""
    router = new_router(prefix="/api/v1", tags=["retention"], dependencies=[schema_fits(reader)])

    @readable(router, "/retention/plan", response_model=RetentionPlan, responses=documented(401, 503))
    async def plan(request: Request) -> Response:
        """What a run would let go at this moment, and why the rest stays. Changes nothing."""
        plan = await retention.plan()
        return answer_json(
            request,
            RetentionPlan(
                going=[_planned(each) for each in plan.going],
                staying=[_planned(each) for each in plan.staying],
                going_bytes=sum(each.item.size_bytes for each in plan.going),
            ),
        )

    @readable(router, "/retention", response_model=Decisions, responses=documented(401, 422, 503))
    async def decisions(request: Request, limit: Limit = 100) -> Response:
        """What was decided, and how far that is."""
        found = await retention.entries(limit=limit)
        return answer_json(request, Decisions(items=[_decision(each, retention) for each in found]))

    @router.post(
        "/vods/{vod_id}/undo-retention",
        response_model=Decision,
        responses=documented(401, 403, 404, 409, 413, 415, 422, 503),
    )
    async def undo(vod_id: Annotated[str, Path(description="The video id at Twitch.")]) -> Response:
        """Bring the video of a broadcast back from the trash, and protect it. 409 when it is not there."""
        if not is_vod_id(vod_id) or await reader.find_vod(vod_id) is None:
            raise UnknownItem("There is no item with this id.")
        entry = await retention.undo(vod_id, Asked(Asker.API, current_corr()))
        return Response(
            _decision(entry, retention).model_dump_json(),
            headers={"cache-control": "no-store"},
            media_type="application/json",
        )

    return router


def _planned(judged: Judged) -> PlannedVideo:
    item = judged.item
    return PlannedVideo(id=item.video_id, channel=item.channel, size_bytes=item.size_bytes, reason=judged.reason)


def _decision(entry: Entry, retention: Retention) -> Decision:
    return Decision(
        id=entry.twitch_vod_id,
        state=entry.state,
        size_bytes=entry.size_bytes,
        reason=entry.reason,
        note=entry.note,
        decided_at=entry.created_at,
        trashed_at=entry.moved_at,
        removable_at=None if entry.moved_at is None else entry.moved_at + retention.trash_window,
    )
