"""``/media``: the files of a kept broadcast, with ranges.

A file is found by the id of its broadcast: the database names the folder, this module the three files that may
leave it. Whatever the database says, what is served lies inside ``DATA_DIR`` after every symbolic link is followed.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path, PurePosixPath

import anyio.to_thread
from fastapi import APIRouter
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from vodkeep.telemetry.log import Logger
from vodkeep.web.problems import ProblemError, documented
from vodkeep.web.ranges import (
    ByteSpan,
    NotSatisfiable,
    etag_matches,
    format_range,
    is_unmodified_since,
    parse_range,
    range_still_applies,
)
from vodkeep.web.reading import StatusReader
from vodkeep.web.routing import new_router, readable

# Ids at Twitch are digits, placeholders `live-<unix start>`; anything else cannot be in the database, and a NUL
# would be an error there.
_VOD_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


def is_vod_id(text: str) -> bool:
    """Whether a text can be the id of a broadcast at all."""
    return _VOD_ID.fullmatch(text) is not None


class MediaFile(Enum):
    """The files of a folder that may be served, and what they are."""

    VIDEO = ("video.mp4", "video/mp4")
    THUMBNAIL = ("thumbnail.jpg", "image/jpeg")
    MANIFEST = ("manifest.json", "application/json")

    @property
    def file_name(self) -> str:
        """Its name in the folder."""
        return self.value[0]

    @property
    def media_type(self) -> str:
        """What the answer calls it."""
        return self.value[1]


class NotServed(Exception):
    """There is no such file, or it is not where it has to be."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file inside the data directory."""

    path: Path  # resolved
    stat: os.stat_result

    @property
    def etag(self) -> str:
        """A strong entity tag: files are written beside their place and renamed, so size and time differ."""
        return f'"{self.stat.st_size:x}-{self.stat.st_mtime_ns:x}-{self.stat.st_ino:x}"'

    @property
    def modified(self) -> datetime:
        """When its content last changed, UTC."""
        return datetime.fromtimestamp(self.stat.st_mtime, UTC)


def locate(data_dir: Path, downloaded_path: str, wanted: MediaFile) -> FoundFile:
    """The file ``wanted`` of the broadcast whose folder (or video) is at ``downloaded_path``.

    ``downloaded_path`` is relative to ``data_dir``. Raises :class:`NotServed` when there is no such regular file
    or when it lies outside of ``data_dir`` once links are followed. Blocking.
    """
    relative = PurePosixPath(downloaded_path)
    if relative.name == MediaFile.VIDEO.file_name:
        relative = relative.parent
    if relative.is_absolute() or ".." in relative.parts or not relative.parts or "\0" in downloaded_path:
        raise NotServed(f"{downloaded_path!r} is not a folder below the data directory")
    try:
        root = data_dir.resolve(strict=True)
        path = (root / relative / wanted.file_name).resolve(strict=True)
        found = path.stat()
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise NotServed(f"{wanted.file_name} cannot be read: {error}") from error
    if not path.is_relative_to(root):
        raise NotServed(f"{wanted.file_name} leads out of the data directory, to {path}")
    if not stat.S_ISREG(found.st_mode):
        raise NotServed(f"{wanted.file_name} is not a regular file")
    return FoundFile(path, found)


class MediaResponse(FileResponse):
    """A file or the parts of it that ``spans`` name.

    Starlette does the sending. Its reading of ``Range`` is stricter than RFC 9110 (it answers 400 to what has to be
    ignored, and 416 when only some of several ranges miss), so it never sees the client's header, only the judged one.
    """

    # Each chunk is a trip to a thread; larger ones spare the loop.
    chunk_size = 256 * 1024

    def __init__(self, file: FoundFile, kind: MediaFile, spans: list[ByteSpan] | None) -> None:
        super().__init__(
            file.path,
            headers=_validators(file),
            media_type=kind.media_type,
            filename=_download_name(file, kind),
            stat_result=file.stat,
            content_disposition_type="inline",
        )
        self._spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        headers = MutableHeaders(raw=list(scope["headers"]))
        for name in ("range", "if-range"):
            if name in headers:
                del headers[name]
        if self._spans is not None:
            headers["range"] = format_range(self._spans)
        await super().__call__({**scope, "headers": headers.raw}, receive, send)


