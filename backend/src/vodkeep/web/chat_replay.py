"""A chat as it happened, as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

The server paces by its clock and reads a window ahead; between two windows it holds nothing of the database. What falls
within a quarter of a second is one event, whose id is the number of its last message, so that a browser that lost the
connection goes on right behind it. A comment is sent when nothing else was for a while, so that no proxy takes
the silence for an end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator

import msgspec

from vodkeep.chat.reading import ChatReader, ReplayLine, ReplayPiece, View
from vodkeep.clock import Clock
from vodkeep.errors import DatabaseUnavailable

PIECE = 500
"""Messages read at once, and in one event at most."""

COALESCE_S = 0.25
HEARTBEAT_S = 15.0

# How often a broadcast that is still recorded is asked for what was said since.
_LIVE_S = 1.0
_AWAY_S = 2.0

_RETRY_MS = 2000


class Replay:
    """One replay: of an item, from where ``first`` begins, at ``speed`` times its own pace."""

    def __init__(
        self, reader: ChatReader, clock: Clock, vod_id: str, first: ReplayPiece, *, speed: float, view: View
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._vod_id = vod_id
        self._speed = speed
        self._view = view
        self._waiting: deque[ReplayLine] = deque()
        self._chatters: dict[str, msgspec.Raw] = {}
        self._recording = True
        self._start_ms = first.start_ms
        self._offset_ms = first.start_ms  # of the last message sent
        self._cursor: str | None = None  # behind the last message read
        self._take(first)

    async def events(self, cursor: str | None) -> AsyncIterator[bytes]:
        """What goes over the wire, until the chat ends; ``cursor`` is where it began, if not at an offset."""
        self._cursor = self._cursor or cursor
        began_at = heard_at = self._clock.monotonic()
        yield f"retry: {_RETRY_MS}\n\n".encode()
        while True:
            wait_s = 0.0
            now = self._clock.monotonic()
            if not self._waiting:
                more = await self._read_on()
                if more is False and not self._recording:
                    yield f'event: end\ndata: {{"offset_ms":{self._offset_ms}}}\n\n'.encode()
                    return
                wait_s = 0.0 if more else _LIVE_S if more is False else _AWAY_S
            else:
                reached_ms = self._start_ms + (now - began_at) * 1000 * self._speed
                due = self._due(reached_ms)
                if due:
                    heard_at = now
                    yield self._event(due)
                    wait_s = COALESCE_S
                else:
                    wait_s = max(COALESCE_S, (self._waiting[0].offset_ms - reached_ms) / 1000 / self._speed)
            if now - heard_at >= HEARTBEAT_S:
                heard_at = now
                yield b": still here\n\n"
            if wait_s:
                await self._clock.sleep(min(wait_s, HEARTBEAT_S - (now - heard_at)))

    async def _read_on(self) -> bool | None:
        """Read the next piece; whether there was one, None while the database is away."""
        try:
            piece = await self._reader.piece(
                self._vod_id,
                limit=PIECE,
                offset_ms=None if self._cursor else self._start_ms,
                cursor=self._cursor,
                view=self._view,
            )
        except DatabaseUnavailable:
            return None
        if piece is None:
            self._recording = False
            return False
        self._take(piece)
        return bool(piece.lines)

    def _take(self, piece: ReplayPiece) -> None:
        self._waiting.extend(piece.lines)
        self._chatters = msgspec.json.decode(piece.chatters, type=dict[str, msgspec.Raw])
        self._recording = piece.recording
        if piece.lines:
            self._cursor = str(piece.lines[-1].number)

    def _due(self, reached_ms: float) -> list[ReplayLine]:
        due = []
        while self._waiting and self._waiting[0].offset_ms <= reached_ms:
            due.append(self._waiting.popleft())
        return due

    def _event(self, lines: list[ReplayLine]) -> bytes:
        self._offset_ms = lines[-1].offset_ms
        messages = ",".join(line.json for line in lines)
        names = dict.fromkeys(str(line.chatter) for line in lines)
        chatters = msgspec.json.encode({name: self._chatters[name] for name in names if name in self._chatters})
        # Line breaks in JSON are only ever between its parts.
        data = f'{{"messages":[{messages}],"chatters":{chatters.decode()}}}'.replace("\r", " ").replace("\n", " ")
        return f"id: {lines[-1].number}\nevent: messages\ndata: {data}\n\n".encode()
