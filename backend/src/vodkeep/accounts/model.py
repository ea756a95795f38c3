"""The words of this package: providers, grants, stored connections and the states they can be in."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Provider(StrEnum):
    """Whose accounts can be connected."""

    TWITCH = "twitch"
    YOUTUBE = "youtube"

    @property
    def label(self) -> str:
        """The name as people write it."""
        return "Twitch" if self is Provider.TWITCH else "YouTube"


class Kind(StrEnum):
    """What a sealed text is; each kind opens only as itself."""

    ACCESS = "access"
    REFRESH = "refresh"
    FLOW = "flow"


@dataclass(frozen=True, slots=True)
class App:
    """Our application as it is registered with a provider, and where the provider answers."""

    provider: Provider
    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str | None  # None: only a device can be connected
    scopes: tuple[str, ...]
    authorize_url: str
    token_url: str
    revoke_url: str
    device_url: str | None = None
    validate_url: str | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token endpoint gave; never printed."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)  # None: the one that was used stays
    expires_at: datetime | None  # None: it does not say
    scopes: tuple[str, ...] | None  # None: the same as before (RFC 6749 section 5.1)


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """A code for us and one for the person (RFC 8628 section 3.2)."""

    device_code: str = field(repr=False)
    user_code: str
    address: str  # where the person types it
    interval_s: int
    expires_at: datetime


class Renewal(StrEnum):
    """How the last renewal of a stored token went; the column ``state``."""

    CONNECTED = "connected"
    FAILING = "failing"  # it is tried again by itself
    REFUSED = "refused"  # the provider does not take the refresh token any more; a person has to connect again


@dataclass(frozen=True, slots=True)
class Connection:
    """A row of ``oauth_tokens``; the tokens as they are stored, sealed or not."""

    provider: Provider
    channel: str  # YouTube: the channel it is for, "" for all; Twitch: the account's login
    access: str = field(repr=False)
    refresh: str | None = field(repr=False)
    expires_at: datetime | None
    scope: str
    key_id: str | None  # None: stored as plain text
    account: str  # whose it is, as far as the provider says; may be empty
    version: int  # grows whenever the tokens are replaced
    renewal: Renewal
    reason: str
    failures: int
    next_try_at: datetime | None
    refreshed_at: datetime | None
    updated_at: datetime


class ConnectionPhase(StrEnum):
    """How a connection stands, for people and programs."""

    CONNECTED = "connected"
    FAILING = "failing"
    REFUSED = "refused"
    EXPIRED = "expired"  # the token has ended and there is nothing to renew it with
    UNREADABLE = "unreadable"  # no key that is set opens it


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """A connection without its secrets."""

    provider: Provider
    channel: str
    account: str
    phase: ConnectionPhase
    encrypted: bool
    key: str  # current, old, unknown, or none
    expires_at: datetime | None
    renewed_by_itself: bool  # there is a refresh token
    scopes: tuple[str, ...]
    reason: str
    remedy: str
    next_try_at: datetime | None
    updated_at: datetime


def reconnect_remedy(provider: Provider) -> str:
    """What a person does when a connection has ended."""
    if provider is Provider.TWITCH:
        return "Connect the account again: on the page, or with vodkeep tokens connect twitch."
    return (
        "Connect the account again on the page. When this happens every week, Google's project is still in testing:"
        " publish it in the Google console (OAuth consent screen)."
    )
