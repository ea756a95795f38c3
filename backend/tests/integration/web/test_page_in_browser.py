"""The status page in a real Chromium: what a person sees, on a desk and on a phone, in both schemes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import anyio
import imageio_ffmpeg
import pytest
from aiohttp import web
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect
from sqlalchemy import insert, text, update

from support.clock import START
from support.web_site import RunningWork, Serve, Site, add_vod, keep_vod, moment
from vodkeep.capture.model import Phase, Progress
from vodkeep.db.engine import Database
from vodkeep.db.events import EventLog
from vodkeep.db.leases import PROCESS_PREFIX, LeaseStore
from vodkeep.db.tables import oauth_tokens, vods
from vodkeep.keep.manifest import LedgerEntry, Manifest, write_manifest
from vodkeep.pipeline.breaker import Breaker, BreakerPhase
from vodkeep.pipeline.health_store import HealthStore
from vodkeep.pipeline.roles import ProcessNote, Role

CHROMIUM = os.environ.get("CHROMIUM_PATH") or shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
    # The page cannot tell one database from the other.
    pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True),
]

HOSTILE = '<img src=x onerror="document.title=1">&amp; "Füße" 😀 \u202egnp.exe'


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for all tests here, so that they can share a browser: its start takes longer than most of them."""
    return "asyncio"


@pytest.fixture(scope="module")
async def started_browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        await started.close()


@pytest.fixture
async def browser(started_browser: Browser) -> AsyncIterator[Browser]:
    """A browser that has no page and remembers nothing."""
    yield started_browser
    for context in started_browser.contexts:
        await context.close()


class Watched:
    """A page that must stay silent: no error, no refused resource, nothing asked of another site."""

    def __init__(self, page: Page, site: Site) -> None:
        self.page, self._site = page, site
        self.complaints: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._on_request(request.url))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def _on_request(self, url: str) -> None:
        if not url.startswith((self._site.url, "data:")):
            self.complaints.append(f"asked {url}")

    async def open(self, path: str = "/") -> Page:
        await self.page.goto(self._site.url + path)
        await expect(self.page.locator("#connection-word")).to_have_text("Live")
        return self.page


def make_video(path: Path) -> None:
    """Two seconds of H.264 and AAC, index at the front."""
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=15:d=2",
         "-f", "lavfi", "-i", "sine=d=2", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p",
         "-c:a", "aac", "-movflags", "+faststart", str(path)],
        check=True,
        timeout=60,
    )  # fmt: skip


@pytest.fixture
def archive(database: Database, data_dir: Path) -> RunningWork:
    """An item in every state that matters, one of them at work."""
    folder = keep_vod(database, data_dir, "kept", title="Chill build stream", date=moment(-30))
    make_video(folder / "video.mp4")
    # Not a picture: the row shows its placeholder and the page does not complain about the element.
    (folder / "thumbnail.jpg").unlink()
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", str(folder / "video.mp4"), "-frames:v", "1",
         str(folder / "thumbnail.jpg")], check=True, timeout=60,
    )  # fmt: skip
    add_vod(database, "busy", title="any% WR attempts", download_state="downloading", date=moment(-8), download_bytes=1)
    add_vod(database, "hostile", title=HOSTILE, date=moment(-2))
    add_vod(
        database, "long", title="x" * 300, date=moment(-3), download_state="waiting", not_before=START + timedelta(1)
    )
    add_vod(
        database, "parked", date=moment(-4), download_state="parked", error_code="sub_only",
        processing_error="This broadcast is for subscribers only.",
    )  # fmt: skip
    with database.unit_of_work() as unit:
        EventLog(unit.connection).append("kept", at=moment(-1), kind="discovered", sentence="Found.")
        EventLog(unit.connection).append("kept", at=moment(-1), kind="state", to_state="done", sentence="All there.")
        unit.commit()
    return RunningWork({"busy": Progress(Phase.FETCHING, 420_000_000, 1_000_000_000, 42, 100, 38_000_000, 95)})


