"""Scrubbing: every file that was kept is read again in turn, slowly, and compared with its checksum.

What was looked at longest ago comes first, and what was found stands in `scrubs`: a run that is cut off loses no more
than the item it was at. Damage is an event of the item, and is mended as `vodkeep verify --repair` does it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import anyio.to_thread
from sqlalchemy import or_, select

from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.events import EventLog
from vodkeep.db.tables import scrubs, vods
from vodkeep.db.upsert import insert_or_update
from vodkeep.errors import VodkeepError
from vodkeep.pipeline.mending import mend
from vodkeep.pipeline.model import RUNNING, Asked
from vodkeep.pipeline.recheck import Finding, check, plan_one, reconsider
from vodkeep.pipeline.store import QueueStore
from vodkeep.telemetry.correlation import new_corr
from vodkeep.telemetry.log import Logger

LEASE = "scrub"
"""The lease of the process that does this."""

KIND = "scrub"
"""``events.kind`` of damage that was found."""

DAMAGED = "damaged_files"
"""The code of such an event."""

_PAUSE_S = 60.0


class _Ended(Exception):
    """Nobody waits for the result any more."""


class Scrubber:
    """Reads one item after the other."""

    def __init__(
        self,
        *,
        database: Database,
        chat: Database,
        library: Path,
        clock: Clock,
        log: Logger,
        interval: timedelta,
        rate_bytes_s: float | None,
        require_archive: Callable[[], None],
    ) -> None:
        """``interval`` is how old a look at an item may become. ``require_archive`` raises `ArchiveAway`."""
        self._database = database
        self._chat = chat
        self._library = library
        self._clock = clock
        self._log = log
        self._interval = interval
        self._rate = rate_bytes_s
        self._require_archive = require_archive

    async def run_forever(self) -> None:
        """Scrub what is due, and wait for what will be; until canceled."""
        while True:
            try:
                if await self.scrub_next() is not None:
                    continue
            except VodkeepError as error:
                self._log.warning("scrubbing waits", code=error.code, error=str(error), remedy=error.remedy)
            except Exception:  # noqa: BLE001 - one item ends here
                self._log.exception("scrubbing ended in a bug")
            await self._clock.sleep(_PAUSE_S)

    async def scrub_next(self) -> Finding | None:
        """Look at the item that is due longest; ``None`` when none is. Raises `DatabaseUnavailable`, `ArchiveAway`."""
        now = self._clock.now()
        video_id = await self._database.run(partial(_next, before=now - self._interval), write=False)
        return None if video_id is None else await self._scrub(video_id)

    async def _scrub(self, video_id: str) -> Finding:
        await anyio.to_thread.run_sync(self._require_archive)
        row = await self._database.run(lambda unit: QueueStore(unit.connection).find(video_id), write=False)
        subject = await anyio.to_thread.run_sync(plan_one, video_id, row, self._library)
        ended = threading.Event()
        look = partial(check, subject, self._library, deep=False, on_bytes=partial(self._pace, ended))
        try:
            finding = await anyio.to_thread.run_sync(look, abandon_on_cancel=True)
        finally:
            ended.set()
        # A disk that was taken away meanwhile looks like damage.
        await anyio.to_thread.run_sync(self._require_archive)
        if finding.is_bad:
            now_row = await self._database.run(lambda unit: QueueStore(unit.connection).find(video_id), write=False)
            finding = reconsider(finding, now_row)
        await self._save(finding)
        return finding

    def _pace(self, ended: threading.Event, size_bytes: int) -> None:
        if ended.wait(size_bytes / self._rate if self._rate else 0):
            raise _Ended

    async def _save(self, finding: Finding) -> None:
        now = self._clock.now()
        video_id = finding.subject.video_id
        problems = "; ".join(finding.problems)[:1000] if finding.is_bad else ""
        done = ""
        if finding.is_bad:
            asked = Asked(None, new_corr())
            done = await anyio.to_thread.run_sync(
                partial(mend, self._database, self._chat, finding, self._library, now, asked)
            )
            self._log.error("damage found", vod_id=video_id, code=DAMAGED, reason=problems, remedy=done)

        def work(unit: UnitOfWork) -> None:
            row = {"twitch_vod_id": video_id, "checked_at": now, "verdict": finding.verdict, "problems": problems}
            insert_or_update(unit.connection, scrubs, row, key=("twitch_vod_id",))
            if finding.is_bad:
                EventLog(unit.connection).append(
                    video_id, at=now, kind=KIND, code=DAMAGED, sentence=f"Damage was found: {problems}.", remedy=done
                )
            unit.commit()

        await self._database.run(work)


def _next(unit: UnitOfWork, before: datetime) -> str | None:
    """The item whose files were looked at longest ago, of those that were not since ``before``."""
    query = (
        select(vods.c.twitch_vod_id)
        .join(scrubs, scrubs.c.twitch_vod_id == vods.c.twitch_vod_id, isouter=True)
        .where(
            vods.c.downloaded_path.is_not(None),
            vods.c.download_state.not_in(RUNNING),
            or_(scrubs.c.checked_at.is_(None), scrubs.c.checked_at <= before),
        )
        .order_by(scrubs.c.checked_at.is_not(None), scrubs.c.checked_at, vods.c.id)
        .limit(1)
    )
    found: str | None = unit.connection.execute(query).scalar()
    return found
