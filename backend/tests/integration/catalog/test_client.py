"""The client against Twitch's wire protocol, on good days and bad ones."""

from __future__ import annotations

import socket
from dataclasses import replace
from urllib.parse import parse_qsl

import anyio
import pytest
from structlog.testing import capture_logs

from integration.catalog.conftest import QUICK, MakeHelix
from support.clock import FakeClock
from vodkeep.catalog.helix import INVALID_CURSOR
from vodkeep.catalog.model import BroadcasterId, VodId
from vodkeep.errors import CredentialsError, NetworkError, PermanentError, RateLimited, ServerError
from vodkeep_standin.faults.garbage import Garbage
from vodkeep_standin.faults.helix_body import HelixBody
from vodkeep_standin.faults.latency import Latency
from vodkeep_standin.faults.reset import Reset
from vodkeep_standin.faults.rule import AnyFault
from vodkeep_standin.faults.stall import Stall
from vodkeep_standin.faults.status import Status
from vodkeep_standin.faults.truncate import Truncate
from vodkeep_standin.scenario import ids
from vodkeep_standin.scenario.builtin import scenario_for_tests
from vodkeep_standin.scenario.model import Channel, Scenario
from vodkeep_standin.server import Standin

pytestmark = pytest.mark.anyio

LUMEN = BroadcasterId(ids.CHANNEL_ID)


def sent(standin: Standin, path: str) -> int:
    return len(standin.requests.entries(path))


async def test_one_token_serves_every_call_and_is_logged_by_its_tail(standin: Standin, make_helix: MakeHelix) -> None:
    helix = make_helix()
    with capture_logs() as lines:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(helix.users, [ids.CHANNEL])
        await helix.video_page(LUMEN)
    assert sent(standin, "/oauth2/token") == 1
    (token,) = standin.world.app_tokens
    (line,) = [line for line in lines if line["event"] == "twitch app token acquired"]
    assert line["tail"] == f"…{token[-4:]}"
    assert token not in repr(lines)


async def test_a_revoked_token_costs_one_new_one_and_one_retry(standin: Standin, make_helix: MakeHelix) -> None:
    helix = make_helix()
    await helix.users([ids.CHANNEL])
    standin.revoke_tokens()
    (channel,) = await helix.users([ids.CHANNEL])
    assert (channel.id, channel.login, channel.display_name) == (ids.CHANNEL_ID, ids.CHANNEL, "Lumen_Plays")
    assert [entry.status for entry in standin.requests.entries("/helix/users")] == [200, 401, 200]
    assert sent(standin, "/oauth2/token") == 2


async def test_many_calls_that_meet_a_revoked_token_share_the_new_one(standin: Standin, make_helix: MakeHelix) -> None:
    helix = make_helix()
    await helix.users([ids.CHANNEL])
    standin.revoke_tokens()
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(helix.users, [ids.CHANNEL])
    assert sent(standin, "/oauth2/token") == 2
    assert [entry.status for entry in standin.requests.entries("/helix/users")].count(200) == 9


async def test_a_token_that_is_never_accepted_is_not_hammered_for(
    standin: Standin, make_helix: MakeHelix, clock: FakeClock
) -> None:
    helix = make_helix(clock)
    standin.faults.add(Status(401), path="/helix/*")
    with pytest.raises(CredentialsError, match="401") as caught:
        await helix.users([ids.CHANNEL])
    assert caught.value.delay_s == 5
    assert (sent(standin, "/helix/users"), sent(standin, "/oauth2/token")) == (2, 2)
    for _ in range(20):
        with pytest.raises(CredentialsError):
            await helix.video_page(LUMEN)
    assert (sent(standin, "/helix/*"), sent(standin, "/oauth2/token")) == (2, 2)
    standin.faults.clear()
    await clock.advance(5)
    assert await helix.users([ids.CHANNEL])


async def test_a_wrong_secret_is_refused_remembered_and_can_be_mended(
    standin: Standin, make_helix: MakeHelix, clock: FakeClock
) -> None:
    mistyped = "mistyped-secret-mistyped-secret"
    helix = make_helix(clock, client_secret=mistyped)
    with capture_logs() as lines:
        for _ in range(10):
            with pytest.raises(CredentialsError, match="invalid client secret") as caught:
                await helix.users([ids.CHANNEL])
    assert sent(standin, "/oauth2/token") == 1
    assert sent(standin, "/helix/*") == 0
    assert mistyped not in repr(lines) + repr(caught.value) + str(caught.value)
    assert len([line for line in lines if line["event"] == "twitch credentials refused"]) == 1
    standin.scenario.client_secret = mistyped
    await clock.advance(5)
    assert await helix.users([ids.CHANNEL])


