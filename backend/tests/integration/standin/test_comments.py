"""The comments of a video as a client meets them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import urllib3

from vodkeep_standin.faults.gql_comments import CommentsForm, GqlComments
from vodkeep_standin.gql.comments import PAGE
from vodkeep_standin.scenario import ids
from vodkeep_standin.scenario.chat import ChatLine, ChatScript, VideoChat, speaker_at
from vodkeep_standin.server import Standin

OPERATION = "VideoCommentsByOffsetOrCursor"


def ask(http: urllib3.PoolManager, standin: Standin, **variables: Any) -> Any:
    document = {
        "operationName": OPERATION,
        "variables": {"videoID": ids.PLAIN, **variables},
        "extensions": {"persistedQuery": {"version": 1, "sha256Hash": "b" * 64}},
    }
    reply = http.request("POST", f"{standin.http_url}/gql", json=[document], headers={"Client-ID": "kimne78"})
    assert reply.status == 200
    return reply.json()[0]


def page_of(answer: Any) -> Any:
    return answer["data"]["video"]["comments"]


@pytest.fixture
def busy(standin: Standin) -> Standin:
    standin.scenario.update_video(ids.PLAIN, chat=VideoChat(per_second=10))
    return standin


def test_cursors_lead_through_the_whole_chat_without_overlap(http: urllib3.PoolManager, busy: Standin) -> None:
    page = page_of(ask(http, busy, contentOffsetSeconds=0))
    found = [edge["node"]["id"] for edge in page["edges"]]
    assert len(found) == PAGE
    while page["pageInfo"]["hasNextPage"]:
        page = page_of(ask(http, busy, cursor=page["edges"][-1]["cursor"]))
        found += [edge["node"]["id"] for edge in page["edges"]]
    assert len(found) == len(set(found)) == 300


def test_a_page_by_offset_begins_before_it(http: urllib3.PoolManager, busy: Standin) -> None:
    offsets = [
        edge["node"]["contentOffsetSeconds"] for edge in page_of(ask(http, busy, contentOffsetSeconds=20))["edges"]
    ]
    assert offsets == sorted(offsets)
    assert offsets[0] < 20 <= offsets[-1]


def test_what_is_said_does_not_depend_on_how_long_it_goes_on() -> None:
    short, whole = (ChatScript(VideoChat(), stream="1", seed=1, duration_s=length) for length in (10, 60))
    assert list(short.between(0, 10_000)) == list(whole.between(0, 10_000))


def test_what_was_said_over_irc_is_among_the_comments(http: urllib3.PoolManager, busy: Standin) -> None:
    video = busy.scenario.videos[ids.PLAIN]
    line = ChatLine("0f4d2c2e-0000-4000-8000-000000000001", 0, speaker_at(3), (("out of the script", None),))
    busy.world.said[video.channel] = [(video.created_at + timedelta(seconds=12.5), line)]
    nodes = [edge["node"] for edge in page_of(ask(http, busy, contentOffsetSeconds=12))["edges"]]
    [node] = [node for node in nodes if node["id"] == line.id]
    assert (node["contentOffsetSeconds"], node["message"]["fragments"][0]["text"]) == (12, "out of the script")
    assert [node["contentOffsetSeconds"] for node in nodes] == sorted(node["contentOffsetSeconds"] for node in nodes)


def test_a_deleted_video_and_a_chat_that_is_not_offered(http: urllib3.PoolManager, standin: Standin) -> None:
    assert ask(http, standin, videoID=ids.DELETED)["data"] == {"video": None}
    standin.scenario.update_video(ids.PLAIN, chat=VideoChat(disabled=True))
    assert page_of(ask(http, standin, contentOffsetSeconds=0)) is None
    standin.scenario.update_video(ids.PLAIN, chat=VideoChat())
    assert ask(http, standin, contentOffsetSeconds=999)["errors"] == [{"message": "service error"}]


@pytest.mark.parametrize("form", ["empty", "no_more", "null_commenters", "repeated", "null_comments"])
def test_faults_bend_pages(http: urllib3.PoolManager, busy: Standin, form: CommentsForm) -> None:
    busy.faults.add(GqlComments(form=form), operation=OPERATION)
    first, second = (ask(http, busy, contentOffsetSeconds=offset) for offset in (0, 20))
    page = page_of(second)
    match form:
        case "empty":
            assert page["edges"] == []
            assert page["pageInfo"]["hasNextPage"]
        case "no_more":
            assert page["edges"] == []
            assert not page["pageInfo"]["hasNextPage"]
        case "null_commenters":
            assert {str(edge["node"]["commenter"]) for edge in page["edges"]} == {"None"}
        case "repeated":
            assert page == page_of(first)
        case _:
            assert page is None
            assert second["errors"][0]["message"] == "service error"


def test_integrity_refuses_cursors_and_nothing_else(http: urllib3.PoolManager, busy: Standin) -> None:
    busy.faults.add(GqlComments(form="integrity"), operation=OPERATION)
    page = page_of(ask(http, busy, contentOffsetSeconds=0))
    refused = ask(http, busy, cursor=page["edges"][-1]["cursor"])
    assert refused["errors"][0]["message"] == "failed integrity check"
    assert refused["data"] == {"video": None}