async def test_what_is_kept_queued_and_at_work_is_on_the_page(
    serve_site: Serve, browser: Browser, archive: RunningWork
) -> None:
    async with serve_site(work=archive) as site:
        watched = Watched(await browser.new_page(), site)
        page = await watched.open()
        busy = page.locator("#now .row")
        await expect(busy).to_have_count(1)
        await expect(busy).to_contain_text("any% WR attempts")
        await expect(busy).to_contain_text("42.0 %")
        await expect(busy).to_contain_text("420 MB of 1.0 GB")
        await expect(busy).to_contain_text("38 MB/s")
        await expect(busy).to_contain_text("1 min 35 s left")
        await expect(page.get_by_role("progressbar", name="Progress of any% WR attempts")).to_be_visible()
        await expect(page.locator("#vods .row")).to_have_count(5)
        await expect(page.locator('[data-id="parked"]')).to_contain_text("Needs you")
        await expect(page.locator('[data-id="parked"]')).to_contain_text("This broadcast is for subscribers only.")
        await expect(page.locator('[data-id="long"]')).to_contain_text("Still live")
        await expect(page.locator('[data-id="kept"] img')).to_be_visible()
        await expect(page.locator("#channels")).to_contain_text("1 kept, 4 to do")
        # The text of others stays text.
        assert await page.locator('[data-id="hostile"] .row-title').text_content() == HOSTILE
        assert await page.title() == "Vodkeep"
        assert watched.complaints == []


async def test_accounts_are_shown_with_what_to_do_about_them(
    serve_site: Serve, browser: Browser, database: Database
) -> None:
    refused = {"state": "refused", "reason": "YouTube does not take the grant any more."}
    with database.unit_of_work() as unit:
        unit.connection.execute(insert(oauth_tokens).values(provider="youtube", access_token="t0ken", **refused))
        unit.commit()
    env = {"TWITCH_CLIENT_ID": "id", "TWITCH_CLIENT_SECRET": "secret", "TWITCH_REDIRECT_URI": "http://localhost/cb"}
    async with serve_site(env=env) as site:
        watched = Watched(await browser.new_page(), site)
        page = await watched.open()
        accounts = page.locator("#accounts")
        await expect(accounts).to_contain_text("Connect the account again")
        await expect(accounts).to_contain_text("Not set up: YT_CLIENT_ID")
        await expect(page.get_by_role("button", name="Connect Twitch", exact=True)).to_be_visible()
        assert "t0ken" not in await page.content()
        await page.get_by_role("button", name="Disconnect YouTube").click()
        await expect(page.locator("#accounts-error")).to_contain_text("myaccount.google.com")
        await expect(page.get_by_role("button", name="Disconnect YouTube")).to_have_count(0)
        assert watched.complaints == []


async def test_progress_moves_and_ends_without_a_reload(
    serve_site: Serve, browser: Browser, archive: RunningWork, database: Database, data_dir: Path
) -> None:
    async with serve_site(work=archive) as site:
        watched = Watched(await browser.new_page(), site)
        page = await watched.open()
        bar = page.get_by_role("progressbar")
        await expect(bar).to_have_js_property("value", 42)
        archive.snapshots["busy"] = Progress(Phase.FETCHING, 900_000_000, 1_000_000_000, 90, 100, 40_000_000, 3)
        await expect(bar).to_have_js_property("value", 90)
        archive.snapshots.clear()
        with database.unit_of_work() as unit:
            unit.connection.execute(
                update(vods)
                .where(vods.c.twitch_vod_id == "busy")
                .values(download_state="done", processed=1, downloaded_path="otter/busy")
            )
            unit.commit()
        await expect(page.locator("#now .row")).to_have_count(0)
        await expect(page.locator("#now-empty")).to_be_visible()
        await expect(page.locator('[data-id="busy"] .state')).to_have_text("Kept")
        await expect(page.locator('[data-id="busy"] .play')).to_be_visible()
        await expect(page.locator("#announcer")).to_have_text("any% WR attempts: Kept")