@pytest.mark.parametrize(
    "fault",
    [
        Status(500),
        Status(503, body="upstream"),
        Status(404, body="<html>proxy</html>"),
        Status(302, body=""),
        Reset(),
        Reset(after_bytes=100),
        Truncate(),
        Garbage("html"),
        Garbage("empty"),
        Garbage("random"),
        HelixBody("not_json"),
        HelixBody("data_null"),
        HelixBody("array"),
        HelixBody("nulls"),
        HelixBody("wrong_types"),
        HelixBody("missing_fields"),
    ],
    ids=repr,
)
async def test_a_passing_trouble_is_retried_and_a_lasting_one_ends_after_four_tries(
    standin: Standin, make_helix: MakeHelix, fault: AnyFault
) -> None:
    helix = make_helix()
    standin.faults.add(fault, path="/helix/videos", count=3)
    page = await helix.video_page(LUMEN)
    assert len(page.videos) == 100
    assert sent(standin, "/helix/videos") == 4
    standin.requests.clear()
    standin.faults.clear()
    standin.faults.add(fault, path="/helix/videos")
    with pytest.raises((ServerError, NetworkError)) as caught:
        await helix.video_page(LUMEN)
    assert len(str(caught.value)) < 400
    # aiohttp sends a GET once more by itself when a kept-alive connection turns out to be gone.
    assert sent(standin, "/helix/videos") == 4 or (fault == Reset() and sent(standin, "/helix/videos") <= 8)


@pytest.mark.parametrize("fault", [Stall(50), Stall(50, drip_interval_s=0.05), Latency(60_000)], ids=repr)
async def test_a_line_that_goes_silent_is_given_up(standin: Standin, make_helix: MakeHelix, fault: AnyFault) -> None:
    helix = make_helix(limits=replace(QUICK, attempts=2, exchange_s=3.0, read_s=1.5))
    await helix.users([ids.CHANNEL])
    standin.faults.add(fault, path="/helix/videos")
    with anyio.fail_after(60), pytest.raises(NetworkError, match="in time"):
        await helix.video_page(LUMEN)


