"""The tables, types and functions of Procrastinate, which keep the tickets of a fleet on PostgreSQL.

They are Procrastinate's own: made by the schema that its installed version carries, never read or written by other
code than its queries. Tickets can be thrown away at any time (``docs/decisions/procrastinate-seam.md``), so a version
with another schema is brought in by a revision that drops everything here and creates it anew.
"""

from __future__ import annotations

from sqlalchemy import Connection

PREFIX = "procrastinate_"
"""What every name of theirs begins with."""

_DROP = f"""
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT oid::regclass AS name FROM pg_class
        WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace AND starts_with(relname, '{PREFIX}')
    LOOP
        EXECUTE format('DROP TABLE %s CASCADE', one.name);
    END LOOP;
    FOR one IN SELECT oid::regprocedure AS name FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND starts_with(proname, '{PREFIX}')
    LOOP
        EXECUTE format('DROP FUNCTION %s CASCADE', one.name);
    END LOOP;
    FOR one IN SELECT oid::regtype AS name FROM pg_type
        WHERE typtype IN ('c', 'e') AND typnamespace = current_schema()::regnamespace
            AND starts_with(typname, '{PREFIX}')
    LOOP
        EXECUTE format('DROP TYPE %s CASCADE', one.name);
    END LOOP;
END;
$$
"""  # noqa: S608 - a constant


def create(connection: Connection) -> None:
    """Create what Procrastinate needs; PostgreSQL only, in the caller's transaction."""
    # Once in the life of a database, and a tenth of a second of each command that looks into one.
    from procrastinate.schema import SchemaManager

    _execute(connection, SchemaManager.get_schema())


def drop(connection: Connection) -> None:
    """Remove whatever of Procrastinate's there is, tickets included; harmless when there is nothing."""
    _execute(connection, _DROP)


def _execute(connection: Connection, script: str) -> None:
    # The driver looks for its placeholders in every statement that comes through SQLAlchemy.
    connection.exec_driver_sql(script.replace("%", "%%"))
