"""Connecting accounts, with a code that comes back to the browser or with one that a person types, and disconnecting.

A flow is known outside by a random word (``state``, or the name of a device's flow) and inside by its digest, so that
nobody can go on with one out of a copy of the database. It is bound to the browser that began it by a cookie, can be
used once, and ends after ten minutes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

import anyio
import anyio.to_thread

from vodkeep.accounts.client import EXCHANGE_LIMIT_S, TokenService
from vodkeep.accounts.keeper import lease_name, state_of
from vodkeep.accounts.model import App, Connection, ConnectionState, DeviceCode, Grant, Kind, Provider
from vodkeep.accounts.oauth import (
    Poll,
    account_from,
    code_form,
    consent_address,
    device_code_from,
    device_form,
    grant_from,
    new_verifier,
    poll_form,
    poll_from,
    revoke_form,
)
from vodkeep.accounts.sealing import open_connection, seal_grant
from vodkeep.accounts.spool import Spool
from vodkeep.accounts.store import Flow, FlowStore, TokenStore
from vodkeep.accounts.vault import TokenUnreadable, Vault
from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.leases import LeaseStore
from vodkeep.errors import RequestRefused, VodkeepError
from vodkeep.telemetry.log import Logger

FLOW_LIFETIME = timedelta(minutes=10)
_SLOW_DOWN_S = 5  # RFC 8628 section 3.5
_LEASE = timedelta(seconds=EXCHANGE_LIMIT_S * 4)
_ELSEWHERE = {
    Provider.TWITCH: "https://www.twitch.tv/settings/connections",
    Provider.YOUTUBE: "https://myaccount.google.com/permissions",
}


@dataclass(frozen=True, slots=True)
class Begun:
    """A consent that was begun."""

    address: str = field(repr=False)  # the provider's page
    browser: str = field(repr=False)  # what the browser has to bring back in its cookie
    secure: bool  # whether that cookie may travel over TLS only
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class BegunDevice:
    """A device's flow that was begun."""

    name: str = field(repr=False)  # to ask with how it stands
    user_code: str
    address: str
    interval_s: int
    expires_at: datetime


class DevicePhase(StrEnum):
    """How a device's flow stands."""

    PENDING = "pending"
    CONNECTED = "connected"


