"""Writes the reference of the settings from their declarations, so that it cannot differ from the code.

``python -m vodkeep.settings.reference ../docs/configuration.md .env.example`` refreshes the tables of the page between
its markers, and the whole example file.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from vodkeep.settings.model import Group, Settings, Variable, declared_variables

_MARKED = re.compile(r"(?s)(<!-- variables: (?P<group>[A-Za-z]+) -->\n).*?(<!-- end of variables -->)")

_EXAMPLE_HEAD = """\
# The settings of Vodkeep. Copy this file to backend/.env and fill in what you need; `make run` loads it.
# What is empty or commented out has its default. The environment wins over this file.
# Durations are written 30s, 5m, 6h or 1h30m; switches 1 or 0. docs/configuration.md tells more.
"""


def group_titles() -> dict[str, str]:
    """Title and purpose of each group, in order."""
    groups = (field.annotation for field in Settings.model_fields.values())
    return {
        group.title: (group.__doc__ or "").strip()
        for group in groups
        if isinstance(group, type) and issubclass(group, Group)
    }


def variables_of(title: str) -> list[Variable]:
    """The variables of the group with this title."""
    return [variable for variable in declared_variables() if variable.group == title]


def markdown_table(title: str) -> str:
    """One group as a table: name, default, form, reason."""
    lines = ["| Variable | Default | Form | What it is for |", "| --- | --- | --- | --- |"]
    for variable in variables_of(title):
        default = f"`{variable.default}`" if variable.default else "empty"
        cells = (f"`{variable.name}`", default, variable.form.unit, variable.doc)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def refreshed_page(page: str) -> str:
    """``page`` with the table between each pair of markers written anew.

    Raises ``KeyError`` for a marker that names no group.
    """
    titles = group_titles()

    def table(found: re.Match[str]) -> str:
        if found["group"] not in titles:
            raise KeyError(found["group"])
        return found.group(1) + "\n" + markdown_table(found["group"]) + "\n" + found.group(3)

    return _MARKED.sub(table, page)


def env_example() -> str:
    """The example file: what has a default is commented out, what has none is empty, so that it loads as it is."""
    parts = [_EXAMPLE_HEAD]
    for title, purpose in group_titles().items():
        parts.append(f"\n# --- {title}: {purpose[0].lower()}{purpose[1:]}\n")
        for variable in variables_of(title):
            doc = f"{variable.doc} ({variable.form.unit})".replace("`", "")
            parts.append("\n" + textwrap.fill(doc, 110, initial_indent="# ", subsequent_indent="# ") + "\n")
            if variable.example:
                parts.append(f"# For example {variable.name}={variable.example}\n")
            default = variable.default
            quoted = f'"{default}"' if re.search(r"[\s{}\[\]]", default) else default
            parts.append(f"{'#' if default else ''}{variable.name}={quoted}\n")
    return "".join(parts)


def main(arguments: Sequence[str]) -> None:
    """Refresh the page and the example file named by the two arguments."""
    page, example = map(Path, arguments)
    page.write_text(refreshed_page(page.read_text(encoding="utf-8")), encoding="utf-8")
    example.write_text(env_example(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
