"""The queue in the database: rows of ``vods``, their moves, and the figures about them.

Two rules hold for every statement here that changes a row. A run first *claims* its item, which raises
``generation``; each later write names that generation, and one that matches no row raises :class:`FenceLost`, so that a
run that was believed dead can do nothing when it wakes up. And each move appends its row to ``events`` in the same
transaction, so that the timeline of an item never disagrees with its state.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    RowMapping,
    Select,
    and_,
    func,
    literal,
    or_,
    select,
    update,
)

from vodkeep import placeholder
from vodkeep.catalog.lifetime import KEPT
from vodkeep.db.events import EventLog
from vodkeep.db.tables import IS_PUBLICATION, IS_WAITING, UtcDateTime, channels, events, queue_counts, vods
from vodkeep.errors import UnknownItem, VodkeepError
from vodkeep.pipeline.due import TWITCH_STAGES, URGENT_WITHIN, DueReason, Publication, due_reason
from vodkeep.pipeline.model import RUNNING, Asked, Asker, DownloadState, QueueItem, Stage, check_move
from vodkeep.pipeline.outcome import BUG, OWN_CODES, Setback

_S = DownloadState

# The code of the events that start the count of attempts anew.
RESET = "reset"

# What moves without an error are called in `events.code`.
_RELEASED = "released"
_RESUMED = "resumed"

# So many videos of a channel say how large its next one will be.
_LATEST = 5

_LET_GO_SENTENCE = "Its video was let go by retention, and is not fetched again unless that is asked for."

_COLUMNS = (
    vods.c.twitch_vod_id,
    vods.c.channel,
    vods.c.title,
    vods.c.date,
    vods.c.duration_seconds,
    vods.c.processed,
    vods.c.processing_error,
    vods.c.error_code,
    vods.c.download_state,
    vods.c.download_retries,
    vods.c.not_before,
    vods.c.priority,
    vods.c.generation,
    vods.c.skip_upload,
    vods.c.downloaded_path,
    vods.c.fresh,
    vods.c.stage,
    vods.c.upload_retries,
    vods.c.back_catalogue,
    vods.c.created_at,
    vods.c.download_bytes,
    vods.c.download_total,
    vods.c.protected,
    vods.c.let_go_at,
)


class FenceLost(Exception):
    """The row is no longer this run's to write: another run, a cancel or an operator took it."""


class NotDue(Exception):
    """The item changed between planning and claiming; nothing was written."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What a run that lost its claim finds in the place of it."""

    state: DownloadState | None  # None: there is no row any more
    asked_by: str | None  # where a person asked for it, if one did


@dataclass(frozen=True, slots=True)
class Claim:
    """The right of one run to write one row."""

    item: QueueItem  # as it stands after the claim; its generation is the fence
    attempt: int  # which attempt this is since the last success or reset, from 1
    reason: DueReason
    corr: str  # follows the item from the request or cycle that made it due
    stage: Stage = Stage.CAPTURE

    @property
    def item_id(self) -> str:
        """The item's Twitch video id."""
        return self.item.twitch_vod_id


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """How many items there are, in the words of ``/status``."""

    pending: int  # unprocessed, neither errored nor canceled: queued, waiting or at work
    errored: int  # failed (tried again) or parked (needs a person)
    canceled: int
    processed: int
    by_state: Mapping[DownloadState, int]
    incomplete: int = 0  # in their folder, with holes
    placeholders: int = 0  # known from their live stream only; in none of the others
    unmatched: int = 0  # placeholders for which no VOD was found

    @property
    def depth(self) -> int:
        """Unprocessed items, whatever the reason."""
        return self.pending + self.errored + self.canceled


@dataclass(frozen=True, slots=True)
class ItemSummary:
    """An item as lists show it."""

    twitch_vod_id: str
    channel: str
    title: str
    date: datetime | None
    duration_seconds: int | None
    download_state: DownloadState
    processed: bool
    processing_error: str | None
    error_code: str | None
    download_retries: int
    not_before: datetime | None
    download_bytes: int
    download_total: int | None
    progress_updated_at: datetime | None
    downloaded_path: str | None
    youtube_url: str | None
    completeness: float | None
    priority: int
    updated_at: datetime


_SUMMARY_COLUMNS = (
    vods.c.twitch_vod_id,
    vods.c.channel,
    vods.c.title,
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
    vods.c.completeness,
    vods.c.priority,
    vods.c.updated_at,
)


