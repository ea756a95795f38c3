"""Every fault, seen on the wire by a client that reads raw bytes."""

from __future__ import annotations

import json
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3

from support.edge_player import EdgePlayer, open_video
from support.standin import StandinFactory
from vodkeep_standin.faults.bandwidth import Bandwidth
from vodkeep_standin.faults.expired import ExpiredPlayback
from vodkeep_standin.faults.garbage import Garbage
from vodkeep_standin.faults.gql_errors import GqlErrors
from vodkeep_standin.faults.helix_body import HelixBody
from vodkeep_standin.faults.latency import Latency
from vodkeep_standin.faults.reset import Reset
from vodkeep_standin.faults.rule import AnyFault, Match, Rule
from vodkeep_standin.faults.stall import Stall
from vodkeep_standin.faults.status import Status
from vodkeep_standin.faults.truncate import Truncate
from vodkeep_standin.faults.wrong_length import WrongLength
from vodkeep_standin.scenario import ids
from vodkeep_standin.server import Standin

SEGMENTS = "/edge/*.ts"


@dataclass(frozen=True, slots=True)
class Wire:
    """What came over a connection."""

    head: str
    body: bytes
    end: str
    """``closed``, ``reset`` or ``silent``."""

    def length(self) -> int:
        """The announced Content-Length."""
        return int(
            next(line for line in self.head.splitlines() if line.lower().startswith("content-length")).split()[1]
        )


def read_raw(url: str, *, silence_s: float = 5.0, enough: int | None = None) -> Wire:
    """One GET on its own connection; read to the end, to silence, or to ``enough`` bytes."""
    address = urlsplit(url)
    with socket.create_connection((str(address.hostname), address.port or 80), timeout=silence_s) as connection:
        # The server keeps good connections open: ask it to close them, so that every reading has an end.
        connection.sendall(
            f"GET {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n\r\n".encode()
        )
        received = bytearray()
        end = "closed"
        try:
            while enough is None or len(received.partition(b"\r\n\r\n")[2]) < enough:
                chunk = connection.recv(65536)
                if not chunk:
                    break
                received += chunk
        except ConnectionResetError:
            end = "reset"
        except TimeoutError:
            end = "silent"
        if enough is not None:
            # Leave at once and noticeably.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    return Wire(head.decode("latin-1"), body, end)


@pytest.fixture
def player(http: urllib3.PoolManager, standin: Standin) -> EdgePlayer:
    return open_video(http, standin, ids.PLAIN)


@pytest.fixture
def whole(player: EdgePlayer) -> bytes:
    return player.get("0.ts").data


# Broken transport ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "sent", "announced", "end"),
    [
        pytest.param(Reset(after_bytes=1000), 1000, 0, "reset", id="reset in the middle"),
        pytest.param(Truncate(after_bytes=1000), 1000, 0, "closed", id="cut after 1000 bytes"),
        pytest.param(Truncate(fraction=0.0), 0, 0, "closed", id="cut at the start"),
        pytest.param(Truncate(after_bytes=10**9), -1, 0, "closed", id="one byte short"),
        pytest.param(WrongLength(extra=500), None, 500, "closed", id="announces more"),
        pytest.param(WrongLength(extra=-500), None, -500, "closed", id="announces less"),
        pytest.param(Stall(after_bytes=700), 700, 0, "silent", id="silent in the middle"),
        pytest.param(Stall(), 0, 0, "silent", id="silent after the head"),
    ],
)
def test_broken_bodies(
    standin: Standin, player: EdgePlayer, whole: bytes, fault: AnyFault, sent: int | None, announced: int, end: str
) -> None:
    standin.faults.add(fault, path=SEGMENTS)
    wire = read_raw(player.url("0.ts"), silence_s=0.3 if end == "silent" else 5.0)
    assert wire.head.startswith("HTTP/1.1 200 OK")
    assert wire.length() == len(whole) + announced
    assert wire.body == (whole[:sent] if sent is not None else whole)
    assert wire.end == end


def test_reset_before_any_answer(standin: Standin, player: EdgePlayer) -> None:
    standin.faults.add(Reset(), path=SEGMENTS)
    assert read_raw(player.url("0.ts")) == Wire("", b"", "reset")
    entry = standin.requests.entries(SEGMENTS)[-1]
    assert (entry.status, entry.sent_bytes, entry.faults) == (0, 0, ("reset",))


def test_slow_loris_drips(standin: Standin, player: EdgePlayer, whole: bytes) -> None:
    standin.faults.add(Stall(after_bytes=10, drip_interval_s=0.01), path=SEGMENTS)
    wire = read_raw(player.url("0.ts"), enough=15)
    assert wire.body == whole[: len(wire.body)]


def test_stalled_reply_ends_when_the_client_leaves(standin: Standin, player: EdgePlayer) -> None:
    standin.faults.add(Stall(after_bytes=10), path=SEGMENTS)
    read_raw(player.url("0.ts"), enough=10)
    assert standin.requests.wait_for(lambda entry: entry.faults == ("stall",), timeout_s=10)


# Slow lines ---------------------------------------------------------------------------------------------------------


