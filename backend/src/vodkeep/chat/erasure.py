"""Whose messages were erased, known by digests only, so that they never come in again.

A person is known by id and by login. What is stored of each is a digest with a salt of the archive's own, and until
when the erasure reaches: what they say afterwards is theirs to say.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects import postgresql, sqlite

from vodkeep.chat.model import ChatMessage
from vodkeep.chat.tables import chat_erased

_QUOTES = ("reply_user_id", "reply_login", "reply_name", "reply_body")


@dataclass(frozen=True, slots=True)
class Erased:
    """The erasures of an archive, as far as they are known here."""

    salt: bytes = b""
    until_ms: Mapping[bytes, int] = field(default_factory=dict)  # by digest

    def covers(self, message: ChatMessage) -> bool:
        """Whether it was said by somebody whose messages up to then were erased, or tells of what was done to them."""
        if not self.until_ms:
            return False
        who, extra = message.chatter, message.extra
        said = who is not None and self._reaches(who.user_id, who.login, message.sent_ms)
        return said or self._reaches(extra.get("target_user_id"), extra.get("target_login"), message.sent_ms)

    def scrubbed(self, message: ChatMessage) -> ChatMessage:
        """The message without the quotation of an erased one, if it answers one."""
        extra = message.extra
        if not self.until_ms or not extra:
            return message
        drop: set[str] = set()
        if self._reaches(extra.get("reply_user_id"), extra.get("reply_login"), message.sent_ms):
            drop.update(_QUOTES)
        if self._reaches(None, extra.get("thread_login"), message.sent_ms):
            drop.add("thread_login")
        if not drop & extra.keys():
            return message
        return replace(message, extra={key: value for key, value in extra.items() if key not in drop})

    def _reaches(self, user_id: object, login: object, sent_ms: int) -> bool:
        return any(
            isinstance(name, str) and name and sent_ms < self.until_ms.get(digest_of(self.salt, kind, name), 0)
            for kind, name in (("id", user_id), ("login", login))
        )


def digest_of(salt: bytes, kind: str, name: str) -> bytes:
    """What is stored of an id or a login (``kind``)."""
    return hashlib.blake2b(f"{kind}:{name.lower()}".encode(), key=salt, digest_size=16).digest()


class ErasureStore:
    """The ``chat_erased`` table within one transaction; the caller commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def load(self) -> Erased:
        """All erasures; a few dozen bytes each."""
        rows = self._connection.execute(select(chat_erased.c.digest, chat_erased.c.salt, chat_erased.c.until_ms)).all()
        if not rows:
            return Erased()
        return Erased(bytes(rows[0].salt), {bytes(row.digest): row.until_ms for row in rows})

    def count(self) -> int:
        """How many ids and logins are remembered."""
        return self._connection.execute(select(func.count()).select_from(chat_erased)).scalar_one()

    def add(self, *, user_ids: set[str], logins: set[str], until_ms: int) -> None:
        """Remember that what these people said before ``until_ms`` was erased."""
        salt = self.load().salt or os.urandom(16)
        names = [("id", name) for name in user_ids if name] + [("login", name) for name in logins if name]
        insert = sqlite.insert if self._connection.dialect.name == "sqlite" else postgresql.insert
        for kind, name in names:
            statement = insert(chat_erased).values(digest=digest_of(salt, kind, name), salt=salt, until_ms=until_ms)
            self._connection.execute(
                statement.on_conflict_do_update(index_elements=["digest"], set_={"until_ms": until_ms})
            )
