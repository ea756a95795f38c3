"""A channel goes live: its chat is there from the first word, and becomes that of its VOD, at the right second."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from support.commands import vodkeep
from support.home import Home, HomeOf
from support.service import ServiceProcess, wait_until
from vodkeep.chat.ids import offset_of, pack_msg_id, session_of
from vodkeep_standin.faults.status import Status
from vodkeep_standin.media.recipe import Recipe
from vodkeep_standin.scenario import ids
from vodkeep_standin.scenario.model import Stream, Video

pytestmark = pytest.mark.timeout(180)

QUICK = {
    "CHAT_AUTO_START": "1",
    "CHAT_AUTO_POLL_INTERVAL": "200ms",
    "VOD_RECONCILE_DELAY": "500ms",
    "VOD_PROCESS_INTERVAL": "60s",
}
VOD = "2700000099"


def chat_sql(home: Home, statement: str) -> list[dict[str, Any]]:
    """One statement on the database of chat."""
    return home.sql(statement, file="chat.db")


def joined(service: ServiceProcess) -> None:
    service.wait_for("started")
    wait_until(lambda: service.get_json("/status")["chat"]["joined"] == 1, "the recorder is in the chat")


def say(home: Home, count: int) -> list[str]:
    return [home.standin.irc.say(ids.CHANNEL, f"line {number}") for number in range(count)]


def stored(home: Home) -> dict[bytes, dict[str, Any]]:
    """Message id to row and its session."""
    rows = chat_sql(home, "SELECT id, msg_id FROM chat_message WHERE kind = 0")
    sessions = {row["id"]: row for row in chat_sql(home, "SELECT * FROM chat_session")}
    return {bytes(row["msg_id"]): {**sessions[session_of(row["id"])], "id": row["id"]} for row in rows}


def publish(home: Home, stream: Stream, *, vod_id: str = VOD, later_s: float = 3, stream_id: str | None = "") -> Video:
    """The VOD of a stream appears; its picture begins a little after the stream."""
    video = Video(
        vod_id,
        stream.channel,
        "The recording",
        stream.started_at + timedelta(seconds=later_s),
        Recipe(runs_s=(6,)),
        stream.id if stream_id == "" else stream_id,
    )
    home.standin.put_video(video)
    return video


def check_offsets(home: Home, sent: list[str], video: Video) -> None:
    """Every message is there once, of one session, and as far from the picture's start as it was said."""
    rows = stored(home)
    assert len(rows) >= len(sent)
    times = {
        entry.id: int(found[1])
        for entry in home.standin.irc.sent
        if (found := re.search(r"tmi-sent-ts=(\d+)", entry.line)) is not None
    }
    vod_ms = video.created_at.timestamp() * 1000
    for msg_id in sent:
        row = rows[pack_msg_id(msg_id)]
        assert row["vod_id"] == video.id
        assert abs(offset_of(row["id"]) + row["vod_offset_ms"] - (times[msg_id] - vod_ms)) <= 1


@pytest.fixture
def home(home_of: HomeOf, dsn: str | None) -> Home:
    """A channel without any video, on each database; the scenario's clock runs."""
    return home_of(dsn=dsn, speed=1)