@dataclass(frozen=True, slots=True)
class DeviceState:
    """How a device's flow stands, and after how many seconds to ask again."""

    phase: DevicePhase
    wait_s: int
    account: str = ""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A connection that is gone here; ``warning`` says so when the provider could not be told."""

    warning: str = ""
    remedy: str = ""


class Accounts:
    """What a person does with accounts. Every method may raise RequestRefused, TransientError, DatabaseUnavailable."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        service: TokenService,
        apps: Mapping[Provider, App],
        spool: Spool,
        clock: Clock,
        log: Logger,
    ) -> None:
        self._database = database
        self._vault = vault
        self._service = service
        self._apps = apps
        self._spool = spool
        self._clock = clock
        self._log = log

    def missing(self, provider: Provider) -> tuple[str, ...]:
        """What has to be set before the provider can be connected on the page."""
        prefix = "TWITCH" if provider is Provider.TWITCH else "YT"
        app = self._apps.get(provider)
        needed = [] if app is not None else [f"{prefix}_CLIENT_ID", f"{prefix}_CLIENT_SECRET"]
        if app is None or app.redirect_uri is None:
            needed.append(f"{prefix}_REDIRECT_URI")
        if provider is Provider.YOUTUBE and self._vault.key_id is None:
            needed.append("ENCRYPTION_KEY")
        return tuple(needed)

    async def states(self) -> list[ConnectionState]:
        """Every connection without its secrets."""
        rows = await self._database.run(lambda unit: TokenStore(unit.connection).all(), write=False)
        return [state_of(self._vault, each, now=self._clock.now()) for each in rows]

    # --- a code that comes back to the browser --------------------------------------------------------------------

    async def begin(self, provider: Provider, channel: str = "") -> Begun:
        """Begin a consent for ``channel`` ("" is for all; Twitch's accounts are known by their login)."""
        if missing := self.missing(provider):
            raise _not_possible(provider, missing)
        app, state, browser, verifier = self._apps[provider], _word(), _word(), new_verifier()
        ends = self._clock.now() + FLOW_LIFETIME
        await self._remember(provider, channel, state, _digest(browser), verifier, expires_at=ends)
        secure = (app.redirect_uri or "").startswith("https://")
        return Begun(consent_address(app, state=state, verifier=verifier), browser, secure, ends)

    async def finish(
        self, provider: Provider, *, state: str, code: str, error: str, browser: str | None
    ) -> tuple[str, str]:
        """Take what the provider sent the browser back with; returns channel and account that are connected now."""
        flow = await self._take(provider, state)
        if flow is None or flow.expires_at <= self._clock.now():
            raise RequestRefused(
                "This consent was not begun here, was used already, or is older than ten minutes.",
                code="unknown_consent",
                remedy="Begin again on the page (Accounts).",
            )
        if browser is None or not hmac.compare_digest(_digest(browser), flow.browser):
            raise RequestRefused(
                "This consent was begun in another browser, or under another name of this service.",
                code="other_browser",
                remedy="Open the page under the host that the redirect address names, and begin again.",
            )
        if error:
            denied = error == "access_denied"
            raise RequestRefused(
                f"{provider.label} was not connected: " + ("consent was denied." if denied else "it sent an error."),
                code="consent_denied" if denied else "consent_failed",
                remedy="Begin again on the page (Accounts).",
            )
        if not code:
            raise RequestRefused(f"{provider.label} sent no code.", code="consent_failed", remedy="Begin again.")
        app, verifier = self._apps[provider], self._opened(flow)
        answer = await self._service.post(app.token_url, code_form(app, code, verifier))
        grant = grant_from(app, answer, now=self._clock.now(), hide=(code, verifier, app.client_secret))
        return await self._connect(app, flow.channel, grant)

    # --- a code that a person types -------------------------------------------------------------------------------

    async def begin_device(self, provider: Provider) -> BegunDevice:
        """Begin a flow without a browser of ours; only Twitch gives the rights we need this way."""
        if provider is Provider.YOUTUBE:
            raise RequestRefused(
                f"{provider.label} cannot be connected with a code on another device.",
                code="no_device_flow",
                remedy="Connect it on the page (Accounts).",
            )
        app = self._apps.get(provider)
        if app is None or app.device_url is None:
            raise _not_possible(provider, ("TWITCH_CLIENT_ID", "TWITCH_CLIENT_SECRET"))
        answer = await self._service.post(app.device_url, device_form(app))
        given: DeviceCode = device_code_from(app, answer, now=self._clock.now())
        name = _word()
        await self._remember(
            provider, "", name, "", given.device_code, expires_at=given.expires_at, interval_s=given.interval_s
        )
        return BegunDevice(name, given.user_code, given.address, given.interval_s, given.expires_at)

    async def poll_device(self, provider: Provider, name: str) -> DeviceState:
        """How a device's flow stands; the provider is not asked more often than it allows."""
        now = self._clock.now()
        flow_id = _digest(name)
        flow = await self._database.run(lambda unit: FlowStore(unit.connection).find(flow_id, provider), write=False)
        if flow is None or flow.browser or flow.expires_at <= now:
            raise _device_over(provider)
        if not await self._may_poll(flow, now):
            return DeviceState(DevicePhase.PENDING, _seconds_until(flow.next_poll_at, now))
        app, code = self._apps[provider], self._opened(flow)
        answer = await self._service.post(app.token_url, poll_form(app, code))
        told = poll_from(app, answer, now=self._clock.now(), hide=(code, app.client_secret))
        if isinstance(told, Grant):
            await self._take(provider, name)
            _, account = await self._connect(app, "", told)
            return DeviceState(DevicePhase.CONNECTED, 0, account)
        if told is Poll.SLOW_DOWN:
            await self._slow_down(flow)
            return DeviceState(DevicePhase.PENDING, flow.interval_s + _SLOW_DOWN_S)
        if told is Poll.PENDING:
            return DeviceState(DevicePhase.PENDING, flow.interval_s)
        await self._take(provider, name)
        if told is Poll.DENIED:
            raise RequestRefused(
                f"{provider.label} was not connected: consent was denied.", code="consent_denied", remedy="Begin again."
            )
        raise _device_over(provider)

    async def _may_poll(self, flow: Flow, now: datetime) -> bool:
        def claim(unit: UnitOfWork) -> bool:
            later = now + timedelta(seconds=flow.interval_s)
            mine = FlowStore(unit.connection).claim_poll(flow, now=now, next_poll_at=later)
            unit.commit()
            return mine

        return await self._database.run(claim)

    async def _slow_down(self, flow: Flow) -> None:
        interval_s = flow.interval_s + _SLOW_DOWN_S
        later = self._clock.now() + timedelta(seconds=interval_s)

        def slow(unit: UnitOfWork) -> None:
            FlowStore(unit.connection).slow_down(flow, interval_s=interval_s, next_poll_at=later)
            unit.commit()

        await self._database.run(slow)

    # --- ending ---------------------------------------------------------------------------------------------------

    async def disconnect(self, provider: Provider, channel: str = "") -> Disconnected:
        """End a connection at the provider and forget its tokens; they are forgotten even if it does not answer."""
        holder = secrets.token_hex(8)

        def claim(unit: UnitOfWork) -> tuple[Connection | None, bool]:
            stored = TokenStore(unit.connection).find(provider, channel)
            free = LeaseStore(unit.connection).take(lease_name(provider, channel), holder, _LEASE) is not None
            unit.commit()
            return stored, free

        stored, free = await self._database.run(claim)
        if stored is None:
            if free:
                await self._release(holder)
            raise RequestRefused(
                f"No such {provider.label} account is connected.",
                code="not_connected",
                remedy="vodkeep tokens list shows which are.",
            )
        if not free:
            raise RequestRefused(
                f"The {provider.label} token is being renewed at this moment.", code="busy", remedy="Try again."
            )
        try:
            outcome = await self._revoke(stored)
            await self._database.run(lambda unit: _forget(unit, provider, channel))
            await anyio.to_thread.run_sync(self._spool.remove, stored)
        finally:
            with anyio.CancelScope(shield=True):
                await self._release(holder)
        self._log.info("account disconnected", provider=str(provider), channel=channel, revoked=not outcome.warning)
        return outcome

    async def _revoke(self, stored: Connection) -> Disconnected:
        app = self._apps.get(stored.provider)
        failed = Disconnected(
            f"{stored.provider.label} could not be told that the connection has ended.",
            f"Remove Vodkeep at {_ELSEWHERE[stored.provider]}.",
        )
        try:
            grant = open_connection(self._vault, stored)
        except TokenUnreadable:
            return failed
        if app is None:
            return failed
        # Google ends the whole grant with either token, Twitch takes access tokens.
        token = grant.access_token if stored.provider is Provider.TWITCH else grant.refresh_token or grant.access_token
        try:
            answer = await self._service.post(app.revoke_url, revoke_form(app, token))
        except VodkeepError:
            return failed
        # 400 says that this token had ended before: at Google the grant with it, at Twitch the access token only.
        ended = answer.status == 200 or (answer.status == 400 and stored.provider is Provider.YOUTUBE)
        return Disconnected() if ended else failed

    async def _release(self, holder: str) -> None:
        def release(unit: UnitOfWork) -> None:
            LeaseStore(unit.connection).release(holder)
            unit.commit()

        await self._database.run(release)

    # --- flows and grants -----------------------------------------------------------------------------------------

    async def _connect(self, app: App, channel: str, grant: Grant) -> tuple[str, str]:
        provider = app.provider
        missing = () if grant.scopes is None else tuple(scope for scope in app.scopes if scope not in grant.scopes)
        if missing:
            raise RequestRefused(
                f"{provider.label} was not connected: these rights were not granted: {' '.join(missing)}.",
                code="scopes_missing",
                remedy="Begin again, and leave every box ticked.",
            )
        if provider is Provider.YOUTUBE and grant.refresh_token is None:
            raise RequestRefused(
                "YouTube was not connected: Google gave a token for one hour only.",
                code="no_refresh_token",
                remedy=f"Remove Vodkeep at {_ELSEWHERE[provider]} and begin again.",
            )
        account = ""
        if app.validate_url is not None:
            account = account_from(await self._service.validate(app.validate_url, grant.access_token)) or ""
            channel = account
        whole = Grant(grant.access_token, grant.refresh_token, grant.expires_at, grant.scopes or app.scopes)
        sealed = seal_grant(self._vault, provider, channel, whole)

        def connect(unit: UnitOfWork) -> None:
            TokenStore(unit.connection).connect(provider, channel, sealed, account=account, at=self._clock.now())
            unit.commit()

        await self._database.run(connect)
        self._log.info(
            "account connected",
            provider=str(provider),
            channel=channel,
            account=account,
            encrypted=sealed.key_id is not None,
        )
        if sealed.key_id is None:
            self._log.warning(
                "tokens are stored as plain text",
                remedy="Set ENCRYPTION_KEY and run vodkeep tokens migrate.",
            )
        return channel, account

    async def _remember(
        self,
        provider: Provider,
        channel: str,
        word: str,
        browser: str,
        secret: str,
        *,
        expires_at: datetime,
        interval_s: int = 0,
    ) -> None:
        now = self._clock.now()
        flow_id = _digest(word)
        # The flow's own name is part of what the secret is bound to.
        sealed = self._vault.seal(secret, provider, flow_id, Kind.FLOW)
        next_poll_at = now + timedelta(seconds=interval_s)
        flow = Flow(
            flow_id, provider, channel, browser, sealed, self._vault.key_id, interval_s, next_poll_at, expires_at
        )

        def begin(unit: UnitOfWork) -> None:
            FlowStore(unit.connection).begin(flow, now=now)
            unit.commit()

        await self._database.run(begin)

    async def _take(self, provider: Provider, word: str) -> Flow | None:
        def take(unit: UnitOfWork) -> Flow | None:
            flow = FlowStore(unit.connection).take(_digest(word), provider)
            unit.commit()
            return flow

        return await self._database.run(take)

    def _opened(self, flow: Flow) -> str:
        return self._vault.open(flow.secret, flow.key_id, flow.provider, flow.id, Kind.FLOW)


def _forget(unit: UnitOfWork, provider: Provider, channel: str) -> None:
    TokenStore(unit.connection).forget(provider, channel)
    unit.commit()


def _not_possible(provider: Provider, missing: tuple[str, ...]) -> RequestRefused:
    why = ""
    if "ENCRYPTION_KEY" in missing:
        why = " A YouTube token lets whoever reads the database publish in your name, so it is stored encrypted only."
    return RequestRefused(
        f"{provider.label} cannot be connected yet: {' and '.join(missing)} must be set.{why}",
        code="not_set_up",
        remedy="Set what is missing and start the service again; docs/accounts.md says how.",
    )


def _device_over(provider: Provider) -> RequestRefused:
    return RequestRefused(
        f"This code for {provider.label} has ended or was used.", code="unknown_consent", remedy="Begin again."
    )


def _word() -> str:
    return secrets.token_urlsafe(32)


def _digest(word: str) -> str:
    return hashlib.sha256(word.encode()).hexdigest()


def _seconds_until(moment: datetime, now: datetime) -> int:
    return max(1, int((moment - now).total_seconds()) + 1)
