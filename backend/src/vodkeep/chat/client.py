"""One IRC connection over a socket: TLS, reading, signs of life, and handing on what comes.

The protocol is `conversation.py`; this only moves bytes and calls. While the sink takes its time nothing is read, so
that the kernel and then Twitch hold back, and memory stays bounded.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import anyio

from vodkeep.chat.conversation import Conversation, Event, Joined, Welcomed
from vodkeep.chat.irc import Splitter
from vodkeep.clock import Clock
from vodkeep.errors import NetworkError

CONNECT_TIMEOUT_S = 10.0
_CHUNK_BYTES = 64 * 1024


class Sink(Protocol):
    """What takes in the chat of all connections."""

    async def lines(self, lines: Sequence[bytes], received_ms: int) -> None:
        """Whole lines without their ends, in the order they came (Unix ms). Waiting here holds the connection back."""
        ...

    async def joined(self, channel: str, at_ms: int) -> None:
        """From now on everything said in the channel comes."""
        ...

    async def left(self, channel: str, at_ms: int, reason: str) -> None:
        """Nothing said after ``at_ms`` has come, and nothing more will until ``joined``; ``at_ms`` may be past."""
        ...


@dataclass(frozen=True, slots=True)
class Address:
    """Where Twitch's chat is."""

    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, url: str) -> Address:
        """Of ``ircs://host:port`` (TLS) or ``irc://host:port``, the form that the settings let through."""
        parts = urlsplit(url)
        tls = parts.scheme == "ircs"
        return cls(parts.hostname or "", parts.port or (6697 if tls else 6667), tls)


class Wake:
    """Lets one task wait for time or for a word of another, whichever comes first. A word is never lost."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._event = anyio.Event()

    def call(self) -> None:
        """End the wait that is on, or the next one at once."""
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Wait for a call, at most ``seconds``."""
        if not self._event.is_set():
            async with anyio.create_task_group() as tasks:

                async def sleep() -> None:
                    # A rest smaller than a clock can tell would be waited for again and again.
                    await self._clock.sleep(max(seconds, 0.001))
                    tasks.cancel_scope.cancel()

                tasks.start_soon(sleep)
                await self._event.wait()
                tasks.cancel_scope.cancel()
        self._event = anyio.Event()


class Link:
    """One connection from its opening to its end."""

    def __init__(
        self,
        address: Address,
        conversation: Conversation,
        *,
        tls: ssl.SSLContext | None,
        sink: Sink,
        clock: Clock,
        on_event: Callable[[Event, int], Awaitable[None]],
    ) -> None:
        """``on_event`` gets every event of the conversation with its time (Unix ms)."""
        self.conversation = conversation
        self.splitter = Splitter()
        self.heard_ms = 0
        """When something last came (Unix ms); 0 before the connection is open."""
        self._address = address
        self._tls = tls
        self._sink = sink
        self._clock = clock
        self._on_event = on_event
        self._wake = Wake(clock)
        self._delivering = False
        self._closing = False

    def want(self, channels: frozenset[str]) -> None:
        """Be in these channels and no others."""
        self.conversation.want(channels, self._clock.monotonic())
        self._wake.call()

    def close(self) -> None:
        """End the connection; what was read is still handed on."""
        self._closing = True
        self._wake.call()

    async def run(self) -> None:
        """Hold the connection until ``close``. Raises NetworkError when it cannot be opened, breaks or falls silent."""
        reader, writer = await self._open()
        try:
            self.heard_ms = self._now_ms()
            self.conversation.begin(self._clock.monotonic())
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, reader, writer)
                await self._keep_time(writer)
                # A delivery that is on is let finish: the reader ends by itself after it.
                if not self._delivering:
                    tasks.cancel_scope.cancel()
        finally:
            # TLS's own farewell would wait for a peer that may be gone.
            writer.transport.abort()
        if self.conversation.failure is not None:
            raise NetworkError(f"{self.conversation.failure}.", code="chat")

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        where = f"{self._address.host}:{self._address.port}"
        try:
            with anyio.fail_after(CONNECT_TIMEOUT_S):
                return await asyncio.open_connection(
                    self._address.host, self._address.port, ssl=self._tls if self._address.tls else None
                )
        except TimeoutError as error:
            raise NetworkError(f"Twitch's chat does not answer in time ({where}).") from error
        except OSError as error:
            raise NetworkError(f"Twitch's chat cannot be reached ({where}): {_why(error)}.") from error

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = self.conversation
        while not self._closing and conversation.failure is None:
            try:
                chunk = await reader.read(_CHUNK_BYTES)
            except OSError as error:
                conversation.failure = f"The connection to Twitch's chat broke: {_why(error)}"
                break
            if not chunk:
                conversation.failure = "Twitch closed the connection"
                break
            received_ms = self.heard_ms = self._now_ms()
            chat = conversation.receive(self.splitter.feed(chunk), self._clock.monotonic())
            events = conversation.take_events()
            self._send(writer)
            self._delivering = True
            # What was said after a JOIN belongs to the time in the channel, and what was said before a PART too.
            for event in events:
                if isinstance(event, Joined | Welcomed):
                    await self._on_event(event, received_ms)
            if chat:
                await self._sink.lines(chat, received_ms)
            for event in events:
                if not isinstance(event, Joined | Welcomed):
                    await self._on_event(event, received_ms)
            self._delivering = False
            conversation.busy(self._clock.monotonic())
            if events:
                self._wake.call()
        self._wake.call()

    async def _keep_time(self, writer: asyncio.StreamWriter) -> None:
        conversation = self.conversation
        while not self._closing:
            now_s = self._clock.monotonic()
            if self._delivering:
                conversation.busy(now_s)
            conversation.tick(now_s)
            self._send(writer)
            for event in conversation.take_events():
                await self._on_event(event, self._now_ms())
            if conversation.failure is not None:
                return
            await self._wake.wait(max(0.0, conversation.due_s(now_s) - now_s))

    def _send(self, writer: asyncio.StreamWriter) -> None:
        outgoing = self.conversation.take_bytes()
        if outgoing and not writer.is_closing():
            # Not drained: it is a few hundred bytes, and a peer that takes nothing is found by its silence.
            writer.write(outgoing)

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


def _why(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__
