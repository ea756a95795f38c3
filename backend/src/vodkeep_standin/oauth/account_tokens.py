"""What people granted to applications at one provider: codes, access tokens and refresh tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from vodkeep_standin.clock import StandinClock

CODE_LIFETIME_S = 600
Answer = Literal["grant", "deny", "wait"]


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An access token of a person, and the grant behind it."""

    value: str
    client_id: str
    scopes: tuple[str, ...]
    account: str
    """Login of who granted it."""
    expires_at: datetime
    refresh_token: str | None
    """What renews it; ``None`` when only a single use was asked for."""


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code (RFC 6749 section 4.1.2), with the challenge it was asked with (RFC 7636)."""

    value: str
    client_id: str
    redirect_uri: str
    scopes: tuple[str, ...]
    challenge: str | None
    offline: bool
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """A device code (RFC 8628) and what the person made of it."""

    value: str
    user_code: str
    client_id: str
    scopes: tuple[str, ...]
    expires_at: datetime
    answer: Answer = "wait"


class AccountTokens:
    """The tokens of one provider. What a person does on its consent page is decided by ``answer``."""

    def __init__(
        self, clock: StandinClock, rng: random.Random, *, account: str, access_lifetime_s: int, prefix: str = ""
    ) -> None:
        """``prefix`` begins every access token, as ``ya29.`` does Google's."""
        self._clock = clock
        self.random = rng
        self._prefix = prefix
        self.account = account
        """Login of the person at the consent page."""
        self.access_lifetime_s = access_lifetime_s
        self.answer: Answer = "grant"
        """What the person does on the consent page; ``wait`` shows the page and leaves the choice to its buttons."""
        self.refused_scopes: frozenset[str] = frozenset()
        """Boxes that the person leaves unticked, where the provider has boxes."""
        self.rotates = False
        """Whether a refresh ends the refresh token it was made with and brings a new one."""
        self.device_interval_s = 5
        """Seconds that a device is told to wait between two questions."""
        self.codes: dict[str, Code] = {}
        self.devices: dict[str, DeviceCode] = {}
        self.issued: list[str] = []
        """Every secret that was ever handed out: codes, device codes, access and refresh tokens."""
        self._access: dict[str, AccessToken] = {}
        self._refresh: dict[str, AccessToken] = {}

    # Access and refresh tokens ----------------------------------------------------------------------------

    def issue(
        self, scopes: Iterable[str] = (), client_id: str = "", *, offline: bool = True, refresh_token: str | None = None
    ) -> AccessToken:
        """A new access token, with a refresh token (``refresh_token`` or a new one) unless not ``offline``."""
        if offline and refresh_token is None:
            refresh_token = self._secret(24)
        token = AccessToken(
            self._secret(24, self._prefix),
            client_id,
            tuple(scopes),
            self.account,
            self._clock.now() + timedelta(seconds=self.access_lifetime_s),
            refresh_token,
        )
        self._access[token.value] = token
        if refresh_token is not None:
            self._refresh[refresh_token] = token
        return token

    def validate(self, value: str) -> AccessToken | None:
        """The access token if it is known and has not expired."""
        token = self._access.get(value)
        return token if token is not None and token.expires_at > self._clock.now() else None

    def refresh(self, refresh_token: str, client_id: str) -> AccessToken | None:
        """A new access token for a refresh token; ``None`` when that is none of this client's, or no longer."""
        known = self._refresh.get(refresh_token)
        if known is None or known.client_id != client_id:
            return None
        if self.rotates:
            del self._refresh[refresh_token]
            return self.issue(known.scopes, client_id)
        return self.issue(known.scopes, client_id, refresh_token=refresh_token)

    def expire(self, value: str | None = None) -> None:
        """End an access token's life, or that of all; refresh tokens stay."""
        for each in [value] if value is not None else list(self._access):
            self._access.pop(each, None)

    def revoke(self, value: str) -> bool:
        """End the grant behind an access or refresh token, with all its tokens; whether there was one."""
        known = self._access.get(value) or self._refresh.get(value)
        if known is None:
            return False
        for book in (self._access, self._refresh):
            for each in [each for each, token in book.items() if token.client_id == known.client_id]:
                del book[each]
        return True

    def revoke_all(self) -> None:
        """End every grant, as a person does who removes the application from the account."""
        self._access.clear()
        self._refresh.clear()

    # Codes ------------------------------------------------------------------------------------------------

    def issue_code(
        self, client_id: str, redirect_uri: str, scopes: Iterable[str], challenge: str | None, *, offline: bool = True
    ) -> str:
        """A code for the token endpoint; it can be used once."""
        granted = tuple(scope for scope in scopes if scope not in self.refused_scopes)
        ends = self._clock.now() + timedelta(seconds=CODE_LIFETIME_S)
        code = Code(self._secret(24), client_id, redirect_uri, granted, challenge, offline, ends)
        self.codes[code.value] = code
        return code.value

    def redeem(self, value: str, client_id: str, redirect_uri: str, verifier: str | None) -> AccessToken | str:
        """The token for a code, or what is wrong with the request (a code that was shown is used up either way)."""
        code = self.codes.pop(value, None)
        if code is None or code.expires_at <= self._clock.now() or code.client_id != client_id:
            return "code"
        if code.redirect_uri != redirect_uri:
            return "redirect_uri"
        if code.challenge is not None and not _fits(verifier, code.challenge):
            return "code_verifier"
        return self.issue(code.scopes, client_id, offline=code.offline)

    # Device codes -----------------------------------------------------------------------------------------

    def issue_device_code(self, client_id: str, scopes: Iterable[str], lifetime_s: int) -> DeviceCode:
        """A code for a device and one for the person, who answers at once if ``answer`` says so."""
        user_code = "".join(self.random.choice("BCDFGHJKLMNPQRSTVWXZ") for _ in range(8))
        ends = self._clock.now() + timedelta(seconds=lifetime_s)
        device = DeviceCode(self._secret(20), user_code, client_id, tuple(scopes), ends, self.answer)
        self.devices[device.value] = device
        return device

    def answer_device(self, user_code: str, answer: Answer) -> bool:
        """What the person says after typing the code; whether there is such a code."""
        for value, device in self.devices.items():
            if device.user_code == user_code:
                self.devices[value] = replace(device, answer=answer)
                return True
        return False

    def _secret(self, size_bytes: int, prefix: str = "") -> str:
        value = prefix + base64.urlsafe_b64encode(self.random.randbytes(size_bytes)).decode().rstrip("=")
        self.issued.append(value)
        return value


def _fits(verifier: str | None, challenge: str) -> bool:
    """Whether the verifier is the one of the challenge (RFC 7636 section 4.6, S256)."""
    digest = hashlib.sha256((verifier or "").encode()).digest()
    return hmac.compare_digest(base64.urlsafe_b64encode(digest).decode().rstrip("="), challenge)
