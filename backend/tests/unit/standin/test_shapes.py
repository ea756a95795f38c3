"""Small rules of the stand-in that need no socket."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep_standin.edge.window import Window, visible_window
from vodkeep_standin.gql.language import QueryError, Selection, parse_query
from vodkeep_standin.helix.budget import PointBucket
from vodkeep_standin.helix.shapes import cursor, cursor_offset, duration
from vodkeep_standin.media.model import Rendition, Segment
from vodkeep_standin.media.recipe import Recipe, Span
from vodkeep_standin.scenario.builtin import scenario_named
from vodkeep_standin.scenario.model import Scenario, Video
from vodkeep_standin.scenario.synthetic import SyntheticCatalog
from vodkeep_standin.serving.ranges import RangeNotSatisfiable, parse_range
from vodkeep_standin.serving.routes import find_route, route

NEWEST = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (50, "50s"), (60, "1m0s"), (3605, "1h0m5s"), (11313.9, "3h8m33s"), (172799, "47h59m59s")],
)
def test_durations_are_written_like_twitch(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.integers(min_value=0, max_value=10**9))
def test_cursors_keep_their_offset(offset: int) -> None:
    assert cursor_offset(cursor(offset)) == offset


@pytest.mark.parametrize("text", ["", "x", "e30=", "bnVsbA==", "eyJhIjp7Ik9mZnNldCI6LTF9fQ==", "💥"])
def test_foreign_cursors_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        cursor_offset(text)


def test_bucket_fills_up_evenly() -> None:
    bucket = PointBucket(60, 1000.0)
    assert all(bucket.take(1000.0) for _ in range(60))
    assert not bucket.take(1000.0)
    assert bucket.headers(1000.0) == {
        "Ratelimit-Limit": "60",
        "Ratelimit-Remaining": "0",
        "Ratelimit-Reset": "1060",
    }
    assert bucket.take(1001.0)
    assert not bucket.take(1001.0)
    assert bucket.headers(2000.0)["Ratelimit-Remaining"] == "60"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-999", (0, 100)),
        ("bytes=99-", (99, 1)),
        ("bytes=-1", (99, 1)),
        ("bytes=-500", (0, 100)),
        ("bytes=-", None),
        ("bytes=7-6", None),
        ("bytes=0-1,5-6", None),
        ("items=0-1", None),
    ],
)
def test_ranges(header: str, expected: tuple[int, int] | None) -> None:
    assert parse_range(header, 100) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=-0", "bytes=500-600"])
def test_ranges_outside_the_body(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range(header, 100)


# GraphQL ------------------------------------------------------------------------------------------------------------


def test_query_with_everything_we_read() -> None:
    text = """
    query Q($v: ID!, $n: Int = 5) { # comment
      a: video(id: $v, flags: [1, 2.5, true], nested: {deep: "x\\"y", kind: ENUM}) { id, ... on Video { title } }
      user(login: null) { id }
    }"""
    video, user = parse_query(text, {"v": "7"})
    assert (video.name, video.alias) == ("video", "a")
    assert video.arguments == {"id": "7", "flags": [1, 2.5, True], "nested": {"deep": 'x"y', "kind": "ENUM"}}
    assert [selection.name for selection in video.selections] == ["id", "title"]
    assert user == Selection("user", "user", {"login": None}, (Selection("id", "id", {}, ()),))


@given(st.text(alphabet='{}()[]:$"\\.,ab1 !\n#', max_size=60))
def test_no_text_breaks_the_query_reader(text: str) -> None:
    with contextlib.suppress(QueryError):
        assert parse_query(text, {})


# Media and time -----------------------------------------------------------------------------------------------------


def rendition(*durations: float) -> Rendition:
    segments = tuple(Segment(f"{n}.ts", length, 1, 0, 1, 1) for n, length in enumerate(durations))
    return Rendition("chunked", "360p30", "", 1, 640, 360, 30.0, segments)


@pytest.mark.parametrize(
    ("elapsed_s", "segments", "length_s"),
    [(0, 1, 2.0), (3.9, 1, 2.0), (4, 2, 4.0), (5, 3, 5.0), (100, 3, 5.0)],
)
def test_only_complete_segments_are_visible(elapsed_s: float, segments: int, length_s: float) -> None:
    assert visible_window(rendition(2, 2, 1), elapsed_s, ended=False) == Window(segments, length_s, ended=False)


def test_recipe_key_depends_on_everything() -> None:
    recipes = [
        Recipe(),
        Recipe(runs_s=(31,)),
        Recipe(codec="hevc"),
        Recipe(fragmented=True),
        Recipe(sound="mp3"),
        Recipe(muted=(Span(1, 2),)),
        Recipe(hue_degrees=1),
    ]
    assert len({recipe.key for recipe in recipes}) == len(recipes)
    assert Recipe().key == Recipe().key


# Scenarios ----------------------------------------------------------------------------------------------------------


def test_test_scenario_is_the_same_every_time() -> None:
    assert scenario_named("test") == scenario_named("test")


@pytest.mark.parametrize("name", ["", "opera", "catalog", "catalog:", "catalog:0", "catalog:-1", "catalog:x"])
def test_unknown_scenarios_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="unknown scenario"):
        scenario_named(name)


@given(
    count=st.integers(1, 40),
    ages_h=st.lists(st.integers(-100, 1000), max_size=8),
    offset=st.integers(0, 50),
    size=st.integers(1, 20),
)
def test_listing_merges_stored_and_synthetic_videos_in_order(
    count: int, ages_h: list[int], offset: int, size: int
) -> None:
    source = SyntheticCatalog("lumen_plays", count, NEWEST)
    scenario: Scenario = scenario_named("catalog:1")
    scenario.sources = (source,)
    for number, age_h in enumerate(ages_h):
        scenario.put_video(
            Video(str(5_000_000_000 + number), "lumen_plays", "stored", NEWEST - timedelta(hours=age_h, minutes=1))
        )
    listing = scenario.listing("lumen_plays", frozenset({"archive"}))
    everything = list(listing.page(0, 1000))
    assert len(everything) == len(listing) == count + len(ages_h)
    assert len({video.id for video in everything}) == len(everything)
    dates = [video.created_at for video in everything]
    assert dates == sorted(dates, reverse=True)
    assert list(listing.page(offset, size)) == everything[offset : offset + size]


def test_synthetic_videos_are_found_by_id() -> None:
    source = SyntheticCatalog("lumen_plays", 100_000, NEWEST, seed=3)
    assert source.find(source.at(77_777).id) == source.at(77_777)
    assert source.find("1") is None
    assert source.find("x") is None
    assert source.at(0).created_at == NEWEST
    with pytest.raises(IndexError):
        source.at(100_000)


# Routes -------------------------------------------------------------------------------------------------------------


def test_routes_belong_to_their_hosts() -> None:
    async def handler(call: object) -> object:
        return call

    routes = [route("GET", "*.example.org", "/a/{name}.ts", handler)]  # type: ignore[arg-type]
    found = find_route(routes, "GET", "x.example.org", "/a/7.ts")
    assert not isinstance(found, int)
    assert found[1] == {"name": "7"}
    assert not isinstance(find_route(routes, "HEAD", "127.0.0.1", "/a/7.ts"), int)
    assert find_route(routes, "POST", "x.example.org", "/a/7.ts") == 405
    assert find_route(routes, "GET", "example.org", "/a/7.ts") == 404
    assert find_route(routes, "GET", "x.example.org", "/a/7xts") == 404
    assert find_route(routes, "GET", "x.example.org", "/a/b/7.ts") == 404
