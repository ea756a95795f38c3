"""The account that reads chat, as it is at this moment: from the settings, or the token that is stored for it."""

from __future__ import annotations

from vodkeep.accounts.keeper import TokenKeeper
from vodkeep.accounts.model import Provider
from vodkeep.chat.conversation import Credentials
from vodkeep.errors import DatabaseUnavailable, VodkeepError
from vodkeep.telemetry.log import Logger


class ChatLogin:
    """Asked anew for every connection, so that a token which was renewed meanwhile is the one that is used."""

    def __init__(self, keeper: TokenKeeper, username: str | None, token: str | None, log: Logger) -> None:
        """``username`` is a login; ``token`` that of the settings, which goes before a stored one."""
        self._keeper = keeper
        self._username = username
        self._token = token
        self._log = log

    async def __call__(self) -> Credentials | None:
        """The account; ``None`` when none can be used, and chat is read anonymously. Raises ``DatabaseUnavailable``."""
        if self._username is None:
            return None
        token = self._token or await self._stored(self._username)
        return None if token is None else Credentials(self._username, token)

    async def _stored(self, username: str) -> str | None:
        try:
            # The account's own token before one that belongs to nobody in particular.
            return await self._keeper.access_token(Provider.TWITCH, username)
        except DatabaseUnavailable:
            raise
        except VodkeepError as error:
            # Chat that is read without an account is better than chat that is lost.
            self._log.info("chat is read anonymously", reason=str(error), remedy=error.remedy)
            return None
