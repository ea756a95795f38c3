"""What retention decided and how far that is, in the database; see `vodkeep.pipeline.retention`.

Every step names the state it begins in, and one that matches no row raises `Changed`: of several processes one goes on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, func, insert, or_, select, update

from vodkeep.db.events import EventLog
from vodkeep.db.tables import IS_CHECKED, IS_OPEN, publications, retention_entries, retention_plans, vods
from vodkeep.keep.manifest import LetGoEntry
from vodkeep.keep.retention import (
    EntryState,
    Judged,
    Plan,
    Policy,
    PublishedPart,
    RetentionItem,
    why_it_must_stay,
    why_unproven,
)
from vodkeep.pipeline.model import Asked, DownloadState, QueueItem

EVENT_KIND = "retention"

_S = EntryState


class Changed(Exception):
    """The item or the decision is not what it was; the message says how, as a sentence."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One recorded decision."""

    id: int
    plan_id: int
    twitch_vod_id: str
    state: EntryState
    path: str  # of the video, relative to the library
    size_bytes: int
    generation: int  # of the item when it was planned
    reason: str
    trash: str | None  # its folder in the trash, relative to the library
    note: str  # why it ended as it did
    moved_at: datetime | None  # since when it is in the trash, UTC
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class TrashFigures:
    """What is in the trash."""

    items: int
    bytes: int
    oldest: datetime | None  # since when the oldest is there


NOTHING = TrashFigures(0, 0, None)


