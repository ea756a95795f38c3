"""The chat stage: one attempt at the chat of one captured item, from its claim to the row that says what became of it.

The picture is in its folder already, so nothing that happens here may cost it anything: the row stays ``downloaded``
all the time, a failed attempt is a wait, and when attempts are used up the item goes on with as much of its chat as
there is, and a word in its timeline on why there is not more.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import anyio

from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.errors import ArchiveAway, DatabaseUnavailable, DiskFull, TransientError, VodkeepError
from vodkeep.pipeline.breaker import Verdict
from vodkeep.pipeline.health_store import AVG_TOTAL_MS, HealthStore
from vodkeep.pipeline.held import HeldItem
from vodkeep.pipeline.metrics import PipelineMetrics
from vodkeep.pipeline.model import DownloadState, QueueItem, Stage
from vodkeep.pipeline.outcome import BUG, Setback, sentence_of
from vodkeep.pipeline.retry import RetryPolicy, cooldown, obeyed, wait_after
from vodkeep.pipeline.saving import leaf, save_ending
from vodkeep.pipeline.store import Claim, FenceLost, NotDue, QueueStore
from vodkeep.telemetry.correlation import bind_corr, current_corr, new_corr
from vodkeep.telemetry.log import Logger

ROUNDS = 2
"""So many rounds of attempts are made before the item goes on without what could not be had."""

_RELEASE_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class KeptChat:
    """The chat of an item as it lies in its folder now."""

    messages: int  # what people said
    completeness: float  # 0..1 of the broadcast, exactly 1.0 only without a gap
    added: int = 0  # of them came from the VOD's own comments in this run
    reason: VodkeepError | None = None  # why there is not more of it


class ChatStage(Protocol):
    """Sees to the chat of one item that is in its folder."""

    async def keep(self, item: QueueItem, *, confirm: Callable[[], None], last_chance: bool) -> KeptChat:
        """Fetch what was not recorded, and write the chat into the item's folder; doing it twice does no harm.

        With ``last_chance`` what cannot be fetched now is given up, and ``reason`` says so. ``confirm`` is called in a
        worker thread right before the item's folder is changed, as in ``pipeline.stages.CaptureStage``. Canceled, it
        ends within two seconds; what was fetched is kept.
        """
        ...


class ChatRunner:
    """Runs the chat stage of one item at a time per call; implements ``pipeline.running.Runner``."""

    def __init__(
        self,
        *,
        database: Database,
        chat: ChatStage,
        clock: Clock,
        log: Logger,
        metrics: PipelineMetrics,
        retry: RetryPolicy,
        rng: random.Random,
        publishes: bool = False,
        rounds: int = ROUNDS,
    ) -> None:
        self._database = database
        self._chat = chat
        self._clock = clock
        self._log = log
        self._metrics = metrics
        self._retry = retry
        self._rng = rng
        self._publishes = publishes
        self._attempts = rounds * retry.max_attempts

    async def run(self, item: QueueItem, *, probe: bool = False) -> DownloadState | None:
        """Make one attempt at the chat of ``item``; return the state it ended in, ``None`` when it is not ours.

        Canceled, the item is handed back uncounted. It never probes a breaker.
        """
        try:
            claim = await self._claim(item)
        except NotDue as reason:
            self._log.debug("not claimed", vod_id=item.twitch_vod_id, reason=str(reason))
            return None
        except DatabaseUnavailable as error:
            self._log.warning("not claimed", vod_id=item.twitch_vod_id, error=str(error))
            return None
        with bind_corr(claim.corr):
            try:
                return await self._run(claim)
            except FenceLost:
                await self._held(claim).tell_lost()
                return None
            except anyio.get_cancelled_exc_class():
                with anyio.move_on_after(_RELEASE_LIMIT_S, shield=True):
                    await self._held(claim).hand_back()
                raise

    async def _claim(self, item: QueueItem) -> Claim:
        now, corr = self._clock.now(), current_corr() or new_corr()

        def work(unit: UnitOfWork) -> Claim:
            claim = QueueStore(unit.connection).claim(item, now, corr=corr, stage=Stage.CHAT)
            unit.commit()
            return claim

        return await self._database.run(work)

    async def _run(self, claim: Claim) -> DownloadState:
        last_chance = claim.attempt >= self._attempts
        self._log.debug("chat started", vod_id=claim.item_id, attempt=claim.attempt)
        ending = await self._attempt(claim, last_chance)
        if isinstance(ending, KeptChat):
            return await self._save(claim, ending, ending.reason)
        if not isinstance(ending, VodkeepError):
            self._log.error("chat failed", vod_id=claim.item_id, code=BUG, exc_info=ending)
        if last_chance and not isinstance(ending, (DatabaseUnavailable, DiskFull)):
            return await self._save(claim, None, ending)
        return await self._save_setback(claim, ending)

    async def _attempt(self, claim: Claim, last_chance: bool) -> KeptChat | Exception:
        """What became of it, errors as values; raises ``FenceLost`` when the item was taken."""
        ending: KeptChat | Exception | None = None
        async with anyio.create_task_group() as tasks:
            held = self._held(claim)
            tasks.start_soon(held.watch, tasks.cancel_scope)
            try:
                confirm = held.confirm_in_thread
                ending = await self._chat.keep(claim.item, confirm=confirm, last_chance=last_chance)
            except FenceLost:
                pass
            except Exception as error:  # noqa: BLE001 - an ending is a value here
                ending = leaf(error)
            tasks.cancel_scope.cancel()
        if ending is None or isinstance(ending, FenceLost):
            raise FenceLost(f"{claim.item_id} was taken")
        return ending

    async def _save(self, claim: Claim, kept: KeptChat | None, reason: Exception | None) -> DownloadState:
        channel, now = claim.item.channel, self._clock.now()
        code, sentence, remedy = _words(kept, reason)

        def work(unit: UnitOfWork) -> tuple[DownloadState, tuple[timedelta, timedelta] | None, int]:
            store = QueueStore(unit.connection)
            state = store.save_chat(
                claim,
                now,
                completeness=kept.completeness if kept is not None else None,
                messages=kept.messages if kept is not None else None,
                publish=self._publishes,
                code=code,
                sentence=sentence,
                remedy=remedy,
            )
            times = store.captured_within(claim.item_id, now)
            if state is DownloadState.DONE and times is not None:
                took_ms = times[1].total_seconds() * 1000
                HealthStore(unit.connection).average_in(AVG_TOTAL_MS, took_ms, now, channel=channel)
            return state, times, store.depth()

        state, times, depth = await save_ending(
            self._database, self._clock, self._log, claim, work, lambda saved: saved[0]
        )
        fields = {"vod_id": claim.item_id, "channel": channel}
        if reason is not None:
            self._log.warning("chat is not complete", **fields, code=code, error=sentence, remedy=remedy)
        if kept is not None:
            self._log.info(
                "chat kept", **fields, messages=kept.messages, added=kept.added, completeness=kept.completeness
            )
        if state is DownloadState.DONE:
            timing: dict[str, int] = {}
            if times is not None:
                timing = {"dl_ms": _milliseconds(times[0]), "total_ms": _milliseconds(times[1])}
                self._metrics.total_duration(channel, times[1].total_seconds())
            self._log.info("vod processed", component="vod_process", **fields, queue_depth=depth, **timing)
        return state

    async def _save_setback(self, claim: Claim, error: Exception) -> DownloadState:
        now = self._clock.now()
        setback = self._judge(claim, error, now)

        def work(unit: UnitOfWork) -> None:
            QueueStore(unit.connection).save_chat_setback(claim, now, setback)

        await save_ending(self._database, self._clock, self._log, claim, work, lambda _: DownloadState.DOWNLOADED)
        self._log.warning(
            "chat is tried again",
            vod_id=claim.item_id,
            channel=claim.item.channel,
            attempt=claim.attempt,
            code=setback.code,
            error=setback.sentence,
            not_before=setback.not_before,
        )
        return DownloadState.DOWNLOADED

    def _judge(self, claim: Claim, error: Exception, now: datetime) -> Setback:
        failures = claim.item.download_retries + 1
        counts = not isinstance(error, (ArchiveAway, DiskFull, DatabaseUnavailable))
        asked_s = error.delay_s if isinstance(error, TransientError) else None
        wait = (
            wait_after(failures, self._retry, self._rng, own=False, asked_s=asked_s)
            if counts
            else obeyed(cooldown(self._retry, self._rng), asked_s)
        )
        is_ours = isinstance(error, VodkeepError)
        return Setback(
            DownloadState.DOWNLOADED,
            error.code if isinstance(error, VodkeepError) else BUG,
            sentence_of(error) if is_ours else f"An error in the program stopped the attempt: {type(error).__name__}.",
            error.remedy if isinstance(error, VodkeepError) else "The log holds the traceback; please report it.",
            now + wait,
            counts=counts,
            verdict=Verdict.SILENT,
        )

    def _held(self, claim: Claim) -> HeldItem:
        return HeldItem(claim, self._database, self._clock, self._log, "chat")


def _words(kept: KeptChat | None, reason: Exception | None) -> tuple[str | None, str, str]:
    """Code, sentence and remedy of the event that ends the stage."""
    part = "" if kept is None else f" {kept.completeness:.2%} of it are kept, {kept.messages} messages."
    match reason:
        case None:
            return None, f"The chat is in the folder.{part}", ""
        case VodkeepError():
            return reason.code, f"{sentence_of(reason)}{part}", reason.remedy
        case _:
            return (
                BUG,
                f"An error in the program stopped the chat: {type(reason).__name__}.{part}",
                "The log holds the traceback; please report it.",
            )


def _milliseconds(span: timedelta) -> int:
    return round(span.total_seconds() * 1000)
