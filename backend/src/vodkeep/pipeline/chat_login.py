"""The account that reads chat, as it is at this moment: from the settings, or the token that is stored for it."""

from __future__ import annotations

from sqlalchemy import case, select

from vodkeep.chat.conversation import Credentials
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.tables import oauth_tokens

PROVIDER = "twitch"


class ChatLogin:
    """Asked anew for every connection, so that a token which was refreshed meanwhile is the one that is used."""

    def __init__(self, database: Database, username: str | None, token: str | None) -> None:
        """``username`` is a login; ``token`` that of the settings, which goes before a stored one."""
        self._database = database
        self._username = username
        self._token = token

    async def __call__(self) -> Credentials | None:
        """The account; ``None`` when there is none, and chat is read anonymously. Raises ``DatabaseUnavailable``."""
        if self._username is None:
            return None
        token = self._token or await self._database.run(self._stored, write=False)
        return None if token is None else Credentials(self._username, token)

    def _stored(self, unit: UnitOfWork) -> str | None:
        # The account's own token before one that belongs to nobody in particular. One that is encrypted cannot be read.
        mine = oauth_tokens.c.channel == self._username
        token: str | None = unit.connection.execute(
            select(oauth_tokens.c.access_token)
            .where(
                oauth_tokens.c.provider == PROVIDER,
                oauth_tokens.c.channel.in_(["", self._username]),
                oauth_tokens.c.encryption_key_id.is_(None),
                oauth_tokens.c.access_token != "",
            )
            .order_by(case((mine, 0), else_=1))
            .limit(1)
        ).scalar_one_or_none()
        return token
