"""What is due, in which order: pure functions of rows, slots, limits, breakers, free space and the clock.

Each stage has slots of its own, and nothing that one stage waits for (an upload limit, a breaker, a full disk) holds up
another. Within a stage the order is:

1. higher ``priority`` first;
2. recordings that Twitch will delete within a day, the one with the least time left first (:func:`expires_at`);
3. new broadcasts and the back-catalogue take turns, so that neither starves, however long the other's queue is;
4. the oldest broadcast first; the id makes the order total.

The same rule decides three times: as ``vods.due_stage`` in the database, which finds the rows; here, over what was
found; and once more for one row inside the transaction that claims it, because rows change in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby

from vodkeep.capture.space import RESERVE_BYTES, bytes_of
from vodkeep.catalog.lifetime import KEPT
from vodkeep.pipeline.breaker import CLOSED, Breaker, Gate, gate
from vodkeep.pipeline.model import DownloadState, Job, QueueItem, Stage

URGENT_WITHIN = timedelta(days=1)
"""A recording that Twitch deletes within this time goes before all others of its priority."""

PUBLICATION_WINDOW = timedelta(days=1)
"""Daily limits count what was published within this time, whatever the hour of the day."""

TWITCH_STAGES = frozenset({Stage.CAPTURE, Stage.CHAT})
"""Stages that fetch from Twitch: its deletions make them urgent, and the channel's breaker holds them back."""

_S = DownloadState


class DueReason(StrEnum):
    """Why a stage of an item should run now."""

    NEW = "new"  # never tried, or handed back at a shutdown
    RESUMED = "resumed"  # a run died in the middle of it
    RETRY = "retry"  # a failed attempt whose wait is over
    ENDED = "ended"  # was live; time to look whether the broadcast has ended
    RESET = "reset"  # an operator asked for it again
    NEXT = "next"  # the stage before has succeeded


@dataclass(frozen=True, slots=True)
class Due:
    """One stage of one item that should start now."""

    item: QueueItem
    stage: Stage
    reason: DueReason
    probe: bool = False  # the channel's breaker is open and this is its one trial


@dataclass(frozen=True, slots=True)
class Publication:
    """A broadcast that became public."""

    at: datetime  # UTC
    back_catalogue: bool


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """How many publications there may be within :data:`PUBLICATION_WINDOW`."""

    daily: int
    back_catalogue: int  # how many of them may be old broadcasts; 0: new ones only


@dataclass(frozen=True, slots=True)
class Situation:
    """All that decides what may start, beside the rows of the queue."""

    now: datetime  # aware, UTC
    slots: Mapping[Stage, int]  # how many jobs of a stage may run at once; a stage without slots never starts anything
    running: Collection[Job] = ()  # jobs at work: their items are never due, and they occupy slots
    at_work: Collection[QueueItem] = ()  # the rows of those jobs, as far as there are any
    breakers: Mapping[str, Breaker] = field(default_factory=dict)  # by channel; one without is closed
    lifetimes: Mapping[str, timedelta] = field(default_factory=dict)  # how long Twitch keeps a channel's recordings
    old_went_last: Mapping[Stage, bool] = field(default_factory=dict)  # whose turn the last start of a stage was
    published: Collection[Publication] = ()  # of the last PUBLICATION_WINDOW
    upload_limits: UploadLimits | None = None  # None: any number
    free_bytes: int | None = None  # on the disk of the archive; None: not known
    reserve_bytes: int = RESERVE_BYTES  # of it, that captures leave free
    byte_rates: Mapping[str, float] = field(default_factory=dict)  # bytes a second of a channel's latest videos


@dataclass(frozen=True, slots=True)
class DiskShortage:
    """Why a capture does not start: there is less space than it needs, those at work still need, and a reserve."""

    free_bytes: int
    needed_bytes: int
    vod_id: str | None = None  # the first that waits; None: whichever it is
    since: datetime | None = None  # when captures began to wait


# --- one row ---------------------------------------------------------------------------------------------------------


def due_stage(item: QueueItem, now: datetime) -> Stage | None:
    """The stage that ``item`` is due for at ``now``; whether it runs already is the caller's to know."""
    state, stage = item.download_state, item.stage
    if item.is_placeholder:
        return None
    if item.processed:
        return Stage.TIDY if state is _S.DONE and stage is Stage.TIDY else None
    if item.is_reset or state in (_S.DOWNLOADING, _S.VERIFYING):
        return Stage.CAPTURE
    if state is _S.UPLOADING:
        return Stage.PUBLISH
    if item.not_before is not None and item.not_before > now:
        return None
    if state in (_S.PENDING, _S.WAITING):
        return Stage.CAPTURE
    if state is _S.DOWNLOADED:
        wanted = Stage.CHAT if stage is Stage.CHAT else Stage.PUBLISH
    elif state is _S.FAILED:
        wanted = stage if stage in (Stage.CHAT, Stage.PUBLISH) else Stage.CAPTURE
    else:
        return None
    return None if wanted is Stage.PUBLISH and item.skip_upload else wanted


