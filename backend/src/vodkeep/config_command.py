"""``vodkeep config``: the configuration as it takes effect, secrets masked, with the source of each value."""

from __future__ import annotations

import json
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vodkeep.printing import print_table
from vodkeep.settings import Settings, Source, describe

_SOURCE_STYLE = {Source.DEFAULT: "dim", Source.FILE: "cyan", Source.ENVIRONMENT: "green"}


def render_config(settings: Settings, console: Console, as_json: bool = False) -> None:
    """Print every setting to ``console`` as a table, or as one JSON object for programs.

    The JSON has ``settings`` (an object by variable name: value, source, default, group, unit, secret, about) and
    ``warnings`` (sentences).
    """
    if as_json:
        console.print_json(json.dumps(_as_object(settings), ensure_ascii=False))
        return
    print_table(console, _as_table(settings))
    for warning in settings.warnings:
        console.print(Text(warning, style="yellow"), soft_wrap=True)


def _as_table(settings: Settings) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Variable", no_wrap=True)
    table.add_column("Value", overflow="fold")
    table.add_column("Source", no_wrap=True)
    for index, (group, rows) in enumerate(groupby(describe(settings), key=lambda row: row.group)):
        if index:
            table.add_row()
        table.add_row(Text(group, style="bold magenta"))
        for row in rows:
            # Text, because "[{id}]" would be taken for markup.
            value = Text(row.value_masked) if row.value_masked else Text("(not set)", style="dim")
            table.add_row(Text(f"  {row.name}"), value, Text(row.source, style=_SOURCE_STYLE[row.source]))
    return table


def _as_object(settings: Settings) -> dict[str, object]:
    return {
        "settings": {
            row.name: {
                "value": row.value_masked,
                "source": row.source,
                "default": row.default,
                "group": row.group,
                "unit": row.unit,
                "secret": row.secret,
                "about": row.doc,
            }
            for row in describe(settings)
        },
        "warnings": list(settings.warnings),
    }
