"""Tokens stored as plain text or with the old key, sealed with the current one; each row at once or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from vodkeep.accounts.model import Provider
from vodkeep.accounts.sealing import open_connection, seal_grant
from vodkeep.accounts.store import TokenStore
from vodkeep.accounts.vault import TokenUnreadable, Vault
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.errors import SettingsError


class Step(StrEnum):
    """What is done with a row."""

    ENCRYPT = "encrypt"  # it is plain text
    REKEY = "rekey"  # it is sealed with the old key
    KEEP = "keep"  # it is sealed with the current key
    UNREADABLE = "unreadable"  # no key that is set opens it; it stays as it is


@dataclass(frozen=True, slots=True)
class Resealing:
    """One row, and what is done with it."""

    provider: Provider
    channel: str
    step: Step
    reason: str = ""


async def reseal(database: Database, vault: Vault, *, dry_run: bool) -> list[Resealing]:
    """Go over all rows; done twice it does nothing. Raises `SettingsError` without a key, `DatabaseUnavailable`."""
    if vault.key_id is None:
        raise SettingsError(
            ["ENCRYPTION_KEY is not set, so nothing can be encrypted: make one with openssl rand -base64 32."]
        )
    rows = await database.run(lambda unit: TokenStore(unit.connection).all(), write=False)
    return [
        await database.run(
            partial(_one, vault=vault, provider=row.provider, channel=row.channel, dry_run=dry_run), write=not dry_run
        )
        for row in rows
    ]


def _one(unit: UnitOfWork, *, vault: Vault, provider: Provider, channel: str, dry_run: bool) -> Resealing:
    """One row in a transaction of its own, looked at anew as long as others change it meanwhile."""
    store = TokenStore(unit.connection)
    while True:
        stored = store.find(provider, channel)
        if stored is None:
            return Resealing(provider, channel, Step.KEEP, "It was disconnected meanwhile.")
        try:
            grant = open_connection(vault, stored)
        except TokenUnreadable as error:
            return Resealing(provider, channel, Step.UNREADABLE, f"{error} {error.remedy}")
        if stored.key_id == vault.key_id:
            return Resealing(provider, channel, Step.KEEP)
        done = Resealing(provider, channel, Step.ENCRYPT if stored.key_id is None else Step.REKEY)
        if dry_run:
            return done
        if store.sealed_anew(stored, seal_grant(vault, provider, channel, grant)):
            unit.commit()
            return done
        unit.commit()  # Another transaction, which sees what the others did.
