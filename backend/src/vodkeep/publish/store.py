"""Publications in the database. The fence is the caller's: it checks its claim in the same transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, func, insert, literal, select, update

from vodkeep.db.tables import IS_CHECKED, publications
from vodkeep.publish.publication import PlannedPart, Publication, PublicationState

_S = PublicationState
_COLUMNS = tuple(column for column in publications.columns if column.name not in ("created_at", "updated_at"))


class PublicationStore:
    """Publications on one connection; the caller's unit of work commits. Times are aware and in UTC."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # --- reading -------------------------------------------------------------------------------------------------

    def of_item(self, twitch_vod_id: str) -> list[Publication]:
        """Every publication of an item, the first round first, superseded ones too."""
        return self._load(
            select(*_COLUMNS)
            .where(publications.c.twitch_vod_id == twitch_vod_id)
            .order_by(publications.c.round, publications.c.part)
        )

    def current(self, twitch_vod_id: str) -> list[Publication]:
        """The parts of the item's last round, unless a fresh publication was asked for; empty when there are none."""
        return [each for each in self._last_round(twitch_vod_id) if each.state is not _S.SUPERSEDED]

    def find(self, publication_id: int) -> Publication | None:
        """One publication."""
        found = self._load(select(*_COLUMNS).where(publications.c.id == publication_id))
        return found[0] if found else None

    def find_video(self, youtube_id: str) -> Publication | None:
        """The publication that is this video of YouTube's, the latest if several say so."""
        found = self._load(
            select(*_COLUMNS).where(publications.c.youtube_id == youtube_id).order_by(publications.c.id.desc()).limit(1)
        )
        return found[0] if found else None

    def next_round(self, twitch_vod_id: str) -> int:
        """The number of a publication that is planned now."""
        last = self._connection.execute(
            select(func.max(publications.c.round)).where(publications.c.twitch_vod_id == twitch_vod_id)
        ).scalar()
        return (last or 0) + 1

    def load_due_checks(self, now: datetime, *, limit: int) -> list[Publication]:
        """Videos that YouTube is to be asked about, those that have waited longest first."""
        return self._load(
            select(*_COLUMNS)
            .where(IS_CHECKED, publications.c.next_check_at <= now)
            .order_by(publications.c.next_check_at)
            .limit(limit)
        )

    def next_check_at(self) -> datetime | None:
        """When YouTube is to be asked about a video next."""
        first: datetime | None = self._connection.execute(
            select(func.min(publications.c.next_check_at)).where(IS_CHECKED)
        ).scalar()
        return first

    # --- writing -------------------------------------------------------------------------------------------------

    def plan(self, twitch_vod_id: str, parts: Sequence[PlannedPart], now: datetime) -> list[Publication]:
        """Begin a new round with these parts."""
        number = self.next_round(twitch_vod_id)
        self._connection.execute(
            insert(publications),
            [
                {
                    "twitch_vod_id": twitch_vod_id,
                    "round": number,
                    "part": each.part,
                    "parts": each.parts,
                    "start_ms": each.start_ms,
                    "end_ms": each.end_ms,
                    "source_name": each.source_name,
                    "size_bytes": each.size_bytes,
                    "checksum": each.checksum,
                    "title": each.title,
                    "privacy": each.privacy,
                    "marker": each.marker,
                    "created_at": now,
                    "updated_at": now,
                }
                for each in parts
            ],
        )
        return self.current(twitch_vod_id)

    def save_session(self, publication_id: int, session_uri: str, now: datetime) -> None:
        """An upload session has begun, of which nothing was sent yet."""
        values = {"session_uri": session_uri, "session_at": now, "committed_bytes": 0, "state": _S.UPLOADING}
        self._save([publication_id], now, values)

    def save_committed(self, publication_id: int, committed_bytes: int, now: datetime) -> None:
        """YouTube keeps the first ``committed_bytes`` bytes of the file."""
        self._save([publication_id], now, {"committed_bytes": committed_bytes})

    def forget_session(self, publication_id: int, now: datetime) -> None:
        """YouTube does not know the session any more; before another begins, it is asked for the video."""
        self._save([publication_id], now, {"session_uri": None, "session_at": None, "committed_bytes": 0})

    def save_uploaded(
        self, publication_id: int, youtube_id: str, now: datetime, *, next_check_at: datetime | None
    ) -> None:
        """YouTube has every byte; ``next_check_at`` is when it is asked whether it could make a video of them."""
        values = {
            "state": _S.UPLOADED,
            "youtube_id": youtube_id,
            "session_uri": None,
            "session_at": None,
            "committed_bytes": publications.c.size_bytes,
            "uploaded_at": now,
            "next_check_at": next_check_at,
            "checks": 0,
            "reason": "",
            "reason_code": None,
        }
        self._save([publication_id], now, values)

    def save_done(
        self, publication_id: int, now: datetime, *, thumbnail: bool | None = None, playlist: bool | None = None
    ) -> None:
        """What was done beside the upload, so that it is not done twice; ``None`` leaves it as it is."""
        known = {"thumbnail_done": thumbnail, "playlist_done": playlist}
        values = {name: int(value) for name, value in known.items() if value is not None}
        self._save([publication_id], now, values)

    def save_check(
        self,
        publication_id: int,
        now: datetime,
        *,
        state: PublicationState,
        next_check_at: datetime | None,
        youtube_duration_ms: int | None = None,
        privacy: str | None = None,
        reason: str = "",
        reason_code: str | None = None,
    ) -> None:
        """What YouTube said of a video when it was asked."""
        values: dict[str, Any] = {
            "state": state,
            "checked_at": now,
            "next_check_at": next_check_at,
            "checks": publications.c.checks + 1,
            "reason": reason,
            "reason_code": reason_code,
        }
        if youtube_duration_ms is not None:
            values["youtube_duration_ms"] = youtube_duration_ms
        if privacy is not None:
            values["privacy"] = privacy
        if state is _S.PROCESSED:
            values["processed_at"] = func.coalesce(
                publications.c.processed_at, literal(now, publications.c.processed_at.type)
            )
        self._save([publication_id], now, values)

    def save_vanished(self, publication_ids: Collection[int], now: datetime) -> None:
        """YouTube does not have these videos any more; they are to be uploaded again if they are still wanted."""
        values = {
            "state": _S.VANISHED,
            "checked_at": now,
            "next_check_at": None,
            "reason": "YouTube does not have the video any more.",
            "reason_code": "vanished",
        }
        self._save(publication_ids, now, values)

    def supersede(self, twitch_vod_id: str, now: datetime) -> int:
        """Let the next publication of the item be a fresh one; returns how many parts that concerns.

        What is on YouTube stays there.
        """
        ids = [each.id for each in self.current(twitch_vod_id)]
        self._save(ids, now, {"state": _S.SUPERSEDED, "next_check_at": None, "session_uri": None, "session_at": None})
        return len(ids)

    def _last_round(self, twitch_vod_id: str) -> list[Publication]:
        rounds = select(func.max(publications.c.round)).where(publications.c.twitch_vod_id == twitch_vod_id)
        return self._load(
            select(*_COLUMNS)
            .where(publications.c.twitch_vod_id == twitch_vod_id, publications.c.round == rounds.scalar_subquery())
            .order_by(publications.c.part)
        )

    def _save(self, ids: Collection[int], now: datetime, values: dict[str, Any]) -> None:
        if ids:
            self._connection.execute(
                update(publications).where(publications.c.id.in_(ids)).values({**values, "updated_at": now})
            )

    def _load(self, query: Select[Any]) -> list[Publication]:
        return [_publication(row) for row in self._connection.execute(query).mappings()]


def _publication(row: RowMapping) -> Publication:
    values = dict(row)
    values["state"] = PublicationState(values["state"])
    values["thumbnail_done"] = bool(values["thumbnail_done"])
    values["playlist_done"] = bool(values["playlist_done"])
    return Publication(**values)
