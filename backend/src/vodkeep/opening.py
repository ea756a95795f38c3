"""Opens the archive that is there: its folder and its database.

Most commands need no more than that, and should not wait until everything else is imported.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from datetime import datetime

import anyio
import anyio.to_thread

from vodkeep.chat.database import CHAT, chat_database
from vodkeep.db import migrate
from vodkeep.db.engine import Database
from vodkeep.db.instance_lock import InstanceLockedError, hold_instance_lock
from vodkeep.errors import SettingsError
from vodkeep.pipeline.identity import claim_archive
from vodkeep.settings import Settings, check_data_dir, check_locks


def prepare_data_dir(settings: Settings) -> None:
    """Create DATA_DIR if need be; raises `SettingsError` unless files can be written and locked there."""
    data_dir = settings.storage.data_dir
    problems = check_data_dir(data_dir) or check_locks(data_dir)
    if problems:
        raise SettingsError(problems)


def claim_database(settings: Settings) -> AbstractContextManager[None]:
    """Hold a SQLite file for this process; PostgreSQL is shared. Raises `SettingsError` when another has it."""
    url = settings.database.url()
    if url.get_backend_name() != "sqlite":
        return nullcontext()
    return hold_instance_lock(Database(url).path)


async def open_kept_database(settings: Settings) -> Database | None:
    """The database as it is; None when there is none yet, since looking must not create one.

    Raises `SettingsError` when its schema is not this version's, `DatabaseUnavailable` when it does not answer.
    """
    database = Database(settings.database.url())
    if database.is_sqlite and not await anyio.Path(database.path).exists():
        return None
    try:
        revision = await anyio.to_thread.run_sync(migrate.current, database)
    except BaseException:
        database.dispose()
        raise
    if revision == migrate.head():
        return database
    database.dispose()
    if revision is None:
        return None
    raise SettingsError(
        [
            f"The database {database.address} has the schema {revision}, and this version works with {migrate.head()}:"
            " start the service once, it brings the database up to date."
        ]
    )


async def need_kept_database(settings: Settings) -> Database:
    """As `open_kept_database`, for those who can do nothing without one: `SettingsError` when there is none yet."""
    database = await open_kept_database(settings)
    if database is None:
        address = Database(settings.database.url()).address
        raise SettingsError(
            [f"There is no database at {address} yet: start the service once, or check DATA_DIR and DB_DSN."]
        )
    return database


@asynccontextmanager
async def hold_archive(settings: Settings, now: datetime, purpose: str) -> AsyncIterator[tuple[Database, Database]]:
    """The main database and that of chat, made and brought up to date if need be, and DATA_DIR known to be theirs.

    On SQLite nobody else may have them meanwhile: while a service does, that is a `SettingsError` which names the
    ``purpose`` ("the import"). Raises `DatabaseUnavailable`.
    """
    prepare_data_dir(settings)
    database = Database(settings.database.url())
    try:
        if not database.is_sqlite:
            await database.ping()
        try:
            with claim_database(settings):
                await anyio.to_thread.run_sync(migrate.upgrade, database)
                chat = chat_database(database)
                try:
                    await anyio.to_thread.run_sync(migrate.upgrade, chat, CHAT)
                    await anyio.to_thread.run_sync(claim_archive, database, settings.storage.data_dir, now)
                    yield database, chat
                finally:
                    chat.dispose()
        except InstanceLockedError as error:
            raise SettingsError(
                [f"A vodkeep service works on this database file: stop it for {purpose}, then start it again."]
            ) from error
    finally:
        database.dispose()
