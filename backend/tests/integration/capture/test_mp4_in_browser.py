"""Finished files in a real Chromium, over HTTP ranges: they open, seek to the right picture and play to the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, Page, async_playwright

from support.browser import CHROMIUM, FLAGS, LOOK, OPEN, PLAY, SEEK
from support.mp4_media import lay_out, make_coloured, make_fragments
from vodkeep.capture.fragment import read_fragment, read_init, with_sets_in_band
from vodkeep.capture.model import Chapter
from vodkeep.capture.mp4_index import Movie
from vodkeep.capture.samples import SegmentSamples
from vodkeep.capture.transport_stream import read_transport_stream

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

PAGE = "<!doctype html><video id=video muted preload=auto src=/media/movie.mp4></video>"

Open = Callable[[], Awaitable[Page]]

MOST_BYTES = 1024 * 1024


def answer_range(request: web.Request, path: Path) -> web.Response:
    """At most `MOST_BYTES` of the range that is asked for; no file stays open when the player turns away."""
    asked = request.http_range
    size = path.stat().st_size
    start = asked.start or 0
    end = min(size, start + MOST_BYTES, size if asked.stop is None else asked.stop)
    with path.open("rb") as file:
        file.seek(start)
        body = file.read(end - start)
    headers = {"Content-Range": f"bytes {start}-{end - 1}/{size}", "Accept-Ranges": "bytes"}
    return web.Response(status=206, body=body, headers=headers, content_type="video/mp4")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for all tests here, so that they can share a browser: its start takes longer than most of them."""
    return "asyncio"


@pytest.fixture(scope="module")
async def started_browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        await started.close()


@pytest.fixture
async def browser(started_browser: Browser) -> AsyncIterator[Browser]:
    """A browser that has no page and remembers nothing."""
    yield started_browser
    for context in started_browser.contexts:
        await context.close()


