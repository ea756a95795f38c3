"""What a run took: how often what was done to it, what was fetched more than once, how soon it went on."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from support.chaos.evidence import Evidence, Happened
from support.chaos.judge import segments_again
from support.chaos.plan import DATABASE, Kind

# How finely time is looked at.
_STEP = timedelta(seconds=0.1)


_STANDSTILLS = DATABASE | {Kind.KILL, Kind.TERMINATE, Kind.FREEZE, Kind.FULL_DISK}


@dataclass(frozen=True, slots=True)
class Recovery:
    """How long an item stood still because of one deed."""

    kind: Kind
    item: str
    since: datetime
    seconds: float
    idle_s: float  # of these, how long somebody could have gone on with it


def recoveries(evidence: Evidence) -> list[Recovery]:
    """How long it took until the affected items made progress again: a segment was asked for, or their row moved.

    Affected is what was at work in the process that was killed, stopped or frozen, or anywhere when the disk filled up
    or the database was away. The time counts from the moment at which somebody could go on: another process that
    captures, or the same one when it is back; from the end of an outage or a full disk.

    An item may have to wait because others are before it in the queue, or because the next thing goes wrong. So the
    time is found as well in which somebody could have gone on with it: a process had a free slot, one that hands work
    out was there, and so were the database and the disk.
    """
    signs = _signs_of_progress(evidence)
    chances = _Chances(evidence)
    found = []
    for one in evidence.happened:
        if one.kind not in _STANDSTILLS:
            continue
        since = _could_go_on(evidence, one)
        for item in _affected(evidence, one):
            if since is not None and (first := _first_after(signs[item], since)) is not None:
                idle_s = chances.seconds(since, first)
                found.append(Recovery(one.kind, item, since, (first - since).total_seconds(), idle_s))
    return found


class _Chances:
    """When somebody had a free slot, and nothing that stops all of them was going on."""

    def __init__(self, evidence: Evidence) -> None:
        self._slots = evidence.slots
        self._outages = [one for one in evidence.happened if one.kind in DATABASE or one.kind is Kind.FULL_DISK]
        self._lives = [(life, life.runs()) for life in evidence.lives]

    def seconds(self, begin: datetime, end: datetime) -> float:
        """How much of the time between was such a time."""
        steps = int((end - begin) / _STEP)
        return sum(self._is_one(begin + step * _STEP) for step in range(steps)) * _STEP.total_seconds()

    def _is_one(self, moment: datetime) -> bool:
        if any(one.began <= moment < one.ended for one in self._outages):
            return False
        ready = [(life, runs) for life, runs in self._lives if life.is_ready(moment)]
        has_slot = any(
            life.works and sum(begin <= moment < end for begin, end in runs) < self._slots for life, runs in ready
        )
        return has_slot and any(life.watches for life, _ in ready)


def bytes_again(evidence: Evidence) -> tuple[int, int]:
    """Bytes of segments that were sent more than once, damaged and cut-off ones included; and all that were sent."""
    sent: Counter[tuple[str, str]] = Counter()
    for fetch in evidence.fetches:
        sent[(fetch.item, fetch.name)] += fetch.bytes
    again = 0
    for (item, name), size in sent.items():
        stem = name.split(".")[0].split("-")[0]
        sizes = evidence.segment_sizes.get(item, {})
        whole = next((one for other, one in sizes.items() if other.split(".")[0] == stem), 0)
        again += max(0, size - whole)
    return again, sent.total()


def report(evidence: Evidence) -> str:
    """The figures for people."""
    done = Counter(one.kind for one in evidence.happened)
    lines = Counter(one.detail for one in evidence.happened if one.kind is Kind.LINE)
    again, sent = bytes_again(evidence)
    states = Counter(f"{row['download_state']} {row['error_code'] or ''}".strip() for row in evidence.rows.values())
    times = recoveries(evidence)
    runs = sum(event.target == "downloading" for event in evidence.events)
    text = [
        f"seed {evidence.seed}, {evidence.processes} process(es), {evidence.database}:"
        f" {evidence.seconds:g} s of chaos, {evidence.duration_s:.0f} s in all",
        "done to it: " + _list(done),
        "wrong with the line: " + _list(lines),
        "requests hit by a fault: " + _list(Counter(evidence.faults_applied)),
        f"processes started: {len(evidence.lives)}; runs: {runs}; items: " + _list(states),
        f"fetched more than once: {again:,} of {sent:,} bytes, {sum(segments_again(evidence).values())} whole segments",
        "until an affected item went on: " + _quantiles([one.seconds for one in times]),
        "  of that, while somebody could have gone on with it: " + _quantiles([one.idle_s for one in times]),
    ]
    by_kind: dict[Kind, list[float]] = defaultdict(list)
    for one in times:
        by_kind[one.kind].append(one.idle_s)
    text += [f"    after {kind}: {_quantiles(seconds)}" for kind, seconds in sorted(by_kind.items())]
    slowest = max(times, key=lambda one: one.idle_s, default=None)
    if slowest is not None and slowest.idle_s > 0:
        text.append(f"    the slowest: {slowest.item} after {slowest.kind} at {slowest.since:%T}")
    text += [f"left out: {reason}" for reason in evidence.left_out]
    return "\n".join(text)


def _list(counted: Counter[str] | Counter[Kind]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counted.most_common() if number) or "nothing"


def _quantiles(seconds: list[float]) -> str:
    if not seconds:
        return "nothing was affected"
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return f"p50 {at(0.5):.1f} s, p95 {at(0.95):.1f} s, max {ordered[-1]:.1f} s ({len(ordered)} times)"


def _signs_of_progress(evidence: Evidence) -> dict[str, list[datetime]]:
    signs: dict[str, list[datetime]] = defaultdict(list)
    for fetch in evidence.fetches:
        signs[fetch.item].append(fetch.at)
    for event in evidence.events:
        signs[event.item].append(event.at)
    for moments in signs.values():
        moments.sort()
    return signs


def _first_after(moments: list[datetime], moment: datetime) -> datetime | None:
    place = bisect_right(moments, moment)
    return moments[place] if place < len(moments) else None


def _affected(evidence: Evidence, one: Happened) -> set[str]:
    if one.life is None:
        return {item for life in evidence.lives if life.is_up(one.began) for item in life.runs_at(one.began)}
    return set(next(life for life in evidence.lives if life.number == one.life).runs_at(one.began))


def _could_go_on(evidence: Evidence, one: Happened) -> datetime | None:
    """The first moment from which on somebody could."""
    if one.life is None:
        return one.ended
    # What was on its way when it happened does not count as progress.
    begin = one.began + timedelta(seconds=0.2)
    if any(life.works and life.number != one.life and life.is_up(begin) for life in evidence.lives):
        return begin
    moments = [life.began for life in evidence.lives if life.works and life.began > begin]
    moments += [
        end for life in evidence.lives if life.works for _, end in life.frozen if end > begin and life.is_up(end)
    ]
    return min(moments, default=None)
