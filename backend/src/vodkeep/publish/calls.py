"""Calls to YouTube with a good token, and what their refusals become."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Protocol

import aiohttp

from vodkeep.clock import Clock
from vodkeep.errors import (
    CredentialsError,
    LimitReached,
    PermanentError,
    RateLimited,
    ServerError,
    VodkeepError,
)
from vodkeep.publish.exchange import Answer, Limits, exchange
from vodkeep.publish.refusals import Meaning, refusal_of

_UPLOAD_LIMIT_RENEWS_AFTER = timedelta(hours=24)
"""https://support.google.com/youtube/answer/4525514, read in November 2026: try again in 24 hours."""


class TokenSource(Protocol):
    """Where access tokens come from."""

    async def access_token(self, *, rejected: str | None = None) -> str:
        """A token that should be good; ``rejected`` is one that YouTube has just refused.

        Raises CredentialsError when a person has to connect the account (again).
        """
        ...


class Spending(Protocol):
    """The quota of the Google project; ``method`` is the API's name, such as ``videos.insert``."""

    async def spend(self, method: str) -> None:
        """Count a call that is about to be made. Raises LimitReached when it is one too many."""
        ...

    async def exhausted(self, method: str) -> datetime:
        """YouTube itself says that the quota is used up; returns when it is renewed, UTC."""
        ...


class Calls:
    """Requests to one account's YouTube."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        tokens: TokenSource,
        spending: Spending,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._session = session
        self._tokens = tokens
        self._spending = spending
        self._clock = clock
        self._limits = limits
        self._rejected: str | None = None

    async def spend(self, method: str) -> None:
        """Count a call of ``method`` before it is made."""
        await self._spending.spend(method)

    async def send(
        self,
        method: str,
        url: str,
        *,
        doing: str,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer:
        """Send a request; once more with another token when the first is refused. Raises what ``exchange`` does,
        and CredentialsError when there is no other token or that is refused, too.
        """  # fmt: skip
        for _ in range(2):
            answer = await self.send_once(method, url, doing=doing, headers=headers, query=query, content=content)
            if not self.is_token_refused(answer):
                return answer
        raise self._credentials_error(answer)

    async def send_once(
        self,
        method: str,
        url: str,
        *,
        doing: str,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        content: bytes | AsyncIterator[bytes] | None = None,
    ) -> Answer:
        """The same, once; a token that this answer refuses is not used again."""
        rejected = self._rejected
        token = await self._tokens.access_token(rejected=rejected)
        if rejected is not None and token == rejected:
            raise CredentialsError(
                "YouTube refuses the access token, and there is no other.",
                remedy="Connect YouTube again on the page of accounts.",
            )
        answer = await exchange(
            self._session,
            method,
            url,
            doing=doing,
            headers={**(headers or {}), "Authorization": f"Bearer {token}"},
            limits=self._limits,
            query=query,
            content=content,
        )
        if self.is_token_refused(answer):
            self._rejected = token
        elif answer.status < 400:
            self._rejected = None
        return answer

    def is_token_refused(self, answer: Answer) -> bool:
        """Whether another token may do; a 401 can also mean that the account has no channel."""
        return answer.status == 401 and refusal_of(answer.status, answer.headers, answer.body).meaning is Meaning.TOKEN

    async def error_of(self, answer: Answer, method: str) -> VodkeepError:
        """The error that an answer stands for which is no success; ``method`` is what was called."""
        refusal = refusal_of(answer.status, answer.headers, answer.body)
        match refusal.meaning:
            case Meaning.TOKEN:
                return self._credentials_error(answer)
            case Meaning.QUOTA:
                until = await self._spending.exhausted(method)
                return LimitReached(refusal.sentence, until=until, code=refusal.code, remedy=refusal.remedy)
            case Meaning.UPLOAD_LIMIT:
                until = self._clock.now() + _UPLOAD_LIMIT_RENEWS_AFTER
                return LimitReached(refusal.sentence, until=until, code=refusal.code, remedy=refusal.remedy)
            case Meaning.SLOW_DOWN:
                return RateLimited(refusal.sentence, delay_s=refusal.delay_s)
            case Meaning.SERVER:
                return ServerError(refusal.sentence, delay_s=refusal.delay_s)
            case Meaning.PERMANENT:
                return PermanentError(refusal.sentence, code=refusal.code, remedy=refusal.remedy)

    def _credentials_error(self, answer: Answer) -> CredentialsError:
        refusal = refusal_of(answer.status, answer.headers, answer.body)
        return CredentialsError(refusal.sentence, remedy=refusal.remedy)
