"""A Twitch of 250 videos on real sockets, and what the catalog needs to talk to it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from vodkeep.catalog.app_token import AppCredentials
from vodkeep.catalog.client import HelixClient
from vodkeep.catalog.exchange import open_session
from vodkeep.catalog.retrying import RetryLimits
from vodkeep.clock import Clock, SystemClock
from vodkeep.telemetry.log import get_logger
from vodkeep_standin.scenario.builtin import catalog_scenario
from vodkeep_standin.scenario.model import Scenario
from vodkeep_standin.server import Standin, running_standin

MakeHelix = Callable[..., HelixClient]

QUICK = RetryLimits(
    attempts=4, exchange_s=60.0, connect_s=30.0, read_s=30.0, backoff_base_s=0.001, rate_limit_floor_s=0.001
)
"""The real limits with waits that a test can afford."""


@pytest.fixture
def scenario() -> Scenario:
    return catalog_scenario(250)


@pytest.fixture
async def standin(scenario: Scenario) -> AsyncIterator[Standin]:
    async with running_standin(scenario) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as opened:
        yield opened


@pytest.fixture
def make_helix(standin: Standin, session: aiohttp.ClientSession) -> MakeHelix:
    """Makes clients of the stand-in; every one has its own token, as after a restart."""

    def make(
        clock: Clock | None = None,
        limits: RetryLimits = QUICK,
        *,
        client_secret: str = standin.scenario.client_secret,
        base_url: str = standin.http_url,
    ) -> HelixClient:
        return HelixClient(
            session,
            credentials=AppCredentials(standin.scenario.client_id, client_secret),
            api_url=f"{base_url}/helix",
            auth_url=f"{base_url}/oauth2",
            clock=clock or SystemClock(),
            rng=random.Random(1),
            log=get_logger("test"),
            limits=limits,
        )

    return make