def test_a_stream_with_its_chat_becomes_the_item_of_its_vod_though_killed_in_between(home: Home) -> None:
    service = home.start(**QUICK)
    joined(service)
    early = say(home, 3)  # before it is live: nobody's
    home.standin.advance(2)  # Twitch tells the start in whole seconds
    stream = home.standin.start_stream(ids.CHANNEL, title="hello")
    said = say(home, 20)  # before anybody knows that it is live
    service.wait_for("chat recording began", stream_id=stream.id)
    placeholder = f"live-{int(stream.started_at.timestamp())}"
    assert [row["twitch_vod_id"] for row in home.sql("SELECT twitch_vod_id FROM vods")] == [placeholder]
    said += say(home, 20)
    wait_until(lambda: len(stored(home)) >= 40, "the chat is stored")
    status = service.get_json("/status")
    assert (status["placeholders"], status["pending"], status["queue_depth"]) == (1, 0, 0)
    (live,) = status["chat"]["live"]
    assert (live["channel"], live["id"], live["stream_id"]) == (ids.CHANNEL, placeholder, stream.id)
    assert service.metrics()["chat_recording", ids.CHANNEL] == 1
    assert service.vod(placeholder)["title"] == "hello"
    shown = vodkeep(home, "status", **QUICK)
    assert "Chat: in 1 of 1 channels, 1 live." in shown.stdout, shown
    assert f"Chat of {ids.CHANNEL} into {placeholder}" in shown.stdout
    assert "nothing in the queue" in vodkeep(home, "queue").stdout

    service.kill()  # while it is live
    service = home.start(**QUICK)
    service.wait_for("chat recording goes on", stream_id=stream.id)
    joined(service)
    said += say(home, 20)
    wait_until(lambda: len(stored(home)) >= 60, "the chat goes on")
    home.standin.stop_stream(ids.CHANNEL)
    service.wait_for("chat recording ended", stream_id=stream.id)
    service.kill()  # between the end and the VOD
    video = publish(home, stream)
    service = home.start(**QUICK)
    service.wait_for("stream reconciled", vod_id=VOD, placeholder=placeholder)
    service.wait_for("vod processed", vod_id=VOD)

    assert [row["twitch_vod_id"] for row in home.sql("SELECT twitch_vod_id FROM vods")] == [VOD]
    check_offsets(home, said, video)
    assert not {pack_msg_id(each) for each in early} & set(stored(home))
    (session,) = chat_sql(home, "SELECT * FROM chat_session")
    assert (session["vod_id"], session["state"], session["stream_id"]) == (VOD, "ended", stream.id)
    sentences = [event["sentence"] for event in service.vod(VOD)["events"]]
    assert sentences[:2] == ["The stream began; its chat is recorded.", "The stream ended."]
    assert sentences.count(f"Its VOD was found; until then it was {placeholder}.") == 1
    status = service.get_json("/status")
    assert (status["placeholders"], status["unmatched"], status["processed"]) == (0, 0, 1)
    assert service.metrics()["chat_streams_reconciled_total", ids.CHANNEL] == 1
    assert service.terminate() == 0


def test_auto_chat_never_reconciles_as_the_operations_page_has_it(home: Home) -> None:
    """Helix refuses us; then it does not and there is no VOD; then there is one after all."""
    quick = {**QUICK, "VOD_RECONCILE_WINDOW": "1s", "VOD_PROCESS_INTERVAL": "1s"}
    service = home.start(**quick)
    joined(service)
    stream = home.standin.start_stream(ids.CHANNEL)
    service.wait_for("chat recording began", stream_id=stream.id)
    refused = home.standin.faults.add(Status(401), path="/helix/videos")
    home.standin.stop_stream(ids.CHANNEL)
    placeholder = f"live-{int(stream.started_at.timestamp())}"
    service.wait_for("vod of stream cannot be looked for", vod_id=placeholder, code="credentials")
    assert service.vod(placeholder)["error"]["code"] == "credentials"
    assert service.get_json("/status")["unmatched"] == 1
    home.standin.faults.remove(refused)
    told = service.wait_for("no vod found for stream", vod_id=placeholder)
    assert "VOD_RECONCILE_WINDOW" in told["remedy"]
    item = service.vod(placeholder)
    assert (item["state"], item["processed"], item["error"]["code"]) == ("done", True, "no_vod")
    video = publish(home, stream)
    service.wait_for("stream reconciled", vod_id=VOD)
    assert [row["twitch_vod_id"] for row in home.sql("SELECT twitch_vod_id FROM vods")] == [VOD]
    assert chat_sql(home, "SELECT vod_id FROM chat_session") == [{"vod_id": video.id}]
    assert service.metrics()["chat_streams_unmatched_total", ids.CHANNEL] == 1


