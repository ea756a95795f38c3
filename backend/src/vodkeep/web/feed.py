"""What happens, as it happens: one stream of server-sent events for everybody who listens.

(https://html.spec.whatwg.org/multipage/server-sent-events.html)

All who listen share one look at the database a second, and while nobody does there is none. What is found goes into a
short memory, from which each client takes what it has not had; a client that is so slow that its place in it is
forgotten is cut off, and so is one that takes nothing for half a minute. It comes back with ``Last-Event-ID`` and gets
what it missed out of the database.

The number of an event is given when it is written and not when it is committed, so a smaller one may be seen after a
greater one. The last seconds are therefore looked through again each time; and whoever comes back gets the events of
these seconds again, whose ids tell that they are the same.
"""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vodkeep.accounts.model import ConnectionState
from vodkeep.clock import Clock
from vodkeep.db.events import Event
from vodkeep.errors import DatabaseUnavailable
from vodkeep.web.reading import Figures, StatusReader
from vodkeep.web.schema import LiveProgress, RetryConfig, Work, active_of, feed_event_of, status_of

LOOK_S = 1.0
"""How often the database is asked what is new."""

HEARTBEAT_S = 15.0
MOST_MISSED = 2_000
"""Whoever missed more is told to begin anew (``reset``)."""

# How long after an event one with a smaller number may still be committed.
_UNSETTLED_S = 15.0
_FIGURES_S = 2.0
_MEMORY = 1_000
_REREAD = 200
_SEND_LIMIT_S = 30.0
_RETRY_MS = 2_000


@dataclass(frozen=True, slots=True)
class _Item:
    """A thing to tell: as it goes over the wire."""

    wire: bytes
    event_id: int | None = None  # of a line of a timeline


