"""What people grant at the stand-in's Twitch and Google, as an application meets it."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import parse_qsl, urlencode, urlsplit

import urllib3

from vodkeep_standin.server import Standin

BACK = "http://127.0.0.1/callback"
VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


def test_google_checks_codes_and_renews_until_the_grant_is_revoked(http: urllib3.PoolManager, standin: Standin) -> None:
    scenario, tokens = standin.scenario, standin.world.google_tokens
    app = {"client_id": scenario.google_client_id, "client_secret": scenario.google_client_secret}

    def post(path: str, **form: str) -> urllib3.BaseHTTPResponse:
        return http.request("POST", standin.http_url + path, fields={**app, **form}, encode_multipart=False)

    def code(**more: str) -> dict[str, str]:
        asked = {
            "client_id": scenario.google_client_id,
            "redirect_uri": BACK,
            "response_type": "code",
            "scope": "youtube.upload youtube.readonly",
            "state": "s",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            **more,
        }
        page = http.request("GET", f"{standin.http_url}/o/oauth2/v2/auth?{urlencode(asked)}", redirect=False)
        assert page.status == 302
        return dict(parse_qsl(urlsplit(page.headers["Location"]).query))

    redeem = {"grant_type": "authorization_code", "redirect_uri": BACK}
    wrong = code()
    assert wrong["state"] == "s"
    assert post("/token", code=wrong["code"], code_verifier="x" * 64, **redeem).json()["error"] == "invalid_grant"
    online = post("/token", code=code()["code"], code_verifier=VERIFIER, **redeem).json()
    assert "refresh_token" not in online
    offline = code(access_type="offline", prompt="consent")
    granted = post("/token", code=offline["code"], code_verifier=VERIFIER, **redeem).json()
    assert post("/token", code=offline["code"], code_verifier=VERIFIER, **redeem).status == 400
    assert tokens.validate(granted["access_token"])
    standin.advance(3600)
    assert tokens.validate(granted["access_token"]) is None
    again = post("/token", grant_type="refresh_token", refresh_token=granted["refresh_token"])
    assert "refresh_token" not in again.json()
    assert tokens.validate(again.json()["access_token"])
    tokens.rotates = True
    rotated = post("/token", grant_type="refresh_token", refresh_token=granted["refresh_token"]).json()
    old = post("/token", grant_type="refresh_token", refresh_token=granted["refresh_token"])
    assert (old.status, old.json()["error"]) == (400, "invalid_grant")
    assert post("/revoke", token=rotated["refresh_token"]).status == 200
    assert tokens.validate(rotated["access_token"]) is None
    tokens.answer = "deny"
    assert code() == {"error": "access_denied", "error_description": "The user denied you access", "state": "s"}


def test_a_redirect_that_is_not_registered_is_told_on_the_page(http: urllib3.PoolManager, standin: Standin) -> None:
    standin.scenario.registered_redirects = frozenset({BACK})
    asked = {"client_id": standin.scenario.client_id, "redirect_uri": f"{BACK}/", "response_type": "code", "scope": "x"}
    page = http.request("GET", f"{standin.http_url}/oauth2/authorize?{urlencode(asked)}", redirect=False)
    assert page.status == 400


def test_a_device_waits_for_the_person(http: urllib3.PoolManager, standin: Standin) -> None:
    standin.world.twitch_tokens.answer = "wait"
    client = {"client_id": standin.scenario.client_id}

    def post(path: str, **form: str) -> urllib3.BaseHTTPResponse:
        return http.request("POST", standin.http_url + path, fields={**client, **form}, encode_multipart=False)

    device = post("/oauth2/device", scopes="chat:read").json()
    poll = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": device["device_code"],
        "scopes": "chat:read",
    }
    assert post("/oauth2/token", **poll).json()["message"] == "authorization_pending"
    assert http.request("GET", device["verification_uri"]).status == 200
    granted = post("/oauth2/token", **poll).json()
    assert granted["scope"] == ["chat:read"]
    assert post("/oauth2/token", **poll).json()["message"] == "invalid device code"
    signed = {"Authorization": f"OAuth {granted['access_token']}"}
    seen = http.request("GET", f"{standin.http_url}/oauth2/validate", headers=signed).json()
    assert seen["login"] == standin.scenario.chat_account
