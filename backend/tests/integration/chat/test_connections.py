"""The connections over real sockets: TLS to the stand-in, which breaks them in every way. Time is the test's."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest
import structlog
from sqlalchemy import insert, update

from support.chat_sink import CollectingSink
from support.clock import FakeClock
from support.standin import StandinFactory
from vodkeep.accounts.setup import build_keeper
from vodkeep.chat.connections import Connections
from vodkeep.chat.conversation import Conversation, Credentials
from vodkeep.chat.irc import parse_line
from vodkeep.clock import SystemClock
from vodkeep.db.engine import Database
from vodkeep.db.tables import oauth_tokens
from vodkeep.errors import NetworkError
from vodkeep.pipeline.chat_login import ChatLogin
from vodkeep.settings import load_settings
from vodkeep.telemetry.log import get_logger
from vodkeep_standin.scenario.model import Channel, Scenario
from vodkeep_standin.server import Standin

pytestmark = pytest.mark.anyio

KAI, ANN = "kai", "ann"


def scenario(channels: int = 0) -> Scenario:
    logins = [KAI, ANN, *(f"c{number:03d}" for number in range(channels))]
    return Scenario.of("chat", [Channel(str(number), login, login.title()) for number, login in enumerate(logins)])


@pytest.fixture
def twitch(standin_of: StandinFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Standin]:
    standin = standin_of(scenario(channels=200), speed=0)
    standin.irc.joins_allowed = 1000  # It counts in real time, the connections in the test's.
    monkeypatch.setenv("SSL_CERT_FILE", str(standin.ca_path))
    yield standin
    # Sessions that a test froze would hold the stand-in up.
    standin.irc.reset()


@pytest.fixture
def sink() -> CollectingSink:
    return CollectingSink()


async def nobody() -> Credentials | None:
    return None


Make = Callable[..., Connections]


@asynccontextmanager
async def running(connections: Connections, *channels: str) -> AsyncIterator[Connections]:
    connections.set_channels(frozenset(channels))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(connections.run)
        yield connections
        tasks.cancel_scope.cancel()


@pytest.fixture
def make(twitch: Standin, sink: CollectingSink, clock: FakeClock) -> Make:
    def build(credentials: Callable[..., object] = nobody, url: str | None = None) -> Connections:
        log = structlog.stdlib.get_logger()
        return Connections(sink, url or twitch.irc.url, credentials, clock, random.Random(1), log)  # type: ignore[arg-type]

    return build


async def told(twitch: Standin, sink: CollectingSink, channel: str = KAI, text: str = "hello") -> str:
    """Something is said and arrives."""
    said = twitch.irc.say(channel, text)
    await sink.until(lambda: said in sink.ids)
    return said


async def until(holds: Callable[[], bool]) -> None:
    """Wait, in real time, until something holds that the network decides."""
    with anyio.fail_after(60):
        while not holds():
            await anyio.lowlevel.checkpoint()


async def quiet(connections: Connections, *, pings: bool = True) -> None:
    """Wait, in real time, until the stand-in has answered everything it was asked; then time may go on."""
    await until(
        lambda: all(
            held.ended or _answered(held.conversation, pings=pings)
            for seat in connections._seats
            for held in (seat._joining, seat._serving)
            if held is not None
        )
    )


def _answered(conversation: Conversation | None, *, pings: bool) -> bool:
    if conversation is None or not conversation.welcomed or (pings and conversation._pinged_s is not None):
        return False
    asked = {channel for channel, attempt in conversation._attempts.items() if attempt.tries}
    return asked <= conversation.refused.keys()


async def live_through(connections: Connections, clock: FakeClock, seconds: float) -> None:
    """Time passes, no faster than the stand-in answers."""
    ends_s = clock.monotonic() + seconds
    while True:
        await quiet(connections)
        left_s = ends_s - clock.monotonic()
        if left_s < 0.001:
            return
        await clock.advance(min(left_s, 1.0))


async def let_time_pass(connections: Connections, clock: FakeClock, holds: Callable[[], bool], most_s: float) -> float:
    """Advance until something holds; returns how long it took. A stand-in that does not answer PING is let be."""
    began_s = clock.monotonic()
    while not holds():
        assert clock.monotonic() - began_s < most_s
        await clock.advance(0.25)
        await quiet(connections, pings=False)
    return clock.monotonic() - began_s


async def test_what_is_said_in_a_channel_arrives_in_order(twitch: Standin, sink: CollectingSink, make: Make) -> None:
    async with running(make(), KAI):
        await sink.until(lambda: sink.present() == {KAI})
        ids = twitch.irc.burst(KAI, 500)
        await sink.until(lambda: len(sink.ids) == 500)
    assert sink.ids == ids
    assert twitch.irc.logins[0].nick.startswith("justinfan")


async def test_leaving_is_told_when_it_ends(twitch: Standin, sink: CollectingSink, make: Make) -> None:
    async with running(make(), KAI):
        await sink.until(lambda: sink.present() == {KAI})
    assert [call[:2] for call in sink.calls] == [("joined", KAI), ("left", KAI)]


async def test_a_late_answer_to_a_join_is_when_we_are_there(twitch: Standin, sink: CollectingSink, make: Make) -> None:
    twitch.irc.join_delay_s = 0.2
    async with running(make(), KAI):
        await sink.until(lambda: sink.present() == {KAI})
        assert len(twitch.irc.joins) == 1


async def test_channels_come_and_go(twitch: Standin, sink: CollectingSink, make: Make) -> None:
    async with running(make(), KAI) as connections:
        await sink.until(lambda: sink.present() == {KAI})
        connections.set_channels(frozenset({ANN}))
        await sink.until(lambda: sink.present() == {ANN})
        await told(twitch, sink, ANN)
        assert len(twitch.irc.logins) == 1
        assert [state.joined for state in connections.states()] == [(ANN,)]
        connections.set_channels(frozenset())
        await sink.until(lambda: sink.present() == set())
        connections.set_channels(frozenset({KAI}))
        await sink.until(lambda: sink.present() == {KAI})


async def test_many_channels_take_several_connections_and_join_as_fast_as_allowed(
    twitch: Standin, sink: CollectingSink, make: Make, clock: FakeClock
) -> None:
    channels = [f"c{number:03d}" for number in range(190)]
    async with running(make(), *channels) as connections:
        for window in range(1, 11):
            await sink.until(lambda: len(sink.present()) == min(190, 20 * window))  # noqa: B023
            assert len(twitch.irc.joins) == min(190, 20 * window)
            if window < 10:
                await live_through(connections, clock, 10.3)
                assert len(twitch.irc.joins) == 20 * window
                await live_through(connections, clock, 0.2)
        assert sorted(len(state.joined) for state in connections.states()) == [10, 90, 90]
    assert len(twitch.irc.logins) == 3


@pytest.mark.parametrize("end", ["cut", "reset"])
async def test_a_broken_connection_is_replaced_and_the_gap_is_told(
    twitch: Standin, sink: CollectingSink, make: Make, clock: FakeClock, end: str
) -> None:
    async with running(make(), KAI) as connections:
        await sink.until(lambda: sink.present() == {KAI})
        await live_through(connections, clock, 30)
        last_s = clock.monotonic()
        await told(twitch, sink)
        await clock.advance(5)
        getattr(twitch.irc, end)()
        await sink.until(lambda: sink.present() == set())
        start_ms = sink.calls[0][2]
        assert sink.calls[-1][2] - start_ms == last_s * 1000  # The last sign of life, not when it was noticed.
        await until(lambda: connections.states()[0].failure is not None)
        await let_time_pass(connections, clock, lambda: sink.present() == {KAI}, most_s=2)
        assert connections.states()[0].failure is None
        await told(twitch, sink)


async def test_a_half_open_connection_is_found_and_replaced_within_90_seconds(
    twitch: Standin, sink: CollectingSink, make: Make, clock: FakeClock
) -> None:
    async with running(make(), KAI) as connections:
        await sink.until(lambda: sink.present() == {KAI})
        await told(twitch, sink)
        began_s = clock.monotonic()
        twitch.irc.freeze()
        took_s = await let_time_pass(connections, clock, lambda: len(sink.calls) == 3, most_s=90)
        assert 20 <= took_s <= 25
        (_, _, start_ms), (_, _, left_ms), (_, _, back_ms) = sink.calls
        assert left_ms - start_ms == began_s * 1000
        assert back_ms > left_ms
        assert sink.reasons == ["Twitch fell silent."]
        await told(twitch, sink)


async def test_no_line_is_lost_over_a_reconnect(
    twitch: Standin, sink: CollectingSink, make: Make, clock: FakeClock
) -> None:
    async with running(make(), KAI) as connections:
        await sink.until(lambda: sink.present() == {KAI})
        await live_through(connections, clock, 60)
        ids = twitch.irc.burst(KAI, 400, per_second=400)
        twitch.irc.reconnect()
        await sink.until(lambda: len(sink.ids) > len(set(sink.ids)))  # Both connections are there.
        await clock.advance(4.9)
        assert len(twitch.irc.sessions) == 2
        await clock.advance(0.2)
        await until(lambda: len(twitch.irc.sessions) == 1)
        await sink.until(lambda: ids[-1] in sink.ids)
        assert set(ids) <= set(sink.ids)
        assert [call[0] for call in sink.calls] == ["joined"]


async def test_a_server_that_asks_for_reconnects_all_the_time_is_not_hurried_after(
    twitch: Standin, sink: CollectingSink, make: Make, clock: FakeClock
) -> None:
    async with running(make(), KAI) as connections:
        await sink.until(lambda: sink.present() == {KAI})
        logins = []
        for _ in range(5):
            twitch.irc.reconnect()
            before = len(twitch.irc.logins)
            await let_time_pass(connections, clock, lambda: len(twitch.irc.logins) > before, most_s=40)  # noqa: B023
            logins.append(clock.monotonic())
            await live_through(connections, clock, 6)
            await until(lambda: len(twitch.irc.sessions) == 1)
        assert logins[-1] > 25


REFUSED = Credentials("keepbot", "no-longer-good")


async def test_a_refused_login_is_one_state_and_chat_is_recorded_anonymously(
    twitch: Standin, sink: CollectingSink, make: Make, clock: FakeClock
) -> None:
    credentials = REFUSED

    async def current() -> Credentials | None:
        return credentials

    def tries() -> int:
        return sum(login.nick == "keepbot" for login in twitch.irc.logins)

    channels = [KAI, *(f"c{number:03d}" for number in range(100))]
    async with running(make(current), *channels) as connections:
        await sink.until(lambda: len(sink.present()) == 20)
        assert tries() == 1
        failure = connections.login_failure
        assert failure is not None
        assert (failure.account, failure.reason) == ("keepbot", "Login authentication failed")
        assert {state.login_failure for state in connections.states()} == {failure}
        connections.set_channels(frozenset({KAI}))
        await sink.until(lambda: sink.present() == {KAI})
        await live_through(connections, clock, 290)
        assert tries() == 1
        await live_through(connections, clock, 60)
        assert tries() == 2
        credentials = Credentials("keepbot", twitch.scenario.chat_token)
        await live_through(connections, clock, 50)
        assert connections.login_failure is None
        assert connections.states()[0].account == "keepbot"
        assert sink.present() == {KAI}


async def test_ever_new_tokens_are_tried_less_than_five_times_a_minute(
    twitch: Standin, sink: CollectingSink, make: Make, clock: FakeClock
) -> None:
    count = 0

    async def another() -> Credentials | None:
        nonlocal count
        count += 1
        return Credentials("keepbot", f"token-{count}")

    channels = [KAI, *(f"c{number:03d}" for number in range(180))]
    async with running(make(another), *channels) as connections:
        await sink.until(lambda: len(sink.present()) == 20)
        await live_through(connections, clock, 120)
        assert len(connections.states()) == 3
        assert 2 < sum(login.nick == "keepbot" for login in twitch.irc.logins) <= 9


async def test_a_token_logs_in_as_its_account(twitch: Standin, sink: CollectingSink, make: Make) -> None:
    async def good() -> Credentials | None:
        return Credentials("KeepBot", twitch.scenario.chat_token)

    async with running(make(good), KAI) as connections:
        await sink.until(lambda: sink.present() == {KAI})
        assert [(login.nick, login.refusal) for login in twitch.irc.logins] == [("keepbot", None)]
        assert connections.states()[0].account == "KeepBot"


@pytest.mark.parametrize("end", ["reset", "reconnect"])
async def test_a_token_that_was_refreshed_is_the_one_of_the_next_connection(
    twitch: Standin,
    sink: CollectingSink,
    make: Make,
    clock: FakeClock,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    end: str,
) -> None:
    """With the old one Twitch would refuse it, and chat would be read without the account."""
    with database.unit_of_work() as unit:
        unit.connection.execute(
            insert(oauth_tokens).values(provider="twitch", channel="", access_token=twitch.scenario.chat_token)
        )
        unit.commit()
    keeper = build_keeper(load_settings({}, None), database, SystemClock())
    login = ChatLogin(keeper, "keepbot", None, get_logger("chat_recorder"))
    async with running(make(login), KAI) as connections:
        await sink.until(lambda: sink.present() == {KAI})
        await live_through(connections, clock, 30)
        monkeypatch.setattr(twitch.scenario, "chat_token", "refreshed")
        with database.unit_of_work() as unit:
            unit.connection.execute(update(oauth_tokens).values(access_token="refreshed"))
            unit.commit()
        getattr(twitch.irc, end)()
        await let_time_pass(connections, clock, lambda: len(twitch.irc.logins) == 2, most_s=40)
        await live_through(connections, clock, 6)
        await told(twitch, sink)
        assert [(login.nick, login.refusal) for login in twitch.irc.logins] == [("keepbot", None), ("keepbot", None)]
        assert (connections.login_failure, connections.states()[0].account) == (None, "keepbot")


async def test_credentials_that_cannot_be_read_are_a_login_failure(
    twitch: Standin, sink: CollectingSink, make: Make
) -> None:
    async def broken() -> Credentials | None:
        raise NetworkError("The vault does not answer.")

    async with running(make(broken), KAI) as connections:
        await sink.until(lambda: sink.present() == {KAI})
        assert connections.login_failure is not None
        assert connections.login_failure.reason == "The vault does not answer."


async def test_a_suspended_channel_is_told_and_the_others_are_recorded(
    twitch: Standin, sink: CollectingSink, make: Make
) -> None:
    twitch.irc.suspended = {ANN}
    async with running(make(), KAI, ANN) as connections:
        await sink.until(lambda: sink.present() == {KAI})
        await sink.until(lambda: any(b"msg_channel_suspended" in line for line in sink.received))
        assert list(connections.states()[0].refused) == [ANN]
        await told(twitch, sink)


@pytest.mark.parametrize("piece_bytes", [1, 7])
async def test_pieces_of_characters_and_bare_line_feeds_make_whole_lines(
    twitch: Standin, sink: CollectingSink, make: Make, piece_bytes: int
) -> None:
    async with running(make(), KAI):
        await sink.until(lambda: sink.present() == {KAI})
        twitch.irc.piece_bytes = piece_bytes
        twitch.irc.bare_lf = True
        await told(twitch, sink, text="日本 👍🏽 naïve")
        line = parse_line(sink.received[-1])
        assert line is not None
        assert line.params == ["#kai", "日本 👍🏽 naïve"]


async def test_rubbish_takes_no_good_line_with_it(twitch: Standin, sink: CollectingSink, make: Make) -> None:
    async with running(make(), KAI):
        await sink.until(lambda: sink.present() == {KAI})
        for rubbish in (
            b"\xff\xfe\0\x80",
            b"",
            b"@",
            b":",
            b"@=;;= : :",
            b"x" * 100_000,
            b"NOTICE",
            b"PING",
            b"JOIN #",
        ):
            twitch.irc.event(rubbish, KAI)
            await told(twitch, sink)


async def test_while_the_sink_waits_nothing_more_is_read(twitch: Standin, sink: CollectingSink, make: Make) -> None:
    async with running(make(), KAI):
        await sink.until(lambda: sink.present() == {KAI})
        sink.gate = anyio.Event()
        ids = twitch.irc.burst(KAI, 40_000)
        await sink.until(lambda: sink.waiting == 1)
        transport = twitch.irc.sessions[0].transport
        assert transport is not None
        assert transport.get_write_buffer_size() > 1_000_000
        assert sink.received == sink.received[:10]
        sink.gate.set()
        await sink.until(lambda: len(sink.received) >= 40_000)
        assert sink.ids == ids


async def test_a_sink_that_waits_long_does_not_cost_the_connection(
    twitch: Standin, sink: CollectingSink, make: Make, clock: FakeClock
) -> None:
    async with running(make(), KAI):
        await sink.until(lambda: sink.present() == {KAI})
        sink.gate = anyio.Event()
        said = twitch.irc.say(KAI, "hello")
        await sink.until(lambda: sink.waiting == 1)
        await clock.advance(300)
        sink.gate.set()
        await sink.until(lambda: said in sink.ids)
        await told(twitch, sink)
        assert len(twitch.irc.logins) == 1


async def test_a_server_that_is_away_is_tried_for_ever_and_more_rarely(
    sink: CollectingSink, make: Make, clock: FakeClock
) -> None:
    connections = make(url="irc://127.0.0.1:1")
    waits_s = []
    async with running(connections, KAI):
        for _ in range(12):
            await until(lambda: bool(connections.states()) and connections.states()[0].retry_at is not None)
            state = connections.states()[0]
            assert "cannot be reached (127.0.0.1:1)" in str(state.failure)
            assert state.retry_at is not None
            waits_s.append((state.retry_at - clock.now()).total_seconds())
            await clock.advance(waits_s[-1] + 0.01)
    assert waits_s[0] <= 1
    assert all(15 <= wait_s <= 30 for wait_s in waits_s[6:])


async def test_a_certificate_nobody_vouches_for_is_not_accepted(
    twitch: Standin, make: Make, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    connections = make()
    async with running(connections, KAI):
        await until(lambda: bool(connections.states()) and connections.states()[0].failure is not None)
        assert "certificate" in str(connections.states()[0].failure).lower()
    assert twitch.irc.logins == []