def due_reason(item: QueueItem, now: datetime, stage: Stage = Stage.CAPTURE) -> DueReason | None:
    """Why ``stage`` of ``item`` may run at ``now``, or ``None``."""
    if due_stage(item, now) is not stage:
        return None
    if item.is_reset:
        return DueReason.RESET
    match item.download_state:
        case DownloadState.PENDING:
            return DueReason.NEW
        case DownloadState.WAITING:
            return DueReason.ENDED
        case DownloadState.FAILED:
            return DueReason.RETRY
        case DownloadState.DOWNLOADED | DownloadState.DONE:
            return DueReason.NEXT
        case _:
            return DueReason.RESUMED


def expires_at(item: QueueItem, lifetime: timedelta | None, now: datetime) -> datetime | None:
    """When Twitch deletes the recording, as far as can be told; ``None`` when it has outlived every time there is.

    Args:
        item: counted from the start of the broadcast, so rather too early.
        lifetime: the shortest time that the channel's list leaves possible (``vodkeep.catalog.lifetime``), if known. A
            recording that is older than it shows by being in the queue that the next longer time may hold.
        now: aware, UTC.
    """
    if item.date is None:
        return None
    age = now - item.date
    return next((item.date + kept for kept in KEPT if kept > age and (lifetime is None or kept >= lifetime)), None)


def queue_key(item: QueueItem) -> tuple[int, datetime, str]:
    """The order among items of one kind: priority first, then the oldest broadcast; the id makes it total."""
    return (-item.priority, item.sort_date, item.twitch_vod_id)


# --- limits ----------------------------------------------------------------------------------------------------------


def next_upload_at(published: Collection[Publication], limits: UploadLimits, now: datetime) -> datetime | None:
    """When a limit that holds uploads back now lets the next one through; ``None`` when none does."""
    recent = sorted(one.at for one in published if one.at > now - PUBLICATION_WINDOW)
    old = sorted(one.at for one in published if one.at > now - PUBLICATION_WINDOW and one.back_catalogue)
    full = [
        times[-limit]
        for times, limit in ((recent, limits.daily), (old, limits.back_catalogue))
        if 0 < limit <= len(times)
    ]
    return min(full) + PUBLICATION_WINDOW if full else None


def bytes_needed(item: QueueItem, byte_rate: float | None = None) -> int:
    """How much space the capture of ``item`` will still take: what it says itself, else a guess from the length.

    ``byte_rate`` is what a second of the channel's latest videos took; without one, what Twitch recommends at the most.
    """
    expected = item.download_total
    if expected is None and byte_rate is not None:
        expected = round(byte_rate * (item.duration_seconds or 0))
    elif expected is None:
        expected = bytes_of(timedelta(seconds=item.duration_seconds or 0))
    return max(0, expected - item.download_bytes)


def room_left(situation: Situation) -> int | None:
    """Bytes that new captures may take, beside what those at work still need and a reserve; ``None``: not known."""
    if situation.free_bytes is None:
        return None
    capturing = {job.twitch_vod_id for job in situation.running if job.stage is Stage.CAPTURE}
    needed = sum(_needed(item, situation) for item in situation.at_work if item.twitch_vod_id in capturing)
    return situation.free_bytes - situation.reserve_bytes - needed


def disk_shortage(queue: Iterable[QueueItem], situation: Situation) -> DiskShortage | None:
    """Whether the disk is too full for a new capture; what is at work goes on, and so do the other stages.

    ``queue`` as for :func:`plan_due`. A smaller broadcast may begin while a larger one waits.
    """
    left = room_left(situation)
    if left is None or situation.free_bytes is None:
        return None
    rows = list(queue)
    begin = {due.item.twitch_vod_id for due in plan_due(rows, situation)}
    would_begin = [
        due.item for due in plan_due(rows, replace(situation, free_bytes=None)) if due.stage is Stage.CAPTURE
    ]
    waiting = next((item for item in would_begin if item.twitch_vod_id not in begin), None)
    if waiting is None and left >= 0:
        return None
    needed = situation.free_bytes - left + (0 if waiting is None else _needed(waiting, situation))
    return DiskShortage(situation.free_bytes, needed, None if waiting is None else waiting.twitch_vod_id)


def _needed(item: QueueItem, situation: Situation) -> int:
    return bytes_needed(item, situation.byte_rates.get(item.channel))


# --- the plan --------------------------------------------------------------------------------------------------------


