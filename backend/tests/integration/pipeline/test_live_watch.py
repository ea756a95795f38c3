"""From live status to an item with its chat: streams that begin, flap, restart and end, with and without a VOD."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text, update

from support.clock import START, FakeClock
from support.live_stage import LiveStage
from vodkeep.catalog.model import BroadcasterId, Video, VodId
from vodkeep.catalog.store import CatalogStore
from vodkeep.chat.ids import MARGIN_MS
from vodkeep.chat.sessions import SessionStore
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.events import EventLog
from vodkeep.db.tables import vods
from vodkeep.errors import CredentialsError, RateLimited
from vodkeep.pipeline.placeholder_store import PlaceholderStore
from vodkeep.pipeline.recorder_plan import IntoVod

pytestmark = pytest.mark.anyio

RESET = "UPDATE vods SET processed=0, processing_error=NULL, youtube_url=NULL WHERE twitch_vod_id='{}'"
PLACEHOLDER = f"live-{int(START.timestamp())}"
A_MINUTE = timedelta(minutes=1)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


@pytest.fixture
def stage(database: Database, chat_database: Database, clock: FakeClock) -> LiveStage:
    return LiveStage(database, chat_database, clock)


def sentences(stage: LiveStage, item_id: str) -> list[str]:
    with stage.database.unit_of_work(write=False) as unit:
        return [event.sentence for event in EventLog(unit.connection).of_item(item_id)]


def metric(stage: LiveStage, name: str, channel: str = "one") -> float | None:
    return stage.metrics.registry.get_sample_value(name, {"channel": channel})


async def a_stream_has_ended(stage: LiveStage, stream_id: str = "A", minutes: float = 5) -> None:
    """It began at the present moment, and is known to be over; the clock stands at its end."""
    stage.twitch.go_live("one", stream_id)
    await stage.polls()
    await stage.minutes(minutes)
    del stage.twitch.live["one"]
    await stage.polls(2)


# --- the whole way ---------------------------------------------------------------------------------------------------


async def test_a_stream_becomes_a_placeholder_and_then_its_vod(stage: LiveStage, clock: FakeClock) -> None:
    async with stage.running():
        assert stage.recorder.joined == {"one"}
        assert stage.items() == {}
        await a_stream_has_ended(stage)
        assert stage.recorder.told == ["begin one A", "end one"]
        assert stage.items() == {PLACEHOLDER: "waiting"}
        row = stage.item(PLACEHOLDER)
        assert (row["date"], row["title"], row["stream_id"]) == (START, "hello", "A")
        assert row["duration_seconds"] == 360  # up to the first reply without it
        assert stage.sessions() == [("A", PLACEHOLDER, "ended")]
        session = stage.session("A")
        assert (session.base_ms, session.vod_offset_ms) == (ms(START) - MARGIN_MS, -MARGIN_MS)

        stage.twitch.publish("one", "777", "A", at(0.25))
        await stage.minutes(1)
        assert stage.items() == {"777": "pending"}
        assert stage.sessions() == [("A", "777", "ended")]
        # What was said ten seconds into the stream is five seconds before the VOD begins.
        assert stage.session("A").vod_offset_ms == -MARGIN_MS - 15_000
        row = stage.item("777")
        assert (row["title"], row["date"], row["processed"], row["due_stage"]) == ("VOD 777", at(0.25), 0, "capture")
        assert sentences(stage, "777") == [
            "The stream began; its chat is recorded.",
            "The stream ended.",
            f"Its VOD was found; until then it was {PLACEHOLDER}.",
        ]
        assert stage.woken == 1
        await stage.minutes(20)
        assert stage.items() == {"777": "pending"}
    assert metric(stage, "chat_streams_began_total") == 1
    assert metric(stage, "chat_streams_reconciled_total") == 1
    assert metric(stage, "chat_streams_unmatched_total") is None


async def test_the_gauge_follows_the_stream(stage: LiveStage) -> None:
    async with stage.running():
        stage.twitch.go_live("one", "A")
        await stage.polls()
        assert metric(stage, "chat_recording") == 1
        stage.twitch.live.clear()
        await stage.polls(2)
        assert metric(stage, "chat_recording") == 0


async def test_twitch_is_left_alone_until_the_delay_is_over(stage: LiveStage) -> None:
    async with stage.running():
        stage.twitch.go_live("one", "A")
        await stage.minutes(5)
        assert stage.twitch.listed == []
        stage.twitch.live.clear()
        await stage.polls(2)  # over; it was first missing one poll ago
        assert stage.twitch.listed == []
        await stage.polls()
        assert stage.twitch.listed == ["one"]


async def test_a_vod_that_starts_before_the_stream_moves_the_chat_the_other_way(stage: LiveStage) -> None:
    async with stage.running():
        await a_stream_has_ended(stage)
        stage.twitch.publish("one", "777", "A", START - timedelta(seconds=7))
        await stage.minutes(1)
    assert stage.session("A").vod_offset_ms == -MARGIN_MS + 7_000


async def test_a_place_on_the_picture_that_is_known_better_stays(stage: LiveStage) -> None:
    """The chat stage lays the chat to the first segment's time; whoever finishes the reconciling keeps that."""
    async with stage.running():
        await a_stream_has_ended(stage)
    session = stage.session("A")
    stage.change(lambda unit: SessionStore(unit.connection).link(session.id, "777", 1234), stage.chat)
    stage.twitch.publish("one", "777", "A", START)
    async with stage.running():
        await stage.minutes(2)
    assert stage.items() == {"777": "pending"}
    assert stage.session("A").vod_offset_ms == 1234


