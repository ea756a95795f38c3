"""The control interface."""

from __future__ import annotations

import pytest
import urllib3

from support.edge_player import open_video
from vodkeep_standin.scenario import ids
from vodkeep_standin.server import Standin


def control(http: urllib3.PoolManager, standin: Standin, method: str, path: str, document: object = None) -> object:
    address = f"{standin.http_url}/control/{path}"
    reply = http.request(method, address) if document is None else http.request(method, address, json=document)
    assert reply.status < 300, reply.data
    return reply.json() if reply.data else None


def test_faults_over_http(http: urllib3.PoolManager, standin: Standin) -> None:
    rule = {"fault": {"kind": "status", "status": 503}, "match": {"path": "/helix/*"}, "count": 2}
    assert control(http, standin, "POST", "faults", rule) == {"ids": [1]}
    assert control(http, standin, "POST", "faults", [{"fault": {"kind": "latency", "delay_ms": 1}}]) == {"ids": [2]}
    assert http.request("GET", f"{standin.http_url}/helix/users").status == 503
    listed = control(http, standin, "GET", "faults")
    assert isinstance(listed, dict)
    assert [(entry["id"], entry["rule"]["fault"]["kind"], entry["applied"]) for entry in listed["faults"]] == [
        (1, "status", 1),
        (2, "latency", 1),
    ]
    control(http, standin, "DELETE", "faults/1")
    assert http.request("GET", f"{standin.http_url}/helix/users").status == 401
    control(http, standin, "DELETE", "faults")
    assert control(http, standin, "GET", "faults") == {"faults": []}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        pytest.param("POST", "faults", b"{", 400, id="no JSON"),
        pytest.param("POST", "faults", b'{"fault":{"kind":"gremlin"}}', 400, id="unknown fault"),
        pytest.param("POST", "faults", b'{"fault":{"kind":"reset"},"often":1}', 400, id="unknown member of a rule"),
        pytest.param("POST", "faults", b'{"fault":{"kind":"status"}}', 400, id="no status"),
        pytest.param("POST", "faults", b'{"fault":{"kind":"garbage","form":"soup"}}', 400, id="unknown form"),
        pytest.param("DELETE", "faults/9", b"", 404, id="no such fault"),
        pytest.param("POST", "videos/1", b"{}", 404, id="no such video"),
        pytest.param("DELETE", "videos/1", b"", 404, id="nothing to delete"),
        pytest.param("POST", f"videos/{ids.PLAIN}", b'{"id":"5"}', 400, id="ids do not change"),
        pytest.param("POST", f"videos/{ids.PLAIN}", b'{"title":5}', 400, id="title is no text"),
        pytest.param("POST", "videos", b'{"id":"5"}', 400, id="half a video"),
        pytest.param("POST", "clock", b'{"seconds":"soon"}', 400, id="no number"),
        pytest.param("POST", "streams", b'{"channel":"nobody"}', 400, id="nobody of that name"),
        pytest.param("POST", "streams", b'{"channel":"lumen_plays","for":5}', 400, id="unknown member of a stream"),
        pytest.param("DELETE", f"streams/{ids.OTHER_CHANNEL}", b"", 404, id="not live"),
        pytest.param("GET", "nothing", b"", 404, id="unknown control"),
        pytest.param("PUT", "faults", b"", 405, id="wrong method"),
    ],
)
def test_control_refuses_nonsense(
    http: urllib3.PoolManager, standin: Standin, method: str, path: str, body: bytes, status: int
) -> None:
    assert http.request(method, f"{standin.http_url}/control/{path}", body=body).status == status


def test_requests_over_http(http: urllib3.PoolManager, standin: Standin) -> None:
    open_video(http, standin, ids.PLAIN).get("0.ts", Range="bytes=0-9")
    listed = control(http, standin, "GET", "requests?path=/edge/*")
    assert isinstance(listed, dict)
    assert [(entry["status"], entry["sent_bytes"], entry["range"]) for entry in listed["requests"]] == [
        (206, 10, "bytes=0-9")
    ]
    control(http, standin, "DELETE", "requests")
    # Control requests themselves are not written down.
    assert control(http, standin, "GET", "requests") == {"requests": []}


def test_a_video_is_added_played_finished_and_removed(http: urllib3.PoolManager, standin: Standin) -> None:
    video = {
        "id": "2600009999",
        "channel": ids.OTHER_CHANNEL,
        "title": "Just now",
        "created_at": "2026-11-02T00:00:00Z",
        "recording": {"head_s": 4},
    }
    control(http, standin, "POST", "videos", video)
    player = open_video(http, standin, "2600009999")
    assert len(player.names()) == 2
    control(http, standin, "POST", "clock", {"seconds": 2})
    assert len(player.names()) == 3
    control(http, standin, "POST", "videos/2600009999", {"finish": True, "title": "Over"})
    assert player.playlist().endswith("#EXT-X-ENDLIST\n")
    assert standin.scenario.videos["2600009999"].title == "Over"
    control(http, standin, "DELETE", "videos/2600009999")
    assert player.get("0.ts").status == 403


def test_deletion_on_twitch_keeps_the_listing(http: urllib3.PoolManager, standin: Standin) -> None:
    control(http, standin, "POST", f"videos/{ids.PLAIN}", {"deleted": True, "missing_segments": [1, 2]})
    listed = control(http, standin, "GET", "videos")
    assert isinstance(listed, dict)
    assert next(video for video in listed["videos"] if video["id"] == ids.PLAIN)["deleted"] is True
    assert standin.scenario.videos[ids.PLAIN].missing_segments == {1, 2}


def test_tokens_are_revoked(http: urllib3.PoolManager, standin: Standin) -> None:
    token = standin.world.issue_app_token(standin.scenario.client_id).value
    headers = {"Authorization": f"Bearer {token}", "Client-Id": standin.scenario.client_id}
    address = f"{standin.http_url}/helix/users?login={ids.CHANNEL}"
    assert http.request("GET", address, headers=headers).status == 200
    control(http, standin, "DELETE", "tokens")
    assert http.request("GET", address, headers=headers).status == 401


def test_a_channel_is_live_without_a_video_until_it_is_stopped(http: urllib3.PoolManager, standin: Standin) -> None:
    wanted = {"channel": ids.OTHER_CHANNEL, "title": "hello", "started_s_ago": 90}
    first = control(http, standin, "POST", "streams", wanted)
    assert isinstance(first, dict)
    assert standin.world.stream_of(standin.scenario.channels[ids.OTHER_CHANNEL]) is not None
    listed = control(http, standin, "GET", "streams")
    assert isinstance(listed, dict)
    assert [(each["id"], each["title"]) for each in listed["streams"]] == [(first["id"], "hello")]
    control(http, standin, "DELETE", f"streams/{ids.OTHER_CHANNEL}")
    assert control(http, standin, "GET", "streams") == {"streams": []}
    assert standin.world.stream_of(standin.scenario.channels[ids.OTHER_CHANNEL]) is None


def test_a_stream_that_is_started_again_with_its_id_is_the_same(http: urllib3.PoolManager, standin: Standin) -> None:
    first = standin.start_stream(ids.OTHER_CHANNEL)
    standin.stop_stream(ids.OTHER_CHANNEL)
    standin.advance(30)
    again = standin.start_stream(ids.OTHER_CHANNEL, stream_id=first.id)
    standin.stop_stream(ids.OTHER_CHANNEL)
    standin.advance(30)
    another = standin.start_stream(ids.OTHER_CHANNEL)
    assert again == first
    assert (another.id != first.id, (another.started_at - first.started_at).total_seconds()) == (True, 60)
