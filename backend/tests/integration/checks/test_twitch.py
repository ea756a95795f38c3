"""The checks of Twitch, against the pretended one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from support.clock import FakeClock
from vodkeep.catalog.app_token import AppCredentials
from vodkeep.catalog.exchange import open_session
from vodkeep.checks.model import CheckResult, State, run_checks
from vodkeep.checks.twitch import TwitchChecks
from vodkeep.clock import SystemClock
from vodkeep.settings import load_settings
from vodkeep.telemetry.log import get_logger
from vodkeep_standin.faults.gql_errors import GqlErrors
from vodkeep_standin.faults.reset import Reset
from vodkeep_standin.faults.status import Status
from vodkeep_standin.scenario import ids
from vodkeep_standin.server import Standin

pytestmark = pytest.mark.anyio


async def look(standin: Standin, *, secret: str | None = None, channels: str = ids.CHANNEL) -> dict[str, CheckResult]:
    settings = load_settings({**standin.env(), "TWITCH_CHANNEL": "", "TWITCH_CHANNELS": channels}, None)
    scenario = standin.scenario
    credentials = AppCredentials(scenario.client_id, secret or scenario.client_secret)
    async with open_session() as session:
        checks = TwitchChecks(session, settings.twitch, credentials, SystemClock(), get_logger("test"))
        return {result.name: result for result in await run_checks(checks.checks(), get_logger("test"))}


async def test_all_in_order(standin: Standin) -> None:
    found = await look(standin)
    assert {name: result.state for name, result in found.items()} == dict.fromkeys(found, State.OK), found


async def test_a_wrong_secret_is_told_and_not_shown(standin: Standin) -> None:
    found = await look(standin, secret="not-the-right-secret-at-all")
    assert found["credentials"].state is State.FAIL
    assert "not-the-right" not in str(found)
    assert found["helix"].state is State.OK


async def test_a_channel_that_is_not_there_is_named(standin: Standin) -> None:
    found = await look(standin, channels=f"{ids.CHANNEL},no_such_channel")
    assert found["credentials"].state is State.FAIL
    assert "no_such_channel" in found["credentials"].sentence


async def test_without_a_network_one_cause_is_told_and_not_four(standin: Standin) -> None:
    standin.faults.add(Reset(), path="/helix/*")
    standin.faults.add(Reset(), path="/oauth2/*")
    found = await look(standin)
    assert found["helix"].state is State.FAIL
    assert "Check the network" in found["helix"].fix
    assert found["clock"].state is found["credentials"].state is State.SKIPPED
    assert found["gql"].state is State.OK


async def test_trouble_at_twitch_is_no_fault_of_ours(standin: Standin) -> None:
    standin.faults.add(Status(status=503), path="/helix/*")
    standin.faults.add(GqlErrors())
    found = await look(standin)
    assert found["helix"].state is State.WARN
    assert found["credentials"].state is State.SKIPPED
    assert found["gql"].state is State.FAIL


async def test_a_clock_that_is_wrong_is_noticed(standin: Standin) -> None:
    settings = load_settings(standin.env(), None)

    class Slow(FakeClock):
        def now(self) -> object:  # type: ignore[override]
            return SystemClock().now() - timedelta(hours=2)

    async with open_session() as session:
        checks = TwitchChecks(session, settings.twitch, None, Slow(), get_logger("test"))  # type: ignore[arg-type]
        results = await run_checks(checks.checks(), get_logger("test"))
    (clock,) = [result for result in results if result.name == "clock"]
    assert clock.state is State.FAIL
    assert "behind" in clock.sentence
