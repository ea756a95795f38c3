"""All the web asks the database: one transaction per question, so that the figures of an answer belong together."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import anyio.to_thread
from sqlalchemy import RowMapping, Select, case, func, literal, select, tuple_
from sqlalchemy.exc import DBAPIError

from vodkeep.chat.database import CHAT
from vodkeep.chat.model import Source
from vodkeep.chat.sessions import Session, SessionStore
from vodkeep.clock import Clock
from vodkeep.db import migrate
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.events import Event, EventLog
from vodkeep.db.leases import PROCESS_PREFIX, LeaseStore
from vodkeep.db.tables import IS_ACTIVE, IS_TROUBLED, UtcDateTime, channels, kv, publications, vods
from vodkeep.errors import DatabaseUnavailable
from vodkeep.keep.forecast import DiskSample
from vodkeep.pipeline.breaker import CLOSED, Breaker
from vodkeep.pipeline.due import PUBLICATION_WINDOW, DiskShortage, UploadLimits, next_upload_at
from vodkeep.pipeline.health_store import HealthStore
from vodkeep.pipeline.model import DownloadState
from vodkeep.pipeline.recorder_note import RecorderNote, load_notes
from vodkeep.pipeline.retention_store import NOTHING, RetentionStore, TrashFigures
from vodkeep.pipeline.roles import ProcessNote
from vodkeep.pipeline.scrub_store import Scrubbed, ScrubStore
from vodkeep.pipeline.store import QueueCounts, QueueStore, total
from vodkeep.publish.publication import Publication, PublicationState
from vodkeep.publish.store import PublicationStore
from vodkeep.settings import UploadSettings

T = TypeVar("T")

# Events of one item that a page can take in; a VOD that failed for weeks has more.
_MOST_EVENTS = 500

_NOTHING = QueueCounts(0, 0, 0, 0, {})


class BadCursor(ValueError):
    """A paging cursor that is not one of ours."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page of the list ends: the sort key of its last row."""

    moment: datetime  # start of the broadcast, or when it was found if that is unknown; UTC
    row_id: int

    def encode(self) -> str:
        """An opaque text that is safe in an address."""
        plain = f"{self.moment.astimezone(UTC).isoformat()}/{self.row_id}"
        return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """The cursor that ``text`` stands for; raises :class:`BadCursor`."""
        try:
            plain = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
            moment, _, row_id = plain.rpartition("/")
            if not (row_id.isdigit() and len(row_id) <= 18):
                raise BadCursor(text)
            parsed = datetime.fromisoformat(moment)
            if parsed.tzinfo is None:
                raise BadCursor(text)
            return cls(parsed.astimezone(UTC), int(row_id))
        except (binascii.Error, UnicodeError, ValueError, OverflowError) as error:
            raise BadCursor("the cursor is not one this service gave out") from error


@dataclass(frozen=True, slots=True)
class UploadRules:
    """What the settings say about publishing."""

    off: str | None  # why nothing is published, as a sentence
    limits: UploadLimits
    now: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Uploads:
    """Whether broadcasts are published."""

    off: str | None = "Uploads are off."  # why not, as a sentence
    held_until: datetime | None = None  # when the daily limit lets the next one through


@dataclass(frozen=True, slots=True)
class Upload:
    """What YouTube has of the parts of a broadcast that is being published."""

    committed_bytes: int
    total_bytes: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class StoredVod:
    """A row of ``vods`` as pages show it."""

    row_id: int
    twitch_vod_id: str
    channel: str
    title: str
    description: str
    custom_description: str | None
    date: datetime | None
    duration_seconds: int | None
    state: DownloadState
    processed: bool
    processing_error: str | None
    error_code: str | None
    retries: int
    not_before: datetime | None
    download_bytes: int
    download_total: int | None
    progress_updated_at: datetime | None
    downloaded_path: str | None
    youtube_url: str | None
    completeness: float | None
    priority: int
    skip_upload: bool
    protected: bool
    let_go_at: datetime | None  # since when its video is not in its folder, because retention let it go
    created_at: datetime
    updated_at: datetime
    upload: Upload | None = None  # how far it is, while it is uploaded

    @property
    def cursor(self) -> Cursor:
        """Where the list goes on after this row."""
        return Cursor(self.date or self.created_at, self.row_id)


