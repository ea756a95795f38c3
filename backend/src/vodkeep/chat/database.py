"""Where chat is kept: a SQLite file beside the main one, or the same PostgreSQL database."""

from __future__ import annotations

from vodkeep.chat.tables import metadata
from vodkeep.db.engine import Database
from vodkeep.db.migrate import SchemaLine

CHAT = SchemaLine(
    name="chat",
    script_location="vodkeep.chat:migrations",
    version_table="alembic_version_chat",
    metadata=metadata,
    prefixes=("chat", "emote"),
    foreign=("chat_search",),  # the search index, which chat/search_index.py makes
)
"""The revisions of chat's tables, for ``db.migrate`` and ``db.wait``."""

_ORDINARY_NAME = "vodkeep.db"


def chat_database(database: Database) -> Database:
    """The database of chat beside the main ``database``: another one on SQLite, the very same on PostgreSQL.

    The lock of the main file covers both files. Closing it is the caller's part; closing one twice does no harm.
    """
    if not database.is_sqlite:
        return database
    path = database.path
    # Two archives may have their files in one folder.
    name = "chat.db" if path.name == _ORDINARY_NAME else f"{path.stem}-chat{path.suffix}"
    return Database(database.url.set(database=str(path.with_name(name))))