def test_latency_delays_the_answer(standin: Standin, player: EdgePlayer) -> None:
    standin.faults.add(Latency(delay_ms=120, jitter_ms=30), path=SEGMENTS)
    player.get("0.ts")
    assert standin.requests.entries(SEGMENTS)[-1].duration_ms >= 120


def test_bandwidth_per_connection(standin: Standin, player: EdgePlayer, whole: bytes) -> None:
    standin.faults.add(Bandwidth(per_connection=len(whole) * 5.0), path=SEGMENTS)
    began = time.monotonic()
    assert player.get("0.ts").data == whole
    assert time.monotonic() - began >= 0.19


def test_total_bandwidth_is_shared_by_connections(standin: Standin, player: EdgePlayer, whole: bytes) -> None:
    standin.faults.add(Bandwidth(total=len(whole) * 10.0), path=SEGMENTS)
    began = time.monotonic()
    for _ in range(3):
        read_raw(player.url("0.ts"))
    assert time.monotonic() - began >= 0.29


# Wrong answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "headers"),
    [
        pytest.param(Status(429, retry_after="7"), 429, {"Retry-After": "7"}, id="429 with a wait"),
        pytest.param(Status(429), 429, {"Retry-After": None}, id="429 without"),
        pytest.param(Status(429, ratelimit_reset_in_s=30), 429, {"Ratelimit-Remaining": "0"}, id="429 of Helix"),
        pytest.param(Status(500), 500, {}, id="500"),
        pytest.param(Status(503, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"), 503, {}, id="503 with a date"),
        pytest.param(Status(401), 401, {}, id="401"),
        pytest.param(Status(403), 403, {}, id="403"),
        pytest.param(Status(410), 410, {}, id="410"),
        pytest.param(Status(599), 599, {}, id="a status nobody knows"),
    ],
)
def test_status_faults(
    http: urllib3.PoolManager, standin: Standin, fault: Status, status: int, headers: dict[str, str | None]
) -> None:
    standin.faults.add(fault, path="/helix/*")
    reply = http.request("GET", f"{standin.http_url}/helix/users?login={ids.CHANNEL}")
    assert (reply.status, reply.json()["status"]) == (status, status)
    assert {name: reply.headers.get(name) for name in headers} == headers


def test_status_takes_the_form_of_its_resource(http: urllib3.PoolManager, standin: Standin) -> None:
    standin.faults.add(Status(401))
    helix = http.request("GET", f"{standin.http_url}/helix/users")
    assert helix.json() == {"error": "Unauthorized", "status": 401, "message": "Invalid OAuth token"}
    oauth = http.request("POST", f"{standin.http_url}/oauth2/token")
    assert oauth.json() == {"status": 401, "message": "Invalid OAuth token"}
    assert b"<h1>401 Unauthorized</h1>" in http.request("GET", f"{standin.http_url}/edge/a/b/c/d.ts").data


@pytest.mark.parametrize(
    "fault", [Garbage(), Garbage("random"), Garbage("empty"), Garbage("flipped")], ids=lambda f: f.form
)
def test_garbage_under_a_clean_200(standin: Standin, player: EdgePlayer, whole: bytes, fault: Garbage) -> None:
    standin.faults.add(fault, path=SEGMENTS)
    reply = player.get("0.ts")
    assert reply.status == 200
    assert int(reply.headers["Content-Length"]) == len(reply.data)
    assert reply.data != whole
    if fault.form == "flipped":
        assert sum(a != b for a, b in zip(reply.data, whole, strict=True)) == 1
    elif fault.form == "random":
        assert len(reply.data) == len(whole)
    elif fault.form == "empty":
        assert reply.data == b""


def test_expired_playback_needs_new_links(http: urllib3.PoolManager, standin: Standin, player: EdgePlayer) -> None:
    standin.faults.add(ExpiredPlayback(), path="/edge/*", after=2)
    assert [player.get(name).status for name in ("0.ts", "1.ts", "2.ts", "3.ts")] == [200, 200, 403, 403]
    assert player.http.request("GET", player.playlist_url).status == 403
    again = open_video(http, standin, ids.PLAIN)
    assert again.playlist_url != player.playlist_url
    assert [again.get(name).status for name in ("2.ts", "3.ts")] == [200, 200]


def test_expired_playback_of_one_video_spares_the_others(
    http: urllib3.PoolManager, standin: Standin, player: EdgePlayer
) -> None:
    other = open_video(http, standin, ids.DISCONTINUITY)
    standin.faults.add(ExpiredPlayback(video=ids.DISCONTINUITY))
    assert (player.get("0.ts").status, other.get("0.ts").status) == (200, 403)


def helix_videos(http: urllib3.PoolManager, standin: Standin) -> urllib3.BaseHTTPResponse:
    token = standin.world.issue_app_token(standin.scenario.client_id).value
    headers = {"Authorization": f"Bearer {token}", "Client-Id": standin.scenario.client_id}
    address = f"{standin.http_url}/helix/videos?user_id={ids.CHANNEL_ID}&first=2"
    return http.request("GET", address, headers=headers)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        pytest.param(HelixBody("nulls", fields=("title", "duration")), {"title": None, "duration": None}, id="nulls"),
        pytest.param(
            HelixBody("wrong_types", fields=("view_count", "title")), {"view_count": "1234", "title": 12345}, id="types"
        ),
    ],
)
def test_bent_helix_entries(
    http: urllib3.PoolManager, standin: Standin, fault: HelixBody, expected: dict[str, Any]
) -> None:
    good = helix_videos(http, standin).json()["data"]
    standin.faults.add(fault, path="/helix/videos")
    for entry, original in zip(helix_videos(http, standin).json()["data"], good, strict=True):
        assert entry == original | expected


