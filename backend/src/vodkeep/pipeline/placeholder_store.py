"""Placeholders in the database: items that are known from their live stream only, until they become their VOD.

A placeholder is a row of ``vods`` like any other but for its id (``vodkeep.placeholder``), which keeps it out of the
queue. It is ``waiting`` while the stream runs and its VOD is looked for. When none appears it is ``done``, with the
reason in ``processing_error``: all there is of it is its chat. The operator's reset makes it be looked for again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, RowMapping, Select, delete, select, update
from sqlalchemy.exc import IntegrityError

from vodkeep.catalog.lifetime import was_there_before
from vodkeep.catalog.model import Video
from vodkeep.catalog.store import LONGEST_DESCRIPTION, LONGEST_TITLE
from vodkeep.db.events import EventLog
from vodkeep.db.tables import IS_PLACEHOLDER, events, vods
from vodkeep.db.upsert import insert_if_absent
from vodkeep.pipeline.model import DownloadState
from vodkeep.placeholder import is_placeholder, placeholder_ids

NO_VOD = "no_vod"
"""The cause of a placeholder whose VOD was not found in time."""

KIND = "live"
"""``events.kind`` of what happens to an item as a live stream."""

_S = DownloadState


@dataclass(frozen=True, slots=True)
class LiveItem:
    """The row of a stream: a placeholder, or its VOD where that is known already."""

    item_id: str
    channel: str  # login
    stream_id: str | None
    date: datetime | None  # start of the stream, or of the VOD; UTC
    is_open: bool  # its VOD is still looked for
    error: str | None  # why there is none, as a sentence

    @property
    def is_placeholder(self) -> bool:
        """Whether there is no VOD yet."""
        return is_placeholder(self.item_id)


@dataclass(frozen=True, slots=True)
class Found:
    """A placeholder and the row of its VOD."""

    placeholder: LiveItem
    vod: LiveItem


class PlaceholderStore:
    """Placeholders within one transaction; the caller commits. Times are aware and in UTC."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # --- reading -----------------------------------------------------------------------------------------------------

    def of_stream(self, channel: str, stream_id: str) -> LiveItem | None:
        """The stream's item: its first VOD, else its placeholder; ``None`` when there is neither."""
        query = _query().where(vods.c.channel == channel, vods.c.stream_id == stream_id)
        rows = sorted(self._items(query), key=lambda item: item.is_placeholder)
        return rows[0] if rows else None

    def open(self, channels: Collection[str]) -> list[LiveItem]:
        """The placeholders of these channels whose VODs are looked for, oldest first."""
        query = _query().where(IS_PLACEHOLDER, vods.c.processed == 0).order_by(vods.c.sort_date)
        return [item for item in self._items(query) if item.channel in channels]

    def with_vod(self, channel: str) -> list[Found]:
        """The channel's placeholders, given up or not, for whose streams there is a row with a VOD meanwhile."""
        waiting = (
            select(vods.c.twitch_vod_id, vods.c.stream_id)
            .where(IS_PLACEHOLDER, vods.c.channel == channel, vods.c.stream_id.is_not(None))
            .subquery()
        )
        query = (
            _query()
            .add_columns(waiting.c.twitch_vod_id.label("placeholder"))
            .join(waiting, waiting.c.stream_id == vods.c.stream_id)
        )
        rows = self._connection.execute(query.where(vods.c.channel == channel).order_by(vods.c.sort_date)).all()
        streams = {row.twitch_vod_id: _item(row) for row in rows if is_placeholder(row.twitch_vod_id)}
        firsts: dict[str, LiveItem] = {}
        for row in rows:
            if not is_placeholder(row.twitch_vod_id):
                firsts.setdefault(row.placeholder, _item(row))
        return [Found(streams[item_id], vod) for item_id, vod in firsts.items()]

    # --- writing -----------------------------------------------------------------------------------------------------

    def add(self, channel: str, *, stream_id: str, started_at: datetime, title: str, now: datetime) -> LiveItem:
        """The item of a stream that has begun: the one it has, looked for again, or a new placeholder."""
        known = self.of_stream(channel, stream_id)
        if known is not None:
            if known.is_placeholder and not known.is_open:
                self._reopen(known, now)
            return known
        for item_id in placeholder_ids(started_at, channel, stream_id):
            row = {
                "twitch_vod_id": item_id,
                "stream_id": stream_id,
                "channel": channel,
                "title": title,
                "date": started_at,
                "download_state": _S.WAITING,
                "created_at": now,
                "updated_at": now,
            }
            if insert_if_absent(self._connection, vods, row, key=("twitch_vod_id",)):
                self._tell(item_id, now, "The stream began; its chat is recorded.", to_state=_S.WAITING)
                return LiveItem(item_id, channel, stream_id, started_at, True, None)
        raise AssertionError(f"two streams of {channel} are both called {stream_id}")

    def add_vod(self, channel: str, vod_id: str, *, started_at: datetime, now: datetime) -> None:
        """See to it that the VOD has a row; one that it has stays as it is."""
        row = {
            "twitch_vod_id": vod_id,
            "channel": channel,
            "date": started_at,
            "back_catalogue": int(was_there_before(started_at, now)),
            "created_at": now,
            "updated_at": now,
        }
        if insert_if_absent(self._connection, vods, row, key=("twitch_vod_id",)):
            self._tell(vod_id, now, "The settings name it (TWITCH_VOD_ID).", to_state=_S.PENDING)

    def note_end(self, item_id: str, *, ended_at: datetime, title: str, messages: int, now: datetime) -> None:
        """The stream is over: a placeholder gets its length and last title, and any item the size of its chat.

        From now on the VOD of a placeholder is looked for.
        """
        values: dict[str, Any] = {"chat_messages": messages, "updated_at": now}
        if is_placeholder(item_id):
            started_at = self._connection.execute(select(vods.c.date).where(vods.c.twitch_vod_id == item_id)).scalar()
            if started_at is not None:
                values["duration_seconds"] = max(0, round((ended_at - started_at).total_seconds()))
            if title:
                values["title"] = title
            values |= _LOOKED_FOR
        changed = self._connection.execute(update(vods).where(vods.c.twitch_vod_id == item_id).values(values))
        if changed.rowcount:
            self._tell(item_id, now, "The stream ended.")

    def note_trouble(self, item: LiveItem, *, code: str, sentence: str, remedy: str, now: datetime) -> bool:
        """The VOD cannot be looked for now, and is later; whether that is news."""
        return self._note(item, code, sentence, remedy, now, {})

    def give_up(self, item: LiveItem, *, sentence: str, remedy: str, now: datetime) -> bool:
        """There is no VOD; one that turns up later is taken all the same. Whether that is news."""
        return self._note(item, NO_VOD, sentence, remedy, now, {"download_state": _S.DONE, "processed": 1})

    def become(self, item_id: str, video: Video, now: datetime) -> bool:
        """Make the placeholder its VOD, or part of it where that has a row of its own; ``False`` if that is done.

        The timeline of both goes on as one, and so does what is known of the chat.
        """
        if self.join(item_id, video.id, now):
            return True
        live = self._locked(item_id)
        if live is None:
            return False
        try:
            with self._connection.begin_nested():
                self._connection.execute(
                    update(vods)
                    .where(vods.c.twitch_vod_id == item_id)
                    .values({**_fresh(video, live, now), "generation": vods.c.generation + 1, "updated_at": now})
                )
        except IntegrityError:
            # The catalog has added it since we looked.
            return self.join(item_id, video.id, now)
        self._move_events(item_id, video.id)
        self._tell(video.id, now, _found_after(item_id), from_state=live["download_state"], to_state=_S.PENDING)
        return True

    def join(self, item_id: str, vod_id: str, now: datetime) -> bool:
        """Make the placeholder part of the item of its VOD; ``False`` when either has no row."""
        # Locked in one order everywhere: the placeholder, then the VOD.
        live = self._locked(item_id)
        vod = self._locked(vod_id)
        if live is None or vod is None:
            return False
        merged = {name: live[name] for name in _OF_THE_STREAM if vod[name] is None}
        self._connection.execute(
            update(vods).where(vods.c.twitch_vod_id == vod_id).values({**merged, "updated_at": now})
        )
        self._connection.execute(delete(vods).where(vods.c.twitch_vod_id == item_id))
        self._move_events(item_id, vod_id)
        self._tell(vod_id, now, _found_after(item_id))
        return True

    # --- how it is done ----------------------------------------------------------------------------------------------

    def _move_events(self, old: str, new: str) -> None:
        self._connection.execute(update(events).where(events.c.twitch_vod_id == old).values(twitch_vod_id=new))

    def _reopen(self, item: LiveItem, now: datetime) -> None:
        self._connection.execute(
            update(vods).where(vods.c.twitch_vod_id == item.item_id).values({**_LOOKED_FOR, "updated_at": now})
        )
        self._tell(item.item_id, now, "The stream goes on.", to_state=_S.WAITING)

    def _note(
        self, item: LiveItem, code: str, sentence: str, remedy: str, now: datetime, values: Mapping[str, Any]
    ) -> bool:
        changed = self._connection.execute(
            update(vods)
            .where(vods.c.twitch_vod_id == item.item_id, vods.c.processed == 0)
            .values({**values, "error_code": code, "processing_error": sentence, "updated_at": now})
        )
        news = bool(changed.rowcount) and (bool(values) or item.error != sentence)
        if news:
            self._tell(item.item_id, now, sentence, code=code, remedy=remedy, to_state=values.get("download_state"))
        return news

    def _tell(
        self,
        item_id: str,
        now: datetime,
        sentence: str,
        *,
        code: str | None = None,
        remedy: str = "",
        from_state: str | None = None,
        to_state: str | None = None,
    ) -> None:
        EventLog(self._connection).append(
            item_id,
            at=now,
            kind=KIND,
            from_state=from_state,
            to_state=to_state,
            code=code,
            sentence=sentence,
            remedy=remedy,
        )

    def _locked(self, item_id: str) -> RowMapping | None:
        query = select(*(vods.c[name] for name in ("download_state", "title", *_OF_THE_STREAM)))
        row = self._connection.execute(query.where(vods.c.twitch_vod_id == item_id).with_for_update()).mappings()
        return row.one_or_none()

    def _items(self, query: Select[Any]) -> list[LiveItem]:
        return [_item(row) for row in self._connection.execute(query)]


