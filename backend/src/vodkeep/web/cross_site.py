"""What changes something comes from our own page or from a program, never from somebody else's page.

A browser sends the login it remembers, or its place behind the loopback, with requests that any page makes it send. It
also says where they come from, in headers that a page cannot change:

1. ``Sec-Fetch-Site`` decides where it is sent (by every browser since 2023, to TLS and loopback addresses):
   ``same-origin`` is our page, ``none`` is the person at the address bar.
2. Else ``Origin`` must name the host that was asked.
3. A request with neither comes from a program, or from a browser too old to log in with.

The same rules as those of ``net/http.CrossOriginProtection`` in Go 1.25 (pkg.go.dev, read 2026-11-23). Beside them, a
body has to be JSON, which a form of another site cannot send, and is bounded.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vodkeep.web.problems import problem_response

_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN = frozenset({"same-origin", "none"})
_DEFAULT_PORTS = {"http": 80, "https": 443}

LONGEST_BODY = 64 * 1024
"""Bytes of a request's body; the longest that a route takes is a few hundred."""


def is_cross_site(headers: Headers) -> bool:
    """Whether a page of another site made a browser send this."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in _OWN
    origin = headers.get("origin")
    if origin is None:
        return False
    # Of the scheme nothing is known here: a proxy with TLS speaks plain HTTP to us.
    return _host_and_port(origin) is None or _host_and_port(origin) != _named_host(origin, headers.get("host", ""))


def is_json(content_type: str) -> bool:
    """Whether a ``Content-Type`` header says JSON, or a kind of it."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


class CrossSiteMiddleware:
    """Turns away requests that would change something and come from another site, or are not as our page sends them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with 403, 413 or 415."""
        if scope["type"] != "http" or scope["method"] in _HARMLESS:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if is_cross_site(headers):
            await problem_response(
                403,
                "cross_site",
                "A page of another site may not do this.",
                remedy="Use the service's own page, or a program.",
            )(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            await problem_response(413, "too_long", f"The body is longer than {LONGEST_BODY} bytes.")(
                scope, receive, send
            )
            return
        if body and not is_json(headers.get("content-type", "")):
            await problem_response(
                415, "not_json", "The body has to be JSON.", remedy="Send Content-Type: application/json."
            )(scope, receive, send)
            return
        await self._app(scope, _Replay(body, receive), send)


class _Replay:
    """A body that was read already, and then whatever else comes."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


async def _read(receive: Receive) -> bytes | None:
    """The whole body, empty when the client has gone; None when it is too long."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        body += bytes(message.get("body", b""))
        if len(body) > LONGEST_BODY:
            return None
        if not message.get("more_body", False):
            return body


def _host_and_port(origin: str) -> tuple[str, int] | None:
    """Host and port of an ``Origin`` (RFC 6454 section 6.2); None for ``null`` and for nonsense."""
    try:
        parts = urlsplit(origin)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.hostname, port) if parts.hostname and port else None


def _named_host(origin: str, host: str) -> tuple[str, int] | None:
    """The host that was asked, as if by the scheme of ``origin``."""
    return _host_and_port(f"{urlsplit(origin).scheme}://{host}")
