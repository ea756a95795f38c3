"""The Helix client: sends what ``helix.py`` prepares, with one token, one rate limit and one level of retries."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Iterable
from datetime import datetime
from typing import Literal, TypeVar

import aiohttp

from vodkeep.catalog import helix
from vodkeep.catalog.app_token import AppCredentials, AppTokens
from vodkeep.catalog.exchange import exchange
from vodkeep.catalog.helix import Answer, LiveStreams, Request, Unreadable, VideoPage
from vodkeep.catalog.model import BroadcasterId, Channel, Stream, Video, VodId
from vodkeep.catalog.rate_limit import RateBudget
from vodkeep.catalog.retrying import RetryLimits, wait_before_retry_s
from vodkeep.clock import Clock
from vodkeep.errors import NetworkError, RateLimited, ServerError
from vodkeep.telemetry.log import Logger

_T = TypeVar("_T")


class HelixClient:
    """Twitch's Helix API.

    Every method raises CredentialsError (our id or secret is refused), RateLimited (told to wait beyond the
    deadline; ``delay_s`` says how long), NetworkError or ServerError (still failing after the bounded retries) or
    PermanentError (Helix refuses the request itself). None of them ever looks like an empty answer.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        credentials: AppCredentials | None,
        api_url: str,
        auth_url: str,
        clock: Clock,
        rng: random.Random,
        log: Logger,
        limits: RetryLimits | None = None,
    ) -> None:
        """``api_url`` and ``auth_url`` are the bases of Helix and of OAuth; no ``credentials``: every call says so."""
        self._session = session
        self._api_url = api_url
        self._auth_url = auth_url
        self._clock = clock
        self._rng = rng
        self._log = log.bind(component="twitch_helix")
        self._limits = limits or RetryLimits()
        self._tokens = AppTokens(credentials, self._send_to_auth, clock, self._log)
        self._budget = RateBudget()

    async def users(self, logins: Iterable[str] = (), ids: Iterable[BroadcasterId] = ()) -> tuple[Channel, ...]:
        """The accounts that exist among those asked for, in no particular order."""
        found: dict[BroadcasterId, Channel] = {}
        for request in helix.user_requests(logins, ids):
            for channel in await self._call(
                request, lambda answer: helix.channels_from(answer, now=self._now(), hide=self._tokens.secrets)
            ):
                found[channel.id] = channel
        return tuple(found.values())

    async def streams(self, logins: Iterable[str] = (), ids: Iterable[BroadcasterId] = ()) -> LiveStreams:
        """Who is live among those asked for; all batches or none."""
        streams: dict[BroadcasterId, Stream] = {}
        unreadable: list[Unreadable] = []
        for request in helix.stream_requests(logins, ids):
            live = await self._call(
                request, lambda answer: helix.live_streams_from(answer, now=self._now(), hide=self._tokens.secrets)
            )
            streams.update((stream.broadcaster_id, stream) for stream in live.streams)
            unreadable += live.unreadable
        for entry in unreadable:
            self._log.warning("twitch stream entry unreadable", stream_id=entry.id, reason=entry.reason)
        return LiveStreams(tuple(streams.values()), tuple(unreadable))

    async def video(self, video_id: VodId) -> Video | None:
        """One video, or None if Helix says that there is none with this id."""
        return await self._call(
            helix.video_request(video_id),
            lambda answer: helix.video_from(answer, now=self._now(), hide=self._tokens.secrets),
        )

    async def video_page(self, broadcaster_id: BroadcasterId, after: str | None = None) -> VideoPage:
        """A page of up to 100 recordings of a channel, newest first, starting after the cursor ``after``.

        Raises PermanentError with code ``invalid_cursor`` if Helix no longer accepts the cursor. Entries that
        cannot be read are logged and left out.
        """
        page = await self._call(
            helix.video_page_request(broadcaster_id, after),
            lambda answer: helix.video_page_from(
                answer, broadcaster_id, after=after, now=self._now(), hide=self._tokens.secrets
            ),
        )
        for entry in page.unreadable:
            self._log.warning("twitch video entry skipped", video_id=entry.id, reason=entry.reason)
        for entry in page.remarks:
            self._log.warning("twitch video entry odd", video_id=entry.id, reason=entry.reason)
        return page

    async def videos(self, broadcaster_id: BroadcasterId, after: str | None = None) -> AsyncGenerator[VideoPage, None]:
        """All pages from ``after`` on; raises ServerError if the list leads back to a page already read."""
        seen = {after}
        while True:
            page = await self.video_page(broadcaster_id, after)
            yield page
            if page.cursor is None:
                return
            if page.cursor in seen:
                raise ServerError("Twitch's list of videos leads in a circle.")
            seen.add(page.cursor)
            after = page.cursor

    async def chat_document(self, what: Literal["emotes", "badges"], broadcaster_id: str | None) -> bytes:
        """What Helix says about the emotes or badges of a channel, or with None about the global ones, as JSON."""
        return await self._call(
            helix.chat_request(what, None if broadcaster_id is None else BroadcasterId(broadcaster_id)),
            lambda answer: helix.body_from(answer, now=self._now(), hide=self._tokens.secrets),
        )

    async def _call(self, request: Request, process: Callable[[Answer], _T]) -> _T:
        """Send until ``process`` accepts the answer, within the limits; the only place that retries."""
        began = self._clock.monotonic()
        renewed = False
        attempt = 0
        while True:
            try:
                token = await self._tokens.get()
                await self._await_budget(began)
                answer = await self._send_to_api(request, token.value, began)
                if answer.status == 401 and not renewed:
                    renewed = True
                    token = await self._tokens.get(stale=token)
                    answer = await self._send_to_api(request, token.value, began)
                if answer.status == 401:
                    # Refused with a fresh token: asking again at once would only be refused again.
                    raise self._tokens.refused(helix.token_refusal_of(answer, hide=self._tokens.secrets))
                result = process(answer)
            except (NetworkError, ServerError, RateLimited) as error:
                attempt += 1
                wait_s = wait_before_retry_s(
                    error,
                    attempt=attempt,
                    elapsed_s=self._clock.monotonic() - began,
                    limits=self._limits,
                    rng=self._rng,
                )
                if wait_s is None:
                    raise
                self._log.info(
                    "twitch call retried", path=request.path, attempt=attempt, wait_s=round(wait_s, 3), error=str(error)
                )
                await self._clock.sleep(wait_s)
            else:
                self._tokens.accepted()
                return result

    async def _await_budget(self, began: float) -> None:
        """Wait for the reset when nothing is left. Raises RateLimited if that lies beyond the deadline."""
        while (wait_s := self._budget.wait_s(self._clock.monotonic())) > 0:
            if self._clock.monotonic() - began + wait_s >= self._limits.total_s:
                raise RateLimited("Twitch's rate limit is used up until its reset.", delay_s=wait_s)
            self._log.info("twitch rate limit used up", wait_s=round(wait_s, 3))
            await self._clock.sleep(wait_s)

    async def _send_to_api(self, request: Request, token: str, began: float) -> Answer:
        headers = (("Authorization", f"Bearer {token}"), ("Client-Id", self._tokens.client_id))
        signed = Request(request.method, request.path, request.query, request.form, headers)
        left_s = self._limits.total_s - (self._clock.monotonic() - began)
        with self._budget.request() as sent:
            answer = await exchange(
                self._session,
                self._api_url,
                signed,
                limits=self._limits,
                timeout_s=min(self._limits.exchange_s, max(1.0, left_s)),
            )
            sent.answered(answer.headers, now=self._now(), monotonic=self._clock.monotonic())
        return answer

    async def _send_to_auth(self, request: Request) -> Answer:
        return await exchange(
            self._session, self._auth_url, request, limits=self._limits, timeout_s=self._limits.exchange_s
        )

    def _now(self) -> datetime:
        return self._clock.now()
