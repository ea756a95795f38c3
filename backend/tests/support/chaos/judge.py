"""Which promises were broken. Each finding is one sentence that names the item or the process it is about.

The rules, where they need saying:

*Two at once.* A run asks usher once for links (again when they expire), and nobody else has these; what yt-dlp calls
itself tells the process. So for each item, the times at which segments were asked for with the links of one process
must not overlap with those of another: the first request of one comes after the last request of the other.

*Fetched more than once.* Whatever ends a run may cost what was on its way, which is at most as many segments as it has
connections; a fault of the line may cost one more, since a segment that was kept is fetched again as a witness. So a
segment of an item that was delivered whole more than once counts, and all of them together are at most connections
times the claims after the first, plus the item's spoiled requests. Left out are items that somebody wanted to be
fetched anew, and parked ones: what was put into the library with a hole begins anew when it is asked for again.

*Counters.* A process that is killed takes its counters with it, and the moment between a commit and the next line of
the log. What can be known: each line that tells of a claim, a success or a failure has its row in ``events``, and each
row has its line, except where a process was killed in that moment, or the database took the answer to a commit with it
(the process says so). A process that lives at the end has counted exactly what its log tells; one that has ended, what
it had told when it was asked last, give or take what it could have at work. ``download_retries`` follows from the
events. The moving averages follow from the times in the log where no line is missing: exactly where one process wrote
them all in order, else within their range.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from datetime import datetime, timedelta
from itertools import pairwise

from support.chaos.broadcasts import Ending
from support.chaos.evidence import FAILED, STARTED, SUCCEEDED, Event, Evidence, Fetch, Life, Line
from support.chaos.plan import Kind
from vodkeep.pipeline.averages import next_average
from vodkeep.pipeline.model import MOVES, DownloadState

Check = Callable[[Evidence], Iterator[str]]

# What a folder in the library may hold.
_NEEDED = frozenset({"video.mp4", "manifest.json"})
_ALLOWED = _NEEDED | {"thumbnail.jpg", "chat.ndjson.zst", "emotes.json"}
_OF_THE_SERVICE = ("vodkeep.db", "chat.db", ".vodkeep-archive", ".emotes", ".chat-journal")

# How long after a commit the line about it is written, at the latest, by a process that is not frozen.
_LINE_DELAY = timedelta(seconds=2)

_CODES_WITHOUT_ATTEMPT = frozenset({"disk_full"})
_AVERAGE_TOLERANCE_MS = 2.0


def judge(evidence: Evidence) -> list[str]:
    """Every broken promise as a sentence; none is what one wants."""
    return [finding for check in CHECKS for finding in check(evidence)]


def ends(evidence: Evidence) -> Iterator[str]:
    """Every item is done, rightly parked, or canceled as asked."""
    for item, why in evidence.unsettled.items():
        yield f"{item} did not settle: it {why}."
    for item, allowed in evidence.endings.items():
        row = evidence.rows.get(item)
        if row is None:
            yield f"{item} was never found."
            continue
        if not _ends_in(row["download_state"], row["error_code"], allowed):
            expected = " or ".join(sorted(" ".join(filter(None, one)) for one in allowed))
            yield (
                f"{item} is {row['download_state']} ({row['error_code']}: {row['processing_error']}),"
                f" and should be {expected}."
            )
        elif row["download_state"] == "done" and (row["processed"], row["completeness"]) != (1, 1.0):
            yield f"{item} is done, but processed is {row['processed']} and completeness {row['completeness']}."


def films(evidence: Evidence) -> Iterator[str]:
    """Each kept film holds the packets of its source, and its folder is as its manifest says."""
    for item, row in evidence.rows.items():
        whole = row["download_state"] == "done"
        if not row["downloaded_path"]:
            if whole:
                yield f"{item} is done and has no file."
            continue
        source, kept = evidence.source.get(item, ()), evidence.kept.get(item)
        if kept is None:
            yield f"{item}: its film {row['downloaded_path']} cannot be read."
        elif row["error_code"] == "deleted":
            # Only what had been fetched before it vanished: everything in it comes from the source.
            foreign = Counter(map(_body, kept)) - Counter(map(_body, source))
            if foreign:
                yield f"{item} holds {foreign.total()} packets that its source does not."
        elif kept != source:
            yield f"{item}: its film differs from its source {_difference(kept, source)}."
        if evidence.manifests.get(item):
            yield f"{item}: its folder is not as its manifest says: {evidence.manifests[item]}."
        verdict = evidence.verified.get(item, "not looked at")
        if verdict != "fine":
            yield f"{item}: vodkeep verify says {verdict}."
    if (failed := evidence.verified.get("vodkeep verify")) is not None:
        yield f"vodkeep verify ended with {failed}."


def two_at_once(evidence: Evidence) -> Iterator[str]:
    """No item was captured by two processes at once."""
    if evidence.requests_forgotten:
        yield "The log of requests overflowed, so that not everything could be judged: choose fewer minutes."
    by_item: dict[str, dict[int, list[Fetch]]] = defaultdict(lambda: defaultdict(list))
    for fetch in evidence.fetches:
        if fetch.life is not None:
            by_item[fetch.item][fetch.grant].append(fetch)
    for item, grants in by_item.items():
        spans = sorted(
            (min(one.at for one in used), max(one.at for one in used), used[0].life) for used in grants.values()
        )
        for (_, end, one), (begin, _, other) in pairwise(spans):
            if one != other and begin <= end:
                overlap_s = (end - begin).total_seconds()
                yield f"{item} was captured by processes {one} and {other} at once for {overlap_s:.2f} s at {begin:%T}."


def fetched_again(evidence: Evidence) -> Iterator[str]:
    """What was fetched more than once is no more than what was on its way."""
    claims = Counter(event.item for event in evidence.events if event.target == "downloading")
    anew = {event.item for event in evidence.events if event.target == "parked"} | evidence.fetched_anew
    spoiled = Counter(fetch.item for fetch in evidence.fetches if fetch.spoiled)
    for item, again in segments_again(evidence).items():
        most = evidence.connections * max(0, claims[item] - 1) + spoiled[item]
        if item not in anew and again > most:
            yield (
                f"{item}: {again} segments were fetched more than once, and its {claims[item]} runs with"
                f" {spoiled[item]} spoiled requests explain {most}."
            )


def segments_again(evidence: Evidence) -> dict[str, int]:
    """How many deliveries of whole segments were not the first, by item."""
    delivered = Counter((fetch.item, fetch.name) for fetch in evidence.fetches if fetch.whole)
    again: Counter[str] = Counter()
    for (item, _), times in delivered.items():
        again[item] += times - 1
    return {item: number for item, number in again.items() if number}


def leftovers(evidence: Evidence) -> Iterator[str]:
    """Nothing lies about that belongs to nobody, on the disk, among the processes or in the database."""
    states = {item: row["download_state"] for item, row in evidence.rows.items()}
    folders: dict[str, set[str]] = defaultdict(set)
    paths = {str(row["downloaded_path"]).rpartition("/")[0]: item for item, row in evidence.rows.items()}
    for name in evidence.files:
        parts = name.rstrip("/").split("/")
        if name == ".work/" or parts[0].startswith(_OF_THE_SERVICE):
            continue
        if parts[0] == ".work":
            # What was fetched of an item that was stopped or is deleted may be the only copy there is.
            if states.get(parts[1]) not in ("parked", "canceled") and len(parts) == 2:
                yield f"{parts[1]} is {states.get(parts[1], 'unknown')}, and its work folder is still there."
        elif len(parts) == 1:
            if not _is_channel(evidence, parts[0]):
                yield f"{name} lies in DATA_DIR and belongs to nobody."
        else:
            folders["/".join(parts[:2])].update(parts[2:])
            if len(parts) > 3:
                yield f"{name} lies in the library and belongs to nobody."
    for folder, names in folders.items():
        if folder not in paths:
            yield f"The folder {folder} belongs to no item."
        elif not _NEEDED <= names <= _ALLOWED:
            yield f"{paths[folder]}: its folder holds {sorted(names)}."
    for pid, command in evidence.processes_left.items():
        yield f"Process {pid} belongs to nobody any more: {command[:200]}."
    for lease in evidence.leases:
        yield f"The lease {lease['name']} of the dead process {lease['holder']} is still there."
    for ticket in evidence.tickets:
        yield f"A ticket is left in the queue although nothing is due: {ticket}."


def walks(evidence: Evidence) -> Iterator[str]:
    """The events of each item are a legal walk of the state machine and end where its row stands."""
    for item, events in _by_item(evidence.events).items():
        by_hand = evidence.canceled_by_hand.get(item, 0)
        state: str = "pending"
        for event in events:
            if event.source != state:
                # A cancel by hand is made in the table itself and leaves no event.
                if event.source != "canceled" or by_hand == 0:
                    yield f"{item} goes from {event.source} to {event.target} in event {event.id}, and was {state}."
                else:
                    by_hand -= 1
            # To ask again for what is pending already (and, say, not before some time) is a request and no move.
            stays = event.source == event.target and event.code == "reset"
            legal = event.source is None or DownloadState(event.target) in MOVES[DownloadState(event.source)]
            if not legal and not stays:
                yield f"{item} goes from {event.source} to {event.target} in event {event.id}, which is no legal move."
            state = event.target
        row = evidence.rows.get(item)
        by_a_person = by_hand > 0 and row is not None and row["download_state"] == "canceled"
        if row is not None and row["download_state"] != state and not by_a_person:
            yield f"{item} is {row['download_state']}, and its last event says {state}."


def counters(evidence: Evidence) -> Iterator[str]:
    """Lines, events and metrics tell the same story."""
    yield from _lines_and_events(evidence)
    for life in evidence.lives:
        if life.counters is not None:
            yield from _metrics_and_lines(evidence, life)
    yield from _attempts(evidence)
    yield from _averages(evidence)
    yield from _gauges(evidence)


def logs(evidence: Evidence) -> Iterator[str]:
    """No log holds a traceback or a secret, and no process ended by itself without a reason."""
    for life in evidence.lives:
        who = f"Process {life.number}"
        for line in life.lines:
            if "exception" in line.fields:
                what = str(line.fields["exception"]).strip().splitlines()[-1]
                yield f"{who} logged a traceback at {line.at:%T}: {line.msg}: {what[:200]}"
        if "Traceback (most recent call last)" in "".join(
            raw for raw in life.raw.splitlines(keepends=True) if not _is_json(raw)
        ):
            yield f"{who} printed a traceback."
        for name, secret in evidence.secrets.items():
            if secret in life.raw:
                yield f"{who} logged {name}."
        # The signal may come before the program has said what it wants to do about it.
        if life.by is Kind.TERMINATE and life.exit_code != 0 and life.lines:
            yield f"{who} ended with {life.exit_code} after SIGTERM."
        if life.by is None and life.exit_code != 0 and not _could_not_start(evidence, life):
            yield f"{who} ended by itself with {life.exit_code}: {life.raw[-300:]}"


CHECKS: tuple[Check, ...] = (ends, films, two_at_once, fetched_again, leftovers, walks, counters, logs)


# --- details ------------------------------------------------------------------------------------------------------


def _ends_in(state: str, code: str | None, allowed: Collection[Ending]) -> bool:
    # A cancel in the table itself leaves the code of whatever was before.
    return (state, code) in allowed or (state == "canceled" and ("canceled", None) in allowed)


def _body(packet: str) -> str:
    stream, *_, checksum = packet.split()
    return f"{stream} {checksum}"


def _difference(kept: tuple[str, ...], source: tuple[str, ...]) -> str:
    ours, theirs = Counter(map(_body, kept)), Counter(map(_body, source))
    more, fewer = (ours - theirs).total(), (theirs - ours).total()
    if more or fewer:
        return f"({len(kept)} packets for {len(source)}; {fewer} are missing, {more} are foreign or double)"
    first = next(number for number, (one, other) in enumerate(zip(kept, source, strict=True)) if one != other)
    return f"(the same packets in another order or at other times, from packet {first} on)"


def _is_channel(evidence: Evidence, name: str) -> bool:
    return name in {str(row["channel"]) for row in evidence.rows.values()}


def _by_item(events: list[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        found[event.item].append(event)
    return found


def _is_json(raw: str) -> bool:
    try:
        return isinstance(json.loads(raw), dict)
    except ValueError:
        return False


def _could_not_start(evidence: Evidence, life: Life) -> bool:
    """Whether it ended for a reason that it had to tell: a full disk, which it may meet at any start."""
    end = life.ended or life.began
    full = [one for one in evidence.happened if one.kind is Kind.FULL_DISK]
    never_listened = not any(line.msg == "listening" for line in life.lines)
    return never_listened and any(one.began <= end and life.began <= one.ended for one in full)


# --- counters -----------------------------------------------------------------------------------------------------

_STORIES: tuple[tuple[str, frozenset[str], frozenset[str], str], ...] = (
    ("claims", frozenset({"downloading"}), STARTED, "vod_downloads_started_total"),
    ("successes", frozenset({"downloaded"}), SUCCEEDED, "vod_downloads_succeeded_total"),
    ("failures", frozenset({"failed", "parked"}), FAILED, "vod_downloads_failed_total"),
)


def _lines_and_events(evidence: Evidence) -> Iterator[str]:
    for name, targets, messages, _ in _STORIES:
        events: dict[str, list[Event]] = defaultdict(list)
        lines: dict[str, list[Line]] = defaultdict(list)
        for event in evidence.events:
            if event.target in targets and (event.target != "downloaded" or event.is_capture):
                events[event.item].append(event)
        for life in evidence.lives:
            for line in life.lines:
                if line.msg in messages:
                    lines[line.item].append(line)
        for item in events.keys() | lines.keys():
            missing = len(events[item]) - len(lines[item])
            if missing < 0:
                yield f"{item}: the logs tell of {len(lines[item])} {name}, and there are {len(events[item])} events."
            elif missing and missing > (most := _explained(evidence, item, name, events[item])):
                yield (
                    f"{item}: {len(events[item])} {name} in events, {len(lines[item])} in the logs, and what was killed"
                    f" explains {most} of the difference."
                )


def _explained(evidence: Evidence, item: str, name: str, events: list[Event]) -> int:
    """How many lines about an item can be missing, because a process was killed or a commit's answer was lost."""
    unsaid = {"claims": "not claimed"}.get(name, "the result is not saved yet")
    number = sum(line.item == item and line.msg == unsaid for life in evidence.lives for line in life.lines)
    for life in evidence.lives:
        if life.by is not Kind.KILL or life.ended is None:
            continue
        if name == "claims":
            number += any(_died_at(life, event.at) for event in events)
        else:
            number += item in life.open_runs()
    return number