async def test_a_kept_broadcast_plays_and_seeks_by_keyboard_alone(
    serve_site: Serve, browser: Browser, archive: RunningWork
) -> None:
    async with serve_site(work=archive) as site:
        watched = Watched(await browser.new_page(), site)
        page = await watched.open()
        await page.get_by_role("link", name="Play Chill build stream").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("#watch-title")).to_be_focused()
        await expect(page.locator("#watch-title")).to_have_text("Chill build stream")
        video = page.locator("#watch-video")
        await expect(video).to_be_visible()
        await expect(video).to_have_js_property("readyState", 4)
        assert await video.evaluate("v => v.duration") == pytest.approx(2, abs=0.2)
        await video.evaluate(
            "async (v) => { v.muted = true; v.currentTime = 1.5;"
            " await new Promise((r) => v.onseeked = r); await v.play() }"
        )
        await expect(video).to_have_js_property("ended", True)
        await expect(page.locator("#watch-events")).to_contain_text("All there.")
        await page.keyboard.press("Escape")
        await expect(page.locator("#watch")).to_be_hidden()
        await expect(page.get_by_role("link", name="Play Chill build stream")).to_be_focused()
        assert watched.complaints == []


async def test_a_person_cancels_tries_again_and_has_it_checked(
    serve_site: Serve, browser: Browser, archive: RunningWork, database: Database
) -> None:
    def asked(vod_id: str) -> list[tuple[str | None, str | None]]:
        with database.unit_of_work(write=False) as unit:
            return [(each.to_state, each.asked_by) for each in EventLog(unit.connection).of_item(vod_id)]

    async with serve_site(work=archive) as site:
        watched = Watched(await browser.new_page(), site)
        page = await watched.open("/#watch=parked")
        again, cancel = page.get_by_role("button", name="Try again now"), page.get_by_role("button", name="Cancel")
        await expect(page.get_by_role("button", name="Check again")).to_be_hidden()
        await again.focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("#watch-meta")).to_contain_text("Queued")
        await expect(again).to_be_hidden()
        await expect(page.locator("#watch-title")).to_be_focused()
        await cancel.click()
        await expect(page.locator("#watch-meta")).to_contain_text("Canceled")
        await expect(again).to_be_visible()
        assert asked("parked") == [("pending", "api"), ("canceled", "api")]

        await page.goto(site.url + "/#watch=kept")
        await page.get_by_role("button", name="Check again").click()
        await expect(page.locator("#watch-meta")).to_contain_text("Queued")
        assert asked("kept")[-1] == ("pending", "api")
    assert watched.complaints == []


async def test_what_the_service_refuses_is_said_where_it_was_asked(
    serve_site: Serve, browser: Browser, archive: RunningWork, database: Database
) -> None:
    async with serve_site(work=archive) as site:
        page = await Watched(await browser.new_page(), site).open("/#watch=parked")
        await expect(page.get_by_role("button", name="Try again now")).to_be_visible()
        # The page learns of it only at its next look.
        await page.route("**/api/v1/vods?**", lambda route: route.abort())
        with database.unit_of_work() as unit:
            finished = update(vods).where(vods.c.twitch_vod_id == "parked")
            unit.connection.execute(finished.values(download_state="done", processed=1, processing_error=None))
            unit.commit()
        await page.get_by_role("button", name="Try again now").click()
        await expect(page.locator("#watch-error")).to_contain_text("is done")


@asynccontextmanager
async def another_site() -> AsyncIterator[int]:
    """A site on this machine, by its port: Chromium lets no other one ask something of loopback at all."""

    async def page(_request: web.BaseRequest) -> web.Response:
        return web.Response(text="<h1>Evil</h1>", content_type="text/html")

    runner = web.ServerRunner(web.Server(page))
    await runner.setup()
    server = web.TCPSite(runner, "127.0.0.1", 0)
    await server.start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def test_a_page_of_another_site_can_do_nothing_with_this_browser(
    serve_site: Serve, browser: Browser, archive: RunningWork, database: Database
) -> None:
    """It sends what a browser lets it send without asking first: a form, and a request whose answer it may not see."""
    async with another_site() as port, serve_site(work=archive) as site:
        page = await browser.new_page()
        # Another port is another origin of the same site; another name for loopback is another site.
        for host in ("127.0.0.1", "localhost"):
            await page.goto(f"http://{host}:{port}/")
            await page.evaluate(
                """async (address) => {
                    await fetch(address, { method: "POST", mode: "no-cors", credentials: "include" }).catch(() => {});
                    const form = Object.assign(document.createElement("form"), { action: address, method: "post" });
                    document.body.append(form);
                    form.submit();
                }""",
                f"{site.url}/api/v1/vods/busy/cancel",
            )
            await page.wait_for_url(f"{site.url}/**")
        assert [line["status"] for line in site.log_lines if line.get("method") == "POST"] == [403] * 4
    with database.unit_of_work(write=False) as unit:
        assert EventLog(unit.connection).of_item("busy") == []


