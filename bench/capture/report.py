"""From the runs to medians, ratios and tables."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one contender, measured."""

    profile: str
    contender: str
    number: int  # from 1, in the order of the rounds
    ok: bool  # it ended by itself, and its file was found whole
    gave_up: bool  # it took longer than we wanted to wait
    problem: str | None
    wall_s: float
    cpu_s: float  # all its processes and threads, user and system
    written_bytes: int  # pages of files made dirty by any of its processes
    output_bytes: int  # what it was to make: the MP4 (curl: the segments)
    disk_extra_bytes: int  # the most its folder took at any instant, less what stayed
    rss_bytes: int  # the most all its processes had resident at one instant
    pss_bytes: int
    server_cpu_s: float
    other_cpu_s: float  # by anything else on the machine at the same time
    index: str  # where the MP4's index is
    sampler_cpu_s: float

    def as_dict(self) -> dict[str, object]:
        """For a JSON file."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Column:
    """One measure: what it is called, how a run has it, and how it is shown."""

    title: str
    of: Callable[[Run], float]
    show: Callable[[float], str]
    compared: bool = True  # whether a ratio to ours says anything


def _written_ratio(run: Run) -> float:
    return run.written_bytes / run.output_bytes if run.output_bytes else 0.0


def _extra_ratio(run: Run) -> float:
    return run.disk_extra_bytes / run.output_bytes if run.output_bytes else 0.0


COLUMNS = (
    Column("wall s", lambda run: run.wall_s, lambda value: f"{value:.2f}"),
    Column("CPU s", lambda run: run.cpu_s, lambda value: f"{value:.2f}"),
    Column("written / output", _written_ratio, lambda value: f"{value:.2f}"),
    Column("extra disk", _extra_ratio, lambda value: f"{value:.0%}", compared=False),
    Column("memory MB", lambda run: run.rss_bytes / MB, lambda value: f"{value:.0f}"),
    Column("server CPU s", lambda run: run.server_cpu_s, lambda value: f"{value:.2f}", compared=False),
    Column("others' CPU s", lambda run: run.other_cpu_s, lambda value: f"{value:.2f}", compared=False),
)


def table(runs: Sequence[Run], words: Mapping[str, str], reference: str = "ours") -> str:
    """The medians of one profile as a Markdown table; behind a figure in brackets its ratio to the reference's.

    ``words`` names the contenders, in the order of the rows. Runs that failed are left out of the medians and counted.
    """
    by_name = {name: [run for run in runs if run.contender == name] for name in words}
    # A reference that was given up on is only known to take longer; a ratio to that would flatter it.
    base = _medians(run for run in by_name.get(reference, []) if run.ok)
    rows = [
        ["", *(column.title for column in COLUMNS), "wall from to", "index", "runs"],
        ["---", *("---:" for _ in COLUMNS), "---", "---", "---"],
    ]
    for name, own in by_name.items():
        if not own:
            continue
        medians = _medians(own)
        if medians is None:
            rows.append([words[name], *("" for _ in COLUMNS), "", "", _outcome(own)])
            continue
        waited_in_vain = all(run.gave_up for run in own)
        cells = []
        for position, column in enumerate(COLUMNS):
            value = medians[position]
            cell = column.show(value)
            if waited_in_vain:
                cell = f"> {cell}" if position == 0 else ""
            if base is not None and name != reference and column.compared and base[position] and cell:
                cell += f" ({'> ' if waited_in_vain else ''}{value / base[position]:.2f}x)"
            cells.append(cell)
        walls = [run.wall_s for run in own if run.ok]
        spread = f"{min(walls):.2f} to {max(walls):.2f}" if walls else ""
        rows.append([words[name], *cells, spread, own[-1].index, _outcome(own)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _medians(runs: Iterable[Run]) -> list[float] | None:
    """The median of each column over the runs that count; None without any."""
    runs = list(runs)
    counting = [run for run in runs if run.ok] or [run for run in runs if run.gave_up]
    if not counting:
        return None
    return [statistics.median(column.of(run) for run in counting) for column in COLUMNS]


def _outcome(runs: Sequence[Run]) -> str:
    good = sum(run.ok for run in runs)
    if all(run.gave_up for run in runs):
        return "given up"
    return str(good) if good == len(runs) else f"{good} of {len(runs)}: {next(r.problem for r in runs if not r.ok)}"
