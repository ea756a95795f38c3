"""``/oauth2/token``, ``/oauth2/validate`` and ``/oauth2/revoke``; where people consent is in ``consent.py``."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import parse_qsl

from vodkeep_standin.oauth.account_tokens import AccessToken, Answer
from vodkeep_standin.serving.call import Call, Reply, json_reply, text_reply
from vodkeep_standin.serving.routes import Route, route

HOST = "id.twitch.tv"
DEVICE_LIFETIME_S = 1800


DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


async def token(call: Call) -> Reply:
    """A token for what the grant type says; all but a device show the application's secret."""
    form = _form(call)
    scenario = call.world.scenario
    if form.get("grant_type") == DEVICE_GRANT:
        return _device_token(call, form)
    for name, words in (("client_id", "client id"), ("client_secret", "client secret"), ("grant_type", "grant type")):
        if not form.get(name):
            return _problem(400, f"missing {words}")
    if form["grant_type"] not in ("client_credentials", "authorization_code", "refresh_token"):
        return _problem(400, "invalid grant type")
    if form["client_id"] != scenario.client_id:
        return _problem(400, "invalid client")
    if form["client_secret"] != scenario.client_secret:
        return _problem(403, "invalid client secret")
    people = call.world.twitch_tokens
    if form["grant_type"] == "authorization_code":
        redeemed = people.redeem(
            form.get("code", ""), form["client_id"], form.get("redirect_uri", ""), form.get("code_verifier")
        )
        if isinstance(redeemed, str):
            return _problem(400, "Invalid authorization code" if redeemed == "code" else f"Invalid {redeemed}")
        return _account_reply(call, redeemed)
    if form["grant_type"] == "refresh_token":
        refreshed = people.refresh(form.get("refresh_token", ""), form["client_id"])
        if refreshed is None:
            return json_reply({"error": "Bad Request", "status": 400, "message": "Invalid refresh token"}, 400)
        return _account_reply(call, refreshed)
    issued = call.world.issue_app_token(form["client_id"])
    lifetime_s = scenario.app_token_lifetime_s
    return json_reply({"access_token": issued.value, "expires_in": lifetime_s, "token_type": "bearer"})


async def validate(call: Call) -> Reply:
    """Whom a token belongs to and how long it lasts."""
    scheme, _, value = call.headers.get("Authorization", "").partition(" ")
    if scheme.lower() not in ("oauth", "bearer") or not value:
        return _problem(401, "missing authorization token")
    if (person := call.world.twitch_tokens.validate(value.strip())) is not None:
        return json_reply(
            {
                "client_id": person.client_id,
                "login": person.account,
                "scopes": list(person.scopes),
                "user_id": str(int.from_bytes(person.account.encode()[:4], "big")),
                "expires_in": _left_s(call, person.expires_at),
            }
        )
    found = call.world.valid_app_token(value.strip())
    if found is None:
        return _problem(401, "invalid access token")
    return json_reply({"client_id": found.client_id, "scopes": None, "expires_in": _left_s(call, found.expires_at)})


async def revoke(call: Call) -> Reply:
    """End a token's life."""
    form = _form(call)
    value = form.get("token", "")
    if call.world.app_tokens.pop(value, None) is None and not call.world.twitch_tokens.revoke(value):
        return _problem(400, "Invalid token")
    return Reply(200)


async def device(call: Call) -> Reply:
    """A device code, and a short one for the person (device code grant)."""
    form = _form(call)
    if form.get("client_id") != call.world.scenario.client_id:
        return _problem(400, "invalid client")
    if not form.get("scopes"):
        return _problem(400, "missing scopes")
    made = call.world.twitch_tokens.issue_device_code(form["client_id"], form["scopes"].split(), DEVICE_LIFETIME_S)
    return json_reply(
        {
            "device_code": made.value,
            "expires_in": DEVICE_LIFETIME_S,
            "interval": call.world.twitch_tokens.device_interval_s,
            "user_code": made.user_code,
            "verification_uri": f"{call.world.base_url}/activate?public=true&device-code={made.user_code}",
        }
    )


async def activate(call: Call) -> Reply:
    """What the person does with the short code: ``answer`` is ``grant`` or ``deny``."""
    answer: Answer = "deny" if call.query.get("answer") == "deny" else "grant"
    found = call.world.twitch_tokens.answer_device(call.query.get("device-code", ""), answer)
    return text_reply("Thank you.\n" if found else "There is no such code.\n", status=200 if found else 404)


def _device_token(call: Call, form: dict[str, str]) -> Reply:
    people = call.world.twitch_tokens
    known = people.devices.get(form.get("device_code", ""))
    if known is None or known.client_id != form.get("client_id") or known.expires_at <= call.world.clock.now():
        return _problem(400, "invalid device code")
    if known.answer == "wait":
        return _problem(400, "authorization_pending")
    del people.devices[known.value]
    if known.answer == "deny":
        return _problem(400, "access_denied")
    return _account_reply(call, people.issue(known.scopes, known.client_id))


def _account_reply(call: Call, granted: AccessToken) -> Reply:
    return json_reply(
        {
            "access_token": granted.value,
            "expires_in": _left_s(call, granted.expires_at),
            "refresh_token": granted.refresh_token,
            "scope": list(granted.scopes),
            "token_type": "bearer",
        }
    )


def _left_s(call: Call, ends: datetime) -> int:
    return int((ends - call.world.clock.now()).total_seconds())


def _form(call: Call) -> dict[str, str]:
    """Parameters may come in the body or in the query."""
    return {**call.query, **dict(parse_qsl(call.body.decode(errors="replace")))}


def _problem(status: int, message: str) -> Reply:
    return json_reply({"status": status, "message": message}, status)


ROUTES: list[Route] = [
    route("POST", HOST, "/oauth2/token", token),
    route("POST", HOST, "/oauth2/device", device),
    route("GET", ("www.twitch.tv", HOST), "/activate", activate),
    route("GET", HOST, "/oauth2/validate", validate),
    route("POST", HOST, "/oauth2/revoke", revoke),
]
