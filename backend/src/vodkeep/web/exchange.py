"""What happens around every request: correlation id, access line, security headers, and the last resort.

Pure ASGI, so that bodies stream through untouched and the context of the request is the context of its tasks.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vodkeep.clock import Clock
from vodkeep.telemetry.correlation import accept_corr, bind_corr
from vodkeep.telemetry.log import Logger
from vodkeep.web.problems import problem_response

CORRELATION_HEADER = "X-Correlation-ID"

# Nothing inline, nothing from elsewhere; scripts cannot turn text into markup (Trusted Types).
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "media-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    # Other sites may neither embed our media nor hold on to our window.
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)


class ExchangeMiddleware:
    """The outermost layer of ours; answers 500 for whatever nobody else caught."""

    def __init__(self, app: ASGIApp, *, clock: Clock, log: Logger) -> None:
        self._app = app
        self._clock = clock
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one exchange."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with bind_corr(accept_corr(_offered_corr(scope))) as corr:
            await _Exchange(scope, receive, send, corr, self._clock, self._log).run(self._app)


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, corr: str, clock: Clock, log: Logger) -> None:
        self._scope, self._receive, self._real_send = scope, receive, send
        self._corr, self._clock, self._log = corr, clock, log
        self._started_at = clock.monotonic()
        self._status: int | None = None
        self._sent_bytes = 0
        self._complete = False

    async def run(self, app: ASGIApp) -> None:
        """Let ``app`` answer, whatever happens."""
        try:
            await app(self._scope, self._receive, self._send)
        except Exception:  # noqa: BLE001 - a request is a task, and this is where it ends
            self._log.exception("request failed", method=self._scope["method"], path=self._scope["path"])
            if self._status is None:
                response = problem_response(
                    500,
                    "internal_error",
                    "An error in the program stopped the request; the log holds the details.",
                )
                await response(self._scope, self._receive, self._send)
            # Else part of the answer is out: left incomplete, the server closes the connection, and the
            # client sees that something is missing.
        finally:
            self._log_access()

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = list(message.get("headers", []))
            present = {name for name, _ in headers}
            headers += [pair for pair in SECURITY_HEADERS if pair[0] not in present]
            headers.append((CORRELATION_HEADER.lower().encode(), self._corr.encode()))
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body":
            self._sent_bytes += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
        await self._real_send(message)

    def _log_access(self) -> None:
        fields = {
            "method": self._scope["method"],
            "path": self._scope["path"],
            "status": self._status,
            "bytes": self._sent_bytes,
            "ms": round((self._clock.monotonic() - self._started_at) * 1000, 1),
            "client": client[0] if (client := self._scope.get("client")) else None,
        }
        if not self._complete:
            fields["cut_off"] = True
        # The page asks every second and is mostly told that nothing has changed.
        if self._status == 304:
            self._log.debug("request", **fields)
        else:
            self._log.info("request", **fields)


def _offered_corr(scope: Scope) -> str | None:
    wanted = CORRELATION_HEADER.lower().encode()
    for name, value in scope["headers"]:
        if name == wanted:
            text: str = value.decode("latin-1")
            return text
    return None
