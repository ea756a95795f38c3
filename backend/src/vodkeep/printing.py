"""How commands print: tables that fit a terminal and stay searchable in a pipe, sentences as they are."""

from __future__ import annotations

from rich.console import Console
from rich.segment import SegmentLines
from rich.table import Table


def print_table(console: Console, table: Table) -> None:
    """Print ``table``, folded to the width of a terminal and as wide as it needs to be anywhere else."""
    if console.is_terminal:
        console.print(table)
        return
    # A pipe has no width, and what is wrapped there can no longer be searched.
    options = console.options.update(max_width=100_000)
    width = console.measure(table, options=options).maximum
    lines = console.render_lines(table, options.update(width=width))
    console.print(SegmentLines(lines, new_lines=True), crop=False, end="")


def say(console: Console, sentence: str) -> None:
    """Print a sentence without taking anything in it for markup."""
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)
