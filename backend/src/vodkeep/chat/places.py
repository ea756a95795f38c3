"""Where things lie on the timeline of an item whose chat is in one or more sessions; pure.

A *place* is a point in the order of an item's chat: by the offset on the item's timeline (ms from the start of the
picture, negative before it), then by the message's number. The number alone is a cursor: its session says the rest, and
goes on saying it after the whole chat was moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vodkeep.chat.ids import LAST_OFFSET_MS, LOWER_HALF, SESSION_SHIFT, first_id, offset_of, session_of
from vodkeep.chat.picture_time import to_clock, to_picture
from vodkeep.chat.sessions import Session

_MOST_DIGITS = 19

# Where many were sent in one millisecond, the last of them are numbered as if they had been sent a little later.
_TIES_MS = 1_000

BEGINNING_MS = -(1 << 40)
"""Before anything that can be on a timeline."""


class BadCursor(ValueError):
    """A cursor that is not one of this item's."""


@dataclass(frozen=True, slots=True)
class Place:
    """What lies at ``offset_ms`` or later; with ``after``, only what comes after that message, which lies there."""

    offset_ms: int
    after: int | None = None


def place_after(cursor: str, sessions: Iterable[Session]) -> Place:
    """The place right behind the message that ``cursor`` names; raises :class:`BadCursor`."""
    number = read_cursor(cursor)
    for session in sessions:
        if session.id == session_of(number):
            return Place(place_of(number, session), number)
    raise BadCursor("it is not a message of this chat")


def read_cursor(cursor: str) -> int:
    """The number that a cursor is; raises :class:`BadCursor`."""
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= _MOST_DIGITS) or int(cursor) >> 63:
        raise BadCursor("the cursor is not one this service gave out")
    return int(cursor)


def place_of(number: int, session: Session) -> int:
    """Where the message of that session lies on the item's timeline, ms."""
    return to_picture(offset_of(number) + session.vod_offset_ms, session.pauses)


def first_from(session: Session, place: Place) -> int:
    """The smallest number in the session that lies at ``place`` or later; none of the session's when all lie before."""
    place_ms = place.offset_ms
    if place.after is not None:
        if session.id == session_of(place.after):
            return place.after + 1
        if session.id < session_of(place.after):
            place_ms += 1
    offset_ms = to_clock(place_ms, session.pauses) - session.vod_offset_ms
    return beyond(session) + 1 if offset_ms > LAST_OFFSET_MS else first_id(session.id, offset_ms)


def last_before(session: Session, until_ms: int) -> int:
    """The largest number of the session that can lie before ``until_ms``; smaller than all of them when none does."""
    return first_from(session, Place(until_ms)) - 1


def beyond(session: Session) -> int:
    """The largest number the session can have."""
    return session.id << SESSION_SHIFT | LOWER_HALF


def stretches(sessions: Iterable[Session], place: Place) -> list[list[Session]]:
    """The sessions that have something at ``place`` or later, in order; those whose times overlap are together."""
    groups: list[list[Session]] = []
    end_ms = 0
    for session in sorted(sessions, key=lambda each: (each.vod_offset_ms, each.id)):
        if session.last_ms is None:
            continue
        last_ms = to_picture(session.last_ms - session.base_ms + session.vod_offset_ms, session.pauses)
        if last_ms + _TIES_MS < place.offset_ms:
            continue
        if groups and to_picture(session.vod_offset_ms, session.pauses) <= end_ms:
            groups[-1].append(session)
            end_ms = max(end_ms, last_ms)
        else:
            groups.append([session])
            end_ms = last_ms
    return groups


def later(sessions: Sequence[Session], session: Session) -> list[Session]:
    """Those of ``sessions`` that began after ``session``."""
    key = (session.base_ms, session.id)
    return [each for each in sessions if (each.base_ms, each.id) > key]
