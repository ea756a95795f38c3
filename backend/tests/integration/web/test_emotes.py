"""The emotes of a broadcast and their images, over HTTP and without the providers."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from support.clock import START, FakeClock
from support.vault import VaultHouse, vault_house
from support.web_site import Serve, add_vod, problem
from vodkeep.chat.tables import chat_message, chatter
from vodkeep.chat.vault.files import hash_of
from vodkeep.db.engine import Database
from vodkeep.db.tables import channels
from vodkeep_standin.emotes.model import Emote
from vodkeep_standin.scenario import ids
from vodkeep_standin.scenario.builtin import catalog_scenario
from vodkeep_standin.server import running_standin

pytestmark = pytest.mark.anyio

TOKEN = {"ADMIN_TOKEN": "a-long-enough-token"}


@pytest.fixture
async def archive(database: Database, chat_database: Database, clock: FakeClock, data_dir: Path) -> VaultHouse:
    """A vault filled an hour ago, whose providers are gone; and broadcasts of otter."""
    with database.unit_of_work() as unit:
        unit.connection.execute(insert(channels).values(login="otter", broadcaster_id=ids.CHANNEL_ID))
        unit.commit()
    add_vod(database, "1", date=START, duration_seconds=3600)
    async with (
        running_standin(catalog_scenario(1)) as standin,
        vault_house(chat_database, standin, clock, data_dir) as house,
    ):
        session = await house.add_session(None)
        await house.add_messages(session, (0, "777000:0-4", "Other"))
        while await house.vault.scan_messages():
            pass
        await house.vault.snapshot(ids.CHANNEL_ID, clock.now())
        await house.fetch_all()
        clock.jump(1800)
        standin.scenario.emotes.bttv[ids.CHANNEL_ID] = [Emote("5f9" + "0" * 21, "catJAM")]
        await house.vault.snapshot(ids.CHANNEL_ID, clock.now())
        clock.jump(7200)
    return house


async def test_the_emotes_of_a_broadcast_with_the_providers_gone(serve_site: Serve, archive: VaultHouse) -> None:
    async with serve_site() as site:
        found = await site.json("/api/v1/vods/1/chat/emotes")
        cat = found["codes"]["catJAM"]
        assert cat["animated"] is True
        assert cat["provider"] == "bttv"
        assert found["codes"]["RainTime"]["zero_width"] is True
        assert found["twitch"]["777000"]["code"] == "Other"
        assert found["twitch"]["25"]["code"] == "Kappa"
        assert found["badges"]["subscriber/12"]["title"] == "12-Month Subscriber"
        changes = [(change["offset_ms"], change["code"], change["emote"] and change["emote"]["url"])
                   for change in found["changes"]]  # fmt: skip
        assert changes == [(1_800_000, "Clap", None), (1_800_000, "catJAM", None)]
        assert found["changes"][1]["emote"]["id"] == "5f9" + "0" * 21
        assert all(seen["exact"] for seen in found["sets"])
        async with site.get(cat["url"]) as answer:
            data = await answer.read()
            assert answer.status == 200
            assert cat["url"].endswith(hash_of(data))
            assert len(data) == cat["size_bytes"]
            assert answer.headers["Content-Type"] == "image/gif"
            assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
            etag = answer.headers["ETag"]
        async with site.get(cat["url"], headers={"If-None-Match": etag}) as answer:
            assert answer.status == 304
            assert await answer.read() == b""
            assert "immutable" in answer.headers["Cache-Control"]
        async with site.head(cat["url"]) as answer:
            assert answer.status == 200
            assert answer.headers["Content-Length"] == str(len(data))


async def test_an_unchanged_answer_is_not_sent_twice(serve_site: Serve, archive: VaultHouse) -> None:
    async with serve_site() as site, site.get("/api/v1/vods/1/chat/emotes") as first:
        again = {"If-None-Match": first.headers["ETag"]}
        async with site.get("/api/v1/vods/1/chat/emotes", headers=again) as answer:
            assert answer.status == 304


async def test_both_are_behind_the_login(serve_site: Serve, archive: VaultHouse) -> None:
    async with serve_site(env=TOKEN) as site:
        found = await site.json("/api/v1/vods/1/chat/emotes", headers={"X-Admin-Token": TOKEN["ADMIN_TOKEN"]})
        for path in ("/api/v1/vods/1/chat/emotes", found["codes"]["catJAM"]["url"]):
            async with site.get(path) as answer:
                assert answer.status == 401


@pytest.mark.parametrize(
    "name", ["0" * 64, "x", "../../vodkeep.db", "..%2f..%2fvodkeep.db", "A" * 64, "0" * 63 + "%00"]
)
async def test_what_is_no_image_of_the_vault_is_not_there(serve_site: Serve, archive: VaultHouse, name: str) -> None:
    async with serve_site() as site, site.get(f"/api/v1/emotes/{name}") as answer:
        assert answer.status == 404


async def test_a_broadcast_that_is_not_there_has_no_emotes(serve_site: Serve, archive: VaultHouse) -> None:
    async with serve_site() as site:
        for vod_id in ("2", "x%00", "live-1"):
            async with site.get(f"/api/v1/vods/{vod_id}/chat/emotes") as answer:
                await problem(answer, 404, "unknown_vod")


async def test_an_image_whose_file_was_spoilt_is_not_shown(serve_site: Serve, archive: VaultHouse) -> None:
    async with serve_site() as site:
        url = (await site.json("/api/v1/vods/1/chat/emotes"))["codes"]["catJAM"]["url"]
        image_hash = url.rpartition("/")[2]
        path = archive.data_dir / ".emotes" / image_hash[:2] / f"{image_hash}.gif"
        path.write_bytes(b"<script>alert(1)</script>")
        async with site.get(url) as answer:
            await problem(answer, 404, "unknown_emote")
        shutil.rmtree(archive.data_dir / ".emotes")
        assert (await site.json("/api/v1/vods/1/chat/emotes"))["codes"]["catJAM"]["url"] is None


async def test_a_channel_nobody_has_looked_up_and_one_still_live(
    serve_site: Serve, archive: VaultHouse, database: Database
) -> None:
    add_vod(database, "7", channel="nobody", date=START - timedelta(days=30))
    add_vod(database, "8", date=START, duration_seconds=None)
    async with serve_site() as site:
        unknown = await site.json("/api/v1/vods/7/chat/emotes")
        assert "OMEGALUL" in unknown["codes"]
        assert "catJAM" not in unknown["codes"]
        assert not any(seen["exact"] for seen in unknown["sets"])
        assert len((await site.json("/api/v1/vods/8/chat/emotes"))["changes"]) == 2


async def test_the_manifest_tells_everything_without_the_database(archive: VaultHouse, tmp_path: Path) -> None:
    folder = tmp_path / "item"
    folder.mkdir()
    end = START + timedelta(hours=1)
    with archive.database.unit_of_work() as unit:
        somebody = {"id": 7, "user_id": "9", "login": "x", "display_name": "X", "color": "",
                    "badges": "subscriber/12,unknown/1"}  # fmt: skip
        unit.connection.execute(insert(chatter).values(somebody))
        unit.connection.execute(update(chat_message).values(body="hello catJAM OMEGALUL catJAM", chatter_id=7))
        unit.commit()
    names = await archive.replay.write_manifest(
        folder, vod_id="1", channel_id=ids.CHANNEL_ID, start=START, end=end, with_images=True
    )
    document = json.loads((folder / "emotes.json").read_bytes())
    assert set(document["codes"]) == {"catJAM", "OMEGALUL"}
    assert set(document["twitch"]) == {"777000"}
    assert set(document["badges"]) == {"subscriber/12"}
    assert [change["code"] for change in document["changes"]] == ["catJAM"]
    described = [*document["codes"].values(), *document["twitch"].values(), *document["badges"].values()]
    files = {f"emotes/{emote['image']['file']}" for emote in described}
    assert set(names) == {"emotes.json", *files}
    for emote in described:
        data = (folder / "emotes" / emote["image"]["file"]).read_bytes()
        assert hash_of(data) == emote["image"]["blake3"]
    # Once more, as a stage may be run twice, and without images.
    assert await archive.replay.write_manifest(folder, vod_id="1", channel_id=None, start=START, end=end) == (
        "emotes.json",
    )
