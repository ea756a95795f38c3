"""``/api/v1/vods/{vod_id}/publication/preview``: what would be sent to YouTube."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from vodkeep.pipeline.publish_plan import PlannedVideo, Preview, Previewer
from vodkeep.web.answers import answer_json
from vodkeep.web.media import is_vod_id
from vodkeep.web.problems import ProblemError, documented
from vodkeep.web.routing import new_router, readable


class VideoPreview(BaseModel):
    """One video as YouTube would be told of it."""

    part: int = Field(description="From 1.")
    parts: int = Field(description="How many videos the broadcast is cut into; 1: it stays whole.")
    start_ms: int = Field(description="Its stretch of the picture.")
    end_ms: int
    title: str
    description: str
    tags: list[str]
    category_id: str
    privacy: str
    made_for_kids: bool
    language: str | None
    recorded_at: datetime | None
    playlist: str | None = Field(description="YouTube's id of the playlist it is put into.")
    marker: str = Field(description="The last line of the description, by which the video is found again.")
    notes: list[str] = Field(description="What had to be cut or left out.")


class PublicationPreview(BaseModel):
    """What would be sent to YouTube for a broadcast."""

    id: str
    kept: bool = Field(description="Whether its video is here; before, only its words are known.")
    videos: list[VideoPreview]
    thumbnail: str | None = Field(description="The file in its folder; null without one that YouTube takes.")
    notes: list[str]


def preview_of(preview: Preview) -> PublicationPreview:
    """The preview as programs get it."""
    return PublicationPreview(
        id=preview.item_id,
        kept=preview.is_kept,
        videos=[_video(video) for video in preview.videos],
        thumbnail=preview.thumbnail,
        notes=list(preview.notes),
    )


def _video(video: PlannedVideo) -> VideoPreview:
    metadata = video.rendering.metadata
    return VideoPreview(
        part=video.part.number,
        parts=video.part.parts,
        start_ms=video.part.start_ms,
        end_ms=video.part.end_ms,
        title=metadata.title,
        description=metadata.description,
        tags=list(metadata.tags),
        category_id=metadata.category_id,
        privacy=metadata.privacy,
        made_for_kids=metadata.made_for_kids,
        language=metadata.language,
        recorded_at=metadata.recorded_at,
        playlist=video.rendering.playlist,
        marker=video.marker,
        notes=list(video.rendering.notes),
    )


def preview_routes(previewer: Previewer) -> APIRouter:
    """The route; it needs no account at YouTube."""
    router = new_router(prefix="/api/v1", tags=["publishing"])

    @readable(
        router,
        "/vods/{vod_id}/publication/preview",
        response_model=PublicationPreview,
        responses=documented(401, 404, 503),
    )
    async def preview_publication(request: Request, vod_id: str) -> Response:
        """What would be sent to YouTube for one broadcast; works without an account, and sends nothing."""
        if not is_vod_id(vod_id):
            raise ProblemError(404, "unknown_vod", "There is no broadcast with this id.")
        return answer_json(request, preview_of(await previewer.preview(vod_id)))

    return router
