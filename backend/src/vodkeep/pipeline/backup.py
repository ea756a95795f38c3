"""Backups of the database, and having them back.

A backup is a folder that appears whole: the copies, and ``backup.json``, which names them with their checksums, counts
their rows, and lists the items with the checksum of each manifest as it lay on the disk then. The folders themselves
are no part of it. At a restore that list tells what is not in the library, and what the backup does not know.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import anyio.to_thread
import psycopg

from vodkeep import __version__
from vodkeep.chat.database import CHAT
from vodkeep.chat.tables import metadata as chat_metadata
from vodkeep.db import copying, migrate
from vodkeep.db.engine import Database
from vodkeep.db.kv import KvStore
from vodkeep.db.leases import PROCESS_PREFIX, LeaseStore
from vodkeep.db.tables import metadata
from vodkeep.disk import FILE_MODE, checksum_of, disk_errors, sync
from vodkeep.errors import PermanentError, RequestRefused
from vodkeep.keep.fixity import find_folders
from vodkeep.keep.library import describe_file
from vodkeep.keep.manifest import MANIFEST_NAME
from vodkeep.pipeline.identity import ID_KEY

NAME = "backup.json"
FORMAT = "vodkeep-backup/1"
MAIN_COPY, CHAT_COPY, DUMP = "vodkeep.db", "chat.db", "vodkeep.dump"

_TABLES = tuple(sorted({*metadata.tables, *chat_metadata.tables} - {"leases"}))


@dataclass(frozen=True, slots=True)
class BackupItem:
    """An item with a folder."""

    id: str
    path: str  # of the folder, relative to the library
    manifest: str | None  # its checksum; None: there was none


@dataclass(frozen=True, slots=True)
class Backup:
    """What ``backup.json`` says."""

    made_at: datetime
    version: str  # of the program
    kind: str  # "sqlite" or "postgresql"
    archive_id: str | None
    revisions: Mapping[str, str | None]  # of each line of the schema
    rows: Mapping[str, int]  # by table
    files: Mapping[str, str]  # name and checksum
    items: tuple[BackupItem, ...]


@dataclass(frozen=True, slots=True)
class Differences:
    """A backup and the library beside it."""

    missing: tuple[str, ...]  # ids of items whose folder is not there
    changed: tuple[str, ...]  # ids of items whose manifest is another by now
    unknown: tuple[str, ...]  # folders that the backup does not know


async def make_backup(
    database: Database, chat: Database, library: Path, target: Path, now: datetime, *, pg_dump: str | None
) -> tuple[Path, Backup]:
    """Write a backup as a new folder in ``target``; it is there whole or not at all. Nothing is ever overwritten."""
    place = target / f"vodkeep-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    unfinished = target / f".{place.name}.unfinished"
    with disk_errors(target):
        await anyio.to_thread.run_sync(_begin, target, place, unfinished)
        try:
            backup = await _write(database, chat, library, unfinished, now, pg_dump)
            await anyio.to_thread.run_sync(_finish, backup, unfinished, place)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    return place, backup


def read_backup(source: Path) -> Backup:
    """What a backup says of itself; raises `RequestRefused`. Blocking."""
    try:
        told: dict[str, Any] = json.loads((source / NAME).read_text("utf-8"))
        if told.pop("format") != FORMAT:
            raise RequestRefused(f"{source / NAME} is of another format.", code="no_backup")
        items = tuple(BackupItem(**item) for item in told.pop("items"))
        return Backup(**{**told, "made_at": datetime.fromisoformat(told["made_at"]), "items": items})
    except FileNotFoundError as error:
        raise RequestRefused(f"{source} is no backup: it has no {NAME}.", code="no_backup") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestRefused(f"{source / NAME} cannot be read ({error}).", code="no_backup") from error


async def restore_backup(
    source: Path, database: Database, chat: Database, now: datetime, *, force: bool, pg_dump: str | None
) -> tuple[Backup, list[str]]:
    """Bring a backup into the database; returns what it says, and where what was there before is kept.

    The caller sees to it that no service works on it. Raises `RequestRefused` for what is not whole, does not fit, or
    would take the place of something without ``force``.
    """
    backup = await anyio.to_thread.run_sync(read_backup, source)
    await anyio.to_thread.run_sync(_require_fitting, backup, source, database)
    stamp = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    if database.is_sqlite:
        aside = await anyio.to_thread.run_sync(
            partial(_restore_sqlite, source, backup, database, chat, f".before-{stamp}", force=force)
        )
        return backup, aside
    program = copying.find_pg_dump(pg_dump)
    copying.find_pg_restore(program)
    name = f"{copying.BESIDE}{stamp.lower()}"
    set_aside = partial(copying.set_postgres_aside, database, name, force=force)
    kept = await anyio.to_thread.run_sync(set_aside)
    await copying.load_postgres(database, program, source / DUMP)
    await anyio.to_thread.run_sync(_compare_postgres, backup, database)
    return backup, [f"the schema {name}"] if kept else []


def compare_with_library(backup: Backup, library: Path) -> Differences:
    """What of a backup's items is not in the library, and the other way round. Blocking: reads every manifest."""
    missing, changed = [], []
    for item in backup.items:
        now = _checksum_of_manifest(library, item.path)
        if now is None:
            missing.append(item.id)
        elif now != item.manifest:
            changed.append(item.id)
    known = {item.path for item in backup.items}
    unknown = tuple(str(path) for path in find_folders(library) if str(path) not in known)
    return Differences(tuple(missing), tuple(changed), unknown)


