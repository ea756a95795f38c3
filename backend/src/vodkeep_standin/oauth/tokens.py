"""``/oauth2/token``, ``/oauth2/validate`` and ``/oauth2/revoke``."""

from __future__ import annotations

from urllib.parse import parse_qsl

from vodkeep_standin.serving.call import Call, Reply, json_reply
from vodkeep_standin.serving.routes import Route, route

HOST = "id.twitch.tv"


async def token(call: Call) -> Reply:
    """An app access token for the right client id and secret (client credentials grant)."""
    form = _form(call)
    scenario = call.world.scenario
    for name, words in (("client_id", "client id"), ("client_secret", "client secret"), ("grant_type", "grant type")):
        if not form.get(name):
            return _problem(400, f"missing {words}")
    if form["grant_type"] != "client_credentials":
        return _problem(400, "invalid grant type")
    if form["client_id"] != scenario.client_id:
        return _problem(400, "invalid client")
    if form["client_secret"] != scenario.client_secret:
        return _problem(403, "invalid client secret")
    issued = call.world.issue_app_token(form["client_id"])
    lifetime_s = scenario.app_token_lifetime_s
    return json_reply({"access_token": issued.value, "expires_in": lifetime_s, "token_type": "bearer"})


async def validate(call: Call) -> Reply:
    """Whom a token belongs to and how long it lasts."""
    scheme, _, value = call.headers.get("Authorization", "").partition(" ")
    if scheme.lower() not in ("oauth", "bearer") or not value:
        return _problem(401, "missing authorization token")
    found = call.world.valid_app_token(value.strip())
    if found is None:
        return _problem(401, "invalid access token")
    left_s = int((found.expires_at - call.world.clock.now()).total_seconds())
    return json_reply({"client_id": found.client_id, "scopes": None, "expires_in": left_s})


async def revoke(call: Call) -> Reply:
    """End a token's life."""
    form = _form(call)
    if call.world.app_tokens.pop(form.get("token", ""), None) is None:
        return _problem(400, "Invalid token")
    return Reply(200)


def _form(call: Call) -> dict[str, str]:
    """Parameters may come in the body or in the query."""
    return {**call.query, **dict(parse_qsl(call.body.decode(errors="replace")))}


def _problem(status: int, message: str) -> Reply:
    return json_reply({"status": status, "message": message}, status)


ROUTES: list[Route] = [
    route("POST", HOST, "/oauth2/token", token),
    route("GET", HOST, "/oauth2/validate", validate),
    route("POST", HOST, "/oauth2/revoke", revoke),
]
