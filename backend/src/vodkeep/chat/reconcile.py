"""Which VOD is the recording of which stream: pure rules.

The stream's id decides wherever both know it. Only where one of them has none does the start decide, within ten
minutes, the closest pair first. A VOD that names another stream is never taken, however close: streams that break off
are followed by others within minutes. Every VOD is taken once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

NEAR = timedelta(minutes=10)
"""How far apart the starts of a stream and its VOD may lie where no id tells them."""

LOOK_EVERY = timedelta(seconds=30)
"""How often Twitch's list is read again while a VOD is looked for."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A stream that has no VOD yet."""

    item_id: str  # its placeholder id
    started_at: datetime  # UTC
    stream_id: str | None
    linked_to: str | None = None  # the VOD that its chat was given to already, by a run that was cut off


@dataclass(frozen=True, slots=True)
class Recording:
    """A VOD in Twitch's list; only recordings of streams, no highlights or uploads."""

    vod_id: str
    started_at: datetime  # UTC
    stream_id: str | None


def match(
    placeholders: Sequence[Placeholder], recordings: Iterable[Recording], *, taken: Collection[str] = ()
) -> Mapping[str, Recording]:
    """The VOD of each placeholder that has one, by ``item_id``.

    Args:
        placeholders: of one channel.
        recordings: of the same channel, in any order.
        taken: VODs whose chat is known to be another stream's; a placeholder's own ``linked_to`` may be among them.
    """
    # Of two entries with one id the later is as good; all that follows is in a fixed order, whatever the list's.
    free = {each.vod_id: each for each in sorted(recordings, key=lambda each: each.vod_id)}
    pairs = [
        (_rank(placeholder, recording), placeholder, recording)
        for placeholder in placeholders
        for recording in free.values()
        if _fits(placeholder, recording)
        and (recording.vod_id not in taken or recording.vod_id == placeholder.linked_to)
    ]
    found: dict[str, Recording] = {}
    for _, placeholder, recording in sorted(pairs, key=lambda pair: pair[0]):
        if placeholder.item_id not in found and recording.vod_id in free:
            found[placeholder.item_id] = free.pop(recording.vod_id)
    return found | _in_order(placeholders, found)


def _in_order(placeholders: Sequence[Placeholder], found: Mapping[str, Recording]) -> dict[str, Recording]:
    """What was matched by its start, so that of two streams the earlier has the earlier VOD.

    The closest pair first can leave the second pair crosswise. Uncrossed, no pair is further apart than before.
    """
    loose = [
        each
        for each in sorted(placeholders, key=lambda each: (each.started_at, each.item_id))
        if each.item_id in found
        and (each.stream_id is None or found[each.item_id].stream_id is None)
        and each.linked_to != found[each.item_id].vod_id
    ]
    ordered = sorted((found[each.item_id] for each in loose), key=lambda each: (each.started_at, each.vod_id))
    fitting = all(_fits(each, recording) for each, recording in zip(loose, ordered, strict=True))
    return {each.item_id: recording for each, recording in zip(loose, ordered, strict=True) if fitting}


def _fits(placeholder: Placeholder, recording: Recording) -> bool:
    if placeholder.stream_id is not None and recording.stream_id is not None:
        return placeholder.stream_id == recording.stream_id
    return abs(placeholder.started_at - recording.started_at) <= NEAR


def _rank(placeholder: Placeholder, recording: Recording) -> tuple[bool, bool, timedelta, datetime, str, str]:
    """What is done first: what was begun, then what ids say, then the closest start."""
    return (
        placeholder.linked_to != recording.vod_id,
        placeholder.stream_id is None or placeholder.stream_id != recording.stream_id,
        abs(placeholder.started_at - recording.started_at),
        recording.started_at,
        recording.vod_id,
        placeholder.item_id,
    )


class Step(Enum):
    """What is to be done about a stream without a VOD."""

    WAIT = "wait"  # it is live, or has only just ended
    LOOK = "look"  # read Twitch's list
    GIVE_UP = "give up"  # the time is over: tell people, and leave it to a later discovery


def step(ended_at: datetime | None, now: datetime, *, delay: timedelta, window: timedelta, looked: bool) -> Step:
    """What is to be done at ``now``.

    Args:
        ended_at: when the stream ended; ``None`` while it is live.
        now: aware, UTC.
        delay: the wait after the end before the first look.
        window: how long to go on looking, from the end; a service that was down then still looks once.
        looked: whether this process has read the list in vain since the wait was over.
    """
    if ended_at is None or now < ended_at + delay:
        return Step.WAIT
    return Step.GIVE_UP if looked and now >= ended_at + max(window, delay) else Step.LOOK


def next_look(ended_at: datetime, now: datetime, *, delay: timedelta, window: timedelta) -> datetime:
    """When :func:`step` has to be asked again; never later than the end of the window while that lies ahead."""
    if now < ended_at + delay:
        return ended_at + delay
    last = ended_at + max(window, delay)
    return min(now + LOOK_EVERY, last) if now < last else now + LOOK_EVERY
