"""The picture's time beside the clock's: they part where an encoder was away and the picture goes on without a hole.

*Pauses* are stretches of the clock's time without a picture, in ms since the picture began, in order and apart. What
was said in one lies where the picture goes on. Pure.
"""

from __future__ import annotations

from vodkeep.chat.stretches import Stretch

Pauses = tuple[Stretch, ...]


def to_picture(since_ms: int, pauses: Pauses) -> int:
    """Where on the picture it is so much after the picture began, by the clock."""
    return since_ms - sum(min(max(since_ms - start, 0), end - start) for start, end in pauses)


def to_clock(picture_ms: int, pauses: Pauses) -> int:
    """How long after the picture began, by the clock, that place was reached first."""
    since_ms = picture_ms
    for start, end in pauses:
        if since_ms <= start:
            break
        since_ms += end - start
    return since_ms


def to_picture_sql(since_ms: str, pauses: Pauses) -> str:
    """SQL for :func:`to_picture` of what the SQL ``since_ms`` says."""
    cases = (
        f" - CASE WHEN {since_ms} <= {start} THEN 0 WHEN {since_ms} >= {end} THEN {end - start}"
        f" ELSE {since_ms} - {start} END"
        for start, end in pauses
    )
    return f"({since_ms}{''.join(cases)})"
