"""The whole chat of a VOD ends up in the database and beside its video, whatever is killed meanwhile."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from support.commands import vodkeep
from support.home import Home, HomeOf, check_kept
from support.service import wait_until
from vodkeep.chat.zstd import ZstdFile
from vodkeep_standin.faults.gql_comments import OPERATION
from vodkeep_standin.faults.latency import Latency
from vodkeep_standin.scenario import ids
from vodkeep_standin.scenario.chat import VideoChat

PER_SECOND = 300


def chat_rows(home: Home, statement: str) -> list[dict[str, Any]]:
    return home.sql(statement, file="chat.db")


def count(home: Home) -> int:
    return int(chat_rows(home, "SELECT count(*) AS n FROM chat_message")[0]["n"])


def command(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    return vodkeep(home, *arguments)


def said(home: Home) -> list[str]:
    """The ids of what was said in the broadcast, in order."""
    script = home.standin.world.chat_script(home.standin.scenario.videos[ids.PLAIN])
    return [line.id for line in script.between(0, 10**9)]


def lines_of(home: Home) -> list[dict[str, Any]]:
    with ZstdFile(home.folder(ids.PLAIN) / "chat.ndjson.zst") as file:
        return [json.loads(line) for line in file]


def test_a_vods_chat_is_kept_whole_though_the_service_is_killed_in_the_middle(home_of: HomeOf, dsn: str | None) -> None:
    home = home_of(ids.PLAIN, dsn=dsn)
    home.standin.scenario.update_video(ids.PLAIN, chat=VideoChat(per_second=PER_SECOND))
    slow = home.standin.faults.add(Latency(40), operation=OPERATION)
    wanted = said(home)

    for least in (1_000, 4_000):
        service = home.start()
        service.wait_for("started")
        wait_until(lambda least=least: count(home) >= least, f"{least} messages are there")  # type: ignore[misc]
        service.kill()
        assert count(home) < len(wanted)
    home.standin.faults.remove(slow)
    service = home.start()
    kept = service.wait_for("chat kept", vod_id=ids.PLAIN)
    service.wait_for("vod processed", vod_id=ids.PLAIN)

    assert kept["messages"] == len(wanted)
    assert 0 < kept["added"] < len(wanted) - 4_000, "what was there was not fetched again"
    assert count(home) == len(wanted)
    manifest = check_kept(home, ids.PLAIN)
    assert (manifest["chat"]["messages"], manifest["chat"]["completeness"]) == (len(wanted), 1.0)
    head, *lines = lines_of(home)
    assert (head["format"], head["completeness"]) == ("vodkeep-chat/1", 1.0)
    assert sorted(line["id"] for line in lines) == sorted(wanted)
    offsets = [line["offset_ms"] for line in lines]
    assert offsets == sorted(offsets)
    row = home.vod(ids.PLAIN)
    assert (row["chat_messages"], row["chat_completeness"]) == (len(wanted), 1.0)
    # Each kill is a new claim, and no failure.
    assert row["download_retries"] == 0
    assert command(home, "verify", "--all").returncode == 0


def test_a_chat_that_is_not_to_be_had_does_not_hold_the_picture_up(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    home.standin.scenario.update_video(ids.PLAIN, chat=VideoChat(disabled=True))
    service = home.start()
    told = service.wait_for("chat is not complete", vod_id=ids.PLAIN)
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    assert told["code"] == "chat_not_offered"
    row = home.vod(ids.PLAIN)
    assert (row["download_state"], row["processed"], row["processing_error"]) == ("done", 1, None)
    assert (row["chat_completeness"], row["chat_messages"]) == (0.0, 0)
    [event] = home.sql("SELECT sentence FROM events WHERE code = 'chat_not_offered'")
    assert "Twitch does not offer the chat" in event["sentence"]
    assert home.manifest(ids.PLAIN)["chat"]["reason"] == "Twitch does not offer the chat of this VOD."


@pytest.mark.cold_start
def test_a_person_is_erased_while_the_service_runs(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    service = home.start()
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    [busiest] = chat_rows(
        home,
        "SELECT c.login, count(*) AS n FROM chat_message m JOIN chatter c ON c.id = m.chatter_id"
        " GROUP BY c.login ORDER BY n DESC, c.login LIMIT 1",
    )
    login, before = busiest["login"], count(home)
    answer = command(home, "chat", "erase", "--user", login, "--json")
    told = json.loads(answer.stdout)
    assert (told["messages"], told["purged"]) == (busiest["n"], True), answer.stderr
    assert count(home) == before - busiest["n"]
    assert login not in json.dumps(lines_of(home))
    exported = command(home, "chat", "export", ids.PLAIN, "--format", "txt")
    assert len(exported.stdout.splitlines()) == before - busiest["n"]