# --- how it is done ------------------------------------------------------------------------------------------------


def _begin(target: Path, place: Path, unfinished: Path) -> None:
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    if place.exists():
        raise RequestRefused(f"{place} is there already.", code="backup_exists", remedy="Wait for a second.")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)


async def _write(
    database: Database, chat: Database, library: Path, folder: Path, now: datetime, pg_dump: str | None
) -> Backup:
    archive_id = await database.run(lambda unit: KvStore(unit.connection).get(ID_KEY), write=False)
    revisions = {
        "main": await anyio.to_thread.run_sync(migrate.current, database),
        "chat": await anyio.to_thread.run_sync(migrate.current, chat, CHAT),
    }
    if database.is_sqlite:
        names = [MAIN_COPY, CHAT_COPY]
        # The chat last: what it has more of is merged again, and what it had less of would be missed.
        rows, placed = await anyio.to_thread.run_sync(_copy_sqlite, database.path, chat.path, folder)
    else:
        names = [DUMP]
        program = copying.find_pg_dump(pg_dump)
        with copying.postgres_snapshot(database) as snapshot:
            await copying.dump_postgres(database, program, snapshot, folder / DUMP)
            rows = await anyio.to_thread.run_sync(snapshot.count, _TABLES)
            placed = await anyio.to_thread.run_sync(snapshot.placed)

    def describe() -> Backup:
        items = []
        for item_id, path in placed:
            parent = str(PurePosixPath(path).parent)
            items.append(BackupItem(item_id, parent, _checksum_of_manifest(library, parent)))
        files = {name: describe_file(folder / name).checksum for name in names}
        kind = "sqlite" if database.is_sqlite else "postgresql"
        return Backup(now, __version__, kind, archive_id, revisions, rows, files, tuple(items))

    return await anyio.to_thread.run_sync(describe)