class RetentionStore:
    """Retention's tables on one connection; the caller's unit of work commits. Times are aware and in UTC."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # --- reading -----------------------------------------------------------------------------------------------------

    def load_items(self, video_id: str | None = None) -> list[RetentionItem]:
        """Every broadcast whose video should be in its folder, or that one."""
        query = select(*_ITEM_COLUMNS).where(vods.c.downloaded_path.is_not(None), vods.c.let_go_at.is_(None))
        if video_id is not None:
            query = query.where(vods.c.twitch_vod_id == video_id)
        rows = self._connection.execute(query).mappings().all()
        if not rows:
            return []
        parts = self._parts(video_id)
        open_ones = self._open_ids()
        return [_item(row, parts.get(row["twitch_vod_id"], ()), open_ones) for row in rows]

    def load_parts(self, video_id: str) -> tuple[PublishedPart, ...]:
        """The parts of the item's latest publication, superseded or not."""
        return self._parts(video_id).get(video_id, ())

    def load_entries(self, states: Collection[EntryState] = (), *, limit: int | None = None) -> list[Entry]:
        """Decisions in one of ``states``, oldest first; without any, the newest ``limit`` of all, newest first."""
        query = select(*_ENTRY_COLUMNS)
        if states:
            query = query.where(IS_OPEN, retention_entries.c.state.in_(states)).order_by(retention_entries.c.id)
        else:
            query = query.order_by(retention_entries.c.id.desc())
        return [_entry(row) for row in self._connection.execute(query.limit(limit)).mappings()]

    def find_open(self, video_id: str) -> Entry | None:
        """The decision about the item's video that has not come to its end."""
        query = select(*_ENTRY_COLUMNS).where(IS_OPEN, retention_entries.c.twitch_vod_id == video_id)
        row = self._connection.execute(query).mappings().one_or_none()
        return None if row is None else _entry(row)

    def is_moving(self, video_id: str) -> bool:
        """Whether the item's video is on its way into the trash or back."""
        entry = self.find_open(video_id)
        return entry is not None and entry.state in (_S.MOVING, _S.RESTORING)

    def find(self, entry_id: int) -> Entry | None:
        """One decision."""
        query = select(*_ENTRY_COLUMNS).where(retention_entries.c.id == entry_id)
        row = self._connection.execute(query).mappings().one_or_none()
        return None if row is None else _entry(row)

    def trash_figures(self) -> TrashFigures:
        """How much is in the trash."""
        row = self._connection.execute(
            select(
                func.count(),
                func.coalesce(func.sum(retention_entries.c.size_bytes), 0),
                func.min(retention_entries.c.moved_at),
            ).where(IS_OPEN, retention_entries.c.moved_at.is_not(None))
        ).one()
        return TrashFigures(int(row[0]), int(row[1]), row[2])

    # --- writing -----------------------------------------------------------------------------------------------------

    def record(self, plan: Plan, now: datetime, asked: Asked | None) -> list[Entry]:
        """Write a plan down, in the place of any that was not begun; one that lets nothing go leaves no row."""
        self._connection.execute(
            update(retention_entries)
            .where(IS_OPEN, retention_entries.c.state == _S.PLANNED)
            .values(state=_S.DROPPED, note="A later plan took its place.", updated_at=now)
        )
        if not plan.going:
            return []
        plan_id = self._connection.execute(
            insert(retention_plans)
            .values(
                at=now,
                asked_by=None if asked is None else asked.by,
                going=len(plan.going),
                going_bytes=sum(each.item.size_bytes for each in plan.going),
                staying=len(plan.staying),
            )
            .returning(retention_plans.c.id)
        ).scalar_one()
        self._connection.execute(insert(retention_entries), [_planned(each, plan_id, now) for each in plan.going])
        query = select(*_ENTRY_COLUMNS).where(IS_OPEN, retention_entries.c.plan_id == plan_id)
        found = self._connection.execute(query.order_by(retention_entries.c.id)).mappings()
        return [_entry(row) for row in found]

    def begin_move(self, entry: Entry, trash: str, policy: Policy, now: datetime) -> None:
        """The video is about to be moved; the item says so from now on, and whoever planned to run it is too late.

        Raises `Changed` unless everything is still as it was when it was planned.
        """
        locked = select(vods.c.id).where(vods.c.twitch_vod_id == entry.twitch_vod_id).with_for_update()
        self._connection.execute(locked)
        item = next(iter(self.load_items(entry.twitch_vod_id)), None)
        if item is None:
            raise Changed("Its video is not in its folder any more, by its row.")
        if item.generation != entry.generation or item.path != entry.path:
            raise Changed("It changed since it was planned.")
        reason = why_it_must_stay(item)
        if reason is None and not policy.only_copy:
            reason = why_unproven(item.parts, policy, now)
        if reason is not None:
            raise Changed(reason)
        self._step(entry, (_S.PLANNED,), _S.MOVING, now, trash=trash, moved_at=None)
        self._connection.execute(
            update(vods)
            .where(vods.c.twitch_vod_id == entry.twitch_vod_id)
            .values(let_go_at=now, generation=vods.c.generation + 1, updated_at=now)
        )

    def finish_move(self, entry: Entry, now: datetime) -> None:
        """The video is in the trash."""
        self._step(entry, (_S.MOVING,), _S.TRASHED, now, moved_at=now)
        self._tell(entry, now, code="let_go", sentence=f"Its video is in the trash. {entry.reason}")

    def abandon_move(self, entry: Entry, now: datetime, note: str) -> None:
        """The move came to nothing; the video is in its folder, or was never ours to find."""
        self._step(entry, (_S.PLANNED, _S.MOVING), _S.DROPPED, now, note=note)
        if entry.state is _S.MOVING:
            self._bring_back(entry, now)

    def begin_restore(self, entry: Entry, now: datetime, asked: Asked | None) -> None:
        """The video is about to leave the trash; one that a person wants back is protected from now on."""
        self._step(entry, (_S.TRASHED, _S.RESTORING), _S.RESTORING, now)
        if asked is not None:
            self._connection.execute(
                update(vods).where(vods.c.twitch_vod_id == entry.twitch_vod_id).values(protected=1, updated_at=now)
            )

    def finish_restore(self, entry: Entry, now: datetime, asked: Asked | None, reason: str) -> None:
        """The video is back in its folder."""
        self._step(entry, (_S.RESTORING,), _S.RESTORED, now, note=reason)
        self._bring_back(entry, now)
        self._tell(entry, now, code="restored", sentence=f"Its video is back in its folder. {reason}", asked=asked)

    def keep_in_trash(self, entry: Entry, now: datetime, note: str) -> None:
        """The video could not be brought back, and stays where it is."""
        self._step(entry, (_S.TRASHED, _S.RESTORING), _S.TRASHED, now, note=note)

    def begin_removal(self, entry: Entry, policy: Policy, now: datetime) -> None:
        """The video is about to be removed for good; raises `Changed` unless nothing speaks against it."""
        reason = self.why_not_removed(entry, policy, now)
        if reason is not None:
            raise Changed(reason)
        self._step(entry, (_S.TRASHED,), _S.REMOVING, now)

    def why_not_removed(self, entry: Entry, policy: Policy, now: datetime) -> str | None:
        """Why a video in the trash stays there, as a sentence."""
        if entry.moved_at is None or now < entry.moved_at + policy.trash_window:
            return "It can still be undone."
        if policy.only_copy:
            return None
        parts = self.load_parts(entry.twitch_vod_id)
        reason = why_unproven(parts, policy, now)
        if reason is None and any(
            part.checked_at is None or part.checked_at < entry.moved_at + policy.trash_window for part in parts
        ):
            reason = "YouTube has not been asked again since the time for an undo is over."
        return reason

    def ask_again(self, entry: Entry, now: datetime) -> None:
        """Have YouTube asked about the item before its video is removed for good."""
        self._connection.execute(
            update(publications)
            .where(
                IS_CHECKED,
                publications.c.twitch_vod_id == entry.twitch_vod_id,
                or_(publications.c.next_check_at.is_(None), publications.c.next_check_at > now),
            )
            .values(next_check_at=now, updated_at=now)
        )

    def finish_removal(self, entry: Entry, now: datetime) -> None:
        """The video is gone for good."""
        self._step(entry, (_S.REMOVING,), _S.REMOVED, now)
        self._tell(entry, now, code="removed", sentence=f"Its video was removed for good. {entry.reason}")

    def adopt(self, item: QueueItem, gone: LetGoEntry, now: datetime) -> None:
        """Record a video in the trash of which only the item's manifest knows."""
        assert item.downloaded_path is not None
        entry = {
            "plan_id": 0,
            "twitch_vod_id": item.twitch_vod_id,
            "state": _S.TRASHED,
            "path": item.downloaded_path,
            "size_bytes": gone.file.size_bytes,
            "generation": item.generation,
            "reason": gone.reason,
            "trash": gone.trash,
            "moved_at": gone.at,
            "created_at": now,
            "updated_at": now,
        }
        self._connection.execute(insert(retention_entries).values(entry))

    # --- how it is done ----------------------------------------------------------------------------------------------

    def _step(
        self, entry: Entry, sources: Iterable[EntryState], target: EntryState, now: datetime, **values: Any
    ) -> None:
        changed = self._connection.execute(
            update(retention_entries)
            .where(retention_entries.c.id == entry.id, retention_entries.c.state.in_(list(sources)))
            .values(state=target, updated_at=now, **values)
        )
        if changed.rowcount != 1:
            raise Changed("Another process went on with it.")

    def _bring_back(self, entry: Entry, now: datetime) -> None:
        """The row says again that the video is there; a run that looked at it before is too late."""
        self._connection.execute(
            update(vods)
            .where(vods.c.twitch_vod_id == entry.twitch_vod_id, vods.c.let_go_at.is_not(None))
            .values(let_go_at=None, generation=vods.c.generation + 1, updated_at=now)
        )

    def _tell(self, entry: Entry, now: datetime, *, code: str, sentence: str, asked: Asked | None = None) -> None:
        EventLog(self._connection).append(
            entry.twitch_vod_id,
            at=now,
            kind=EVENT_KIND,
            code=code,
            sentence=sentence,
            corr=None if asked is None else asked.corr,
            asked_by=None if asked is None else asked.by,
        )

    def _open_ids(self) -> set[str]:
        query = select(retention_entries.c.twitch_vod_id).where(IS_OPEN, retention_entries.c.state != _S.PLANNED)
        return set(self._connection.execute(query).scalars())

    def _parts(self, video_id: str | None) -> dict[str, tuple[PublishedPart, ...]]:
        rounds = select(publications.c.twitch_vod_id, func.max(publications.c.round).label("round"))
        if video_id is not None:
            rounds = rounds.where(publications.c.twitch_vod_id == video_id)
        last = rounds.group_by(publications.c.twitch_vod_id).subquery()
        query = select(publications.c.twitch_vod_id, *_PART_COLUMNS).join(
            last,
            and_(
                publications.c.twitch_vod_id == last.c.twitch_vod_id,
                publications.c.round == last.c.round,
            ),
        )
        found: dict[str, tuple[PublishedPart, ...]] = {}
        for row in self._connection.execute(query).mappings():
            values = dict(row)
            item_id = values.pop("twitch_vod_id")
            found[item_id] = (*found.get(item_id, ()), PublishedPart(**values))
        return found


