"""The status page: one document, one style sheet, one script; all part of the package, none with inline code."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from vodkeep.web.answers import answer_bytes, etag_of
from vodkeep.web.problems import ProblemError
from vodkeep.web.routing import new_router, readable

_MEDIA_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "favicon.svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page."""

    body: bytes
    media_type: str
    etag: str


def load_assets() -> dict[str, Asset]:
    """The files of the page by name, read once."""
    folder = resources.files("vodkeep.web") / "static"
    assets = {}
    for name, media_type in _MEDIA_TYPES.items():
        body = (folder / name).read_bytes()
        assets[name] = Asset(body, media_type, etag_of(body))
    return assets


def page_routes(assets: dict[str, Asset]) -> APIRouter:
    """The routes of the page."""
    router = new_router(include_in_schema=False)

    def answer(request: Request, asset: Asset) -> Response:
        return answer_bytes(request, asset.body, asset.media_type, asset.etag)

    @readable(router, "/")
    async def index(request: Request) -> Response:
        """The status page."""
        return answer(request, assets["index.html"])

    @readable(router, "/static/{name}")
    async def static(request: Request, name: str) -> Response:
        """Its style sheet, script and icon."""
        asset = assets.get(name)
        if asset is None:
            raise ProblemError(404, "not_found", "There is nothing at this address.")
        return answer(request, asset)

    return router
