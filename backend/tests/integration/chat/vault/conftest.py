"""A vault on each database, with the stand-in as its providers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.clock import FakeClock
from support.vault import VaultHouse, vault_house
from vodkeep.db.engine import Database
from vodkeep_standin.scenario.builtin import catalog_scenario
from vodkeep_standin.server import Standin, running_standin


@pytest.fixture
async def standin() -> AsyncIterator[Standin]:
    """The stand-in on the test's own loop."""
    async with running_standin(catalog_scenario(1)) as running:
        yield running


@pytest.fixture
async def house(
    chat_database: Database, standin: Standin, clock: FakeClock, tmp_path: Path
) -> AsyncIterator[VaultHouse]:
    """The vault."""
    async with vault_house(chat_database, standin, clock, tmp_path / "data") as made:
        yield made
