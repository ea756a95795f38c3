"""Nothing the service prints, answers or stores gives a secret away, whatever goes wrong."""

from __future__ import annotations

import base64
import json

import pytest

from support.commands import vodkeep
from support.home import HomeOf
from support.postgres import PostgresServer
from vodkeep_standin.faults.status import Status
from vodkeep_standin.scenario import ids

ADMIN_TOKEN = "acc3ptance-t0ken-0f-the-admin"
ADMIN_PASSWORD = "c0rrect-h0rse-battery"
OAUTH_TOKEN = "oauth:b0t0th3t0k3n0of0the0b0t"
YT_SECRET = "GOCSPX-acceptance-s3cret"


@pytest.mark.postgres
def test_no_secret_gets_out(home_of: HomeOf, postgres_server: PostgresServer, postgres_dsn: str) -> None:
    home = home_of(ids.PLAIN, ids.SUB_ONLY, dsn=postgres_dsn)
    env = {
        "LOG_LEVEL": "debug",
        "ADMIN_TOKEN": ADMIN_TOKEN,
        "ADMIN_USERNAME": "keeper",
        "ADMIN_PASSWORD": ADMIN_PASSWORD,
        "TWITCH_BOT_USERNAME": "keeper_bot",
        "TWITCH_OAUTH_TOKEN": OAUTH_TOKEN,
        "YT_CLIENT_ID": "4711.apps.example",
        "YT_CLIENT_SECRET": YT_SECRET,
    }
    service = home.start(**env)
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    service.wait_for("vod parked", vod_id=ids.SUB_ONLY)

    # Everything that goes wrong gets a chance to quote something.
    mark = service.mark()
    tokens = set(home.standin.world.app_tokens)
    home.standin.revoke_tokens()
    refusal = home.standin.faults.add(Status(401, message="invalid"), path="/helix/*")
    service.wait_for("discovery failed", after=mark)
    tokens |= set(home.standin.world.app_tokens)
    assert len(tokens) >= 2
    home.standin.faults.remove(refusal)
    home.standin.faults.add(Status(403, message=f"bad secret {home.standin.scenario.client_secret}"), path="/oauth2/*")

    basic = base64.b64encode(f"keeper:{ADMIN_PASSWORD}".encode()).decode()
    replies: list[str] = []
    for headers in (
        {},
        {"X-Admin-Token": ADMIN_TOKEN},
        {"Authorization": f"Basic {basic}"},
        {"X-Admin-Token": f"{ADMIN_TOKEN}x"},
        {"X-Admin-Token": ADMIN_TOKEN, "X-Correlation-ID": "x" * 5000},
    ):
        for path in (
            "/", "/healthz", "/readyz", "/status", "/metrics", "/admin/monitor", "/openapi.json", "/api/v1/vods",
            f"/api/v1/vods/{ids.PLAIN}", f"/api/v1/vods/{ids.SUB_ONLY}", "/api/v1/vods/none", "/nothing",
            f"/media/{ids.PLAIN}/manifest.json", "/media/..%2f..%2fetc/passwd",
        ):  # fmt: skip
            status, body, answered = service.get(path, headers)
            replies.append(f"{status} {path}\n{answered}\n{body.decode(errors='replace')}")
    opened = [reply for reply in replies if reply.startswith("200 /admin/monitor")]
    assert len(opened) == 3
    mark = service.mark()
    postgres_server.stop()
    service.wait_for("the database is away", after=mark)
    for path in ("/healthz", "/readyz", "/status", "/api/v1/vods"):
        status, body, answered = service.get(path, {"X-Admin-Token": ADMIN_TOKEN})
        assert status == 503
        replies.append(f"{answered}\n{body.decode()}")
    postgres_server.start()
    service.wait_for("the database is back", after=mark)
    stored = [home.sql(f"SELECT * FROM {table}") for table in ("vods", "events", "kv", "channels")]
    manifest = json.dumps(home.manifest(ids.PLAIN))
    assert service.terminate() == 0
    printed = vodkeep(home, "config", **env, COLUMNS="400")
    assert printed.returncode == 0, printed

    secrets = {
        "client secret": home.standin.scenario.client_secret,
        "password of the database": postgres_server.password,
        "admin token": ADMIN_TOKEN,
        "admin password": ADMIN_PASSWORD,
        "credentials as sent": basic,
        "token of the bot": OAUTH_TOKEN.removeprefix("oauth:"),
        "secret of YouTube": YT_SECRET,
        **{f"app token {number}": token for number, token in enumerate(sorted(tokens))},
    }
    places = {
        "log": service.output(),
        "replies": "\n".join(replies),
        "database": str(stored),
        "manifest": manifest,
        "config": printed.stdout + printed.stderr,
    }
    assert len(places["log"]) > 10_000
    found = [(name, place) for name, secret in secrets.items() for place, text in places.items() if secret in text]
    assert found == []
