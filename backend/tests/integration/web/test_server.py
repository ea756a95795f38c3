"""The server itself: addresses, a taken port, and how it stops."""

from __future__ import annotations

import signal
import socket
from typing import Any

import aiohttp
import anyio
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from vodkeep.errors import SettingsError
from vodkeep.web.server import Listening, open_sockets, serve

pytestmark = pytest.mark.anyio


class Held:
    """Answers only when released; tells when a request has arrived."""

    def __init__(self) -> None:
        self.arrived, self.released, self.ended = anyio.Event(), anyio.Event(), anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self.arrived.set()
            await self.released.wait()
            await PlainTextResponse("done")(scope, receive, send)
        finally:
            self.ended.set()


async def test_port_zero_reports_the_real_address() -> None:
    async with anyio.create_task_group() as group:
        listening: Listening = await group.start(serve, PlainTextResponse("hello"), "127.0.0.1", 0)
        assert listening.port > 0
        assert listening.url == f"http://127.0.0.1:{listening.port}"
        async with aiohttp.ClientSession() as http, http.get(listening.url) as answer:
            assert await answer.text() == "hello"
        group.cancel_scope.cancel()


async def test_every_interface_answers_on_ipv4_and_ipv6_with_one_port() -> None:
    async with anyio.create_task_group() as group:
        listening: Listening = await group.start(serve, PlainTextResponse("hello"), "", 0)
        hosts = ["127.0.0.1", "[::1]"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]
        async with aiohttp.ClientSession() as http:
            for host in hosts:
                async with http.get(f"http://{host}:{listening.port}/") as answer:
                    assert await answer.text() == "hello"
        assert listening.url == f"http://127.0.0.1:{listening.port}"
        group.cancel_scope.cancel()


async def test_a_taken_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingsError) as caught:
            await serve(PlainTextResponse("x"), "127.0.0.1", port)
    (sentence,) = caught.value.problems
    assert sentence == (
        f'HTTP_ADDR is "127.0.0.1:{port}" but port {port} is already in use;'
        " stop the other program or choose another port."
    )


@pytest.mark.parametrize(
    ("host", "reason"), [("no-such-host.invalid", "no such host"), ("192.0.2.1", "not one of this machine")]
)
async def test_an_address_that_cannot_be_used_is_one_sentence(host: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        open_sockets(host, 0)


async def test_the_port_is_free_again_afterwards() -> None:
    port = 0
    for _ in range(2):
        async with anyio.create_task_group() as group:
            listening: Listening = await group.start(serve, PlainTextResponse("x"), "127.0.0.1", port)
            port = listening.port
            group.cancel_scope.cancel()


async def test_small_answers_are_not_delayed() -> None:
    """asyncio turns Nagle's algorithm off only for sockets that name their protocol."""
    for sock in open_sockets("127.0.0.1", 0):
        assert sock.proto == socket.IPPROTO_TCP
        sock.close()


async def test_signals_stay_with_the_service() -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    async with anyio.create_task_group() as group:
        await group.start(serve, PlainTextResponse("x"), "127.0.0.1", 0)
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
        group.cancel_scope.cancel()


async def test_stopping_lets_a_request_end() -> None:
    held = Held()
    answers: list[str] = []

    async with anyio.create_task_group() as outer:
        stop = anyio.CancelScope()
        started = anyio.Event()
        at: list[Listening] = []

        async def service() -> None:
            with stop:
                async with anyio.create_task_group() as group:
                    at.append(await group.start(serve, held, "127.0.0.1", 0))
                    started.set()

        async def client() -> None:
            async with aiohttp.ClientSession() as http, http.get(at[0].url) as answer:
                answers.append(await answer.text())

        outer.start_soon(service)
        await started.wait()
        outer.start_soon(client)
        await held.arrived.wait()
        stop.cancel()
        held.released.set()
    assert answers == ["done"]


async def test_stopping_has_an_end_even_if_a_request_has_none() -> None:
    held = Held()
    failures: list[Any] = []

    async def client(url: str) -> None:
        try:
            async with aiohttp.ClientSession() as http, http.get(url):
                pass
        except aiohttp.ClientError as error:
            failures.append(error)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as outer:
            async with anyio.create_task_group() as group:
                listening: Listening = await group.start(lambda **kw: serve(held, "127.0.0.1", 0, grace_s=1, **kw))
                outer.start_soon(client, listening.url)
                await held.arrived.wait()
                group.cancel_scope.cancel()
            await held.ended.wait()
    assert failures


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("archive.example", "http://archive.example:80"),
    ],
)
def test_the_url_is_one_for_a_browser(host: str, url: str) -> None:
    assert Listening(host, 80).url == url
