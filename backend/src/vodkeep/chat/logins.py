"""With which account the connections log in, and how often that is tried.

A login that Twitch refuses is one state that everybody can see. Chat can be read without an account, so meanwhile it
is: what is not recorded now is gone for ever, a token can be mended later.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import anyio

from vodkeep.chat.conversation import Credentials
from vodkeep.clock import Clock
from vodkeep.errors import TransientError
from vodkeep.telemetry.log import Logger

CredentialsSource = Callable[[], Awaitable[Credentials | None]]
"""The account to read chat with, as it is now; ``None`` reads anonymously. May raise TransientError."""

# Other credentials may be tried after a quarter of a minute, so there are never five tries in one; the same again only
# for the case that the refusal was Twitch's own mistake.
OTHER_AGAIN_S = 15.0
SAME_AGAIN_S = 300.0


@dataclass(frozen=True, slots=True)
class LoginFailure:
    """Why the account cannot be used."""

    account: str
    """Login; empty if even that could not be found out."""
    reason: str
    since: datetime
    retry_at: datetime
    """When the same token is tried again; a new one is tried within half a minute."""


class Turn:
    """A login that has been begun; the one after it waits until ``over``."""

    def __init__(self, credentials: Credentials | None, over: Callable[[], None]) -> None:
        self.credentials = credentials
        """``None`` reads anonymously."""
        self._over: Callable[[], None] | None = over

    def over(self) -> None:
        """Twitch has answered, or nobody waits for it any more. May be called again."""
        if self._over is not None:
            self._over()
            self._over = None


class Logins:
    """Hands out credentials, to one connection at a time, and remembers what Twitch said to them."""

    def __init__(self, source: CredentialsSource, clock: Clock, log: Logger) -> None:
        self.failure: LoginFailure | None = None
        """Set while the account cannot be used."""
        self._source = source
        self._clock = clock
        self._log = log
        self._one = anyio.Semaphore(1)
        self._refused: Credentials | None = None
        self._failed_s = 0.0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """The credentials for a new connection, asked for now so that refreshed ones are used.

        With a token, connections log in one after another: a token that is refused is refused once, not by each.
        """
        if await self.usable() is None:
            yield Turn(None, lambda: None)
            return
        await self._one.acquire()
        turn = Turn(None, self._one.release)
        try:
            turn.credentials = await self.usable()
            if turn.credentials is None:
                turn.over()
            yield turn
        finally:
            turn.over()

    async def usable(self) -> Credentials | None:
        """The credentials that would be tried now."""
        try:
            found = await self._source()
        except TransientError as error:
            self._fail("", str(error))
            return None
        if found is None:
            self.failure = None
            return None
        waits_s = SAME_AGAIN_S if found == self._refused else OTHER_AGAIN_S
        resting = self.failure is not None and self._clock.monotonic() < self._failed_s + waits_s
        return None if resting else found

    def accepted(self) -> None:
        """Twitch took the credentials."""
        if self.failure is not None:
            self._log.info("chat login works again", account=self.failure.account)
        self.failure = None
        self._refused = None

    def refused(self, credentials: Credentials, reason: str) -> None:
        """Twitch refused them, in these words."""
        self._refused = credentials
        self._fail(credentials.login, reason)

    def _fail(self, account: str, reason: str) -> None:
        now = self._clock.now()
        self._failed_s = self._clock.monotonic()
        if self.failure is None or self.failure.reason != reason:
            remedy = "Chat is recorded anonymously meanwhile."
            if account:
                remedy += (
                    " Set TWITCH_OAUTH_TOKEN to a valid token of TWITCH_BOT_USERNAME with the scope chat:read, "
                    "or remove both."
                )
            self._log.error("chat login failed", account=account, reason=reason, remedy=remedy)
        since = self.failure.since if self.failure is not None else now
        waits_s = SAME_AGAIN_S if self._refused is not None else OTHER_AGAIN_S
        self.failure = LoginFailure(account, reason, since, now + timedelta(seconds=waits_s))
