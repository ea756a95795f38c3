"""GQL and usher as the player's clients meet them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
import urllib3

from vodkeep_standin.scenario import ids
from vodkeep_standin.server import Standin


def ask(http: urllib3.PoolManager, standin: Standin, document: Any) -> Any:
    reply = http.request("POST", f"{standin.http_url}/gql", json=document, headers={"Client-ID": "kimne78"})
    assert reply.status == 200
    return reply.json()


def playlist_token(http: urllib3.PoolManager, standin: Standin, video_id: str) -> dict[str, str] | None:
    query = 'query { videoPlaybackAccessToken(id: "%s", params: {platform: "web"}) { value signature } }'
    token: dict[str, str] | None = ask(http, standin, {"query": query % video_id})["data"]["videoPlaybackAccessToken"]
    return token


def ask_usher(
    http: urllib3.PoolManager, standin: Standin, video_id: str, token: dict[str, str]
) -> urllib3.BaseHTTPResponse:
    address = f"{standin.http_url}/vod/{video_id}.m3u8?sig={token['signature']}&token={quote(token['value'])}"
    return http.request("GET", address)


@pytest.mark.parametrize(
    ("video_id", "video"),
    [
        pytest.param(ids.PLAIN, {"id": ids.PLAIN}, id="there"),
        pytest.param(ids.DELETED, None, id="deleted"),
        pytest.param("1", None, id="never existed"),
    ],
)
def test_plain_query_tells_a_deletion_from_a_fault(
    http: urllib3.PoolManager, standin: Standin, video_id: str, video: object
) -> None:
    body = ask(http, standin, {"query": f'query{{video(id:"{video_id}"){{id}}}}'})
    assert body["data"] == {"video": video}
    assert "errors" not in body


def test_plain_query_with_variables_aliases_and_nesting(http: urllib3.PoolManager, standin: Standin) -> None:
    query = (
        "query Q($id: ID!) { vod: video(id: $id) { name: title lengthSeconds owner { login } ... on Video { id } } }"
    )
    body = ask(http, standin, {"query": query, "variables": {"id": ids.PLAIN}})
    assert body["data"]["vod"] == {
        "name": "A plain evening",
        "lengthSeconds": 30,
        "owner": {"login": ids.CHANNEL},
        "id": ids.PLAIN,
    }


def test_batch_of_persisted_operations_keeps_its_shape(http: urllib3.PoolManager, standin: Standin) -> None:
    def operation(name: str, digest: str = "0" * 64) -> dict[str, Any]:
        return {
            "operationName": name,
            "variables": {"videoID": ids.PLAIN},
            "extensions": {"persistedQuery": {"version": 1, "sha256Hash": digest}},
        }

    chapters, metadata, rotated, unknown = ask(
        http,
        standin,
        [
            operation("VideoPlayer_ChapterSelectButtonVideo"),
            operation("VideoMetadata"),
            operation("VideoMetadata", "old"),
            operation("Other"),
        ],
    )
    nodes = [edge["node"] for edge in chapters["data"]["video"]["moments"]["edges"]]
    assert [(node["positionMilliseconds"], node["durationMilliseconds"], node["description"]) for node in nodes] == [
        (0, 10_000, "Celeste"),
        (10_000, 12_000, "Hollow Knight"),
        (22_000, 8_000, "Just Chatting"),
    ]
    assert metadata["data"]["video"]["owner"]["displayName"] == "Lumen_Plays"
    assert metadata["extensions"]["operationName"] == "VideoMetadata"
    assert rotated["errors"] == unknown["errors"] == [{"message": "PersistedQueryNotFound"}]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        pytest.param("query{video(id:", "Expected", id="cut off"),
        pytest.param('query{video(id:"1"){}}', "empty", id="empty selection"),
        pytest.param("{cats{id}}", "Cannot query field", id="unknown root"),
        pytest.param('{video(id:"2600000001"){wings}}', "Cannot query field", id="unknown field"),
        pytest.param("{" * 100, "Expected a name", id="braces"),
        pytest.param("{a" * 100, "deep", id="too deep"),
        pytest.param("\x00", "Syntax", id="not a query"),
    ],
)
def test_bad_queries_get_errors_inside_a_200(
    http: urllib3.PoolManager, standin: Standin, query: str, words: str
) -> None:
    body = ask(http, standin, {"query": query})
    assert "data" not in body
    assert words in body["errors"][0]["message"]


def test_client_id_and_json_are_required(http: urllib3.PoolManager, standin: Standin) -> None:
    assert http.request("POST", f"{standin.http_url}/gql", body=b"{}").status == 400
    assert http.request("POST", f"{standin.http_url}/gql", body=b"{", headers={"Client-ID": "x"}).status == 400


def test_usher_lists_two_qualities_and_sound(http: urllib3.PoolManager, standin: Standin) -> None:
    token = playlist_token(http, standin, ids.PLAIN)
    assert token is not None
    text = ask_usher(http, standin, ids.PLAIN, token).data.decode()
    assert text.startswith("#EXTM3U\n#EXT-X-TWITCH-INFO:")
    assert [line.rsplit("/", 2)[1] for line in text.splitlines() if line.startswith("http")] == [
        "chunked",
        "160p30",
        "audio_only",
    ]
    assert text.count(",RESOLUTION=") == 2


def test_usher_refuses_subscribers_only(http: urllib3.PoolManager, standin: Standin) -> None:
    token = playlist_token(http, standin, ids.SUB_ONLY)
    assert token is not None
    assert "chunked" in json.loads(token["value"])["chansub"]["restricted_bitrates"]
    reply = ask_usher(http, standin, ids.SUB_ONLY, token)
    assert (reply.status, reply.headers["Content-Type"]) == (403, "application/json")
    assert reply.json()[0]["error_code"] == "vod_manifest_restricted"


def test_no_token_for_a_deleted_video(http: urllib3.PoolManager, standin: Standin) -> None:
    assert playlist_token(http, standin, ids.DELETED) is None


def test_usher_wants_a_fresh_token_for_this_video(http: urllib3.PoolManager, standin: Standin) -> None:
    token = playlist_token(http, standin, ids.PLAIN)
    assert token is not None
    forged = token | {"value": token["value"].replace("false", "true")}
    assert ask_usher(http, standin, ids.PLAIN, forged).json()[0]["error_code"] == "invalid_sig"
    assert ask_usher(http, standin, ids.MUTED, token).json()[0]["error_code"] == "nauth_vod_mismatch"
    standin.advance(standin.scenario.playback_token_lifetime_s)
    assert ask_usher(http, standin, ids.PLAIN, token).json()[0]["error_code"] == "nauth_token_expired"
    assert ask_usher(http, standin, ids.DELETED, token).status == 404
