"""How routes are registered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import compile_path

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Response]])


class LateRoute(APIRoute):
    """A route whose handler is taken apart when it is first asked for, or when the OpenAPI document is.

    To take all of them apart, most never to be asked for, would be a tenth of a second of each start.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self._take_apart: Callable[[], None] | None = partial(super().__init__, path, endpoint, **options)
        # What a router chooses by.
        self.path_regex, self.path_format, self.param_convertors = compile_path(path)
        self.methods = set(options["methods"])
        self.endpoint = endpoint

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there yet."""
        take_apart = self.__dict__.get("_take_apart")
        if take_apart is None:
            raise AttributeError(name)
        self._take_apart = None
        take_apart()
        return getattr(self, name)


def new_router(**options: Any) -> APIRouter:
    """A router of late routes; ``options`` as FastAPI's has them."""
    return APIRouter(route_class=LateRoute, **options)


def readable(router: APIRouter, path: str, **options: Any) -> Callable[[Handler], Handler]:
    """Register a handler for GET and HEAD (RFC 9110 section 9.3.2 wants both); only GET is in the OpenAPI document.

    The server leaves out the body of an answer to HEAD.
    """

    def register(handler: Handler) -> Handler:
        router.add_api_route(path, handler, methods=["GET"], **options)
        router.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)
        return handler

    return register
