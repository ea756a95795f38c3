"""The search index of messages: what it is made of, filling it, and taking messages out of it again.

It is made beside the revisions of the schema, by whoever fills it first, because it differs with what the database can
do. On SQLite it is an FTS5 table over the columns of ``chat_message``, which holds no text itself. On PostgreSQL it is
a table with the texts and one GIN index over session, chatter and words; with the index on ``chat_message`` itself
every flush of the recorder would pay for it.

Who said a message is in the index as a word of its own, so that all that a person said is found like any word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, TextClause, bindparam, text
from sqlalchemy.exc import DBAPIError, OperationalError

from vodkeep.chat.ids import session_of
from vodkeep.errors import PermanentError

TABLE = "chat_search"

# So that one statement with all its numbers stays below every limit of parameters.
_AT_ONCE = 500

# By statement, one index serves all: a session's words, a person's messages, and words everywhere.
_POSTGRES_WORDS = "to_tsvector('simple', body)"
_POSTGRES_INDEX = "ix_chat_search_words"


class SearchUnavailable(PermanentError):
    """This database cannot search."""

    code = "search_unavailable"


@dataclass(frozen=True, slots=True)
class SearchIndex:
    """What kind of index there is."""

    note: str = ""  # what is slower than it could be, and the remedy


def exists(connection: Connection) -> bool:
    """Whether the index was made."""
    if connection.dialect.name == "sqlite":
        query = f"SELECT count(*) FROM sqlite_master WHERE name = '{TABLE}'"
    else:
        query = f"SELECT count(to_regclass('{TABLE}'))"
    return bool(connection.exec_driver_sql(query).scalar_one())


def prepare(connection: Connection) -> SearchIndex:
    """Make the index unless there is one; the caller commits. Raises :class:`SearchUnavailable`."""
    if connection.dialect.name == "sqlite":
        return _prepare_sqlite(connection)
    return _prepare_postgres(connection)


def _prepare_sqlite(connection: Connection) -> SearchIndex:
    try:
        connection.exec_driver_sql(
            f"CREATE VIRTUAL TABLE IF NOT EXISTS {TABLE} USING fts5(body, chatter_id, content='chat_message',"
            " content_rowid='id', columnsize=0, tokenize='unicode61')"
        )
    except OperationalError as error:
        if "no such module" not in str(error.orig):
            raise
        raise SearchUnavailable(
            "The SQLite of this Python has no full-text search (FTS5), so chat cannot be searched.",
            remedy="Use a Python whose SQLite was built with FTS5, or PostgreSQL (DB_DSN).",
        ) from error
    return SearchIndex()


def _prepare_postgres(connection: Connection) -> SearchIndex:
    # Two processes that start together must not both make it; the lock ends with the transaction.
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('chat_search'))")
    if exists(connection):
        return _kind_of(connection)
    connection.exec_driver_sql(f"CREATE TABLE {TABLE} (id bigint NOT NULL, chatter_id bigint, body text NOT NULL)")
    try:
        with connection.begin_nested():
            # Trusted since PostgreSQL 13: who may create in the database may create it.
            connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS btree_gin")
            connection.exec_driver_sql(
                f"CREATE INDEX {_POSTGRES_INDEX} ON {TABLE} USING gin ((id >> 32), chatter_id, {_POSTGRES_WORDS})"
            )
    except DBAPIError:
        connection.exec_driver_sql(f"CREATE INDEX {_POSTGRES_INDEX} ON {TABLE} USING gin ({_POSTGRES_WORDS})")
        connection.exec_driver_sql(f"CREATE INDEX ix_{TABLE}_session ON {TABLE} ((id >> 32), chatter_id)")
        connection.exec_driver_sql(f"CREATE INDEX ix_{TABLE}_chatter_id ON {TABLE} (chatter_id)")
    return _kind_of(connection)


def _kind_of(connection: Connection) -> SearchIndex:
    query = (
        f"SELECT count(*) FROM pg_indexes WHERE indexname = 'ix_{TABLE}_chatter_id' AND schemaname = current_schema()"
    )
    if not connection.exec_driver_sql(query).scalar_one():
        return SearchIndex()
    return SearchIndex(
        "The extension btree_gin could not be created, so that searching one broadcast takes several times longer:"
        f" have an administrator run CREATE EXTENSION btree_gin, then DROP TABLE {TABLE} and start again."
    )


def add_range(connection: Connection, after: int, last: int) -> None:
    """Take in what lies above ``after`` up to ``last``, of which nothing is there yet."""
    _add(connection, "id > :after AND id <= :last", {"after": after, "last": last})


def add(connection: Connection, numbers: Sequence[int]) -> None:
    """Take in these messages, of which none is there yet; such as do not exist (any more) are passed over."""
    for start in range(0, len(numbers), _AT_ONCE):
        _add(connection, "id IN :numbers", {"numbers": numbers[start : start + _AT_ONCE]})


def _add(connection: Connection, which: str, values: dict[str, object]) -> None:
    if connection.dialect.name == "sqlite":
        into, rows = f"{TABLE}(rowid, body, chatter_id)", "true"
    else:
        into, rows = f"{TABLE}(id, body, chatter_id)", "(body <> '' OR chatter_id IS NOT NULL)"
    statement = text(f"INSERT INTO {into} SELECT id, body, chatter_id FROM chat_message WHERE {which} AND {rows}")
    if "numbers" in values:
        statement = statement.bindparams(bindparam("numbers", expanding=True))
    connection.execute(statement, values)


def forget(connection: Connection, numbers: Sequence[int]) -> None:
    """Take these messages out of the index, and off the list of what is to come into it.

    Call it before they are deleted from ``chat_message`` and in the same transaction: FTS5 reads there what it has to
    forget. It keeps writers and the indexer out of their sessions until the commit.
    """
    sqlite = connection.dialect.name == "sqlite"
    sessions = sorted({session_of(number) for number in numbers})
    # In one order everywhere. It holds the rows, and tells who keeps copies that something changed.
    held = text("UPDATE chat_session SET revision = revision + 1 WHERE id = :id")
    for session in sessions:
        connection.execute(held, {"id": session})
    there = exists(connection)
    for start in range(0, len(numbers), _AT_ONCE):
        values = {"numbers": list(numbers[start : start + _AT_ONCE])}
        if there and sqlite:
            # Only what is in it: FTS5 would also take out what never was, and lose count.
            connection.execute(_some(_FORGET_ON_SQLITE), values)
        # Before the index itself: the indexer may hold these rows, and has put the messages there once it lets go.
        connection.execute(_some("DELETE FROM chat_index_queue WHERE id IN :numbers"), values)
        if there and not sqlite:
            values["sessions"] = sorted({session_of(number) for number in values["numbers"]})
            connection.execute(
                _some(f"DELETE FROM {TABLE} WHERE (id >> 32) = ANY (CAST(:sessions AS bigint[])) AND id IN :numbers"),
                values,
            )


def compact(connection: Connection) -> None:
    """Drop what was forgotten, of which FTS5 keeps the words until it merges its segments; the caller commits."""
    if connection.dialect.name == "sqlite" and exists(connection):
        connection.exec_driver_sql(f"INSERT INTO {TABLE}({TABLE}) VALUES ('optimize')")


_FORGET_ON_SQLITE = f"""
INSERT INTO {TABLE}({TABLE}, rowid, body, chatter_id)
SELECT 'delete', m.id, m.body, m.chatter_id FROM chat_message m JOIN chat_session s ON s.id = m.id >> 32
WHERE m.id IN :numbers AND m.id <= s.fts_upto_id AND m.id NOT IN (SELECT id FROM chat_index_queue)
"""


def _some(statement: str) -> TextClause:
    return text(statement).bindparams(bindparam("numbers", expanding=True))


def settle(connection: Connection) -> None:
    """Sort in what came lately, so that searches need not read it apart; the caller commits."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(f"SELECT gin_clean_pending_list('{_POSTGRES_INDEX}')")
