"""The database, and whether rows and folders agree."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path

from vodkeep.capture.workfolder import WORK_DIR_NAME
from vodkeep.chat.database import CHAT, chat_database
from vodkeep.checks.model import Check, Found, State, in_thread, some
from vodkeep.db import migrate
from vodkeep.db.engine import Database
from vodkeep.errors import DatabaseUnavailable
from vodkeep.keep.forecast import forecast
from vodkeep.pipeline.health_store import HealthStore
from vodkeep.pipeline.identity import find_archive_problem
from vodkeep.pipeline.recheck import folder_of
from vodkeep.pipeline.scrub_store import ScrubStore
from vodkeep.pipeline.store import QueueStore

# A disk that is full so soon should be seen to now.
_SOON = timedelta(days=14)


class DatabaseChecks:
    """The checks that need the database; they share one look at whether it can be used."""

    def __init__(self, database: Database, data_dir: Path) -> None:
        self._database = database
        self._data_dir = data_dir

    def checks(self) -> list[Check]:
        """All of them."""
        return [
            Check("database", self._reachable),
            Check("archive", self._archive),
            Check("leftovers", self._leftovers),
            Check("library", self._library, limit_s=60.0),
            Check("fixity", self._fixity),
            Check("disk_forecast", self._forecast),
        ]

    async def _reachable(self) -> Found:
        if await self._is_to_be_made():
            return Found(State.WARN, f"{self._database.address} does not exist yet; the service makes it at its start.")
        await self._database.ping()
        revision = await in_thread(partial(migrate.current, self._database))
        if revision is None:
            return Found(State.WARN, f"{self._database.address} is empty; the service fills it at its start.")
        if not migrate.needs_upgrade(self._database, revision):
            if await self._chat_is_behind():
                return Found(
                    State.WARN,
                    f"The tables of chat in {chat_database(self._database).address} are not up to date; the service"
                    " brings them up to date at its start.",
                )
            kind = "SQLite" if self._database.is_sqlite else "PostgreSQL"
            return Found(State.OK, f"{kind} answers: {self._database.address}.")
        return Found(
            State.WARN,
            f"{self._database.address} has the older schema {revision}; the service brings it up to date at its start.",
        )

    async def _chat_is_behind(self) -> bool:
        """Whether the service has yet to make or change chat's tables; looking must not make their file."""
        chat = chat_database(self._database)

        def look() -> bool:
            if chat.is_sqlite and not chat.path.exists():
                return True
            try:
                return migrate.needs_upgrade(chat, migrate.current(chat, CHAT), CHAT)
            finally:
                if chat is not self._database:
                    chat.dispose()

        return await in_thread(look)

    async def _archive(self) -> Found:
        if not await self._is_usable():
            return Found(State.SKIPPED, "The database cannot be asked.")
        problem = await in_thread(partial(find_archive_problem, self._database, self._data_dir))
        if problem is not None:
            return Found(State.FAIL, problem)
        return Found(State.OK, "The database and DATA_DIR belong together.")

    async def _leftovers(self) -> Found:
        names = await in_thread(partial(_work_folders, self._data_dir))
        if not names:
            return Found(State.OK, f"There is nothing in {WORK_DIR_NAME}.")
        if not await self._is_usable():
            return Found(State.SKIPPED, "The database cannot be asked.")
        known = await self._database.run(lambda unit: QueueStore(unit.connection).known(names), write=False)
        strays = [name for name in names if name not in known]
        if not strays:
            return Found(State.OK, f"{len(names)} in {WORK_DIR_NAME}, all of known items.")
        size = await in_thread(partial(_size_of, [self._data_dir / WORK_DIR_NAME / name for name in strays]))
        return Found(
            State.WARN,
            f"{WORK_DIR_NAME} holds {size / 1e9:.1f} GB of items that the database does not know: {some(strays)}.",
            f"Use `vodkeep archive` with the id to finish one, or remove its folder from {WORK_DIR_NAME}.",
        )

    async def _library(self) -> Found:
        if not await self._is_usable():
            return Found(State.SKIPPED, "The database cannot be asked.")
        rows = await self._database.run(lambda unit: QueueStore(unit.connection).load_placed(), write=False)
        places = {row.twitch_vod_id: (folder_of(row), row.downloaded_path) for row in rows if not row.let_go}

        def missing() -> list[str]:
            return [
                item_id
                for item_id, (folder, path) in places.items()
                if folder is None or path is None or not (self._data_dir / path).is_file()
            ]

        gone = await in_thread(missing)
        if gone:
            return Found(
                State.FAIL,
                f"The video of {len(gone)} of {len(places)} kept items is missing: {some(gone)}.",
                "Put the folders back, or have them fetched again: vodkeep verify --all --repair.",
            )
        return Found(State.OK, f"The videos of all {len(places)} kept items are there.")

    async def _fixity(self) -> Found:
        if not await self._is_usable():
            return Found(State.SKIPPED, "The database cannot be asked.")
        damaged = await self._database.run(lambda unit: ScrubStore(unit.connection).load_damaged(), write=False)
        if damaged:
            return Found(
                State.FAIL,
                f"{len(damaged)} {'item was' if len(damaged) == 1 else 'items were'} found damaged: {some(damaged)}.",
                "The timeline of each says what is being done; vodkeep scrub with its id looks again.",
            )
        return Found(State.OK, "No item is known to be damaged.")

    async def _forecast(self) -> Found:
        if not await self._is_usable():
            return Found(State.SKIPPED, "The database cannot be asked.")
        samples = await self._database.run(lambda unit: HealthStore(unit.connection).load_disk(), write=False)
        trend = forecast(samples)
        if trend is None:
            return Found(State.SKIPPED, "The service has not watched the disk for half a day yet.")
        rate = f"{abs(trend.bytes_per_day) / 1e9:.1f} GB a day"
        if trend.full_at is None:
            return Found(
                State.OK, f"The disk is not filling up ({rate} {'more' if trend.bytes_per_day < 0 else 'less'})."
            )
        sentence = f"The disk fills by {rate} and is full on {trend.full_at:%Y-%m-%d}, as things go."
        if trend.full_at - samples[-1].at < _SOON:
            return Found(State.WARN, sentence, "Free some space, or let retention do that: docs/retention.md.")
        return Found(State.OK, sentence)

    async def _is_to_be_made(self) -> bool:
        """Whether it is a file that does not exist; looking must not make it."""
        return self._database.is_sqlite and not await in_thread(self._database.path.exists)

    async def _is_usable(self) -> bool:
        """Whether it can be asked; why not is said by the check of the database itself."""
        try:
            if await self._is_to_be_made():
                return False
            return await in_thread(partial(migrate.current, self._database)) == migrate.head()
        except DatabaseUnavailable:
            return False


def _work_folders(data_dir: Path) -> list[str]:
    try:
        return sorted(path.name for path in (data_dir / WORK_DIR_NAME).iterdir() if path.is_dir())
    except FileNotFoundError:
        return []


def _size_of(folders: list[Path]) -> int:
    size = 0
    for folder in folders:
        for path in folder.rglob("*"):
            try:
                size += path.stat().st_size
            except FileNotFoundError:
                continue  # It was removed while we looked.
    return size