# --- Twitch's moods --------------------------------------------------------------------------------------------------


async def test_flapping_live_status_is_one_stream_and_one_item(stage: LiveStage) -> None:
    async with stage.running():
        for _ in range(4):
            stage.twitch.go_live("one", "A", started_at=START)
            await stage.polls()
            stage.twitch.live.clear()
            await stage.polls()
        assert stage.recorder.told == ["begin one A"]
        await stage.polls()
        assert stage.recorder.told == ["begin one A", "end one"]
        stage.twitch.go_live("one", "A", started_at=START)  # It was not over after all.
        await stage.polls()
        assert stage.recorder.told[2:] == ["begin one A"]
        assert stage.sessions() == [("A", PLACEHOLDER, "recording")]
        assert stage.items() == {PLACEHOLDER: "waiting"}


async def test_a_stream_that_goes_on_after_it_was_given_up_is_the_same_item(stage: LiveStage) -> None:
    async with stage.running():
        await a_stream_has_ended(stage)
        await stage.minutes(20)
        assert stage.items() == {PLACEHOLDER: "done"}
        stage.twitch.go_live("one", "A", started_at=START)
        await stage.polls()
        row = stage.item(PLACEHOLDER)
        assert (row["download_state"], row["processed"], row["processing_error"]) == ("waiting", 0, None)


async def test_a_stream_that_restarts_within_minutes_is_another_item(stage: LiveStage, clock: FakeClock) -> None:
    async with stage.running():
        stage.twitch.go_live("one", "A")
        await stage.minutes(4)
        stage.twitch.go_live("one", "B")
        await stage.polls()
        assert stage.recorder.told == ["begin one A", "end one", "begin one B"]
        assert stage.sessions() == [("A", PLACEHOLDER, "ended"), ("B", f"live-{int(at(4).timestamp())}", "recording")]
        await stage.minutes(1)
        stage.twitch.live.clear()
        await stage.polls(2)
        # Only the second has a VOD, and that lies within ten minutes of the first, too.
        stage.twitch.publish("one", "888", "B", at(4))
        await stage.minutes(20)
    assert stage.items() == {PLACEHOLDER: "done", "888": "pending"}
    assert stage.sessions() == [("A", PLACEHOLDER, "ended"), ("B", "888", "ended")]


async def test_failures_and_replies_that_cannot_be_read_end_nothing(stage: LiveStage) -> None:
    async with stage.running():
        stage.twitch.go_live("one", "A")
        await stage.polls()
        stage.twitch.failure = RateLimited("Too many requests.", delay_s=10)
        await stage.minutes(10)
        stage.twitch.failure = None
        stage.twitch.live.clear()
        stage.twitch.unreadable = True
        await stage.minutes(10)
        assert stage.recorder.told == ["begin one A"]
        stage.twitch.unreadable = False
        await stage.polls()
        assert stage.recorder.told == ["begin one A"]
        await stage.polls()
        assert stage.recorder.told == ["begin one A", "end one"]


async def test_a_429_is_waited_out(stage: LiveStage) -> None:
    async with stage.running():
        asked = len(stage.twitch.asked)
        stage.twitch.failure = RateLimited("Too many requests.", delay_s=300)
        await stage.polls()
        assert len(stage.twitch.asked) == asked + 1
        stage.twitch.failure = None
        await stage.polls(9)
        assert len(stage.twitch.asked) == asked + 1
        await stage.polls()
        assert len(stage.twitch.asked) == asked + 2


