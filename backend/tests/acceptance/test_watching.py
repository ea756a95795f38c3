"""A person at the page: sees a download move, then plays and seeks the finished file, in a real Chromium."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from support.home import HomeOf, check_kept
from support.service import wait_until
from support.slow import slow_segments
from vodkeep_standin.scenario import ids

CHROMIUM = Path(os.environ.get("CHROMIUM_PATH", "/usr/bin/chromium"))
SCREENSHOTS = Path(__file__).resolve().parents[3] / "screenshots"

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no Chromium at {CHROMIUM}"),
]


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


def test_a_person_watches_it_work(home_of: HomeOf, browser: Browser) -> None:
    home = home_of(ids.PLAIN, ids.SUB_ONLY)
    slow_segments(home.standin, 600)
    service = home.start(CAPTURE_CONNECTIONS="2")
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(service.url) else complaints.append(asked.url))
    service.wait_for("download started", vod_id=ids.PLAIN)
    page.goto(service.url)

    # The bar moves.
    row = page.locator("#now .row")
    expect(row).to_contain_text("A plain evening")
    figures = row.locator('[data-field="percent"]')
    expect(figures).not_to_have_text("", timeout=30_000)
    bar = row.locator("progress")

    def share() -> float:
        return float(bar.evaluate("bar => bar.value"))

    shares = [share()]
    for _ in range(2):
        wait_until(lambda: share() > shares[-1], "the bar moves")
        shares.append(share())
    assert shares[-1] < 100
    take(page, "downloading")

    # It is kept, and the other one says why it is not.
    kept = page.locator(f'#vods .row[data-id="{ids.PLAIN}"]')
    expect(kept.locator('[data-field="state"]')).to_have_text("Kept", timeout=60_000)
    expect(page.locator("#now .row")).to_have_count(0)
    parked = page.locator(f'#vods .row[data-id="{ids.SUB_ONLY}"]')
    expect(parked).to_contain_text("is for subscribers only", timeout=30_000)
    expect(parked.locator('[data-field="play"]')).to_be_hidden()
    check_kept(home, ids.PLAIN)

    # It plays.
    kept.locator('[data-field="play"]').click()
    video = page.locator("#watch-video")
    expect(video).to_be_visible()
    video.evaluate("video => { video.muted = true; return video.play(); }")
    wait_until(lambda: video.evaluate("video => video.currentTime") > 1.5, "it plays")
    duration_s = video.evaluate("video => video.duration")
    assert duration_s == pytest.approx(home.standin.media(ids.PLAIN).duration_s, abs=0.2)
    assert video.evaluate("video => [video.videoWidth, video.videoHeight]") == [640, 360]
    take(page, "playing")

    # Seeking near the end fetches that part and not the whole.
    video.evaluate("video => { video.currentTime = video.duration - 3; }")
    wait_until(lambda: video.evaluate("v => !v.seeking && v.currentTime > v.duration - 2.5"), "it plays from there")
    wait_until(lambda: video.evaluate("video => video.ended"), "it ends")
    asked = service.lines("request", path=f"/media/{ids.PLAIN}/video.mp4")
    assert asked
    assert {line["status"] for line in asked} == {206}
    assert video.evaluate("video => video.error") is None
    assert video.evaluate("video => video.getVideoPlaybackQuality().totalVideoFrames") > 60

    page.locator("#watch-close").click()
    expect(page.locator("#watch")).to_be_hidden()
    take(page, "kept")
    assert complaints == []
    page.close()


def take(page: Page, name: str) -> None:
    """A picture for people; the folder is not part of the repository."""
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"watching-{name}.png", full_page=True)
