"""What is due, in which order: a pure function of rows, slots, breakers and the clock.

The same rule decides twice: here over the whole queue, and once more for one row inside the transaction that claims
it, because rows change between planning and claiming.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from vodkeep.pipeline.breaker import CLOSED, Breaker, Gate, gate
from vodkeep.pipeline.model import DownloadState, Job, QueueItem, Stage

_LAST = datetime.max.replace(tzinfo=UTC)


class DueReason(StrEnum):
    """Why an item should run now."""

    NEW = "new"  # never tried, or handed back at a shutdown
    RESUMED = "resumed"  # a run died in the middle of it
    RETRY = "retry"  # a failed attempt whose wait is over
    ENDED = "ended"  # was live; time to look whether the broadcast has ended
    RESET = "reset"  # an operator asked for it again


@dataclass(frozen=True, slots=True)
class Due:
    """One stage of one item that should start now."""

    item: QueueItem
    stage: Stage
    reason: DueReason
    probe: bool = False  # the channel's breaker is open and this is its one trial


def due_reason(item: QueueItem, now: datetime) -> DueReason | None:
    """Why ``item`` may be captured at ``now``, or ``None``; whether it runs already is the caller's to know."""
    if item.processed:
        return None
    if item.is_reset:
        return DueReason.RESET
    arrived = item.not_before is None or item.not_before <= now
    match item.download_state:
        case DownloadState.PENDING:
            return DueReason.NEW if arrived else None
        case DownloadState.DOWNLOADING | DownloadState.VERIFYING:
            return DueReason.RESUMED
        case DownloadState.FAILED:
            return DueReason.RETRY if arrived else None
        case DownloadState.WAITING:
            return DueReason.ENDED if arrived else None
        case _:
            return None


def queue_key(item: QueueItem) -> tuple[int, datetime, str]:
    """The order of the queue: priority first, then the oldest broadcast; the id makes it total."""
    return (-item.priority, item.date or _LAST, item.twitch_vod_id)


def plan_due(
    items: Iterable[QueueItem],
    *,
    running: Collection[Job],
    slots: Mapping[Stage, int],
    breakers: Mapping[str, Breaker],
    now: datetime,
) -> list[Due]:
    """Choose what to start at ``now``, best first.

    Args:
        items: rows of the queue, in any order; rows that are not due are passed over.
        running: the jobs at work; their items are never due, and they occupy slots.
        slots: how many jobs of a stage may run at once; a stage without slots never starts anything.
        breakers: by channel; a channel without one is closed.
        now: aware, UTC.

    Returns at most as many entries per stage as slots are free. A channel whose breaker is open contributes nothing,
    or exactly one probe once its cooldown is over.
    """
    busy = {job.twitch_vod_id for job in running}
    probing = {job.channel for job in running if job.probe}
    free = {stage: count - sum(job.stage is stage for job in running) for stage, count in slots.items()}
    due: list[Due] = []
    if free.get(Stage.CAPTURE, 0) <= 0:
        return due
    for item in sorted(items, key=queue_key):
        if item.twitch_vod_id in busy:
            continue
        reason = due_reason(item, now)
        if reason is None:
            continue
        passage = gate(breakers.get(item.channel, CLOSED), now)
        if passage is Gate.SHUT or (passage is Gate.PROBE and item.channel in probing):
            continue
        if passage is Gate.PROBE:
            probing.add(item.channel)
        busy.add(item.twitch_vod_id)
        due.append(Due(item, Stage.CAPTURE, reason, probe=passage is Gate.PROBE))
        if len(due) == free[Stage.CAPTURE]:
            break
    return due
