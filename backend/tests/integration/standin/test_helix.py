"""Helix and OAuth as a client meets them."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlencode

import pytest
import urllib3

from support.standin import StandinFactory
from vodkeep_standin.scenario import ids, titles
from vodkeep_standin.scenario.builtin import scenario_named
from vodkeep_standin.server import Standin

VIDEO_FIELDS = {
    "id",
    "stream_id",
    "user_id",
    "user_login",
    "user_name",
    "title",
    "description",
    "created_at",
    "published_at",
    "url",
    "thumbnail_url",
    "viewable",
    "view_count",
    "language",
    "type",
    "duration",
    "muted_segments",
}


class Client:
    """A Helix client without any cleverness."""

    def __init__(self, http: urllib3.PoolManager, standin: Standin) -> None:
        self._http = http
        self._standin = standin
        self.token = self.new_token()

    def oauth(self, **form: str) -> urllib3.BaseHTTPResponse:
        return self._http.request("POST", f"{self._standin.http_url}/oauth2/token", fields=form, encode_multipart=False)

    def new_token(self) -> str:
        scenario = self._standin.scenario
        reply = self.oauth(
            client_id=scenario.client_id, client_secret=scenario.client_secret, grant_type="client_credentials"
        )
        assert reply.status == 200, reply.data
        return str(reply.json()["access_token"])

    def get(
        self, path: str, parameters: list[tuple[str, str]] | dict[str, str] | None = None, **headers: str
    ) -> urllib3.BaseHTTPResponse:
        sent = {"Authorization": f"Bearer {self.token}", "Client-Id": self._standin.scenario.client_id}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self._standin.http_url}/helix/{path}?{urlencode(parameters or {})}"
        return self._http.request("GET", url, headers={name: value for name, value in sent.items() if value})

    def pages(self, **parameters: str) -> list[list[dict[str, Any]]]:
        pages, after = [], ""
        while True:
            body = self.get("videos", {**parameters, "after": after}).json()
            pages.append(body["data"])
            after = body["pagination"].get("cursor", "")
            if not after:
                return pages


@pytest.fixture
def client(http: urllib3.PoolManager, standin: Standin) -> Client:
    return Client(http, standin)


# OAuth --------------------------------------------------------------------------------------------------------------


def test_app_token_lasts_and_validates(client: Client, http: urllib3.PoolManager, standin: Standin) -> None:
    reply = http.request(
        "GET", f"{standin.http_url}/oauth2/validate", headers={"Authorization": f"OAuth {client.token}"}
    )
    assert reply.status == 200
    assert reply.json()["client_id"] == standin.scenario.client_id
    assert reply.json()["expires_in"] > 5_000_000


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        pytest.param({"client_secret": "wrong"}, 403, "invalid client secret", id="wrong secret"),
        pytest.param({"client_id": "wrong"}, 400, "invalid client", id="wrong client id"),
        pytest.param({"client_secret": ""}, 400, "missing client secret", id="no secret"),
        pytest.param({"grant_type": "password"}, 400, "invalid grant type", id="other grant"),
    ],
)
def test_bad_credentials_are_refused(
    client: Client, standin: Standin, change: dict[str, str], status: int, message: str
) -> None:
    good = {
        "client_id": standin.scenario.client_id,
        "client_secret": standin.scenario.client_secret,
        "grant_type": "client_credentials",
    }
    reply = client.oauth(**(good | change))
    assert (reply.status, reply.json()) == (status, {"status": status, "message": message})


def test_revoked_token_no_longer_opens_helix(client: Client, http: urllib3.PoolManager, standin: Standin) -> None:
    body = urlencode({"client_id": standin.scenario.client_id, "token": client.token})
    assert http.request("POST", f"{standin.http_url}/oauth2/revoke", body=body).status == 200
    reply = http.request(
        "GET", f"{standin.http_url}/oauth2/validate", headers={"Authorization": f"OAuth {client.token}"}
    )
    assert (reply.status, reply.json()["message"]) == (401, "invalid access token")
    assert client.get("users", {"login": ids.CHANNEL}).status == 401


# The gate -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status", "message"),
    [
        pytest.param({"Authorization": ""}, 401, "OAuth token is missing", id="no token"),
        pytest.param({"Authorization": "Bearer nonsense"}, 401, "Invalid OAuth token", id="unknown token"),
        pytest.param({"Client_Id": "other"}, 401, "Client ID and OAuth token do not match", id="other client"),
        pytest.param({"Client_Id": ""}, 400, "Client-Id header required", id="no client id"),
    ],
)
def test_helix_wants_token_and_client_id(client: Client, headers: dict[str, str], status: int, message: str) -> None:
    reply = client.get("users", {"login": ids.CHANNEL}, **headers)
    assert (reply.status, reply.json()["message"]) == (status, message)


def test_token_expires_with_scenario_time(client: Client, standin: Standin) -> None:
    standin.advance(standin.scenario.app_token_lifetime_s + 1)
    assert client.get("users", {"login": ids.CHANNEL}).status == 401
    client.token = client.new_token()
    assert client.get("users", {"login": ids.CHANNEL}).status == 200


def test_budget_runs_out_and_says_when_it_is_full_again(http: urllib3.PoolManager, standin_of: StandinFactory) -> None:
    scenario = scenario_named("test")
    scenario.rate_limit_points = 3
    client = Client(http, standin_of(scenario))
    replies = [client.get("users", {"login": ids.CHANNEL}) for _ in range(4)]
    assert [reply.status for reply in replies] == [200, 200, 200, 429]
    assert [reply.headers["Ratelimit-Remaining"] for reply in replies] == ["2", "1", "0", "0"]
    assert replies[-1].headers["Ratelimit-Limit"] == "3"
    assert 0 < int(replies[-1].headers["Ratelimit-Reset"]) - time.time() <= 61
    assert replies[-1].json() == {"error": "Too Many Requests", "status": 429, "message": "Request limit exceeded"}


# Users --------------------------------------------------------------------------------------------------------------


def test_users_by_login_and_id_without_the_unknown(client: Client) -> None:
    reply = client.get(
        "users", [("login", ids.CHANNEL.upper()), ("login", "nobody_here"), ("id", ids.OTHER_CHANNEL_ID)]
    )
    users = reply.json()["data"]
    assert [(user["id"], user["login"], user["display_name"]) for user in users] == [
        (ids.CHANNEL_ID, ids.CHANNEL, "Lumen_Plays"),
        (ids.OTHER_CHANNEL_ID, ids.OTHER_CHANNEL, "静かなアーケード"),
    ]
    assert users[0]["broadcaster_type"] == "partner"


@pytest.mark.parametrize("count", [0, 101])
def test_users_wants_between_one_and_a_hundred(client: Client, count: int) -> None:
    assert client.get("users", [("login", f"user{number}") for number in range(count)]).status == 400


# Videos -------------------------------------------------------------------------------------------------------------


def test_videos_are_complete_and_newest_first(client: Client, standin: Standin) -> None:
    videos = client.get("videos", {"user_id": ids.CHANNEL_ID, "type": "archive", "first": "100"}).json()["data"]
    assert [video["id"] for video in videos[:3]] == [ids.RECORDING, ids.PLAIN, ids.MUTED]
    assert [video["created_at"] for video in videos] == sorted((v["created_at"] for v in videos), reverse=True)
    assert len(videos) == 15
    assert all(set(video) == VIDEO_FIELDS for video in videos)
    plain, muted = videos[1], videos[2]
    assert plain["duration"] == "30s"
    assert plain["muted_segments"] is None
    assert muted["muted_segments"] == [{"duration": 8, "offset": 8}]
    assert plain["thumbnail_url"] == f"{standin.http_url}/edge/thumbs/{ids.PLAIN}/thumb0-%{{width}}x%{{height}}.jpg"
    assert {video["title"] for video in videos} >= set(titles.HOSTILE)
    assert ids.DELETED in {video["id"] for video in videos}


def test_highlights_are_no_archives(client: Client) -> None:
    def listed(kind: str) -> list[str]:
        body = client.get("videos", {"user_id": ids.OTHER_CHANNEL_ID, "type": kind}).json()
        return [video["id"] for video in body["data"]]

    assert listed("archive") == [ids.OTHER_PLAIN]
    assert listed("highlight") == [ids.HIGHLIGHT]
    assert listed("all") == [ids.OTHER_PLAIN, ids.HIGHLIGHT]


def test_recording_video_grows_and_has_only_the_processing_picture(client: Client, standin: Standin) -> None:
    def recording() -> dict[str, Any]:
        found: dict[str, Any] = client.get("videos", {"id": ids.RECORDING}).json()["data"][0]
        return found

    assert recording()["duration"] == "10s"
    assert "/_404/404_processing_%{width}x%{height}.png" in recording()["thumbnail_url"]
    standin.advance(5)
    assert recording()["duration"] == "14s"
    standin.advance(3600)
    standin.finish(ids.RECORDING)
    assert recording()["duration"] == "30s"
    assert "/thumb0-" in recording()["thumbnail_url"]


def test_paging_gives_every_video_once(http: urllib3.PoolManager, standin_of: StandinFactory) -> None:
    client = Client(http, standin_of("catalog:250"))
    pages = client.pages(user_id=ids.CHANNEL_ID, type="archive", first="100")
    assert [len(page) for page in pages] == [100, 100, 50]
    assert len({video["id"] for page in pages for video in page}) == 250


def test_a_hundred_thousand_videos_are_cheap(http: urllib3.PoolManager, standin_of: StandinFactory) -> None:
    client = Client(http, standin_of("catalog:100000"))
    body = client.get("videos", {"user_id": ids.CHANNEL_ID, "first": "100"}).json()
    assert len(body["data"]) == 100
    oldest = client.get("videos", {"id": "1000000000"}).json()["data"][0]
    assert oldest["title"].endswith("#1")


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        pytest.param({}, 400, id="neither id nor user"),
        pytest.param({"user_id": ids.CHANNEL_ID, "first": "101"}, 400, id="page too large"),
        pytest.param({"user_id": ids.CHANNEL_ID, "first": "0"}, 400, id="page too small"),
        pytest.param({"user_id": ids.CHANNEL_ID, "after": "nonsense"}, 400, id="bad cursor"),
        pytest.param({"user_id": ids.CHANNEL_ID, "type": "vhs"}, 400, id="bad type"),
        pytest.param({"id": "123"}, 404, id="unknown id"),
    ],
)
def test_videos_refuses_bad_parameters(client: Client, parameters: dict[str, str], status: int) -> None:
    reply = client.get("videos", parameters)
    assert (reply.status, reply.json()["status"]) == (status, status)


def test_unknown_user_has_an_empty_list(client: Client) -> None:
    assert client.get("videos", {"user_id": "1"}).json() == {"data": [], "pagination": {}}


# Streams ------------------------------------------------------------------------------------------------------------


def test_streams_lists_only_who_is_live(client: Client, standin: Standin) -> None:
    wanted = [("user_login", ids.CHANNEL), ("user_login", ids.OTHER_CHANNEL), ("user_login", "nobody_here")]
    live = client.get("streams", wanted).json()["data"]
    assert [(stream["user_login"], stream["type"], stream["id"]) for stream in live] == [
        (ids.CHANNEL, "live", "41000000006")
    ]
    standin.finish(ids.RECORDING)
    assert client.get("streams", wanted).json() == {"data": [], "pagination": {}}


def test_a_stream_needs_no_video(client: Client, standin: Standin) -> None:
    started = standin.start_stream(ids.OTHER_CHANNEL, title="only live")
    wanted = [("user_login", ids.OTHER_CHANNEL)]
    (live,) = client.get("streams", wanted).json()["data"]
    assert (live["id"], live["title"], live["user_id"]) == (started.id, "only live", ids.OTHER_CHANNEL_ID)
    assert live["started_at"] == f"{started.started_at:%Y-%m-%dT%H:%M:%SZ}"
    standin.stop_stream(ids.OTHER_CHANNEL)
    assert client.get("streams", wanted).json()["data"] == []


def test_streams_takes_a_hundred_logins(client: Client) -> None:
    logins = [("user_login", f"user{number}") for number in range(99)]
    assert len(client.get("streams", [*logins, ("user_login", ids.CHANNEL)]).json()["data"]) == 1
    assert client.get("streams", [*logins, *logins]).status == 400