async def test_nobody_listening_is_a_network_error(make_helix: MakeHelix) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        helix = make_helix(base_url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(NetworkError, match="cannot be reached"):
            await helix.users([ids.CHANNEL])


async def test_a_body_beyond_the_limit_is_not_taken_in(standin: Standin, make_helix: MakeHelix) -> None:
    helix = make_helix(limits=replace(QUICK, max_body_bytes=20_000))
    with pytest.raises(ServerError, match="more than 20000 bytes"):
        await helix.video_page(LUMEN)


async def test_proxies_of_the_environment_are_not_used(
    standin: Standin, make_helix: MakeHelix, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await make_helix().users([ids.CHANNEL])


async def test_a_429_is_waited_out_until_its_reset(standin: Standin, make_helix: MakeHelix, clock: FakeClock) -> None:
    helix = make_helix(clock)
    await helix.users([ids.CHANNEL])
    standin.faults.add(Status(429, ratelimit_reset_in_s=30), path="/helix/videos", count=1)
    async with anyio.create_task_group() as group:
        group.start_soon(helix.video_page, LUMEN)
        await clock.until_sleeping()
        wait_s = clock.next_wake_s()
        assert wait_s is not None
        assert 28 <= wait_s <= 32
        assert sent(standin, "/helix/videos") == 1
        await clock.advance(wait_s + 1)
    assert [entry.status for entry in standin.requests.entries("/helix/videos")] == [429, 200]


async def test_a_reset_beyond_the_deadline_is_told_and_not_waited_for(
    standin: Standin, make_helix: MakeHelix, clock: FakeClock
) -> None:
    helix = make_helix(clock)
    standin.faults.add(Status(429, ratelimit_reset_in_s=600), path="/helix/videos")
    for _ in range(3):
        with pytest.raises(RateLimited) as caught:
            await helix.video_page(LUMEN)
        assert caught.value.delay_s is not None
        assert 590 <= caught.value.delay_s <= 602
    assert sent(standin, "/helix/videos") == 1
    await clock.advance(602)
    standin.faults.clear()
    assert (await helix.video_page(LUMEN)).videos


async def test_a_429_without_a_reset_is_tried_a_few_times_only(standin: Standin, make_helix: MakeHelix) -> None:
    standin.faults.add(Status(429), path="/helix/videos")
    with pytest.raises(RateLimited):
        await make_helix().video_page(LUMEN)
    assert 1 <= sent(standin, "/helix/videos") <= 4


async def test_no_request_is_sent_once_the_points_are_used_up(
    standin: Standin, make_helix: MakeHelix, clock: FakeClock
) -> None:
    standin.scenario.rate_limit_points = 2
    helix = make_helix(clock)
    await helix.users([ids.CHANNEL])
    await helix.users([ids.CHANNEL])
    async with anyio.create_task_group() as group:
        group.start_soon(helix.users, [ids.CHANNEL])
        await clock.until_sleeping()
        wait_s = clock.next_wake_s()
        assert wait_s is not None
        assert 20 <= wait_s <= 61
        assert sent(standin, "/helix/users") == 2
        group.cancel_scope.cancel()


async def test_a_cursor_helix_refuses_is_told_apart(make_helix: MakeHelix) -> None:
    with pytest.raises(PermanentError) as caught:
        await make_helix().video_page(LUMEN, "no-such-cursor")
    assert caught.value.code == INVALID_CURSOR


async def test_all_pages_follow_each_other_and_a_circle_is_noticed(standin: Standin, make_helix: MakeHelix) -> None:
    helix = make_helix()
    sizes = [len(page.videos) async for page in helix.videos(LUMEN)]
    assert sizes == [100, 100, 50]
    standin.faults.add(HelixBody("same_cursor"), path="/helix/videos", after=1)
    with pytest.raises(ServerError, match=r"points back|circle"):
        [page async for page in helix.videos(LUMEN)]


async def test_one_video_or_none(standin: Standin, make_helix: MakeHelix) -> None:
    helix = make_helix()
    newest = (await helix.video_page(LUMEN)).videos[0]
    assert await helix.video(newest.id) == newest
    assert await helix.video(VodId("999")) is None
    standin.faults.add(Status(404, body="<html>proxy</html>"), path="/helix/videos")
    with pytest.raises(ServerError):
        await helix.video(VodId("999"))


async def test_accounts_and_streams_go_in_batches_of_100(
    standin: Standin, make_helix: MakeHelix, scenario: Scenario
) -> None:
    for number in range(150):
        scenario.channels[f"viewer_{number}"] = Channel(str(5_000 + number), f"viewer_{number}", f"Viewer {number}")
    helix = make_helix()
    logins = [f"viewer_{number}" for number in range(150)] + ["nobody_here", "Not A Login"]
    found = await helix.users(logins, [LUMEN])
    assert len(found) == 151
    assert {channel.login for channel in found} == {*logins[:150], ids.CHANNEL}
    batches = [len(parse_qsl(entry.query)) for entry in standin.requests.entries("/helix/users")]
    assert batches == [100, 52]
    live = await helix.streams(logins)
    assert (live.streams, live.unreadable) == ((), ())
    assert sent(standin, "/helix/streams") == 2


class TestLiveStatus:
    @pytest.fixture
    def scenario(self) -> Scenario:
        return scenario_for_tests()

    async def test_who_is_live_is_listed(self, make_helix: MakeHelix) -> None:
        live = await make_helix().streams([ids.OTHER_CHANNEL, "nobody_here"], [LUMEN])
        (stream,) = live.streams
        assert (stream.broadcaster_id, stream.broadcaster_login, stream.title) == (LUMEN, ids.CHANNEL, "Still going")

    async def test_an_error_is_never_offline(self, standin: Standin, make_helix: MakeHelix) -> None:
        helix = make_helix()
        faults: list[AnyFault] = [Status(429), Status(500), HelixBody("data_null"), Garbage("empty"), Reset()]
        for fault in faults:
            standin.faults.clear()
            standin.faults.add(fault, path="/helix/streams")
            with pytest.raises((RateLimited, ServerError, NetworkError)):
                await helix.streams([ids.CHANNEL])

    async def test_an_entry_nobody_can_read_is_reported(self, standin: Standin, make_helix: MakeHelix) -> None:
        standin.faults.add(HelixBody("nulls", fields=("user_id",)), path="/helix/streams")
        live = await make_helix().streams([ids.CHANNEL])
        assert live.streams == ()
        assert len(live.unreadable) == 1
