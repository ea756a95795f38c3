"""``/api/v1/vods/{vod_id}/chat/export``: a chat as a file, while it is read."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query
from starlette.concurrency import iterate_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from vodkeep.chat.files import CONTENT_TYPES
from vodkeep.chat.forms import Form
from vodkeep.errors import RequestRefused
from vodkeep.pipeline.chat_library import ChatLibrary
from vodkeep.web.media import is_vod_id
from vodkeep.web.problems import ProblemError, documented
from vodkeep.web.routing import new_router, readable

ChosenForm = Annotated[
    Form,
    Query(
        alias="format",
        description="`ndjson` keeps everything; `json` is TwitchDownloader's; `txt`, `vtt` and `ass` are for reading.",
    ),
]

_FILE = {"description": "The file.", "content": {kind.partition(";")[0]: {} for kind in CONTENT_TYPES.values()}}


def chat_export_routes(library: ChatLibrary) -> APIRouter:
    """The route; it holds a page of messages at a time, and no database connection between two."""
    router = new_router(prefix="/api/v1", tags=["chat"])

    @readable(
        router,
        "/vods/{vod_id}/chat/export",
        response_class=StreamingResponse,
        responses={200: _FILE, **documented(401, 404, 422, 503)},
    )
    async def export_chat(request: Request, vod_id: str, form: ChosenForm = Form.NDJSON) -> Response:
        """The whole chat of one broadcast as a file, moderation included."""
        if not is_vod_id(vod_id):
            raise ProblemError(404, "unknown_vod", "There is no broadcast with this id.")
        try:
            export = await anyio.to_thread.run_sync(partial(library.export, vod_id, form))
        except RequestRefused as error:
            raise ProblemError(404, error.code, str(error)) from error
        headers = {"Content-Disposition": f'attachment; filename="{export.name}"'}
        if request.method == "HEAD":
            return Response(headers=headers, media_type=CONTENT_TYPES[form])
        return StreamingResponse(iterate_in_threadpool(export.pieces), headers=headers, media_type=CONTENT_TYPES[form])

    return router
