"""``vodkeep archive``: keep one VOD now, with a progress bar; needs no Twitch credentials.

It does what the service does, with the same queue, journal and library, so that either can go on where the other was
cut off. While a service works on the same database, the item is handed to that one and its progress shown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta

import anyio
import anyio.to_thread
from rich.console import Console, RenderableType
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
)
from rich.progress import Progress as Bars

from vodkeep.bootstrap import (
    build_archivist,
    build_chat_keeper,
    build_chat_runner,
    build_item_keeper,
    build_runner,
    retry_policy,
)
from vodkeep.capture.model import Phase, ResolvedVod
from vodkeep.capture.resolve import Resolver
from vodkeep.catalog.exchange import open_session
from vodkeep.catalog.model import BroadcasterId, Video, VodId, video_id_from
from vodkeep.catalog.store import CatalogStore
from vodkeep.chat.database import CHAT, chat_database
from vodkeep.chat.vault.addresses import AllowedAddresses
from vodkeep.chat.vault.client import open_vault_client
from vodkeep.clock import Clock
from vodkeep.db import migrate
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.instance_lock import InstanceLockedError
from vodkeep.db.leases import PROCESS_PREFIX, LeaseStore
from vodkeep.errors import SettingsError
from vodkeep.opening import claim_database, prepare_data_dir
from vodkeep.pipeline.action_store import ActionStore
from vodkeep.pipeline.chat_runner import ChatStage
from vodkeep.pipeline.fleet.leased import RunLeases
from vodkeep.pipeline.identity import ArchiveMark
from vodkeep.pipeline.model import RUNNING, Asked, Asker, DownloadState, Job, QueueItem, Stage
from vodkeep.pipeline.ownership import new_holder
from vodkeep.pipeline.roles import ProcessNote, Role
from vodkeep.pipeline.running import Permit
from vodkeep.pipeline.stages import CaptureRunner
from vodkeep.pipeline.store import QueueStore
from vodkeep.settings import Settings
from vodkeep.telemetry.log import get_logger

_POLL_S = 0.25
# The rate on screen is the mean of so many seconds.
_RATE_WINDOW_S = 10.0
# The longest wait of a person in front of a terminal; beyond it the command says when to come back.
_PATIENCE = timedelta(minutes=5)
# Before the attempt that accepts what cannot be had; the service takes its time there, a person would not.
_PAUSE = timedelta(seconds=10)

# An attempt that failed, or found the work folder in use, is made again.
_WAITING = frozenset({DownloadState.FAILED, DownloadState.PENDING})
_UNSETTLED = RUNNING | {DownloadState.PENDING, DownloadState.DOWNLOADED}
_KEPT = frozenset({DownloadState.DONE, DownloadState.DOWNLOADED})

_WORDS = {
    Phase.RESOLVING: "resolving",
    Phase.FETCHING: "fetching",
    Phase.MUXING: "writing the MP4",
    Phase.VERIFYING: "verifying",
}


async def archive(settings: Settings, clock: Clock, address: str, console: Console) -> int:
    """Keep the VOD at ``address`` (id or URL); returns the exit code: 0 only when it is whole in the library.

    Raises the errors of `vodkeep.errors`; `SettingsError` also for an address that is not one of a VOD.
    """
    try:
        video_id = video_id_from(address)
    except ValueError as error:
        raise SettingsError([str(error)]) from error
    prepare_data_dir(settings)
    database = Database(settings.database.url())
    try:
        if not database.is_sqlite:  # Whose file may be about to be created.
            await database.ping()
        command = _Archive(settings, clock, database, video_id, console)
        try:
            with claim_database(settings):
                return await command.keep()
        except InstanceLockedError:
            return await command.hand_over()
    finally:
        database.dispose()


@dataclass(frozen=True, slots=True)
class _Seen:
    """The last that is known of the item, whoever works on it."""

    words: str
    done: int  # bytes
    total: int | None  # bytes


class _Archive:
    """One run of the command."""

    def __init__(self, settings: Settings, clock: Clock, database: Database, video_id: VodId, console: Console) -> None:
        self._settings = settings
        self._clock = clock
        self._mark = ArchiveMark(settings.storage.data_dir)
        self._database = database
        self._id = video_id
        self._console = console
        self._permit: Permit = lambda _job: nullcontext(True)
        if not database.is_sqlite:
            # A service that starts meanwhile leaves the item to us.
            self._permit = RunLeases(database, new_holder(), clock=clock, log=get_logger("vod_download")).hold

    async def keep(self) -> int:
        """Do the work here, unless a service on the same PostgreSQL is at it."""
        await anyio.to_thread.run_sync(migrate.upgrade, self._database)
        chat = chat_database(self._database)
        try:
            await anyio.to_thread.run_sync(migrate.upgrade, chat, CHAT)
            return await self._keep(chat)
        finally:
            chat.dispose()

    async def _keep(self, chat: Database) -> int:
        await anyio.to_thread.run_sync(self._mark.claim, self._database, self._clock.now())
        if not self._database.is_sqlite and await self._service_is_alive():
            return await self.hand_over()
        async with (
            open_session() as session,
            open_vault_client(AllowedAddresses(self._settings.emotes.base_urls)) as outside,
        ):
            archivist = build_archivist(self._settings, self._clock, session, self._mark, self._resolve_once)
            item = await self._ensure_row(archivist.resolver)
            keeper = build_chat_keeper(
                self._settings,
                self._clock,
                self._database,
                chat,
                session,
                self._mark,
                build_item_keeper(self._settings, self._clock, chat, session, outside, self._mark),
            )
            retry = replace(retry_policy(self._settings), cooldown=_PAUSE)
            runner = build_runner(
                self._settings, self._clock, self._database, archivist, keeper, retry=retry, heeds_breaker=False
            )
            seen = _Seen("starting", 0, None)

            def look() -> _Seen:
                nonlocal seen
                progress = runner.progress().get(self._id)
                if progress is not None:  # The last word stays when the runner has ended.
                    seen = _Seen(_WORDS[progress.phase], progress.fetched_bytes, progress.total_bytes)
                return seen

            with self._bars(look):
                item = await self._attempt_until_settled(runner, item)
                if item.download_state is DownloadState.DOWNLOADED and item.stage is Stage.CHAT:
                    seen = replace(seen, words="fetching the chat")
                    item = await self._keep_chat(keeper, item)
            if item.download_state is DownloadState.DONE:
                await archivist.tidy(self._id)
        if item.download_state in _UNSETTLED and not self._database.is_sqlite and await self._service_is_alive():
            return await self.hand_over()  # It has started meanwhile and took the item between two attempts.
        return self._report(item)

    async def hand_over(self) -> int:
        """Put the item in the queue of the service that runs on this database, and watch."""
        self._say("A vodkeep service works on this database; the item is handed to it.")
        async with open_session() as session:
            archivist = build_archivist(self._settings, self._clock, session, self._mark, self._resolve_once)
            await self._ensure_row(archivist.resolver)
        seen = _Seen("queued", 0, None)
        with self._bars(lambda: seen):
            while True:
                summary = await self._database.run(
                    lambda unit: QueueStore(unit.connection).summary(self._id), write=False
                )
                assert summary is not None
                seen = _Seen(summary.download_state, summary.download_bytes, summary.download_total)
                if summary.processed or summary.processing_error or summary.download_state is DownloadState.WAITING:
                    break
                await self._clock.sleep(_POLL_S)
        item = await self._database.run(lambda unit: QueueStore(unit.connection).find(self._id), write=False)
        assert item is not None
        return self._report(item)

    async def _attempt_until_settled(self, runner: CaptureRunner, item: QueueItem) -> QueueItem:
        """Attempt, wait as the retry rules say, attempt again; give up when that would try a person's patience."""
        for _ in range(self._settings.pipeline.download_max_attempts):
            async with self._permit(Job(Stage.CAPTURE, self._id, item.channel)) as permitted:
                if permitted:
                    await runner.run(item)
            found = await self._database.run(lambda unit: QueueStore(unit.connection).find(self._id), write=False)
            assert found is not None
            item = found
            if item.download_state not in _WAITING or item.not_before is None:
                return item
            wait = item.not_before - self._clock.now()
            if wait > _PATIENCE:
                return item
            reason = item.processing_error or "Another process works on it."
            self._say(f"{reason} Trying again in {max(0, round(wait.total_seconds()))} s.")
            await self._clock.sleep(wait.total_seconds())
        return item

    async def _keep_chat(self, keeper: ChatStage, item: QueueItem) -> QueueItem:
        """One attempt at the chat: what cannot be had of it now keeps nobody waiting."""
        once = replace(retry_policy(self._settings), max_attempts=1)
        runner = build_chat_runner(self._settings, self._clock, self._database, keeper, retry=once, rounds=1)
        async with self._permit(Job(Stage.CHAT, self._id, item.channel)) as permitted:
            if permitted:
                await runner.run(item)
        found = await self._database.run(lambda unit: QueueStore(unit.connection).find(self._id), write=False)
        assert found is not None
        return found

    async def _ensure_row(self, resolver: Resolver) -> QueueItem:
        """The item's row: made from what the resolver says if there is none, and due again if it was settled."""
        known = await self._database.run(lambda unit: QueueStore(unit.connection).find(self._id), write=False)
        resolved = await resolver.resolve(self._id) if known is None else None
        now = self._clock.now()

        def work(unit: UnitOfWork) -> QueueItem:
            if resolved is not None:
                video = Video(
                    id=self._id,
                    broadcaster_id=BroadcasterId(""),
                    created_at=resolved.date or now,
                    broadcaster_login=resolved.channel,
                    title=resolved.title,
                    duration=timedelta(seconds=int(resolved.duration_s)) if resolved.duration_s else None,
                    thumbnail_url=resolved.thumbnail_url,
                )
                CatalogStore(unit.connection).save_videos(resolved.channel, [video], now=now)
            store = QueueStore(unit.connection)
            item = store.find(self._id)
            assert item is not None
            if item.download_state not in RUNNING:
                item = ActionStore(unit.connection).reprocess(self._id, now, Asked(Asker.CLI, None))
            unit.commit()
            return item

        return await self._database.run(work)

    async def _service_is_alive(self) -> bool:
        """Whether a process is there that gives out work."""
        processes = await self._database.run(lambda unit: LeaseStore(unit.connection).live(PROCESS_PREFIX), write=False)
        return any(Role.WATCH in ProcessNote.read(process.detail).roles for process in processes)

    def _resolve_once(self, resolver: Resolver) -> Resolver:
        return _Remembering(resolver)

    @contextmanager
    def _bars(self, look: Callable[[], _Seen]) -> Iterator[None]:
        """A progress bar that follows ``look`` for the time of the block."""
        bars = _FollowingBars(
            look,
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[eta]}"),
            console=self._console,
        )
        with bars:
            yield

    def _say(self, sentence: str) -> None:
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def _report(self, item: QueueItem) -> int:
        """Say how it ended; 0 only when the item is whole in the library."""
        if item.download_state in _KEPT and item.downloaded_path is not None:
            self._say(f"Kept: {self._settings.storage.data_dir / item.downloaded_path}")
            return 0
        if item.download_state is DownloadState.WAITING:
            self._say(f"VOD {self._id} is still being recorded.")
            self._say("Run the command again when the broadcast is over, or let the service wait for it.")
            return 1
        self._say(item.processing_error or f"VOD {self._id} is {item.download_state}.")
        if item.download_state is DownloadState.FAILED:
            self._say("What was fetched is kept: run the command again to go on from there.")
        elif item.downloaded_path is not None:
            self._say(f"What could be captured: {self._settings.storage.data_dir / item.downloaded_path}")
        return 1


