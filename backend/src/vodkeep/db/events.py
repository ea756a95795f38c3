"""The timeline of an item: what happened, why, and what a person can do. Only ever appended to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select

from vodkeep.db.tables import events


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the timeline."""

    id: int  # grows with time; events of one item are read in its order
    twitch_vod_id: str | None  # None: about the service as a whole
    at: datetime  # UTC
    kind: str  # "discovered", "state", ...
    from_state: str | None
    to_state: str | None
    code: str | None  # cause, machine-readable
    sentence: str  # for a person
    remedy: str  # what a person can do; empty when waiting is all there is
    corr: str | None  # correlation id of the work that wrote it
    asked_by: str | None = None  # where a person asked for it ("cli", "api", "admin", "sql"); None: nobody did


class EventLog:
    """The ``events`` table within one transaction, the one that makes the change the event tells of."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def append(
        self,
        twitch_vod_id: str | None,
        *,
        at: datetime,
        kind: str,
        from_state: str | None = None,
        to_state: str | None = None,
        code: str | None = None,
        sentence: str = "",
        remedy: str = "",
        corr: str | None = None,
        asked_by: str | None = None,
    ) -> None:
        """Add one event; ``at`` is aware."""
        self._connection.execute(
            insert(events).values(
                twitch_vod_id=twitch_vod_id,
                at=at,
                kind=kind,
                from_state=from_state,
                to_state=to_state,
                code=code,
                sentence=sentence,
                remedy=remedy,
                corr=corr,
                asked_by=asked_by,
            )
        )

    def of_item(self, twitch_vod_id: str, *, limit: int | None = None) -> list[Event]:
        """The item's events, oldest first; with ``limit`` only the latest ones."""
        query = select(events).where(events.c.twitch_vod_id == twitch_vod_id).order_by(events.c.id.desc())
        rows = self._connection.execute(query.limit(limit)).all()
        return [Event(*row) for row in reversed(rows)]

    def after(self, number: int, *, limit: int) -> list[Event]:
        """The first events with greater numbers, in their order."""
        query = select(events).where(events.c.id > number).order_by(events.c.id).limit(limit)
        return [Event(*row) for row in self._connection.execute(query).all()]

    def newest(self) -> int:
        """The id of the newest event of all; 0 before the first."""
        return self._connection.execute(select(func.max(events.c.id))).scalar() or 0
