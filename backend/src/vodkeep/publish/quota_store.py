"""The ledger of the quota: what each Google project spent today, over all processes and restarts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, and_, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.tables import quota_uses
from vodkeep.errors import LimitReached
from vodkeep.publish.quota import Bucket, BucketState, cost_of, day_of, reset_after

_NAMES = {Bucket.UNITS: "YOUTUBE_QUOTA", Bucket.UPLOADS: "YOUTUBE_UPLOAD_QUOTA"}


class QuotaStore:
    """The table ``quota_uses`` within one transaction; the caller commits."""

    def __init__(self, connection: Connection, project: str) -> None:
        self._connection = connection
        self._project = project

    def spend(self, day: str, bucket: Bucket, amount: int, limit: int) -> bool:
        """Count ``amount`` unless that is more than is left; of racing processes none goes over the limit."""
        if amount > limit:
            return False
        insert = sqlite.insert if self._connection.dialect.name == "sqlite" else postgresql.insert
        row = {"project": self._project, "day": day, "bucket": bucket.value, "used": amount}
        # One statement: on PostgreSQL the condition is looked at again once a racing process has committed.
        counted = (
            insert(quota_uses)
            .values(row)
            .on_conflict_do_update(
                index_elements=["project", "day", "bucket"],
                set_={"used": quota_uses.c.used + amount},
                where=and_(quota_uses.c.used + amount <= limit, quota_uses.c.exhausted == 0),
            )
        )
        return self._connection.execute(counted.returning(quota_uses.c.used)).first() is not None

    def exhaust(self, day: str, bucket: Bucket) -> None:
        """YouTube says that nothing is left today."""
        insert = sqlite.insert if self._connection.dialect.name == "sqlite" else postgresql.insert
        row = {"project": self._project, "day": day, "bucket": bucket.value, "used": 0, "exhausted": 1}
        self._connection.execute(
            insert(quota_uses)
            .values(row)
            .on_conflict_do_update(index_elements=["project", "day", "bucket"], set_={"exhausted": 1})
        )

    def used(self, day: str) -> dict[Bucket, tuple[int, bool]]:
        """By bucket: how much was spent on the day, and whether YouTube said that this was all."""
        query = select(quota_uses.c.bucket, quota_uses.c.used, quota_uses.c.exhausted).where(
            quota_uses.c.project == self._project, quota_uses.c.day == day
        )
        return {Bucket(row.bucket): (row.used, bool(row.exhausted)) for row in self._connection.execute(query)}

    def forget_before(self, day: str) -> None:
        """Remove the days before this one."""
        self._connection.execute(
            delete(quota_uses).where(quota_uses.c.project == self._project, quota_uses.c.day < day)
        )


class QuotaLedger:
    """Counts every call to YouTube of one Google project before it is made; see ``Spending``."""

    def __init__(self, database: Database, *, project: str, units: int, uploads: int, clock: Clock) -> None:
        """``project`` is the client id; ``units`` and ``uploads`` are the limits of a day."""
        self._database = database
        self._project = project
        self._limits: Mapping[Bucket, int] = {Bucket.UNITS: units, Bucket.UPLOADS: uploads}
        self._clock = clock

    async def spend(self, method: str) -> None:
        """Count a call that is about to be made. Raises LimitReached (code ``quota_exhausted``) instead."""
        now, cost = self._clock.now(), cost_of(method)

        def work(unit: UnitOfWork) -> bool:
            store = QuotaStore(unit.connection, self._project)
            counted = store.spend(day_of(now), cost.bucket, cost.amount, self._limits[cost.bucket])
            unit.commit()
            return counted

        if not await self._database.run(work):
            raise self._reached(cost.bucket, now)

    async def exhausted(self, method: str) -> datetime:
        """YouTube itself says so: nothing more is spent of this bucket today. Returns when it is renewed, UTC."""
        now, bucket = self._clock.now(), cost_of(method).bucket

        def work(unit: UnitOfWork) -> None:
            store = QuotaStore(unit.connection, self._project)
            store.exhaust(day_of(now), bucket)
            store.forget_before(day_of(now))
            unit.commit()

        await self._database.run(work)
        return reset_after(now)

    async def states(self) -> list[BucketState]:
        """How much of each bucket is used today."""
        now = self._clock.now()
        used = await self._database.run(
            lambda unit: QuotaStore(unit.connection, self._project).used(day_of(now)), write=False
        )
        return [
            BucketState(bucket, limit, *used.get(bucket, (0, False)), reset_after(now))
            for bucket, limit in self._limits.items()
        ]

    def _reached(self, bucket: Bucket, now: datetime) -> LimitReached:
        until = reset_after(now)
        what = "units" if bucket is Bucket.UNITS else "uploads"
        return LimitReached(
            f"The {what} that the Google project may spend a day are used up; they are renewed at"
            f" {until:%Y-%m-%d %H:%M} UTC.",
            until=until,
            code="quota_exhausted",
            remedy=f"Wait, or ask Google for a larger quota and raise {_NAMES[bucket]}.",
        )
