"""Connections and grants on their way into and out of the vault."""

from __future__ import annotations

from vodkeep.accounts.model import Connection, Grant, Kind, Provider
from vodkeep.accounts.store import Sealed
from vodkeep.accounts.vault import Vault


def seal_grant(vault: Vault, provider: Provider, channel: str, grant: Grant, *, before: Grant | None = None) -> Sealed:
    """A grant as it is stored; what it does not say is taken from the one ``before``."""
    refresh = grant.refresh_token or (None if before is None else before.refresh_token)
    scopes = grant.scopes if grant.scopes is not None else (() if before is None else before.scopes or ())
    return Sealed(
        vault.seal(grant.access_token, provider, channel, Kind.ACCESS),
        None if refresh is None else vault.seal(refresh, provider, channel, Kind.REFRESH),
        vault.key_id,
        grant.expires_at,
        " ".join(scopes),
    )


def open_connection(vault: Vault, stored: Connection) -> Grant:
    """The tokens of a row. Raises `TokenUnreadable`."""
    return _opened(vault, stored, stored.access, stored.refresh, stored.key_id, stored)


def open_sealed(vault: Vault, stored: Connection, sealed: Sealed) -> Grant:
    """The tokens of a renewal of ``stored``. Raises `TokenUnreadable`."""
    return _opened(vault, stored, sealed.access, sealed.refresh, sealed.key_id, sealed)


def _opened(
    vault: Vault, whose: Connection, access: str, refresh: str | None, key_id: str | None, rest: Connection | Sealed
) -> Grant:
    def opened(text: str, kind: Kind) -> str:
        return vault.open(text, key_id, whose.provider, whose.channel, kind)

    return Grant(
        opened(access, Kind.ACCESS),
        None if not refresh else opened(refresh, Kind.REFRESH),
        rest.expires_at,
        tuple(rest.scope.split()),
    )
