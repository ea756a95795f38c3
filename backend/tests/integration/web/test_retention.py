"""What the web says of videos that were let go, and what people ask about that."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.kept_items import KeptItems
from support.web_site import Serve, problem
from vodkeep.db.engine import Database

pytestmark = pytest.mark.anyio

LIMIT = {"RETENTION_KEEP_DAYS": "30"}


async def test_a_video_that_was_let_go_is_a_state_and_can_be_had_back(
    serve_site: Serve, database: Database, data_dir: Path
) -> None:
    kept = KeptItems(database, data_dir)
    kept.add("1")
    kept.add("2", days_old=1)
    async with serve_site(env=LIMIT) as site:
        plan = await site.json("/api/v1/retention/plan")
        assert [each["id"] for each in plan["going"]] == ["1"]
        assert [(each["id"], each["reason"]) for each in plan["staying"]] == [("2", "No limit lets it go.")]
        await site.deps.retention.run()
        (decision,) = (await site.json("/api/v1/retention"))["items"]
        assert (decision["id"], decision["state"], decision["size_bytes"]) == ("1", "trashed", 14)
        status = await site.json("/status")
        assert (status["retention"]["trash_items"], status["retention"]["trash_bytes"]) == (1, 14)

        vod = await site.json("/api/v1/vods/1")
        assert vod["state"] == "done"
        assert vod["video_let_go_at"] is not None
        assert (vod["error"], vod["media"]["video"], vod["size_bytes"]) == (None, None, None)
        assert vod["media"]["manifest"] is not None
        async with site.get("/media/1/video.mp4") as answer:
            await problem(answer, 410, "video_let_go")
        async with site.get("/media/1/thumbnail.jpg") as answer:
            assert answer.status == 200

        async with site.send("POST", "/api/v1/vods/1/undo-retention") as answer:
            assert (answer.status, (await answer.json())["state"]) == (200, "restored")
        async with site.send("POST", "/api/v1/vods/1/undo-retention") as answer:
            await problem(answer, 409, "not_possible")
        async with site.send("POST", "/api/v1/vods/9/undo-retention") as answer:
            await problem(answer, 404, "unknown_vod")
        vod = await site.json("/api/v1/vods/1")
        assert (vod["video_let_go_at"], vod["protected"]) == (None, True)
        async with site.get("/media/1/video.mp4") as answer:
            assert answer.status == 200
        async with site.send("PATCH", "/api/v1/vods/1", json={"protected": False}) as answer:
            assert (answer.status, (await answer.json())["protected"]) == (200, False)
        kept.publish("1", reason_code="made_private")
        assert (await site.json("/status"))["retention"]["publications_in_trouble"] == 1
        assert (await site.json("/api/v1/retention/plan"))["going"] == []