class Feed:
    """The stream of one application."""

    def __init__(
        self,
        reader: StatusReader,
        work: Work,
        accounts: Callable[[], Awaitable[Sequence[ConnectionState]]],
        clock: Clock,
        *,
        retry: RetryConfig,
        version: str,
    ) -> None:
        self._reader = reader
        self._work = work
        self._accounts = accounts
        self._clock = clock
        self._retry = retry
        self._version = version
        self._memory: deque[_Item] = deque(maxlen=_MEMORY)
        self._told = 0  # how many items were ever put into the memory
        self._looking = anyio.Lock()
        self._looked_at: float | None = None
        self._seen: dict[int, float] = {}  # events of the last seconds, and when they were first seen
        self._floor = 0  # all events up to here are settled
        self._figures: Figures | None = None
        self._connections: Sequence[ConnectionState] = ()
        self._figures_at = 0.0
        self._last: dict[str, bytes] = {}  # the latest of each kind that is only told when it changes

    async def newest(self) -> int:
        """The number of the latest event; raises ``DatabaseUnavailable``."""
        return await self._reader.newest_event()

    async def listen(self, after: int | None) -> AsyncIterator[bytes]:
        """What goes over the wire to one client, for as long as it listens.

        ``after`` is the last event it has had; without it the stream begins with how things stand now.
        """
        yield f"retry: {_RETRY_MS}\n\n".encode()
        await self._look()
        place = self._told
        skipped: set[int] = set()
        if after is not None:
            missed = await self._missed(after)
            if missed is None:
                yield b"event: reset\ndata: {}\n\n"
            else:
                skipped = {event.id for event in missed}
                for event in missed:
                    yield _line(event).wire
        for wire in self._last.values():
            yield wire
        heard_at = self._clock.monotonic()
        while True:
            await self._clock.sleep(LOOK_S)
            await self._look()
            behind = self._told - place
            if behind > len(self._memory):
                return  # Too slow. It comes back.
            new = list(itertools.islice(self._memory, len(self._memory) - behind, None))
            place = self._told
            for item in new:
                if item.event_id is None or item.event_id not in skipped:
                    heard_at = self._clock.monotonic()
                    yield item.wire
            if self._clock.monotonic() - heard_at >= HEARTBEAT_S:
                heard_at = self._clock.monotonic()
                yield b": still here\n\n"

    async def _look(self) -> None:
        """Put what is new into the memory, unless somebody has done so within this second."""
        async with self._looking:
            now = self._clock.monotonic()
            if self._looked_at is not None and now - self._looked_at < LOOK_S / 2:
                return
            is_first = self._looked_at is None or now - self._looked_at > _UNSETTLED_S
            self._looked_at = now
            try:
                if is_first:
                    await self._begin(now)
                else:
                    await self._take_events(now)
                if self._figures is None or now - self._figures_at >= _FIGURES_S:
                    self._connections = await self._accounts()
                    self._figures = await self._reader.figures()
                    self._figures_at = now
            except DatabaseUnavailable as error:
                self._changed("away", _sse("away", json.dumps({"code": error.code, "sentence": str(error)})))
                return
            self._last.pop("away", None)
            self._tell_figures(self._figures, self._work.progress())

    async def _begin(self, now: float) -> None:
        """Nobody has listened for a while: what happened since is nobody's news."""
        newest = await self._reader.newest_event()
        self._floor = max(0, newest - _REREAD)
        self._seen = {event.id: now for event in await self._reader.events_after(self._floor, limit=MOST_MISSED)}

    async def _take_events(self, now: float) -> None:
        found = await self._reader.events_after(self._floor, limit=MOST_MISSED)
        for event in found:
            if event.id not in self._seen:
                self._seen[event.id] = now
                self._put(_line(event))
        if len(found) == MOST_MISSED:
            # A whole catalog is being discovered. What comes behind must not wait for these to settle.
            self._floor, self._seen = found[-1].id, {}
        settled = [number for number, seen_at in self._seen.items() if now - seen_at > _UNSETTLED_S]
        if settled:
            self._floor = max(self._floor, *settled)
            self._seen = {number: at for number, at in self._seen.items() if number > self._floor}

    async def _missed(self, after: int) -> list[Event] | None:
        """The events a client has not had, or may not have had; None when they are too many or it makes them up."""
        unsettled = min((number for number in self._seen if number <= after), default=after + 1)
        try:
            if after > await self._reader.newest_event():
                return None
            missed = await self._reader.events_after(min(after, unsettled - 1), limit=MOST_MISSED + 1)
        except DatabaseUnavailable:
            return None
        return missed if len(missed) <= MOST_MISSED else None

    def _tell_figures(self, figures: Figures, live: Mapping[str, LiveProgress]) -> None:
        status = status_of(figures, live, self._retry, self._version, self._connections)
        self._changed("status", _sse("status", status.model_dump_json(exclude={"active"})))
        active = ",".join(each.model_dump_json() for each in active_of(figures, live))
        self._changed("progress", _sse("progress", f'{{"active":[{active}]}}'))

    def _changed(self, kind: str, wire: bytes) -> None:
        if self._last.get(kind) != wire:
            self._last[kind] = wire
            self._put(_Item(wire))

    def _put(self, item: _Item) -> None:
        self._memory.append(item)
        self._told += 1


class EventStream(Response):
    """An answer that goes on for as long as the client takes what it is sent."""

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the stream ends, the client goes away, or takes nothing for half a minute."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_wait_until_gone, receive, tasks.cancel_scope)
            await self._send_all(send)
            tasks.cancel_scope.cancel()

    async def _send_all(self, send: Send) -> None:
        async for chunk in self._chunks:
            with anyio.move_on_after(_SEND_LIMIT_S) as limit:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if limit.cancelled_caught:
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _wait_until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _line(event: Event) -> _Item:
    told = feed_event_of(event).model_dump_json()
    return _Item(f"id: {event.id}\n".encode() + _sse("timeline", told), event.id)


def _sse(kind: str, told: str) -> bytes:
    # Line breaks in JSON are only ever between its parts, and inside its texts they are escaped.
    return f"event: {kind}\ndata: {told}\n\n".encode()