@dataclass(frozen=True, slots=True)
class VodPage:
    """A page of the list; ``following`` is ``None`` on the last one."""

    vods: list[StoredVod]
    following: Cursor | None


@dataclass(frozen=True, slots=True)
class ChannelFigures:
    """How things stand with one channel."""

    login: str
    display_name: str | None
    counts: QueueCounts
    breaker: Breaker
    averages_ms: Mapping[str, float]  # avg_download_ms, avg_upload_ms, avg_total_ms as far as they exist


@dataclass(frozen=True, slots=True)
class LiveProcess:
    """A process of the service that is alive."""

    holder: str  # its name in leases
    note: ProcessNote


@dataclass(frozen=True, slots=True)
class Figures:
    """How things stand with the whole service, as of one transaction."""

    totals: QueueCounts
    channels: list[ChannelFigures]
    averages_ms: Mapping[str, float]
    last_process_run: datetime | None
    active: list[StoredVod]
    jobs: Mapping[str, str]  # kv keys job_* of the whole service: when each job ran, as stored
    processes: Sequence[LiveProcess] = ()
    disk_shortage: DiskShortage | None = None  # why no capture starts
    damaged: int = 0  # items in which scrubbing found damage when it last looked at them
    disk: Sequence[DiskSample] = ()  # what was free within the last days, oldest first
    trash: TrashFigures = NOTHING
    troubled: int = 0  # publications with which something is wrong at YouTube
    archive_away: bool = False  # whether nothing starts, because DATA_DIR is not the archive
    uploads: Uploads = Uploads()
    recorders: Sequence[RecorderNote] = ()  # what those say of themselves that are alive
    live: Sequence[Session] = ()  # chats that are being recorded, oldest first


def why_no_uploads(settings: UploadSettings) -> str | None:
    """Why the settings do not let anything be published, as a sentence; None when they do."""
    if not settings.enabled:
        return "YOUTUBE_UPLOAD_ENABLED is not 1."
    if settings.ownership is None:
        return "YOUTUBE_UPLOAD_OWNERSHIP does not say that you may publish the broadcasts."
    return None


def upload_rules_of(settings: UploadSettings, clock: Clock) -> UploadRules:
    """What there is to say about publishing."""
    limits = UploadLimits(settings.daily_limit, settings.backfill_daily_limit)
    return UploadRules(why_no_uploads(settings), limits, clock.now)


class StatusReader(Protocol):
    """What the routes ask. Every method raises ``DatabaseUnavailable`` rather than answer with zeros."""

    async def figures(self) -> Figures:
        """Counts, breakers, averages and what is at work. Configured channels come first, in their order."""
        ...

    async def list_vods(
        self,
        *,
        limit: int,
        after: Cursor | None = None,
        channel: str | None = None,
        states: Collection[DownloadState] = (),
    ) -> VodPage:
        """The newest broadcasts, at most ``limit``, older than ``after``; empty ``states`` are all."""
        ...

    async def find_vod(self, twitch_vod_id: str) -> tuple[StoredVod, list[Event]] | None:
        """The broadcast and its latest events, oldest first; ``None`` when there is no such row."""
        ...

    async def find_scrubbed(self, twitch_vod_id: str) -> Scrubbed | None:
        """What reading the broadcast's files again has found; ``None`` before the first time."""
        ...

    async def broadcaster_id(self, login: str) -> str | None:
        """The id of a channel, if it was ever looked up."""
        ...

    async def titles(self, twitch_vod_ids: Collection[str]) -> Mapping[str, str]:
        """The titles of those broadcasts that there are."""
        ...

    async def publications(self, twitch_vod_id: str) -> list[Publication]:
        """What of the broadcast is on YouTube or on its way there, the first round first."""
        ...

    async def newest_event(self) -> int:
        """The number of the newest event of all timelines; 0 before the first."""
        ...

    async def events_after(self, number: int, *, limit: int) -> list[Event]:
        """The first events with greater numbers, of whatever item, in their order."""
        ...

    async def leases(self) -> Mapping[str, str]:
        """What only one process at a time may do, and the holder of each that does it; without the processes."""
        ...

    async def schema_problem(self) -> str | None:
        """Why the schema does not fit this version of the code, or ``None`` when it does."""
        ...


