"""The publish stage: one attempt at publishing one item, from its claim to the row that says what became of it.

An attempt that fails costs nothing of what YouTube has already: the next one asks the upload session, and goes on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import anyio

from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.errors import CredentialsError, DatabaseUnavailable, LimitReached
from vodkeep.pipeline.breaker import Verdict
from vodkeep.pipeline.health_store import AVG_TOTAL_MS, AVG_UPLOAD_MS, HealthStore
from vodkeep.pipeline.held import HeldItem
from vodkeep.pipeline.metrics import PipelineMetrics
from vodkeep.pipeline.model import DownloadState, QueueItem, Stage
from vodkeep.pipeline.outcome import BUG, Setback, judge, sentence_of
from vodkeep.pipeline.retry import RetryPolicy, cooldown
from vodkeep.pipeline.saving import leaf, save_ending
from vodkeep.pipeline.store import Claim, FenceLost, NotDue, QueueStore
from vodkeep.telemetry.correlation import bind_corr, current_corr, new_corr
from vodkeep.telemetry.log import Logger

_RELEASE_LIMIT_S = 5.0
_PROGRESS_LOG_S = 10.0


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """How far the upload of an item is, over all its parts."""

    sent_bytes: int
    total_bytes: int


@dataclass(slots=True)
class UploadNow:
    """An upload at work, as others look at it; implements ``web.schema.LiveProgress``."""

    since: float  # our clock, s
    began_at_bytes: int | None = None  # what YouTube had of it before
    fetched_bytes: int = 0
    total_bytes: int | None = None
    at: float = 0.0  # of the latest word
    phase: str = "uploading"
    segments_done: int = 0
    segments_total: int = 0

    def note(self, progress: UploadProgress, at: float) -> None:
        """So far it is now."""
        if self.began_at_bytes is None:
            self.began_at_bytes, self.since = progress.sent_bytes, at
        self.fetched_bytes, self.total_bytes, self.at = progress.sent_bytes, progress.total_bytes, at

    @property
    def rate_bytes_s(self) -> float:
        """The mean since it began."""
        took_s = self.at - self.since
        return max(0.0, self.fetched_bytes - (self.began_at_bytes or 0)) / took_s if took_s > 0 else 0.0

    @property
    def eta_s(self) -> float | None:
        """The time left at that speed."""
        rate = self.rate_bytes_s
        return (self.total_bytes - self.fetched_bytes) / rate if rate and self.total_bytes is not None else None


@dataclass(frozen=True, slots=True)
class Published:
    """An item that is on YouTube."""

    url: str  # of its first part
    parts: int
    bytes: int
    uploaded: bool  # False: what was there already was linked again


class PublishStage(Protocol):
    """Brings one item to YouTube."""

    async def publish(self, held: HeldItem, *, on_progress: Callable[[UploadProgress], None]) -> Published:
        """Return once every part of the item is on YouTube; doing it twice does no harm.

        Every write asks ``held`` first, and raises ``FenceLost`` when the item is somebody else's. Canceled, it ends
        within two seconds; what YouTube has by then is kept.
        """
        ...


class PublishRunner:
    """Runs the publish stage of one item at a time per call; implements ``pipeline.running.Runner``."""

    def __init__(
        self,
        *,
        database: Database,
        publish: PublishStage,
        clock: Clock,
        log: Logger,
        metrics: PipelineMetrics,
        retry: RetryPolicy,
        rng: random.Random,
    ) -> None:
        self._database = database
        self._publish = publish
        self._clock = clock
        self._log = log
        self._metrics = metrics
        self._retry = retry
        self._rng = rng
        self._live: dict[str, UploadNow] = {}

    def progress(self) -> Mapping[str, UploadNow]:
        """The latest progress of every upload at work in this process, by Twitch video id."""
        return dict(self._live)

    async def run(self, item: QueueItem, *, probe: bool = False) -> DownloadState | None:
        """Make one attempt; return the state the item ended in, ``None`` when it is not ours.

        Canceled, the item is handed back uncounted. It never probes a breaker.
        """
        try:
            claim = await self._claim(item)
        except (NotDue, DatabaseUnavailable) as reason:
            level = self._log.debug if isinstance(reason, NotDue) else self._log.warning
            level("not claimed", vod_id=item.twitch_vod_id, reason=str(reason))
            return None
        held = HeldItem(claim, self._database, self._clock, self._log, "upload")
        with bind_corr(claim.corr):
            try:
                return await self._run(held)
            except FenceLost:
                await held.tell_lost()
                return None
            except anyio.get_cancelled_exc_class():
                with anyio.move_on_after(_RELEASE_LIMIT_S, shield=True):
                    await held.hand_back()
                raise

    async def _claim(self, item: QueueItem) -> Claim:
        now, corr = self._clock.now(), current_corr() or new_corr()

        def work(unit: UnitOfWork) -> Claim:
            claim = QueueStore(unit.connection).claim(item, now, corr=corr, stage=Stage.PUBLISH)
            unit.commit()
            return claim

        return await self._database.run(work)

    async def _run(self, held: HeldItem) -> DownloadState:
        claim, started = held.claim, self._clock.monotonic()
        self._log.info("upload started", vod_id=claim.item_id, channel=claim.item.channel, attempt=claim.attempt)
        ending = await self._attempt(held)
        if isinstance(ending, Published):
            await self._save_published(claim, ending, self._clock.monotonic() - started)
            return DownloadState.DONE
        return await self._save_setback(claim, ending)

    async def _attempt(self, held: HeldItem) -> Published | Exception:
        """What became of it, errors as values; raises ``FenceLost`` when the item was taken."""
        latest: list[UploadProgress] = []

        now = self._live[held.claim.item_id] = UploadNow(self._clock.monotonic())

        def note(progress: UploadProgress) -> None:
            latest[:] = [progress]
            now.note(progress, self._clock.monotonic())

        try:
            return await self._attempt_watched(held, latest, note)
        finally:
            del self._live[held.claim.item_id]

    async def _attempt_watched(
        self, held: HeldItem, latest: list[UploadProgress], note: Callable[[UploadProgress], None]
    ) -> Published | Exception:
        ending: Published | Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(held.watch, tasks.cancel_scope)
            tasks.start_soon(self._tell_progress, held.claim, latest)
            try:
                ending = await self._publish.publish(held, on_progress=note)
            except FenceLost:
                pass
            except Exception as error:  # noqa: BLE001 - an ending is a value here
                ending = leaf(error)
            tasks.cancel_scope.cancel()
        if ending is None or isinstance(ending, FenceLost):
            raise FenceLost(f"{held.claim.item_id} was taken")
        return ending

    async def _tell_progress(self, claim: Claim, latest: list[UploadProgress]) -> None:
        told: UploadProgress | None = None
        while True:
            await self._clock.sleep(_PROGRESS_LOG_S)
            if latest and latest[0] != told:
                told = latest[0]
                percent = round(100 * told.sent_bytes / told.total_bytes, 1) if told.total_bytes else 100.0
                self._log.info(
                    "uploading", vod_id=claim.item_id, bytes=told.sent_bytes, total=told.total_bytes, percent=percent
                )

    async def _save_published(self, claim: Claim, published: Published, elapsed_s: float) -> None:
        channel, now = claim.item.channel, self._clock.now()

        def work(unit: UnitOfWork) -> tuple[float | None, int]:
            store, health = QueueStore(unit.connection), HealthStore(unit.connection)
            store.save_published(claim, now, youtube_url=published.url)
            times = store.captured_within(claim.item_id, now)
            total_s = times[1].total_seconds() if times is not None else None
            if published.uploaded:
                health.average_in(AVG_UPLOAD_MS, elapsed_s * 1000, now, channel=channel)
                if total_s is not None:
                    health.average_in(AVG_TOTAL_MS, total_s * 1000, now, channel=channel)
            return total_s, store.depth()

        total_s, depth = await save_ending(
            self._database, self._clock, self._log, claim, work, lambda _: DownloadState.DONE
        )
        fields: dict[str, object] = {"vod_id": claim.item_id, "channel": channel, "url": published.url}
        if not published.uploaded:
            self._log.info("publication linked again", **fields)
        else:
            fields["upl_ms"] = round(elapsed_s * 1000)
            self._metrics.uploads_succeeded(channel)
            self._metrics.upload_duration(channel, elapsed_s)
            self._log.info("upload finished", bytes=published.bytes, parts=published.parts, **fields)
            if total_s is not None:
                self._metrics.total_duration(channel, total_s)
                fields["total_ms"] = round(total_s * 1000)
        self._log.info("vod processed", component="vod_process", queue_depth=depth, **fields)

    async def _save_setback(self, claim: Claim, error: Exception) -> DownloadState:
        channel, now = claim.item.channel, self._clock.now()

        def work(unit: UnitOfWork) -> tuple[Setback, int]:
            store = QueueStore(unit.connection)
            setback = self._judge(claim, error, now)
            store.save_setback(claim, now, setback)
            return setback, store.depth()

        setback, depth = await save_ending(
            self._database, self._clock, self._log, claim, work, lambda saved: saved[0].state
        )
        if setback.counts:
            self._metrics.uploads_failed(channel)
        self._log.error(
            "vod parked" if setback.state is DownloadState.PARKED else "upload failed",
            exc_info=error if setback.code == BUG else None,
            vod_id=claim.item_id,
            channel=channel,
            attempt=claim.attempt,
            code=setback.code,
            error=setback.sentence,
            remedy=setback.remedy,
            not_before=setback.not_before,
            queue_depth=depth,
        )
        return setback.state

    def _judge(self, claim: Claim, error: Exception, now: datetime) -> Setback:
        """Limits and the account say nothing about the item: they wait, and use up no attempt of it."""
        if isinstance(error, (LimitReached, CredentialsError, DatabaseUnavailable)):
            code = f"youtube_{error.code}" if error.code == "not_connected" else error.code
            until = error.until if isinstance(error, LimitReached) else now + cooldown(self._retry, self._rng)
            sentence = sentence_of(error)
            if isinstance(error, LimitReached):
                sentence = f"{sentence.rstrip('.')}; it goes on at {until:%Y-%m-%d %H:%M} UTC."
            return Setback(
                DownloadState.FAILED,
                code,
                sentence,
                error.remedy,
                max(until, now),
                counts=False,
                verdict=Verdict.SILENT,
            )
        return judge(
            error,
            failures=claim.item.upload_retries,
            own_failures=0,
            policy=self._retry,
            now=now,
            rng=self._rng,
        )