def test_other_bent_helix_bodies(http: urllib3.PoolManager, standin: Standin) -> None:
    good = helix_videos(http, standin).json()

    def bent(fault: HelixBody) -> Any:
        number = standin.faults.add(fault, path="/helix/videos")
        reply = helix_videos(http, standin)
        assert reply.status == 200
        assert "Ratelimit-Remaining" in reply.headers
        standin.faults.remove(number)
        return reply.json() if fault.form != "not_json" else reply.data

    assert bent(HelixBody("missing_fields"))["data"] == [{"id": entry["id"]} for entry in good["data"]]
    assert bent(HelixBody("missing_fields", entry=1))["data"] == [good["data"][0], {"id": good["data"][1]["id"]}]
    richer = bent(HelixBody("unknown_fields"))["data"][0]
    assert richer["standin_new_field"]["values"][2] is None
    assert {name: richer[name] for name in good["data"][0]} == good["data"][0]
    assert bent(HelixBody("data_null"))["data"] is None
    assert bent(HelixBody("array")) == good["data"]
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(bent(HelixBody("not_json")))
    assert bent(HelixBody("same_cursor"))["pagination"]["cursor"] != good["pagination"]["cursor"]


@pytest.mark.parametrize("data_missing", [False, True])
def test_gql_errors_are_no_deletion(http: urllib3.PoolManager, standin: Standin, data_missing: bool) -> None:
    standin.faults.add(GqlErrors(data_missing=data_missing), operation="video")
    query = {"query": f'query{{video(id:"{ids.PLAIN}"){{id}}}}'}
    reply = http.request("POST", f"{standin.http_url}/gql", json=query, headers={"Client-ID": "x"})
    assert reply.status == 200
    assert reply.json()["errors"][0]["message"] == "service timeout"
    assert reply.json().get("data") == (None if data_missing else {"video": None})
    # The playback token is another operation and not meant.
    assert open_video(http, standin, ids.PLAIN).get("0.ts").status == 200


# Rules --------------------------------------------------------------------------------------------------------------


def test_count_and_after(standin: Standin, player: EdgePlayer) -> None:
    number = standin.faults.add(Status(500), path=SEGMENTS, after=1, count=2)
    assert [player.get("0.ts").status for _ in range(5)] == [200, 500, 500, 200, 200]
    assert standin.faults.applied(number) == 2


@pytest.mark.parametrize(
    ("match", "hit"),
    [
        pytest.param({"method": "GET"}, True, id="method"),
        pytest.param({"method": "POST"}, False, id="other method"),
        pytest.param({"host": "127.0.0.1"}, True, id="host"),
        pytest.param({"host": "*.twitch.tv"}, False, id="other host"),
        pytest.param({"path": "*/chunked/*.ts"}, True, id="path"),
        pytest.param({"path": "*/160p30/*"}, False, id="other path"),
        pytest.param({"operation": "video"}, False, id="no GQL"),
    ],
)
def test_matching(standin: Standin, player: EdgePlayer, match: dict[str, str], hit: bool) -> None:
    standin.faults.add_rule(Rule(fault=Status(500), match=Match(**match)))
    assert player.get("0.ts").status == (500 if hit else 200)


def test_probability_follows_the_seed(http: urllib3.PoolManager, standin_of: StandinFactory) -> None:
    def outcomes() -> list[int]:
        standin = standin_of("test", speed=0)
        standin.faults.add(Status(500), path=SEGMENTS, probability=0.5)
        player = open_video(http, standin, ids.PLAIN)
        return [player.get("0.ts").status for _ in range(20)]

    first = outcomes()
    assert {200, 500} == set(first)
    assert outcomes() == first


def test_several_faults_at_once(standin: Standin, player: EdgePlayer) -> None:
    standin.faults.add(Latency(delay_ms=50), path=SEGMENTS)
    standin.faults.add(Status(503), path=SEGMENTS)
    assert player.get("0.ts").status == 503
    entry = standin.requests.entries(SEGMENTS)[-1]
    assert entry.faults == ("latency", "status")
    assert entry.duration_ms >= 50


def test_faults_can_be_taken_away(standin: Standin, player: EdgePlayer) -> None:
    number = standin.faults.add(Status(500), path=SEGMENTS)
    standin.faults.add(Latency(delay_ms=1), path=SEGMENTS)
    assert standin.faults.remove(number)
    assert not standin.faults.remove(number)
    assert player.get("0.ts").status == 200
    standin.faults.clear()
    assert standin.faults.describe() == []
