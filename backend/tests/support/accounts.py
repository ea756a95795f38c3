"""Accounts over real sockets: the stand-in's Google and Twitch, and either database."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.standin import StandinFactory
from vodkeep.accounts.client import TokenService
from vodkeep.accounts.keeper import TokenKeeper
from vodkeep.accounts.model import Grant, Provider
from vodkeep.accounts.sealing import seal_grant
from vodkeep.accounts.setup import apps_of
from vodkeep.accounts.spool import Spool
from vodkeep.accounts.store import TokenStore
from vodkeep.accounts.vault import Vault
from vodkeep.clock import Clock, SystemClock
from vodkeep.db.engine import Database
from vodkeep.settings import load_settings
from vodkeep.telemetry.log import get_logger
from vodkeep_standin.oauth.account_tokens import AccessToken
from vodkeep_standin.scenario.model import Channel, Scenario
from vodkeep_standin.server import Standin

KEY, OLD_KEY = b"k" * 32, b"o" * 32


@pytest.fixture
def provider(standin_of: StandinFactory) -> Standin:
    """A stand-in without any media, so that it starts at once."""
    return standin_of(Scenario.of("accounts", [Channel("1", "otter", "Otter")]), speed=0)


@dataclass
class House:
    """A database, and what a test does with it."""

    standin: Standin
    database: Database
    data_dir: Path

    def keeper(self, clock: Clock | None = None, vault: Vault | None = None) -> TokenKeeper:
        """A keeper as another process would have it."""
        settings = load_settings({**self.standin.env(), "DATA_DIR": str(self.data_dir)}, None)
        return TokenKeeper(
            self.database,
            vault or Vault(KEY),
            TokenService(),
            apps_of(settings),
            Spool(self.data_dir),
            clock or SystemClock(),
            random.Random(1),
            get_logger("accounts"),
        )

    def connect(self, clock: Clock, channel: str = "", vault: Vault | None = None) -> AccessToken:
        """A YouTube account that was connected a moment ago."""
        scenario = self.standin.scenario
        token = self.standin.world.google_tokens.issue(["youtube.upload"], scenario.google_client_id)
        expires = clock.now() + (token.expires_at - self.standin.world.clock.now())
        grant = Grant(token.value, token.refresh_token, expires, token.scopes)
        sealed = seal_grant(vault or Vault(KEY), Provider.YOUTUBE, channel, grant)
        with self.database.unit_of_work() as unit:
            TokenStore(unit.connection).connect(Provider.YOUTUBE, channel, sealed, account="", at=clock.now())
            unit.commit()
        return token

    def refreshes(self) -> int:
        """How often the provider was asked for a token."""
        return len(self.standin.requests.entries("/token"))


@pytest.fixture
def house(provider: Standin, database: Database, tmp_path: Path) -> House:
    data_dir = tmp_path / "archive"
    data_dir.mkdir()
    return House(provider, database, data_dir)