class DatabaseStatusReader:
    """Answers from the database."""

    def __init__(
        self,
        database: Database,
        kept_channels: Collection[str],
        chat: Database | None = None,
        uploads: UploadRules | None = None,
    ) -> None:
        """``chat`` is the database of chat; without it nothing is said about sessions."""
        self._uploads = uploads
        self._database = database
        self._kept_channels = tuple(kept_channels)
        self._chat = chat
        self._heads: dict[str, str] = {}

    async def figures(self) -> Figures:
        """See :class:`StatusReader`."""
        figures = await self._ask(self._read_figures)
        if self._chat is None:
            return figures
        live = await self._ask(_read_live, self._chat, CHAT)
        return replace(figures, live=live)

    async def list_vods(
        self,
        *,
        limit: int,
        after: Cursor | None = None,
        channel: str | None = None,
        states: Collection[DownloadState] = (),
    ) -> VodPage:
        """See :class:`StatusReader`."""

        def read(unit: UnitOfWork) -> VodPage:
            query = _select_vods().order_by(vods.c.sort_date.desc(), vods.c.id.desc()).limit(limit + 1)
            if after is not None:
                place = tuple_(literal(after.moment, UtcDateTime()), literal(after.row_id))
                query = query.where(tuple_(vods.c.sort_date, vods.c.id) < place)
            if channel is not None:
                query = query.where(vods.c.channel == channel)
            # A question for each state: the rows of one state are sorted by an index, those of several are not.
            queries = [query.where(vods.c.download_state == state) for state in sorted(set(states))] or [query]
            rows = [row for one in queries for row in _load(unit, one)]
            rows.sort(key=lambda row: (row.cursor.moment, row.row_id), reverse=True)
            following = rows[limit - 1].cursor if len(rows) > limit else None
            return VodPage(rows[:limit], following)

        return await self._ask(read)

    async def find_vod(self, twitch_vod_id: str) -> tuple[StoredVod, list[Event]] | None:
        """See :class:`StatusReader`."""

        def read(unit: UnitOfWork) -> tuple[StoredVod, list[Event]] | None:
            rows = _load(unit, _select_vods().where(vods.c.twitch_vod_id == twitch_vod_id))
            if not rows:
                return None
            return rows[0], EventLog(unit.connection).of_item(twitch_vod_id, limit=_MOST_EVENTS)

        return await self._ask(read)

    async def find_scrubbed(self, twitch_vod_id: str) -> Scrubbed | None:
        """See :class:`StatusReader`."""
        return await self._ask(lambda unit: ScrubStore(unit.connection).find(twitch_vod_id))

    async def broadcaster_id(self, login: str) -> str | None:
        """See :class:`StatusReader`."""

        def read(unit: UnitOfWork) -> str | None:
            return unit.connection.execute(
                select(channels.c.broadcaster_id).where(channels.c.login == login)
            ).scalar_one_or_none()

        return await self._ask(read)

    async def titles(self, twitch_vod_ids: Collection[str]) -> Mapping[str, str]:
        """See :class:`StatusReader`."""

        def read(unit: UnitOfWork) -> Mapping[str, str]:
            query = select(vods.c.twitch_vod_id, vods.c.title).where(vods.c.twitch_vod_id.in_(list(twitch_vod_ids)))
            return {row.twitch_vod_id: row.title for row in unit.connection.execute(query)}

        return await self._ask(read)

    async def publications(self, twitch_vod_id: str) -> list[Publication]:
        """See :class:`StatusReader`."""
        return await self._ask(lambda unit: PublicationStore(unit.connection).of_item(twitch_vod_id))

    async def newest_event(self) -> int:
        """See :class:`StatusReader`."""
        return await self._ask(lambda unit: EventLog(unit.connection).newest())

    async def events_after(self, number: int, *, limit: int) -> list[Event]:
        """See :class:`StatusReader`."""
        return await self._ask(lambda unit: EventLog(unit.connection).after(number, limit=limit))

    async def leases(self) -> Mapping[str, str]:
        """See :class:`StatusReader`."""

        def read(unit: UnitOfWork) -> Mapping[str, str]:
            held = LeaseStore(unit.connection).live()
            return {lease.name: lease.holder for lease in held if not lease.name.startswith(PROCESS_PREFIX)}

        return await self._ask(read)

    async def schema_problem(self) -> str | None:
        """See :class:`StatusReader`."""
        problem = await self._problem_of(self._database, migrate.MAIN)
        if problem is None and self._chat is not None:
            problem = await self._problem_of(self._chat, CHAT)
        return problem

    async def _problem_of(self, database: Database, line: migrate.SchemaLine) -> str | None:
        current = await anyio.to_thread.run_sync(migrate.current, database, line)
        if line.name not in self._heads:
            # Reads every revision from disk, which takes 50 ms, and never changes while the code runs.
            self._heads[line.name] = await anyio.to_thread.run_sync(migrate.head, line)
        if current == self._heads[line.name]:
            return None
        return f"The schema of the database is at {current or 'nothing'}; this version needs {self._heads[line.name]}."

    async def _ask(
        self, read: Callable[[UnitOfWork], T], database: Database | None = None, line: migrate.SchemaLine = migrate.MAIN
    ) -> T:
        database = database or self._database
        try:
            return await database.run(read, write=False)
        except DBAPIError as error:
            # While another process still migrates, or before the first migration, tables are missing.
            problem = await self._problem_of(database, line)
            if problem is not None:
                raise DatabaseUnavailable(
                    problem, code="migrations", remedy="Wait for the migration, or see the log of the start."
                ) from error
        # The migration may have ended between the question and the look; what fails now is a bug.
        return await database.run(read, write=False)

    def _read_figures(self, unit: UnitOfWork) -> Figures:
        health = HealthStore(unit.connection)
        counts, breakers = QueueStore(unit.connection).counts_by_channel(), health.load_breakers()
        averages = health.load_averages()
        names: dict[str, str | None] = {
            row.login: row.display_name
            for row in unit.connection.execute(select(channels.c.login, channels.c.display_name)).all()
        }
        others = sorted({*counts, *names, *(b for b in breakers if b)} - set(self._kept_channels))
        processes = [
            LiveProcess(lease.holder, ProcessNote.read(lease.detail))
            for lease in LeaseStore(unit.connection).live(PROCESS_PREFIX)
        ]
        return Figures(
            totals=total(counts.values()),
            channels=[
                ChannelFigures(
                    login=login,
                    display_name=names.get(login),
                    counts=counts.get(login, _NOTHING),
                    breaker=breakers.get(login, CLOSED),
                    averages_ms=averages.get(login, {}),
                )
                for login in (*self._kept_channels, *others)
            ],
            averages_ms=averages.get("", {}),
            last_process_run=health.last_cycle(),
            disk_shortage=health.load_disk_shortage(),
            damaged=len(ScrubStore(unit.connection).load_damaged()),
            disk=health.load_disk(),
            trash=RetentionStore(unit.connection).trash_figures(),
            troubled=unit.connection.execute(
                select(func.count()).select_from(publications).where(IS_TROUBLED)
            ).scalar_one(),
            archive_away=health.load_archive_away(),
            uploads=self._read_uploads(unit),
            recorders=load_notes(unit, [each.holder for each in processes]),
            active=_load(
                unit,
                _select_vods().where(IS_ACTIVE).order_by(vods.c.twitch_vod_id),
            ),
            jobs={
                row.key: row.value
                for row in unit.connection.execute(
                    select(kv.c.key, kv.c.value)
                    .where(kv.c.channel == "", kv.c.key.startswith("job_", autoescape=True))
                    .order_by(kv.c.key)
                )
            },
            processes=processes,
        )

    def _read_uploads(self, unit: UnitOfWork) -> Uploads:
        rules = self._uploads
        if rules is None or rules.off is not None:
            return Uploads() if rules is None else Uploads(rules.off)
        now = rules.now()
        published = QueueStore(unit.connection).load_published(now - PUBLICATION_WINDOW)
        return Uploads(None, next_upload_at(published, rules.limits, now))


