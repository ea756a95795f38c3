"""The queue's rows as tests put them there and look at them: by plain SQL, not through the code under test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import insert, select, text

from support.queue_items import NOW
from vodkeep.db.engine import Database
from vodkeep.db.tables import events, kv, vods


class Rows:
    """Reads and writes rows of ``vods``, ``events`` and ``kv`` behind the pipeline's back."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, *ids: str, **values: Any) -> None:
        self.add_each([{"twitch_vod_id": each, **values} for each in ids])

    def add_each(self, several: Iterable[Mapping[str, Any]]) -> None:
        """Rows that differ; all of them name the same columns."""
        row = {
            "channel": "chan",
            "title": "A broadcast",
            "date": NOW - timedelta(days=1),
            "duration_seconds": 3600,
            "created_at": NOW,
            "updated_at": NOW,
        }
        with self._database.unit_of_work() as unit:
            unit.connection.execute(insert(vods), [{**row, **each} for each in several])
            unit.commit()

    def get(self, item_id: str) -> Mapping[str, Any]:
        with self._database.unit_of_work(write=False) as unit:
            return dict(unit.connection.execute(select(vods).where(vods.c.twitch_vod_id == item_id)).mappings().one())

    def events(self, item_id: str) -> list[tuple[str | None, str | None, str | None]]:
        """The item's moves: from, to, code."""
        with self._database.unit_of_work(write=False) as unit:
            query = select(events.c.from_state, events.c.to_state, events.c.code)
            found = unit.connection.execute(query.where(events.c.twitch_vod_id == item_id).order_by(events.c.id))
            return [tuple(row) for row in found]

    def kv(self, channel: str = "") -> dict[str, str]:
        with self._database.unit_of_work(write=False) as unit:
            return dict(unit.connection.execute(select(kv.c.key, kv.c.value).where(kv.c.channel == channel)).all())

    def execute(self, statement: str) -> None:
        """Run what an operator would type."""
        with self._database.unit_of_work() as unit:
            unit.connection.execute(text(statement))
            unit.commit()
