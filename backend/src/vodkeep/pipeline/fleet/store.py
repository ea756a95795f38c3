"""What is handed over and at work in all processes together: tickets, leases of runs, and workers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, text, update

from vodkeep.db.leases import PROCESS_PREFIX, LeaseStore
from vodkeep.db.tables import leases
from vodkeep.pipeline.fleet.stalled import Sign
from vodkeep.pipeline.model import Job, Stage
from vodkeep.pipeline.roles import ProcessNote

RUN_PREFIX = "run:"


@dataclass(frozen=True, slots=True)
class Ticket:
    """A job of Procrastinate that stands for one stage of one item."""

    id: int
    job: Job
    is_fetched: bool  # a worker has it; otherwise it waits in its queue

    @property
    def item_id(self) -> str:
        """The item's Twitch video id."""
        return self.job.twitch_vod_id


@dataclass(frozen=True, slots=True)
class Run:
    """A run's lease, also one that ran out and that nobody has cleared away yet."""

    job: Job
    holder: str
    expires_at: datetime  # UTC, by the database's clock
    has_run_out: bool


@dataclass(frozen=True, slots=True)
class View:
    """The fleet at one instant."""

    tickets: tuple[Ticket, ...]
    runs: Mapping[str, Run]  # by item id
    slots: Mapping[Stage, int]  # of all live workers

    def running(self) -> list[Job]:
        """What is handed over or at work, each item once."""
        handed_over = {one.item_id: one.job for one in self.tickets}
        at_work = {item_id: run.job for item_id, run in self.runs.items()}
        return list({**handed_over, **at_work}.values())

    def signs(self) -> dict[str, Sign]:
        """What was last heard of each item that somebody should be at work on."""
        fetched = {one.item_id: Sign(None, has_run_out=True) for one in self.tickets if one.is_fetched}
        return {**fetched, **{item_id: Sign(run.expires_at, run.has_run_out) for item_id, run in self.runs.items()}}


class FleetStore:
    """The fleet on one connection to PostgreSQL; the caller commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def view(self) -> View:
        """The fleet as it is now."""
        return View(self._tickets(), self._runs(), self._slots())

    def drop_run(self, item_id: str, run: Run) -> bool:
        """Take the lease from a run that was seen to be dead; ``False`` when it has been renewed since."""
        changed = self._connection.execute(
            update(leases)
            .where(
                leases.c.name == RUN_PREFIX + item_id,
                leases.c.holder == run.holder,
                leases.c.expires_at == run.expires_at,
            )
            .values(holder="", detail="")
        )
        return changed.rowcount == 1

    def _tickets(self) -> tuple[Ticket, ...]:
        # Procrastinate's own query lists finished jobs as well and takes a transaction to itself.
        rows = self._connection.execute(
            text("SELECT id, args, status::text FROM procrastinate_jobs WHERE status IN ('todo', 'doing') ORDER BY id")
        )
        return tuple(Ticket(row.id, job, row.status == "doing") for row in rows if (job := _job(row.args)) is not None)

    def _runs(self) -> dict[str, Run]:
        now = func.clock_timestamp()
        query = select(leases.c.name, leases.c.holder, leases.c.expires_at, leases.c.expires_at <= now, leases.c.detail)
        found: dict[str, Run] = {}
        for name, holder, expires_at, has_run_out, detail in self._connection.execute(
            query.where(leases.c.name.startswith(RUN_PREFIX), leases.c.holder != "")
        ):
            job = _job(_object(detail))
            if job is not None:
                found[name.removeprefix(RUN_PREFIX)] = Run(job, holder, expires_at, has_run_out)
        return found

    def _slots(self) -> dict[Stage, int]:
        notes = [ProcessNote.read(lease.detail) for lease in LeaseStore(self._connection).live(PROCESS_PREFIX)]
        return {stage: sum(note.slots.get(stage, 0) for note in notes) for stage in Stage}


def describe(job: Job) -> dict[str, Any]:
    """A job in the words of tickets and leases; read by :class:`FleetStore`."""
    return {"stage": job.stage.value, "item_id": job.twitch_vod_id, "channel": job.channel, "probe": job.probe}


def _job(said: Mapping[str, Any]) -> Job | None:
    """The job that ``said`` describes; None when it is not one of ours."""
    with suppress(KeyError, ValueError):
        return Job(Stage(said["stage"]), str(said["item_id"]), str(said["channel"]), bool(said["probe"]))
    return None


def _object(written: str) -> dict[str, Any]:
    with suppress(ValueError):
        found = json.loads(written)
        if isinstance(found, dict):
            return found
    return {}