def _died_at(life: Life, moment: datetime) -> bool:
    """Whether the process was killed just then, or was frozen just then and never woke up."""
    assert life.ended is not None
    if moment <= life.ended <= moment + _LINE_DELAY:
        return True
    return any(moment <= begin <= moment + _LINE_DELAY and end >= life.ended for begin, end in life.frozen)


def _metrics_and_lines(evidence: Evidence, life: Life) -> Iterator[str]:
    assert life.counters is not None
    assert life.counters_at is not None
    alive = life.by is None and life.exit_code == 0
    for name, _, messages, metric in _STORIES:
        for channel in {key[1] for key in life.counters}:
            counted = int(life.counters.get((metric, channel), 0))
            told = sum(
                line.msg in messages
                and line.fields.get("channel") == channel
                and (alive or line.at <= life.counters_at)
                for line in life.lines
            )
            # Asking takes a moment in which more may happen.
            slack = 0 if alive else evidence.slots
            if not told - slack <= counted <= told + slack:
                yield f"Process {life.number} counted {counted} {name} of {channel}, and its log tells of {told}."


def _attempts(evidence: Evidence) -> Iterator[str]:
    for item, events in _by_item(evidence.events).items():
        failures = 0
        for event in events:
            if event.is_capture or event.code == "reset":
                failures = 0
            elif event.target in ("failed", "parked") and event.code not in _CODES_WITHOUT_ATTEMPT:
                failures += 1
        row = evidence.rows.get(item)
        if row is not None and row["download_retries"] != failures:
            yield f"{item}: download_retries is {row['download_retries']}, and its events tell of {failures} failures."


