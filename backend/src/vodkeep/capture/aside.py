"""What was captured of a broadcast in another rendition: set aside, not thrown away, until something better is proven.

The settings, or what Twitch offers, can change between two attempts. Then another reel is begun; but the broadcast may
be deleted before that one has come as far as the first. So a work folder has a *front*, its plan and its reel, and
``aside``, a folder for each other rendition with the same files in it. All of it goes with the work folder.

Moving several files takes several renames. They go by way of ``aside/moving``; whatever a crash leaves there belongs
at the front, since nothing new is begun there before the move is finished.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vodkeep.capture.plan import SavedPlan, load_plan, match_fetched
from vodkeep.capture.reel import survey_reel
from vodkeep.disk import FOLDER_MODE, disk_errors, sync

_FILES = ("plan.json", "journal.ndjson", "video.mp4")
_ASIDE = "aside"
_MOVING = "moving"


@dataclass(frozen=True, slots=True)
class Begun:
    """A capture that was begun, and how far its journal says it came."""

    plan: SavedPlan
    share: float  # of the timeline, 0 to 1; what the journal says and nobody has looked at yet


def bring_to_front(folder: Path, format_id: str) -> None:
    """Go on with ``format_id`` in the work folder ``folder``: what was begun of another rendition is set aside.

    Cut off anywhere, it can be done again. Blocking; no reel may be open.
    """
    with disk_errors(folder):
        _finish_move(folder)
        if _format_of(folder) == format_id:
            return
        _set_aside(folder)
        for place in _places(folder):
            if _format_of(place) == format_id:
                place.rename(folder / _ASIDE / _MOVING)
                _finish_move(folder)
                return


def find_best(folder: Path) -> Begun | None:
    """Of everything begun in ``folder`` the one that came furthest, the front one if others came as far."""
    with disk_errors(folder):
        _finish_move(folder)
        found = [begun for place in (folder, *_places(folder)) if (begun := _survey(place)) is not None]
    return max(found, key=lambda begun: begun.share, default=None)


def size_aside(folder: Path) -> int:
    """Bytes that everything set aside takes."""
    with suppress(FileNotFoundError):
        return sum(path.stat().st_blocks * 512 for path in (folder / _ASIDE).rglob("*"))
    return 0


def _survey(place: Path) -> Begun | None:
    plan, reel = load_plan(place), survey_reel(place)
    if plan is None or reel is None or reel[0] != plan.resolved.format_id:
        return None
    playlist = plan.playlist()
    matched = match_fetched(playlist, reel[1])
    kept_us = sum(segment.duration_us for segment in playlist.segments if segment.media_sequence in matched)
    return Begun(plan, kept_us / playlist.duration_us) if kept_us else None


def _format_of(place: Path) -> str | None:
    """The rendition of the reel in ``place``; None when no segment of it counts."""
    reel = survey_reel(place, most=1)
    return reel[0] if reel is not None and reel[1] else None


def _places(folder: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        yield from sorted(path for path in (folder / _ASIDE).iterdir() if path.name != _MOVING)


def _set_aside(folder: Path) -> None:
    if _format_of(folder) is None:
        return  # Nothing was fetched; a fresh reel takes its place.
    moving = folder / _ASIDE / _MOVING
    moving.mkdir(mode=FOLDER_MODE, parents=True)
    for name in _FILES:
        with suppress(FileNotFoundError):
            (folder / name).rename(moving / name)
    sync(moving)
    number = 0
    while (target := folder / _ASIDE / str(number)).exists():
        number += 1
    moving.rename(target)
    sync(folder / _ASIDE)
    sync(folder)


def _finish_move(folder: Path) -> None:
    moving = folder / _ASIDE / _MOVING
    if not moving.exists():
        return
    for name in _FILES:
        with suppress(FileNotFoundError):
            (moving / name).rename(folder / name)
    sync(folder)
    moving.rmdir()