class _Remembering:
    """A resolver that gives its first answer twice: to the row and to the capture that follows at once."""

    def __init__(self, inner: Resolver) -> None:
        self._inner = inner
        self._answer: ResolvedVod | None = None

    async def resolve(self, video_id: str, rendition: str | None = None) -> ResolvedVod:
        answer, self._answer = self._answer, None
        if answer is None or rendition not in (None, answer.format_id):
            answer = self._answer = await self._inner.resolve(video_id, rendition)
        return answer


class _FollowingBars(Bars):
    """Bars that look at their subject whenever they are drawn.

    Rich forgets the speed whenever the total changes, and ours is an estimate that always does; so the rate is
    measured here.
    """

    def __init__(self, look: Callable[[], _Seen], *columns: ProgressColumn, console: Console) -> None:
        self._look = look
        self._bar: TaskID | None = None  # Rich draws once while it is being made.
        self._history: deque[tuple[float, int]] = deque()  # when (seconds), bytes
        super().__init__(*columns, console=console)
        self._bar = self.add_task("queued", total=None, rate="", eta="")

    def get_renderables(self) -> Iterable[RenderableType]:
        seen = self._look()
        if self._bar is None:
            return []
        rate = self._rate(seen.done)
        left_s = (seen.total - seen.done) / rate if rate and seen.total is not None else None
        self.update(
            self._bar,
            description=seen.words,
            completed=seen.done,
            total=seen.total,
            rate=f"{decimal(round(rate))}/s" if rate else "",
            eta=f"{timedelta(seconds=round(left_s))} left" if left_s else "",
        )
        return super().get_renderables()

    def _rate(self, done: int) -> float:
        """Bytes per second over the last few seconds; what an earlier run had fetched came at once and is left out."""
        now = self.get_time()
        if done == 0:
            self._history.clear()
            return 0.0
        self._history.append((now, done))
        while now - self._history[0][0] > _RATE_WINDOW_S:
            self._history.popleft()
        since, before = self._history[0]
        return max(0.0, (done - before) / (now - since)) if now > since else 0.0