class QueueStore:
    """The queue on one connection; the caller's unit of work commits. Times are aware and in UTC."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # --- reading -------------------------------------------------------------------------------------------------

    def load_queue(
        self,
        now: datetime,
        *,
        limit: int,
        stage: Stage = Stage.CAPTURE,
        running: Collection[str] = (),
        shut_channels: Collection[str] = (),
    ) -> list[QueueItem]:
        """The rows among which :func:`~vodkeep.pipeline.due.plan_due` chooses the first ``limit`` of a stage.

        Those that Twitch deletes next, and the heads of the queues of new broadcasts and of the back-catalogue; so
        there are up to ``limit`` of each, in no order. ``running`` ids and the items of ``shut_channels`` (an open
        breaker) are left out here and not by the planner, so that they never crowd out what can run. A row whose
        wait is over counts as due once :meth:`ripen` has seen it.

        No part of this takes longer because more is waiting: a channel costs a look at the head of its queue.
        """
        looking = _Looking(stage, tuple(running), tuple(shut_channels), limit)
        ids = self._expiring(now, looking) if stage in TWITCH_STAGES else []
        for back_catalogue in (False, True):
            ids += self._heads(looking, back_catalogue=back_catalogue)
        return self._items(select(*_COLUMNS).where(vods.c.id.in_(set(ids)))) if ids else []

    def _expiring(self, now: datetime, looking: _Looking) -> list[int]:
        """The rows that Twitch deletes within a day; see :func:`~vodkeep.pipeline.due.expires_at`."""
        found: list[int] = []
        for kept in KEPT:
            query = (
                select(vods.c.id)
                .join(channels, channels.c.login == vods.c.channel, isouter=True)
                .where(
                    *looking.rows(vods),
                    *looking.channels(vods.c.channel),
                    vods.c.date.is_not(None),
                    vods.c.sort_date > now - kept,
                    vods.c.sort_date <= now - kept + URGENT_WITHIN,
                    func.coalesce(channels.c.vod_days, 0) <= kept.days,
                )
                .order_by(*_queue_order(vods))
                .limit(looking.limit)
            )
            found += self._connection.execute(query).scalars()
        return found

    def _heads(self, looking: _Looking, *, back_catalogue: bool) -> list[int]:
        """The first rows over all channels, of new broadcasts or of the back-catalogue.

        An order over all rows at once would pass those of shut channels one by one. So each channel is asked for its
        head; the first ``limit`` rows lie in the channels of the best ``limit`` heads, and the next channel's at most
        one row less deep.
        """
        wanted = queue_counts.c.processed if looking.stage is Stage.TIDY else _UNPROCESSED
        known = select(queue_counts.c.channel).where(wanted > 0, *looking.channels(queue_counts.c.channel))
        channel = known.subquery()
        one = vods.alias()
        head = (
            select(one.c.id)
            .where(*looking.rows(one), one.c.channel == channel.c.channel, one.c.back_catalogue == int(back_catalogue))
            .order_by(*_queue_order(one))
            .limit(1)
            .scalar_subquery()
        )
        heads = select(head.label("id")).select_from(channel).subquery()
        key = (vods.c.id, vods.c.channel, *_QUEUE_KEY)
        best = self._connection.execute(
            select(*key).join(heads, heads.c.id == vods.c.id).order_by(*_queue_order(vods)).limit(looking.limit)
        ).all()
        found = {row.id: row for row in best}
        for passed, row in enumerate(best):
            if looking.limit - passed > 1:
                query = (
                    select(*key)
                    .where(
                        *looking.rows(vods),
                        vods.c.channel == row.channel,
                        vods.c.back_catalogue == int(back_catalogue),
                    )
                    .order_by(*_queue_order(vods))
                    .limit(looking.limit - passed)
                )
                found.update((each.id, each) for each in self._connection.execute(query))
        first = sorted(found.values(), key=lambda row: (-row.priority, row.sort_date, row.twitch_vod_id))
        return [row.id for row in first[: looking.limit]]

    def ripen(self, now: datetime, *, limit: int = 1000) -> int:
        """Let up to ``limit`` rows count as due whose ``not_before`` is over; returns how many there were.

        Sorted by priority and date they are found at once; by the end of their waits they are not.
        """
        ripe = self._waiting().where(vods.c.not_before <= now).order_by(vods.c.not_before).limit(limit)
        changed = self._connection.execute(
            # Looked at twice: an attempt may have begun, and failed with a new wait, in between.
            update(vods)
            .where(vods.c.id.in_(ripe.with_only_columns(vods.c.id)), vods.c.not_before <= now)
            .values(not_before=None)
        )
        return changed.rowcount

    def next_not_before(self) -> datetime | None:
        """The first instant at which a row becomes due by itself; in the past when :meth:`ripen` has work."""
        first: datetime | None = self._connection.execute(self._waiting().order_by(vods.c.not_before).limit(1)).scalar()
        return first

    def _waiting(self) -> Select[Any]:
        return select(vods.c.not_before).where(
            IS_WAITING, vods.c.download_state.in_([_S.PENDING, _S.WAITING, _S.FAILED, _S.DOWNLOADED])
        )

    def load_items(self, item_ids: Collection[str]) -> list[QueueItem]:
        """Those of ``item_ids`` that have a row."""
        return self._items(select(*_COLUMNS).where(vods.c.twitch_vod_id.in_(item_ids))) if item_ids else []

    def load_lifetimes(self, logins: Collection[str]) -> dict[str, timedelta]:
        """How long Twitch keeps the recordings of these channels, as far as their lists have shown it."""
        if not logins:
            return {}
        query = select(channels.c.login, channels.c.vod_days).where(
            channels.c.login.in_(logins), channels.c.vod_days.is_not(None)
        )
        return {login: timedelta(days=days) for login, days in self._connection.execute(query)}

    def load_byte_rates(self, logins: Collection[str]) -> dict[str, float]:
        """Bytes a second of the latest videos of these channels; one without any is absent."""
        rates = {}
        for login in logins:
            latest = self._connection.execute(
                select(vods.c.download_bytes, vods.c.duration_seconds)
                .where(vods.c.channel == login, vods.c.download_state == _S.DONE)
                .order_by(vods.c.sort_date.desc(), vods.c.id.desc())
                .limit(_LATEST)
            ).all()
            known = [row for row in latest if row.download_bytes and row.duration_seconds]
            if known:
                seconds = sum(row.duration_seconds for row in known)
                rates[login] = sum(row.download_bytes for row in known) / seconds
        return rates

    def load_published(self, since: datetime) -> list[Publication]:
        """What was published after ``since``."""
        moves = self._connection.execute(
            select(events.c.twitch_vod_id, events.c.at).where(IS_PUBLICATION, events.c.at > since)
        ).all()
        old = select(vods.c.twitch_vod_id).where(
            vods.c.twitch_vod_id.in_({move.twitch_vod_id for move in moves}), vods.c.back_catalogue == 1
        )
        old_ids = set(self._connection.execute(old).scalars()) if moves else set()
        return [Publication(move.at, move.twitch_vod_id in old_ids) for move in moves]

    def find(self, item_id: str) -> QueueItem | None:
        """The item, or ``None`` when no row has this id."""
        rows = self._items(select(*_COLUMNS).where(vods.c.twitch_vod_id == item_id))
        return rows[0] if rows else None

    def summary(self, item_id: str) -> ItemSummary | None:
        """The item as lists show it, or ``None`` when no row has this id."""
        found = self._summaries(select(*_SUMMARY_COLUMNS).where(vods.c.twitch_vod_id == item_id))
        return found[0] if found else None

    def in_library(self, item_ids: Collection[str]) -> set[str]:
        """Those of ``item_ids`` whose rows say that nothing is left to capture."""
        query = select(vods.c.twitch_vod_id).where(
            vods.c.twitch_vod_id.in_(item_ids), vods.c.download_state.in_([_S.DOWNLOADED, _S.UPLOADING, _S.DONE])
        )
        return set(self._connection.execute(query).scalars())

    def known(self, item_ids: Collection[str]) -> set[str]:
        """Those of ``item_ids`` that have a row."""
        query = select(vods.c.twitch_vod_id).where(vods.c.twitch_vod_id.in_(item_ids))
        return set(self._connection.execute(query).scalars())

    def load_unpublishable(self, *, limit: int, publishes: bool) -> list[QueueItem]:
        """Items in their folder of which nothing is to be published: marked so, or nothing is published at all."""
        stages = ["done"] if publishes else ["done", Stage.PUBLISH]
        query = select(*_COLUMNS).where(vods.c.due_stage.in_(stages))
        return self._items(query.order_by(vods.c.due_stage, vods.c.sort_date).limit(limit))

    def load_placed(self) -> list[QueueItem]:
        """Every item that has or had a folder in the library, oldest broadcast first, whatever its state."""
        return self._items(
            select(*_COLUMNS)
            .where(vods.c.downloaded_path.is_not(None))
            .order_by(vods.c.date.asc().nulls_last(), vods.c.twitch_vod_id)
        )

    def holds(self, claim: Claim) -> bool:
        """Whether the claim is still good; takes no lock."""
        state = self._connection.execute(select(vods.c.download_state).where(*_fence(claim))).scalar_one_or_none()
        return state in _HOLDING[claim.stage]

    def hold(self, claim: Claim) -> None:
        """Return if the claim is good, and keep it so until the transaction ends; raises `FenceLost`."""
        self._held_state(claim)

    def ended(self, claim: Claim, state: DownloadState) -> bool:
        """Whether the claim's own run has left the item in ``state``, and nobody has taken it since; takes no lock."""
        found = self._connection.execute(select(vods.c.download_state).where(*_of_generation(claim)))
        return found.scalar_one_or_none() == state

    def own_failures(self, item_id: str, stage: Stage = Stage.CAPTURE) -> int:
        """Failures of a stage whose cause was the item's own since its capture or a reset, from its timeline."""
        timeline = select(events.c.id).where(events.c.twitch_vod_id == item_id)
        captured = and_(events.c.to_state == _S.DOWNLOADED, events.c.from_state == _S.VERIFYING)
        starts = timeline.where(or_(captured, events.c.code == RESET))
        start = self._connection.execute(starts.order_by(events.c.id.desc()).limit(1)).scalar() or 0
        return self._connection.execute(
            select(func.count())
            .select_from(events)
            .where(
                events.c.twitch_vod_id == item_id,
                events.c.id > start,
                events.c.from_state.in_(_AT_WORK[stage]),
                events.c.to_state == _S.FAILED,
                events.c.code.in_(OWN_CODES),
            )
        ).scalar_one()

    def counts(self, channel: str | None = None) -> QueueCounts:
        """Figures of one channel, or of all."""
        return total(self._counts(channel).values())

    def counts_by_channel(self) -> dict[str, QueueCounts]:
        """Figures of every channel that has an item."""
        return self._counts(None)

    def depths(self) -> dict[str, int]:
        """Unprocessed items per channel; a channel without any is absent."""
        query = select(queue_counts.c.channel, _UNPROCESSED).where(_UNPROCESSED > 0)
        return {row[0]: row[1] for row in self._connection.execute(query).all()}

    def depth(self) -> int:
        """Unprocessed items of all channels."""
        return int(self._connection.execute(select(func.sum(_UNPROCESSED))).scalar() or 0)

    def load_list(
        self, *, limit: int, states: Collection[DownloadState] = (), channel: str | None = None
    ) -> list[ItemSummary]:
        """Items in the order in which they are taken, whether due or not; without ``states`` the unprocessed ones.

        Placeholders are not among them: they are never taken.
        """
        query = (
            select(*_SUMMARY_COLUMNS)
            .where(vods.c.twitch_vod_id.not_like(f"{placeholder.PREFIX}%"))
            .order_by(vods.c.priority.desc(), vods.c.date.asc().nulls_last(), vods.c.twitch_vod_id)
            .limit(limit)
        )
        query = query.where(vods.c.download_state.in_(states) if states else vods.c.processed == 0)
        return self._summaries(query if channel is None else query.where(vods.c.channel == channel))

    def load_recent(self, *, limit: int, channel: str | None = None) -> list[ItemSummary]:
        """The newest broadcasts, newest first; those without a date last."""
        query = select(*_SUMMARY_COLUMNS).order_by(vods.c.date.desc().nulls_last(), vods.c.id.desc()).limit(limit)
        return self._summaries(query if channel is None else query.where(vods.c.channel == channel))

    # --- a run's writes ------------------------------------------------------------------------------------------

    def claim(self, item: QueueItem, now: datetime, *, corr: str, stage: Stage = Stage.CAPTURE) -> Claim:
        """Take ``item`` for a new run of ``stage``: raise its generation and set it ``downloading`` or ``uploading``.

        While its chat is seen to it stays ``downloaded``: the picture is in its folder, whatever becomes of the chat.

        An operator's reset starts the count of attempts anew. The claim carries the correlation id of the item's last
        event, so that a request or the discovery can be followed through the run; ``corr`` stands in when there
        is none. Raises :class:`NotDue` when the row is not as it was planned.
        """
        row = self._locked(item.twitch_vod_id)
        if row is None or row.generation != item.generation or row.download_state is not item.download_state:
            raise NotDue(f"{item.twitch_vod_id} changed since it was planned")
        reason = due_reason(row, now, stage)
        if reason is None:
            raise NotDue(f"{item.twitch_vod_id} is not due for {stage}")
        target = _BEGUN[stage]
        check_move(row.download_state, target, stage=row.stage)
        anew = reason is DueReason.RESET
        values: dict[str, Any] = {
            "generation": vods.c.generation + 1,
            "download_state": target,
            "stage": stage,
            "processing_error": None,
            "error_code": None,
            "not_before": None,
            "updated_at": now,
        }
        if anew:
            values |= {"download_retries": 0, "upload_retries": 0, "download_bytes": 0, "download_total": None}
        if anew or reason is DueReason.NEW:
            values["progress_updated_at"] = None
        changed = self._connection.execute(
            update(vods)
            .where(vods.c.twitch_vod_id == item.twitch_vod_id, vods.c.generation == item.generation)
            .values(values)
        )
        if changed.rowcount != 1:
            raise NotDue(f"{item.twitch_vod_id} was claimed by another run")
        corr = self._last_corr(item.twitch_vod_id) or corr
        code, sentence = _CLAIM_WORDS[reason]
        # Requests that came in by any other way have made the item pending, and said so themselves.
        asked_by = Asker.SQL if anew else None
        self._append(item.twitch_vod_id, row.download_state, target, now, corr, code, sentence, asked_by=asked_by)
        claimed = replace(
            row,
            generation=row.generation + 1,
            download_state=target,
            stage=stage,
            download_retries=0 if anew else row.download_retries,
            upload_retries=0 if anew else row.upload_retries,
            processing_error=None,
            error_code=None,
            not_before=None,
        )
        return Claim(claimed, claimed.retries(stage) + 1, reason, corr, stage)

    def save_progress(self, claim: Claim, now: datetime, *, fetched_bytes: int, total_bytes: int | None) -> None:
        """Write how far the run is; callers keep to once a second."""
        changed = self._connection.execute(
            update(vods)
            .where(*_fence(claim), vods.c.download_state.in_(RUNNING))
            .values(download_bytes=fetched_bytes, download_total=total_bytes, progress_updated_at=now, updated_at=now)
        )
        if changed.rowcount != 1:
            raise _lost(claim)

    def save_verifying(self, claim: Claim, now: datetime) -> None:
        """Everything is fetched and being checked; again is harmless."""
        if self._held_state(claim) is not _S.VERIFYING:
            self._move(claim, _S.VERIFYING, now)

    def save_captured(
        self,
        claim: Claim,
        now: datetime,
        *,
        path: str,
        size_bytes: int,
        completeness: float,
        publish: bool,
        chat: bool = False,
        let_go: bool = False,
    ) -> DownloadState:
        """The broadcast is in its folder, whole; return the state it now has.

        With ``let_go`` all but its video is, which retention let go and which was not fetched again.

        With ``chat`` the item stays unprocessed in ``downloaded`` for that stage. With ``publish`` likewise for that
        one, unless it is marked ``skip_upload``; otherwise it is ``done`` and processed.
        """
        self.save_verifying(claim, now)
        # Read now and not at the claim: somebody may have changed it during the hours between.
        skip_upload = self._connection.execute(select(vods.c.skip_upload).where(*_fence(claim))).scalar_one()
        self._move(
            claim,
            _S.DOWNLOADED,
            now,
            values={
                "downloaded_path": path,
                "download_bytes": size_bytes,
                "download_total": size_bytes,
                "progress_updated_at": now,
                "completeness": completeness,
                "download_retries": 0,
                "fresh": 0,
                "stage": Stage.CHAT if chat else Stage.PUBLISH,
                "let_go_at": func.coalesce(vods.c.let_go_at, literal(now, UtcDateTime())) if let_go else None,
            },
            sentence=_LET_GO_SENTENCE if let_go else "The broadcast is whole and in its folder.",
        )
        if chat or (publish and not skip_upload):
            return _S.DOWNLOADED
        self._move(claim, _S.DONE, now, source=_S.DOWNLOADED, values=_PROCESSED)
        return _S.DONE

    def save_chat(
        self,
        claim: Claim,
        now: datetime,
        *,
        completeness: float | None,
        messages: int | None,
        publish: bool,
        code: str | None,
        sentence: str,
        remedy: str = "",
    ) -> DownloadState:
        """The item's chat is in its folder as far as it can be had; return the state the item now has.

        ``None`` leaves what is known of the chat as it is. ``publish`` as in `save_captured`.
        """
        known = {"chat_completeness": completeness, "chat_messages": messages}
        values: dict[str, Any] = {name: value for name, value in known.items() if value is not None}
        values["download_retries"] = 0
        skip_upload = self._connection.execute(select(vods.c.skip_upload).where(*_fence(claim))).scalar_one_or_none()
        stays = publish and not skip_upload
        if stays:
            values["stage"] = Stage.PUBLISH
        self._move(claim, _S.DOWNLOADED, now, values=values, code=code, sentence=sentence, remedy=remedy)
        if stays:
            return _S.DOWNLOADED
        self._move(claim, _S.DONE, now, source=_S.DOWNLOADED, values=_PROCESSED)
        return _S.DONE

    def save_chat_setback(self, claim: Claim, now: datetime, setback: Setback) -> None:
        """The chat could not be seen to; it is due again after ``setback.not_before``.

        The item stays ``downloaded`` and carries no error: its picture is whole.
        """
        values: dict[str, Any] = {"not_before": setback.not_before}
        if setback.counts:
            values["download_retries"] = vods.c.download_retries + 1
        self._move_back(claim, _S.DOWNLOADED, now, setback, values)

    def captured_within(self, item_id: str, now: datetime) -> tuple[timedelta, timedelta] | None:
        """How long the last capture took, and how long ago it began; ``None`` when the timeline does not say."""
        moments = []
        for target in (_S.DOWNLOADING, _S.VERIFYING):
            to_state = events.c.to_state if target is _S.DOWNLOADING else events.c.from_state
            last = self._connection.execute(
                select(events.c.at)
                .where(events.c.twitch_vod_id == item_id, to_state == target)
                .order_by(events.c.id.desc())
                .limit(1)
            ).scalar_one_or_none()
            if last is None:
                return None
            moments.append(last)
        began, ended = moments
        return max(timedelta(), ended - began), max(timedelta(), now - began)

    def save_published(self, claim: Claim, now: datetime, *, youtube_url: str) -> None:
        """The broadcast is public, verified; nothing is left to do."""
        values = {**_PROCESSED, "youtube_url": youtube_url, "upload_retries": 0}
        self._move(claim, _S.DONE, now, values=values, sentence="Published.")

    def save_setback(self, claim: Claim, now: datetime, setback: Setback) -> None:
        """The attempt ended without success: the item waits, has failed or is parked."""
        match setback.state:
            case DownloadState.WAITING:
                self.save_waiting(claim, now, setback)
            case DownloadState.FAILED:
                self.save_failed(claim, now, setback)
            case DownloadState.PARKED:
                self.save_parked(claim, now, setback)
            case _:
                raise ValueError(f"an attempt never ends in {setback.state}")

    def note_part(
        self,
        claim: Claim,
        now: datetime,
        *,
        path: str,
        size_bytes: int,
        completeness: float,
        chat_completeness: float | None = None,
        chat_messages: int | None = None,
    ) -> None:
        """A broadcast with holes lies in its folder; what that means for the item is a setback's to say.

        ``None`` leaves what is known of the chat as it is.
        """
        chat = {"chat_completeness": chat_completeness, "chat_messages": chat_messages}
        changed = self._connection.execute(
            update(vods)
            .where(*_fence(claim))
            .values(
                downloaded_path=path,
                download_bytes=size_bytes,
                download_total=size_bytes,
                progress_updated_at=now,
                completeness=completeness,
                **{name: value for name, value in chat.items() if value is not None},
                let_go_at=None,
            )
        )
        if changed.rowcount != 1:
            raise _lost(claim)

    def save_waiting(self, claim: Claim, now: datetime, setback: Setback) -> None:
        """The broadcast has not ended; nothing has failed, so nothing is written as an error."""
        self._move_back(claim, _S.WAITING, now, setback, {"not_before": setback.not_before})

    def save_failed(self, claim: Claim, now: datetime, setback: Setback) -> None:
        """The attempt failed; the item is due again after ``setback.not_before``."""
        self._move_back(claim, _S.FAILED, now, setback, _error_values(claim, setback))

    def save_parked(self, claim: Claim, now: datetime, setback: Setback) -> None:
        """The item needs a person."""
        self._move_back(claim, _S.PARKED, now, setback, _error_values(claim, setback))

    def release(self, claim: Claim, now: datetime) -> None:
        """Hand the item back unfinished at a shutdown: due at the next start, no failure counted."""
        self._move(
            claim,
            _HANDED_BACK[claim.stage],
            now,
            values={"not_before": None},
            code=_RELEASED,
            sentence="The service stopped; what was fetched is kept.",
        )

    def postpone(self, claim: Claim, now: datetime, *, until: datetime, error: VodkeepError) -> None:
        """Hand the item back untouched, because its turn has not come: due again at ``until``, nothing counted."""
        values = {"not_before": until}
        self._move(claim, _HANDED_BACK[claim.stage], now, values=values, code=error.code, sentence=str(error))

    # --- moves from outside of a run -----------------------------------------------------------------------------

    def lock(self, item_id: str) -> QueueItem:
        """The item, which nobody else changes until the transaction ends; raises `UnknownItem`."""
        item = self._locked(item_id)
        if item is None:
            raise UnknownItem(f"There is no item {item_id}.")
        return item

    def adopt(
        self, item: QueueItem, now: datetime, values: Mapping[str, Any], *, asked: Asked, kind: str, sentence: str
    ) -> None:
        """Write what was found of an item in a folder, its state among it, whatever state it was in.

        ``item`` is as :meth:`lock` gave it. No move of the state machine: nothing was done to the item here.
        """
        changed = self._connection.execute(
            update(vods)
            .where(vods.c.twitch_vod_id == item.twitch_vod_id, vods.c.generation == item.generation)
            .values({**values, "not_before": None, "generation": vods.c.generation + 1, "updated_at": now})
        )
        if changed.rowcount != 1:
            raise FenceLost(f"{item.twitch_vod_id} changed meanwhile")
        EventLog(self._connection).append(
            item.twitch_vod_id,
            at=now,
            kind=kind,
            from_state=item.download_state,
            to_state=values["download_state"],
            sentence=sentence,
            corr=asked.corr,
            asked_by=asked.by,
        )

    def take_over(
        self,
        item: QueueItem,
        now: datetime,
        values: Mapping[str, Any],
        *,
        asked: Asked | None,
        code: str | None,
        sentence: str,
    ) -> QueueItem:
        """Write ``values``, the new state among them, and raise the generation: whoever runs the item loses its fence.

        ``item`` is as :meth:`lock` gave it.
        """
        target = DownloadState(values["download_state"])
        if target is not item.download_state:
            check_move(item.download_state, target, stage=item.stage)
        changed = self._connection.execute(
            update(vods)
            .where(vods.c.twitch_vod_id == item.twitch_vod_id, vods.c.generation == item.generation)
            .values({**values, "generation": vods.c.generation + 1, "updated_at": now})
        )
        if changed.rowcount != 1:
            raise FenceLost(f"{item.twitch_vod_id} changed meanwhile")
        corr, asked_by = (asked.corr, asked.by) if asked is not None else (None, None)
        self._append(item.twitch_vod_id, item.download_state, target, now, corr, code, sentence, asked_by=asked_by)
        after = self.find(item.twitch_vod_id)
        assert after is not None
        return after

    def note_loss(self, claim: Claim, now: datetime) -> Loss:
        """Find out who took the item from a run; a change by hand gets the event here that nobody wrote.

        Such a change leaves the generation as it is, and the timeline without a word about the present state.
        """
        row = self._locked(claim.item_id)
        if row is None:
            return Loss(None, None)
        last = self._connection.execute(
            select(events.c.to_state, events.c.asked_by)
            .where(events.c.twitch_vod_id == claim.item_id, events.c.to_state.is_not(None))
            .order_by(events.c.id.desc())
            .limit(1)
        ).one()
        by_hand = row.generation == claim.item.generation and row.download_state not in RUNNING
        if not by_hand or last.to_state not in RUNNING:
            return Loss(row.download_state, last.asked_by)
        self._connection.execute(
            update(vods)
            .where(vods.c.twitch_vod_id == claim.item_id)
            .values(generation=vods.c.generation + 1, updated_at=now)
        )
        self._append(
            claim.item_id,
            DownloadState(last.to_state),
            row.download_state,
            now,
            claim.corr,
            None,
            "Changed by hand.",
            asked_by=Asker.SQL,
        )
        return Loss(row.download_state, Asker.SQL)

    def settle_captured(self, item: QueueItem, now: datetime) -> QueueItem:
        """An item in its folder becomes ``done``, because nothing is to be published; raises :class:`FenceLost`."""
        current = self._locked(item.twitch_vod_id)
        if current is None or current.generation != item.generation or current.download_state != item.download_state:
            raise FenceLost(f"{item.twitch_vod_id} changed meanwhile")
        if current.download_state is not _S.DOWNLOADED:
            back = {"download_state": _S.DOWNLOADED, "stage": Stage.PUBLISH}
            current = self.take_over(
                current, now, back, asked=None, code=None, sentence="Its upload is not tried any more."
            )
        values = {"download_state": _S.DONE, **_PROCESSED}
        return self.take_over(current, now, values, asked=None, code=None, sentence="Nothing is to be published.")

    # --- how it is done ------------------------------------------------------------------------------------------

    def _move(
        self,
        claim: Claim,
        target: DownloadState,
        now: datetime,
        *,
        source: DownloadState | None = None,
        values: Mapping[str, Any] | None = None,
        code: str | None = None,
        sentence: str = "",
        remedy: str = "",
    ) -> None:
        source = source or self._held_state(claim)
        check_move(source, target, stage=claim.stage)
        changed = self._connection.execute(
            update(vods)
            .where(*_fence(claim), vods.c.download_state == source)
            .values({"download_state": target, "updated_at": now, **(values or {})})
        )
        if changed.rowcount != 1:
            raise _lost(claim)
        self._append(claim.item_id, source, target, now, claim.corr, code, sentence, remedy)

    def _move_back(
        self, claim: Claim, target: DownloadState, now: datetime, setback: Setback, values: Mapping[str, Any]
    ) -> None:
        self._move(
            claim,
            target,
            now,
            values=values,
            code=setback.code,
            sentence=setback.sentence,
            remedy=setback.remedy,
        )

    def _held_state(self, claim: Claim) -> DownloadState:
        """The running state the claim's row is in; locked until the transaction ends."""
        state = self._connection.execute(
            select(vods.c.download_state).where(*_fence(claim)).with_for_update()
        ).scalar_one_or_none()
        if state not in _HOLDING[claim.stage]:
            raise _lost(claim)
        return DownloadState(state)

    def _locked(self, item_id: str) -> QueueItem | None:
        rows = self._items(select(*_COLUMNS).where(vods.c.twitch_vod_id == item_id).with_for_update())
        return rows[0] if rows else None

    def _items(self, query: Select[Any]) -> list[QueueItem]:
        return [_item(row) for row in self._connection.execute(query).mappings().all()]

    def _summaries(self, query: Select[Any]) -> list[ItemSummary]:
        return [_summary(row) for row in self._connection.execute(query).mappings()]

    def _last_corr(self, item_id: str) -> str | None:
        corr: str | None = self._connection.execute(
            select(events.c.corr).where(events.c.twitch_vod_id == item_id).order_by(events.c.id.desc()).limit(1)
        ).scalar_one_or_none()
        return corr

    def _append(
        self,
        item_id: str,
        source: DownloadState,
        target: DownloadState,
        now: datetime,
        corr: str | None,
        code: str | None,
        sentence: str,
        remedy: str = "",
        *,
        asked_by: str | None = None,
    ) -> None:
        EventLog(self._connection).append(
            item_id,
            at=now,
            kind="state",
            from_state=source,
            to_state=target,
            code=code,
            sentence=sentence,
            remedy=remedy,
            corr=corr,
            asked_by=asked_by,
        )

    def _counts(self, channel: str | None) -> dict[str, QueueCounts]:
        query = _COUNTS if channel is None else _COUNTS.where(queue_counts.c.channel == channel)
        counts = {login: _tallied(*figures) for login, *figures in self._connection.execute(query).all()}
        return {login: each for login, each in counts.items() if each.depth or each.processed or each.placeholders}


