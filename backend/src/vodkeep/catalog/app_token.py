"""The app access token: fetched when first needed, kept, renewed once when refused, never hammered for."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio

from vodkeep.catalog.helix import Answer, AppToken, Request, app_token_from, token_request
from vodkeep.clock import Clock
from vodkeep.errors import CredentialsError, VodkeepError
from vodkeep.telemetry.log import Logger

RENEW_BEFORE_END_S = 300.0
"""A token is replaced this long before it ends, so that no call meets an expired one."""

REFUSAL_BASE_S = 5.0
REFUSAL_CAP_S = 300.0
"""After a refusal the next try waits 5 s, then twice as long each time, at most 5 minutes."""


@dataclass(frozen=True, slots=True)
class AppCredentials:
    """The application registered with Twitch; the secret is never printed."""

    client_id: str
    client_secret: str = field(repr=False)


class AppTokens:
    """Hands out the app access token.

    One lock covers all fetching: whoever arrives while a fetch is under way shares its outcome, success or failure.
    A refusal is remembered, and until its interval is over every call fails at once without a request.
    """

    def __init__(
        self,
        credentials: AppCredentials | None,
        send: Callable[[Request], Awaitable[Answer]],
        clock: Clock,
        log: Logger,
    ) -> None:
        """``send`` makes one exchange with the OAuth base URL."""
        self._credentials = credentials
        self._send = send
        self._clock = clock
        self._log = log
        self._lock = anyio.Lock()
        self._token: AppToken | None = None
        self._ends_at = 0.0  # monotonic; when the token is to be replaced
        self._fetches = 0  # ended, well or not
        self._failure: VodkeepError | None = None  # how the last fetch ended
        self._refusals = 0  # in a row
        self._refused_until = 0.0  # monotonic
        self._refusal = ""

    @property
    def client_id(self) -> str:
        """The client id. Raises CredentialsError if none is configured."""
        return self._configured().client_id

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never appear in a log line or an error."""
        credentials = () if self._credentials is None else (self._credentials.client_secret,)
        return credentials if self._token is None else (*credentials, self._token.value)

    async def get(self, stale: AppToken | None = None) -> AppToken:
        """The token, fetched with one exchange if there is none, or if the kept one is ``stale`` (was refused).

        Raises CredentialsError while a refusal is being waited out, and whatever the one exchange raises.
        """
        if (token := self._kept(stale)) is not None:
            self._check_refusal()
            return token
        fetches = self._fetches
        async with self._lock:
            if (token := self._kept(stale)) is not None:
                return token
            self._check_refusal()
            if self._fetches != fetches and self._failure is not None:
                raise copy.copy(self._failure)
            return await self._fetch()

    def refused(self, error: CredentialsError) -> CredentialsError:
        """Remember that Twitch refuses us; returns the error to raise, which says when the next try is made."""
        wait_s = self._refused_until - self._clock.monotonic()
        if wait_s <= 0:  # else several calls met the same refusal, which counts once
            wait_s = min(REFUSAL_CAP_S, REFUSAL_BASE_S * 2 ** min(self._refusals, 16))
            self._refusals += 1
            self._refused_until = self._clock.monotonic() + wait_s
            self._refusal = str(error)
            self._log.warning("twitch credentials refused", error=str(error), retry_s=wait_s)
        return CredentialsError(str(error), remedy=error.remedy, delay_s=wait_s)

    def accepted(self) -> None:
        """Remember that Twitch took the token: the next refusal starts a new series."""
        self._refusals = 0

    async def _fetch(self) -> AppToken:
        credentials = self._configured()
        self._token = self._failure = None
        try:
            answer = await self._send(token_request(credentials.client_id, credentials.client_secret))
            token = app_token_from(answer, now=self._clock.now(), hide=(credentials.client_secret,))
        except CredentialsError as error:
            self._failure = self.refused(error)
            raise self._failure from error
        except VodkeepError as error:
            self._failure = error
            raise
        finally:
            self._fetches += 1
        self._failure = None
        self._token = token
        lifetime_s = float("inf") if token.lifetime is None else token.lifetime.total_seconds()
        # A token that lives shorter than the margin is used up to half of its life.
        self._ends_at = self._clock.monotonic() + max(lifetime_s - RENEW_BEFORE_END_S, lifetime_s / 2)
        self._log.info("twitch app token acquired", tail=token.tail)
        return token

    def _kept(self, stale: AppToken | None) -> AppToken | None:
        if self._token is None or self._token is stale or self._clock.monotonic() >= self._ends_at:
            return None
        return self._token

    def _check_refusal(self) -> None:
        wait_s = self._refused_until - self._clock.monotonic()
        if wait_s > 0:
            raise CredentialsError(
                self._refusal,
                remedy="Check TWITCH_CLIENT_ID and TWITCH_CLIENT_SECRET; the next try is made by itself.",
                delay_s=wait_s,
            )

    def _configured(self) -> AppCredentials:
        if self._credentials is None:
            raise CredentialsError(
                "TWITCH_CLIENT_ID and TWITCH_CLIENT_SECRET are not set, so Twitch cannot be asked for videos.",
                remedy="Register an application at https://dev.twitch.tv/console and set both.",
            )
        return self._credentials
