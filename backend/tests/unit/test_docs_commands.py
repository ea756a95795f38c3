"""docs/commands.md says what the command line does, in the same words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer.main

from vodkeep import cli

PAGE = (Path(__file__).parents[3] / "docs" / "commands.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^## `(vodkeep [a-z -]+)`\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
OPTIONS = re.compile(r"\| Option \| What it is for \|\n\| --- \| --- \|\n((?:\|.*\|\n)+)")
ROW = re.compile(r"^\| `([^`]+)` \| (.*) \|$", re.MULTILINE)


def commands(command: Any, *path: str) -> dict[str, Any]:
    """Every command that does something, by what a person types."""
    if not hasattr(command, "commands"):
        return {" ".join(path): command}
    return {name: each for key, child in command.commands.items() for name, each in commands(child, *path, key).items()}


def parameters(command: Any) -> dict[str, str]:
    """What help says of each argument and option, by its longest name."""
    return {
        max(each.opts, key=len) if each.param_type_name == "option" else (each.metavar or each.name).upper(): each.help
        for each in command.params
    }


COMMANDS = commands(typer.main.get_command(cli.app), "vodkeep")
SECTIONS = dict(SECTION.findall(PAGE))


def test_every_command_has_its_section_and_no_other() -> None:
    assert sorted(SECTIONS) == sorted(COMMANDS)


def test_each_section_begins_with_what_help_says() -> None:
    assert {name: text.strip().split("\n\n")[0] for name, text in SECTIONS.items()} == {
        name: command.help for name, command in COMMANDS.items()
    }


def test_every_option_is_there_in_the_words_of_its_help() -> None:
    written = {}
    for name, text in SECTIONS.items():
        table = OPTIONS.search(text)
        written[name] = dict(ROW.findall(table[1])) if table is not None else {}
    assert written == {name: parameters(command) for name, command in COMMANDS.items()}


def test_every_exit_code_is_explained() -> None:
    codes = {value for name, value in vars(cli).items() if name.startswith("EXIT_")} | {0}
    table = PAGE.partition("## Exit codes")[2].partition("\n## ")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == codes


def test_every_check_of_the_doctor_is_listed() -> None:
    source = Path(cli.__file__).parent
    files = [source / "doctor_command.py", *(source / "checks").glob("*.py")]
    names = {name for path in files for name in re.findall(r'\bCheck\("([a-z_]+)"', path.read_text(encoding="utf-8"))}
    listed = SECTIONS["vodkeep doctor"].partition("| Check | What it looks at |")[2]
    assert {name for name, _ in ROW.findall(listed)} == names
