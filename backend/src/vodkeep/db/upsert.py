"""Insert or update in one statement, the same on both databases; a constraint settles the race."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_or_update(
    connection: Connection,
    table: Table,
    row: Mapping[str, Any],
    *,
    key: Collection[str],
    update: Collection[str] | None = None,
) -> None:
    """Insert ``row``; where a row with the same ``key`` columns exists, set its ``update`` columns instead.

    ``key`` must be covered by a unique constraint. ``update`` defaults to every column of ``row`` that is
    neither in ``key`` nor ``created_at``.
    """
    statement = _insert(connection, table).values(dict(row))
    names = [name for name in row if name not in key and name != "created_at"] if update is None else update
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=list(key), set_={name: statement.excluded[name] for name in names}
        )
    )


def insert_if_absent(connection: Connection, table: Table, row: Mapping[str, Any], *, key: Collection[str]) -> bool:
    """Insert ``row`` unless one with the same ``key`` columns exists; tells whether it was inserted."""
    statement = _insert(connection, table).values(dict(row)).on_conflict_do_nothing(index_elements=list(key))
    # Only a row that was inserted is returned; the row count of an insert is unknown on PostgreSQL.
    return connection.execute(statement.returning(*table.primary_key)).first() is not None


def _insert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)
