"""Connecting accounts through the served application, against the stand-in's consent pages. No secret gets out."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from sqlalchemy import select

from support.clock import FakeClock
from support.web_site import Serve, Site, problem
from vodkeep.accounts.oauth import new_verifier
from vodkeep.db.engine import Database
from vodkeep.db.tables import oauth_flows, oauth_tokens
from vodkeep_standin.faults.status import Status
from vodkeep_standin.server import Standin

pytestmark = pytest.mark.anyio

KEY = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
BACK = "https://vods.example/api/v1/accounts"
TOKEN = "adm1n-t0ken-for-accounts"


def env_of(provider: Standin, **more: str) -> dict[str, str]:
    return {
        **provider.env(),
        "YT_REDIRECT_URI": f"{BACK}/youtube/callback",
        "TWITCH_REDIRECT_URI": f"{BACK}/twitch/callback",
        "ENCRYPTION_KEY": KEY,
        "ADMIN_TOKEN": TOKEN,
        **more,
    }


class Person:
    """A browser in front of the page, and what it saw."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.seen: list[str] = []
        self.cookies: dict[str, str] = {}
        self.set_cookies: list[str] = []

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"X-Admin-Token": TOKEN, "Cookie": cookies}
        async with self._site.send(method, path, headers=headers, allow_redirects=False, **options) as answer:
            body = await answer.text()
            plain = {name: value for name, value in answer.headers.items() if name != "Set-Cookie"}
            # What the browser is to send on, to us and to the provider, is in its cookie and in the address only.
            self.seen.append(f"{answer.status} {plain}" + ("" if path.endswith("/start") else body))
            for name, morsel in answer.cookies.items():
                self.set_cookies.append(morsel.OutputString())
                if morsel.value:
                    self.cookies[name] = morsel.value
            return answer.status, body

    async def post(self, path: str, **body: str) -> Any:
        async with self._site.send("POST", path, headers={"X-Admin-Token": TOKEN}, json=body) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def consent_address(self, provider: str, **body: str) -> str:
        async with self._site.send(
            "POST", f"/api/v1/accounts/{provider}/start", headers={"X-Admin-Token": TOKEN}, json=body
        ) as answer:
            assert answer.status == 200, await answer.text()
            for name, morsel in answer.cookies.items():
                self.set_cookies.append(morsel.OutputString())
                self.cookies[name] = morsel.value
            return str((await answer.json())["address"])

    async def consent(self, address: str) -> str:
        """What the provider sends the browser back to, below our own address."""
        async with self._site.http.get(address, allow_redirects=False) as answer:
            assert answer.status == 302
            back = urlsplit(answer.headers["Location"])
        assert f"{back.scheme}://{back.netloc}" == "https://vods.example"
        return f"{back.path}?{back.query}"


