"""Discovery and backfill meet a new channel at the same moment."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from vodkeep.catalog.limits import CatalogLimits
from vodkeep.catalog.model import BroadcasterId, Channel
from vodkeep.catalog.service import CatalogService
from vodkeep.catalog.store import CatalogStore, KnownChannel
from vodkeep.clock import SystemClock
from vodkeep.db.engine import Database
from vodkeep.telemetry.log import get_logger

NOW = datetime(2026, 11, 1, tzinfo=UTC)


class LookedTooEarly(CatalogStore):
    """What a transaction sees that looked for the channel just before the other one saved it."""

    def channel(self, login: str) -> KnownChannel | None:
        return None


def test_a_channel_that_the_other_task_has_just_kept_is_no_double(database: Database) -> None:
    account = Channel(BroadcasterId("4711"), "nightotter", "NightOtter")
    service = CatalogService(
        database,
        cast("Any", None),
        SystemClock(),
        channels=["nightotter"],
        limits=CatalogLimits(),
        backfill_interval=timedelta(hours=6),
        rng=random.Random(1),
        log=get_logger("vod_catalog"),
    )
    with database.unit_of_work() as unit:
        CatalogStore(unit.connection).save_channel("nightotter", account, now=NOW)
        unit.commit()
    with database.unit_of_work() as unit:
        adopted = service._adopt(LookedTooEarly(unit.connection), "nightotter", account, NOW)
        unit.commit()
    assert adopted == (None, 0)
