"""The HTTP side: aiohttp's low-level server, our routes, the faults and the request log."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from aiohttp import web

from vodkeep_standin.faults.registry import Faults
from vodkeep_standin.gql.operations import operation_names
from vodkeep_standin.serving.call import Call, Reply, text_reply
from vodkeep_standin.serving.delivery import Sender
from vodkeep_standin.serving.incoming import Incoming
from vodkeep_standin.serving.requestlog import Line, RequestEntry, RequestLog
from vodkeep_standin.serving.routes import LOOPBACK, Route, find_route
from vodkeep_standin.serving.targets import Targets
from vodkeep_standin.world import World

MAX_BODY_BYTES = 4 * 1024 * 1024
_log = logging.getLogger(__name__)


class HttpFront:
    """Answers requests of all resources on one port; calling ``server`` makes a protocol for a connection."""

    def __init__(
        self,
        world: World,
        routes: list[Route],
        control: list[Route],
        targets: Targets,
        faults: Faults,
        log: RequestLog,
    ) -> None:
        self._targets = targets
        self._world = world
        self._routes = routes
        self._control = control
        self._faults = faults
        self._log = log
        # Cancelling the handler when its client leaves is what ends a stalled reply.
        self.server = web.Server(self._answer, access_log=None, handler_cancellation=True, keepalive_timeout=600.0)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        host = _host_of(request)
        # A client of the proxy may name another host in the next request on the same connection.
        target = request.raw_path
        if not target.startswith("/") and not self._targets.allows_address(target):
            return await Sender(request, text_reply(self._targets.refuse(target), status=502)).send()
        found = find_route(self._routes, request.method, host, request.rel_url.path)
        incoming = Incoming(request.content) if not isinstance(found, int) and found[0].reads_body else None
        if incoming is None and request.content_length is not None and request.content_length > MAX_BODY_BYTES:
            return await Sender(request, text_reply("body too large", status=413)).send()
        body = await request.read() if incoming is None else b""
        call = Call(
            world=self._world,
            method=request.method,
            host=host,
            path=request.rel_url.path,
            query=request.rel_url.query,
            headers=request.headers,
            body=body,
            connection=_peer_port(request),
            incoming=incoming,
        )
        if call.path.startswith("/control/") and host in LOOPBACK:
            return await Sender(request, await self._dispatch(self._control, call)).send()
        if call.path == "/gql":
            call.operations = operation_names(body)
        return await self._answer_logged(request, call)

    async def _answer_logged(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        began = datetime.now(UTC)
        loop = asyncio.get_running_loop()
        origin = loop.time()
        firings = self._faults.match(call)
        line: Line | None = None

        def write_down(sender: Sender | None) -> None:
            nonlocal line
            entry = RequestEntry(
                time=began,
                method=call.method,
                host=call.host,
                path=call.path,
                query=request.rel_url.query_string,
                status=sender.status if sender else 0,
                sent_bytes=sender.sent_bytes if sender else 0,
                duration_ms=(loop.time() - origin) * 1000,
                connection=call.connection,
                operations=call.operations,
                faults=tuple(firing.kind for firing in firings),
                range=call.headers.get("Range"),
            )
            line = self._log.write(entry, line)

        sender: Sender | None = None
        try:
            reply: Reply | None = None
            for firing in firings:
                reply = await firing.fault.before(call, firing)
                if reply is not None:
                    break
            if reply is None:
                reply = await self._dispatch(self._routes, call)
            for firing in firings:
                reply = firing.fault.after(call, reply, firing)
            # A client that has its whole reply must find its request in the log.
            sender = Sender(request, reply, before_end=write_down)
            return await sender.send()
        finally:
            write_down(sender)

    async def _dispatch(self, routes: list[Route], call: Call) -> Reply:
        found = find_route(routes, call.method, call.host, call.path)
        if isinstance(found, int):
            return text_reply("404 page not found\n" if found == 404 else "method not allowed\n", status=found)
        route, call.params = found
        try:
            return await route.handler(call)
        except Exception:  # noqa: BLE001 - the task ends here; a bug of ours must not look like a broken line
            _log.exception("%s %s failed", call.method, call.path)
            return text_reply("the stand-in failed; its log has the traceback\n", status=500)


def _peer_port(request: web.BaseRequest) -> int:
    """The client's TCP port, which tells its connections apart."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return int(peer[1]) if peer else 0


def _host_of(request: web.BaseRequest) -> str:
    """The Host header without port, lower case."""
    host = request.headers.get("Host", "").lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
