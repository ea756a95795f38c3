"""What will happen, and when. The same options and seed always give the same plan.

What the services make of it is up to the machine, so a run can be repeated in its causes but not to the millisecond.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

LONGEST_FREEZE_S = 60.0
LONGEST_OUTAGE_S = 20.0
LONGEST_FULL_DISK_S = 15.0
LONGEST_ABSENCE_S = 8.0

# The share of a run that one fault may take at most, so that a short run still has some peace in it.
_LARGEST_SHARE = 0.25

_MEAN_GAP_S = 2.5

# Long enough for the service to see who died meanwhile, which takes it about six seconds.
_PAUSE_AFTER_OUTAGE_S = 10.0
_LARGEST_PAUSE_SHARE = 0.15


class Kind(StrEnum):
    """What is done to the service."""

    KILL = "kill -9"
    FREEZE = "SIGSTOP"
    TERMINATE = "SIGTERM"
    DATABASE_STOP = "database stopped"
    DATABASE_CRASH = "database crashed"
    FULL_DISK = "full disk"
    LINE = "line"
    CANCEL = "cancel"
    RETRY = "retry"
    REPROCESS = "fetched anew"
    RESET = "reset"
    CLOSE_BREAKERS = "breakers closed"
    PRIORITY = "priority"


DATABASE = frozenset({Kind.DATABASE_STOP, Kind.DATABASE_CRASH})
TO_PROCESSES = frozenset({Kind.KILL, Kind.FREEZE, Kind.TERMINATE})
BY_OPERATOR = frozenset({Kind.CANCEL, Kind.RETRY, Kind.REPROCESS, Kind.RESET, Kind.CLOSE_BREAKERS, Kind.PRIORITY})

_WEIGHTS: Mapping[Kind, int] = {
    Kind.KILL: 10,
    Kind.FREEZE: 5,
    Kind.TERMINATE: 4,
    Kind.DATABASE_STOP: 2,
    Kind.DATABASE_CRASH: 1,
    Kind.FULL_DISK: 2,
    Kind.LINE: 14,
    Kind.CANCEL: 4,
    Kind.RETRY: 3,
    Kind.REPROCESS: 6,
    Kind.RESET: 4,
    Kind.CLOSE_BREAKERS: 2,
    Kind.PRIORITY: 3,
}


_AT_LEAST: Mapping[Kind, int] = {Kind.KILL: 4, Kind.FREEZE: 2, Kind.CANCEL: 2, Kind.RESET: 2}


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that is done."""

    at_s: float  # seconds since the begin
    kind: Kind
    lasts_s: float = 0.0  # how long the fault stays; for KILL and TERMINATE until the process is started again
    choice: float = 0.0  # 0..1: which process or item, of those there are then
    detail: str = ""  # of LINE: which of `lines.LINES`


def plan_deeds(
    seed: int, seconds: float, *, lines: Mapping[str, float], postgres: bool, full_disk: bool
) -> tuple[Deed, ...]:
    """Everything that is done in ``seconds``, in order.

    Each kind that is possible here happens at least once. ``lines`` are the names of what can be wrong with the line,
    with the longest time in seconds that each may last.
    """
    rng = random.Random(f"chaos/{seed}")
    possible = [
        kind
        for kind in Kind
        if (kind not in DATABASE or postgres) and (kind is not Kind.FULL_DISK or full_disk) and kind is not Kind.LINE
    ]
    kinds = [kind for kind in possible for _ in range(_AT_LEAST.get(kind, 1))] + [Kind.LINE] * len(lines)
    weights = {kind: _WEIGHTS[kind] for kind in (*possible, Kind.LINE)}
    more = max(0, round(seconds / _MEAN_GAP_S) - len(kinds))
    kinds += rng.choices(list(weights), weights=list(weights.values()), k=more)
    rng.shuffle(kinds)
    names = _shuffled_again_and_again(list(lines), rng)
    deeds = []
    free_from = dict.fromkeys(("database", "disk"), 0.0)
    for number, kind in enumerate(kinds):
        # Evenly spread with some jitter: chance alone would leave a short run with holes.
        at_s = (number + rng.random()) * seconds / len(kinds)
        detail = next(names) if kind is Kind.LINE else ""
        lasts_s = _how_long(kind, seconds, rng, lines.get(detail, 0.0))
        resource = "database" if kind in DATABASE else "disk" if kind is Kind.FULL_DISK else None
        if resource is not None:
            at_s = max(at_s, free_from[resource])
            free_from[resource] = at_s + lasts_s + min(_PAUSE_AFTER_OUTAGE_S, _LARGEST_PAUSE_SHARE * seconds)
            if at_s > seconds:
                continue
        deeds.append(Deed(at_s, kind, lasts_s, rng.random(), detail))
    return tuple(sorted(deeds, key=lambda deed: deed.at_s))


def _how_long(kind: Kind, seconds: float, rng: random.Random, line_s: float) -> float:
    longest = {
        Kind.KILL: LONGEST_ABSENCE_S,
        Kind.TERMINATE: LONGEST_ABSENCE_S,
        Kind.FREEZE: LONGEST_FREEZE_S,
        Kind.DATABASE_STOP: LONGEST_OUTAGE_S,
        Kind.DATABASE_CRASH: LONGEST_OUTAGE_S,
        Kind.FULL_DISK: LONGEST_FULL_DISK_S,
        Kind.LINE: line_s,
    }.get(kind, 0.0)
    longest = min(longest, seconds * _LARGEST_SHARE)
    if kind is Kind.LINE:
        # Long enough to meet a request or two.
        return longest * rng.uniform(0.3, 1.0)
    # Short ones are the rule, as in life; the longest is reached now and then.
    return longest * rng.random() ** 2


def _shuffled_again_and_again(names: list[str], rng: random.Random) -> Iterator[str]:
    while True:
        rng.shuffle(names)
        yield from names
