"""Chat's own line of revisions, beside the main one in the same PostgreSQL database or in a file of its own."""

from __future__ import annotations

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import URL, inspect

from vodkeep.chat.database import CHAT, chat_database
from vodkeep.chat.tables import metadata
from vodkeep.db import migrate
from vodkeep.db.engine import Database
from vodkeep.errors import SettingsError


def table_names(database: Database) -> set[str]:
    with database.unit_of_work(write=False) as unit:
        return set(inspect(unit.connection).get_table_names())


def execute(database: Database, sql: str) -> None:
    with database.unit_of_work() as unit:
        unit.connection.exec_driver_sql(sql)
        unit.commit()


def test_up_down_and_up_again_alone(empty_database: Database) -> None:
    migrate.upgrade(empty_database, CHAT)
    assert migrate.current(empty_database, CHAT) == migrate.head(CHAT)
    assert migrate.current(empty_database) is None
    execute(empty_database, "INSERT INTO chat_session (channel, source, base_ms) VALUES ('c', 0, 0)")

    migrate.downgrade(empty_database, "base", CHAT)
    assert table_names(empty_database) == {"alembic_version_chat"}

    migrate.upgrade(empty_database, CHAT)
    assert set(metadata.tables) <= table_names(empty_database)


def test_going_down_leaves_the_main_tables_alone(database: Database, chat_database: Database) -> None:
    before = table_names(database) - set(metadata.tables)

    migrate.downgrade(chat_database, "base", CHAT)

    assert table_names(database) == before
    assert migrate.current(database) == migrate.head()
    migrate.upgrade(chat_database, CHAT)
    migrate.downgrade(database, "base")
    assert set(metadata.tables) <= table_names(chat_database)


def test_the_migrated_schema_is_the_one_of_the_code(chat_database: Database) -> None:
    assert differences(chat_database) == []

    execute(chat_database, "ALTER TABLE chat_session ADD COLUMN surprise TEXT")
    assert [kind for kind, *_ in differences(chat_database)] == ["remove_column"]


def differences(database: Database) -> list[Any]:
    with database.unit_of_work(write=False) as unit:
        options = {"include_name": CHAT.include_name, "version_table": CHAT.version_table}
        context = MigrationContext.configure(unit.connection, opts=options)
        return list(compare_metadata(context, metadata))


def test_the_migrated_schema_has_the_same_defaults_and_constraints(
    chat_database: Database, empty_database: Database
) -> None:
    """What Alembic does not compare: defaults, keys, exact types."""
    with empty_database.unit_of_work() as unit:
        metadata.create_all(unit.connection)
        unit.commit()

    assert describe(chat_database) == describe(empty_database)


def describe(database: Database) -> dict[str, Any]:
    with database.unit_of_work(write=False) as unit:
        inspector = inspect(unit.connection)
        return {
            name: {
                "columns": [
                    (each["name"], str(each["type"]), each["nullable"], each["default"])
                    for each in inspector.get_columns(name)
                ],
                "primary key": inspector.get_pk_constraint(name),
                "unique": inspector.get_unique_constraints(name),
                "indexes": sorted(
                    (str(each["name"]), each["column_names"], each["unique"]) for each in inspector.get_indexes(name)
                ),
            }
            for name in metadata.tables
        }


def test_tables_of_another_program_are_refused(empty_database: Database) -> None:
    execute(empty_database, "CREATE TABLE chatter (id INTEGER)")

    with pytest.raises(SettingsError, match=r"tables of another program \(chatter\)"):
        migrate.upgrade(empty_database, CHAT)


@pytest.mark.parametrize(
    ("main", "chat"), [("vodkeep.db", "chat.db"), ("second.db", "second-chat.db"), ("archive", "archive-chat")]
)
def test_on_sqlite_chat_has_a_file_of_its_own_beside_the_main_one(main: str, chat: str) -> None:
    assert str(chat_database(Database(URL.create("sqlite", database=f"/data/{main}"))).path) == f"/data/{chat}"