async def test_many_channels_are_asked_about_in_batches_over_the_interval(
    database: Database, chat_database: Database, clock: FakeClock
) -> None:
    channels = tuple(f"c{number:03}" for number in range(250))
    stage = LiveStage(database, chat_database, clock, *channels, gather_s=1.0)
    async with stage.running():
        assert len(stage.recorder.joined) == 250
        await stage.until(lambda: stage.watch.held == len(channels))
        await clock.advance(1)
        await stage.idle()
        await clock.advance(9)
        await stage.idle()
        assert len(stage.twitch.asked) <= 4
        await clock.advance(20)
        await stage.idle()
        stage.twitch.asked.clear()
        for number in range(1, 4):
            await clock.advance(10)
            await stage.idle()
            assert len(stage.twitch.asked) == number
        assert sorted(login for group in stage.twitch.asked for login in group) == sorted(channels)
        assert max(map(len, stage.twitch.asked)) <= 100


# --- no VOD, late VODs -----------------------------------------------------------------------------------------------


async def test_a_channel_that_publishes_no_vod_keeps_its_streams(stage: LiveStage) -> None:
    async with stage.running():
        await a_stream_has_ended(stage)
        await stage.minutes(13)
        assert stage.item(PLACEHOLDER)["processing_error"] is None
        await stage.minutes(3)
        row = stage.item(PLACEHOLDER)
        assert (row["download_state"], row["processed"], row["error_code"]) == ("done", 1, "no_vod")
        assert row["processing_error"] == "Twitch published no VOD of this stream within 15m of its end."
        asked = len(stage.twitch.listed)
        assert 25 <= asked <= 31
        await stage.minutes(10)
        assert len(stage.twitch.listed) == asked, "Twitch is left alone afterwards"
    assert metric(stage, "chat_streams_unmatched_total") == 1
    with stage.database.unit_of_work(write=False) as unit:
        last = EventLog(unit.connection).of_item(PLACEHOLDER)[-1]
    assert (last.code, last.to_state) == ("no_vod", "done")
    assert "TWITCH_CLIENT_ID" in last.remedy


def _catalogue(stage: LiveStage, video: Video) -> None:
    def work(unit: UnitOfWork) -> None:
        CatalogStore(unit.connection).save_videos("one", [video], now=stage.clock.now())

    stage.change(work)


async def test_a_vod_that_appears_hours_later_is_tied_to_its_stream_when_it_is_catalogued(stage: LiveStage) -> None:
    async with stage.running():
        await a_stream_has_ended(stage)
        await stage.minutes(180)
        assert stage.items() == {PLACEHOLDER: "done"}
        stage.twitch.publish("one", "777", "A", at(0.1))
        _catalogue(stage, stage.twitch.videos["one"][0])
        await stage.reconciler.catalogued("one")
        assert stage.items() == {"777": "pending"}
        assert stage.sessions() == [("A", "777", "ended")]
        assert stage.session("A").vod_offset_ms == -MARGIN_MS - 6_000
        await stage.reconciler.catalogued("one")
    assert metric(stage, "chat_streams_reconciled_total") == 1


async def test_a_vod_that_is_listed_while_the_stream_runs_is_one_item_with_it_at_once(stage: LiveStage) -> None:
    async with stage.running():
        stage.twitch.go_live("one", "A")
        await stage.polls()
        stage.twitch.publish("one", "777", "A", START)
        _catalogue(stage, stage.twitch.videos["one"][0])
        await stage.reconciler.catalogued("one")
        assert stage.items() == {"777": "pending"}
        assert stage.sessions() == [("A", "777", "recording")]
        stage.twitch.live.clear()
        await stage.polls(2)
        assert stage.recorder.told == ["begin one A", "end one"]
        assert stage.sessions() == [("A", "777", "ended")]
        assert stage.item("777")["chat_messages"] == 0


async def test_a_stream_whose_vod_is_known_already_gets_no_placeholder(stage: LiveStage) -> None:
    stage.twitch.publish("one", "777", "A", at(0.1))
    _catalogue(stage, stage.twitch.videos["one"][0])
    async with stage.running():
        stage.twitch.go_live("one", "A", started_at=START)
        await stage.polls()
        assert stage.items() == {"777": "pending"}
        assert stage.session("A").vod_offset_ms == -MARGIN_MS - 6_000


async def test_a_vod_without_a_stream_id_is_found_by_its_start_the_closest_first(stage: LiveStage) -> None:
    async with stage.running():
        await a_stream_has_ended(stage)
        stage.twitch.publish("one", "1", None, at(9))
        stage.twitch.publish("one", "2", None, at(-3))
        stage.twitch.publish("one", "3", None, at(1), kind="highlight")
        stage.twitch.publish("one", "4", "Z", at(0))
        await stage.minutes(1)
    assert stage.sessions() == [("A", "2", "ended")]


