"""``/api/v1/vods``: the broadcasts and their timelines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from vodkeep.keep.manifest import Manifest, ManifestError, read_manifest
from vodkeep.pipeline.model import DownloadState
from vodkeep.web.answers import answer_json
from vodkeep.web.media import MediaFile, NotServed, is_vod_id, locate
from vodkeep.web.problems import ProblemError, documented
from vodkeep.web.reading import BadCursor, Cursor, StatusReader
from vodkeep.web.routing import new_router, readable
from vodkeep.web.schema import VodDetail, VodList, Work, vod_detail_of, vod_of

Limit = Annotated[int, Query(ge=1, le=200, description="How many at most.")]
After = Annotated[str | None, Query(max_length=200, description="`next` of the page before.")]
Login = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_]{1,50}$", description="Only this channel, by its login.")]
States = Annotated[
    list[DownloadState] | None, Query(alias="state", max_length=20, description="Only these; may be repeated.")
]


def vod_routes(reader: StatusReader, work: Work, data_dir: Path) -> APIRouter:
    """The routes of the library, whose folders are below ``data_dir``."""
    router = new_router(prefix="/api/v1", tags=["vods"])

    @readable(router, "/vods", response_model=VodList, responses=documented(401, 422, 503))
    async def list_vods(
        request: Request, limit: Limit = 50, after: After = None, channel: Login = None, states: States = None
    ) -> Response:
        """Broadcasts, newest first, in pages that stay right while new ones arrive."""
        try:
            cursor = None if after is None else Cursor.decode(after)
        except BadCursor as error:
            raise ProblemError(422, "bad_cursor", f"`after` is not usable: {error}.") from error
        page = await reader.list_vods(
            limit=limit, after=cursor, channel=channel and channel.lower(), states=states or ()
        )
        live = work.progress()
        return answer_json(
            request,
            VodList(
                items=[vod_of(vod, live.get(vod.twitch_vod_id)) for vod in page.vods],
                next=page.following.encode() if page.following else None,
            ),
        )

    @readable(router, "/vods/{vod_id}", response_model=VodDetail, responses=documented(401, 404, 503))
    async def find_vod(request: Request, vod_id: str) -> Response:
        """One broadcast with what happened to it."""
        found = await reader.find_vod(vod_id) if is_vod_id(vod_id) else None
        if found is None:
            raise ProblemError(404, "unknown_vod", "There is no broadcast with this id.")
        vod, events = found
        manifest = None
        if vod.downloaded_path is not None:
            manifest = await anyio.to_thread.run_sync(_load_manifest, data_dir, vod.downloaded_path)
        published = await reader.publications(vod.twitch_vod_id)
        scrubbed = await reader.find_scrubbed(vod.twitch_vod_id)
        live = work.progress().get(vod.twitch_vod_id)
        return answer_json(request, vod_detail_of(vod, events, live, manifest, scrubbed, published))

    return router


def _load_manifest(data_dir: Path, downloaded_path: str) -> Manifest | None:
    """The manifest of a kept item; None when it cannot be had, which `vodkeep verify` is there to tell. Blocking."""
    try:
        return read_manifest(locate(data_dir, downloaded_path, MediaFile.MANIFEST).path.read_text("utf-8"))
    except (NotServed, ManifestError, OSError, UnicodeDecodeError):
        return None
