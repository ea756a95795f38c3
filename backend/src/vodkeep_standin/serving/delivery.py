"""The only place that writes replies to sockets, whole or as damaged as a fault wants them."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable

from aiohttp import web

from vodkeep_standin.serving.call import FileBody, Reply

CHUNK_BYTES = 256 * 1024


def reset_connection(transport: asyncio.BaseTransport | None) -> None:
    """Drop the connection with RST instead of FIN, as a broken middlebox does."""
    if transport is None:
        return
    raw = transport.get_extra_info("socket")
    if raw is not None:
        # Linger on with zero seconds is the way to make close() send RST.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # A TLS transport would shake hands first; its abort goes straight to the socket.
    transport.abort()  # type: ignore[attr-defined]


class Sender:
    """Sends one reply; ``sent_bytes`` and ``status`` tell how far it got.

    ``before_end`` is called once, before the client can see the end of the reply.
    """

    def __init__(
        self, request: web.BaseRequest, reply: Reply, before_end: Callable[[Sender], None] | None = None
    ) -> None:
        self._request = request
        self._reply = reply
        self._before_end = before_end
        self.status = 0
        self.sent_bytes = 0

    async def send(self) -> web.StreamResponse:
        """Send the reply. Raises ``ConnectionError`` when the client goes away."""
        delivery = self._reply.delivery
        size = self._reply.size
        response = web.StreamResponse(status=self._reply.status, headers=self._reply.headers)
        if delivery.ending == "reset" and delivery.cut_after is None:
            self._announce_end()
            reset_connection(self._request.transport)
            return response
        if self._reply.status not in (204, 304):
            response.content_length = max(0, size + delivery.declared_extra)
        damaged = delivery.ending != "whole" or delivery.declared_extra != 0
        if damaged:
            response.force_close()
        self.status = self._reply.status
        limit = size if delivery.cut_after is None else min(size, delivery.cut_after)
        if self._request.method == "HEAD" or (limit == 0 and delivery.ending != "stall"):
            self._announce_end()
        await response.prepare(self._request)
        if self._request.method == "HEAD":
            return response
        if isinstance(self._reply.body, FileBody):
            await self._send_file(response, self._reply.body, limit)
        else:
            await self._send_bytes(response, self._reply.body, limit)
        if damaged:
            await self._end_badly(response, size, limit)
        return response

    async def _send_file(self, response: web.StreamResponse, body: FileBody, limit: int) -> None:
        descriptor = os.open(body.path, os.O_RDONLY)
        try:
            step = self._step(CHUNK_BYTES)
            sent = 0
            while sent < limit:
                # Read on the loop on purpose: the files are small and sit in the page cache.
                chunk = os.pread(descriptor, min(step, limit - sent), body.offset + sent)
                if not chunk:
                    break
                sent += len(chunk)
                await self._write(response, chunk, last=sent >= limit)
        finally:
            os.close(descriptor)

    async def _send_bytes(self, response: web.StreamResponse, body: bytes, limit: int) -> None:
        step = self._step(CHUNK_BYTES)
        for start in range(0, limit, step):
            await self._write(response, body[start : min(start + step, limit)], last=start + step >= limit)

    def _step(self, most: int) -> int:
        return min([most, *(pacer.chunk_bytes() for pacer in self._reply.delivery.pacers)])

    async def _write(self, response: web.StreamResponse, chunk: bytes, *, last: bool) -> None:
        for pacer in self._reply.delivery.pacers:
            await pacer.take(len(chunk))
        self.sent_bytes += len(chunk)
        if last and self._reply.delivery.ending != "stall":
            self._announce_end()
        await response.write(chunk)

    def _announce_end(self) -> None:
        if self._before_end is not None:
            announce, self._before_end = self._before_end, None
            announce(self)

    async def _end_badly(self, response: web.StreamResponse, size: int, limit: int) -> None:
        delivery = self._reply.delivery
        transport = self._request.transport
        if transport is None:
            return
        if delivery.ending == "stall":
            await self._stall(response, size, limit, delivery.drip_interval_s)
        if delivery.ending == "reset":
            # What was written must leave the process before the reset overtakes it.
            await _drain(transport)
            reset_connection(transport)
            return
        if delivery.declared_extra < 0 and delivery.ending == "whole":
            # The HTTP library cut the body to the announced length; the surplus goes out by hand.
            surplus = self._surplus(size + delivery.declared_extra, size)
            transport.write(surplus)
        transport.close()

    async def _stall(self, response: web.StreamResponse, size: int, start: int, drip_interval_s: float | None) -> None:
        """Keep the connection open and silent (or dripping) until the client leaves: then we are cancelled."""
        position = start
        while True:
            await asyncio.sleep(drip_interval_s or 3600.0)
            if drip_interval_s and position < size:
                await self._write(response, self._surplus(position, position + 1), last=False)
                position += 1

    def _surplus(self, start: int, end: int) -> bytes:
        body = self._reply.body
        if isinstance(body, bytes):
            return body[max(0, start) : end]
        with body.path.open("rb") as file:
            file.seek(body.offset + max(0, start))
            return file.read(end - max(0, start))


async def _drain(transport: asyncio.Transport) -> None:
    """Wait until the transport's buffer has gone to the kernel."""
    # asyncio tells only a transport's own protocol about its buffer, and that is the HTTP library's.
    while transport.get_write_buffer_size() and not transport.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(0.005)
