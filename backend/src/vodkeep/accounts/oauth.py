"""OAuth without a network: what to send to a provider, and what its answers mean.

Sources: RFC 6749 (code, refresh), RFC 7636 (PKCE), RFC 8628 (device), RFC 7009 (revocation);
https://developers.google.com/identity/protocols/oauth2/web-server and https://dev.twitch.tv/docs/authentication (read
2026-11). Twitch answers in words of its own (``{"status": 400, "message": "Invalid refresh token"}``) and ignores
PKCE, which does no harm.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import urlencode, urlsplit

from vodkeep.accounts.model import App, DeviceCode, Grant, Provider, reconnect_remedy
from vodkeep.errors import CredentialsError, RateLimited, ServerError, VodkeepError

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"

INVALID_GRANT = "invalid_grant"
"""``code`` of the CredentialsError for a code or refresh token that the provider does not take."""

_LONGEST_SAID = 160
_LONGEST_TOKEN = 8192
_SLOWEST_POLL_S = 60
Form = dict[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider answered, whole and within the size limit."""

    status: int
    body: bytes = field(repr=False)
    retry_after_s: float | None = None


class Poll(StrEnum):
    """What a device is told while the person has not consented."""

    PENDING = "authorization_pending"
    SLOW_DOWN = "slow_down"
    DENIED = "access_denied"
    EXPIRED = "expired_token"


# --- what to send --------------------------------------------------------------------------------------------


def new_verifier() -> str:
    """A code verifier with 384 bits (RFC 7636 section 4.1)."""
    return secrets.token_urlsafe(48)


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636 section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def consent_address(app: App, *, state: str, verifier: str) -> str:
    """The page where the person consents."""
    query = {
        "response_type": "code",
        "client_id": app.client_id,
        "redirect_uri": app.redirect_uri or "",
        "scope": " ".join(app.scopes),
        "state": state,
        "code_challenge": challenge_of(verifier),
        "code_challenge_method": "S256",
    }
    if app.provider is Provider.YOUTUBE:
        # Google gives a refresh token only for offline access, and then only with a consent that was shown.
        query |= {"access_type": "offline", "prompt": "consent"}
    else:
        # Twitch would pass by the page for who consented before, and connect whoever happens to be logged in.
        query |= {"force_verify": "true"}
    return f"{app.authorize_url}?{urlencode(query)}"


def code_form(app: App, code: str, verifier: str) -> Form:
    """Tokens for a code."""
    return {
        **_application(app),
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": app.redirect_uri or "",
        "code_verifier": verifier,
    }


def refresh_form(app: App, refresh_token: str) -> Form:
    """A new access token for a refresh token."""
    return {**_application(app), "grant_type": "refresh_token", "refresh_token": refresh_token}


def device_form(app: App) -> Form:
    """A code for this device and one for the person. Twitch writes ``scopes``, the RFC ``scope``."""
    scopes = " ".join(app.scopes)
    return {"client_id": app.client_id, "scopes": scopes, "scope": scopes}


def poll_form(app: App, device_code: str) -> Form:
    """Whether the person has consented."""
    return {
        "client_id": app.client_id,
        "scopes": " ".join(app.scopes),
        "device_code": device_code,
        "grant_type": DEVICE_GRANT,
    }


def revoke_form(app: App, token: str) -> Form:
    """End a grant."""
    return {"client_id": app.client_id, "token": token}


def _application(app: App) -> Form:
    return {"client_id": app.client_id, "client_secret": app.client_secret}


# --- what the answers mean -----------------------------------------------------------------------------------


def grant_from(app: App, answer: Answer, *, now: datetime, hide: Sequence[str]) -> Grant:
    """The tokens in an answer. Raises what `failure_of` makes of any other; ``hide`` must not be repeated."""
    if answer.status != 200:
        raise failure_of(app, answer, hide=hide)
    document = _document(answer)
    access, refresh = document.get("access_token"), document.get("refresh_token")
    kind = str(document.get("token_type", "bearer")).lower()
    if not _is_token(access) or not (refresh is None or refresh == "" or _is_token(refresh)) or kind != "bearer":
        raise ServerError(f"{app.provider.label} answers without a token that can be used.")
    return Grant(str(access), str(refresh) if refresh else None, _ends(document, now), _scopes(document.get("scope")))


def device_code_from(app: App, answer: Answer, *, now: datetime) -> DeviceCode:
    """The codes of a device. Raises as `grant_from` does."""
    if answer.status != 200:
        raise failure_of(app, answer, hide=())
    document = _document(answer)
    code, person = document.get("device_code"), document.get("user_code")
    address = document.get("verification_uri") or document.get("verification_url")
    ends, interval = _ends(document, now), document.get("interval", 5)
    if not (_is_token(code) and isinstance(person, str) and 0 < len(person) <= 64 and isinstance(address, str)):
        raise ServerError(f"{app.provider.label} answers without a code for a device.")
    if urlsplit(address).scheme not in ("https", "http") or not urlsplit(address).netloc:
        raise ServerError(f"{app.provider.label} answers with an address that nobody should open.")
    seconds = interval if isinstance(interval, int) and 1 <= interval <= _SLOWEST_POLL_S else 5
    return DeviceCode(str(code), person, address, seconds, ends or now + timedelta(minutes=10))


