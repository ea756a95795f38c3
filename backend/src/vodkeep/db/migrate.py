"""Brings the schema to this version of the code, once, however many processes start together.

There is more than one line of revisions (:class:`SchemaLine`); each is brought up by itself. All revisions of a line
run in one transaction under one lock: an advisory transaction lock on PostgreSQL, the write lock of the file on SQLite.
Who comes second finds the work done.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlalchemy
from alembic import command, context
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData
from sqlalchemy.exc import ProgrammingError

from vodkeep.db import job_tables
from vodkeep.db.engine import Database
from vodkeep.db.postgresql import Patience
from vodkeep.db.tables import metadata
from vodkeep.errors import SettingsError

_LOCK_KEY = 0x766F646B656570  # "vodkeep" in ASCII; any number that is ours alone
_WAIT_FOR_OTHERS_S = 120.0
_DDL_LOCK_MS = 10_000
_PATIENCE = Patience(statement_s=600.0, lock_s=_WAIT_FOR_OTHERS_S, idle_s=600.0)


@dataclass(frozen=True, slots=True)
class SchemaLine:
    """A line of revisions, and the tables that belong to it."""

    name: str
    script_location: str  # "package:folder", as Alembic has it
    version_table: str  # where the revision of the database is written down
    metadata: MetaData
    prefixes: tuple[str, ...] = ()  # how the names of its tables begin; none: every table nobody else has
    foreign: tuple[str, ...] = ()  # how the names of others' tables begin that may lie in the same database

    def include_name(self, name: str | None, kind: str, _parents: MutableMapping[Any, str | None]) -> bool:
        """Whether Alembic looks at a table it found."""
        if kind != "table" or name is None:
            return True
        return not name.startswith(self.foreign) and (not self.prefixes or name.startswith(self.prefixes))


MAIN = SchemaLine(
    name="main",
    script_location="vodkeep.db:migrations",
    version_table="alembic_version",
    metadata=metadata,
    foreign=(job_tables.PREFIX, "chat", "emote", "alembic_version_"),
)
"""The catalog, the queue and all that is not kept apart."""


def run_revisions() -> None:
    """What each line's ``env.py`` does: run the revisions that the command at hand asks for."""
    line: SchemaLine = context.config.attributes["line"]
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=line.metadata,
        version_table=line.version_table,
        include_name=line.include_name,
        # All revisions in the one transaction of the caller: everything or nothing, on SQLite too.
        transaction_per_migration=False,
        transactional_ddl=True,
    )
    context.run_migrations()


def current(database: Database, line: SchemaLine = MAIN) -> str | None:
    """The revision the database is at; ``None`` when it is empty. Raises ``DatabaseUnavailable``."""
    with database.unit_of_work(write=False) as unit:
        return _current(unit.connection, line)


def head(line: SchemaLine = MAIN) -> str:
    """The revision this version of the code works with."""
    revision = ScriptDirectory.from_config(_config(line)).get_current_head()
    assert revision is not None  # there is one line of revisions, and it is packaged with us
    return revision


def needs_upgrade(database: Database, revision: str | None, line: SchemaLine = MAIN) -> bool:
    """Whether ``upgrade`` has something to do at ``revision``; raises ``SettingsError`` if a newer version made it."""
    return not _is_at_head(database, line, revision)


def upgrade(database: Database, line: SchemaLine = MAIN) -> None:
    """Bring the schema to ``head(line)``; blocking, and safe to call from several processes at once.

    Raises ``SettingsError`` when only a person can help (a database of a newer version, one that cannot hold
    our text, a user without rights), ``DatabaseUnavailable`` when trying again can.
    """
    if _is_at_head(database, line, current(database, line)):
        return
    with _locked(database) as connection:
        # Another process may have been faster while we waited for the lock.
        revision = _current(connection, line)
        if _is_at_head(database, line, revision):
            return
        if revision is None:
            _refuse_tables_of_others(database, line, connection)
            _refuse_other_encodings(database, connection)
        command.upgrade(_config(line, connection), "head")


def downgrade(database: Database, revision: str, line: SchemaLine = MAIN) -> None:
    """Take the schema back to ``revision`` (``base``: nothing); what only newer revisions hold is lost."""
    with _locked(database) as connection:
        _is_at_head(database, line, _current(connection, line))
        command.downgrade(_config(line, connection), revision)


@contextmanager
def _locked(database: Database) -> Iterator[Connection]:
    """A writing transaction that no other migration runs beside; commits when the block succeeds."""
    try:
        with database.unit_of_work(patience=_PATIENCE) as unit:
            if not database.is_sqlite:
                unit.connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_LOCK_KEY)))
                # From here on queries of a running service queue up behind us; better to give up and try again later.
                unit.connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_DDL_LOCK_MS}")
            yield unit.connection
            unit.commit()
    except ProgrammingError as error:
        if not isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise
        raise SettingsError(
            [
                f"The user of DB_DSN may not create tables in {database.address} ({error.orig.diag.message_primary}):"
                " let it own the database, or GRANT CREATE, USAGE ON SCHEMA public to it."
            ]
        ) from error


def _current(connection: Connection, line: SchemaLine) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table": line.version_table}).get_current_revision()


def _is_at_head(database: Database, line: SchemaLine, revision: str | None) -> bool:
    """Whether there is nothing to do; raises ``SettingsError`` when the database is newer than the code."""
    script = ScriptDirectory.from_config(_config(line))
    known = {each.revision for each in script.walk_revisions()}
    if revision is not None and revision not in known:
        raise SettingsError(
            [
                f"The database {database.address} was last used by a newer version of vodkeep (schema {revision}, this"
                f" version knows up to {head(line)}): start the newer version again, or restore a backup from before."
            ]
        )
    return revision == head(line)


def _refuse_tables_of_others(database: Database, line: SchemaLine, connection: Connection) -> None:
    there = sqlalchemy.inspect(connection).get_table_names()
    ours = set(line.metadata.tables)
    # The job engine's tables come with the main line.
    taken = sorted(name for name in there if name in ours or (line is MAIN and name.startswith(job_tables.PREFIX)))
    if taken:
        raise SettingsError(
            [
                f"The database {database.address} has tables of another program ({', '.join(taken)}):"
                " name an empty database in DB_DSN."
            ]
        )


def _refuse_other_encodings(database: Database, connection: Connection) -> None:
    if database.is_sqlite:
        return
    encoding = connection.exec_driver_sql("SELECT current_setting('server_encoding')").scalar_one()
    if encoding != "UTF8":
        raise SettingsError(
            [
                f"The database {database.address} has the encoding {encoding}, which cannot hold every title:"
                " create it with CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0."
            ]
        )


def _config(line: SchemaLine, connection: Connection | None = None) -> Config:
    """Alembic's configuration; it needs no file at run time."""
    config = Config()
    config.set_main_option("script_location", line.script_location)
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["line"] = line
    return config