async def test_twitch_that_cannot_be_asked_is_a_visible_state_and_asked_on(stage: LiveStage) -> None:
    async with stage.running():
        await a_stream_has_ended(stage)
        stage.twitch.videos_failure = CredentialsError("Twitch refuses the secret.", remedy="Look at it.")
        await stage.minutes(14)
        assert stage.item(PLACEHOLDER)["processing_error"] is None
        await stage.minutes(5)
        row = stage.item(PLACEHOLDER)
        assert (row["error_code"], row["processed"], row["download_state"]) == ("credentials", 0, "waiting")
        assert row["processing_error"] == "Its VOD cannot be looked for: Twitch refuses the secret."
        told = len(sentences(stage, PLACEHOLDER))
        await stage.minutes(5)
        assert len(sentences(stage, PLACEHOLDER)) == told, "the same is told once"
        stage.twitch.videos_failure = None
        stage.twitch.publish("one", "777", "A", START)
        await stage.minutes(1)
    assert (stage.items(), stage.item("777")["processing_error"]) == ({"777": "pending"}, None)


async def test_the_operators_reset_makes_it_be_looked_for_again(stage: LiveStage) -> None:
    async with stage.running():
        await a_stream_has_ended(stage)
        await stage.minutes(30)
        assert stage.items() == {PLACEHOLDER: "done"}
        stage.change(lambda unit: unit.connection.execute(text(RESET.format(PLACEHOLDER))))
        await stage.minutes(2)
        assert stage.item(PLACEHOLDER)["error_code"] == "no_vod"
        stage.twitch.publish("one", "777", "A", START)
        stage.change(lambda unit: unit.connection.execute(text(RESET.format(PLACEHOLDER))))
        await stage.minutes(1)
    assert stage.items() == {"777": "pending"}


# --- restarts and kills ----------------------------------------------------------------------------------------------


async def test_a_restart_while_live_goes_on_with_the_same_session(stage: LiveStage) -> None:
    stage.twitch.go_live("one", "A")
    async with stage.running():
        await stage.polls()
    async with stage.running():
        await stage.polls()
        stage.twitch.live.clear()
        await stage.polls(2)
    assert stage.recorder.told == ["begin one A", "release one", "begin one A", "end one"]
    assert stage.sessions() == [("A", PLACEHOLDER, "ended")]
    assert stage.items() == {PLACEHOLDER: "waiting"}


async def test_a_restart_after_which_another_stream_runs_ends_the_one_before(stage: LiveStage) -> None:
    stage.twitch.go_live("one", "A")
    async with stage.running():
        await stage.polls()
    await stage.clock.advance(600)
    stage.twitch.go_live("one", "B")
    async with stage.running():
        await stage.polls()
        assert [(stream, state) for stream, _, state in stage.sessions()] == [("A", "ended"), ("B", "recording")]


async def test_a_restart_between_the_end_of_a_stream_and_its_vod_changes_nothing(stage: LiveStage) -> None:
    async with stage.running():
        await a_stream_has_ended(stage)
    await stage.clock.advance(3600)
    stage.twitch.publish("one", "777", "A", START)
    async with stage.running():
        await stage.idle()
        assert (stage.items(), stage.sessions()) == ({"777": "pending"}, [("A", "777", "ended")])


async def test_after_a_long_absence_the_list_is_read_once_before_it_is_given_up(stage: LiveStage) -> None:
    async with stage.running():
        await a_stream_has_ended(stage)
    await stage.clock.advance(24 * 3600)
    async with stage.running():
        await stage.idle()
        assert (stage.twitch.listed, stage.items()) == (["one"], {PLACEHOLDER: "done"})


def _nothing(_stage: LiveStage) -> None:
    """The process dies before it does anything."""


def _chat_is_given_away(stage: LiveStage) -> None:
    session = stage.session("A")
    stage.change(
        lambda unit: SessionStore(unit.connection).link(session.id, "777", session.base_ms - ms(START)), stage.chat
    )


def _catalog_was_first(stage: LiveStage) -> None:
    _chat_is_given_away(stage)
    _catalogue(stage, stage.twitch.videos["one"][0])


def _only_the_catalog(stage: LiveStage) -> None:
    _catalogue(stage, stage.twitch.videos["one"][0])


def _all_but_the_end(stage: LiveStage) -> None:
    _chat_is_given_away(stage)
    video = stage.twitch.videos["one"][0]
    stage.change(lambda unit: PlaceholderStore(unit.connection).become(PLACEHOLDER, video, stage.clock.now()))