def _averages(evidence: Evidence) -> Iterator[str]:
    channels = {item: str(row["channel"]) for item, row in evidence.rows.items()}
    lines: dict[str, list[Line]] = defaultdict(list)
    for life in evidence.lives:
        for line in life.lines:
            if line.msg in SUCCEEDED:
                lines[line.item].append(line)
    for found in lines.values():
        found.sort(key=lambda line: line.at)
    successes = [event for event in evidence.events if event.is_capture]
    per_item = Counter(event.item for event in successes)
    for channel in ("", *sorted(set(channels.values()))):
        wanted = [event for event in successes if channel in ("", channels.get(event.item))]
        if not wanted or any(len(lines[event.item]) != per_item[event.item] for event in wanted):
            continue
        nth: Counter[str] = Counter()
        samples = []
        for event in wanted:
            samples.append(float(lines[event.item][nth[event.item]].fields["dl_ms"]))
            nth[event.item] += 1
        value = float(evidence.kv.get((channel, "avg_download_ms"), "nan"))
        low, high = min(samples), max(samples)
        if evidence.ends_alone:
            average: float | None = None
            for sample in samples:
                average = next_average(average, sample)
            assert average is not None
            low = high = average
        if not low - _AVERAGE_TOLERANCE_MS <= value <= high + _AVERAGE_TOLERANCE_MS:
            whose = channel or "all channels"
            yield f"avg_download_ms of {whose} is {value:.0f}, and its log tells of {low:.0f} to {high:.0f}."


def _gauges(evidence: Evidence) -> Iterator[str]:
    depth = Counter(str(row["channel"]) for row in evidence.rows.values() if not row["processed"])
    for life in evidence.lives:
        if life.counters is None or life.by is not None:
            continue
        for (metric, channel), value in life.counters.items():
            if metric == "vod_circuit_open":
                state = evidence.kv.get((channel, "circuit_state"), "closed")
                if bool(value) != (state != "closed"):
                    yield f"vod_circuit_open of {channel} is {value:g} in process {life.number}, and kv says {state}."
            elif metric == "vod_queue_depth" and int(value) != depth[channel]:
                yield f"vod_queue_depth of {channel} is {value:g} in process {life.number}, and {depth[channel]} wait."
