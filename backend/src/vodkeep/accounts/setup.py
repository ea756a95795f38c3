"""From the settings to the parts of this package, for the service and for the commands."""

from __future__ import annotations

import random
from collections.abc import Mapping

from vodkeep.accounts.client import TokenService
from vodkeep.accounts.keeper import TokenKeeper
from vodkeep.accounts.model import App, Provider
from vodkeep.accounts.service import Accounts
from vodkeep.accounts.spool import Spool
from vodkeep.accounts.vault import Vault
from vodkeep.clock import Clock
from vodkeep.db.engine import Database
from vodkeep.settings import Settings
from vodkeep.telemetry.log import get_logger

COMPONENT = "accounts"


def apps_of(settings: Settings) -> Mapping[Provider, App]:
    """The applications that are set up."""
    apps = {}
    twitch, youtube = settings.twitch, settings.youtube
    if twitch.client_id and twitch.client_secret:
        base = twitch.auth_url.rstrip("/")
        apps[Provider.TWITCH] = App(
            Provider.TWITCH,
            twitch.client_id,
            twitch.client_secret.get_secret_value(),
            twitch.redirect_uri,
            twitch.scopes,
            authorize_url=f"{base}/authorize",
            token_url=f"{base}/token",
            revoke_url=f"{base}/revoke",
            device_url=f"{base}/device",
            validate_url=f"{base}/validate",
        )
    if youtube.client_id and youtube.client_secret:
        base = youtube.token_url.rstrip("/")
        apps[Provider.YOUTUBE] = App(
            Provider.YOUTUBE,
            youtube.client_id,
            youtube.client_secret.get_secret_value(),
            youtube.redirect_uri,
            youtube.scopes,
            authorize_url=youtube.auth_url,
            token_url=f"{base}/token",
            revoke_url=f"{base}/revoke",
        )
    return apps


def vault_of(settings: Settings) -> Vault:
    """The vault with the keys that are set."""
    return Vault(settings.security.encryption_key_bytes(), settings.security.old_encryption_key_bytes())


def build_keeper(settings: Settings, database: Database, clock: Clock) -> TokenKeeper:
    """What hands out tokens."""
    return TokenKeeper(
        database,
        vault_of(settings),
        TokenService(),
        apps_of(settings),
        Spool(settings.storage.data_dir),
        clock,
        random.Random(),
        get_logger(COMPONENT),
    )


def build_accounts(settings: Settings, database: Database, clock: Clock) -> Accounts:
    """What connects and disconnects accounts."""
    return Accounts(
        database,
        vault_of(settings),
        TokenService(),
        apps_of(settings),
        Spool(settings.storage.data_dir),
        clock,
        get_logger(COMPONENT),
    )
