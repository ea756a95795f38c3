"""Sending a file into an upload session, whatever breaks on the way.

A chunk is one PUT, streamed from the file in pieces, so that memory does not depend on its size. When a PUT breaks, the
server is asked how much it keeps, and only what it lacks is sent again; so of every break at most one chunk goes out
twice. Tries are bounded: what makes no progress several times in a row ends with the last error, for the caller's own
retries. Everything but broken connections, refused tokens and errors of the server ends the sending at once.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import anyio

from vodkeep.clock import Clock
from vodkeep.errors import NetworkError, ServerError, VodkeepError
from vodkeep.publish.calls import Calls
from vodkeep.publish.exchange import Answer, Limits
from vodkeep.publish.model import Committed, Finished, SessionGone
from vodkeep.publish.resources import Video, decoded
from vodkeep.publish.resumable import chunk_end, chunk_headers, kept_bytes, question_headers
from vodkeep.publish.source_file import SourceFile
from vodkeep.rate import RateLimiter

INSERT = "videos.insert"
_ASKING = "asking how far an upload is"
_SENDING = "sending a chunk"
_PIECE_BYTES = 1024 * 1024
# Small enough for an even flow on a limited line.
_LIMITED_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Persistence:
    """How often and after what waits a broken chunk is taken up again."""

    failures: int = 6  # in a row without any progress, before the error is the caller's
    backoff_base_s: float = 1.0
    backoff_cap_s: float = 60.0

    def wait_s(self, failures: int, error: VodkeepError | None, rng: random.Random) -> float:
        """Seconds to wait after so many failures in a row: full jitter, on top of what the server asked for."""
        asked = getattr(error, "delay_s", None) or 0.0
        return asked + rng.uniform(0.0, min(self.backoff_cap_s, self.backoff_base_s * 2.0 ** (failures - 1)))


@dataclass(frozen=True, slots=True)
class Watchers:
    """Who is told about an upload."""

    on_sent: Callable[[int], None]  # the position in the file up to which bytes went out; may step back after a break
    on_committed: Callable[[int], Awaitable[None]]  # how much YouTube keeps, whenever that has changed
    confirm: Callable[[], Awaitable[None]]  # before each chunk; raises when the upload is not ours any more


class Uploader:
    """Asks and fills upload sessions."""

    def __init__(
        self,
        calls: Calls,
        *,
        limiter: RateLimiter,
        clock: Clock,
        rng: random.Random,
        limits: Limits,
        persistence: Persistence,
        chunk_bytes: int,
    ) -> None:
        self._calls = calls
        self._limiter = limiter
        self._clock = clock
        self._rng = rng
        self._limits = limits
        self._persistence = persistence
        self._chunk_bytes = chunk_bytes

    async def ask(self, session_uri: str, size_bytes: int) -> Committed | Finished:
        """How much of an upload YouTube keeps. Raises SessionGone, and what calls raise."""
        answer = await self._calls.send("PUT", session_uri, doing=_ASKING, headers=question_headers(size_bytes))
        return await self._state_of(answer, size_bytes)

    async def send(
        self, session_uri: str, source: SourceFile, content_type: str, *, size_bytes: int, start: int, watch: Watchers
    ) -> Finished:
        """Send everything from ``start`` on; see the module for what is tried again."""
        position = furthest = start
        failures = 0
        while True:
            failure: VodkeepError | None = None
            state: Committed | Finished
            try:
                await watch.confirm()
                state = await self._send_chunk(session_uri, source, content_type, size_bytes, position, watch)
            except (NetworkError, ServerError) as error:
                failure = error
                state = await self._state_after(failure, failures, session_uri, size_bytes)
            if isinstance(state, Finished):
                return state
            if state.bytes != position:
                await watch.on_committed(state.bytes)
            position = state.bytes
            if position > furthest:
                furthest, failures = position, 0
                continue
            failures += 1
            if failure is not None and failures > self._persistence.failures:
                raise failure

    async def _state_after(
        self, failure: VodkeepError, failures: int, session_uri: str, size_bytes: int
    ) -> Committed | Finished:
        """What is kept after a chunk broke, once YouTube answers again; ``failures`` chunks broke before it.

        Raises the last error when it does not.
        """
        for attempt in range(failures + 1, self._persistence.failures + 2):
            await self._clock.sleep(self._persistence.wait_s(attempt, failure, self._rng))
            try:
                return await self.ask(session_uri, size_bytes)
            except (NetworkError, ServerError) as error:
                failure = error
        raise failure

    async def _send_chunk(
        self, session_uri: str, source: SourceFile, content_type: str, size_bytes: int, start: int, watch: Watchers
    ) -> Committed | Finished:
        end = chunk_end(start, size_bytes, self._chunk_bytes)
        unreadable: list[VodkeepError] = []
        first_s = self._limits.connect_s + self._limits.stall_s
        with anyio.CancelScope(deadline=anyio.current_time() + first_s) as line:
            body = self._pieces(source, start, end, line, watch, unreadable)
            try:
                answer = await self._calls.send_once(
                    "PUT",
                    session_uri,
                    doing=_SENDING,
                    headers=chunk_headers(start, end, size_bytes, content_type),
                    content=body,
                )
            except NetworkError:
                if unreadable:  # The line is fine, the file is not.
                    raise unreadable[0] from None
                raise
        if line.cancelled_caught:
            raise NetworkError(f"YouTube takes nothing any more ({_SENDING}).")
        if self._calls.is_token_refused(answer):
            # The next request takes another token; where to go on is asked with it.
            raise NetworkError(f"YouTube refused the access token in the middle ({_SENDING}).")
        state = await self._state_of(answer, size_bytes)
        if isinstance(state, Committed) and state.bytes <= start:
            # What a proxy or a confused server may say; the question that follows tells.
            raise ServerError("YouTube keeps nothing of what it is sent.")
        return state

    async def _pieces(
        self,
        source: SourceFile,
        start: int,
        end: int,
        line: anyio.CancelScope,
        watch: Watchers,
        unreadable: list[VodkeepError],
    ) -> AsyncIterator[bytes]:
        """The bytes of a chunk; ``line`` is given up when one of them is not taken in time."""
        most = _LIMITED_PIECE_BYTES if self._limiter.is_limited else _PIECE_BYTES
        position = start
        while position < end:
            try:
                piece = await source.read(position, min(most, end - position))
            except VodkeepError as error:
                unreadable.append(error)
                raise
            wait_s = self._limiter.take(len(piece))
            if wait_s > 0:
                line.deadline = anyio.current_time() + wait_s + self._limits.stall_s
                await self._clock.sleep(wait_s)
            line.deadline = anyio.current_time() + self._limits.stall_s
            yield piece
            position += len(piece)
            watch.on_sent(position)
        line.deadline = anyio.current_time() + self._limits.finish_s

    async def _state_of(self, answer: Answer, size_bytes: int) -> Committed | Finished:
        if answer.status == 308:
            kept = kept_bytes(answer.headers, size_bytes)
            if kept is None:
                raise ServerError("YouTube says in no way we know how much of an upload it keeps.")
            return Committed(kept)
        if answer.status in (200, 201):
            return Finished(decoded(answer.body, Video).id)
        # 499 is the answer for a session that was given up (https://cloud.google.com/storage/docs/resumable-uploads).
        if answer.status in (404, 410, 499):
            raise SessionGone
        raise await self._calls.error_of(answer, INSERT)
