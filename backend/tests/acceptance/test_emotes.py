"""Emotes and badges: kept by a running service, shown by one that reaches nobody."""

from __future__ import annotations

import json
import os
import time

from sqlalchemy import insert

from support.commands import vodkeep
from support.home import Home, HomeOf
from support.service import wait_until
from vodkeep.chat.database import chat_database
from vodkeep.chat.tables import chat_message, chat_session
from vodkeep.chat.vault.files import hash_of
from vodkeep.db.engine import Database
from vodkeep.settings import load_settings
from vodkeep_standin.faults.latency import Latency
from vodkeep_standin.faults.status import Status
from vodkeep_standin.scenario import ids

IMAGES = "/*/emote/*"


def record(home: Home, vod_id: str) -> None:
    """As if chat of an item were being recorded, with one message that has somebody else's emote."""
    database = Database(load_settings(home.env(), None).database.url())
    chat = chat_database(database)
    session = {
        "channel": ids.CHANNEL,
        "channel_id": ids.CHANNEL_ID,
        "source": 0,
        "base_ms": int(time.time() * 1000) - 600_000,
        "vod_id": vod_id,
    }
    message = {"kind": 0, "source": 0, "emotes": "777000:0-4", "body": "Other", "msg_id": bytes(16)}
    with chat.unit_of_work() as unit:
        number = unit.connection.execute(insert(chat_session).values(session).returning(chat_session.c.id)).scalar_one()
        unit.connection.execute(insert(chat_message).values(id=number << 32, **message))
        unit.commit()
    chat.dispose()
    database.dispose()


def test_chat_looks_the_same_after_a_kill_and_with_the_network_off(home_of: HomeOf, dsn: str | None) -> None:
    home = home_of(ids.PLAIN, dsn=dsn)
    service = home.start()
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    assert service.terminate() == 0
    record(home, ids.PLAIN)
    slow = home.standin.faults.add(Latency(300), path=IMAGES)
    service = home.start()
    wait_until(lambda: len(list((home.root / "data" / ".emotes").rglob("*.*"))) >= 3, "some images are kept")
    service.kill()
    home.standin.faults.remove(slow)

    service = home.start()
    address = f"/api/v1/vods/{ids.PLAIN}/chat/emotes"

    def all_kept() -> bool:
        found = service.get_json(address)
        shown = [*found["codes"].values(), *found["twitch"].values(), *found["badges"].values()]
        return len(shown) > 20 and "777000" in found["twitch"] and all(emote["url"] for emote in shown)

    wait_until(all_kept, "every image is kept", timeout_s=60)
    assert service.terminate() == 0

    home.standin.faults.add(Status(503))
    asked = len(home.standin.requests.entries(IMAGES))
    service = home.start()
    assert all_kept()
    found = service.get_json(address)
    for emote in [*found["codes"].values(), *found["twitch"].values(), *found["badges"].values()]:
        status, body, headers = service.get(emote["url"])
        assert status == 200
        assert emote["url"].endswith(hash_of(body))
        assert headers["x-content-type-options"] == "nosniff"
    assert len(home.standin.requests.entries(IMAGES)) == asked

    folder = home.folder(ids.PLAIN)
    told = json.loads((folder / "emotes.json").read_bytes())
    assert told["vod_id"] == ids.PLAIN
    assert any(entry["name"] == "emotes.json" for entry in home.manifest(ids.PLAIN)["files"])

    stray = home.root / "data" / ".emotes" / "00" / f"{'0' * 64}.png"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"left by a crash long ago")
    nothing = vodkeep(home, "emotes", "tidy", "--json", "--remove")
    assert json.loads(nothing.stdout) == {"found": [], "size_bytes": 0, "removed": 0}, "it may be a fetch at work"
    then = time.time() - 7200
    os.utime(stray, (then, then))
    named = vodkeep(home, "emotes", "tidy")
    assert (named.returncode, stray.exists()) == (0, True)
    assert "1 file is not in use" in named.stdout
    assert json.loads(vodkeep(home, "emotes", "tidy", "--json", "--remove").stdout)["removed"] == 1
    assert not stray.exists()
    assert all_kept()
