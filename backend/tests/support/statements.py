"""What a database is asked, and how it goes about answering."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, event

from vodkeep.db.engine import Database

_PLAIN = re.compile(r"^\s*(SELECT|WITH|UPDATE|INSERT|DELETE)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """A statement as the driver got it, once."""

    text: str
    parameters: Any

    @property
    def shape(self) -> str:
        """The statement without the length of its lists, so that alike ones are told once."""
        return re.sub(r"(\?|%\(\w+\)s)(, (\?|%\(\w+\)s))+", "...", self.text)


@dataclass(slots=True)
class Statements:
    """Everything asked while it was listened to, each shape once."""

    by_shape: dict[str, Asked] = field(default_factory=dict)

    def about(self, *tables: str) -> list[Asked]:
        """Those that name one of ``tables``."""
        names = re.compile(rf"\b({'|'.join(tables)})\b")
        return [asked for asked in self.by_shape.values() if names.search(asked.text)]


@contextmanager
def listening(database: Database) -> Iterator[Statements]:
    """Record what the database is asked for the time of the block, by whatever thread."""
    statements = Statements()

    def hear(_connection: Any, _cursor: Any, text: str, parameters: Any, *_: Any) -> None:
        if _PLAIN.match(text):
            asked = Asked(text, parameters)
            statements.by_shape.setdefault(asked.shape, asked)

    event.listen(database._engine, "before_cursor_execute", hear)
    try:
        yield statements
    finally:
        event.remove(database._engine, "before_cursor_execute", hear)


def full_scans(connection: Connection, asked: Asked, tables: frozenset[str]) -> list[str]:
    """The steps of the database's plan for a statement that read one of ``tables`` without any index."""
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked.text}", asked.parameters)
        aliases = _aliases(asked.text, tables)
        return [row.detail for row in rows if (found := _SCAN.fullmatch(row.detail)) and found[1] in aliases]
    (plan,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {asked.text}", asked.parameters).scalar_one()
    nodes = [node for node in _nodes(plan["Plan"]) if node.get("Relation Name") in tables]
    return [_told(node) for node in nodes if node["Node Type"] == "Seq Scan"]


def effort(connection: Connection, asked: Asked, tables: frozenset[str]) -> float:
    """About how many rows of ``tables`` are looked at for a statement, which is really executed."""
    if connection.dialect.name == "sqlite":
        return _steps(connection, asked) / _STEPS_A_ROW
    (plan,) = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {asked.text}", asked.parameters).scalar_one()
    looked_at: float = sum(
        node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
        for node in _nodes(plan["Plan"])
        if node.get("Relation Name") in tables and "Plans" not in node
    )
    return looked_at


_SCAN = re.compile(r"SCAN (\w+)")

# SQLite tells its plan but not how many rows it met; its virtual machine takes about ten instructions for one.
_STEPS_A_ROW = 10


def _steps(connection: Connection, asked: Asked) -> int:
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += _STEPS_A_ROW
        return 0

    driver: Any = connection.connection.driver_connection
    driver.set_progress_handler(count, _STEPS_A_ROW)
    try:
        result = connection.exec_driver_sql(asked.text, asked.parameters)
        if result.returns_rows:
            result.fetchall()
    finally:
        driver.set_progress_handler(None, 0)
    return steps


def _aliases(text: str, tables: frozenset[str]) -> set[str]:
    named = re.findall(rf"\b({'|'.join(tables)})(?: AS (\w+))?", text)
    return {name for pair in named for name in pair if name}


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from _nodes(part)


def _told(node: Mapping[str, Any]) -> str:
    return json.dumps({name: value for name, value in node.items() if name != "Plans"})
