"""What is known at the end of a run, as plain values, so that a judge needs nothing that still runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from support.chaos.broadcasts import Ending
from support.chaos.plan import Kind

Row = dict[str, Any]
Packets = tuple[str, ...]
"""One line per packet in the order of the file: stream, timestamps and checksum."""

STARTED = frozenset({"download started"})
SUCCEEDED = frozenset({"download finished"})
FAILED = frozenset({"download failed", "vod parked"})
ENDED = SUCCEEDED | FAILED | {"still recording", "download interrupted", "claim lost", "the item is not handed back"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log."""

    at: datetime
    msg: str
    fields: Mapping[str, Any]

    @property
    def item(self) -> str:
        """The item it is about; empty when it is about none."""
        return str(self.fields.get("vod_id", ""))


@dataclass(slots=True)
class Life:
    """One process of the service, from its start to its end."""

    number: int  # from 1, over all members
    member: int  # from 0; each is one process at a time
    works: bool  # whether it has the role that captures
    watches: bool  # whether it has the role that hands work out
    pid: int
    began: datetime
    ended: datetime | None = None
    by: Kind | None = None  # what ended it; None: the end of the test, or itself
    exit_code: int | None = None
    frozen: list[tuple[datetime, datetime]] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    raw: str = ""
    counters: dict[tuple[str, str], float] | None = None  # by name and channel, as they were read last
    counters_at: datetime | None = None

    def open_runs(self) -> dict[str, datetime]:
        """The items whose run had begun and not ended when the log stopped, with its begin."""
        return self.runs_at(None)

    def runs_at(self, moment: datetime | None) -> dict[str, datetime]:
        """The items that it worked on at ``moment`` (None: at its end), each with the begin of the run."""
        begun: dict[str, datetime] = {}
        for line in self.lines:
            if moment is not None and line.at > moment:
                break
            if line.msg in STARTED:
                begun[line.item] = line.at
            elif line.msg in ENDED:
                begun.pop(line.item, None)
        return begun

    def runs(self) -> list[tuple[datetime, datetime]]:
        """Begin and end of every run; one that did not end lasts as long as the process."""
        begun: dict[str, datetime] = {}
        runs = []
        for line in self.lines:
            if line.msg in STARTED:
                begun[line.item] = line.at
            elif line.msg in ENDED and line.item in begun:
                runs.append((begun.pop(line.item), line.at))
        last = self.ended or (self.lines[-1].at if self.lines else self.began)
        return runs + [(begin, last) for begin in begun.values()]

    def is_up(self, moment: datetime) -> bool:
        """Whether it lived and was not frozen."""
        lived = self.began <= moment and (self.ended is None or moment < self.ended)
        return lived and not any(begin <= moment < end for begin, end in self.frozen)

    def is_ready(self, moment: datetime) -> bool:
        """Whether it was up and had started: the interpreter alone takes a second or more on a busy machine."""
        return self.is_up(moment) and bool(self.lines) and self.lines[0].at <= moment


@dataclass(frozen=True, slots=True)
class Happened:
    """One deed that was done."""

    kind: Kind
    began: datetime
    ended: datetime
    detail: str = ""  # which line fault, which item
    life: int | None = None  # the process it was done to


@dataclass(frozen=True, slots=True)
class Fetch:
    """One request for a segment, as the pretended Twitch saw it."""

    item: str
    name: str
    life: int | None  # of the process; None: somebody else
    grant: int  # serial of the links that were used: one run resolves once, or again when they expire
    at: datetime
    bytes: int  # handed to the socket
    whole: bool  # answered with everything, and nothing bent on the way
    spoiled: bool  # a fault was applied to it


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the timeline."""

    id: int
    item: str
    at: datetime
    source: str | None
    target: str
    code: str | None

    @property
    def is_capture(self) -> bool:
        """Whether a broadcast came into its folder; the stages after that leave it `downloaded` as it is."""
        return self.target == "downloaded" and self.source == "verifying"


@dataclass(slots=True)
class Evidence:
    """Everything there is to judge by."""

    seed: int
    seconds: float
    processes: int
    database: str
    duration_s: float = 0.0
    unsettled: dict[str, str] = field(default_factory=dict)  # item -> what it waited for when the patience ended
    endings: dict[str, frozenset[Ending]] = field(default_factory=dict)  # item -> how it may end
    rows: dict[str, Row] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    kv: dict[tuple[str, str], str] = field(default_factory=dict)  # (channel, key)
    canceled_by_hand: dict[str, int] = field(default_factory=dict)  # item -> how often in the table itself
    fetched_anew: set[str] = field(default_factory=set)  # somebody asked for it to be fetched again
    lives: list[Life] = field(default_factory=list)
    happened: list[Happened] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # what could not be done here, and why
    fetches: list[Fetch] = field(default_factory=list)
    requests_forgotten: bool = False
    segment_sizes: dict[str, dict[str, int]] = field(default_factory=dict)  # item -> name -> bytes
    faults_applied: dict[str, int] = field(default_factory=dict)  # of the line, by kind
    connections: int = 1  # requests of one capture at a time
    slots: int = 1  # captures of one process at a time
    files: list[str] = field(default_factory=list)  # everything below DATA_DIR, relative; folders end with a slash
    kept: dict[str, Packets] = field(default_factory=dict)
    source: dict[str, Packets] = field(default_factory=dict)
    manifests: dict[str, str] = field(default_factory=dict)  # item -> what is wrong with its folder, or empty
    verified: dict[str, str] = field(default_factory=dict)  # item -> the verdict of `vodkeep verify --deep`
    processes_left: dict[int, str] = field(default_factory=dict)  # pid -> command line, of nobody's
    leases: list[Row] = field(default_factory=list)
    tickets: list[Row] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)  # what it is -> the secret itself
    folder: Path | None = None

    @property
    def ends_alone(self) -> bool:
        """Whether one process did everything, so that the order of commits is known."""
        return self.processes == 1