async def test_what_is_not_whole_is_said_to_the_second(
    serve_site: Serve, browser: Browser, database: Database, data_dir: Path
) -> None:
    folder = keep_vod(database, data_dir, "holed", completeness=0.9999, download_state="parked")
    ledger = (
        LedgerEntry(0, 3_600_000, "vod", ""),
        LedgerEntry(3_600_000, 3_960_000, "vod", "muted"),
        LedgerEntry(3_960_000, 3_970_000, "missing", "gone"),
    )
    manifest = Manifest(
        video_id="holed", stream_id=None, channel="otter", channel_name="Otter", title="", date=None,
        duration_ms=3_970_000, completeness=0.9999, rendition="720p60", tools=(), captured_at=START, files=(),
        streams=(), ledger=ledger, chapters=(),
    )  # fmt: skip
    (folder / "manifest.json").write_text(write_manifest(manifest))
    whole = keep_vod(database, data_dir, "whole")
    (whole / "manifest.json").write_text(write_manifest(replace(manifest, ledger=ledger[:1], completeness=1.0)))
    async with serve_site() as site:
        page = await Watched(await browser.new_page(), site).open("/#watch=holed")
        lines = page.locator("#watch-stretches li")
        await expect(lines).to_have_count(2)
        await expect(lines.first).to_contain_text("1:00:00 to 1:06:00")
        await expect(lines.first).to_contain_text("Muted by Twitch.")
        await expect(lines.last).to_contain_text("Missing: Twitch does not have it.")
        await expect(page.locator('[data-id="holed"] .row-meta')).to_contain_text("99.9 % complete")
        await expect(page.locator('[data-id="whole"] .row-meta')).not_to_contain_text("complete")
        await page.goto(site.url + "/#watch=whole")
        await expect(page.locator("#watch-title")).to_have_text("Broadcast whole")
        await expect(page.locator("#watch-ledger")).to_be_hidden()


async def test_the_address_of_a_broadcast_opens_it(serve_site: Serve, browser: Browser, archive: RunningWork) -> None:
    async with serve_site(work=archive) as site:
        page = await Watched(await browser.new_page(), site).open("/#watch=kept")
        await expect(page.locator("#watch-title")).to_have_text("Chill build stream")
        await page.goto(site.url + "/#watch=%3Cb%3E")
        await expect(page.locator("#watch-error")).to_contain_text("no broadcast with this id")
        await page.goto(site.url + "/#watch=%E0%A4%A")
        await expect(page.locator("#watch")).to_be_hidden()


@pytest.mark.parametrize("written", ["https://www.youtube.com/watch?v=abc", "javascript:alert(1)", None])
async def test_what_is_on_youtube_is_linked_and_nothing_else_is(
    written: str | None, serve_site: Serve, browser: Browser, archive: RunningWork, database: Database
) -> None:
    with database.unit_of_work() as unit:
        unit.connection.execute(update(vods).where(vods.c.twitch_vod_id == "kept").values(youtube_url=written))
        unit.commit()
    async with serve_site(work=archive) as site:
        page = await Watched(await browser.new_page(), site).open("/#watch=kept")
        await expect(page.locator("#watch-manifest")).to_be_visible()
        link = page.locator("#watch-youtube")
        if written is not None and written.startswith("https:"):
            await expect(link).to_have_attribute("href", written)
            await expect(link).to_be_visible()
        else:
            await expect(link).to_be_hidden()


async def test_trouble_is_said_and_goes_away_by_itself(
    serve_site: Serve, browser: Browser, archive: RunningWork, database: Database
) -> None:
    async with serve_site(work=archive) as site:
        page = await Watched(await browser.new_page(), site).open()
        with database.unit_of_work() as unit:
            unit.connection.execute(text("ALTER TABLE vods RENAME TO hidden"))
            unit.connection.execute(text("UPDATE alembic_version SET version_num = 'other'"))
            unit.commit()
        await expect(page.locator("#trouble")).to_contain_text("schema of the database")
        await expect(page.locator("#connection-word")).to_have_text("No answer")
        # What was known stays on the page.
        await expect(page.locator("#vods .row")).to_have_count(5)
        with database.unit_of_work() as unit:
            unit.connection.execute(text("ALTER TABLE hidden RENAME TO vods"))
            unit.commit()
        await expect(page.locator("#connection-word")).to_have_text("Live", timeout=20_000)
        await expect(page.locator("#trouble")).to_be_hidden()


