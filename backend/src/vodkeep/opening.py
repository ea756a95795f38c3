"""Opens the archive that is there: its folder and its database.

Most commands need no more than that, and should not wait until everything else is imported.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import anyio
import anyio.to_thread

from vodkeep.db import migrate
from vodkeep.db.engine import Database
from vodkeep.db.instance_lock import hold_instance_lock
from vodkeep.errors import SettingsError
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