async def test_an_account_is_connected_used_and_disconnected_and_no_secret_gets_out(
    serve_site: Serve, provider: Standin, database: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifiers: list[str] = []

    def recorded() -> str:
        verifiers.append(new_verifier())
        return verifiers[-1]

    monkeypatch.setattr("vodkeep.accounts.service.new_verifier", recorded)
    async with serve_site(env=env_of(provider)) as site:
        person = Person(site)
        rows: list[str] = []

        def look() -> None:
            with database.unit_of_work(write=False) as unit:
                for table in (oauth_flows, oauth_tokens):
                    rows.extend(str(tuple(row)) for row in unit.connection.execute(select(table)))

        for name in ("youtube", "twitch"):
            address = await person.consent_address(name)
            look()
            back = await person.consent(address)
            status, page = await person.ask("GET", back)
            assert (status, "is connected" in page) == (200, True)
            look()
            # The same once more is refused: it was used.
            assert (await person.ask("GET", back))[0] == 400
        assert all("HttpOnly" in each and "SameSite=lax" in each for each in person.set_cookies)
        assert all("Secure" in each for each in person.set_cookies if "Max-Age=600" in each)
        device = await person.post("/api/v1/accounts/twitch/device")
        look()
        waiting = await person.post("/api/v1/accounts/twitch/device/poll", id=device["id"])
        assert (waiting["state"], len(provider.requests.entries("/oauth2/token"))) == ("pending", 1)
        clock.jump(device["interval_s"])
        told = await person.post("/api/v1/accounts/twitch/device/poll", id=device["id"])
        assert (told["state"], told["account"]) == ("connected", provider.scenario.chat_account)
        _, listed = await person.ask("GET", "/api/v1/accounts")
        _, status_page = await person.ask("GET", "/status")
        assert listed.count('"state":"connected"') == 2
        assert status_page.count('"state":"connected"') == 2
        assert provider.scenario.chat_account not in status_page
        # Faults quote what they were sent.
        secret = provider.scenario.google_client_secret
        quoting = f'{{"error": "x", "error_description": "{secret}"}}'
        provider.faults.add(Status(400, body=quoting, content_type="application/json"), path="/token")
        back = await person.consent(await person.consent_address("youtube"))
        assert (await person.ask("GET", back))[0] == 502
        provider.faults.clear()
        for name, body in (("youtube", {}), ("twitch", {"channel": provider.scenario.chat_account})):
            assert (await person.ask("POST", f"/api/v1/accounts/{name}/disconnect", json=body))[0] == 200
        assert "connected" not in (await person.ask("GET", "/status"))[1].partition('"accounts":')[2].partition("]")[0]
        log = site.log.getvalue()
    world = provider.world
    secrets = [
        *world.google_tokens.issued,
        *world.twitch_tokens.issued,
        *verifiers,
        *person.cookies.values(),
        secret,
        provider.scenario.client_secret,
        KEY,
        base64.b64decode(KEY).hex(),
        device["id"],
    ]
    assert len(secrets) > 15
    places = {"log": log, "answers": "\n".join(person.seen), "database": "\n".join(rows)}
    assert "account connected" in log
    assert [(place, each) for place, text in places.items() for each in secrets if each in text] == []
    assert world.google_tokens.validate(world.google_tokens.issued[-1]) is None


@pytest.mark.parametrize("case", ["browser", "late", "denied", "state", "provider", "scopes", "nothing"])
async def test_a_consent_that_is_not_ours_connects_nothing(
    serve_site: Serve, provider: Standin, database: Database, clock: FakeClock, case: str
) -> None:
    async with serve_site(env=env_of(provider)) as site:
        person = Person(site)
        if case == "denied":
            provider.world.google_tokens.answer = "deny"
        if case == "scopes":
            provider.world.google_tokens.refused_scopes = frozenset({"https://www.googleapis.com/auth/youtube.upload"})
        back = await person.consent(await person.consent_address("youtube"))
        path, _, query = back.partition("?")
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        match case:
            case "browser":
                person.cookies = {"vodkeep_consent_youtube": "somebody-else"}
            case "late":
                clock.jump(601)
            case "state":
                asked["state"] = asked["state"].swapcase() + "x"
            case "provider":
                path = path.replace("youtube", "twitch")
            case "nothing":
                asked = {}
        status, page = await person.ask("GET", f"{path}?{urlencode(asked)}")
        assert status == 400
        assert "not" in page
        assert asked.get("state", "no state") not in page
        assert provider.requests.entries("/token") == [] or case == "scopes"
        with database.unit_of_work(write=False) as unit:
            assert unit.connection.execute(select(oauth_tokens)).all() == []


async def test_only_who_is_admitted_begins_and_a_foreign_page_never(serve_site: Serve, provider: Standin) -> None:
    async with serve_site(env=env_of(provider)) as site:
        async with site.send("POST", "/api/v1/accounts/youtube/start") as answer:
            assert answer.status == 401
        async with site.get("/api/v1/accounts/youtube/callback?state=x&code=y") as answer:
            assert answer.status == 401
        foreign = {"X-Admin-Token": TOKEN, "Origin": "https://evil.example"}
        async with site.send("POST", "/api/v1/accounts/youtube/disconnect", headers=foreign) as answer:
            await problem(answer, 403, "cross_site")
        own = {"X-Admin-Token": TOKEN}
        async with site.send("POST", "/api/v1/accounts/youtube/device", headers=own) as answer:
            await problem(answer, 409, "no_device_flow")
        async with site.send("POST", "/api/v1/accounts/youtube/disconnect", headers=own) as answer:
            await problem(answer, 409, "not_connected")


async def test_without_a_key_youtube_is_not_connected_and_twitch_is_plain(
    serve_site: Serve, provider: Standin, database: Database
) -> None:
    async with serve_site(env=env_of(provider, ENCRYPTION_KEY="")) as site:
        own = {"X-Admin-Token": TOKEN}
        async with site.send("POST", "/api/v1/accounts/youtube/start", headers=own) as answer:
            assert "ENCRYPTION_KEY" in (await problem(answer, 409, "not_set_up"))["detail"]
        person = Person(site)
        status, _ = await person.ask("GET", await person.consent(await person.consent_address("twitch")))
        assert status == 200
        assert "tokens are stored as plain text" in site.log.getvalue()
    with database.unit_of_work(write=False) as unit:
        row = unit.connection.execute(select(oauth_tokens)).one()
    assert (row.encryption_key_id, row.channel) == (None, provider.scenario.chat_account)
    assert provider.world.twitch_tokens.validate(row.access_token)
