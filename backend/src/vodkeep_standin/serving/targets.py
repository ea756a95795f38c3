"""Whom proxied clients may reach: the pretended hosts and nobody else."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

from vodkeep_standin.serving.routes import LOOPBACK, Route, is_known_host

_log = logging.getLogger(__name__)


class Targets:
    """Judges what clients of the proxy ask for, and remembers what was refused."""

    def __init__(self, routes: list[Route]) -> None:
        self._routes = routes
        self.own_port = 0
        """Our plain HTTP port on the loopback address, once it is known."""
        self.refused: list[str] = []

    def allows_tunnel(self, target: str) -> str | None:
        """The host behind ``host:443`` if it is one of ours."""
        host, _, port = target.lower().rpartition(":")
        return host if port == "443" and is_known_host(host, self._routes) else None

    def allows_address(self, target: str) -> bool:
        """Whether an absolute ``http`` address is ours to answer."""
        try:
            address = urlsplit(target)
            host, port = (address.hostname or "").lower(), address.port or 80
        except ValueError:
            return False
        own = host in LOOPBACK and port == self.own_port
        return address.scheme == "http" and (own or (port == 80 and is_known_host(host, self._routes)))

    def refuse(self, target: str) -> str:
        """Remember a refused target; returns a sentence for the client."""
        self.refused.append(target)
        _log.warning("proxy refused %s", target)
        return f"the stand-in knows no host behind {target!r}\n"