def plan_due(items: Iterable[QueueItem], situation: Situation) -> list[Due]:
    """Choose what to start now: the stages in their order, best first within each.

    ``items`` are rows of the queue, in any order; rows that are not due are passed over. Returns at most as many
    entries per stage as slots are free. A channel whose breaker is open contributes nothing that asks Twitch, or
    exactly one probe once its cooldown is over.
    """
    busy = {job.twitch_vod_id for job in situation.running}
    waiting: dict[Stage, list[QueueItem]] = {stage: [] for stage in Stage}
    for item in items:
        stage = due_stage(item, situation.now)
        if stage is not None and item.twitch_vod_id not in busy:
            waiting[stage].append(item)
    due: list[Due] = []
    for stage in Stage:
        slots = _Slots(stage, situation)
        _fill(slots, waiting[stage], situation)
        due += slots.taken
    return due


class _Slots:
    """The free slots of one stage while they are being filled, and what else may keep an item out of them."""

    def __init__(self, stage: Stage, situation: Situation) -> None:
        self.stage = stage
        self.taken: list[Due] = []
        self._now = situation.now
        self._breakers = situation.breakers if stage in TWITCH_STAGES else {}
        self._probing = {job.channel for job in situation.running if job.probe}
        self._free = situation.slots.get(stage, 0) - sum(job.stage is stage for job in situation.running)
        self._admit: Callable[[QueueItem], bool] = lambda _: True
        if stage is Stage.CAPTURE:
            self._admit = _room_on_disk(situation)
        elif stage is Stage.PUBLISH:
            self._admit = _uploads_left(situation)

    @property
    def are_full(self) -> bool:
        return self._free <= 0

    def take(self, item: QueueItem) -> bool:
        """Give the item a slot, or tell that it must wait."""
        passage = gate(self._breakers.get(item.channel, CLOSED), self._now)
        probe = passage is Gate.PROBE
        if passage is Gate.SHUT or (probe and (self.stage is not Stage.CAPTURE or item.channel in self._probing)):
            return False
        reason = due_reason(item, self._now, self.stage)
        if reason is None or not self._admit(item):
            return False
        if probe:
            self._probing.add(item.channel)
        self._free -= 1
        self.taken.append(Due(item, self.stage, reason, probe))
        return True


def _fill(slots: _Slots, items: Iterable[QueueItem], situation: Situation) -> None:
    """Take items in their order until no slot is free."""
    old_went_last = situation.old_went_last.get(slots.stage, True)
    for _, group in groupby(sorted(items, key=queue_key), key=lambda item: item.priority):
        level = list(group)
        urgent = _urgent(level, situation) if slots.stage in TWITCH_STAGES else []
        hurried = {item.twitch_vod_id for item in urgent}
        # Two queues, of new broadcasts (False) and of the back-catalogue (True).
        lanes: dict[bool, deque[QueueItem]] = {False: deque(), True: deque()}
        for item in level:
            if item.twitch_vod_id not in hurried:
                lanes[item.back_catalogue].append(item)
        for item in urgent:
            if slots.are_full:
                return
            if slots.take(item):
                old_went_last = item.back_catalogue
        while lanes[False] or lanes[True]:
            if slots.are_full:
                return
            lane = lanes[not old_went_last] or lanes[old_went_last]
            item = lane.popleft()
            if slots.take(item):
                old_went_last = item.back_catalogue


def _urgent(items: Iterable[QueueItem], situation: Situation) -> list[QueueItem]:
    expiring = [(expires_at(item, situation.lifetimes.get(item.channel), situation.now), item) for item in items]
    soon = situation.now + URGENT_WITHIN
    urgent = [(when, queue_key(item), item) for when, item in expiring if when is not None and when <= soon]
    return [item for _, _, item in sorted(urgent, key=lambda each: each[:2])]


def _room_on_disk(situation: Situation) -> Callable[[QueueItem], bool]:
    """Admits captures that fit beside what those at work and the ones before them need."""
    left = room_left(situation)

    def admit(item: QueueItem) -> bool:
        nonlocal left
        if left is None:
            return True
        needed = _needed(item, situation)
        if left < needed:
            return False
        left -= needed
        return True

    return admit


def _uploads_left(situation: Situation) -> Callable[[QueueItem], bool]:
    """Admits uploads within the daily limits; those at work count as if they had succeeded already."""
    limits = situation.upload_limits
    if limits is None:
        return lambda _: True
    since = situation.now - PUBLICATION_WINDOW
    recent = [one.back_catalogue for one in situation.published if one.at > since]
    kinds = {item.twitch_vod_id: item.back_catalogue for item in situation.at_work}
    recent += [kinds.get(job.twitch_vod_id, False) for job in situation.running if job.stage is Stage.PUBLISH]
    left, old_left = limits.daily - len(recent), limits.back_catalogue - sum(recent)

    def admit(item: QueueItem) -> bool:
        nonlocal left, old_left
        if left <= 0 or (item.back_catalogue and old_left <= 0):
            return False
        left -= 1
        old_left -= item.back_catalogue
        return True

    return admit
