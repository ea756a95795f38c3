"""``vodkeep backup`` and ``vodkeep restore``: the database, copied while it is used, and had back."""

from __future__ import annotations

import json
from pathlib import Path

import anyio.to_thread
from rich.console import Console

from vodkeep.chat.database import chat_database
from vodkeep.clock import Clock
from vodkeep.db import migrate
from vodkeep.db.engine import Database
from vodkeep.db.instance_lock import InstanceLockedError
from vodkeep.errors import RequestRefused, SettingsError
from vodkeep.opening import claim_database, need_kept_database, prepare_data_dir
from vodkeep.pipeline.backup import (
    Differences,
    compare_with_library,
    make_backup,
    processes_at_work,
    restore_backup,
)
from vodkeep.printing import say
from vodkeep.settings import Settings

_STOP = "stop it for the restore, then start it again."
_MOST_SHOWN = 20


async def back_up(settings: Settings, clock: Clock, target: Path, console: Console, *, as_json: bool) -> int:
    """Write a backup into the folder ``target``; services may run."""
    database = await need_kept_database(settings)
    chat = chat_database(database)
    try:
        place, backup = await make_backup(
            database, chat, settings.storage.data_dir, target, clock.now(), pg_dump=settings.tools.pg_dump_path
        )
    finally:
        chat.dispose()
        database.dispose()
    if as_json:
        document = {"path": str(place), "items": len(backup.items), "rows": dict(backup.rows)}
        console.print_json(json.dumps(document, ensure_ascii=False))
    else:
        rows = sum(backup.rows.values())
        say(console, f"{place} holds the database: {rows} rows, {len(backup.items)} items with a folder.")
        say(console, "The folders, the settings and ENCRYPTION_KEY are not in it.")
    return 0


async def restore(settings: Settings, clock: Clock, source: Path, console: Console, *, force: bool) -> int:
    """Bring a backup into the database that the settings name, and compare it with the library.

    Raises `SettingsError` while a service works on it.
    """
    prepare_data_dir(settings)
    database = Database(settings.database.url())
    chat = chat_database(database)
    try:
        await _require_nobody(database)
        with claim_database(settings):
            backup, aside = await restore_backup(
                source, database, chat, clock.now(), force=force, pg_dump=settings.tools.pg_dump_path
            )
    except InstanceLockedError as error:
        raise SettingsError([f"A vodkeep service works on this database file: {_STOP}"]) from error
    finally:
        chat.dispose()
        database.dispose()
    say(console, f"The database is as it was on {backup.made_at:%Y-%m-%d at %H:%M:%S} UTC.")
    for kept in aside:
        say(console, f"What was there before is kept: {kept}.")
    compared = await anyio.to_thread.run_sync(compare_with_library, backup, settings.storage.data_dir)
    _tell(compared, console)
    return 0


async def _require_nobody(database: Database) -> None:
    """On PostgreSQL nothing else keeps a service away."""
    if database.is_sqlite:
        return
    await database.ping()
    if await anyio.to_thread.run_sync(migrate.current, database) is None:
        return
    holders = await anyio.to_thread.run_sync(processes_at_work, database)
    if holders:
        raise RequestRefused(f"A vodkeep service works on this database ({', '.join(holders)}): {_STOP}")


def _tell(compared: Differences, console: Console) -> None:
    for names, sentence in (
        (compared.missing, "The library does not have these items of the backup"),
        (compared.unknown, "The backup does not know these folders"),
    ):
        if names:
            shown = "\n".join(f"  {name}" for name in names[:_MOST_SHOWN])
            more = f"\n  and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
            say(console, f"{sentence}:\n{shown}{more}")
    if compared.changed:
        say(console, f"{len(compared.changed)} items have changed on the disk since.")
    if compared.unknown or compared.changed:
        say(console, "`vodkeep rescan` enters the folders that the database does not know.")
