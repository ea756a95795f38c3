"""What is uploaded, how far that is and why not: in /status and in the broadcast itself."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from support.clock import START
from support.web_site import Serve, add_vod
from vodkeep.db.engine import Database
from vodkeep.db.events import EventLog
from vodkeep.publish.publication import PlannedPart
from vodkeep.publish.store import PublicationStore

pytestmark = pytest.mark.anyio

ON = {"YOUTUBE_UPLOAD_ENABLED": "1", "YOUTUBE_UPLOAD_OWNERSHIP": "self"}
SESSION = "https://upload.example/session?upload_id=very-secret"


async def test_an_upload_is_shown_while_it_runs_and_its_session_never(serve_site: Serve, database: Database) -> None:
    add_vod(database, "1", download_state="uploading", stage="publish", download_bytes=160, download_total=160)
    with database.unit_of_work() as unit:
        store = PublicationStore(unit.connection)
        parts = [
            PlannedPart(n, 2, n * 1000, n * 1000 + 1000, "video.mp4", 80, "blake3:0", "Title", "private", f"M {n}")
            for n in (1, 2)
        ]
        (old, _) = store.plan("1", parts, START)
        store.save_uploaded(old.id, "old", START, next_check_at=START)
        store.supersede("1", START)
        first, second = store.plan("1", parts, START)
        store.save_uploaded(first.id, "abc", START, next_check_at=START)
        store.save_session(second.id, SESSION, START)
        store.save_committed(second.id, 40, START)
        unit.commit()
    async with serve_site() as site:
        (active,) = (await site.json("/status"))["active"]
        assert (active["state"], active["progress"]["phase"], active["progress"]["percent"]) == (
            "uploading", "uploading", 75.0,
        )  # fmt: skip
        detail = await site.json("/api/v1/vods/1")
    assert SESSION not in json.dumps(detail)
    shown = [(each["round"], each["part"], each["state"], each["url"]) for each in detail["publications"]]
    assert shown[2:] == [(2, 1, "uploaded", "https://www.youtube.com/watch?v=abc"), (2, 2, "uploading", None)]
    assert detail["progress"]["bytes"] == 120


async def test_why_nothing_is_uploaded(serve_site: Serve, database: Database) -> None:
    async with serve_site() as site:
        uploads = (await site.json("/status"))["uploads"]
        assert (uploads["enabled"], uploads["reason"]) == (False, "YOUTUBE_UPLOAD_ENABLED is not 1.")
    async with serve_site(env=ON) as site:
        uploads = (await site.json("/status"))["uploads"]
        assert (uploads["enabled"], uploads["reason"]) == (True, "No YouTube account is connected.")
        assert uploads["held_until"] is None


async def test_until_when_the_daily_limit_holds(serve_site: Serve, database: Database) -> None:
    add_vod(database, "1", download_state="done", processed=1)
    at = START - timedelta(hours=3)
    with database.unit_of_work() as unit:
        EventLog(unit.connection).append("1", at=at, kind="state", from_state="uploading", to_state="done")
        unit.commit()
    async with serve_site(env={**ON, "UPLOAD_DAILY_LIMIT": "1"}) as site:
        held = (await site.json("/status"))["uploads"]["held_until"]
    assert held == (at + timedelta(hours=24)).isoformat().replace("+00:00", "Z")
