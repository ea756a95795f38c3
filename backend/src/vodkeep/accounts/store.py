"""The tables ``oauth_tokens`` and ``oauth_flows``.

A write about tokens names the version it is about, and does nothing when somebody has replaced them meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, select, update

from vodkeep.accounts.model import Connection as Stored
from vodkeep.accounts.model import Provider, Renewal
from vodkeep.db.tables import oauth_flows, oauth_tokens
from vodkeep.db.upsert import insert_or_update


@dataclass(frozen=True, slots=True)
class Sealed:
    """Tokens as they are to be stored."""

    access: str = field(repr=False)
    refresh: str | None = field(repr=False)
    key_id: str | None
    expires_at: datetime | None
    scope: str


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection that is being made, until the person comes back or its time is over."""

    id: str  # SHA-256 of what the outside knows it by: the state, or the name of a device's flow
    provider: Provider
    channel: str
    browser: str  # SHA-256 of the cookie of the browser that began; empty for a device
    secret: str = field(repr=False)  # the sealed verifier, or the sealed device code
    key_id: str | None
    interval_s: int
    next_poll_at: datetime
    expires_at: datetime


class TokenStore:
    """The tokens within one transaction; the caller commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, provider: Provider, channel: str) -> Stored | None:
        """The connection of exactly this channel."""
        row = self._connection.execute(select(oauth_tokens).where(*_key(provider, channel))).one_or_none()
        return None if row is None else _connection_of(row)

    def all(self) -> list[Stored]:
        """Every connection of a provider that is known, in a fixed order."""
        known = [str(provider) for provider in Provider]
        rows = self._connection.execute(select(oauth_tokens).where(oauth_tokens.c.provider.in_(known)))
        return sorted((_connection_of(row) for row in rows), key=lambda each: (each.provider, each.channel))

    def connect(self, provider: Provider, channel: str, sealed: Sealed, *, account: str, at: datetime) -> None:
        """Store what a person granted, in place of whatever was there."""
        before = self.find(provider, channel)
        # Milliseconds, so that the version of a row that was deleted does not come back.
        version = max(int(at.timestamp() * 1000), 0 if before is None else before.version + 1)
        row = {
            "provider": str(provider),
            "channel": channel,
            **_values(sealed),
            "account": account,
            "version": version,
            **_well(at),
        }
        insert_or_update(self._connection, oauth_tokens, row, key=("provider", "channel"))

    def renewed(self, old: Stored, sealed: Sealed, *, at: datetime) -> bool:
        """Store a renewal of ``old``; whether its tokens were still the ones that are stored."""
        values = {**_values(sealed), "version": old.version + 1, **_well(at)}
        return self._change(old, values)

    def sealed_anew(self, old: Stored, sealed: Sealed) -> bool:
        """Store the same tokens sealed otherwise; whether they were still the ones that are stored.

        The version stays: who renews them at this moment may go on.
        """
        values = {
            "access_token": sealed.access,
            "refresh_token": sealed.refresh,
            "encryption_key_id": sealed.key_id,
        }
        return self._change(old, values, oauth_tokens.c.encryption_key_id.is_not_distinct_from(old.key_id))

    def failed(self, old: Stored, renewal: Renewal, reason: str, *, next_try_at: datetime, at: datetime) -> None:
        """Remember that a renewal of ``old`` failed."""
        self._change(
            old,
            {
                "state": str(renewal),
                "reason": reason,
                "failures": old.failures + 1,
                "next_try_at": next_try_at,
                "updated_at": at,
            },
        )

    def forget(self, provider: Provider, channel: str) -> bool:
        """Delete a connection; whether there was one."""
        return self._connection.execute(delete(oauth_tokens).where(*_key(provider, channel))).rowcount > 0

    def _change(self, old: Stored, values: dict[str, Any], *also: ColumnElement[bool]) -> bool:
        same = (*_key(old.provider, old.channel), oauth_tokens.c.version == old.version, *also)
        statement = update(oauth_tokens).where(*same)
        return self._connection.execute(statement.values(values)).rowcount > 0


class FlowStore:
    """Connections that are being made, within one transaction; the caller commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def begin(self, flow: Flow, *, now: datetime) -> None:
        """Remember a flow, and forget those whose time is over."""
        self._connection.execute(delete(oauth_flows).where(oauth_flows.c.expires_at <= now))
        row = {
            "id": flow.id,
            "provider": str(flow.provider),
            "channel": flow.channel,
            "browser": flow.browser,
            "secret": flow.secret,
            "encryption_key_id": flow.key_id,
            "interval_s": flow.interval_s,
            "next_poll_at": flow.next_poll_at,
            "expires_at": flow.expires_at,
        }
        insert_or_update(self._connection, oauth_flows, row, key=("id",))

    def take(self, flow_id: str, provider: Provider) -> Flow | None:
        """Take a flow out, which only one caller can; its time may be over."""
        matched = (oauth_flows.c.id == flow_id, oauth_flows.c.provider == str(provider))
        row = self._connection.execute(delete(oauth_flows).where(*matched).returning(oauth_flows)).one_or_none()
        return None if row is None else _flow_of(row)

    def find(self, flow_id: str, provider: Provider) -> Flow | None:
        """A flow that stays where it is."""
        matched = (oauth_flows.c.id == flow_id, oauth_flows.c.provider == str(provider))
        row = self._connection.execute(select(oauth_flows).where(*matched)).one_or_none()
        return None if row is None else _flow_of(row)

    def claim_poll(self, flow: Flow, *, now: datetime, next_poll_at: datetime) -> bool:
        """Whether this caller may ask the provider now; of several, one may."""
        due = update(oauth_flows).where(oauth_flows.c.id == flow.id, oauth_flows.c.next_poll_at <= now)
        return self._connection.execute(due.values(next_poll_at=next_poll_at)).rowcount > 0

    def slow_down(self, flow: Flow, *, interval_s: int, next_poll_at: datetime) -> None:
        """Ask less often from now on."""
        values = {"interval_s": interval_s, "next_poll_at": next_poll_at}
        self._connection.execute(update(oauth_flows).where(oauth_flows.c.id == flow.id).values(values))