_LOOKED_FOR: Mapping[str, Any] = {
    "download_state": _S.WAITING,
    "processed": 0,
    "processing_error": None,
    "error_code": None,
}

_OF_THE_STREAM = ("stream_id", "chat_completeness", "chat_messages")


def _query() -> Select[Any]:
    return select(
        vods.c.twitch_vod_id, vods.c.channel, vods.c.stream_id, vods.c.date, vods.c.processed, vods.c.processing_error
    )


def _item(row: Row[Any]) -> LiveItem:
    return LiveItem(row.twitch_vod_id, row.channel, row.stream_id, row.date, not row.processed, row.processing_error)


def _found_after(item_id: str) -> str:
    return f"Its VOD was found; until then it was {item_id}."


def _fresh(video: Video, live: RowMapping, now: datetime) -> dict[str, Any]:
    """What a placeholder's row says as that of a VOD which nobody has begun to capture."""
    return {
        "twitch_vod_id": video.id,
        "stream_id": video.stream_id or live["stream_id"],
        "title": (video.title or live["title"])[:LONGEST_TITLE],
        "description": (video.description or "")[:LONGEST_DESCRIPTION],
        "thumbnail_url": video.thumbnail_url,
        "date": video.created_at,
        "duration_seconds": None if video.duration is None else int(video.duration.total_seconds()),
        "back_catalogue": int(was_there_before(video.created_at, now)),
        "download_state": _S.PENDING,
        "processed": 0,
        "processing_error": None,
        "error_code": None,
        "not_before": None,
    }
