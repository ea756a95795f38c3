"""Which engine a service gets: the database decides."""

from __future__ import annotations

from collections.abc import Mapping

from vodkeep.clock import Clock
from vodkeep.db.engine import Database
from vodkeep.pipeline.engine import InProcessEngine, ServedEngine
from vodkeep.pipeline.fleet.engine import FleetEngine
from vodkeep.pipeline.model import Stage
from vodkeep.pipeline.running import Bell, Runner
from vodkeep.settings import Settings
from vodkeep.telemetry.log import Logger

CHATS_AT_ONCE = 2
"""How many items a process sees to the chat of at once: it waits for Twitch most of the time."""


def slots_of(settings: Settings, workers: int | None = None) -> dict[Stage, int]:
    """How many jobs of each stage a process that works runs at once."""
    captures = workers if workers is not None else settings.pipeline.max_concurrent_downloads
    uploads = settings.uploads.max_concurrent if settings.uploads.enabled else 0
    return {Stage.CAPTURE: captures, Stage.CHAT: CHATS_AT_ONCE, Stage.PUBLISH: uploads}


def build_engine(
    settings: Settings,
    database: Database,
    runners: Mapping[Stage, Runner],
    bell: Bell,
    clock: Clock,
    log: Logger,
    *,
    holder: str,
    works: bool,
    workers: int | None = None,
) -> ServedEngine:
    """The engine for this process.

    Args:
        settings: say how many captures run at once here, unless ``workers`` does.
        database: SQLite belongs to one process, PostgreSQL to as many as there are.
        runners: what runs each stage.
        bell: rung when the planner should look at the queue.
        clock: for waits.
        log: for what happens to jobs.
        holder: this process's name in leases.
        works: whether this process runs jobs itself.
        workers: captures at once in this process.
    """
    slots = {stage: count if works and stage in runners else 0 for stage, count in slots_of(settings, workers).items()}
    if database.is_sqlite:
        return InProcessEngine(runners, slots=slots, bell=bell, clock=clock, log=log)
    return FleetEngine(database, runners, slots=slots, holder=holder, bell=bell, clock=clock, log=log)
