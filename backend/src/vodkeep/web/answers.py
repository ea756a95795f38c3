"""JSON answers that a client may keep: one digest of the body is its ETag."""

from __future__ import annotations

from hashlib import blake2b

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from vodkeep.web.ranges import etag_matches


def etag_of(body: bytes) -> str:
    """A strong entity tag for exactly these bytes."""
    return f'"{blake2b(body, digest_size=12).hexdigest()}"'


def answer_json(request: Request, content: BaseModel) -> Response:
    """``content`` as JSON, or 304 without a body when the client has exactly that already."""
    return answer_bytes(request, content.model_dump_json().encode(), "application/json")


def answer_bytes(request: Request, body: bytes, media_type: str, etag: str | None = None) -> Response:
    """``body`` or 304; kept by the client only, and asked for again each time."""
    etag = etag or etag_of(body)
    headers = {"etag": etag, "cache-control": "private, no-cache"}
    offered = request.headers.get("if-none-match")
    if offered is not None and etag_matches(offered, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)
