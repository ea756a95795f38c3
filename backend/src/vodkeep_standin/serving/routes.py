"""Which host answers which path."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from vodkeep_standin.serving.call import Call, Reply

Handler = Callable[[Call], Awaitable[Reply]]

EDGE_HOSTS = ("*.cloudfront.net", "vod-secure.twitch.tv", "static-cdn.jtvnw.net", "*.ttvnw.net")
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")


@dataclass(frozen=True, slots=True)
class Route:
    """One resource: where it lives on Twitch and who answers. Loopback clients reach every route."""

    method: str
    hosts: tuple[str, ...]
    pattern: re.Pattern[str]
    handler: Handler
    reads_body: bool = False
    """The handler reads the body itself, as it comes in (``Call.incoming``); others have it whole."""


def route(method: str, hosts: str | tuple[str, ...], path: str, handler: Handler, *, reads_body: bool = False) -> Route:
    """A route; ``{name}`` in ``path`` matches one path element, ``{name:regex}`` what the regex says."""
    pattern = re.sub(
        r"\{(\w+)(?::([^{}]+))?\}", lambda m: f"(?P<{m.group(1)}>{m.group(2) or '[^/]+'})", path.replace(".", r"\.")
    )
    named = (hosts,) if isinstance(hosts, str) else hosts
    return Route(method, named, re.compile(pattern + r"\Z"), handler, reads_body)


def is_known_host(host: str, routes: list[Route]) -> bool:
    """Whether the proxy lets a client through to ``host``."""
    return any(fnmatchcase(host, glob) for entry in routes for glob in entry.hosts)


def find_route(routes: list[Route], method: str, host: str, path: str) -> tuple[Route, dict[str, str]] | int:
    """The route and its path parameters, else the status to answer with: 404 or 405."""
    status = 404
    for entry in routes:
        if host not in LOOPBACK and not any(fnmatchcase(host, glob) for glob in entry.hosts):
            continue
        if (matched := entry.pattern.match(path)) is None:
            continue
        if method == entry.method or (method == "HEAD" and entry.method == "GET"):
            return entry, matched.groupdict()
        status = 405
    return status