@dataclass(frozen=True, slots=True)
class _Looking:
    """What :meth:`QueueStore.load_queue` looks for."""

    stage: Stage
    running: tuple[str, ...]  # ids
    shut: tuple[str, ...]  # channels
    limit: int

    def rows(self, table: FromClause) -> list[ColumnElement[bool]]:
        """Conditions on rows of ``vods``."""
        at_work = [table.c.twitch_vod_id.not_in(self.running)] if self.running else []
        return [table.c.due_stage == self.stage, *at_work]

    def channels(self, column: ColumnElement[str]) -> list[ColumnElement[bool]]:
        """Conditions on the channel."""
        return [column.not_in(self.shut)] if self.shut else []


_QUEUE_KEY = (vods.c.priority, vods.c.sort_date, vods.c.twitch_vod_id)


def _queue_order(table: FromClause) -> tuple[ColumnElement[Any], ...]:
    """The order of :func:`~vodkeep.pipeline.due.queue_key`, which is that of an index."""
    return (table.c.priority.desc(), table.c.sort_date, table.c.twitch_vod_id)


def total(counts: Iterable[QueueCounts]) -> QueueCounts:
    """The figures of several channels together."""
    each = list(counts)
    return QueueCounts(
        pending=sum(one.pending for one in each),
        errored=sum(one.errored for one in each),
        canceled=sum(one.canceled for one in each),
        processed=sum(one.processed for one in each),
        by_state={state: sum(one.by_state.get(state, 0) for one in each) for state in DownloadState},
        incomplete=sum(one.incomplete for one in each),
        placeholders=sum(one.placeholders for one in each),
        unmatched=sum(one.unmatched for one in each),
    )