@pytest.mark.parametrize(
    "done", [_nothing, _chat_is_given_away, _catalog_was_first, _only_the_catalog, _all_but_the_end]
)
@pytest.mark.parametrize("stream_id", ["A", None])
async def test_a_kill_anywhere_in_reconciling_ends_in_one_item(
    stage: LiveStage, done: Callable[[LiveStage], None], stream_id: str | None
) -> None:
    async with stage.running():
        await a_stream_has_ended(stage)
    stage.twitch.publish("one", "777", stream_id, START)
    done(stage)
    await stage.clock.advance(300)
    async with stage.running():
        await stage.minutes(2)
    assert list(stage.items()) == ["777"]
    assert stage.sessions() == [("A", "777", "ended")]
    assert stage.session("A").vod_offset_ms == -MARGIN_MS
    assert sentences(stage, "777")[-1].startswith("Its VOD was found")
    assert sum(sentence.startswith("Its VOD was found") for sentence in sentences(stage, "777")) == 1


async def test_a_vod_that_is_gone_again_before_it_had_an_item_leaves_the_placeholder_whole(stage: LiveStage) -> None:
    async with stage.running():
        await a_stream_has_ended(stage)
    _chat_is_given_away(stage)
    await stage.clock.advance(3600)
    async with stage.running():
        await stage.minutes(1)
    assert stage.items() == {PLACEHOLDER: "done"}
    assert stage.sessions() == [("A", PLACEHOLDER, "ended")]


async def test_a_stream_that_was_noted_without_a_session_is_met_again(stage: LiveStage) -> None:
    """Killed between the two transactions of a beginning."""
    stage.change(
        lambda unit: PlaceholderStore(unit.connection).add(
            "one", stream_id="A", started_at=START, title="hello", now=START
        )
    )
    stage.twitch.go_live("one", "A")
    async with stage.running():
        await stage.polls()
        assert stage.items() == {PLACEHOLDER: "waiting"}
        assert stage.sessions() == [("A", PLACEHOLDER, "recording")]


# --- the ids of placeholders -----------------------------------------------------------------------------------------


async def test_two_channels_that_begin_in_the_same_second_have_two_items(
    database: Database, chat_database: Database, clock: FakeClock
) -> None:
    stage = LiveStage(database, chat_database, clock, "one", "two")
    async with stage.running():
        stage.twitch.go_live("one", "A")
        stage.twitch.go_live("two", "B")
        await stage.polls()
    ids = sorted(stage.items())
    assert ids[0] == PLACEHOLDER
    assert ids[1] in (f"{PLACEHOLDER}-one", f"{PLACEHOLDER}-two")
    assert len({stage.session("A").vod_id, stage.session("B", "two").vod_id}) == 2


# --- manual mode -----------------------------------------------------------------------------------------------------

MANUAL = IntoVod("one", "555", START - A_MINUTE)


async def test_manual_mode_needs_no_row_and_no_live_status(stage: LiveStage) -> None:
    async with stage.running(MANUAL):
        await stage.until(lambda: bool(stage.recorder.told))
        await stage.clock.advance(60)
        assert stage.recorder.joined == {"one"}
        assert stage.recorder.told == ["begin one None"]
        assert stage.twitch.asked == []
    assert stage.items() == {"555": "pending"}
    (session,) = stage.sessions()
    assert session == (None, "555", "recording")


async def test_manual_mode_goes_on_in_the_same_session_and_leaves_a_row_as_it_is(stage: LiveStage) -> None:
    _catalogue(stage, Video(VodId("555"), BroadcasterId("id-one"), START - A_MINUTE, "one", title="known"))
    stage.change(lambda unit: unit.connection.execute(update(vods).values(download_state="parked")))
    for _ in range(2):
        async with stage.running(MANUAL):
            await stage.until(lambda: bool(stage.recorder.sessions))
    assert stage.sessions() == [(None, "555", "recording")]
    assert (stage.item("555")["title"], stage.items()) == ("known", {"555": "parked"})
    assert stage.recorder.sessions == {}


async def test_manual_mode_of_one_channel_leaves_the_others_as_they_are(
    database: Database, chat_database: Database, clock: FakeClock
) -> None:
    stage = LiveStage(database, chat_database, clock, "one", "two")
    async with stage.running(MANUAL):
        stage.twitch.go_live("one", "A")
        stage.twitch.go_live("two", "B")
        await stage.polls()
        await stage.until(lambda: len(stage.recorder.told) == 2)
        assert sorted(stage.recorder.told) == ["begin one None", "begin two B"]
        assert stage.recorder.joined == {"one", "two"}
