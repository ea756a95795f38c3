"""``vodkeep verify``: damage is found, told, and mended from what Twitch still offers."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from support import warm
from support.commands import vodkeep
from support.home import Home, HomeOf, check_kept
from support.service import wait_until
from vodkeep_standin.scenario import ids


def damage(home: Home, video_id: str) -> None:
    """Turn one byte of the film round; size and time say nothing of it."""
    video = home.folder(video_id) / "video.mp4"
    times = video.stat()
    with video.open("r+b") as file:
        file.seek(times.st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0xFF]))
    os.utime(video, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_damage_is_found_and_mended_while_the_service_runs(home_of: HomeOf, dsn: str | None) -> None:
    home = home_of(ids.PLAIN, ids.FMP4, dsn=dsn)
    service = home.start()
    for video_id in (ids.PLAIN, ids.FMP4):
        service.wait_for("vod processed", vod_id=video_id)

    whole = vodkeep(home, "verify", "--all", "--deep")
    assert (whole.returncode, whole.stderr) == (0, ""), whole
    assert whole.stdout.endswith("2 items: 2 fine.\n")

    damage(home, ids.PLAIN)
    found = vodkeep(home, "verify", "--all", "--json")
    assert found.returncode == 1
    told = {item["id"]: item for item in json.loads(found.stdout)["items"]}
    assert told[ids.PLAIN]["verdict"] == "damaged"
    assert told[ids.PLAIN]["problems"] == ["video.mp4 has another checksum than the manifest says"]
    assert told[ids.FMP4]["verdict"] == "fine"
    assert home.vod(ids.PLAIN)["download_state"] == "done"  # Looking changes nothing.

    mark = service.mark()
    repaired = vodkeep(home, "verify", ids.PLAIN, "--repair")
    assert repaired.returncode == 1
    assert "It is due again" in repaired.stdout
    service.wait_for("vod processed", vod_id=ids.PLAIN, after=mark)
    check_kept(home, ids.PLAIN)
    wait_until(lambda: home.leftovers() == [], "the work folder is empty")
    assert len(home.folders()) == 2
    after = vodkeep(home, "verify", f"https://www.twitch.tv/videos/{ids.PLAIN}", "--deep")
    assert (after.returncode, after.stderr) == (0, "")
    (event,) = home.sql(f"SELECT code, sentence FROM events WHERE twitch_vod_id='{ids.PLAIN}' AND kind='verify'")
    assert event["code"] == "damaged"
    assert "video.mp4 has another checksum" in event["sentence"]


def test_scrubbing_finds_a_flipped_bit_and_has_it_mended(home_of: HomeOf, dsn: str | None) -> None:
    home = home_of(ids.PLAIN, dsn=dsn)
    assert home.archive(ids.PLAIN).returncode == 0
    whole = vodkeep(home, "scrub")
    assert (whole.returncode, whole.stdout) == (0, "1 item was read, 0 of them damaged.\n"), whole
    assert vodkeep(home, "scrub").stdout == "0 items were read, 0 of them damaged.\n", "once in its interval"

    damage(home, ids.PLAIN)
    now = datetime.now(UTC).isoformat()
    home.sql(f"UPDATE vods SET date = '{now}' WHERE twitch_vod_id = '{ids.PLAIN}'")  # Twitch still has it.
    found = vodkeep(home, "scrub", ids.PLAIN, "--json")
    assert found.returncode == 1, found
    (told,) = json.loads(found.stdout)["items"]
    assert (told["verdict"], told["repair"]) == ("damaged", "It is fetched again as far as Twitch still offers it.")
    service = home.start()
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    check_kept(home, ids.PLAIN)

    again = vodkeep(home, "scrub")  # What was mended has its turn at once.
    assert (again.returncode, again.stdout) == (0, "1 item was read, 0 of them damaged.\n"), again
    events = home.sql(f"SELECT code FROM events WHERE twitch_vod_id='{ids.PLAIN}' AND kind='scrub' ORDER BY id")
    assert [event["code"] for event in events] == ["damaged", "mended"]


def test_a_missing_folder_is_found_and_fetched_again(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    assert home.archive(ids.PLAIN).returncode == 0
    shutil.rmtree(home.folder(ids.PLAIN))

    found = vodkeep(home, "verify", "--all", "--repair")
    assert found.returncode == 1
    assert "missing" in found.stdout
    assert "there is no folder" in found.stdout
    assert home.vod(ids.PLAIN)["download_state"] == "pending"
    home.start().wait_for("vod processed", vod_id=ids.PLAIN)
    check_kept(home, ids.PLAIN)


def test_a_vod_that_twitch_no_longer_has_keeps_its_damaged_folder(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    assert home.archive(ids.PLAIN).returncode == 0
    damage(home, ids.PLAIN)
    home.standin.scenario.update_video(ids.PLAIN, deleted=True)

    assert vodkeep(home, "verify", ids.PLAIN, "--repair").returncode == 1
    home.start().wait_for("vod parked", vod_id=ids.PLAIN)
    assert (home.folder(ids.PLAIN) / "video.mp4").exists()


def video_of(home: Home) -> bytes:
    return (home.folder(ids.PLAIN) / "video.mp4").read_bytes()


def test_a_film_is_mended_in_the_quality_in_which_it_was_kept(home_of: HomeOf) -> None:
    """The setting that counts for new broadcasts is another one by now, and so is the title."""
    home = home_of(ids.PLAIN)
    assert home.archive(ids.PLAIN, VOD_QUALITY="160p30").returncode == 0
    folder = home.folder(ids.PLAIN)
    assert home.manifest(ids.PLAIN)["rendition"] == "160p30"
    damage(home, ids.PLAIN)
    home.sql(f"UPDATE vods SET title='Renamed' WHERE twitch_vod_id='{ids.PLAIN}'")

    assert vodkeep(home, "verify", ids.PLAIN, "--repair").returncode == 1
    home.start(VOD_QUALITY="best").wait_for("vod processed", vod_id=ids.PLAIN)
    assert home.manifest(ids.PLAIN)["rendition"] == "160p30"
    assert home.folders() == [folder]
    assert vodkeep(home, "verify", ids.PLAIN, "--deep").returncode == 0


def test_where_its_quality_is_gone_a_damaged_film_stays_and_it_is_said(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    assert home.archive(ids.PLAIN).returncode == 0
    kept = home.manifest(ids.PLAIN)["rendition"]
    path = home.folder(ids.PLAIN) / "manifest.json"
    path.write_text(path.read_text("utf-8").replace(f'"rendition": "{kept}"', '"rendition": "2160p60"'), "utf-8")
    damage(home, ids.PLAIN)
    damaged = video_of(home)
    since = datetime.now(UTC)

    assert vodkeep(home, "verify", ids.PLAIN, "--repair").returncode == 1
    home.start().wait_for("vod parked", vod_id=ids.PLAIN, code="rendition_gone")
    row = home.vod(ids.PLAIN)
    assert "was captured as 2160p60, and Twitch has it only as" in row["processing_error"]
    assert row["downloaded_path"] == str(home.folder(ids.PLAIN).relative_to(home.data_dir) / "video.mp4")
    assert video_of(home) == damaged
    assert home.segment_requests(ids.PLAIN, since=since).total() == 0


def test_a_damaged_film_stays_where_less_of_it_can_be_had(home_of: HomeOf) -> None:
    """Both are kept: the one because it may hold more, the other because all of it is right."""
    home = home_of(ids.PLAIN)
    assert home.archive(ids.PLAIN).returncode == 0
    damage(home, ids.PLAIN)
    damaged = video_of(home)
    home.standin.update_video(ids.PLAIN, missing_segments=frozenset({6}))

    assert vodkeep(home, "verify", ids.PLAIN, "--repair").returncode == 1
    service = home.start(DOWNLOAD_MAX_ATTEMPTS="1")
    service.wait_for("vod parked", vod_id=ids.PLAIN, code="incomplete")
    assert service.terminate() == 0
    row = home.vod(ids.PLAIN)
    assert (row["download_state"], row["processed"]) == ("parked", 0)
    assert "which therefore stays" in row["processing_error"]
    assert video_of(home) == damaged
    fetched = len(home.journal(ids.PLAIN))
    assert fetched == len(home.standin.media(ids.PLAIN).source.segments) - 1

    # The rest is offered again, and only the rest is asked for.
    home.standin.update_video(ids.PLAIN, missing_segments=frozenset())
    since = datetime.now(UTC)
    home.sql(f"UPDATE vods SET processed=0, processing_error=NULL WHERE twitch_vod_id='{ids.PLAIN}'")
    home.start().wait_for("vod processed", vod_id=ids.PLAIN)
    check_kept(home, ids.PLAIN)
    assert home.segment_requests(ids.PLAIN, since=since).total() == 1


@pytest.mark.cold_start
def test_folders_are_verified_without_a_database(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    assert home.archive(ids.PLAIN).returncode == 0
    for path in home.data_dir.glob("vodkeep.db*"):
        path.unlink()

    done = vodkeep(home, "verify", "--all", "--deep")
    assert (done.returncode, done.stderr) == (0, "")
    assert "the database does not know this folder" in done.stdout
    assert not (home.data_dir / "vodkeep.db").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(["9999999999"], 1, "there is no item 9999999999", id="unknown"),
        pytest.param(["no id at all"], 1, "there is no item no id at all", id="nonsense"),
        pytest.param([], 2, "Name one item, or give --all.", id="nothing named"),
        pytest.param([ids.PLAIN, "--all"], 2, "Name one item, or give --all.", id="one and all"),
        pytest.param(["--all"], 0, "There is nothing in the library yet.", id="empty library"),
    ],
)
def test_what_cannot_be_verified_is_one_sentence(home_of: HomeOf, arguments: list[str], code: int, words: str) -> None:
    done = vodkeep(home_of(ids.PLAIN), "verify", *arguments)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert said.count(words) == 1, said
    assert "Traceback" not in said


def test_ctrl_c_does_not_wait_for_the_end_of_a_film(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    assert home.archive(ids.PLAIN).returncode == 0
    # A disk that does not answer: reading never ends by itself.
    video = home.folder(ids.PLAIN) / "video.mp4"
    size = video.stat().st_size
    manifest = home.folder(ids.PLAIN) / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"size_bytes": {size}', f'"size_bytes": {2**42}'))
    with video.open("r+b") as file:
        file.truncate(2**42)
    running = warm.start("vodkeep", "verify", "--all", env=home.env(), cwd=home.root)
    try:
        wait_until(lambda: _reads(running.pid, str(video)), "the film is being read")
        running.send_signal(2)
        assert running.wait(60) == 130
    finally:
        running.kill()
        running.wait()


def _reads(pid: int, path: str) -> bool:
    """Whether a process has the file open."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(link.readlink()))
        except FileNotFoundError:
            continue
    return path in found
