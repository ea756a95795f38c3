"""Who may talk to the service.

With credentials configured, everything but the four addresses that monitoring needs asks for them: the header
``X-Admin-Token``, or Basic with ``ADMIN_USERNAME`` and ``ADMIN_PASSWORD``, or Basic with the name ``token`` and the
token as the password, which lets a browser in where only a token is set.

Without credentials the service is for this machine only: it binds to loopback, and because any web page can
make a browser send requests to loopback under a name of its own (DNS rebinding), the ``Host`` header must be a
loopback name too.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from vodkeep.clock import Clock
from vodkeep.settings import WebSettings
from vodkeep.web.problems import problem_response
from vodkeep.web.throttle import Throttle

# Liveness, readiness and figures without names of people or files: open, so that a probe needs no secret.
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/status", "/metrics"})

# The name a browser gives beside the token; it is no secret.
TOKEN_USERNAME = "token"  # noqa: S105

_LOOPBACK_NAMES = frozenset({"localhost", "localhost."})


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client has to show; ``basic`` holds ``name:password`` pairs. Never printed."""

    token: bytes | None
    basic: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"Credentials(token={self.token is not None}, basic={len(self.basic)})"

    def __bool__(self) -> bool:
        return self.token is not None or bool(self.basic)

    def admit(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether the request headers (lower-case names) carry one of the credentials.

        Every candidate is compared, each in constant time, so that the time taken tells nothing.
        """
        good = False
        for name, value in headers:
            if name == b"x-admin-token" and self.token is not None:
                good |= hmac.compare_digest(value, self.token)
            elif name == b"authorization":
                offered = _basic_pair(value)
                if offered is not None:
                    for pair in self.basic:
                        good |= hmac.compare_digest(offered, pair)
        return good


def credentials_of(settings: WebSettings) -> Credentials:
    """The credentials that are configured; falsy when there are none (half a pair is refused by the settings)."""
    token = _secret_bytes(settings.admin_token)
    password = _secret_bytes(settings.admin_password)
    basic = []
    if settings.admin_username and password is not None:
        basic.append(settings.admin_username.encode() + b":" + password)
    if token is not None:
        basic.append(TOKEN_USERNAME.encode() + b":" + token)
    return Credentials(token, tuple(basic))


@dataclass(frozen=True, slots=True)
class BindAddress:
    """Where to listen. ``warning`` says why it is not where the settings asked for."""

    host: str  # empty: every interface
    port: int  # 0: any free one
    warning: str | None = None


def bind_address(settings: WebSettings) -> BindAddress:
    """Where to listen: what ``HTTP_ADDR`` says, but only loopback as long as no credentials are configured."""
    host, port = settings.http_host, settings.http_port
    if credentials_of(settings) or is_loopback_host(host):
        return BindAddress(host, port)
    wanted = f"[{host}]" if ":" in host else host or "every interface"
    return BindAddress(
        "127.0.0.1",
        port,
        f"No admin credentials are set, so the service listens on 127.0.0.1 only and not on {wanted}:"
        " set ADMIN_TOKEN, or ADMIN_USERNAME and ADMIN_PASSWORD, to open it.",
    )


def is_loopback_host(host: str) -> bool:
    """Whether a host name or address (no port, no brackets) always means this machine."""
    if host.lower() in _LOOPBACK_NAMES:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def host_of(header: str) -> str | None:
    """The host in a ``Host`` header (RFC 9110 section 7.2) without port and brackets; ``None`` when malformed."""
    if header.startswith("["):
        host, bracket, rest = header[1:].partition("]")
        if not bracket or not _is_port(rest):
            return None
        return host
    host, _, port = header.partition(":")
    if not host or not _is_port(f":{port}" if ":" in header else ""):
        return None
    return host


class AccessMiddleware:
    """Turns away floods and requests without credentials, or, when none are configured, those not for loopback."""

    def __init__(self, app: ASGIApp, *, credentials: Credentials, throttle: Throttle | None, clock: Clock) -> None:
        self._app = app
        self._credentials = credentials
        self._throttle = throttle
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with 401, 403 or 429."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if not self._credentials:
            if not _all_loopback(headers):
                await problem_response(
                    403,
                    "host_not_allowed",
                    "Without admin credentials the service answers under a loopback name only.",
                    remedy="Open it as http://127.0.0.1, or set ADMIN_TOKEN or ADMIN_USERNAME and ADMIN_PASSWORD.",
                )(scope, receive, send)
                return
        elif scope["path"] not in OPEN_PATHS:
            wait_s = self._wait_s(scope)
            if wait_s is not None:
                await problem_response(
                    429,
                    "too_many_requests",
                    "Too many requests came from this address.",
                    remedy=f"Try again in {wait_s} s, or raise RATE_LIMIT_REQUESTS_PER_IP.",
                    headers={"retry-after": str(wait_s)},
                )(scope, receive, send)
                return
            if not self._credentials.admit(headers):
                await problem_response(
                    401,
                    "unauthorized",
                    "This address needs the admin credentials.",
                    remedy="Send X-Admin-Token, or log in with Basic.",
                    headers={"www-authenticate": 'Basic realm="Vodkeep", charset="UTF-8"'},
                )(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _wait_s(self, scope: Scope) -> int | None:
        """The limiter's word, asked before the password is checked, so that guessing is slow."""
        client = scope.get("client")
        if self._throttle is None or client is None:
            return None
        return self._throttle.wait_s(client[0], self._clock.monotonic())


def _all_loopback(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    hosts = [value.decode("latin-1").strip() for name, value in headers if name == b"host"]
    return bool(hosts) and all((host := host_of(each)) is not None and is_loopback_host(host) for each in hosts)


def _is_port(text: str) -> bool:
    return text == "" or (text.startswith(":") and (text == ":" or (text[1:].isascii() and text[1:].isdigit())))


def _basic_pair(header: bytes) -> bytes | None:
    """``name:password`` out of ``Basic ...`` (RFC 7617), or ``None``."""
    scheme, _, encoded = header.strip().partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except binascii.Error:
        return None


def _secret_bytes(secret: SecretStr | None) -> bytes | None:
    revealed = "" if secret is None else secret.get_secret_value()
    return revealed.encode() or None
