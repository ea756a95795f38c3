"""Which videos may go from the disk, and why the others stay: pure rules over plain values.

A video goes only when each limit that is set lets it go, and only when it is *proven*: every part of the item's latest
publication is processed at YouTube with the right length, and was so again at a later look. Every rule can only add a
reason to stay. Whoever hands in fewer broadcasts, fewer publications or none at all can therefore never let more go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

TOLERANCE_MS = 2_000
"""YouTube tells whole seconds, rounded up or down, and counts the longer of picture and sound."""

_PROCESSED = "processed"


class EntryState(StrEnum):
    """How far a recorded decision is; stored in ``retention_entries.state``.

    ::

        planned ──> moving ──> trashed ──> removing ──> removed
           │          │         │  ^
           └──────────┴> dropped└──┴─> restoring ──> restored
    """

    PLANNED = "planned"  # decided; nothing was touched
    MOVING = "moving"  # on its way into the trash
    TRASHED = "trashed"  # in the trash; can be undone
    RESTORING = "restoring"  # on its way back
    REMOVING = "removing"  # being removed for good
    DROPPED = "dropped"  # it came to nothing: the item had changed, or could not be moved
    RESTORED = "restored"  # back in its folder
    REMOVED = "removed"  # gone for good


OPEN = frozenset({EntryState.PLANNED, EntryState.MOVING, EntryState.TRASHED, EntryState.RESTORING, EntryState.REMOVING})


@dataclass(frozen=True, slots=True)
class PublishedPart:
    """A part of an item's latest publication."""

    part: int  # 1..parts
    parts: int
    state: str  # as in ``publications.state``
    start_ms: int  # its stretch of the picture
    end_ms: int
    size_bytes: int = 0  # of the file that was sent
    checksum: str = ""
    youtube_duration_ms: int | None = None
    processed_at: datetime | None = None  # when YouTube first said so
    checked_at: datetime | None = None  # when it was last asked
    reason_code: str | None = None  # what is wrong with it


@dataclass(frozen=True, slots=True)
class RetentionItem:
    """A broadcast whose video lies in its folder, as far as the database knows."""

    video_id: str
    channel: str  # login
    path: str  # of the video, relative to the library
    size_bytes: int
    date: datetime  # start of the broadcast, or when it was found
    generation: int = 0
    is_settled: bool = True  # done, and nothing works on it
    is_protected: bool = False
    is_in_trash: bool = False  # a video of it is on its way into the trash, in it, or on its way out
    parts: Sequence[PublishedPart] | None = ()  # None: they could not be read


@dataclass(frozen=True, slots=True)
class Limits:
    """What may go of a channel; without any limit nothing does."""

    keep_days: int | None = None  # younger ones stay
    keep_count: int | None = None  # so many of the newest stay
    keep_bytes: int | None = None  # the newest that fit into this stay

    @property
    def is_empty(self) -> bool:
        """Whether nothing ever goes."""
        return self.keep_days is None and self.keep_count is None and self.keep_bytes is None


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator wants."""

    limits: Limits = Limits()
    channels: Mapping[str, Limits] = field(default_factory=dict)  # by login; instead of ``limits``
    only_copy: bool = False  # videos that are not proven to be on YouTube may go as well
    proven_after: timedelta = timedelta(days=1)
    trash_window: timedelta = timedelta(days=7)

    @property
    def is_empty(self) -> bool:
        """Whether nothing ever goes."""
        return self.limits.is_empty and all(limits.is_empty for limits in self.channels.values())

    def limits_of(self, channel: str) -> Limits:
        """The limits of a channel."""
        return self.channels.get(channel, self.limits)


@dataclass(frozen=True, slots=True)
class Judged:
    """A broadcast and what becomes of its video."""

    item: RetentionItem
    reason: str  # as a sentence


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes and what stays, oldest broadcast first."""

    going: tuple[Judged, ...]
    staying: tuple[Judged, ...]


