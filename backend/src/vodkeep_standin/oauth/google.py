"""oauth2.googleapis.com: ``/token`` and ``/revoke``.

Shapes from https://developers.google.com/identity/protocols/oauth2/web-server (read 2026-11): a refresh answers without
a refresh token, and what can no longer be used is ``invalid_grant``.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from vodkeep_standin.oauth.account_tokens import AccessToken
from vodkeep_standin.serving.call import Call, Reply, json_reply
from vodkeep_standin.serving.routes import Route, route

HOST = "oauth2.googleapis.com"


async def token(call: Call) -> Reply:
    """Tokens for a code, or a new access token for a refresh token."""
    form = dict(parse_qsl(call.body.decode(errors="replace")))
    scenario, tokens = call.world.scenario, call.world.google_tokens
    if form.get("client_id") != scenario.google_client_id:
        return _problem(401, "invalid_client", "The OAuth client was not found.")
    if form.get("client_secret") != scenario.google_client_secret:
        return _problem(401, "invalid_client", "Unauthorized")
    match form.get("grant_type"):
        case "authorization_code":
            redeemed = tokens.redeem(
                form.get("code", ""), form["client_id"], form.get("redirect_uri", ""), form.get("code_verifier")
            )
            if redeemed == "redirect_uri":
                return _problem(400, "redirect_uri_mismatch", "Bad Request")
            if isinstance(redeemed, str):
                words = "Invalid code verifier." if redeemed == "code_verifier" else "Malformed auth code."
                return _problem(400, "invalid_grant", words)
            return _granted(redeemed, call, redeemed.refresh_token)
        case "refresh_token":
            old = form.get("refresh_token", "")
            refreshed = tokens.refresh(old, form["client_id"])
            if refreshed is None:
                return _problem(400, "invalid_grant", "Token has been expired or revoked.")
            return _granted(refreshed, call, refreshed.refresh_token if refreshed.refresh_token != old else None)
        case _:
            return _problem(400, "unsupported_grant_type", "Invalid grant_type.")


async def revoke(call: Call) -> Reply:
    """End the grant behind a token."""
    form = {**call.query, **dict(parse_qsl(call.body.decode(errors="replace")))}
    if not call.world.google_tokens.revoke(form.get("token", "")):
        return _problem(400, "invalid_token", "Token expired or revoked")
    return json_reply({})


def _granted(token: AccessToken, call: Call, refresh_token: str | None) -> Reply:
    left_s = int((token.expires_at - call.world.clock.now()).total_seconds())
    document = {
        "access_token": token.value,
        "expires_in": left_s,
        "scope": " ".join(token.scopes),
        "token_type": "Bearer",
    }
    return json_reply(document if refresh_token is None else {**document, "refresh_token": refresh_token})


def _problem(status: int, error: str, description: str) -> Reply:
    return json_reply({"error": error, "error_description": description}, status)


ROUTES: list[Route] = [
    route("POST", HOST, "/token", token),
    route("POST", HOST, "/revoke", revoke),
]
