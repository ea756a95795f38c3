"""What reading the archive again has found, in the database; see `vodkeep.pipeline.scrub`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, or_, select

from vodkeep.db.tables import IS_BAD, scrubs, vods
from vodkeep.db.upsert import insert_or_update
from vodkeep.keep.scrub import Shelved
from vodkeep.pipeline.model import RUNNING, Stage
from vodkeep.pipeline.recheck import Verdict


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """What the last look at an item has found."""

    checked_at: datetime  # UTC
    verdict: Verdict  # fine, damaged or missing
    problems: str = ""  # as one sentence
    remedy: str = ""  # what is being done, or a person can do
    is_repairing: bool = False  # something was begun to mend it, and nobody has looked since


class ScrubStore:
    """The ``scrubs`` table within one transaction; the caller commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def load_shelved(self) -> list[Shelved]:
        """Every item whose files are in its folder and stay as they are for now."""
        query = (
            select(vods.c.twitch_vod_id, vods.c.download_bytes, scrubs.c.checked_at, scrubs.c.repairing)
            .outerjoin(scrubs, scrubs.c.twitch_vod_id == vods.c.twitch_vod_id)
            .where(
                vods.c.downloaded_path.is_not(None),
                vods.c.let_go_at.is_(None),
                vods.c.download_state.not_in(sorted(RUNNING)),
                or_(vods.c.due_stage.is_(None), vods.c.due_stage != Stage.CAPTURE),
            )
        )
        # What was begun has come to nothing while the item is failed at its capture: it is as damaged as it was.
        mended = and_(scrubs.c.repairing == 1, or_(vods.c.processed == 1, vods.c.stage != Stage.CAPTURE))
        rows = self._connection.execute(query.add_columns(mended.label("mended")))
        return [Shelved(row.twitch_vod_id, row.download_bytes, row.checked_at, bool(row.mended)) for row in rows]

    def find(self, video_id: str) -> Scrubbed | None:
        """What the last look at the item has found; None before the first."""
        row = self._connection.execute(select(scrubs).where(scrubs.c.twitch_vod_id == video_id)).first()
        if row is None:
            return None
        return Scrubbed(row.checked_at, Verdict(row.verdict), row.problems, row.remedy, bool(row.repairing))

    def record(self, video_id: str, found: Scrubbed) -> None:
        """Note what a look at the item has found, in place of what the one before did."""
        row = {
            "twitch_vod_id": video_id,
            "checked_at": found.checked_at,
            "verdict": str(found.verdict),
            "problems": found.problems,
            "remedy": found.remedy,
            "repairing": int(found.is_repairing),
        }
        insert_or_update(self._connection, scrubs, row, key=["twitch_vod_id"])

    def load_damaged(self) -> list[str]:
        """The ids of items that are damaged or missing as far as anybody looked; not those whose video was let go."""
        bad = self._connection.execute(select(scrubs.c.twitch_vod_id).where(IS_BAD)).scalars().all()
        if not bad:
            return []
        # Asked by itself, so that no plan begins with the whole of `vods`.
        here = select(vods.c.twitch_vod_id).where(vods.c.twitch_vod_id.in_(bad), vods.c.let_go_at.is_(None))
        return sorted(self._connection.execute(here).scalars())
