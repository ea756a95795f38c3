"""Hands out access tokens that work: renewed ahead of their end, by one renewer at a time over all processes.

A renewal holds a lease while it asks the provider, and stores its answer only over the tokens it asked with. Who waits
for the lease looks at the row again and again, and takes what the other one brought. A provider that refuses is not
asked again for hours; one that fails, after growing waits; meanwhile a token that still works is handed out.
"""

from __future__ import annotations

import random
import secrets
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta

import anyio
import anyio.to_thread

from vodkeep.accounts.client import EXCHANGE_LIMIT_S, TokenService
from vodkeep.accounts.model import (
    App,
    Connection,
    ConnectionPhase,
    ConnectionState,
    Grant,
    Provider,
    Renewal,
    reconnect_remedy,
)
from vodkeep.accounts.oauth import INVALID_GRANT, account_from, grant_from, refresh_form
from vodkeep.accounts.sealing import open_connection, open_sealed, seal_grant
from vodkeep.accounts.spool import Spool
from vodkeep.accounts.store import Sealed, TokenStore
from vodkeep.accounts.vault import TokenUnreadable, Vault
from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.leases import LeaseStore
from vodkeep.errors import CredentialsError, DatabaseUnavailable, ServerError, TransientError, VodkeepError
from vodkeep.telemetry.log import Logger

NOT_CONNECTED = "not_connected"
TOKEN_REFUSED = "token_refused"  # noqa: S105 - a code

RENEW_BEFORE = timedelta(minutes=5)
RENEW_JITTER = timedelta(minutes=5)
"""A token is renewed between 5 and 10 minutes before its end: not all of them, and not all processes, at once."""

_WORKS_FOR = timedelta(seconds=30)  # What ends sooner is not handed out.
_REFUSED_AGAIN = timedelta(hours=6)
_FAILED_BASE = timedelta(seconds=30)
_FAILED_CAP = timedelta(hours=1)
_MISCONFIGURED_AGAIN = timedelta(minutes=10)
_FRESH = timedelta(minutes=2)  # A token that is refused this soon after its renewal is not renewed again.
_LEASE = timedelta(seconds=EXCHANGE_LIMIT_S * 4)
_LOOK_AGAIN_S = 0.2
_WAIT_FOR_OTHER_S = EXCHANGE_LIMIT_S * 2
_ROUND_S = 60.0
_VALIDATE_S = 3600.0  # Twitch asks applications for it: dev.twitch.tv/docs/authentication/validate-tokens
_COMMIT_TRIES = 5

Key = tuple[Provider, str]


