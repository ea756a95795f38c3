"""The YouTube of each channel: its own account if it has connected one, else the one for all channels."""

from __future__ import annotations

from collections.abc import Callable

from vodkeep.accounts.keeper import TokenKeeper
from vodkeep.accounts.model import Provider
from vodkeep.publish.calls import TokenSource
from vodkeep.publish.client import YouTube


class AccountTokens:
    """The tokens of one account at YouTube; a ``publish.calls.TokenSource``."""

    def __init__(self, keeper: TokenKeeper, account: str) -> None:
        self._keeper = keeper
        self._account = account

    async def access_token(self, *, rejected: str | None = None) -> str:
        """See ``TokenSource``."""
        return await self._keeper.access_token(Provider.YOUTUBE, self._account, rejected=rejected)


class YouTubes:
    """One client for each account, the same one each time."""

    def __init__(self, keeper: TokenKeeper, build: Callable[[TokenSource], YouTube]) -> None:
        self._keeper = keeper
        self._build = build
        self._clients: dict[str, YouTube] = {}

    async def of(self, channel: str) -> YouTube:
        """The client of a channel's account. Raises `DatabaseUnavailable`."""
        connected = {state.channel for state in await self._keeper.states() if state.provider is Provider.YOUTUBE}
        account = channel if channel in connected else ""
        if account not in self._clients:
            self._clients[account] = self._build(AccountTokens(self._keeper, account))
        return self._clients[account]