_ITEM_COLUMNS = (
    vods.c.twitch_vod_id,
    vods.c.channel,
    vods.c.downloaded_path,
    vods.c.download_bytes,
    vods.c.sort_date,
    vods.c.generation,
    vods.c.processed,
    vods.c.download_state,
    vods.c.protected,
)
_PART_COLUMNS = tuple(publications.c[name] for name in PublishedPart.__dataclass_fields__)
_ENTRY_COLUMNS = tuple(retention_entries.c[name] for name in Entry.__dataclass_fields__)


def _item(row: RowMapping, parts: tuple[PublishedPart, ...], open_ones: set[str]) -> RetentionItem:
    return RetentionItem(
        video_id=row["twitch_vod_id"],
        channel=row["channel"],
        path=row["downloaded_path"],
        size_bytes=row["download_bytes"],
        date=row["sort_date"],
        generation=row["generation"],
        is_settled=bool(row["processed"]) and row["download_state"] == DownloadState.DONE,
        is_protected=bool(row["protected"]),
        is_in_trash=row["twitch_vod_id"] in open_ones,
        parts=parts,
    )


def _entry(row: RowMapping) -> Entry:
    return Entry(**{**row, "state": EntryState(row["state"])})


def _planned(judged: Judged, plan_id: int, now: datetime) -> dict[str, Any]:
    item = judged.item
    return {
        "plan_id": plan_id,
        "twitch_vod_id": item.video_id,
        "path": item.path,
        "size_bytes": item.size_bytes,
        "generation": item.generation,
        "reason": judged.reason,
        "created_at": now,
        "updated_at": now,
    }
