"""Runs the application on real sockets inside a task group.

uvicorn is made to serve and nothing else: signals belong to the service, sockets are opened here so that a taken
port is one clear sentence, and a cancellation becomes a graceful shutdown with an end.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import anyio
import uvicorn
from anyio.abc import TaskStatus
from starlette.types import ASGIApp

from vodkeep.errors import SettingsError

SHUTDOWN_GRACE_S = 5

# After the grace connections are hung up on, which ends the sending of a file without any fuss. Handlers that do not
# notice are cancelled this much later, and given up on when even that does not end them.
_CANCEL_AFTER_S = 1
_GIVE_UP_AFTER_S = 2


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the server really listens."""

    host: str  # empty: every interface
    port: int

    @property
    def url(self) -> str:
        """An address for a browser on this machine."""
        host = self.host
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(host).is_unspecified:
                host = ""
        host = host or "127.0.0.1"
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


async def serve(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    grace_s: int = SHUTDOWN_GRACE_S,
    task_status: TaskStatus[Listening] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled, then let requests end for at most ``grace_s`` seconds, and be gone two seconds later.

    Reports :class:`Listening` once connections are accepted: ``listening = await group.start(serve, app, host, port)``.
    An empty ``host`` is every interface, port 0 any free one. Raises ``SettingsError`` when it cannot listen there.
    """
    sockets = open_sockets(host, port)
    server = _Server(
        uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=grace_s + _CANCEL_AFTER_S,
        )
    )
    ended = anyio.Event()
    shield = anyio.CancelScope(shield=True)

    async def run() -> None:
        with shield:
            try:
                await server.serve(sockets=sockets)
            finally:
                ended.set()

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            try:
                await server.accepting.wait()
                task_status.started(Listening(host, sockets[0].getsockname()[1]))
                await ended.wait()
            finally:
                server.should_exit = True
                shield.deadline = anyio.current_time() + grace_s + _GIVE_UP_AFTER_S
                with anyio.CancelScope(shield=True), anyio.move_on_after(grace_s):
                    await ended.wait()
                server.hang_up()
    finally:
        for each in sockets:
            each.close()


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers, telling when it accepts connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = anyio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def hang_up(self) -> None:
        """Drop every connection, whatever is under way on it."""
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.accepting.set()


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for every address that ``host`` means, all on the same port.

    Raises ``SettingsError`` with one sentence when that is not possible.
    """
    sockets: list[socket.socket] = []
    try:
        if not host:
            sockets.append(_every_interface(port))
            return sockets
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            chosen = sockets[0].getsockname()[1] if sockets else port
            with contextlib.suppress(_FamilyMissing):
                sockets.append(_listen(family, (str(address[0]), chosen, *address[2:])))
        if not sockets:
            raise OSError(errno.EADDRNOTAVAIL, "no address of this host can be used")
        return sockets
    except OSError as error:
        for each in sockets:
            each.close()
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise SettingsError([f'HTTP_ADDR is "{where}" but {_reason(error, port)}.']) from error


class _FamilyMissing(Exception):
    """The machine has no such addresses, although a name has one (``localhost`` without IPv6)."""


def _every_interface(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(_FamilyMissing):
            return _listen(socket.AF_INET6, ("::", port), dual=True)
    return _listen(socket.AF_INET, ("0.0.0.0", port))  # noqa: S104 - that is what was asked for


def _listen(family: int, address: tuple[object, ...], *, dual: bool = False) -> socket.socket:
    try:
        # With the protocol named, asyncio turns off Nagle's algorithm on what it accepts; without, the body of each
        # answer waits 40 ms for the client to acknowledge the head.
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            raise _FamilyMissing from error
        raise
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        sock.bind(address)
        # Bound but not listening sockets do not exclude each other.
        sock.listen(2048)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        if family == socket.AF_INET6 and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise _FamilyMissing from error
        raise
    return sock


def _reason(error: OSError, port: int) -> str:
    if isinstance(error, socket.gaierror):
        return "there is no such host"
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} is already in use; stop the other program or choose another port"
        case errno.EACCES | errno.EPERM:
            return f"port {port} may not be opened by this user; choose one from 1024 up"
        case errno.EADDRNOTAVAIL:
            return "that address is not one of this machine"
        case _:
            return (error.strerror or "it cannot be opened").lower()
