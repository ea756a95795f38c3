"""Pages of comments: what is read from them, and the way through them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vodkeep.chat.comment_pages import (
    DELETED,
    NOT_OFFERED,
    Ask,
    Comment,
    CursorRefused,
    Page,
    RangeReader,
    ServiceFault,
    message_of,
    question,
    read_page,
)
from vodkeep.chat.model import Chatter, Source
from vodkeep.errors import CredentialsError, PermanentError, RateLimited, ServerError, VodkeepError

NOBODY = Chatter("", "", "", "", "")


def comment(number: int, offset_s: int) -> Comment:
    return Comment(f"c{number}", offset_s, None, NOBODY, "", "")


class Shelf:
    """Comments at the given seconds, served as Twitch serves them: by offset a page begins two comments before it."""

    def __init__(self, *seconds: int, size: int = 5, cursors: bool = True) -> None:
        self.comments = [comment(number, second) for number, second in enumerate(sorted(seconds))]
        self.size = size
        self.cursors = cursors
        self.asked: list[Ask] = []

    def answer(self, ask: Ask) -> Page:
        self.asked.append(ask)
        if ask.cursor is not None:
            if not self.cursors:
                raise CursorRefused("no")
            first = int(ask.cursor)
        else:
            found = [number for number, each in enumerate(self.comments) if each.offset_s >= ask.offset_s]
            first = max(0, (found[0] if found else len(self.comments)) - 2)
        last = min(first + self.size, len(self.comments))
        return Page(self.comments[first:last], last < len(self.comments), str(last))


def read(shelf: Shelf, start_ms: int, end_ms: int) -> tuple[list[str], list[tuple[int, int]], int]:
    reader = RangeReader(start_ms, end_ms)
    found: list[str] = []
    holes: list[tuple[int, int]] = []
    known = start_ms
    for _ in range(500):
        if reader.is_done:
            break
        try:
            taken = reader.take(shelf.answer(reader.ask))
        except CursorRefused:
            reader.refuse_cursor()
            continue
        found += [each.id for each in taken.comments]
        holes += taken.holes
        assert taken.known_to_ms >= known // 1000 * 1000
        known = taken.known_to_ms
    assert reader.is_done
    return found, holes, known


@pytest.mark.parametrize("cursors", [True, False], ids=["by cursor", "by offset"])
def test_every_comment_of_a_range_once(cursors: bool) -> None:
    shelf = Shelf(*range(0, 100, 3), 50, 50, cursors=cursors)
    found, holes, known = read(shelf, 20_000, 70_500)
    wanted = [each.id for each in shelf.comments if 20 <= each.offset_s < 71]
    assert (sorted(found), holes, known) == (sorted(wanted), [], 71_000)


@pytest.mark.parametrize("cursors", [True, False], ids=["by cursor", "by offset"])
def test_a_second_with_more_than_a_page_is_told_as_a_hole_only_without_cursors(cursors: bool) -> None:
    shelf = Shelf(1, 2, *[5] * 20, 7, 9, 11, 13, cursors=cursors)
    found, holes, _ = read(shelf, 0, 14_000)
    assert holes == ([] if cursors else [(5000, 6000)])
    assert len(found) == len(set(found))
    assert {"c22", "c23", "c24", "c25"} <= set(found)


def test_the_end_is_confirmed_before_it_is_believed() -> None:
    shelf = Shelf(*range(30))
    reader = RangeReader(0, 30_000)
    reader.take(shelf.answer(reader.ask))
    reader.take(Page([], has_next=False, cursor=None))  # A page that was lost.
    assert reader.ask.is_probe
    taken = reader.take(shelf.answer(reader.ask))
    assert (taken.comments, reader.is_done, reader.ask) == ((), False, Ask(4))


def test_a_chat_that_is_silent_to_the_end_takes_one_question_more() -> None:
    shelf = Shelf(1, 2, 3)
    assert read(shelf, 0, 60_000) == (["c0", "c1", "c2"], [], 60_000)
    assert [ask.is_probe for ask in shelf.asked] == [False, True]


def test_an_empty_chat_is_known_to_its_end() -> None:
    assert read(Shelf(), 0, 60_000) == ([], [], 60_000)


def test_pages_that_go_round_in_circles_are_noticed() -> None:
    page = Page([comment(1, 1)], has_next=True, cursor="again")
    reader = RangeReader(0, 3_600_000)

    def go_on() -> None:
        for _ in range(100):
            reader.take(page)

    with pytest.raises(ServerError, match="again and again"):
        go_on()


def answer(**video: Any) -> bytes:
    return json.dumps({"data": {"video": video or None}}).encode()


def page(*nodes: dict[str, Any], has_next: bool = False) -> bytes:
    edges = [{"cursor": f"k{number}", "node": node} for number, node in enumerate(nodes)]
    return answer(comments={"edges": edges, "pageInfo": {"hasNextPage": has_next}})


def test_a_comment_is_read_with_its_emotes_in_code_points() -> None:
    node = {
        "id": "abc",
        "contentOffsetSeconds": 12,
        "createdAt": "2026-11-23T12:00:12.345Z",
        "commenter": {"id": "7", "login": "Moss", "displayName": "モス"},
        "message": {
            "fragments": [
                {"text": "🎉 ", "emote": None},
                {"text": "Kappa", "emote": {"emoteID": "25"}},
                {"text": " a\0b "},
                {"text": "Kappa", "emote": {"emoteID": "25"}},
            ],
            "userBadges": [{"setID": "vip", "version": "1"}, {"setID": "subscriber", "version": "12"}],
            "userColor": "#FF0000",
        },
    }
    read_back = read_page(200, {}, page(node, has_next=True))
    [found] = read_back.comments
    assert (read_back.has_next, read_back.cursor) == (True, "k0")
    assert (found.body, found.emotes) == ("🎉 Kappa a\ufffdb Kappa", "25:2-6,12-16")
    assert found.chatter == Chatter("7", "moss", "モス", "#FF0000", "vip/1,subscriber/12")
    start_ms = 1_795_435_200_000
    message = message_of(found, channel="lumen", start_ms=start_ms)
    assert (message.sent_ms, message.source) == (start_ms + 12_345, Source.VOD)


def test_a_time_that_cannot_be_is_replaced_by_the_place_in_the_video() -> None:
    highlight = Comment("a", 12, 1_000, NOBODY, "", "")
    assert message_of(highlight, channel="c", start_ms=1_795_435_200_000).sent_ms == 1_795_435_212_000


def test_a_comment_of_an_account_that_is_gone() -> None:
    [found] = read_page(200, {}, page({"id": "a", "contentOffsetSeconds": 0, "commenter": None})).comments
    assert (found.chatter, found.created_ms, found.body) == (NOBODY, None, "")


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        pytest.param(200, b'{"data":{"video":null}}', PermanentError, DELETED, id="gone"),
        pytest.param(200, answer(comments=None), PermanentError, NOT_OFFERED, id="not offered"),
        pytest.param(200, b'{"data":null}', ServerError, "server_error", id="nothing"),
        pytest.param(
            200, b'{"data":{"video":null},"errors":[{"message":"service error"}]}', ServiceFault, None, id="x"
        ),
        pytest.param(200, b'{"errors":[{"message":"failed integrity check"}]}', CursorRefused, None, id="integrity"),
        pytest.param(
            200, b'{"errors":[{"message":"PersistedQueryNotFound"}]}', PermanentError, "chat_query_unknown", id="query"
        ),
        pytest.param(200, b"<html>", ServerError, "server_error", id="no JSON"),
        pytest.param(200, answer(comments={"edges": 7}), ServerError, "server_error", id="another shape"),
        pytest.param(503, b"", ServerError, "server_error", id="503"),
        pytest.param(401, b"", CredentialsError, "credentials", id="401"),
        pytest.param(429, b"", RateLimited, "rate_limited", id="429"),
    ],
)
def test_answers_without_a_page(status: int, body: bytes, kind: type[VodkeepError], code: str | None) -> None:
    with pytest.raises(kind) as caught:
        read_page(status, {"retry-after": "7"}, body)
    assert type(caught.value) is kind
    assert code is None or caught.value.code == code
    if isinstance(caught.value, RateLimited):
        assert caught.value.delay_s == 7.0


def test_the_question_names_an_offset_or_a_cursor_and_never_both() -> None:
    by_offset, by_cursor = (json.loads(question("1", ask))["variables"] for ask in (Ask(7), Ask(7, "k")))
    assert by_offset == {"videoID": "1", "contentOffsetSeconds": 7}
    assert by_cursor == {"videoID": "1", "cursor": "k"}