class TokenKeeper:
    """The tokens of every connected account."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        service: TokenService,
        apps: Mapping[Provider, App],
        spool: Spool,
        clock: Clock,
        rng: random.Random,
        log: Logger,
    ) -> None:
        """``apps`` are the applications that are set up."""
        self._database = database
        self._vault = vault
        self._service = service
        self._apps = apps
        self._spool = spool
        self._clock = clock
        self._rng = rng
        self._log = log
        self._locks: defaultdict[Key, anyio.Lock] = defaultdict(anyio.Lock)
        self._margins: dict[Key, tuple[int, timedelta]] = {}
        self._validate_at: dict[Key, float] = {}

    async def access_token(self, provider: Provider, channel: str = "", *, rejected: str | None = None) -> str:
        """A token that works: of the channel's own account, else of the one for all channels.

        ``rejected`` is a token that the provider has just refused with 401; it is not handed out again. Raises
        CredentialsError (``not_connected``, ``invalid_grant``, ``token_unreadable``, ``token_refused``,
        ``invalid_client``), a TransientError when renewing fails and nothing works meanwhile, DatabaseUnavailable.
        """

        def find(unit: UnitOfWork) -> Connection | None:
            store = TokenStore(unit.connection)
            return store.find(provider, channel) or (store.find(provider, "") if channel else None)

        stored = await self._database.run(find, write=False)
        if stored is None:
            raise _not_connected(provider)
        return await self._working(stored, rejected)

    async def states(self) -> list[ConnectionState]:
        """Every connection without its secrets. Raises DatabaseUnavailable."""
        return [state_of(self._vault, each, now=self._clock.now()) for each in await self._all()]

    async def run(self) -> None:
        """Renew ahead of the end, and ask Twitch each hour whether its tokens still hold; until canceled."""
        warned = False
        while True:
            stored = await self.look_after()
            if not warned and any(each.key_id is None for each in stored):
                warned = True
                self._log.warning(
                    "tokens are stored as plain text", remedy="Set ENCRYPTION_KEY and run vodkeep tokens migrate."
                )
            await self._clock.sleep(_ROUND_S)

    async def look_after(self) -> list[Connection]:
        """One round over all connections, as they were before; what fails is in their states and in the log."""
        try:
            stored = await self._all()
        except DatabaseUnavailable:
            return []
        for each in stored:
            try:
                token = await self._working(each, None)
                await self._validate(each, token)
            except VodkeepError as error:
                self._log.debug("token not renewed", provider=str(each.provider), error=str(error), code=error.code)
        return stored

    # --- choosing -----------------------------------------------------------------------------------------------

    async def _all(self) -> list[Connection]:
        return await self._database.run(lambda unit: TokenStore(unit.connection).all(), write=False)

    async def _find(self, stored: Connection) -> Connection | None:
        """The row of ``stored`` as it is now."""
        return await self._database.run(
            lambda unit: TokenStore(unit.connection).find(stored.provider, stored.channel), write=False
        )

    async def _working(self, stored: Connection, rejected: str | None) -> str:
        grant = open_connection(self._vault, stored)
        now = self._clock.now()
        works = grant.access_token != rejected and (stored.expires_at is None or stored.expires_at > now + _WORKS_FOR)
        if stored.renewal is Renewal.REFUSED:
            works = False
        if works and (grant.refresh_token is None or not self._is_due(stored, now)):
            return grant.access_token
        if not works and grant.access_token == rejected and _is_fresh(stored, now):
            raise CredentialsError(
                f"{stored.provider.label} refuses a token that it has only just given.",
                code=TOKEN_REFUSED,
                remedy="Check that the account may do what was asked for; the next try is made by itself.",
                delay_s=_MISCONFIGURED_AGAIN.total_seconds(),
            )
        if grant.refresh_token is None:
            raise _ended(stored.provider)
        try:
            self._check_wait(stored)
            return await self._renewed(stored, rejected)
        except TransientError:
            if works:
                return grant.access_token
            raise

    def _is_due(self, stored: Connection, now: datetime) -> bool:
        """Whether it is time to renew, though the token still works."""
        if stored.expires_at is None:
            return False
        version, margin = self._margins.get((stored.provider, stored.channel), (-1, timedelta()))
        if version != stored.version:
            margin = RENEW_BEFORE + self._rng.random() * RENEW_JITTER
            self._margins[stored.provider, stored.channel] = stored.version, margin
        if stored.refreshed_at is not None:
            # One that lives shorter than the margin is used for half of its life.
            margin = min(margin, (stored.expires_at - stored.refreshed_at) / 2)
        return now >= stored.expires_at - margin

    # --- renewing -----------------------------------------------------------------------------------------------

    async def _renewed(self, stored: Connection, rejected: str | None) -> str:
        """A token newer than ``stored`` holds, from this process or another. Raises as `access_token` does."""
        async with self._locks[stored.provider, stored.channel]:
            began = self._clock.monotonic()
            while True:
                current, claim = await self._claim(stored)
                if current is None:
                    raise _not_connected(stored.provider)
                try:
                    if current.version != stored.version:
                        grant = open_connection(self._vault, current)
                        ends = current.expires_at
                        if grant.access_token != rejected and (ends is None or ends > self._clock.now() + _WORKS_FOR):
                            return grant.access_token
                        stored = current
                    self._check_wait(current)
                    if claim is not None:
                        # The answer may hold the only copy of a refresh token: it is not interrupted.
                        with anyio.CancelScope(shield=True):
                            return await self._renew(current)
                finally:
                    if claim is not None:
                        with anyio.CancelScope(shield=True):
                            await self._release(claim)
                if self._clock.monotonic() - began > _WAIT_FOR_OTHER_S:
                    raise ServerError(
                        f"Another process has not finished renewing the {stored.provider.label} token.", delay_s=30.0
                    )
                await self._clock.sleep(_LOOK_AGAIN_S)

    async def _claim(self, stored: Connection) -> tuple[Connection | None, str | None]:
        """The row as it is now, and the holder of the lease if we got it."""
        holder = secrets.token_hex(8)

        def claim(unit: UnitOfWork) -> tuple[Connection | None, str | None]:
            taken = LeaseStore(unit.connection).take(lease_name(stored.provider, stored.channel), holder, _LEASE)
            current = TokenStore(unit.connection).find(stored.provider, stored.channel)
            unit.commit()
            return current, holder if taken is not None else None

        return await self._database.run(claim)

    async def _release(self, holder: str) -> None:
        def release(unit: UnitOfWork) -> None:
            LeaseStore(unit.connection).release(holder)
            unit.commit()

        # Without a database it runs out by itself.
        with suppress(DatabaseUnavailable):
            await self._database.run(release)

    def _check_wait(self, stored: Connection) -> None:
        """Raise what the last try raised, as long as the next one is not due."""
        now = self._clock.now()
        if stored.next_try_at is None or stored.next_try_at <= now:
            return
        delay_s = (stored.next_try_at - now).total_seconds()
        if stored.renewal is Renewal.REFUSED:
            raise CredentialsError(
                stored.reason, code=INVALID_GRANT, remedy=reconnect_remedy(stored.provider), delay_s=delay_s
            )
        raise ServerError(stored.reason, delay_s=delay_s)

    async def _renew(self, stored: Connection) -> str:
        before = open_connection(self._vault, stored)
        app = self._apps.get(stored.provider)
        if app is None:
            raise _not_set_up(stored.provider)
        sealed = await anyio.to_thread.run_sync(self._spool.read, stored)
        grant = None if sealed is None else self._spooled(stored, sealed)
        if grant is None or sealed is None:
            grant, sealed = await self._ask(app, stored, before)
            spooled = False
        else:
            spooled = True
        if not await self._save(stored, sealed):
            # Replaced or disconnected meanwhile: that is what counts.
            await anyio.to_thread.run_sync(self._spool.remove, stored)
            raise ServerError(f"The {stored.provider.label} account was connected anew meanwhile.", delay_s=1.0)
        self._log.info(
            "token renewed",
            provider=str(stored.provider),
            channel=stored.channel,
            expires_at=grant.expires_at,
            rotated=grant.refresh_token not in (None, before.refresh_token),
        )
        if spooled and grant.expires_at is not None and grant.expires_at <= self._clock.now() + _WORKS_FOR:
            # It waited for so long that only its refresh token is of use.
            current = await self._find(stored)
            if current is not None and current.version != stored.version:
                return await self._renew(current)
        return grant.access_token

    def _spooled(self, stored: Connection, sealed: Sealed) -> Grant | None:
        """A renewal that was answered and not stored; None when it cannot be read."""
        try:
            grant = open_sealed(self._vault, stored, sealed)
        except TokenUnreadable:
            return None
        self._log.warning("a renewal that was not stored is taken up", provider=str(stored.provider))
        return grant

    async def _ask(self, app: App, stored: Connection, before: Grant) -> tuple[Grant, Sealed]:
        """Ask the provider; the answer is durable in the spool. Raises what it refused with, which is remembered."""
        refresh = before.refresh_token
        if refresh is None:
            raise _ended(stored.provider)
        try:
            answer = await self._service.post(app.token_url, refresh_form(app, refresh))
            hide = (refresh, before.access_token, app.client_secret)
            grant = grant_from(app, answer, now=self._clock.now(), hide=hide)
        except TransientError as error:
            await self._remember(stored, error)
            raise
        sealed = seal_grant(self._vault, stored.provider, stored.channel, grant, before=before)
        try:
            await anyio.to_thread.run_sync(self._spool.write, stored, sealed)
        except OSError as error:
            # The database is the place that counts; this was only against losing its commit.
            self._log.warning("a renewal could not be written to DATA_DIR", error=str(error.strerror))
        return grant, sealed

    async def _save(self, stored: Connection, sealed: Sealed) -> bool:
        """Store a renewal; True as well when it is safe in the spool and the database does not answer."""

        def save(unit: UnitOfWork) -> bool:
            store = TokenStore(unit.connection)
            if store.renewed(stored, sealed, at=self._clock.now()):
                unit.commit()
                return True
            # A commit whose answer was lost did last.
            current = store.find(stored.provider, stored.channel)
            return current is not None and current.access == sealed.access

        for left in reversed(range(_COMMIT_TRIES)):
            try:
                saved = await self._database.run(save)
            except DatabaseUnavailable as error:
                if not left:
                    self._log.warning("a renewed token waits in DATA_DIR for the database", error=str(error))
                    return True
                await self._clock.sleep(0.5)
            else:
                await anyio.to_thread.run_sync(self._spool.remove, stored)
                return saved
        return False

    async def _remember(self, stored: Connection, error: TransientError) -> None:
        """Write down how a renewal failed, and when the next try may be."""
        now = self._clock.now()
        spread = 1 + self._rng.random() / 4
        if error.code == INVALID_GRANT:
            renewal, wait = Renewal.REFUSED, _REFUSED_AGAIN
        elif isinstance(error, CredentialsError):
            renewal, wait = Renewal.FAILING, _MISCONFIGURED_AGAIN
        else:
            renewal, wait = Renewal.FAILING, min(_FAILED_CAP, _FAILED_BASE * 2 ** min(stored.failures, 10))
        wait = max(wait * spread, timedelta(seconds=error.delay_s or 0.0))
        sentence = f"{error} {error.remedy}".strip() if renewal is Renewal.FAILING else str(error)

        def remember(unit: UnitOfWork) -> None:
            TokenStore(unit.connection).failed(stored, renewal, sentence, next_try_at=now + wait, at=now)
            unit.commit()

        # Where that cannot be written down, the next caller asks once more.
        with suppress(DatabaseUnavailable):
            await self._database.run(remember)
        self._log.warning(
            "account needs a person" if renewal is Renewal.REFUSED else "token not renewed, tried again",
            provider=str(stored.provider),
            channel=stored.channel,
            error=str(error),
            remedy=error.remedy,
            code=error.code,
            retry_s=round(wait.total_seconds()),
        )

    async def _validate(self, stored: Connection, token: str) -> None:
        """Ask Twitch whether a token still holds; one that does not is renewed, which says the rest."""
        app = self._apps.get(stored.provider)
        key, now_s = (stored.provider, stored.channel), self._clock.monotonic()
        if app is None or app.validate_url is None or now_s < self._validate_at.get(key, now_s):
            return
        self._validate_at[key] = now_s + _VALIDATE_S
        if account_from(await self._service.validate(app.validate_url, token)) is None:
            current = await self._find(stored)
            if current is not None:
                await self._working(current, token)


def lease_name(provider: Provider, channel: str) -> str:
    """The lease of who renews or ends a connection."""
    return f"token:{provider}:{channel}"


def state_of(vault: Vault, stored: Connection, *, now: datetime) -> ConnectionState:
    """A connection without its secrets."""
    phase, reason, remedy = ConnectionPhase(str(stored.renewal)), stored.reason, ""
    if stored.renewal is Renewal.REFUSED:
        remedy = reconnect_remedy(stored.provider)
    elif not stored.refresh and stored.expires_at is not None and stored.expires_at <= now:
        error = _ended(stored.provider)
        phase, reason, remedy = ConnectionPhase.EXPIRED, str(error), error.remedy
    try:
        open_connection(vault, stored)
    except TokenUnreadable as error:
        phase, reason, remedy = ConnectionPhase.UNREADABLE, str(error), error.remedy
    return ConnectionState(
        provider=stored.provider,
        channel=stored.channel,
        account=stored.account,
        phase=phase,
        encrypted=stored.key_id is not None,
        key=vault.standing(stored.key_id),
        expires_at=stored.expires_at,
        renewed_by_itself=bool(stored.refresh),
        scopes=tuple(stored.scope.split()),
        reason=reason,
        remedy=remedy,
        next_try_at=stored.next_try_at,
        updated_at=stored.updated_at,
    )


def _is_fresh(stored: Connection, now: datetime) -> bool:
    return stored.refreshed_at is not None and now - stored.refreshed_at < _FRESH


def _not_connected(provider: Provider) -> CredentialsError:
    return CredentialsError(
        f"No {provider.label} account is connected.",
        code=NOT_CONNECTED,
        remedy=f"Connect one on the page (Accounts){_by_command(provider)}.",
    )


def _not_set_up(provider: Provider) -> CredentialsError:
    prefix = "TWITCH" if provider is Provider.TWITCH else "YT"
    return CredentialsError(
        f"{prefix}_CLIENT_ID and {prefix}_CLIENT_SECRET are not set, so the {provider.label} token cannot be renewed.",
        code="not_set_up",
        remedy="Set both, as they are at the provider.",
    )


def _ended(provider: Provider) -> CredentialsError:
    return CredentialsError(
        f"The {provider.label} token has ended, and there is nothing to renew it with.",
        code=INVALID_GRANT,
        remedy=reconnect_remedy(provider),
    )


def _by_command(provider: Provider) -> str:
    return ", or with vodkeep tokens connect twitch" if provider is Provider.TWITCH else ""
