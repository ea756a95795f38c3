"""Whether a channel is live, from what Twitch answers when it is asked again and again: pure rules.

Twitch's word is not quite its bond. A reply may fail or leave a channel out, live status flaps at the start of a stream
and after a short cut, and a stream that breaks off goes on under a new id within minutes. So a stream begins with the
first sight of it, ends after two complete replies without it, and is the same one for as long as it has the same id.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

MISSES_TO_END = 2
"""Complete replies without a stream after which it counts as ended."""


@dataclass(frozen=True, slots=True)
class LiveStream:
    """A stream as a reply or our own session tells of it."""

    stream_id: str
    started_at: datetime  # UTC
    channel_id: str | None = None  # of the broadcaster
    title: str = ""


class Silence(Enum):
    """What it means that a reply does not name a channel's stream."""

    OFFLINE = "offline"  # the reply was whole and about this channel: it is not live
    UNKNOWN = "unknown"  # it failed, or an entry of it could not be read: nothing can be concluded


Sight = LiveStream | Silence
"""What one reply says about one channel."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What is known about a channel."""

    stream: LiveStream | None = None  # the one that runs
    misses: int = 0  # complete replies without it in a row; unknown ones in between count for nothing
    missed_at: datetime | None = None  # when the first of them came, UTC


@dataclass(frozen=True, slots=True)
class Began:
    """A stream runs that did not run before; one that had ended too soon begins again with its old id."""

    stream: LiveStream


@dataclass(frozen=True, slots=True)
class Ended:
    """A stream is over."""

    stream: LiveStream
    at: datetime  # UTC: when it was first missing, or another took its place


Change = Began | Ended


def look(watched: Watched, sight: Sight, now: datetime) -> tuple[Watched, tuple[Change, ...]]:
    """What is known after one more reply, and what has happened, in order."""
    running = watched.stream
    match sight:
        case Silence.UNKNOWN:
            return watched, ()
        case Silence.OFFLINE:
            if running is None:
                return watched, ()
            missed_at = watched.missed_at or now
            if watched.misses + 1 < MISSES_TO_END:
                return replace(watched, misses=watched.misses + 1, missed_at=missed_at), ()
            return Watched(), (Ended(running, missed_at),)
        case LiveStream() as seen:
            if running is not None and running.stream_id == seen.stream_id:
                # The start it was first seen with stays: offsets hang on it.
                return Watched(replace(seen, started_at=running.started_at)), ()
            began = Began(seen)
            if running is None:
                return Watched(seen), (began,)
            return Watched(seen), (Ended(running, watched.missed_at or now), began)


def sights(asked: Collection[str], live: Iterable[tuple[str, LiveStream]], *, complete: bool) -> Mapping[str, Sight]:
    """What a reply to a question about the channels ``asked`` says of each of them.

    Args:
        asked: logins; the reply speaks of these and of no other.
        live: login and stream of each entry, in any case of letters; a foreign one is passed over.
        complete: whether every entry could be read. If not, the one that could not may be anybody's.
    """
    silence = Silence.OFFLINE if complete else Silence.UNKNOWN
    found: dict[str, Sight] = dict.fromkeys(asked, silence)
    found.update((login.lower(), stream) for login, stream in live if login.lower() in found)
    return found


def batches(channels: Collection[str], size: int = 100) -> list[tuple[str, ...]]:
    """The channels in groups of at most ``size`` that differ by one at most, in a steady order."""
    ordered = sorted(channels)
    count = -(-len(ordered) // size)
    return [tuple(ordered[number::count]) for number in range(count)]
