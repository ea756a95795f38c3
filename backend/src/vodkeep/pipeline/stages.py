"""The capture stage: one attempt at one item, from its claim to the row that says what became of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

import anyio
import anyio.from_thread

from vodkeep.capture.model import Phase, Progress
from vodkeep.capture.workfolder import ItemBusyError
from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.errors import DatabaseUnavailable, Incomplete, PermanentError, VodkeepError
from vodkeep.pipeline.breaker import Breaker, BreakerPolicy, Verdict, after_attempt, renew_probe, take_probe
from vodkeep.pipeline.chat_runner import ChatStage, KeptChat
from vodkeep.pipeline.circuits import Circuits
from vodkeep.pipeline.health_store import AVG_DOWNLOAD_MS, AVG_TOTAL_MS, HealthStore
from vodkeep.pipeline.metrics import PipelineMetrics
from vodkeep.pipeline.model import DownloadState, QueueItem
from vodkeep.pipeline.outcome import BUG, Setback, is_own_cause, judge
from vodkeep.pipeline.retry import RetryPolicy
from vodkeep.pipeline.saving import leaf, save_ending
from vodkeep.pipeline.store import Claim, FenceLost, Loss, NotDue, QueueStore
from vodkeep.telemetry.correlation import bind_corr, current_corr, new_corr
from vodkeep.telemetry.log import Logger

T = TypeVar("T")

HEARTBEAT_S = 1.0
"""How often a run writes its progress and looks whether the item is still its own."""

_PROGRESS_LOG_S = 10.0

# Handing an item back at a shutdown is one small write; a database that is away must not hold the shutdown up.
_RELEASE_LIMIT_S = 5.0

_CONFIRM_RETRY_S = 1.0

# When the work folder of an item is looked at again that another process has.
_BUSY_WAIT = timedelta(seconds=5)

_CHECKING = frozenset({Phase.MUXING, Phase.VERIFYING})


@dataclass(frozen=True, slots=True)
class CapturedItem:
    """A broadcast that is in its folder, proven."""

    path: str  # of the video file
    bytes: int  # its size
    duration_ms: int
    completeness: float  # 0..1, exactly 1.0 only without any hole in the ledger
    cut_short_by: PermanentError | None = None  # why no more of it can ever be had
    chat: KeptChat | None = None  # what lies beside it, if that was seen to already
    let_go: bool = False  # all but its video is there: retention let that go


class CaptureStage(Protocol):
    """Keeps one broadcast: fetches, muxes, verifies and moves it into its folder."""

    async def capture(
        self,
        item: QueueItem,
        *,
        on_progress: Callable[[Progress], None],
        report_phase: Callable[[Phase], None],
        confirm: Callable[[], None],
        accept_holes: bool,
    ) -> CapturedItem:
        """Return once the item is whole and in its folder; doing it twice does no harm.

        With ``accept_holes``, the last chance, a broadcast with holes is put into its folder too and its completeness
        tells; otherwise it ends as `Incomplete`.

        ``confirm`` is called in a worker thread right before something in the library is replaced. It waits for the
        database and raises ``FenceLost`` when the item is no longer this run's; then nothing is touched.

        The other callbacks are cheap and may be called from any thread, as often as one likes. Canceled, it ends within
        two seconds with all its threads and child processes, keeps what it fetched, and re-raises. Everything it raises
        on purpose is one of :mod:`vodkeep.errors`; anything else counts as a bug.
        """
        ...

    async def tidy(self, item_id: str) -> None:
        """Remove what the capture of an item left behind, once its row says that the item is in its folder."""
        ...


class _Live:
    """The latest word of a running capture; written from its threads, read by the heartbeat."""

    __slots__ = ("checking", "progress")

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.checking = False

    def note(self, progress: Progress) -> None:
        self.progress = progress
        self.enter(progress.phase)

    def enter(self, phase: Phase) -> None:
        if phase in _CHECKING:
            self.checking = True


class _Lost:
    """The run lost its claim; there is nothing left to write."""


_LOST = _Lost()


class CaptureRunner:
    """Runs the capture stage of one item at a time per call; implements ``pipeline.engine.Runner``."""

    def __init__(
        self,
        *,
        database: Database,
        capture: CaptureStage,
        clock: Clock,
        log: Logger,
        metrics: PipelineMetrics,
        circuits: Circuits,
        retry: RetryPolicy,
        breaker: BreakerPolicy,
        rng: random.Random,
        publishes: bool = False,
        chat: ChatStage | None = None,  # what sees to the chat of what was captured; nobody does without
        heeds_breaker: bool = True,  # else it also runs while the breaker is open, for a person who waits
    ) -> None:
        self._database = database
        self._capture = capture
        self._clock = clock
        self._log = log
        self._metrics = metrics
        self._circuits = circuits
        self._retry = retry
        self._breaker = breaker
        self._rng = rng
        self._publishes = publishes
        self._chat = chat
        self._heeds_breaker = heeds_breaker
        self._live: dict[str, _Live] = {}

    def progress(self) -> Mapping[str, Progress]:
        """The latest progress of every capture at work, by Twitch video id: fresher than the table."""
        return {item_id: live.progress for item_id, live in self._live.items() if live.progress is not None}

    async def run(self, item: QueueItem, *, probe: bool = False) -> DownloadState | None:
        """Make one attempt at ``item``; return the state it ended in.

        ``None`` means that the item is not ours: it changed before the claim, could not be claimed because the
        database is away, or was taken during the run. Canceled, the item is handed back uncounted.
        """
        try:
            claim, own_failures = await self._claim(item, probe=probe)
        except NotDue as reason:
            self._log.debug("not claimed", vod_id=item.twitch_vod_id, reason=str(reason))
            return None
        except DatabaseUnavailable as error:
            self._log.warning("not claimed", vod_id=item.twitch_vod_id, error=str(error))
            return None
        with bind_corr(claim.corr):
            live = self._live[claim.item_id] = _Live()
            try:
                last_chance = own_failures + 1 >= self._retry.max_attempts
                return await self._run(claim, live, probe=probe, accept_holes=last_chance)
            except anyio.get_cancelled_exc_class():
                with anyio.move_on_after(_RELEASE_LIMIT_S, shield=True):
                    await self._release(claim, probe=probe)
                raise
            finally:
                del self._live[claim.item_id]

    async def _tidy(self, claim: Claim) -> None:
        """Clean up behind a run; a mess that cannot be cleared is told and left for the next start.

        Only once what was fetched lies in the item's folder. A broadcast that was deleted at Twitch half way is parked
        too, and then the work folder may hold the only copy there is.
        """
        try:
            await self._capture.tidy(claim.item_id)
        except (VodkeepError, OSError) as error:
            self._log.warning("leftovers stay", vod_id=claim.item_id, error=str(error))

    async def _claim(self, item: QueueItem, *, probe: bool) -> tuple[Claim, int]:
        now = self._clock.now()
        corr = current_corr() or new_corr()

        def work(unit: UnitOfWork) -> tuple[Claim, int]:
            store = QueueStore(unit.connection)
            claim = store.claim(item, now, corr=corr)
            own_failures = store.own_failures(claim.item_id)
            health = HealthStore(unit.connection)
            if probe:
                try:
                    taken = take_probe(health.lock_breaker(item.channel), now, self._breaker)
                except ValueError as error:
                    raise NotDue(str(error)) from error
                health.save_breaker(item.channel, taken, now)
            elif self._heeds_breaker and health.load_breaker(item.channel).is_open:
                # It opened after the item was planned; only its probe may go.
                raise NotDue(f"the circuit breaker of {item.channel} has opened")
            unit.commit()
            return claim, own_failures

        return await self._database.run(work)

    async def _run(self, claim: Claim, live: _Live, *, probe: bool, accept_holes: bool) -> DownloadState | None:
        started = self._clock.monotonic()
        item = claim.item
        self._metrics.downloads_started(item.channel)
        self._log.info(
            "download started",
            vod_id=claim.item_id,
            channel=item.channel,
            attempt=claim.attempt,
            reason=claim.reason,
            probe=probe,
        )
        try:
            ending = await self._attempt(claim, live, probe=probe, accept_holes=accept_holes)
        except Exception as error:  # noqa: BLE001 - the attempt ends here; what it means is decided below
            ending = error
        try:
            match ending:
                case CapturedItem() if ending.let_go or ending.completeness >= 1.0:
                    state = await self._save_captured(claim, ending, self._clock.monotonic() - started, probe=probe)
                    await self._tidy(claim)
                    return state
                case CapturedItem():
                    state = await self._save_setback(claim, _falls_short(ending), probe=probe, part=ending)
                    if state is DownloadState.PARKED:
                        await self._tidy(claim)
                    return state
                case ItemBusyError():
                    return await self._postpone(claim, ending, probe=probe)
                case Exception():
                    return await self._save_setback(claim, leaf(ending), probe=probe)
                case _:
                    pass
        except FenceLost:
            pass
        await self._tell_lost(claim, probe=probe)
        return None

    async def _attempt(
        self, claim: Claim, live: _Live, *, probe: bool, accept_holes: bool
    ) -> CapturedItem | Exception | _Lost:
        ending: CapturedItem | Exception | _Lost = _LOST
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._beat, claim, live, probe, tasks.cancel_scope)
            try:
                ending = await self._capture.capture(
                    claim.item,
                    on_progress=live.note,
                    report_phase=live.enter,
                    confirm=partial(self._confirm, claim),
                    accept_holes=accept_holes,
                )
                if ending.completeness < 1.0:
                    ending = replace(ending, chat=await self._keep_chat(claim, ending))
            except FenceLost:
                pass
            except Exception as error:  # noqa: BLE001 - an ending is a value here
                ending = error
            tasks.cancel_scope.cancel()
        return ending

    async def _keep_chat(self, claim: Claim, part: CapturedItem) -> KeptChat | None:
        """What there is of the chat of a broadcast of which only a part lies in its folder.

        Such an item is parked and never comes to the stage of chat; a person decides when it is tried again.
        """
        if self._chat is None:
            return None
        item, confirm = replace(claim.item, downloaded_path=part.path), partial(self._confirm, claim)
        try:
            return await self._chat.keep(item, confirm=confirm, last_chance=True)
        except FenceLost:
            raise
        except Exception as error:  # noqa: BLE001 - it costs the picture nothing
            cause = leaf(error)
            trace = None if isinstance(cause, VodkeepError) else cause
            self._log.warning("chat is not complete", vod_id=claim.item_id, error=str(cause), exc_info=trace)
            return None

    def _confirm(self, claim: Claim) -> None:
        """Return if the claim is still good, else raise `FenceLost`; waits while the database is away.

        Blocks its thread, which must be one of the event loop's, so that a cancellation ends the waiting.
        """
        is_told = False
        while True:
            try:
                with self._database.unit_of_work(write=False) as unit:
                    if QueueStore(unit.connection).holds(claim):
                        return
                raise FenceLost(f"{claim.item_id} was taken")
            except DatabaseUnavailable as error:
                if not is_told:
                    self._log.warning("the library waits for the database", vod_id=claim.item_id, error=str(error))
                is_told = True
                anyio.from_thread.run(self._clock.sleep, _CONFIRM_RETRY_S)

    async def _beat(self, claim: Claim, live: _Live, probe: bool, scope: anyio.CancelScope) -> None:
        """Write progress once a second and stop the run as soon as the item is somebody else's."""
        saved: Progress | None = None
        checking_saved = away = False
        next_log = self._clock.monotonic() + _PROGRESS_LOG_S
        next_renewal = self._clock.monotonic()
        while True:
            await self._clock.sleep(HEARTBEAT_S)
            progress, checking, now = live.progress, live.checking, self._clock.now()
            renew = probe and self._clock.monotonic() >= next_renewal
            try:
                await self._save_beat(
                    claim,
                    now,
                    progress=progress if progress != saved else None,
                    checking=checking and not checking_saved,
                    renew=renew,
                )
            except FenceLost:
                scope.cancel()
                return
            except DatabaseUnavailable as error:
                if not away:
                    self._log.warning("progress is not saved", vod_id=claim.item_id, error=str(error))
                away = True
                continue
            away = False
            saved, checking_saved = progress, checking
            if renew:
                next_renewal = self._clock.monotonic() + self._breaker.cooldown.total_seconds() / 4
            if progress is not None and self._clock.monotonic() >= next_log:
                next_log = self._clock.monotonic() + _PROGRESS_LOG_S
                self._log.info("downloading", vod_id=claim.item_id, **_progress_fields(progress))

    async def _save_beat(
        self, claim: Claim, now: datetime, *, progress: Progress | None, checking: bool, renew: bool
    ) -> None:
        def look(unit: UnitOfWork) -> None:
            if not QueueStore(unit.connection).holds(claim):
                raise FenceLost(f"{claim.item_id} was taken")

        def write(unit: UnitOfWork) -> None:
            store = QueueStore(unit.connection)
            if checking:
                store.save_verifying(claim, now)
            if progress is not None:
                store.save_progress(claim, now, fetched_bytes=progress.fetched_bytes, total_bytes=progress.total_bytes)
            if renew:
                health = HealthStore(unit.connection)
                breaker = health.lock_breaker(claim.item.channel)
                renewed = renew_probe(breaker, now, self._breaker)
                if renewed != breaker:
                    health.save_breaker(claim.item.channel, renewed, now)
            unit.commit()

        if progress is None and not checking and not renew:
            await self._database.run(look, write=False)
        else:
            await self._database.run(write)

    async def _save_captured(
        self, claim: Claim, captured: CapturedItem, elapsed_s: float, *, probe: bool
    ) -> DownloadState:
        channel = claim.item.channel
        now = self._clock.now()

        def work(unit: UnitOfWork) -> tuple[DownloadState, Breaker, Breaker, int]:
            store, health = QueueStore(unit.connection), HealthStore(unit.connection)
            state = store.save_captured(
                claim,
                now,
                path=captured.path,
                size_bytes=captured.bytes,
                completeness=captured.completeness,
                publish=self._publishes,
                chat=self._chat is not None,
                let_go=captured.let_go,
            )
            before, after = self._count_attempt(health, channel, Verdict.WORKS, now, probe=probe)
            health.average_in(AVG_DOWNLOAD_MS, elapsed_s * 1000, now, channel=channel)
            if state is DownloadState.DONE:
                health.average_in(AVG_TOTAL_MS, elapsed_s * 1000, now, channel=channel)
            return state, before, after, store.depth()

        state, before, after, depth = await save_ending(
            self._database, self._clock, self._log, claim, work, lambda saved: saved[0]
        )
        self._circuits.attempt_ended(channel, before, after, now)
        self._metrics.downloads_succeeded(channel)
        self._metrics.download_duration(channel, elapsed_s)
        timing = {"dl_ms": round(elapsed_s * 1000)}
        self._log.info(
            "download finished",
            vod_id=claim.item_id,
            channel=channel,
            bytes=captured.bytes,
            duration_ms=captured.duration_ms,
            path=captured.path,
            **timing,
        )
        if state is DownloadState.DONE:
            self._metrics.total_duration(channel, elapsed_s)
            timing["total_ms"] = round(elapsed_s * 1000)
        self._log.info(
            "vod processed" if state is DownloadState.DONE else "vod downloaded",
            component="vod_process",
            vod_id=claim.item_id,
            channel=channel,
            queue_depth=depth,
            **timing,
        )
        return state

    async def _save_setback(
        self, claim: Claim, error: Exception, *, probe: bool, part: CapturedItem | None = None
    ) -> DownloadState:
        channel = claim.item.channel
        now = self._clock.now()

        def work(unit: UnitOfWork) -> tuple[Setback, Breaker, Breaker, int]:
            store, health = QueueStore(unit.connection), HealthStore(unit.connection)
            setback = judge(
                error,
                failures=claim.item.download_retries,
                own_failures=store.own_failures(claim.item_id) if is_own_cause(error) else 0,
                policy=self._retry,
                now=now,
                rng=self._rng,
            )
            if part is not None:
                store.note_part(
                    claim,
                    now,
                    path=part.path,
                    size_bytes=part.bytes,
                    completeness=part.completeness,
                    chat_completeness=part.chat.completeness if part.chat is not None else None,
                    chat_messages=part.chat.messages if part.chat is not None else None,
                )
            store.save_setback(claim, now, setback)
            before, after = self._count_attempt(health, channel, setback.verdict, now, probe=probe)
            return setback, before, after, store.depth()

        setback, before, after, depth = await save_ending(
            self._database, self._clock, self._log, claim, work, lambda saved: saved[0].state
        )
        self._circuits.attempt_ended(channel, before, after, now)
        if setback.is_failure:
            self._metrics.downloads_failed(channel)
        self._tell_setback(claim, setback, error, depth)
        return setback.state

    def _count_attempt(
        self, health: HealthStore, channel: str, verdict: Verdict, now: datetime, *, probe: bool
    ) -> tuple[Breaker, Breaker]:
        before = health.lock_breaker(channel)
        after = after_attempt(before, verdict, now, self._breaker, probe=probe)
        if after != before:
            health.save_breaker(channel, after, now)
        return before, after

    def _tell_setback(self, claim: Claim, setback: Setback, error: Exception, depth: int) -> None:
        fields = {
            "vod_id": claim.item_id,
            "channel": claim.item.channel,
            "attempt": claim.attempt,
            "code": setback.code,
            "error": setback.sentence,
            "remedy": setback.remedy,
            "not_before": setback.not_before,
            "queue_depth": depth,
        }
        match setback.state:
            case DownloadState.WAITING:
                self._log.info("still recording", **fields)
            case DownloadState.PARKED:
                self._log.error("vod parked", **fields)
            case _:
                trace = error if setback.code == BUG else None
                self._log.error("download failed", exc_info=trace, **fields)

    async def _postpone(self, claim: Claim, busy: ItemBusyError, *, probe: bool) -> DownloadState:
        """Leave the item to the process that still has its work folder; look again soon, nothing counted.

        A process that was frozen and lost its claim holds the folder until it wakes up or dies.
        """
        now = self._clock.now()

        def work(unit: UnitOfWork) -> None:
            QueueStore(unit.connection).postpone(claim, now, until=now + _BUSY_WAIT, error=busy)
            if probe:
                self._count_attempt(HealthStore(unit.connection), claim.item.channel, Verdict.SILENT, now, probe=True)

        await self._save(claim, work, lambda _: DownloadState.PENDING)
        self._log.warning("work folder is busy", vod_id=claim.item_id, error=str(busy), not_before=now + _BUSY_WAIT)
        return DownloadState.PENDING

    async def _release(self, claim: Claim, *, probe: bool) -> None:
        """Hand the item back; a claim already lost or a database that is away leaves nothing to do.

        A row left ``downloading`` by a database that is away is due again at the next start all the same.
        """
        now = self._clock.now()

        def work(unit: UnitOfWork) -> None:
            QueueStore(unit.connection).release(claim, now)
            if probe:
                self._count_attempt(HealthStore(unit.connection), claim.item.channel, Verdict.SILENT, now, probe=True)
            unit.commit()

        try:
            await self._database.run(work)
        except FenceLost:
            await self._tell_lost(claim, probe=probe)
        except DatabaseUnavailable as error:
            self._log.warning("the item is not handed back", vod_id=claim.item_id, error=str(error))
        else:
            self._log.info("download interrupted", vod_id=claim.item_id)

    async def _tell_lost(self, claim: Claim, *, probe: bool) -> None:
        """The item is somebody else's to write by now: say whose, and that a probe of it said nothing.

        The next probe then need not wait until the lease of this one has run out.
        """
        now = self._clock.now()

        def work(unit: UnitOfWork) -> Loss:
            loss = QueueStore(unit.connection).note_loss(claim, now)
            if probe:
                self._count_attempt(HealthStore(unit.connection), claim.item.channel, Verdict.SILENT, now, probe=True)
            unit.commit()
            return loss

        try:
            loss = await self._database.run(work)
        except DatabaseUnavailable:
            loss = Loss(None, None)
        fields = {"vod_id": claim.item_id, "channel": claim.item.channel, "by": loss.asked_by}
        if loss.state is DownloadState.CANCELED:
            self._log.info("download canceled", **fields)
        else:
            self._log.warning("claim lost", generation=claim.item.generation, **fields)

    async def _save(self, claim: Claim, work: Callable[[UnitOfWork], T], leaves: Callable[[T], DownloadState]) -> T:
        return await save_ending(self._database, self._clock, self._log, claim, work, leaves)


def _falls_short(part: CapturedItem) -> VodkeepError:
    if part.cut_short_by is not None:
        cause = part.cut_short_by
        return PermanentError(
            f"{cause} {part.completeness:.2%} of it had been captured before and is kept.",
            code=cause.code,
            remedy=cause.remedy,
        )
    return Incomplete(
        f"Only {part.completeness:.2%} of the broadcast could be captured; the ledger in its manifest names the holes.",
        remedy="Reprocess the item if Twitch offers the rest again.",
    )


def _progress_fields(progress: Progress) -> dict[str, object]:
    eta_s = progress.eta_s
    return {
        "phase": progress.phase,
        "bytes": progress.fetched_bytes,
        "total": progress.total_bytes,
        "percent": round(100 * progress.fraction, 1),
        "rate_bytes_s": round(progress.rate_bytes_s),
        "eta": None if eta_s is None else str(timedelta(seconds=round(eta_s))),
    }
