"""The VODs of the pretended Twitch: several lengths, and some that can never be had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from vodkeep_standin.media.recipe import Recipe, Span
from vodkeep_standin.scenario import ids
from vodkeep_standin.scenario.builtin import scenario_for_tests
from vodkeep_standin.scenario.model import Recording, Scenario, Video

# Seconds of chaos from which on broadcasts are longer, so that there is always something at work.
_LONG_RUN_S = 240.0


_FIRST_ID = 3_100_000_001


class Fate(StrEnum):
    """What becomes of a VOD if nobody cancels it."""

    KEPT = "kept"
    DELETED = "deleted"
    SUB_ONLY = "for subscribers only"
    WITH_A_HOLE = "with a hole"
    VANISHES = "deleted half way"


Ending = tuple[str, str | None]
"""State and cause code of a row."""

ENDINGS: Mapping[Fate, frozenset[Ending]] = {
    Fate.KEPT: frozenset({("done", None)}),
    Fate.DELETED: frozenset({("parked", "deleted")}),
    Fate.SUB_ONLY: frozenset({("parked", "sub_only")}),
    Fate.WITH_A_HOLE: frozenset({("parked", "incomplete")}),
    # Whole before it was deleted, or not.
    Fate.VANISHES: frozenset({("done", None), ("parked", "deleted")}),
}


@dataclass(frozen=True, slots=True)
class Broadcast:
    """One VOD, when it appears at Twitch and when it vanishes there (seconds since the begin)."""

    video: Video
    fate: Fate
    appears_s: float = 0.0
    vanishes_s: float | None = None


def _recipes(factor: int) -> tuple[Recipe, ...]:
    """Short and long, with a discontinuity, in fragments, and muted in part."""
    small: dict[str, Any] = {"width": 320, "height": 180, "fps": 15}
    return (
        Recipe((16 * factor,), **small),
        Recipe((40 * factor,), hue_degrees=60, **small),
        Recipe((12 * factor, 10 * factor), hue_degrees=120, **small),
        Recipe((16 * factor,), codec="hevc", hue_degrees=180, **small),
        Recipe((20 * factor,), muted=(Span(8, 6),), hue_degrees=240, **small),
        Recipe((72 * factor,), hue_degrees=300, **small),
    )


def plan_broadcasts(count: int, seconds: float) -> tuple[Broadcast, ...]:
    """``count`` VODs; half are there from the begin, the others appear while the run lasts.

    Of each dozen, one is deleted, one for subscribers only, one has a segment that stays missing, one is still being
    recorded, and one is deleted while the run lasts.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    recipes = _recipes(3 if seconds >= _LONG_RUN_S else 1)
    there = (count + 1) // 2
    planned = []
    for number in range(count):
        # Twitch lists new broadcasts first, so the later ones are the younger ones.
        appears_s = 0.0 if number < there else (number - there) * 0.8 * seconds / max(1, count - there)
        created_at = now - timedelta(hours=2 * (count - number))
        recipe = recipes[number % len(recipes)]
        rest: dict[str, object] = {}
        fate, vanishes_s = Fate.KEPT, None
        match number % 12:
            case 1:
                fate, rest = Fate.DELETED, {"deleted": True}
            case 3:
                fate, rest = Fate.SUB_ONLY, {"sub_only": True}
            case 4:
                fate, rest = Fate.WITH_A_HOLE, {"missing_segments": frozenset({3})}
            case 6:
                rest = {"recording": Recording(head_s=8, ends=True)}
            case 11:
                fate, vanishes_s = Fate.VANISHES, appears_s + 0.1 * seconds
            case _:
                pass
        video = Video(
            id=str(_FIRST_ID + number),
            channel=ids.OTHER_CHANNEL if number % 3 == 2 else ids.CHANNEL,
            title=f"Broadcast {number + 1}",
            created_at=created_at,
            recipe=recipe,
            stream_id=str(43_000_000_000 + number),
            **rest,  # type: ignore[arg-type]
        )
        planned.append(Broadcast(video, fate, appears_s, vanishes_s))
    return tuple(planned)


def scenario_of(broadcasts: tuple[Broadcast, ...], seed: int) -> Scenario:
    """The scenario at the begin."""
    there = [one.video for one in broadcasts if one.appears_s == 0.0]
    return Scenario.of("chaos", scenario_for_tests().channels.values(), there, seed=seed)
