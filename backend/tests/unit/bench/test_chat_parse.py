"""What `make bench-chat-parse` compares; irctokens itself is not in the environment of the tests."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

from bench.chat_parse import chat, differences, report

from vodkeep.chat.irc import parse_line


def another_reader(**changes: object) -> ModuleType:
    """Reads as we do, except for the changes."""
    module = ModuleType("irctokens")

    def tokenise(text: str) -> SimpleNamespace:
        line = parse_line(text.encode())
        if line is None:
            raise ValueError("no command")
        parts = {"tags": line.tags, "source": line.source, "command": line.command, "params": line.params}
        return SimpleNamespace(**{**parts, **changes})

    module.tokenise = tokenise  # type: ignore[attr-defined]
    return module


def test_readers_that_agree_are_the_same_and_others_are_counted() -> None:
    lines = [*chat(50, seed=1), b"@a", b"X \xff"]
    outcomes = differences(another_reader(), lines)
    assert outcomes == {"the same": 50, "both see no command": 1, "not UTF-8: only read by us as such": 1}
    assert differences(another_reader(params=["other"]), lines)["DIFFERENT"] == 50


def test_the_lines_are_the_same_every_time_and_of_every_kind() -> None:
    lines = chat(1000, seed=1)
    assert lines == chat(1000, seed=1)
    commands = {line.command for raw in lines if (line := parse_line(raw)) is not None}
    assert commands >= {"PRIVMSG", "USERNOTICE", "CLEARCHAT", "CLEARMSG"}


def test_the_table_has_the_ratio_of_medians() -> None:
    assert "| tokeniser | 200 (4.0x) | 100 to 300 |" in report({"tokeniser": [100, 300, 200], "irctokens": [50, 50]})