def _read_live(unit: UnitOfWork) -> list[Session]:
    return [each for each in SessionStore(unit.connection).recording() if each.source is Source.LIVE]


def _select_vods() -> Select[Any]:
    return select(
        vods.c.id,
        vods.c.twitch_vod_id,
        vods.c.channel,
        vods.c.title,
        vods.c.description,
        vods.c.custom_description,
        vods.c.date,
        vods.c.duration_seconds,
        vods.c.download_state,
        vods.c.processed,
        vods.c.processing_error,
        vods.c.error_code,
        vods.c.download_retries,
        vods.c.not_before,
        vods.c.download_bytes,
        vods.c.download_total,
        vods.c.progress_updated_at,
        vods.c.downloaded_path,
        vods.c.youtube_url,
        vods.c.priority,
        vods.c.skip_upload,
        vods.c.protected,
        vods.c.let_go_at,
        vods.c.completeness,
        vods.c.created_at,
        vods.c.updated_at,
    )


def _load(unit: UnitOfWork, query: Select[Any]) -> list[StoredVod]:
    rows = [_vod(row) for row in unit.connection.execute(query).mappings()]
    uploading = [row.twitch_vod_id for row in rows if row.state is DownloadState.UPLOADING]
    uploads = _uploads(unit, uploading) if uploading else {}
    return [replace(row, upload=uploads[row.twitch_vod_id]) if row.twitch_vod_id in uploads else row for row in rows]