def poll_from(app: App, answer: Answer, *, now: datetime, hide: Sequence[str]) -> Grant | Poll:
    """What a device is told: tokens, or how it stands (RFC 8628 section 3.5)."""
    if answer.status in (400, 401, 403, 428):
        error, message = _said(answer)
        for poll in Poll:
            if poll.value in (error, message):
                return poll
        if message.lower() == "invalid device code":  # Twitch's word for one that has ended or was used.
            return Poll.EXPIRED
    return grant_from(app, answer, now=now, hide=hide)


def account_from(answer: Answer) -> str | None:
    """The login that Twitch's ``/validate`` names; None when the token is not valid. Raises ServerError."""
    if answer.status == 401:
        return None
    login = _document(answer).get("login") if answer.status == 200 else None
    if not isinstance(login, str) or not login:
        raise ServerError(f"Twitch does not say whose the token is (HTTP {answer.status}).")
    return login.lower()


def failure_of(app: App, answer: Answer, *, hide: Sequence[str]) -> VodkeepError:
    """The error that an answer other than 200 stands for.

    Only what a provider clearly says of the grant itself counts as one that has ended: a page of a proxy does not.
    """
    name, error, message = app.provider.label, *_said(answer)
    said = f"HTTP {answer.status}" + (f", {_shown(message or error, hide)}" if message or error else "")
    if answer.status == 429:
        return RateLimited(f"{name} asks us to slow down ({said}).", delay_s=answer.retry_after_s)
    words = {error.lower(), message.lower()}
    if answer.status in (400, 401, 403):
        if words & {"invalid_client", "unauthorized_client", "invalid client", "invalid client secret"}:
            settings = "TWITCH_CLIENT_ID and TWITCH_CLIENT_SECRET"
            settings = settings if app.provider is Provider.TWITCH else "YT_CLIENT_ID and YT_CLIENT_SECRET"
            return CredentialsError(
                f"{name} refuses our client id or secret ({said}).", code="invalid_client", remedy=f"Check {settings}."
            )
        if words & {"invalid_grant", "invalid refresh token", "invalid authorization code", "invalid token"}:
            return CredentialsError(
                f"{name} does not take the grant any more ({said}).",
                code=INVALID_GRANT,
                remedy=reconnect_remedy(app.provider),
            )
        if "redirect_uri_mismatch" in words or "invalid redirect_uri" in words:
            setting = "TWITCH_REDIRECT_URI" if app.provider is Provider.TWITCH else "YT_REDIRECT_URI"
            return CredentialsError(
                f"{name} does not know our redirect address ({said}).",
                code="redirect_uri",
                remedy=f"Enter {setting} at {name}, character for character.",
            )
    return ServerError(f"{name}'s token service answers with an error ({said}).", delay_s=answer.retry_after_s)


def _document(answer: Answer) -> dict[str, object]:
    try:
        document = json.loads(answer.body)
    except ValueError as error:
        raise ServerError("The token service answers with something that is not JSON.") from error
    if not isinstance(document, dict):
        raise ServerError("The token service answers with JSON that is no object.")
    return document


def _said(answer: Answer) -> tuple[str, str]:
    """The error code and the words of an answer, as far as there are any."""
    try:
        document = _document(answer)
    except ServerError:
        return "", ""
    error, words = document.get("error"), document.get("error_description", document.get("message"))
    return error if isinstance(error, str) else "", words if isinstance(words, str) else ""


def _shown(text: str, hide: Sequence[str]) -> str:
    for secret in hide:
        text = text.replace(secret, "***") if secret else text
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:_LONGEST_SAID]


def _is_token(value: object) -> bool:
    """Whether it can be sent as a bearer token: printable ASCII without spaces (RFC 6750 section 2.1)."""
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_TOKEN and all("!" <= char <= "~" for char in value)


def _ends(document: dict[str, object], now: datetime) -> datetime | None:
    lifetime = document.get("expires_in")
    if isinstance(lifetime, str) and lifetime.isascii() and lifetime.isdecimal() and len(lifetime) <= 10:
        lifetime = int(lifetime)
    # Twitch writes 0 for tokens of old applications, which do not end.
    if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or not 0 < lifetime < 10**9:
        return None
    return now + timedelta(seconds=lifetime)


def _scopes(value: object) -> tuple[str, ...] | None:
    if isinstance(value, str):
        return tuple(value.split())
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else None
