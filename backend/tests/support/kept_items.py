"""Kept items for tests of retention: a folder with its manifest, a row, and what is on YouTube."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from support.clock import START
from vodkeep.db.engine import Database
from vodkeep.db.tables import publications, retention_entries, vods
from vodkeep.keep.library import describe_file
from vodkeep.keep.manifest import MANIFEST_NAME, Manifest, write_manifest

DURATION_MS = 60_000

_MANIFEST = Manifest(
    video_id="",
    stream_id=None,
    channel="otter",
    channel_name="Otter",
    title="A broadcast",
    date=None,
    duration_ms=DURATION_MS,
    completeness=1.0,
    rendition="720p",
    tools=(),
    captured_at=START,
    files=(),
    streams=(),
    ledger=(),
    chapters=(),
)


class KeptItems:
    """Puts items into a library and a database, behind the back of the code under test."""

    def __init__(self, database: Database, library: Path) -> None:
        self.database = database
        self.library = library

    def folder(self, video_id: str) -> Path:
        return self.library / "otter" / f"A broadcast [{video_id}]"

    def video(self, video_id: str) -> Path:
        return self.folder(video_id) / "video.mp4"

    def add(
        self,
        video_id: str,
        *,
        days_old: float = 100,
        published: bool = True,
        part: Mapping[str, Any] | None = None,
        **values: Any,
    ) -> Path:
        """A finished item of the channel otter, proven to be on YouTube; returns its folder."""
        folder = self.folder(video_id)
        folder.mkdir(parents=True)
        self.video(video_id).write_bytes(f"the video of {video_id}".encode())
        (folder / "thumbnail.jpg").write_bytes(b"picture")
        files = (describe_file(self.video(video_id)), describe_file(folder / "thumbnail.jpg"))
        manifest = replace(_MANIFEST, video_id=video_id, files=files)
        (folder / MANIFEST_NAME).write_text(write_manifest(manifest))
        row = {
            "twitch_vod_id": video_id,
            "channel": "otter",
            "date": START - timedelta(days=days_old),
            "download_state": "done",
            "processed": 1,
            "downloaded_path": str(self.video(video_id).relative_to(self.library)),
            "download_bytes": files[0].size_bytes,
            "duration_seconds": DURATION_MS // 1000,
            "completeness": 1.0,
            **values,
        }
        with self.database.unit_of_work() as unit:
            unit.connection.execute(insert(vods).values(row))
            if published:
                sent = {"size_bytes": files[0].size_bytes, "checksum": files[0].checksum, **(part or {})}
                unit.connection.execute(insert(publications).values(proven(video_id, **sent)))
            unit.commit()
        return folder

    def row(self, video_id: str) -> dict[str, Any]:
        with self.database.unit_of_work(write=False) as unit:
            query = select(vods).where(vods.c.twitch_vod_id == video_id)
            return dict(unit.connection.execute(query).mappings().one())

    def entries(self, video_id: str) -> list[dict[str, Any]]:
        with self.database.unit_of_work(write=False) as unit:
            query = select(retention_entries).where(retention_entries.c.twitch_vod_id == video_id)
            return [dict(row) for row in unit.connection.execute(query.order_by(retention_entries.c.id)).mappings()]

    def publish(self, video_id: str, **values: Any) -> None:
        """Change what is known of the item on YouTube."""
        with self.database.unit_of_work() as unit:
            where = publications.c.twitch_vod_id == video_id
            unit.connection.execute(publications.update().where(where).values(values))
            unit.commit()

    def checked(self, video_id: str, at: datetime) -> None:
        self.publish(video_id, checked_at=at)


def proven(video_id: str, **values: Any) -> dict[str, Any]:
    """A row of ``publications`` of a whole broadcast that YouTube has shown for a month."""
    return {
        "twitch_vod_id": video_id,
        "part": 1,
        "parts": 1,
        "state": "processed",
        "start_ms": 0,
        "end_ms": DURATION_MS,
        "source_name": "video.mp4",
        "size_bytes": 1,
        "checksum": "sha256:0",
        "youtube_id": f"yt-{video_id}",
        "privacy": "public",
        "uploaded_at": START - timedelta(days=40),
        "processed_at": START - timedelta(days=40),
        "checked_at": START - timedelta(days=10),
        "youtube_duration_ms": DURATION_MS,
        **values,
    }


def everything_below(folder: Path) -> dict[str, bytes | str]:
    """Every file and link below a folder, with its content."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = path.read_bytes()
    return found
