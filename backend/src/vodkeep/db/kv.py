"""Small facts that outlive the process: the circuit breaker, moving averages, job timestamps.

Operators read and delete them by key (``docs/operations.md``). A fact belongs to a channel, or with
``channel=""`` to the whole service.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, select

from vodkeep.db.tables import kv
from vodkeep.db.upsert import insert_if_absent, insert_or_update


class KvStore:
    """The ``kv`` table within one transaction; values are text."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, key: str, channel: str = "") -> str | None:
        """The value, or ``None`` when there is none."""
        query = select(kv.c.value).where(kv.c.channel == channel, kv.c.key == key)
        return self._connection.execute(query).scalar_one_or_none()

    def set(self, key: str, value: str, at: datetime, channel: str = "") -> None:
        """Store ``value``, replacing what was there; ``at`` is the time of the change, aware."""
        row = {"channel": channel, "key": key, "value": value, "updated_at": at}
        insert_or_update(self._connection, kv, row, key=("channel", "key"))

    def set_if_absent(self, key: str, value: str, at: datetime, channel: str = "") -> bool:
        """Store ``value`` unless there is one; tells whether it was stored. Of racing transactions one stores."""
        row = {"channel": channel, "key": key, "value": value, "updated_at": at}
        return insert_if_absent(self._connection, kv, row, key=("channel", "key"))

    def delete(self, *keys: str, channel: str = "") -> int:
        """Forget the keys; returns how many there were."""
        return self._connection.execute(delete(kv).where(kv.c.channel == channel, kv.c.key.in_(keys))).rowcount

    def all(self, channel: str = "") -> dict[str, str]:
        """Every key and value of the channel."""
        query = select(kv.c.key, kv.c.value).where(kv.c.channel == channel).order_by(kv.c.key)
        return {row.key: row.value for row in self._connection.execute(query)}