def _key(provider: Provider, channel: str) -> tuple[ColumnElement[bool], ...]:
    return (oauth_tokens.c.provider == str(provider), oauth_tokens.c.channel == channel)


def _values(sealed: Sealed) -> dict[str, Any]:
    return {
        "access_token": sealed.access,
        "refresh_token": sealed.refresh,
        "encryption_key_id": sealed.key_id,
        "expires_at": sealed.expires_at,
        "scope": sealed.scope,
    }


def _well(at: datetime) -> dict[str, Any]:
    return {
        "state": str(Renewal.CONNECTED),
        "reason": "",
        "failures": 0,
        "next_try_at": None,
        "refreshed_at": at,
        "updated_at": at,
    }


def _connection_of(row: Any) -> Stored:
    known = {str(renewal): renewal for renewal in Renewal}
    return Stored(
        provider=Provider(row.provider),
        channel=row.channel,
        access=row.access_token,
        refresh=row.refresh_token,
        expires_at=row.expires_at,
        scope=row.scope,
        key_id=row.encryption_key_id,
        account=row.account,
        version=row.version,
        renewal=known.get(row.state, Renewal.CONNECTED),
        reason=row.reason,
        failures=row.failures,
        next_try_at=row.next_try_at,
        refreshed_at=row.refreshed_at,
        updated_at=row.updated_at,
    )


def _flow_of(row: Any) -> Flow:
    return Flow(
        id=row.id,
        provider=Provider(row.provider),
        channel=row.channel,
        browser=row.browser,
        secret=row.secret,
        key_id=row.encryption_key_id,
        interval_s=row.interval_s,
        next_poll_at=row.next_poll_at,
        expires_at=row.expires_at,
    )
