"""The token's life, driven by script: answers in, requests out, time moved by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable

import anyio
import pytest
import structlog
from structlog.testing import capture_logs

from support.clock import FakeClock
from vodkeep.catalog.app_token import AppCredentials, AppTokens
from vodkeep.catalog.helix import Answer, AppToken, Request
from vodkeep.errors import CredentialsError, NetworkError, ServerError, VodkeepError

pytestmark = pytest.mark.anyio

SECRET = "s3cr3ts3cr3ts3cr3t"
CREDENTIALS = AppCredentials("client", SECRET)


def granted(value: str, expires_in: int | None = 5_000_000) -> Answer:
    return Answer(200, {}, json.dumps({"access_token": value, "expires_in": expires_in}).encode())


def refused() -> Answer:
    return Answer(403, {}, b'{"status":403,"message":"invalid client secret"}')


class TokenEndpoint:
    """Answers from a script; a fetch waits for ``gate`` if there is one."""

    def __init__(self, *script: Answer | VodkeepError, gate: anyio.Event | None = None) -> None:
        self._script = list(script)
        self._gate = gate
        self.requests: list[Request] = []

    async def send(self, request: Request) -> Answer:
        self.requests.append(request)
        if self._gate is not None:
            await self._gate.wait()
        answer = self._script.pop(0)
        if isinstance(answer, VodkeepError):
            raise answer
        return answer


def tokens_of(endpoint: TokenEndpoint, clock: FakeClock, credentials: AppCredentials | None = CREDENTIALS) -> AppTokens:
    return AppTokens(credentials, endpoint.send, clock, structlog.get_logger())


async def together(tokens: AppTokens, count: int, stale: AppToken | None = None) -> list[AppToken | VodkeepError]:
    outcomes: list[AppToken | VodkeepError] = []

    async def one() -> None:
        try:
            outcomes.append(await tokens.get(stale))
        except VodkeepError as error:
            outcomes.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(one)
    return outcomes


def values(outcomes: Iterable[AppToken | VodkeepError]) -> set[str]:
    return {outcome.value for outcome in outcomes if isinstance(outcome, AppToken)}


async def test_a_token_is_fetched_once_and_kept(clock: FakeClock) -> None:
    endpoint = TokenEndpoint(granted("abcdefghijklmnopqrstuvwxyza1b2"))
    tokens = tokens_of(endpoint, clock)
    with capture_logs() as lines:
        assert values(await together(tokens, 10)) == {"abcdefghijklmnopqrstuvwxyza1b2"}
        await tokens.get()
    assert len(endpoint.requests) == 1
    assert lines == [{"event": "twitch app token acquired", "log_level": "info", "tail": "…a1b2"}]


async def test_ten_calls_that_meet_the_same_401_fetch_one_new_token(clock: FakeClock) -> None:
    endpoint = TokenEndpoint(granted("first"), granted("second"))
    tokens = tokens_of(endpoint, clock)
    stale = await tokens.get()
    assert values(await together(tokens, 10, stale)) == {"second"}
    assert len(endpoint.requests) == 2


async def test_a_token_is_replaced_before_it_ends(clock: FakeClock) -> None:
    endpoint = TokenEndpoint(granted("first", 3600), granted("second", 60), granted("third", None))
    tokens = tokens_of(endpoint, clock)
    await tokens.get()
    await clock.advance(3299)
    assert (await tokens.get()).value == "first"
    await clock.advance(1)
    assert (await tokens.get()).value == "second"
    await clock.advance(29)
    assert (await tokens.get()).value == "second"
    await clock.advance(1)
    assert (await tokens.get()).value == "third"
    await clock.advance(10**8)
    assert (await tokens.get()).value == "third"


async def test_a_refusal_is_waited_out_longer_each_time_up_to_five_minutes(clock: FakeClock) -> None:
    endpoint = TokenEndpoint(*[refused()] * 9, granted("good"))
    tokens = tokens_of(endpoint, clock)
    waits: list[float] = []
    for tries in range(1, 10):
        with pytest.raises(CredentialsError) as caught:
            await tokens.get()
        assert caught.value.delay_s is not None
        waits.append(caught.value.delay_s)
        await clock.advance(caught.value.delay_s - 0.5)
        with pytest.raises(CredentialsError) as caught:
            await tokens.get()
        assert caught.value.delay_s == 0.5
        assert len(endpoint.requests) == tries
        await clock.advance(0.5)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert (await tokens.get()).value == "good"


async def test_a_refusal_met_by_many_at_once_counts_once(clock: FakeClock) -> None:
    endpoint = TokenEndpoint(refused(), refused())
    tokens = tokens_of(endpoint, clock)
    outcomes = await together(tokens, 10)
    assert all(isinstance(outcome, CredentialsError) for outcome in outcomes)
    assert len(endpoint.requests) == 1
    for _ in range(3):
        assert tokens.refused(CredentialsError("a 401 with a fresh token")).delay_s == 5
    await clock.advance(5)
    with pytest.raises(CredentialsError) as caught:
        await tokens.get()
    assert caught.value.delay_s == 10


async def test_being_accepted_ends_the_series_of_refusals(clock: FakeClock) -> None:
    tokens = tokens_of(TokenEndpoint(granted("good")), clock)
    await tokens.get()
    for _ in range(2):
        assert tokens.refused(CredentialsError("no")).delay_s == 5
        with pytest.raises(CredentialsError):
            await tokens.get()
        await clock.advance(5)
        assert (await tokens.get()).value == "good"
        tokens.accepted()


async def test_those_who_waited_for_a_failed_fetch_share_its_failure(clock: FakeClock) -> None:
    """Else ten callers would try one after the other, each with the whole timeout."""
    gate = anyio.Event()
    endpoint = TokenEndpoint(NetworkError("down"), granted("good"), gate=gate)
    tokens = tokens_of(endpoint, clock)
    outcomes: list[AppToken | VodkeepError] = []
    async with anyio.create_task_group() as group:

        async def all_of_them() -> None:
            outcomes.extend(await together(tokens, 10))

        group.start_soon(all_of_them)
        while not endpoint.requests:
            await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        gate.set()
    assert [type(outcome) for outcome in outcomes] == [NetworkError] * 10
    assert len(endpoint.requests) == 1
    assert (await tokens.get()).value == "good"


async def test_a_fetch_that_was_canceled_leaves_the_next_one_free(clock: FakeClock) -> None:
    endpoint = TokenEndpoint(ServerError("down"), granted("good"))
    tokens = tokens_of(endpoint, clock)
    with pytest.raises(ServerError):
        await tokens.get()
    endpoint._gate = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(tokens.get)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    endpoint._gate = None
    assert (await tokens.get()).value == "good"


async def test_without_credentials_every_call_says_so_and_nothing_is_sent(clock: FakeClock) -> None:
    endpoint = TokenEndpoint()
    tokens = tokens_of(endpoint, clock, credentials=None)
    with pytest.raises(CredentialsError, match="TWITCH_CLIENT_ID and TWITCH_CLIENT_SECRET are not set"):
        await tokens.get()
    assert endpoint.requests == []


async def test_the_secret_is_nowhere_to_be_seen(clock: FakeClock) -> None:
    echo = Answer(400, {}, json.dumps({"message": f"invalid client secret {SECRET}"}).encode())
    tokens = tokens_of(TokenEndpoint(echo), clock)
    with capture_logs() as lines, pytest.raises(CredentialsError) as caught:
        await tokens.get()
    assert SECRET not in str(caught.value) + repr(caught.value.__cause__) + repr(lines) + repr(CREDENTIALS)
