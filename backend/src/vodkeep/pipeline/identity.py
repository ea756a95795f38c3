"""Whether a database and a folder belong to the same archive.

A disk that is not mounted looks like an empty folder, and a service that took it for its archive would find everything
missing and fetch it again. So both carry the same id: ``kv`` under ``archive_id``, the folder in ``.vodkeep-archive``.
A disk can also go while the service runs; the mark is then looked at again before anything is written.
"""

from __future__ import annotations

import errno
import os
import secrets
import uuid
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, func, select

from vodkeep.db.engine import Database
from vodkeep.db.kv import KvStore
from vodkeep.db.tables import vods
from vodkeep.disk import FILE_MODE, sync
from vodkeep.errors import ArchiveAway, SettingsError

MARK_NAME = ".vodkeep-archive"
ID_KEY = "archive_id"

MOUNT_IT = "Mount the disk of DATA_DIR again; what waits for it goes on by itself."

# What file systems answer that have no hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})


def claim_archive(database: Database, data_dir: Path, now: datetime) -> str:
    """The id of the archive, given to whichever of the two has none yet; blocking, and safe for racing processes.

    Raises `SettingsError` when ``data_dir`` is not the archive of the database, `DatabaseUnavailable` when that cannot
    be asked.
    """
    mark = _read_mark(data_dir)
    with database.unit_of_work() as unit:
        facts = KvStore(unit.connection)
        is_new = False
        if facts.get(ID_KEY) is None and (mark is None or _is_id(mark)):
            # Of several processes that meet an empty database, one gets its way here, and the others see it.
            is_new = facts.set_if_absent(ID_KEY, mark or str(uuid.uuid4()), now)
        known = facts.get(ID_KEY)
        problem = None if is_new else _problem(unit.connection, database, data_dir, known, mark)
        unit.commit()
    if problem is None and mark is None and known is not None:
        _write_mark(data_dir, known)
        # Another process, of another database, may have been faster.
        mark = _read_mark(data_dir)
        problem = None if mark == known else _of_another(database, data_dir, known, mark)
    if problem is not None or known is None:
        raise SettingsError([problem or _unreadable(data_dir, known)])
    return known


class ArchiveMark:
    """Whether DATA_DIR is still the archive that this process claimed; thread-safe. To look is one small read."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._known: str | None = None

    def claim(self, database: Database, now: datetime) -> None:
        """See :func:`claim_archive`; until then everything counts as the archive."""
        self._known = claim_archive(database, self._data_dir, now)

    def problem(self) -> str | None:
        """Why DATA_DIR is not the archive at the moment, as a sentence; ``None`` when it is."""
        if self._known is None:
            return None
        try:
            mark = _read_mark(self._data_dir)
        except SettingsError as error:
            return f'DATA_DIR is "{self._data_dir}" and cannot be told to be the archive: {error}'
        if mark == self._known:
            return None
        found = "is not there" if mark is None else "is that of another"
        return f'DATA_DIR is "{self._data_dir}" and is no longer the archive: its {MARK_NAME} {found}.'

    def require(self) -> None:
        """Return if DATA_DIR is the archive, else raise `ArchiveAway`."""
        problem = self.problem()
        if problem is not None:
            raise ArchiveAway(problem, remedy=MOUNT_IT)


def find_archive_problem(database: Database, data_dir: Path) -> str | None:
    """Why ``data_dir`` is not the archive of the database, as a sentence; None when nothing speaks against it.

    Changes nothing; blocking. Raises `DatabaseUnavailable`, and `SettingsError` when the mark may not be read.
    """
    mark = _read_mark(data_dir)
    with database.unit_of_work(write=False) as unit:
        known = KvStore(unit.connection).get(ID_KEY)
        return _problem(unit.connection, database, data_dir, known, mark)


def _problem(
    connection: Connection, database: Database, data_dir: Path, known: str | None, mark: str | None
) -> str | None:
    if mark is None:
        kept = _count_kept(connection) if known is not None else 0
        return _unmarked(database, data_dir, known, kept) if kept else None
    if not _is_id(mark):
        return _unreadable(data_dir, known)
    return _of_another(database, data_dir, known, mark) if known not in (None, mark) else None


def _unmarked(database: Database, data_dir: Path, known: str | None, kept: int) -> str:
    return (
        f'DATA_DIR is "{data_dir}" and has no {MARK_NAME}, though the database {database.address} knows {kept} items'
        f" that are kept there: is its disk mounted? If this is the archive all the same, mark it: echo {known} >"
        f" '{data_dir / MARK_NAME}'"
    )


def _of_another(database: Database, data_dir: Path, known: str | None, mark: str | None) -> str:
    return (
        f'DATA_DIR is "{data_dir}" and belongs to another archive than the database {database.address}: is the right'
        f" disk mounted, and does DB_DSN name the right database? ({MARK_NAME} says {mark}, the database {known}.)"
    )


def _unreadable(data_dir: Path, known: str | None) -> str:
    cure = f"write the one of the database into it, {known}" if known is not None else "remove it, and start again"
    return f"{data_dir / MARK_NAME} does not hold the id of an archive: {cure}."


def _count_kept(connection: Connection) -> int:
    query = select(func.count()).select_from(vods).where(vods.c.downloaded_path.is_not(None))
    return connection.execute(query).scalar_one()


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _read_mark(data_dir: Path) -> str | None:
    path = data_dir / MARK_NAME
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SettingsError([f"{path} cannot be read ({error.strerror})."]) from error


def _write_mark(data_dir: Path, archive_id: str) -> None:
    """Make the mark, whole or not at all; one that another process made meanwhile stays."""
    path = data_dir / MARK_NAME
    written = data_dir / f"{MARK_NAME}.{secrets.token_hex(4)}"
    try:
        try:
            descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{archive_id}\n")
                file.flush()
                os.fsync(file.fileno())
            _link(written, path)
        finally:
            written.unlink(missing_ok=True)
        sync(data_dir)
    except OSError as error:
        raise SettingsError([f"{path} cannot be written ({error.strerror})."]) from error


def _link(source: Path, target: Path) -> None:
    try:
        with suppress(FileExistsError):
            os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        source.replace(target)