def test_manual_mode_records_into_a_vod_that_nobody_knows(home: Home) -> None:
    start = home.standin.world.clock.now().replace(microsecond=0) - timedelta(minutes=2)
    service = home.start(
        **{
            **QUICK,
            "CHAT_AUTO_START": "0",
            "TWITCH_VOD_ID": VOD,
            "TWITCH_VOD_START": f"{start:%Y-%m-%dT%H:%M:%SZ}",
        }
    )
    joined(service)
    said = say(home, 10)
    wait_until(lambda: len(stored(home)) == 10, "the chat is stored")
    video = Video(VOD, ids.CHANNEL, "", start)
    check_offsets(home, said, video)
    assert home.sql("SELECT twitch_vod_id FROM vods") == [{"twitch_vod_id": VOD}]


def test_chat_is_recorded_for_an_account_and_not_without(home: Home) -> None:
    off = home.start()
    told = off.wait_for("chat recorder disabled")
    assert "CHAT_AUTO_START=1" in told["remedy"]
    off.wait_for("started")
    wait_until(lambda: off.get_json("/status")["chat"]["reason"] == told["reason"], "the reason is shown")
    chat = off.get_json("/status")["chat"]
    assert (chat["enabled"], chat["reason"], chat["remedy"]) == (False, told["reason"], told["remedy"])
    assert off.terminate() == 0

    token = home.standin.scenario.chat_token
    service = home.start(TWITCH_BOT_USERNAME="keeper", TWITCH_OAUTH_TOKEN=token, CHAT_AUTO_POLL_INTERVAL="200ms")
    joined(service)
    assert [login.nick for login in home.standin.irc.logins] == ["keeper"]
    stream = home.standin.start_stream(ids.CHANNEL)
    service.wait_for("chat recording began", stream_id=stream.id)
    assert token not in service.output()


def test_a_login_that_is_refused_is_a_state_that_status_shows(home: Home) -> None:
    home.standin.irc.refuse_tokens = "Login authentication failed"
    service = home.start(TWITCH_BOT_USERNAME="keeper", TWITCH_OAUTH_TOKEN="badtoken", **QUICK)
    service.wait_for("chat login failed")
    joined(service)  # anonymously
    wait_until(
        lambda: (service.get_json("/status")["chat"]["login_failure"] or {}).get("account") == "keeper",
        "the failure is shown",
    )


def holder_of(home: Home, lease: str) -> int | None:
    """The pid of the process that has the lease; None while nobody has it."""
    rows = home.sql(f"SELECT holder FROM leases WHERE name = '{lease}' AND expires_at > clock_timestamp()")
    return int(rows[0]["holder"].split(":")[1]) if rows and rows[0]["holder"] else None


@pytest.mark.postgres
def test_of_two_processes_one_records_and_the_other_goes_on_when_it_is_killed(
    home_of: HomeOf, postgres_dsn: str
) -> None:
    home = home_of(dsn=postgres_dsn, speed=1)
    lease = f"chat:{ids.CHANNEL}"
    both = {service.pid: service for service in (home.start("--roles", "watch,web", **QUICK) for _ in range(2))}
    # Once both are there, the only channel is that one's whose name comes first.
    holder = min(str(service.wait_for("started")["holder"]) for service in both.values())
    first = int(holder.split(":")[1])
    wait_until(lambda: holder_of(home, lease) == first, "one of them has the channel")
    joined(both[first])
    stream = home.standin.start_stream(ids.CHANNEL)
    both[first].wait_for("chat recording began", stream_id=stream.id)
    said = say(home, 20)
    wait_until(lambda: len(stored(home)) >= 20, "the chat is stored")
    both[first].kill()
    (second,) = both.keys() - {first}
    # What is said now nobody hears; the VOD's own chat has it later.
    say(home, 1)
    both[second].wait_for("chat recording goes on", stream_id=stream.id, timeout_s=15)
    wait_until(lambda: both[second].get_json("/status")["chat"]["joined"] == 1, "the other is in the chat")
    said += say(home, 20)
    wait_until(lambda: {pack_msg_id(each) for each in said} <= set(stored(home)), "all of it is stored")
    assert len(chat_sql(home, "SELECT id FROM chat_session")) == 1
    ids_stored = [bytes(row["msg_id"]) for row in chat_sql(home, "SELECT msg_id FROM chat_message WHERE kind = 0")]
    assert len(ids_stored) == len(set(ids_stored))