def _uploads(unit: UnitOfWork, twitch_vod_ids: Collection[str]) -> dict[str, Upload]:
    """How far the uploads of these broadcasts are; of what was asked for anew only the new one counts."""
    columns = publications.c
    query = (
        select(
            columns.twitch_vod_id,
            func.sum(case((columns.youtube_id.is_not(None), columns.size_bytes), else_=columns.committed_bytes)),
            func.sum(columns.size_bytes),
            func.max(columns.updated_at),
        )
        .where(columns.twitch_vod_id.in_(list(twitch_vod_ids)), columns.state != PublicationState.SUPERSEDED)
        .group_by(columns.twitch_vod_id)
    )
    return {row[0]: Upload(int(row[1]), int(row[2]), row[3]) for row in unit.connection.execute(query)}


def _vod(row: RowMapping) -> StoredVod:
    return StoredVod(
        row_id=row["id"],
        twitch_vod_id=row["twitch_vod_id"],
        channel=row["channel"],
        title=row["title"],
        description=row["description"],
        custom_description=row["custom_description"],
        date=row["date"],
        duration_seconds=row["duration_seconds"],
        state=DownloadState(row["download_state"]),
        processed=bool(row["processed"]),
        processing_error=row["processing_error"],
        error_code=row["error_code"],
        retries=row["download_retries"],
        not_before=row["not_before"],
        download_bytes=row["download_bytes"],
        download_total=row["download_total"],
        progress_updated_at=row["progress_updated_at"],
        downloaded_path=row["downloaded_path"],
        youtube_url=row["youtube_url"],
        priority=row["priority"],
        skip_upload=bool(row["skip_upload"]),
        protected=bool(row["protected"]),
        let_go_at=row["let_go_at"],
        completeness=row["completeness"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