_PROCESSED: Mapping[str, Any] = {
    "processed": 1,
    "stage": Stage.CAPTURE,  # with which it would begin again
    "processing_error": None,
    "error_code": None,
    "not_before": None,
}

# What a claim makes of a row, in which states its run can fail, and what it becomes when it is handed back.
_BEGUN = {Stage.CAPTURE: _S.DOWNLOADING, Stage.CHAT: _S.DOWNLOADED, Stage.PUBLISH: _S.UPLOADING}
_AT_WORK = {
    Stage.CAPTURE: (_S.DOWNLOADING, _S.VERIFYING),
    Stage.CHAT: (_S.DOWNLOADED,),
    Stage.PUBLISH: (_S.UPLOADING,),
}
_HANDED_BACK = {Stage.CAPTURE: _S.PENDING, Stage.CHAT: _S.DOWNLOADED, Stage.PUBLISH: _S.DOWNLOADED}

# In which states a claim is good. That of the chat is good in a state that nobody runs in, too: the generation alone
# tells whose it is.
_HOLDING = {
    Stage.CAPTURE: RUNNING,
    Stage.CHAT: frozenset({_S.DOWNLOADED}),
    Stage.PUBLISH: RUNNING,
}

_CLAIM_WORDS: Mapping[DueReason, tuple[str | None, str]] = {
    DueReason.NEW: (None, ""),
    DueReason.RETRY: (None, ""),
    DueReason.ENDED: (None, ""),
    DueReason.NEXT: (None, ""),
    DueReason.RESUMED: (_RESUMED, "The run before was cut off; what it fetched is kept."),
    DueReason.RESET: (RESET, "An operator asked for it again."),
}