@pytest.fixture
async def open_page(tmp_path: Path, browser: Browser) -> AsyncIterator[Open]:
    """Opens a page with a video element on ``movie.mp4`` in ``tmp_path``."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def film(request: web.Request) -> web.Response:
        return answer_range(request, tmp_path / "movie.mp4")

    app = web.Application()
    app.router.add_get("/", answer)
    app.router.add_get("/media/movie.mp4", film)
    async with TestServer(app, host="127.0.0.1") as server:

        async def open_it() -> Page:
            page = await browser.new_page()
            await page.goto(str(server.make_url("/")), wait_until="commit")
            return page

        yield open_it


async def seek(page: Page, seconds: float) -> float:
    return float(await page.evaluate(SEEK, seconds))


def put_off(segments: list[SegmentSamples], seconds: int) -> None:
    for segment in segments:
        for track in segment.tracks:
            track.dts += seconds * track.format.timescale


@pytest.mark.parametrize(
    ("reserve", "apart"),
    [
        pytest.param(100_000, 0, id="index in front"),
        pytest.param(1000, 0, id="index behind the media"),
        pytest.param(100_000, 3 << 30, id="ten gigabytes"),
    ],
)
async def test_a_movie_opens_seeks_and_plays(reserve: int, apart: int, tmp_path: Path, open_page: Open) -> None:
    laid = lay_out(tmp_path / "movie.mp4", make_fragments().samples(), reserve=reserve, apart=apart)
    laid.write_index(Movie("title", chapters=(Chapter(0, 2_000_000, "one"), Chapter(2_000_000, 6_000_000, "two"))))
    page = await open_page()
    opened = await page.evaluate(OPEN)
    assert opened == {"duration": pytest.approx(6.04, abs=0.03), "width": 256, "height": 144}
    for seconds in (3.5, 0.2, 5.9, 1.0):
        # The first picture stands at 67 ms, then there is one every 33 ms.
        assert await seek(page, seconds) == pytest.approx(seconds, abs=0.034)
    played = await page.evaluate(PLAY, 0)
    assert played["time"] == pytest.approx(6.06, abs=0.05)
    assert played["frames"] >= 170


async def test_it_plays_on_behind_a_hole(tmp_path: Path, open_page: Open) -> None:
    segments = make_fragments().samples()
    put_off(segments[1:], 7)
    lay_out(tmp_path / "movie.mp4", segments).write_index()
    page = await open_page()
    assert (await page.evaluate(OPEN))["duration"] == pytest.approx(13.04, abs=0.03)
    # In the hole stands the last picture before it, behind it the right one.
    assert await seek(page, 5) == pytest.approx(2.05, abs=0.07)
    assert await seek(page, 12) == pytest.approx(12, abs=0.034)
    played = await page.evaluate(PLAY, 1)
    assert played["time"] == pytest.approx(13.04, abs=0.05)


@pytest.mark.parametrize(
    ("video", "audio", "width"), [("av1", "opus", 256), ("h264-no-b", "flac", 256), (None, "aac", 0)]
)
async def test_other_codecs_play(video: str | None, audio: str, width: int, tmp_path: Path, open_page: Open) -> None:
    lay_out(tmp_path / "movie.mp4", make_fragments(video, audio).samples()).write_index()
    page = await open_page()
    opened: dict[str, Any] = await page.evaluate(OPEN)
    assert (opened["duration"], opened["width"]) == (pytest.approx(6.02, abs=0.03), width)
    assert await seek(page, 4.5) == pytest.approx(4.5, abs=0.034)
    assert (await page.evaluate(PLAY, 0))["time"] == pytest.approx(6.02, abs=0.05)


# Two encoders of the same broadcast, one after the other.
MAIN = ("-c:v", "libx264", "-preset", "veryfast", "-profile:v", "main", "-bf", "0")
HIGH = ("-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high", "-bf", "3", "-refs", "4")


def in_two_encodings(size: str, *, fragments: bool) -> list[SegmentSamples]:
    """Four seconds of blue, then four of red by another encoder, of this size."""
    parts = (
        make_coloured("blue", *MAIN, fragments=fragments),
        make_coloured("red", *HIGH, size=size, fragments=fragments),
    )
    if fragments:
        inits = with_sets_in_band(dict(enumerate(read_init(part.init) for part in parts)))
        blue, red = ([read_fragment(body, inits[number]) for body in part.bodies] for number, part in enumerate(parts))
    else:
        blue, red = ([read_transport_stream(body) for body in part.bodies] for part in parts)
        put_off([*blue, *red], -1)  # ffmpeg begins a transport stream at 1.4 s.
    put_off(red, 4)
    return [*blue, *red]


@pytest.mark.parametrize("size", ["256x144", "320x180"], ids=["same size", "other size"])
@pytest.mark.parametrize("fragments", [True, False], ids=["fragments", "transport streams"])
async def test_it_plays_on_where_the_encoding_changes(
    fragments: bool, size: str, tmp_path: Path, open_page: Open
) -> None:
    """Also from there at once, and back again: what was decoded before says nothing about what comes."""
    lay_out(tmp_path / "movie.mp4", in_two_encodings(size, fragments=fragments)).write_index()
    first, second = [256, 144], [int(side) for side in size.split("x")]
    page = await open_page()
    await page.evaluate(OPEN)
    for seconds, colour, shape in [
        (1.5, "blue", first),
        (5.8, "red", second),
        (2.5, "blue", first),
        (7, "red", second),
    ]:
        assert await seek(page, seconds) == pytest.approx(seconds, abs=0.1)
        assert await page.evaluate(LOOK) == [colour, *shape]
    played = await page.evaluate(PLAY, 0)
    assert played["frames"] >= 230
    directly = await open_page()
    await directly.evaluate(OPEN)
    assert await seek(directly, 6.5) == pytest.approx(6.5, abs=0.1)
    assert await directly.evaluate(LOOK) == ["red", *second]
