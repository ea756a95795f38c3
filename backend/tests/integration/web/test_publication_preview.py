"""What would be sent to YouTube, over real sockets on both databases, with a real film in the folder."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from rich.console import Console
from sqlalchemy import insert, select
from typer.testing import CliRunner

from support.mp4_media import make_fragments, make_movie
from support.web_site import Serve, add_vod, problem
from vodkeep import cli
from vodkeep.db.engine import Database
from vodkeep.db.tables import channels, events, vods
from vodkeep.errors import UnknownItem
from vodkeep.keep.manifest import MANIFEST_NAME, ChapterEntry, LedgerEntry, Manifest, write_manifest
from vodkeep.pipeline.publish_plan import load_publish_item
from vodkeep.publish_command import show_preview
from vodkeep.settings import load_settings

pytestmark = pytest.mark.anyio

PREVIEW = "/api/v1/vods/2301/publication/preview"
MANIFEST = Manifest(
    video_id="2301",
    stream_id=None,
    channel="otter",
    channel_name="Otter",
    title="A title",
    date=datetime(2026, 11, 23, 14, 37, tzinfo=UTC),
    duration_ms=40_000,
    completeness=0.9,
    rendition="1080p60",
    tools=(),
    captured_at=datetime(2026, 11, 23, 18, 0, tzinfo=UTC),
    files=(),
    streams=(),
    ledger=(LedgerEntry(0, 30_000, "vod", "muted"), LedgerEntry(30_000, 40_000, "missing", "gone")),
    chapters=(
        ChapterEntry(0, 10_000, "One"),
        ChapterEntry(10_000, 20_000, "Two"),
        ChapterEntry(20_000, 40_000, "Three"),
    ),
)


def keep(
    database: Database, data_dir: Path, manifest: Manifest = MANIFEST, *, thumbnail: bytes = b"\xff\xd8\xff x"
) -> None:
    folder = data_dir / "otter" / "2301"
    folder.mkdir(parents=True)
    make_movie(folder / "video.mp4", make_fragments("h264", "aac", seconds=12).samples())
    (folder / "thumbnail.jpg").write_bytes(thumbnail)
    (folder / MANIFEST_NAME).write_text(write_manifest(manifest), "utf-8")
    add_vod(
        database,
        "2301",
        title="A <b>title</b>",
        description="As Twitch has it.",
        date=manifest.date,
        download_state="done",
        processed=1,
        downloaded_path="otter/2301/video.mp4",
    )
    with database.unit_of_work() as unit:
        unit.connection.execute(insert(channels).values(login="otter", display_name="OtTer"))
        unit.commit()


async def test_a_kept_broadcast_is_shown_as_it_would_be_sent(
    serve_site: Serve, database: Database, data_dir: Path
) -> None:
    keep(database, data_dir)
    env = {"YOUTUBE_PRIVACY_CHANNELS": "otter=unlisted", "YOUTUBE_LANGUAGE": "en"}
    async with serve_site(env=env) as site:
        preview = await site.json(PREVIEW)
        (video,) = preview["videos"]
        assert (preview["id"], preview["kept"], preview["thumbnail"], preview["notes"]) == (
            "2301",
            True,
            "thumbnail.jpg",
            [],
        )
        assert video["title"] == "A ‹b›title‹/b›"
        assert video["description"] == (
            "As Twitch has it.\n\n0:00 One\n0:10 Two\n0:20 Three\n\n"
            "Broadcast on Twitch by OtTer on 2026-11-23 at 14:37 UTC: https://www.twitch.tv/videos/2301\n"
            "Missing: 0m30s to 0m40s.\nWithout sound: 0m00s to 0m30s.\n\nVodkeep 2301/1.1"
        )
        assert (video["tags"], video["privacy"], video["language"]) == (["Twitch", "OtTer"], "unlisted", "en")
        async with site.send("PATCH", "/api/v1/vods/2301", json={"custom_description": " By hand.\r\n"}) as answer:
            assert answer.status == 200
        (video,) = (await site.json(PREVIEW))["videos"]
        assert video["description"].startswith("By hand.\n\n0:00 One")
        assert (await site.json("/api/v1/vods/2301"))["custom_description"] == "By hand."
        for _ in range(2):
            async with site.send("PATCH", "/api/v1/vods/2301", json={"custom_description": ""}) as answer:
                assert answer.status == 200
        (video,) = (await site.json(PREVIEW))["videos"]
        assert video["description"].startswith("As Twitch has it.")
        async with site.send("PATCH", "/api/v1/vods/2301", json={"custom_description": "ä" * 2501}) as answer:
            await problem(answer, 409, "not_possible")
    with database.unit_of_work(write=False) as unit:
        told = unit.connection.execute(select(events.c.sentence).where(events.c.kind == "description")).scalars().all()
        assert told == ["It has a description of its own.", "It has the description of Twitch again."]
        assert unit.connection.execute(select(vods.c.custom_description)).scalar_one() is None


async def test_a_broadcast_over_the_limits_is_shown_in_parts(
    serve_site: Serve, database: Database, data_dir: Path
) -> None:
    keep(database, data_dir, thumbnail=b"GIF89a")
    async with serve_site(env={"UPLOAD_PART_DURATION": "5s"}) as site:
        preview = await site.json(PREVIEW)
    assert [video["title"][-6:] for video in preview["videos"]] == [" (1/3)", " (2/3)", " (3/3)"]
    edges = [(video["start_ms"], video["end_ms"]) for video in preview["videos"]]
    assert edges[0][0] == 0
    assert [end for _, end in edges[:-1]] == [start for start, _ in edges[1:]]
    assert [video["marker"] for video in preview["videos"]] == [f"Vodkeep 2301/1.{part}" for part in (1, 2, 3)]
    assert (preview["thumbnail"], preview["notes"]) == (None, ["The thumbnail is neither JPEG nor PNG."])


async def test_what_is_not_kept_or_damaged_has_its_words_all_the_same(
    serve_site: Serve, database: Database, data_dir: Path
) -> None:
    keep(database, data_dir)
    (data_dir / "otter" / "2301" / "video.mp4").write_bytes(b"nothing")
    add_vod(database, "2302")
    sound = replace(MANIFEST, video_id="2303")
    folder = data_dir / "otter" / "2303"
    folder.mkdir()
    make_movie(folder / "video.mp4", make_fragments(None, "aac", seconds=12).samples())
    (folder / MANIFEST_NAME).write_text(write_manifest(sound), "utf-8")
    add_vod(database, "2303", downloaded_path="otter/2303/video.mp4")
    async with serve_site() as site:
        damaged = await site.json(PREVIEW)
        heard = await site.json("/api/v1/vods/2303/publication/preview")
        pending = await site.json("/api/v1/vods/2302/publication/preview")
        async with site.get("/api/v1/vods/9/publication/preview") as answer:
            await problem(answer, 404, "unknown_vod")
    assert "cannot be published because" in damaged["notes"][0]
    assert "takes no broadcast without a picture" in heard["notes"][0]
    assert pending["kept"] is False
    assert pending["videos"][0]["end_ms"] == 3_600_000
    assert "It is not kept yet" in pending["notes"][0]


def test_the_folder_of_another_item_is_not_shown(database: Database, data_dir: Path) -> None:
    keep(database, data_dir, replace(MANIFEST, video_id="7"))
    with database.unit_of_work(write=False) as unit:
        assert load_publish_item(unit, "2301", data_dir).folder is None


async def test_the_command_prints_the_same(database: Database, data_dir: Path) -> None:
    keep(database, data_dir)
    dsn = database.url.render_as_string(hide_password=False).replace("postgresql+psycopg", "postgres")
    settings = load_settings({"DATA_DIR": str(data_dir), "DB_DSN": dsn, "YOUTUBE_TITLE": "{date} {title}"})
    printed = Console(file=io.StringIO(), width=40)
    assert await show_preview(settings, "https://www.twitch.tv/videos/2301", printed, as_json=False) == 0
    told = printed.file.getvalue()  # type: ignore[attr-defined]
    assert "\nTitle: 2026-11-23 A ‹b›title‹/b›\n" in told
    assert "\n  Vodkeep 2301/1.1\n" in told
    assert told.endswith("Thumbnail: thumbnail.jpg\n")
    as_json = Console(file=io.StringIO(), width=40)
    assert await show_preview(settings, "2301", as_json, as_json=True) == 0
    (video,) = json.loads(as_json.file.getvalue())["videos"]  # type: ignore[attr-defined]
    assert video["title"] == "2026-11-23 A ‹b›title‹/b›"
    with pytest.raises(UnknownItem):
        await show_preview(settings, "9", as_json, as_json=False)


async def test_a_description_is_given_from_the_command_line(
    database: Database, data_dir: Path, tmp_path: Path, log_stream: io.StringIO
) -> None:
    add_vod(database, "2301")
    text = tmp_path / "words.txt"
    text.write_text("\ufeffFrom a file.\n", "utf-8")
    dsn = database.url.render_as_string(hide_password=False).replace("postgresql+psycopg", "postgres")
    environment = {"DATA_DIR": str(data_dir), "DB_DSN": dsn}

    def describe(*arguments: str) -> tuple[int, str]:
        done = CliRunner(env=environment).invoke(cli.app, ["describe", "2301", *arguments])
        return done.exit_code, done.output

    def written() -> Any:
        with database.unit_of_work(write=False) as unit:
            return unit.connection.execute(select(vods.c.custom_description)).scalar_one()

    assert await anyio.to_thread.run_sync(describe, "--file", str(text)) == (
        0,
        "2301 has a description of its own.\n",
    )
    assert written() == "From a file."
    assert await anyio.to_thread.run_sync(describe, "--clear") == (0, "2301 has the description of Twitch.\n")
    assert written() is None
    code, told = await anyio.to_thread.run_sync(describe, "--text", "a", "--clear")
    assert (code, told) == (2, "Give one of --text, --file and --clear.\n")
    code, told = await anyio.to_thread.run_sync(describe, "--file", str(tmp_path / "none"))
    assert (code, "cannot be read: No such file" in told) == (2, True)
