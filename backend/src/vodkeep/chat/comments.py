"""Fetches a VOD's own chat over the shared HTTP session: bounded in time and size, and patient within limits."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp

from vodkeep.chat.comment_pages import Ask, CursorRefused, Page, RangeReader, ServiceFault, Taken, question, read_page
from vodkeep.clock import Clock
from vodkeep.errors import CredentialsError, NetworkError, ServerError, TransientError
from vodkeep.telemetry.log import Logger


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long one page is tried. Times in seconds."""

    attempts: int = 5
    total_s: float = 90.0
    exchange_s: float = 30.0
    connect_s: float = 10.0
    read_s: float = 15.0  # silence on the connection
    backoff_base_s: float = 0.5
    backoff_cap_s: float = 15.0
    max_body_bytes: int = 4 * 1024 * 1024  # a page has about 60 kB


class CommentsClient:
    """Reads comments from ``gql_url`` with the public web client's id; needs no account."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        gql_url: str,
        client_id: str,
        clock: Clock,
        rng: random.Random,
        log: Logger,
        patience: Patience | None = None,
    ) -> None:
        self._session = session
        self._url = gql_url
        self._client_id = client_id
        self._clock = clock
        self._rng = rng
        self._log = log
        self._patience = patience or Patience()

    async def read(self, video_id: str, start_ms: int, end_ms: int) -> AsyncIterator[Taken]:
        """What was said from ``start_ms`` to ``end_ms`` of the video, in order, page by page.

        The last page says that everything up to ``end_ms`` is known, but for the holes that were told. A comment may
        come twice. Raises `PermanentError` when there is no chat to be had, else transient errors once patience is at
        an end; what was handed out until then stands.
        """
        reader = RangeReader(start_ms, end_ms)
        while not reader.is_done:
            try:
                page = await self._fetch(video_id, reader.ask)
            except CursorRefused:
                if reader.ask.cursor is None:
                    raise
                self._log.debug("comments are read by offset", vod_id=video_id)
                reader.refuse_cursor()
                continue
            except ServiceFault:
                if not reader.ask.is_probe:
                    raise
                reader.end_unconfirmed()
                yield Taken((), end_ms)
                return
            yield reader.take(page)

    async def _fetch(self, video_id: str, ask: Ask) -> Page:
        began = self._clock.monotonic()
        tries = 0
        while True:
            tries += 1
            try:
                return await self._exchange(question(video_id, ask))
            except CursorRefused:
                # At times it is refused once and granted the next moment; an offset never needs it.
                raise
            except CredentialsError:
                raise
            except TransientError as error:
                wait_s = self._wait_s(error, tries, self._clock.monotonic() - began)
                if wait_s is None:
                    raise
                self._log.debug("comments are asked for again", vod_id=video_id, error=str(error), attempt=tries)
            await self._clock.sleep(wait_s)

    def _wait_s(self, error: TransientError, tries: int, elapsed_s: float) -> float | None:
        """Full jitter up to a doubling cap, on top of what the other side asked for; None: give up."""
        patience = self._patience
        if tries >= patience.attempts:
            return None
        cap = min(patience.backoff_cap_s, patience.backoff_base_s * 2 ** (tries - 1))
        wait_s = (error.delay_s or 0.0) + self._rng.uniform(0.0, cap)
        return wait_s if elapsed_s + wait_s < patience.total_s else None

    async def _exchange(self, body: bytes) -> Page:
        limits = self._patience
        timeout = aiohttp.ClientTimeout(
            total=limits.exchange_s, connect=limits.connect_s, sock_connect=limits.connect_s, sock_read=limits.read_s
        )
        try:
            async with self._session.post(
                self._url,
                data=body,
                headers={"Client-ID": self._client_id, "Content-Type": "application/json"},
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                answer = bytearray()
                async for chunk in response.content.iter_chunked(64 * 1024):
                    answer += chunk
                    if len(answer) > limits.max_body_bytes:
                        raise ServerError(f"Twitch's GQL answers with more than {limits.max_body_bytes} bytes.")
                headers = {name.lower(): value for name, value in response.headers.items()}
                status = response.status
        except TimeoutError as error:
            raise NetworkError("Twitch's GQL does not answer in time.") from error
        except (aiohttp.ClientError, OSError) as error:
            raise NetworkError(f"Twitch's GQL gave no answer: {type(error).__name__}.") from error
        return read_page(status, headers, bytes(answer))
