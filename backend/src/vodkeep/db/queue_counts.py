"""Keeps ``queue_counts`` right: for each channel, how many rows of ``vods`` there are of each kind.

Counting 100,000 rows takes longer than a page may, so the figures are kept by triggers, whoever changes ``vods``: the
service or an operator's own SQL. On SQLite they see one row at a time; on PostgreSQL a whole statement, so that one
over many rows writes each channel once, always in the same order, after it has locked its rows.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from vodkeep.placeholder import PREFIX

_STATES = (
    "pending",
    "waiting",
    "downloading",
    "verifying",
    "downloaded",
    "uploading",
    "done",
    "failed",
    "parked",
    "canceled",
)

# What is known only from its live stream is no part of the queue.
_LIVE_ONLY = f"substr(twitch_vod_id, 1, {len(PREFIX)}) = '{PREFIX}'"

_OF_THE_QUEUE: Mapping[str, str] = {
    **{f"state_{state}": f"download_state = '{state}'" for state in _STATES},
    "processed": "processed = 1",
    "errored": "processed = 0 AND processing_error IS NOT NULL AND download_state IN ('failed', 'parked')",
    "canceled": "processed = 0 AND processing_error IS NOT NULL AND download_state = 'canceled'",
    "incomplete": "downloaded_path IS NOT NULL AND completeness < 1",
}

# A column of `queue_counts`, and which rows of `vods` it counts.
_COUNTED: Mapping[str, str] = {
    **{name: f"NOT {_LIVE_ONLY} AND {condition}" for name, condition in _OF_THE_QUEUE.items()},
    "placeholders": _LIVE_ONLY,
    "unmatched": f"{_LIVE_ONLY} AND processing_error IS NOT NULL",
}

# What the conditions name, and the channel.
_LOOKED_AT = (
    "twitch_vod_id",
    "channel",
    "download_state",
    "processed",
    "processing_error",
    "downloaded_path",
    "completeness",
)

_NAMES = ", ".join(_COUNTED)
_ADDED = ", ".join(f"{name} = queue_counts.{name} + excluded.{name}" for name in _COUNTED)


def _add_on_sqlite(row: str, number: int) -> str:
    """A statement that counts ``NEW`` or ``OLD`` once more or once less."""
    seen = ", ".join(f"{row}.{name} AS {name}" for name in _LOOKED_AT)
    figures = ", ".join(f"CASE WHEN {condition} THEN {number} ELSE 0 END" for condition in _COUNTED.values())
    return (
        f"INSERT INTO queue_counts (channel, {_NAMES}) SELECT channel, {figures} FROM (SELECT {seen})"  # noqa: S608 - constants
        # Without a condition "ON CONFLICT" would be taken for a join.
        f" WHERE true ON CONFLICT (channel) DO UPDATE SET {_ADDED};"
    )


_CHANGED = " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in _LOOKED_AT)
_ON_SQLITE = {
    "queue_counts_insert": f"AFTER INSERT ON vods BEGIN {_add_on_sqlite('NEW', 1)} END",
    "queue_counts_delete": f"AFTER DELETE ON vods BEGIN {_add_on_sqlite('OLD', -1)} END",
    "queue_counts_update": (
        f"AFTER UPDATE OF {', '.join(_LOOKED_AT)} ON vods WHEN {_CHANGED}"
        f" BEGIN {_add_on_sqlite('OLD', -1)} {_add_on_sqlite('NEW', 1)} END"
    ),
}


def _add_on_postgresql(*tables: str) -> str:
    """The body of a function that counts the rows of ``came`` once more and those of ``went`` once less."""
    numbers = {"came": 1, "went": -1}
    rows = " UNION ALL ".join(
        f"SELECT {', '.join(_LOOKED_AT)}, {numbers[table]} AS d FROM {table}"  # noqa: S608 - constants
        for table in tables
    )
    figures = [f"coalesce(sum(d) FILTER (WHERE {condition}), 0)" for condition in _COUNTED.values()]
    return f"""
BEGIN
    INSERT INTO queue_counts (channel, {_NAMES})
    SELECT channel, {", ".join(figures)} FROM ({rows}) AS changed
    GROUP BY channel HAVING {" OR ".join(f"{figure} <> 0" for figure in figures)}
    ORDER BY channel
    ON CONFLICT (channel) DO UPDATE SET {_ADDED};
    RETURN NULL;
END;
"""  # noqa: S608 - constants


_ON_POSTGRESQL = {
    "queue_counts_insert": ("INSERT", "REFERENCING NEW TABLE AS came", _add_on_postgresql("came")),
    "queue_counts_delete": ("DELETE", "REFERENCING OLD TABLE AS went", _add_on_postgresql("went")),
    "queue_counts_update": (
        "UPDATE",
        "REFERENCING OLD TABLE AS went NEW TABLE AS came",
        _add_on_postgresql("went", "came"),
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
