"""What is sent to token services, and what their answers mean."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.accounts import oauth
from vodkeep.accounts.model import App, Grant, Provider
from vodkeep.accounts.oauth import Answer, Poll
from vodkeep.errors import CredentialsError, RateLimited, ServerError, VodkeepError

NOW = datetime(2026, 11, 24, tzinfo=UTC)
BASE = "https://id.example"


def app(provider: Provider) -> App:
    return App(
        provider, "client", "s3cret", "https://vods.example/cb", ("a", "b"), f"{BASE}/a", f"{BASE}/t", f"{BASE}/r"
    )


GOOGLE, TWITCH = app(Provider.YOUTUBE), app(Provider.TWITCH)


def answer(status: int, body: object) -> Answer:
    return Answer(status, body if isinstance(body, bytes) else json.dumps(body).encode())


def test_the_challenge_is_that_of_the_rfc() -> None:
    """RFC 7636 appendix B."""
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert oauth.challenge_of(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert 43 <= len(oauth.new_verifier()) <= 128
    assert oauth.new_verifier() != oauth.new_verifier()


def test_google_is_asked_for_a_refresh_token_and_nobody_for_more_than_is_needed() -> None:
    asked = parse_qs(urlsplit(oauth.consent_address(GOOGLE, state="st", verifier="v" * 43)).query)
    assert asked["access_type"] == ["offline"]
    assert asked["prompt"] == ["consent"]
    assert asked["scope"] == ["a b"]
    assert asked["code_challenge_method"] == ["S256"]
    assert "v" * 43 not in str(asked)
    assert "s3cret" not in str(asked)
    assert "access_type" not in oauth.consent_address(TWITCH, state="st", verifier="v" * 43)


@pytest.mark.parametrize(
    ("whom", "status", "body", "kind", "code"),
    [
        (GOOGLE, 400, {"error": "invalid_grant", "error_description": "Revoked."}, CredentialsError, "invalid_grant"),
        (TWITCH, 400, {"status": 400, "message": "Invalid refresh token"}, CredentialsError, "invalid_grant"),
        (GOOGLE, 401, {"error": "invalid_client"}, CredentialsError, "invalid_client"),
        (TWITCH, 403, {"status": 403, "message": "invalid client secret"}, CredentialsError, "invalid_client"),
        (TWITCH, 400, {"status": 400, "message": "invalid client"}, CredentialsError, "invalid_client"),
        (GOOGLE, 400, {"error": "redirect_uri_mismatch"}, CredentialsError, "redirect_uri"),
        (GOOGLE, 429, {"error": "rate_limit_exceeded"}, RateLimited, "rate_limited"),
        (GOOGLE, 503, b"<html>busy</html>", ServerError, "server_error"),
        # A proxy's page says nothing of the grant, whatever its status.
        (GOOGLE, 400, b"<html>invalid_grant</html>", ServerError, "server_error"),
        (GOOGLE, 302, b"", ServerError, "server_error"),
        (GOOGLE, 200, b"<html>", ServerError, "server_error"),
        (GOOGLE, 200, {"access_token": ""}, ServerError, "server_error"),
        (GOOGLE, 200, {"access_token": "a b"}, ServerError, "server_error"),
        (GOOGLE, 200, {"access_token": "a", "token_type": "mac"}, ServerError, "server_error"),
        (GOOGLE, 200, ["a"], ServerError, "server_error"),
    ],
)  # fmt: skip
def test_answers_that_are_no_token(whom: App, status: int, body: object, kind: type[VodkeepError], code: str) -> None:
    with pytest.raises(kind) as caught:
        oauth.grant_from(whom, answer(status, body), now=NOW, hide=("s3cret",))
    assert caught.value.code == code


def test_a_grant_is_read_in_the_words_of_both() -> None:
    google = {"access_token": "ya29.x", "expires_in": 3599, "scope": "a b", "token_type": "Bearer"}
    assert oauth.grant_from(GOOGLE, answer(200, google), now=NOW, hide=()) == Grant(
        "ya29.x", None, NOW + timedelta(seconds=3599), ("a", "b")
    )
    twitch = {"access_token": "x", "refresh_token": "r", "expires_in": 0, "scope": ["a"], "token_type": "bearer"}
    assert oauth.grant_from(TWITCH, answer(200, twitch), now=NOW, hide=()) == Grant("x", "r", None, ("a",))


def test_what_a_provider_quotes_of_us_is_not_repeated() -> None:
    quoted = answer(400, {"error": "invalid_request", "error_description": "bad value r3fresh\nsecret s3cret"})
    error = oauth.failure_of(GOOGLE, quoted, hide=("r3fresh", "s3cret"))
    assert "r3fresh" not in str(error)
    assert "s3cret" not in str(error)


@pytest.mark.parametrize(
    ("body", "poll"),
    [
        ({"error": "authorization_pending"}, Poll.PENDING),
        ({"status": 400, "message": "authorization_pending"}, Poll.PENDING),
        ({"error": "slow_down"}, Poll.SLOW_DOWN),
        ({"error": "access_denied"}, Poll.DENIED),
        ({"error": "expired_token"}, Poll.EXPIRED),
        ({"status": 400, "message": "invalid device code"}, Poll.EXPIRED),
    ],
)
def test_a_device_is_told_how_it_stands(body: object, poll: Poll) -> None:
    assert oauth.poll_from(TWITCH, answer(400, body), now=NOW, hide=()) is poll


def test_a_device_never_sends_people_to_a_script() -> None:
    given_ = {"device_code": "d", "user_code": "U", "verification_uri": "javascript:alert(1)", "expires_in": 60}
    with pytest.raises(ServerError):
        oauth.device_code_from(TWITCH, answer(200, given_), now=NOW)


@given(st.integers(100, 599), st.one_of(st.binary(max_size=200), st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["access_token", "refresh_token", "expires_in", "scope", "error", "message", "token_type"]),
        inner, max_size=5,
    ), max_leaves=8,
).map(lambda document: json.dumps(document).encode())))  # fmt: skip
def test_whatever_is_answered_ends_in_a_grant_or_in_one_of_our_errors(status: int, body: bytes) -> None:
    for whom in (GOOGLE, TWITCH):
        try:
            grant = oauth.grant_from(whom, Answer(status, body), now=NOW, hide=())
        except VodkeepError:
            continue
        assert grant.access_token