def _copy_sqlite(main: Path, chat: Path, folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    copying.copy_sqlite(main, folder / MAIN_COPY)
    copying.copy_sqlite(chat, folder / CHAT_COPY)
    rows = _count_sqlite(folder / MAIN_COPY, folder / CHAT_COPY)
    return rows, copying.placed_in_sqlite(folder / MAIN_COPY)


def _count_sqlite(main: Path, chat: Path) -> dict[str, int]:
    of_chat = sorted(set(_TABLES) & set(chat_metadata.tables))
    of_main = sorted(set(_TABLES) - set(of_chat))
    return copying.count_sqlite(main, of_main) | copying.count_sqlite(chat, of_chat)


def _finish(backup: Backup, folder: Path, place: Path) -> None:
    """Write what the backup says of itself, last, and give it its name."""
    fields = asdict(backup) | {"made_at": backup.made_at.isoformat()}
    path = folder / NAME
    path.write_text(json.dumps({"format": FORMAT, **fields}, indent=1, ensure_ascii=False) + "\n", "utf-8")
    path.chmod(0o600)
    sync(path)
    sync(folder)
    folder.rename(place)
    sync(place.parent)


def _require_fitting(backup: Backup, source: Path, database: Database) -> None:
    kind = "sqlite" if database.is_sqlite else "postgresql"
    if backup.kind != kind:
        raise RequestRefused(
            f"{source} is a backup of {backup.kind}, and DB_DSN names {kind}.",
            code="other_database",
            remedy="Restore it into a database of its own kind; `vodkeep rescan` fills any from the folders.",
        )
    heads = {"main": migrate.head(), "chat": migrate.head(CHAT)}
    if dict(backup.revisions) != heads:
        raise RequestRefused(
            f"{source} was made by version {backup.version}, whose tables are others.",
            code="other_schema",
            remedy=f"Restore it with version {backup.version}, then bring that up to date.",
        )
    for name, checksum in backup.files.items():
        try:
            found = checksum_of(source / name)
        except OSError as error:
            raise RequestRefused(f"{source / name} cannot be read: {error.strerror}.", code="damaged_backup") from error
        if found != checksum:
            raise RequestRefused(
                f"{source / name} is damaged: its checksum is not what {NAME} says.", code="damaged_backup"
            )


def _restore_sqlite(
    source: Path, backup: Backup, database: Database, chat: Database, suffix: str, *, force: bool
) -> list[str]:
    paths = {MAIN_COPY: database.path, CHAT_COPY: chat.path}
    database.dispose()
    chat.dispose()
    rows = [copying.count_sqlite(path, ["vods", "chat_session"]) for path in paths.values() if path.exists()]
    if any(count for counts in rows for count in counts.values()) and not force:
        raise RequestRefused(
            f"The database {database.path} is not empty.",
            code="not_empty",
            remedy=f"Give --force: it is then kept beside, as {database.path.name}{suffix}.",
        )
    new = {name: path.with_name(f"{path.name}.restoring") for name, path in paths.items()}
    with disk_errors(database.path):
        for name, path in new.items():
            shutil.copyfile(source / name, path)
            path.chmod(FILE_MODE)
            sync(path)
        found = _count_sqlite(new[MAIN_COPY], new[CHAT_COPY])
        _require_rows(backup, found)
        for path in paths.values():
            copying.fold_sqlite_log(path)
        aside = [copying.set_sqlite_aside(path, suffix) for path in paths.values()]
        # The main one last: without it there is nothing a service would take for an archive.
        for name in (CHAT_COPY, MAIN_COPY):
            new[name].replace(paths[name])
        sync(database.path.parent)
    return [str(path) for path in aside if path is not None]


def _compare_postgres(backup: Backup, database: Database) -> None:
    with psycopg.connect(copying.address_of(database), connect_timeout=10) as connection:
        _require_rows(backup, copying.count_postgres(connection, _TABLES))


def _require_rows(backup: Backup, found: Mapping[str, int]) -> None:
    wrong = [name for name, count in backup.rows.items() if found.get(name) != count]
    if wrong:
        raise PermanentError(
            f"What was restored has other rows than the backup says: {', '.join(sorted(wrong))}.", code="damaged_backup"
        )


def processes_at_work(database: Database) -> Sequence[str]:
    """The holders of the processes of a service that live. Blocking."""
    with database.unit_of_work(write=False) as unit:
        return [lease.holder for lease in LeaseStore(unit.connection).live(PROCESS_PREFIX)]


def _checksum_of_manifest(library: Path, folder: str) -> str | None:
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts:
        return None
    try:
        return checksum_of(library / path / MANIFEST_NAME)
    except OSError:
        return None