def _lost(claim: Claim) -> FenceLost:
    return FenceLost(f"{claim.item_id} is no longer held by generation {claim.item.generation}")


def _of_generation(claim: Claim) -> tuple[Any, ...]:
    return (vods.c.twitch_vod_id == claim.item_id, vods.c.generation == claim.item.generation)


def _fence(claim: Claim) -> tuple[Any, ...]:
    """What of the row makes it this claim's; the states besides are those of :data:`_HOLDING`."""
    of_chat = (vods.c.stage == Stage.CHAT,) if claim.stage is Stage.CHAT else ()
    return (*_of_generation(claim), *of_chat)


def _error_values(claim: Claim, setback: Setback) -> dict[str, Any]:
    values: dict[str, Any] = {
        # Never empty: a settled row without it is an operator's reset.
        "processing_error": setback.sentence or setback.code or BUG,
        "error_code": setback.code,
        "not_before": setback.not_before,
    }
    if setback.counts:
        counter = vods.c.upload_retries if claim.stage is Stage.PUBLISH else vods.c.download_retries
        values[counter.name] = counter + 1
    return values


def _item(row: RowMapping) -> QueueItem:
    return QueueItem(
        twitch_vod_id=row["twitch_vod_id"],
        channel=row["channel"],
        title=row["title"],
        date=row["date"],
        duration_seconds=row["duration_seconds"],
        processed=bool(row["processed"]),
        processing_error=row["processing_error"],
        error_code=row["error_code"],
        download_state=DownloadState(row["download_state"]),
        download_retries=row["download_retries"],
        not_before=row["not_before"],
        priority=row["priority"],
        generation=row["generation"],
        skip_upload=bool(row["skip_upload"]),
        downloaded_path=row["downloaded_path"],
        fresh=bool(row["fresh"]),
        stage=Stage(row["stage"]),
        upload_retries=row["upload_retries"],
        back_catalogue=bool(row["back_catalogue"]),
        created_at=row["created_at"],
        download_bytes=row["download_bytes"],
        download_total=row["download_total"],
        protected=bool(row["protected"]),
        let_go=row["let_go_at"] is not None,
    )


def _summary(row: RowMapping) -> ItemSummary:
    values = dict(row)
    values["download_state"] = DownloadState(values["download_state"])
    values["processed"] = bool(values["processed"])
    return ItemSummary(**values)


def _tallied(
    errored: int, canceled: int, processed: int, incomplete: int, placeholders: int, unmatched: int, *states: int
) -> QueueCounts:
    return QueueCounts(
        pending=sum(states) - errored - canceled - processed,
        errored=errored,
        canceled=canceled,
        processed=processed,
        by_state=dict(zip(DownloadState, states, strict=True)),
        incomplete=incomplete,
        placeholders=placeholders,
        unmatched=unmatched,
    )


_STATES = [queue_counts.c[f"state_{state}"] for state in DownloadState]
_UNPROCESSED = sum(_STATES[1:], start=_STATES[0]) - queue_counts.c.processed
_COUNTS = select(
    queue_counts.c.channel,
    queue_counts.c.errored,
    queue_counts.c.canceled,
    queue_counts.c.processed,
    queue_counts.c.incomplete,
    queue_counts.c.placeholders,
    queue_counts.c.unmatched,
    *_STATES,
)
