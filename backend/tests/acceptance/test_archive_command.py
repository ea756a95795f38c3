"""``vodkeep archive``: one VOD, now, without an account."""

from __future__ import annotations

import json
import os
import pty
import re
from datetime import UTC, datetime

import pytest

from support.home import HomeOf, check_kept
from support.service import wait_until
from support.slow import slow_segments
from vodkeep_standin.scenario import ids

ADDRESS = "https://www.twitch.tv/videos/{}?t=1h2m3s"


@pytest.mark.cold_start
def test_a_vod_is_kept_and_the_second_time_nothing_is_fetched(home_of: HomeOf, dsn: str | None) -> None:
    home = home_of(ids.PLAIN, dsn=dsn)
    done = home.archive(ADDRESS.format(ids.PLAIN))
    assert (done.returncode, done.stderr) == (0, ""), done
    assert f"Kept: {home.folder(ids.PLAIN)}" in done.stdout
    check_kept(home, ids.PLAIN)
    assert json.loads((home.folder(ids.PLAIN) / "emotes.json").read_bytes())["vod_id"] == ids.PLAIN
    assert home.leftovers() == []
    assert home.standin.requests.entries("/helix/*") == home.standin.requests.entries("/oauth2/*") == []

    since = datetime.now(UTC)
    done = home.archive(ids.PLAIN)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert home.segment_requests(ids.PLAIN, since=since).total() == 0
    check_kept(home, ids.PLAIN)
    assert len(home.folders()) == 1


def test_killed_in_the_middle_it_goes_on(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    slow_segments(home.standin, 300)
    running = home.start_archive(ids.PLAIN, CAPTURE_CONNECTIONS="2")
    try:
        wait_until(lambda: len(home.journal(ids.PLAIN)) >= 5 or running.poll() is not None, "segments are proven")
    finally:
        running.kill()
        running.wait()
    killed_at = datetime.now(UTC)
    proven = home.journal(ids.PLAIN)
    wait_until(lambda: home.processes() == {}, "children end with the command")
    done = home.archive(ids.PLAIN)
    assert done.returncode == 0, done
    assert not set(home.segment_requests(ids.PLAIN, since=killed_at)) & set(proven)
    check_kept(home, ids.PLAIN)
    assert home.leftovers() == []


@pytest.mark.parametrize(
    ("address", "code", "words"),
    [
        pytest.param(ids.SUB_ONLY, 1, "is for subscribers only", id="sub-only"),
        pytest.param(ids.DELETED, 1, "does not exist on Twitch", id="deleted"),
        pytest.param("9999999999", 1, "does not exist on Twitch", id="unknown"),
        pytest.param(ids.RECORDING, 1, "is still being recorded", id="still-recording"),
        pytest.param("https://example.org/videos/1", 2, "is not a Twitch video", id="elsewhere"),
        pytest.param("https://www.twitch.tv/lumen_plays", 2, "is not the page of a video", id="not-a-vod"),
    ],
)
def test_what_cannot_be_kept_is_one_sentence(home_of: HomeOf, address: str, code: int, words: str) -> None:
    home = home_of(ids.SUB_ONLY, ids.DELETED, ids.RECORDING)
    done = home.archive(address)
    assert done.returncode == code, done
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert said.count(words) == 1, said
    assert home.folders() == []
    assert home.leftovers() == []
    if code == 2:
        assert len(said.splitlines()) == 1
        assert not home.data_dir.exists() or not list(home.data_dir.iterdir())


def test_a_vod_with_a_hole_is_not_a_success(home_of: HomeOf) -> None:
    home = home_of(ids.MISSING_SEGMENT)
    done = home.archive(ids.MISSING_SEGMENT, DOWNLOAD_MAX_ATTEMPTS="1")
    assert done.returncode == 1, done
    assert "What could be captured:" in done.stdout
    folder, row = home.folder(ids.MISSING_SEGMENT), home.vod(ids.MISSING_SEGMENT)
    assert (folder / "video.mp4").exists()
    assert (folder / "chat.ndjson.zst").exists()
    assert (row["processed"], row["chat_completeness"]) == (0, 1.0)
    assert row["chat_messages"] == home.manifest(ids.MISSING_SEGMENT)["chat"]["messages"]


def test_beside_a_service_it_is_handed_over(home_of: HomeOf) -> None:
    """The service keeps another channel, so nothing but the command can have asked for this one."""
    home = home_of(ids.OTHER_PLAIN)
    service = home.start(TWITCH_CHANNEL="lumen_plays", TWITCH_CHANNELS="")
    service.wait_for("twitch app token acquired")
    done = home.archive(ids.OTHER_PLAIN)
    assert done.returncode == 0, done
    assert "service works on this database" in done.stdout
    service.wait_for("vod processed", vod_id=ids.OTHER_PLAIN)
    assert f"Kept: {home.folder(ids.OTHER_PLAIN, ids.OTHER_CHANNEL)}" in done.stdout
    assert set(home.segment_requests(ids.OTHER_PLAIN).values()) == {1}


@pytest.mark.postgres
def test_a_service_that_starts_meanwhile_leaves_the_item_to_the_command(home_of: HomeOf, postgres_dsn: str) -> None:
    """Its row looks like one that a killed process left; the lease of the run says that somebody is at it."""
    home = home_of(ids.PLAIN, dsn=postgres_dsn)
    slow_segments(home.standin, 400)
    running = home.start_archive(ids.PLAIN, CAPTURE_CONNECTIONS="1")
    try:
        wait_until(lambda: len(home.journal(ids.PLAIN)) >= 1 or running.poll() is not None, "segments are proven")
        service = home.start()
        service.wait_for("started")
        assert running.poll() is None, "it is still at work"
        assert running.wait(60) == 0
    finally:
        running.kill()
        running.wait()
    assert service.lines("download started") == []
    # One claim for the picture and one for the chat.
    assert home.vod(ids.PLAIN)["generation"] == 2
    check_kept(home, ids.PLAIN)


def test_the_bar_moves(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    slow_segments(home.standin, 400)
    ours, theirs = pty.openpty()
    running = home.start_archive(ids.PLAIN, streams=theirs, CAPTURE_CONNECTIONS="2", TERM="xterm", COLUMNS="120")
    os.close(theirs)
    shown = b""
    try:
        while chunk := _read(ours):
            shown += chunk
    finally:
        os.close(ours)
        running.wait(60)
    assert running.returncode == 0, shown.decode()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "resolving" in text
    seen = [float(done) for done in re.findall(r"fetching[^\r\n]*?([0-9.]+)/[0-9.]+ MB", text)]
    assert seen == sorted(seen)
    assert len(set(seen)) >= 4, text
    assert re.search(r"[0-9.]+ [kM]B/s 0:00:0[1-9] left", text), text
    shares = [int(share) for share in re.findall(r"fetching[^\r\n]*? ([0-9]+)%", text)]
    assert shares == sorted(shares)
    assert len(set(shares)) >= 4, text
    assert "Kept:" in text
    check_kept(home, ids.PLAIN)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""  # The other side is closed.
