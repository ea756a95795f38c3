"""Just enough GraphQL to answer plain queries: fields, aliases, arguments, variables and inline fragments.

Grammar: GraphQL specification, October 2021, section 2. Directives and named fragments are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(
    r"""[\s,\ufeff]+|\#[^\n\r]*|(?P<token>\.\.\.|[!$()\[\]{}:=@|&]|[A-Za-z_]\w*|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"""
    r"""|"(?:[^"\\\n]|\\.)*")"""
)
MAX_TOKENS = 4_000
MAX_DEPTH = 40


class QueryError(ValueError):
    """The query cannot be read; the text goes into the answer's ``errors``."""


@dataclass(frozen=True, slots=True)
class Selection:
    """One selected field."""

    name: str
    alias: str
    arguments: Mapping[str, Any]
    selections: tuple[Selection, ...]


def parse_query(text: str, variables: Mapping[str, Any]) -> tuple[Selection, ...]:
    """The root fields of the first operation. Raises ``QueryError``."""
    reader = _Reader(_tokens(text), variables)
    if reader.peek() in ("query", "mutation"):
        reader.take()
        if reader.peek() not in ("{", "("):
            reader.take()
        if reader.peek() == "(":
            reader.skip_variable_definitions()
    return reader.selection_set(0)


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    position = 0
    while position < len(text):
        matched = _TOKEN.match(text, position)
        if matched is None:
            raise QueryError(f"Syntax error near {text[position : position + 12]!r}")
        if matched.group("token") is not None:
            tokens.append(matched.group("token"))
            if len(tokens) > MAX_TOKENS:
                raise QueryError("Query is too long")
        position = matched.end()
    return tokens


class _Reader:
    def __init__(self, tokens: list[str], variables: Mapping[str, Any]) -> None:
        self._tokens = tokens
        self._variables = variables
        self._position = 0

    def peek(self) -> str:
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def take(self, expected: str | None = None) -> str:
        token = self.peek()
        if token == "" or (expected is not None and token != expected):
            raise QueryError(f"Expected {expected or 'more'}, found {token or 'the end'}")
        self._position += 1
        return token

    def skip_variable_definitions(self) -> None:
        while self.take() != ")":
            pass

    def selection_set(self, depth: int) -> tuple[Selection, ...]:
        if depth > MAX_DEPTH:
            raise QueryError("Query is too deep")
        self.take("{")
        found: list[Selection] = []
        while self.peek() != "}":
            if self.peek() == "...":
                self.take()
                self.take("on")
                self.take()
                found.extend(self.selection_set(depth + 1))
            else:
                found.append(self._field(depth))
        self.take("}")
        if not found:
            raise QueryError("A selection must not be empty")
        return tuple(found)

    def _field(self, depth: int) -> Selection:
        name = self._name()
        alias = name
        if self.peek() == ":":
            self.take()
            name = self._name()
        arguments: dict[str, Any] = {}
        if self.peek() == "(":
            self.take()
            while self.peek() != ")":
                argument = self._name()
                self.take(":")
                arguments[argument] = self._value()
            self.take(")")
        selections = self.selection_set(depth + 1) if self.peek() == "{" else ()
        return Selection(name, alias, arguments, selections)

    def _name(self) -> str:
        name = self.take()
        if not re.match(r"[A-Za-z_]", name):
            raise QueryError(f"Expected a name, found {name}")
        return name

    def _value(self) -> Any:
        lexeme = self.take()
        if lexeme == "$":
            return self._variables.get(self._name())
        if lexeme == "[":
            entries = []
            while self.peek() != "]":
                entries.append(self._value())
            self.take("]")
            return entries
        if lexeme == "{":
            members: dict[str, Any] = {}
            while self.peek() != "}":
                member = self._name()
                self.take(":")
                members[member] = self._value()
            self.take("}")
            return members
        if lexeme.startswith('"') or lexeme in ("true", "false", "null") or re.match(r"-?\d", lexeme):
            return json.loads(lexeme)
        # An enum value.
        return lexeme