async def test_an_open_breaker_stands_out(
    serve_site: Serve, browser: Browser, archive: RunningWork, database: Database
) -> None:
    with database.unit_of_work() as unit:
        HealthStore(unit.connection).save_breaker("otter", Breaker(BreakerPhase.OPEN, 5, moment(24 * 365)), START)
        unit.commit()
    async with serve_site(work=archive) as site:
        page = await Watched(await browser.new_page(), site).open()
        await expect(page.locator("#tile-circuit")).to_contain_text("Open")
        await expect(page.locator("#tile-circuit")).to_have_attribute("data-tone", "danger")
        await expect(page.locator("#channels")).to_contain_text("breaker open")


async def test_the_processes_that_live_are_on_the_page(
    serve_site: Serve, browser: Browser, archive: RunningWork, database: Database
) -> None:
    async with serve_site(work=archive) as site:
        watched = Watched(await browser.new_page(), site)
        page = await watched.open()
        await expect(page.locator("#processes-empty")).to_be_visible()
        note = ProcessNote("attic", 7, (Role.WATCH, Role.WORK), {"capture": 2})
        with database.unit_of_work() as unit:
            LeaseStore(unit.connection).take(f"{PROCESS_PREFIX}a", "a", timedelta(minutes=5), note.write())
            unit.commit()
        await expect(page.locator("#processes li")).to_have_text("atticwatch, work, 2 at once")
        await expect(page.locator("#processes-empty")).to_be_hidden()
        with database.unit_of_work() as unit:
            LeaseStore(unit.connection).release("a")
            unit.commit()
        await expect(page.locator("#processes li")).to_have_count(0)
        assert watched.complaints == []


async def test_older_broadcasts_are_shown_on_demand_and_none_twice(
    serve_site: Serve, browser: Browser, database: Database
) -> None:
    for number in range(120):
        add_vod(database, f"v{number:03}", date=moment(-number))
    async with serve_site() as site:
        page = await Watched(await browser.new_page(), site).open()
        rows = page.locator("#vods .row")
        await expect(rows).to_have_count(50)
        for expected in (100, 120):
            await page.get_by_role("button", name="Show older ones").click()
            await expect(rows).to_have_count(expected)
        await expect(page.get_by_role("button", name="Show older ones")).to_be_hidden()
        ids = await rows.evaluate_all("rows => rows.map(r => r.dataset.id)")
        assert ids == [f"v{number:03}" for number in range(120)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390, 320])
async def test_nothing_sticks_out_and_everything_can_be_hit(
    serve_site: Serve, browser: Browser, archive: RunningWork, width: int, scheme: str
) -> None:
    async with serve_site(work=archive) as site:
        context = await browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light"
        )
        watched = Watched(await context.new_page(), site)
        page = await watched.open("/#watch=kept")
        await expect(page.locator("#watch-video")).to_be_visible()
        await expect(page.locator("#vods .row")).to_have_count(5)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        small = await page.locator("a:visible, button:visible").evaluate_all(
            "els => els.filter(e => e.getBoundingClientRect().height < 24).map(e => e.textContent)"
        )
        assert small == []
        background = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        lightness = float(background.split("(")[1].split()[0].rstrip("%"))
        assert (lightness > 0.9) == (scheme == "light")
        if folder := os.environ.get("SCREENSHOT_DIR"):
            await anyio.Path(folder).mkdir(parents=True, exist_ok=True)
            await page.screenshot(path=f"{folder}/page-{width}-{scheme}-watch.png", full_page=True)
            await page.goto(site.url + "/#")
            await expect(page.locator("#watch")).to_be_hidden()
            await page.screenshot(path=f"{folder}/page-{width}-{scheme}.png", full_page=True)
        assert watched.complaints == []
        await context.close()
