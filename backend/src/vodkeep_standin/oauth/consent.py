"""The pages at which people consent: ``id.twitch.tv/oauth2/authorize`` and ``accounts.google.com/o/oauth2/v2/auth``.

Whatever is wrong with the client or the redirect is told on the page and never sent to the redirect (RFC 6749 section
4.1.2.1). What the person does is decided by ``answer`` of the provider's tokens; ``wait`` shows two links.
"""

from __future__ import annotations

from html import escape
from urllib.parse import urlencode

from vodkeep_standin.oauth.account_tokens import AccountTokens
from vodkeep_standin.serving.call import Call, Reply, text_reply
from vodkeep_standin.serving.routes import Route, route

CHOICE = "standin_answer"


async def twitch(call: Call) -> Reply:
    """Twitch's page; it knows nothing of refresh tokens that have to be asked for."""
    return _page(call, call.world.twitch_tokens, call.world.scenario.client_id, offline=True)


async def google(call: Call) -> Reply:
    """Google's page; a refresh token comes only with ``access_type=offline`` and a consent that was really shown."""
    offline = call.query.get("access_type") == "offline" and "consent" in call.query.get("prompt", "").split()
    return _page(call, call.world.google_tokens, call.world.scenario.google_client_id, offline=offline)


def _page(call: Call, tokens: AccountTokens, client_id: str, *, offline: bool) -> Reply:
    asked = call.query
    redirect = asked.get("redirect_uri", "")
    if asked.get("client_id") != client_id:
        return _shown(400, "Error 401: invalid_client")
    if not redirect.startswith(("http://", "https://")) or not call.world.scenario.may_return_to(redirect):
        return _shown(400, "Error 400: redirect_uri_mismatch")
    state = {"state": asked["state"]} if "state" in asked else {}
    if asked.get("response_type") != "code" or not asked.get("scope"):
        return _away(redirect, {"error": "invalid_request", **state})
    challenge = asked.get("code_challenge")
    if challenge is not None and asked.get("code_challenge_method") != "S256":
        return _away(redirect, {"error": "invalid_request", **state})
    answer = asked.get(CHOICE, tokens.answer)
    if answer == "deny":
        said = {"error": "access_denied", "error_description": "The user denied you access"}
        return _away(redirect, {**said, **state})
    if answer == "wait":
        links = "".join(
            f'<p><a href="?{escape(urlencode({**asked, CHOICE: each}))}">{each}</a>' for each in ("grant", "deny")
        )
        return _shown(200, links, markup=True)
    scopes = asked["scope"].split()
    code = tokens.issue_code(client_id, redirect, scopes, challenge, offline=offline)
    return _away(redirect, {"code": code, "scope": " ".join(scopes), **state})


def _away(redirect: str, query: dict[str, str]) -> Reply:
    joint = "&" if "?" in redirect else "?"
    return Reply(302, headers={"Location": redirect + joint + urlencode(query)})


def _shown(status: int, text: str, *, markup: bool = False) -> Reply:
    return text_reply(f"<!doctype html><p>{text if markup else escape(text)}", "text/html; charset=utf-8", status)


ROUTES: list[Route] = [
    route("GET", "id.twitch.tv", "/oauth2/authorize", twitch),
    route("GET", "accounts.google.com", "/o/oauth2/v2/auth", google),
]