def plan_retention(items: Iterable[RetentionItem], policy: Policy, now: datetime) -> Plan:
    """Decide about every video; ``items`` may come in any order."""
    channels: dict[str, list[RetentionItem]] = {}
    for item in items:
        channels.setdefault(item.channel, []).append(item)
    going: list[Judged] = []
    staying: list[Judged] = []
    for channel, several in channels.items():
        limits = policy.limits_of(channel)
        taken_bytes = 0
        newest_first = sorted(several, key=lambda item: (item.date, item.video_id), reverse=True)
        for newer, item in enumerate(newest_first):
            taken_bytes += item.size_bytes
            words = _words_of_limits(item, limits, now, newer=newer, taken_bytes=taken_bytes)
            kept = words is None and "No limit lets it go."
            stays = kept or why_it_must_stay(item) or (not policy.only_copy and why_unproven(item.parts, policy, now))
            if stays:
                staying.append(Judged(item, stays))
            else:
                going.append(Judged(item, f"{words}; {_words_of_copy(item)}."))
    return Plan(_sorted(going), _sorted(staying))


def why_it_must_stay(item: RetentionItem) -> str | None:
    """Why the video stays whatever the limits say, as a sentence; None when they decide."""
    if item.is_protected:
        return "It is protected."
    if not item.is_settled:
        return "It is not done."
    if item.is_in_trash:
        return "An earlier video of it is still in the trash."
    return None


def why_unproven(parts: Sequence[PublishedPart] | None, policy: Policy, now: datetime) -> str | None:
    """Why YouTube's copy does not stand in for the video, as a sentence; None when it does."""
    if parts is None:
        return "What is on YouTube could not be read."
    if not parts:
        return "It is the only copy: nothing of it is on YouTube."
    ordered = sorted(parts, key=lambda part: part.part)
    if [part.part for part in ordered] != list(range(1, ordered[0].parts + 1)) or len({p.parts for p in parts}) != 1:
        return "Not every part of it is on YouTube."
    end_ms = 0
    for part in ordered:
        if abs(part.start_ms - end_ms) > TOLERANCE_MS:
            return "Its parts on YouTube leave something out."
        end_ms = part.end_ms
        reason = _why_part_unproven(part, policy, now)
        if reason is not None:
            return reason
    return None


def lasts_as_long(expected_ms: int, youtube_ms: int | None) -> bool:
    """Whether YouTube's video has the length of what was sent, within :data:`TOLERANCE_MS`."""
    return youtube_ms is not None and youtube_ms > 0 and abs(youtube_ms - expected_ms) <= TOLERANCE_MS


def _why_part_unproven(part: PublishedPart, policy: Policy, now: datetime) -> str | None:
    name = "The video on YouTube" if part.parts == 1 else f"Part {part.part} on YouTube"
    if part.state != _PROCESSED:
        return f"{name} is {part.state}, not processed."
    if part.reason_code is not None:
        return f"{name} is in trouble ({part.reason_code})."
    if part.youtube_duration_ms is None:
        return f"{name} has a length that nobody has asked for yet."
    if not lasts_as_long(part.end_ms - part.start_ms, part.youtube_duration_ms):
        return f"{name} has another length than what was sent."
    if part.processed_at is None or part.checked_at is None or part.checked_at > now:
        return f"{name} was not looked at again."
    if part.checked_at - part.processed_at < policy.proven_after:
        return f"{name} has not been seen whole for long enough."
    return None


def _words_of_limits(item: RetentionItem, limits: Limits, now: datetime, *, newer: int, taken_bytes: int) -> str | None:
    """Why the limits let the video go; None when one of them, or the lack of any, keeps it."""
    words = []
    if limits.keep_days is not None:
        if now - item.date <= timedelta(days=limits.keep_days):
            return None
        words.append(f"older than {limits.keep_days} days")
    if limits.keep_count is not None:
        if newer < limits.keep_count:
            return None
        words.append(f"beyond the newest {limits.keep_count} of {item.channel}")
    if limits.keep_bytes is not None:
        if taken_bytes <= limits.keep_bytes:
            return None
        words.append(f"beyond the newest {limits.keep_bytes} bytes of {item.channel}")
    text = " and ".join(words)
    return text[:1].upper() + text[1:] if words else None


def _words_of_copy(item: RetentionItem) -> str:
    seen = min((part.checked_at for part in item.parts or () if part.checked_at is not None), default=None)
    if seen is None:
        return "no copy of it is known"
    return f"last seen on YouTube at {seen:%Y-%m-%d %H:%M} UTC"


def _sorted(several: list[Judged]) -> tuple[Judged, ...]:
    return tuple(sorted(several, key=lambda each: (each.item.date, each.item.video_id)))
