"""The forward proxy through which unmodified programs reach the stand-in under Twitch's real names.

``CONNECT host:443`` to a known host ends the TLS inside the proxy, with a certificate made on the spot for that
name, and hands the connection to the HTTP server, Host header untouched. Plain ``GET http://...`` is handed over as
it came. Any other host is refused with 502: nothing ever leaves the machine.

Twitch's names must never be looked up, so the proxy does not connect anywhere; it *is* the other end.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import weakref
from collections.abc import Callable

import trustme

from vodkeep_standin.serving.targets import Targets

MAX_HEAD_BYTES = 64 * 1024
HANDSHAKE_DEADLINE_S = 20.0
_log = logging.getLogger(__name__)


class CertificateAuthority:
    """An own CA and one TLS context per host name."""

    def __init__(self) -> None:
        self._ca = trustme.CA(organization_name="Vodkeep stand-in")
        self._contexts: dict[str, ssl.SSLContext] = {}

    def pem(self) -> bytes:
        """The CA's certificate, for clients to trust."""
        return self._ca.cert_pem.bytes()

    def context(self, host: str) -> ssl.SSLContext:
        """A server context that proves to be ``host``."""
        if host not in self._contexts:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.set_alpn_protocols(["http/1.1"])
            self._ca.issue_cert(host).configure_cert(context)
            self._contexts[host] = context
        return self._contexts[host]


class Proxy:
    """Makes a protocol per client connection and ends them all on ``close``."""

    def __init__(
        self,
        authority: CertificateAuthority,
        make_http: Callable[[], asyncio.Protocol],
        targets: Targets,
    ) -> None:
        self._authority = authority
        self._make_http = make_http
        self._targets = targets
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Transport] = set()
        self._handed_over: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()

    def protocol(self) -> asyncio.Protocol:
        """A protocol for a new client."""
        return _ClientHead(self)

    async def close(self) -> None:
        """Drop all clients. TLS is not shut down politely: a client that is busy elsewhere would hold us up."""
        for transport in [*self._waiting, *self._handed_over]:
            transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def opened(self, transport: asyncio.Transport) -> None:
        """Remember a client whose request head is not complete."""
        self._waiting.add(transport)

    def closed(self, transport: asyncio.Transport) -> None:
        """Forget it."""
        self._waiting.discard(transport)

    def dispatch(self, transport: asyncio.Transport, head: bytes) -> None:
        """Decide about a client by what it sent first; ``head`` holds at least the whole request head."""
        self._waiting.discard(transport)
        request_line = head.partition(b"\r\n")[0].decode("latin-1")
        method, _, rest = request_line.partition(" ")
        target = rest.rpartition(" ")[0]
        if method == "CONNECT":
            if (host := self._targets.allows_tunnel(target)) is not None:
                task = asyncio.get_running_loop().create_task(self._terminate_tls(transport, host))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                return
        elif self._targets.allows_address(target):
            self._hand_over(transport, transport, head)
            return
        body = self._targets.refuse(target).encode()
        transport.write(
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        transport.close()

    async def _terminate_tls(self, transport: asyncio.Transport, host: str) -> None:
        early = _EarlyBytes()
        transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(
                transport,
                early,
                self._authority.context(host),
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_DEADLINE_S,
            )
        except (OSError, ssl.SSLError) as error:
            # A client that does not trust our CA ends here; that is its right.
            _log.info("TLS with a client of %s failed: %s", host, error)
            transport.abort()
            return
        except asyncio.CancelledError:
            transport.abort()
            raise
        if secured is None or early.lost:
            return
        self._hand_over(transport, secured, bytes(early.received))

    def _hand_over(self, raw: asyncio.Transport, transport: asyncio.Transport, received: bytes) -> None:
        """Give a connection, with the bytes already read from it, to the HTTP server."""
        self._handed_over.add(raw)
        protocol = self._make_http()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if received:
            protocol.data_received(received)


class _ClientHead(asyncio.Protocol):
    """Collects a client's first request head."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._transport: asyncio.Transport | None = None
        self._head = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._proxy.opened(transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._head += data
        if b"\r\n\r\n" in self._head:
            self._proxy.dispatch(self._transport, bytes(self._head))
        elif len(self._head) > MAX_HEAD_BYTES:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._proxy.closed(self._transport)


class _EarlyBytes(asyncio.Protocol):
    """Holds what a client sends in the same flight as the end of its handshake."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