def answer_file(request: Request, file: FoundFile, kind: MediaFile) -> Response:
    """The file, parts of it, or 304, as the request's conditions and ranges want it; raises a 416."""
    headers = request.headers
    if (offered := headers.get("if-none-match")) is not None:
        unchanged = etag_matches(offered, file.etag)
    else:
        unchanged = is_unmodified_since(headers.get("if-modified-since", ""), file.modified)
    if unchanged:
        return Response(status_code=304, headers=_validators(file))
    return MediaResponse(file, kind, _asked_spans(request, file))


def _asked_spans(request: Request, file: FoundFile) -> list[ByteSpan] | None:
    """The parts to send; ``None`` is the whole file."""
    asked, condition = request.headers.get("range"), request.headers.get("if-range")
    if asked is None or (condition is not None and not range_still_applies(condition, file.etag, file.modified)):
        return None
    size = file.stat.st_size
    try:
        return parse_range(asked, size)
    except NotSatisfiable as error:
        raise ProblemError(
            416,
            "range_not_satisfiable",
            f"The file has {size} bytes; none of the ranges lies within.",
            headers={"content-range": f"bytes */{size}", "accept-ranges": "bytes"},
        ) from error


def _validators(file: FoundFile) -> dict[str, str]:
    return {"etag": file.etag, "cache-control": "private, no-cache"}


def media_routes(reader: StatusReader, data_dir: Path, log: Logger) -> APIRouter:
    """The routes of files."""
    router = new_router(prefix="/media", tags=["media"])

    async def serve(request: Request, vod_id: str, kind: MediaFile) -> Response:
        found = await reader.find_vod(vod_id) if is_vod_id(vod_id) else None
        if found is None or found[0].downloaded_path is None:
            raise ProblemError(404, "unknown_media", "There is no such file.")
        folder = found[0].downloaded_path
        if kind is MediaFile.VIDEO and found[0].let_go_at is not None:
            raise ProblemError(410, "video_let_go", "The video was let go from the disk by retention.")
        try:
            file = await anyio.to_thread.run_sync(locate, data_dir, folder, kind)
        except NotServed as error:
            log.warning("media not served", vod_id=vod_id, file=kind.file_name, folder=folder, reason=str(error))
            raise ProblemError(404, "unknown_media", "There is no such file.") from error
        return answer_file(request, file, kind)

    def register(kind: MediaFile, summary: str) -> None:
        async def handler(request: Request, vod_id: str) -> Response:
            return await serve(request, vod_id, kind)

        readable(
            router,
            f"/{{vod_id}}/{kind.file_name}",
            name=f"media_{kind.name.lower()}",
            summary=summary,
            response_class=FileResponse,
            responses={
                200: {"content": {kind.media_type: {}}, "description": "The whole file."},
                206: {"content": {kind.media_type: {}}, "description": "The part that `Range` asks for."},
                **documented(401, 404, 410, 416, 503),
            },
        )(handler)

    register(MediaFile.VIDEO, "The video; seeks with `Range`.")
    register(MediaFile.THUMBNAIL, "The picture of the broadcast.")
    register(MediaFile.MANIFEST, "What the broadcast is made of.")
    return router


def _download_name(file: FoundFile, kind: MediaFile) -> str:
    """What a browser calls the file when it is saved: the folder's name says more than `video.mp4`."""
    name = (
        f"{file.path.parent.name} {kind.file_name}" if kind is not MediaFile.VIDEO else f"{file.path.parent.name}.mp4"
    )
    # Names on disk may hold bytes that are not UTF-8; a header cannot.
    return name.encode("utf-8", "replace").decode("utf-8")
