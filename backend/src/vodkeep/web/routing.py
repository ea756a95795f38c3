"""How routes are registered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import APIRouter
from starlette.responses import Response

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Response]])


def readable(router: APIRouter, path: str, **options: Any) -> Callable[[Handler], Handler]:
    """Register a handler for GET and HEAD (RFC 9110 section 9.3.2 wants both); only GET is in the OpenAPI document.

    The server leaves out the body of an answer to HEAD.
    """

    def register(handler: Handler) -> Handler:
        router.add_api_route(path, handler, methods=["GET"], **options)
        router.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)
        return handler

    return register
