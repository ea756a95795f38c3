"""Helpers around a served web application."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import anyio
from sqlalchemy import insert

from support.clock import START
from vodkeep.capture.model import Progress
from vodkeep.db.engine import Database
from vodkeep.db.tables import vods
from vodkeep.web.app import WebDeps
from vodkeep.web.server import Listening


@dataclass
class RunningWork:
    """Runs of this process, as a test wants them."""

    snapshots: dict[str, Progress] = field(default_factory=dict)

    def progress(self) -> Mapping[str, Progress]:
        return self.snapshots


@dataclass
class Site:
    """A served application and what a test may reach into."""

    http: aiohttp.ClientSession
    listening: Listening
    deps: WebDeps
    log: io.StringIO

    @property
    def url(self) -> str:
        return self.listening.url

    def get(self, path: str, **options: Any) -> Any:
        return self.http.get(self.url + path, **options)

    def head(self, path: str, **options: Any) -> Any:
        return self.http.head(self.url + path, **options)

    def send(self, method: str, path: str, **options: Any) -> Any:
        return self.http.request(method, self.url + path, **options)

    async def json(self, path: str, *, status: int = 200, **options: Any) -> Any:
        async with self.get(path, **options) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json(content_type=None)

    async def raw(self, request: bytes) -> bytes:
        """Send these very bytes and return everything that comes back."""
        async with await anyio.connect_tcp("127.0.0.1", self.listening.port) as stream:
            await stream.send(request)
            answer = b""
            with anyio.fail_after(60):
                async for part in stream:
                    answer += part
            return answer

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


async def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a problem with this status and code; returns it."""
    body = await answer.read()
    assert answer.status == status, body
    assert answer.headers["Content-Type"] == "application/problem+json"
    found: dict[str, Any] = json.loads(body)
    assert found["status"] == status
    assert found["code"] == code
    assert found["type"] == f"urn:vodkeep:problem:{code}"
    assert found["corr"] == answer.headers["X-Correlation-ID"]
    return found


Serve = Callable[..., AbstractAsyncContextManager[Site]]


def add_vod(database: Database, vod_id: str, **values: Any) -> None:
    """A row of ``vods``; an hour-old broadcast of otter unless ``values`` say otherwise."""
    row: dict[str, Any] = {
        "twitch_vod_id": vod_id,
        "channel": "otter",
        "title": f"Broadcast {vod_id}",
        "date": START - timedelta(hours=1),
        "duration_seconds": 3600,
        "created_at": START,
        "updated_at": START,
        **values,
    }
    with database.unit_of_work() as unit:
        unit.connection.execute(insert(vods).values(row))
        unit.commit()


def keep_vod(database: Database, data_dir: Path, vod_id: str, *, content: bytes = b"0123456789", **values: Any) -> Path:
    """A kept broadcast with its files; returns its folder."""
    folder = data_dir / "otter" / f"2026-11-23 Broadcast [{vod_id}]"
    folder.mkdir(parents=True)
    (folder / "video.mp4").write_bytes(content)
    (folder / "thumbnail.jpg").write_bytes(b"\xff\xd8\xff\xe0 picture")
    (folder / "manifest.json").write_text('{"id": "x"}')
    values = {
        "download_state": "done",
        "processed": 1,
        "downloaded_path": folder.relative_to(data_dir).as_posix(),
        "download_bytes": len(content),
        "download_total": len(content),
        "completeness": 1.0,
        **values,
    }
    add_vod(database, vod_id, **values)
    return folder


def moment(hours: float) -> datetime:
    """Hours after the clock's start."""
    return START + timedelta(hours=hours)
