"""Where the clock went on and the picture did not: an encoder that was away, told by the playlist's dates. Pure."""

from __future__ import annotations

from datetime import timedelta

from vodkeep.capture.model import MediaPlaylist

# Dates and durations are rounded; what adds up to less shows nothing.
_LEAST_MS = 1_000


def find_pauses(playlist: MediaPlaylist) -> tuple[tuple[int, int], ...]:
    """Stretches of the clock's time without a picture, from start to end, in ms since the date of the first segment.

    Empty where the playlist has no dates, or does not begin with one. A clock that was set back shows nothing.
    """
    first = playlist.segments[0].program_date_time if playlist.segments else None
    if first is None:
        return ()
    pauses: list[tuple[int, int]] = []
    lost_ms = 0
    for segment in playlist.segments:
        if segment.program_date_time is None:
            continue
        expected_ms = segment.start_us // 1000 + lost_ms
        found_ms = (segment.program_date_time - first) // timedelta(milliseconds=1)
        if found_ms - expected_ms >= _LEAST_MS:
            pauses.append((expected_ms, found_ms))
            lost_ms += found_ms - expected_ms
    return tuple(pauses)
