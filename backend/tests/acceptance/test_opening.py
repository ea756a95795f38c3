"""A kept film as a person opens it: from the service, over HTTP ranges, in a real Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Response, sync_playwright

from support.browser import CHROMIUM, FLAGS, OPEN, PLAY, SEEK
from support.home import CHANNEL, HomeOf, check_kept, scenario_with
from support.mp4_media import read_chapters, read_labels
from vodkeep_standin.media.recipe import Recipe
from vodkeep_standin.scenario import ids
from vodkeep_standin.scenario.model import Chapter, Video

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")]

SECONDS = 14
TITLE = "Speedrun ✓ “any%” & more; part = 2"
CHAPTERS = (Chapter(0, "Just Chatting"), Chapter(5, "Hollow Knight: Silksong"), Chapter(11, "Pokémon #1"))
# Large enough that a browser does not simply fetch the whole of it.
RECIPES = {
    "1080p60 in a transport stream": Recipe((SECONDS,), width=1920, height=1080, fps=60, bitrate_kbps=8000),
    "1080p60 in fragments": Recipe((SECONDS,), width=1920, height=1080, fps=60, bitrate_kbps=8000, fragmented=True),
    "AV1 in fragments": Recipe((SECONDS,), width=640, height=360, codec="av1", sound="opus"),
}

# Only as much as has to be known is fetched before somebody plays it.
SHOW = """(address) => {
    const video = document.createElement("video");
    Object.assign(video, {id: "video", muted: true, preload: "metadata", src: address});
    document.body.append(video);
}"""


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*FLAGS, "--autoplay-policy=no-user-gesture-required"]
        )
        yield started
        started.close()


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_film_opens_at_once_seeks_and_says_what_it_is(recipe: Recipe, home_of: HomeOf, browser: Browser) -> None:
    moment = scenario_with(ids.PLAIN).videos[ids.PLAIN].created_at
    video_id = "2700000301"
    home = home_of(Video(video_id, CHANNEL, TITLE, moment, recipe, stream_id="42700000301", chapters=CHAPTERS))
    service = home.start()
    service.wait_for("vod processed", vod_id=video_id, timeout_s=100)
    manifest = check_kept(home, video_id)
    film = home.folder(video_id) / "video.mp4"

    assert read_labels(film) == {
        "title": TITLE,
        "artist": manifest["channel_name"],
        "date": moment.date().isoformat(),
        "comment": f"https://www.twitch.tv/videos/{video_id}",
    }
    ends = [5, 11, pytest.approx(SECONDS, abs=0.1)]
    assert read_chapters(film) == [
        (chapter.start_s, end, chapter.title) for chapter, end in zip(CHAPTERS, ends, strict=True)
    ]

    asked: list[int] = []

    def note(response: Response) -> None:
        first = _first_byte(response)
        if first is not None:
            asked.append(first)

    page = browser.new_page()
    page.goto(service.url, wait_until="domcontentloaded")
    page.on("response", note)
    page.evaluate(SHOW, f"/media/{video_id}/video.mp4")
    opened = page.evaluate(OPEN)
    assert (opened["width"], opened["height"]) == (recipe.width, recipe.height)
    assert opened["duration"] == pytest.approx(SECONDS, abs=0.1)
    # The index was at the beginning: nothing else of the file had to be asked for.
    assert set(asked) == {0}

    frame_s = 1 / recipe.fps
    for seconds in (12.5, 1.5, 7.2):
        assert page.evaluate(SEEK, seconds) == pytest.approx(seconds, abs=2 * frame_s)
    played = page.evaluate(PLAY, SECONDS - 3)
    assert played["time"] == pytest.approx(SECONDS, abs=0.1)
    assert service.lines("request", path=f"/media/{video_id}/video.mp4", status=416) == []
    page.close()


def _first_byte(response: Response) -> int | None:
    """Where in the film the answer begins; ``None`` for anything but a part of it."""
    found = re.match(r"bytes (\d+)-", response.headers.get("content-range", ""))
    return int(found[1]) if found else None
