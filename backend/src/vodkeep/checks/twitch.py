"""Twitch: can it be reached, does it take our credentials, do the channels exist, and is our clock right."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp

from vodkeep.capture.client import TwitchGql
from vodkeep.catalog.app_token import AppCredentials
from vodkeep.catalog.client import HelixClient
from vodkeep.catalog.exchange import exchange
from vodkeep.catalog.helix import Answer, Request
from vodkeep.catalog.retrying import RetryLimits
from vodkeep.checks.model import Check, Found, State, some
from vodkeep.clock import Clock
from vodkeep.errors import CredentialsError, NetworkError, RateLimited, ServerError
from vodkeep.settings import TwitchSettings
from vodkeep.telemetry.log import Logger

# A person waits: two tries, and no long pauses.
_LIMITS = RetryLimits(attempts=2, total_s=15.0, exchange_s=8.0, connect_s=5.0, read_s=8.0)
# The Date header counts whole seconds, and the way takes some of one.
_FINE_S = 5.0
_HARMFUL_S = 300.0
_CHECK_NETWORK = "Check the network, the name service and any firewall between this machine and Twitch."
_SET_CLOCK = "Turn on time synchronisation (NTP) on this machine."


@dataclass(frozen=True, slots=True)
class TwitchChecks:
    """The checks that go over the network."""

    session: aiohttp.ClientSession
    settings: TwitchSettings
    credentials: AppCredentials | None
    clock: Clock
    log: Logger

    def checks(self) -> list[Check]:
        """All of them."""
        return [
            Check("clock", self._time),
            Check("helix", self._helix),
            Check("credentials", self._credentials),
            Check("gql", self._gql),
        ]

    async def _helix(self) -> Found:
        try:
            answer = await self._knock()
        except NetworkError as error:
            return Found(State.FAIL, str(error), _CHECK_NETWORK)
        if answer.status >= 500:
            return Found(
                State.WARN, f"{self.settings.api_url} answers with status {answer.status}.", "Wait; Twitch has trouble."
            )
        # Without a token it refuses, which is an answer.
        return Found(State.OK, f"{self.settings.api_url} answers.")

    async def _time(self) -> Found:
        before = self.clock.now()
        try:
            answer = await self._knock()
        except NetworkError:
            return Found(State.SKIPPED, "Twitch cannot be reached, so the clock cannot be compared with its.")
        return judge_clock(answer.headers.get("date"), before, self.clock.now())

    async def _knock(self) -> Answer:
        return await exchange(
            self.session, self.settings.api_url, Request("GET", "/users"), limits=_LIMITS, timeout_s=_LIMITS.exchange_s
        )

    async def _credentials(self) -> Found:
        if self.credentials is None:
            return Found(
                State.SKIPPED,
                "TWITCH_CLIENT_ID and TWITCH_CLIENT_SECRET are not set, so no new broadcasts are found.",
                "Register an application at https://dev.twitch.tv/console and set both; vodkeep archive needs neither.",
            )
        client = HelixClient(
            self.session,
            credentials=self.credentials,
            api_url=self.settings.api_url,
            auth_url=self.settings.auth_url,
            clock=self.clock,
            rng=random.Random(),
            log=self.log,
            limits=_LIMITS,
        )
        wanted = self.settings.channels
        try:
            # Without a channel to ask for, an account that has always been there.
            known = {channel.login for channel in await client.users(wanted or ("twitch",))}
        except CredentialsError as error:
            return Found(State.FAIL, str(error), error.remedy or "Check TWITCH_CLIENT_ID and TWITCH_CLIENT_SECRET.")
        except (NetworkError, ServerError, RateLimited) as error:
            return Found(State.SKIPPED, f"It could not be tried: {error}")
        unknown = [login for login in wanted if login not in known]
        if unknown:
            return Found(
                State.FAIL,
                f"Twitch takes the credentials, but knows no channel {some(unknown)}.",
                "Correct TWITCH_CHANNEL and TWITCH_CHANNELS; a channel's name is the last part of its address.",
            )
        if not wanted:
            return Found(
                State.WARN, "Twitch takes the credentials, but no channel is set.", "Name one in TWITCH_CHANNEL."
            )
        return Found(State.OK, f"Twitch takes the credentials and knows {some(wanted)}.")

    async def _gql(self) -> Found:
        gql = TwitchGql(self.session, self.settings.gql_url, self.settings.gql_client_id or "")
        try:
            await gql.video_exists("1")
        except NetworkError as error:
            return Found(State.FAIL, str(error), _CHECK_NETWORK)
        return Found(State.OK, f"{self.settings.gql_url} answers.")


def judge_clock(date: str | None, before: datetime, after: datetime) -> Found:
    """Compare our clock with the ``Date`` of an answer (RFC 9110 section 6.6.1) asked for between two instants."""
    try:
        theirs = parsedate_to_datetime(date) if date is not None else None
    except ValueError:
        theirs = None
    if theirs is None:
        return Found(State.SKIPPED, "Twitch did not say what time it is.")
    theirs = theirs if theirs.tzinfo is not None else theirs.replace(tzinfo=UTC)
    # Whatever lies between asking and the answer is nobody's fault.
    ahead_s = max(0.0, (before - theirs).total_seconds()) - max(0.0, (theirs - after).total_seconds())
    if abs(ahead_s) <= _FINE_S:
        return Found(State.OK, "The clock agrees with Twitch's.")
    way = "ahead of" if ahead_s > 0 else "behind"
    state = State.FAIL if abs(ahead_s) > _HARMFUL_S else State.WARN
    return Found(state, f"The clock is {abs(ahead_s):.0f} s {way} Twitch's.", _SET_CLOCK)
