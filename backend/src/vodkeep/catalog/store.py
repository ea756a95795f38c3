"""Channels and videos in the database. Only what Twitch says is written here, never where the pipeline stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from vodkeep.catalog.lifetime import ENOUGH_GONE, kept_until, shown_lifetime, was_there_before
from vodkeep.catalog.model import BroadcasterId, Channel, Video, VodId
from vodkeep.db.tables import channels, events, kv, oauth_tokens, vods
from vodkeep.db.upsert import insert_or_update
from vodkeep.placeholder import PREFIX

LONGEST_TITLE = 1_000
LONGEST_DESCRIPTION = 20_000
"""Characters kept; Twitch allows 140 and about 10,000, so only nonsense is ever cut."""


@dataclass(frozen=True, slots=True)
class KnownChannel:
    """A row of ``channels``."""

    login: str  # as configured; stays when the channel is renamed at Twitch, until the setting follows
    broadcaster_id: BroadcasterId | None
    display_name: str | None
    backfill_cursor: str | None  # where an interrupted pass goes on
    backfill_done_at: datetime | None  # end of the last complete pass, UTC; None asks for one


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of a page."""

    new: tuple[VodId, ...]  # not known before
    refreshed: tuple[VodId, ...]  # known, and something changed


class CatalogStore:
    """The catalog within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def save_videos(self, login: str, videos: Iterable[Video], *, now: datetime, corr: str | None = None) -> Saved:
        """Add the videos that are not known, with a "discovered" event each, and refresh the others.

        Two processes may save the same page at once: the unique key decides who added a video, and only that one
        writes the event. A refresh writes a row only if something changed, so that reading an unchanged page
        touches no row the pipeline is working on. ``None`` and empty texts never replace what is known.
        """
        # By id, so that two processes take row locks in the same order; the last of two equal ids wins.
        by_id = {video.id: video for video in sorted(videos, key=lambda video: video.id)}
        known = self._known(by_id)
        added = self._insert(login, [video for video in by_id.values() if video.id not in known], now)
        changes = {id_: _changes(known[id_], by_id[id_]) for id_ in known}
        refreshed = tuple(id_ for id_, changed in changes.items() if changed)
        for id_ in refreshed:
            self._connection.execute(
                update(vods).where(vods.c.twitch_vod_id == id_).values(**changes[id_], updated_at=now)
            )
        if added:
            rows = [_discovered(by_id[id_], at=now, corr=corr) for id_ in added]
            self._connection.execute(insert(events), rows)
        return Saved(added, refreshed)

    def note_lifetime(self, login: str, listed: Iterable[Video], *, is_end: bool, now: datetime) -> None:
        """Keep what a page of Twitch's list shows about how long the channel's recordings stay there.

        Only the end of a list (``is_end``) can show that it is not as long as it was.
        """
        oldest = min((video.created_at for video in listed), default=None)
        if oldest is None:
            return
        shown = shown_lifetime(now - oldest)
        days = shown.days
        known = channels.c.vod_days
        self._connection.execute(
            update(channels)
            .where(channels.c.login == login, known.is_(None) | (known < days))
            .values(vod_days=days, updated_at=now)
        )
        if is_end:
            self._shorten_lifetime(login, shown, now)

    def _shorten_lifetime(self, login: str, shown: timedelta, now: datetime) -> None:
        """Follow a list that ends where ``shown`` says, if recordings are gone that would be there otherwise."""
        known = self._connection.execute(
            select(channels.c.vod_days).where(channels.c.login == login)
        ).scalar_one_or_none()
        if known is None or known <= shown.days:
            return
        gone = (
            select(vods.c.id)
            .where(vods.c.channel == login, ~vods.c.twitch_vod_id.startswith(PREFIX))
            .where(vods.c.sort_date > now - timedelta(days=known), vods.c.sort_date < kept_until(shown, now))
            .limit(ENOUGH_GONE)
        )
        if len(self._connection.execute(gone).all()) == ENOUGH_GONE:
            self._connection.execute(
                update(channels)
                .where(channels.c.login == login, channels.c.vod_days == known)
                .values(vod_days=shown.days, updated_at=now)
            )

    def channel(self, login: str) -> KnownChannel | None:
        """The channel that is kept under ``login``."""
        row = self._connection.execute(_CHANNEL.where(channels.c.login == login)).one_or_none()
        return None if row is None else KnownChannel(*row)

    def channels(self) -> dict[str, KnownChannel]:
        """Every channel that is kept, by its login."""
        return {row.login: KnownChannel(*row) for row in self._connection.execute(_CHANNEL)}

    def channels_of(self, broadcaster_id: BroadcasterId) -> list[KnownChannel]:
        """Every login under which this broadcaster is kept; more than one is a contradiction to be resolved."""
        query = _CHANNEL.where(channels.c.broadcaster_id == broadcaster_id).order_by(channels.c.created_at)
        return [KnownChannel(*row) for row in self._connection.execute(query)]

    def save_channel(self, login: str, channel: Channel, *, now: datetime) -> None:
        """Keep what Twitch says of the channel under ``login``; a backfill under way is left alone."""
        row = {
            "login": login,
            "broadcaster_id": channel.id,
            "display_name": channel.display_name,
            "profile_image_url": channel.profile_image_url,
            "created_at": now,
            "updated_at": now,
        }
        insert_or_update(self._connection, channels, row, key=("login",))

    def rename_channel(self, old: str, new: str, *, now: datetime) -> int:
        """Move everything that is kept under the login ``old`` to ``new``; returns the number of videos.

        What already exists under ``new`` (a breaker, a token that was entered anew) is newer and stays.
        """
        run = self._connection.execute
        run(delete(channels).where(channels.c.login == new))
        run(update(channels).where(channels.c.login == old).values(login=new, updated_at=now))
        _move(self._connection, kv, old, new, key="key")
        _move(self._connection, oauth_tokens, old, new, key="provider")
        return run(update(vods).where(vods.c.channel == old).values(channel=new, updated_at=now)).rowcount

    def save_backfill(self, login: str, *, cursor: str | None, now: datetime, done_at: datetime | None = None) -> None:
        """Where the pass under way goes on (``cursor``), or that it is complete (no cursor, ``done_at``)."""
        values: dict[str, Any] = {"backfill_cursor": cursor, "updated_at": now}
        if done_at is not None:
            values["backfill_done_at"] = done_at
        self._connection.execute(update(channels).where(channels.c.login == login).values(**values))

    def ask_for_backfill(self, login: str, *, now: datetime) -> None:
        """Make a pass over the whole list due, from the top."""
        self._connection.execute(
            update(channels)
            .where(channels.c.login == login)
            .values(backfill_cursor=None, backfill_done_at=None, updated_at=now)
        )

    def _known(self, ids: Iterable[VodId]) -> dict[VodId, Mapping[str, Any]]:
        query = select(vods.c.twitch_vod_id, *(vods.c[name] for name in _REFRESHED)).where(
            vods.c.twitch_vod_id.in_(list(ids))
        )
        rows = self._connection.execute(query.order_by(vods.c.twitch_vod_id)).mappings()
        return {VodId(row["twitch_vod_id"]): dict(row) for row in rows}

    def _insert(self, login: str, videos: list[Video], now: datetime) -> tuple[VodId, ...]:
        if not videos:
            return ()
        dialect = sqlite if self._connection.dialect.name == "sqlite" else postgresql
        statement = (
            dialect.insert(vods)
            .values([_row(video, login, now) for video in videos])
            .on_conflict_do_nothing(index_elements=[vods.c.twitch_vod_id])
            .returning(vods.c.twitch_vod_id)
        )
        added = set(self._connection.execute(statement).scalars())
        return tuple(video.id for video in videos if video.id in added)


_CHANNEL = select(
    channels.c.login,
    channels.c.broadcaster_id,
    channels.c.display_name,
    channels.c.backfill_cursor,
    channels.c.backfill_done_at,
)

# What a later sight may change. The date stays unless it was never known: folders and the queue hang on it.
_REFRESHED = ("title", "description", "thumbnail_url", "duration_seconds", "stream_id", "date")


def _stated(video: Video) -> dict[str, Any]:
    """The columns Twitch speaks of; None where it did not say."""
    return {
        "title": (video.title or "")[:LONGEST_TITLE] or None,
        "description": (video.description or "")[:LONGEST_DESCRIPTION] or None,
        "thumbnail_url": video.thumbnail_url,
        "duration_seconds": None if video.duration is None else int(video.duration.total_seconds()),
        "stream_id": video.stream_id,
        "date": video.created_at,
    }


def _row(video: Video, login: str, now: datetime) -> dict[str, Any]:
    stated = _stated(video)
    return stated | {
        "twitch_vod_id": video.id,
        "channel": login,
        "title": stated["title"] or "",
        "description": stated["description"] or "",
        "back_catalogue": int(was_there_before(video.created_at, now)),
        "created_at": now,
        "updated_at": now,
    }


def _changes(known: Mapping[str, Any], video: Video) -> dict[str, Any]:
    changes = {name: value for name, value in _stated(video).items() if value not in (None, known[name])}
    if known["date"] is not None:
        changes.pop("date", None)
    return changes


def _discovered(video: Video, *, at: datetime, corr: str | None) -> dict[str, Any]:
    return {
        "twitch_vod_id": video.id,
        "at": at,
        "kind": "discovered",
        "to_state": "pending",
        "sentence": "Found on Twitch.",
        "corr": corr,
    }


def _move(connection: Connection, table: Table, old: str, new: str, *, key: str) -> None:
    """Give the rows of one channel to another, except those it has already."""
    taken = select(table.c[key]).where(table.c.channel == bindparam("new_channel"))
    names = {"old_channel": old, "new_channel": new}
    mine = table.c.channel == bindparam("old_channel")
    connection.execute(delete(table).where(mine, table.c[key].in_(taken)), names)
    connection.execute(update(table).where(mine).values(channel=bindparam("new_channel")), names)
