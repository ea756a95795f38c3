"""Keeps ``queue_counts`` right: how many rows of ``vods`` there are of each kind, per channel.

Counting 100,000 rows takes longer than a page may, so the figures are kept by triggers, whoever changes ``vods``: the
service or an operator's own SQL. On SQLite they see one row at a time; on PostgreSQL a whole statement, so that one
over many rows writes each figure once, always in the same order, after it has locked its rows. A kind that has no row
any more may stay, with ``n`` 0; there are a few dozen kinds for a channel at most.
"""

from __future__ import annotations

from sqlalchemy import Connection

_KIND = ("channel", "processed", "download_state", "has_error", "incomplete")


def _kind_of(row: str) -> str:
    """The kind of a row of ``vods``, as expressions in the order of ``_KIND``."""
    prefix = f"{row}." if row else ""
    return (
        f"{prefix}channel, {prefix}processed, {prefix}download_state,"
        f" CASE WHEN {prefix}processing_error IS NULL THEN 0 ELSE 1 END,"
        f" CASE WHEN {prefix}downloaded_path IS NOT NULL AND {prefix}completeness < 1 THEN 1 ELSE 0 END"
    )


def _add_on_sqlite(row: str, number: int) -> str:
    return (
        f"INSERT INTO queue_counts ({', '.join(_KIND)}, n) VALUES ({_kind_of(row)}, {number})"  # noqa: S608 - constants
        f" ON CONFLICT ({', '.join(_KIND)}) DO UPDATE SET n = n + {number};"
    )


_ON_SQLITE = {
    "queue_counts_insert": f"AFTER INSERT ON vods BEGIN {_add_on_sqlite('NEW', 1)} END",
    "queue_counts_delete": f"AFTER DELETE ON vods BEGIN {_add_on_sqlite('OLD', -1)} END",
    "queue_counts_update": (
        "AFTER UPDATE OF channel, processed, download_state, processing_error, downloaded_path, completeness ON vods"
        f" WHEN ({_kind_of('OLD')}) IS NOT ({_kind_of('NEW')})"
        f" BEGIN {_add_on_sqlite('OLD', -1)} {_add_on_sqlite('NEW', 1)} END"
    ),
}


def _add_on_postgresql(rows: str) -> str:
    """A function body; ``rows`` has the columns of ``_KIND`` and ``d``, by how much the number of the kind changes."""
    kind = ", ".join(_KIND)
    return f"""
BEGIN
    INSERT INTO queue_counts ({kind}, n)
    SELECT {kind}, sum(d) FROM ({rows}) AS changed ({kind}, d)
    GROUP BY {kind} HAVING sum(d) <> 0
    ORDER BY {kind}
    ON CONFLICT ({kind}) DO UPDATE SET n = queue_counts.n + excluded.n;
    RETURN NULL;
END;
"""  # noqa: S608 - constants


_CAME = f"SELECT {_kind_of('')}, 1 FROM came"  # noqa: S608 - a constant
_WENT = f"SELECT {_kind_of('')}, -1 FROM went"  # noqa: S608 - a constant

_ON_POSTGRESQL = {
    "queue_counts_insert": ("INSERT", "REFERENCING NEW TABLE AS came", _add_on_postgresql(_CAME)),
    "queue_counts_delete": ("DELETE", "REFERENCING OLD TABLE AS went", _add_on_postgresql(_WENT)),
    "queue_counts_update": (
        "UPDATE",
        "REFERENCING OLD TABLE AS went NEW TABLE AS came",
        _add_on_postgresql(f"{_WENT} UNION ALL {_CAME}"),
    ),
    "queue_counts_truncate": ("TRUNCATE", "", "BEGIN DELETE FROM queue_counts; RETURN NULL; END;"),
}


def create(connection: Connection) -> None:
    """Create the triggers; ``vods`` and ``queue_counts`` are there and empty."""
    if connection.dialect.name == "sqlite":
        for name, definition in _ON_SQLITE.items():
            connection.exec_driver_sql(f"CREATE TRIGGER {name} {definition}")
        return
    for name, (event, tables, body) in _ON_POSTGRESQL.items():
        connection.exec_driver_sql(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $${body}$$")
        connection.exec_driver_sql(
            f"CREATE TRIGGER {name} AFTER {event} ON vods {tables} FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
        )


def drop(connection: Connection) -> None:
    """Remove the triggers and what belongs to them."""
    for name in _ON_SQLITE if connection.dialect.name == "sqlite" else _ON_POSTGRESQL:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        else:
            connection.exec_driver_sql(f"DROP TRIGGER {name} ON vods")
            connection.exec_driver_sql(f"DROP FUNCTION {name}()")
