"""Helix bodies as recorded from the API reference, bent in the ways a tired service bends them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.catalog.helix import (
    INVALID_CURSOR,
    Answer,
    Request,
    app_token_from,
    channels_from,
    cut_short,
    failure_of,
    live_streams_from,
    stream_requests,
    token_request,
    user_requests,
    video_from,
    video_page_from,
    video_page_request,
    video_request,
)
from vodkeep.catalog.model import BroadcasterId, VodId
from vodkeep.errors import (
    CredentialsError,
    PermanentError,
    RateLimited,
    ServerError,
    VodkeepError,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
GARDENIA = BroadcasterId("141981764")
SECRET = "s3cr3ts3cr3ts3cr3t"


def video_entry(**changes: Any) -> dict[str, Any]:
    return {
        "id": "2100000001",
        "stream_id": "40963452001",
        "user_id": GARDENIA,
        "user_login": "gardenia",
        "user_name": "Gardenia",
        "title": "Grafting roses",
        "description": "",
        "created_at": "2026-11-20T18:00:05Z",
        "published_at": "2026-11-20T18:00:05Z",
        "url": "https://www.twitch.tv/videos/2100000001",
        "thumbnail_url": "https://cdn.example/thumb-%{width}x%{height}.jpg",
        "viewable": "public",
        "view_count": 42,
        "language": "en",
        "type": "archive",
        "duration": "3h8m33s",
        "muted_segments": None,
    } | changes


def answer(body: Any, status: int = 200, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


def page_of(*entries: Any, pagination: Any = None) -> Answer:
    return answer({"data": list(entries), "pagination": {} if pagination is None else pagination})


def read_page(given: Answer, after: str | None = None) -> Any:
    return video_page_from(given, GARDENIA, after=after, now=NOW)


# --- requests


def test_accounts_are_asked_for_in_batches_of_100() -> None:
    ids = [BroadcasterId(str(n)) for n in range(1, 151)]
    logins = [f"channel_{n}" for n in range(60)]
    first, second, third = user_requests(logins, ids)
    assert [len(request.query) for request in (first, second, third)] == [100, 100, 10]
    asked = [pair for request in (first, second, third) for pair in request.query]
    assert asked == [*(("id", i) for i in ids), *(("login", login) for login in logins)]


def test_texts_that_cannot_be_logins_never_reach_helix() -> None:
    """Helix answers 400 to a whole batch for one of them."""
    (request,) = user_requests(["gardenia", "No Such", "", "gardenia", "a" * 26], [BroadcasterId("x1")])
    assert request.query == (("login", "gardenia"),)


def test_nothing_is_asked_for_nobody() -> None:
    assert list(user_requests()) == []
    assert list(stream_requests(["Not A Login"])) == []


def test_streams_are_listed_100_at_a_time_and_not_20() -> None:
    requests = list(stream_requests([f"channel_{n}" for n in range(130)]))
    assert [len(request.query) for request in requests] == [101, 31]
    assert all(request.query[-1] == ("first", "100") for request in requests)


def test_a_page_request_names_channel_kind_order_and_cursor() -> None:
    assert video_page_request(GARDENIA, "abc==").query == (
        ("user_id", GARDENIA),
        ("type", "archive"),
        ("sort", "time"),
        ("first", "100"),
        ("after", "abc=="),
    )
    assert "after" not in dict(video_page_request(GARDENIA).query)
    assert video_request(VodId("7")).query == (("id", "7"),)


def test_secrets_stay_out_of_the_repr_of_a_request() -> None:
    request = token_request("client", SECRET)
    assert dict(request.form)["client_secret"] == SECRET
    assert SECRET not in repr(request)
    assert "tok" not in repr(Request("GET", "/users", headers=(("Authorization", "Bearer tok"),)))


# --- videos


def test_a_video_is_read_whole() -> None:
    (video,) = read_page(page_of(video_entry())).videos
    assert video.id == "2100000001"
    assert video.stream_id == "40963452001"
    assert video.broadcaster_id == GARDENIA
    assert video.title == "Grafting roses"
    assert video.created_at == datetime(2026, 11, 20, 18, 0, 5, tzinfo=UTC)
    assert video.duration == timedelta(hours=3, minutes=8, seconds=33)
    assert video.thumbnail_url == "https://cdn.example/thumb-%{width}x%{height}.jpg"


def test_unknown_fields_are_ignored() -> None:
    body = {"data": [video_entry(new_field={"deep": [1]})], "pagination": {"cursor": "c", "total": 9}, "extra": 1}
    page = read_page(answer(body))
    assert len(page.videos) == 1
    assert page.cursor == "c"


def test_nulls_in_optional_fields_mean_not_said() -> None:
    nulls = dict.fromkeys(
        ("stream_id", "user_login", "title", "description", "duration", "thumbnail_url", "type", "view_count")
    )
    page = read_page(page_of(video_entry(**nulls)))
    (video,) = page.videos
    assert (video.title, video.description, video.duration, video.stream_id) == (None, None, None, None)
    assert page.unreadable == ()


@pytest.mark.parametrize(
    "bad",
    [
        None,
        7,
        "text",
        [],
        {},
        video_entry(id=None),
        video_entry(id=2100000009),
        video_entry(id="../etc"),
        video_entry(id=""),
        video_entry(user_id=None),
        video_entry(user_id="999"),
        video_entry(created_at=None),
        video_entry(created_at="yesterday"),
        video_entry(created_at="0001-01-01T00:00:00Z"),
        video_entry(created_at="2026-11-20T18:00:05"),
        video_entry(title=42),
        video_entry(duration=11313),
    ],
    ids=lambda bad: ascii(bad)[:40],
)
def test_one_bad_entry_is_reported_and_the_good_ones_stay(bad: Any) -> None:
    page = read_page(page_of(video_entry(id="1"), bad, video_entry(id="3"), pagination={"cursor": "next"}))
    assert [video.id for video in page.videos] == ["1", "3"]
    assert len(page.unreadable) == 1
    assert page.unreadable[0].reason
    assert page.cursor == "next"


def test_a_page_with_nothing_readable_is_an_error_and_not_an_empty_page() -> None:
    pages: list[list[Any]] = [[None, None], [video_entry(user_id="999")], [{}]]
    for entries in pages:
        with pytest.raises(ServerError, match="none can be read"):
            read_page(page_of(*entries))


def test_a_nonsense_duration_is_remarked_and_the_video_kept() -> None:
    page = read_page(page_of(video_entry(duration="three hours")))
    (video,) = page.videos
    assert video.duration is None
    assert page.remarks[0].id == "2100000001"
    assert "three hours" in page.remarks[0].reason


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"<html>gateway</html>",
        b'{"data": null, "pagination": {}}',
        b'{"data": {}, "pagination": {}}',
        b'{"pagination": {}}',
        b'{"data": [], "pagination": "next"}',
        b'{"data": [], "pagination": {"cursor": 7}}',
        json.dumps({"data": [video_entry()], "pagination": {"cursor": "x"}}).encode()[:-20],
        b"[" * 100_000,
        b'{"data":' + b"[" * 100_000,
        b'{"data": [' + b"[" * 3000 + b"]" * 3000 + b"]}",
    ],
    ids=lambda body: ascii(body[:30]),
)
def test_a_body_that_cannot_be_read_is_the_servers_error(body: bytes) -> None:
    for read in (
        lambda: read_page(answer(body)),
        lambda: channels_from(answer(body), now=NOW),
        lambda: video_from(answer(body), now=NOW),
    ):
        with pytest.raises(ServerError) as caught:
            read()
        assert len(str(caught.value)) < 400


@given(st.integers(0, 600), st.binary(max_size=3))
def test_a_page_cut_or_overwritten_anywhere_never_crashes_or_invents(where: int, noise: bytes) -> None:
    whole = json.dumps({"data": [video_entry(id="1"), video_entry(id="2")], "pagination": {"cursor": "c"}}).encode()
    for body in (whole[:where], whole[:where] + noise + whole[where + len(noise) :]):
        try:
            page = read_page(answer(body))
        except ServerError:
            continue
        assert len(page.videos) + len(page.unreadable) <= 2 or page.videos


def test_a_broken_character_in_one_title_costs_no_video() -> None:
    """Half a surrogate pair, or a byte that is not UTF-8, makes a strict decoder refuse the whole page."""
    whole = json.dumps({"data": [video_entry(id="1", title="@@"), video_entry(id="2")], "pagination": {}}).encode()
    for noise in (b"\\ud800", b"\\udc00x", b"\xff\xfe", b"\\ud83d\\u0041"):
        page = read_page(answer(whole.replace(b"@@", noise)))
        assert [video.id for video in page.videos] + [entry.id for entry in page.unreadable] in (
            ["1", "2"],
            ["2", "1"],
        )
        for video in page.videos:
            (video.title or "").encode("utf-8")


def test_a_nul_in_a_title_is_replaced_because_postgresql_refuses_it() -> None:
    (video,) = read_page(page_of(video_entry(title="a\x00b", description="\x00"))).videos
    assert video.title == "a\ufffdb"
    assert video.description == "\ufffd"


def test_emoji_and_direction_marks_in_titles_stay_as_they_are() -> None:
    title = "🌹 <b>../roses</b> \u202e" + "x" * 300
    (video,) = read_page(page_of(video_entry(title=title))).videos
    assert video.title == title


def test_the_last_page_has_an_empty_pagination() -> None:
    hundred = [video_entry(id=str(n)) for n in range(1, 101)]
    assert read_page(page_of(*hundred)).cursor is None
    assert read_page(page_of(pagination={"cursor": ""})).cursor is None


@pytest.mark.parametrize("pagination", ["missing", None, {"cursor": None}], ids=str)
def test_a_full_page_must_say_whether_another_follows(pagination: Any) -> None:
    hundred = [video_entry(id=str(n)) for n in range(1, 101)]
    body = {"data": hundred} | ({} if pagination == "missing" else {"pagination": pagination})
    with pytest.raises(ServerError, match="full page"):
        read_page(answer(body))
    body["data"] = hundred[:50]
    assert read_page(answer(body)).cursor is None


def test_a_cursor_that_points_back_is_an_error() -> None:
    with pytest.raises(ServerError, match="points back"):
        read_page(page_of(video_entry(), pagination={"cursor": "same"}), after="same")


def test_a_refused_cursor_is_told_apart_from_other_refusals() -> None:
    refusal = answer({"error": "Bad Request", "status": 400, "message": "invalid cursor"}, 400)
    with pytest.raises(PermanentError) as caught:
        read_page(refusal, after="old")
    assert caught.value.code == INVALID_CURSOR
    with pytest.raises(PermanentError) as caught:
        read_page(refusal)
    assert caught.value.code == "request_refused"


def test_a_video_listed_twice_is_one_video() -> None:
    page = read_page(page_of(video_entry(title="old"), video_entry(title="new")))
    assert [video.title for video in page.videos] == ["new"]


# --- one video


def test_only_helix_itself_can_say_that_a_video_does_not_exist() -> None:
    said = {"error": "Not Found", "status": 404, "message": "the video could not be found"}
    assert video_from(answer(said, 404), now=NOW) is None
    assert video_from(page_of(), now=NOW) is None
    for body in (b"<html>nginx</html>", b"", b"{}", b'{"status": 500}', b"[]"):
        with pytest.raises(ServerError):
            video_from(answer(body, 404), now=NOW)
    found = video_from(page_of(video_entry()), now=NOW)
    assert found is not None
    assert found.title == "Grafting roses"


def test_an_unreadable_video_is_an_error_and_not_a_missing_one() -> None:
    for entry in (None, video_entry(id=None), video_entry(created_at="0001-01-01T00:00:00Z")):
        with pytest.raises(ServerError):
            video_from(page_of(entry), now=NOW)


# --- accounts and streams


def test_accounts_are_read_and_an_unreadable_one_is_an_error() -> None:
    entry = {"id": "1", "login": "gardenia", "display_name": "Gardénia", "profile_image_url": "https://x/p.png"}
    (channel,) = channels_from(page_of(entry | {"email": None}), now=NOW)
    assert (channel.id, channel.login, channel.display_name) == ("1", "gardenia", "Gardénia")
    (channel,) = channels_from(page_of(entry | {"display_name": None, "profile_image_url": None}), now=NOW)
    assert (channel.display_name, channel.profile_image_url) == ("gardenia", None)
    for bad in (entry | {"login": None}, entry | {"id": 1}, None):
        with pytest.raises(ServerError):
            channels_from(page_of(entry, bad), now=NOW)


def test_streams_are_read_and_an_unreadable_one_is_reported() -> None:
    entry = {
        "id": "40963452001",
        "user_id": "1",
        "user_login": "gardenia",
        "user_name": "Gardénia",
        "game_id": "",
        "type": "live",
        "title": "Roses",
        "viewer_count": 3,
        "started_at": "2026-11-23T11:00:00Z",
        "tags": None,
    }
    live = live_streams_from(page_of(entry, entry | {"id": "2", "started_at": None}), now=NOW)
    (stream,) = live.streams
    assert stream.started_at == datetime(2026, 11, 23, 11, tzinfo=UTC)
    assert [bad.id for bad in live.unreadable] == ["2"]


# --- the token


def test_a_token_is_read_and_shows_only_its_tail() -> None:
    token = app_token_from(
        answer({"access_token": "abcdefghijklmnopqrstuvwxyza1b2", "expires_in": 5_011_271, "token_type": "bearer"}),
        now=NOW,
        hide=(SECRET,),
    )
    assert token.tail == "…a1b2"
    assert token.lifetime == timedelta(seconds=5_011_271)
    assert token.value not in repr(token)
    assert app_token_from(answer({"access_token": "short"}), now=NOW, hide=()).tail == "…"


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refused_client_is_a_credentials_error_without_the_secret(status: int) -> None:
    with pytest.raises(CredentialsError) as caught:
        app_token_from(answer({"status": status, "message": f"invalid {SECRET}"}, status), now=NOW, hide=(SECRET,))
    assert SECRET not in str(caught.value)
    assert "TWITCH_CLIENT_SECRET" in caught.value.remedy


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        {"access_token": None},
        {"access_token": ""},
        {"access_token": "a b"},
        {"access_token": "a\r\nX: y"},
    ],
    ids=str,
)
def test_an_answer_without_a_usable_token_is_the_servers_error(body: Any) -> None:
    with pytest.raises(ServerError, match="without a readable token"):
        app_token_from(answer(body), now=NOW, hide=())


def test_the_token_endpoint_being_down_is_not_a_matter_of_credentials() -> None:
    with pytest.raises(ServerError):
        app_token_from(answer(b"upstream", 503), now=NOW, hide=())
    with pytest.raises(RateLimited):
        app_token_from(answer(b"", 429), now=NOW, hide=())


# --- status, headers, foreign text


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, PermanentError),
        (401, CredentialsError),
        (403, PermanentError),
        (404, ServerError),
        (408, ServerError),
        (429, RateLimited),
        (301, ServerError),
        (204, ServerError),
        (500, ServerError),
        (502, ServerError),
        (503, ServerError),
        (520, ServerError),
    ],
)
def test_each_status_means_one_kind_of_error(status: int, expected: type[VodkeepError]) -> None:
    failure = failure_of(answer(b"why", status), now=NOW)
    assert type(failure) is expected
    assert str(status) in str(failure)


def test_the_wait_after_a_429_is_measured_by_the_servers_clock() -> None:
    """Our clock may be an hour off; the difference between the answer's Date and its reset is right anyway."""
    theirs = NOW + timedelta(hours=1)
    reset = str(int(theirs.timestamp()) + 25)
    skewed = answer(b"", 429, ratelimit_reset=reset, date=theirs.strftime("%a, %d %b %Y %H:%M:%S GMT"))
    failure = failure_of(skewed, now=NOW)
    assert isinstance(failure, RateLimited)
    assert failure.delay_s == 25.0
    by_our_clock = failure_of(answer(b"", 429, ratelimit_reset=str(int(NOW.timestamp()) + 7)), now=NOW)
    assert isinstance(by_our_clock, RateLimited)
    assert by_our_clock.delay_s == 7.0


@pytest.mark.parametrize("reset", ["", "soon", "-5", "1e9", "9" * 40, "١٢"])
def test_a_senseless_reset_is_no_reset(reset: str) -> None:
    failure = failure_of(answer(b"", 429, ratelimit_reset=reset, date="nonsense"), now=NOW)
    assert isinstance(failure, RateLimited)
    assert failure.delay_s is None


def test_foreign_bodies_are_cut_cleaned_and_rid_of_secrets() -> None:
    shown = cut_short(b"a\x1b[31m\n\tb " + SECRET.encode() + b" " + b"x" * 10_000, (SECRET, ""))
    assert shown.startswith("a [31m b *** xxx")
    assert len(shown) == 160
