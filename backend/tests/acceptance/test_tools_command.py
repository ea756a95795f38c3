"""``vodkeep tools``: a newer yt-dlp while the service goes on working."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.commands import vodkeep
from support.home import HomeOf, check_kept
from support.service import wait_until
from support.wheels import installer_env, renamed_ytdlp_wheel, ytdlp_wheel
from vodkeep_standin.scenario import ids


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder that yt-dlp can be installed from, and nothing else."""
    folder = tmp_path / "packages"
    folder.mkdir()
    return folder


def test_a_running_service_uses_the_upgraded_copy_from_its_next_vod_on(home_of: HomeOf, packages: Path) -> None:
    home = home_of(ids.PLAIN, ids.RECORDING)
    environment = installer_env(packages)
    service = home.start()
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    assert any(tool.startswith("yt-dlp 20") for tool in home.manifest(ids.PLAIN)["tools"])
    renamed_ytdlp_wheel(packages, "2099.1.2")

    done = vodkeep(home, "tools", "upgrade", **environment)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert f"It finds VOD {ids.PLAIN} (A plain evening)." in done.stdout
    assert "yt-dlp 2099.1.2 is in force now" in done.stdout

    # An attempt that had begun with the old copy ends before there is something to capture.
    looked = len(service.lines("still recording", vod_id=ids.RECORDING))
    wait_until(lambda: len(service.lines("still recording", vod_id=ids.RECORDING)) > looked, "it is looked at again")
    home.standin.advance(60)
    home.standin.finish(ids.RECORDING)
    service.wait_for("vod processed", vod_id=ids.RECORDING, timeout_s=100)
    assert "yt-dlp 2099.1.2" in check_kept(home, ids.RECORDING)["tools"]

    listed = vodkeep(home, "tools", "list", "--json")
    assert listed.returncode == 0
    used = {tool["name"]: tool for tool in json.loads(listed.stdout)["tools"] if tool["in_force"]}
    assert (used["yt-dlp"]["version"], used["yt-dlp"]["origin"]) == ("2099.1.2", "upgraded copy")
    assert used["ffmpeg"]["version"]
    assert used["PyAV"]["version"]

    back = vodkeep(home, "tools", "rollback")
    assert back.returncode == 0
    assert "is in force again, before it was 2099.1.2." in back.stdout
    assert service.is_running()


def test_a_newer_one_that_cannot_read_vods_is_not_used(home_of: HomeOf, packages: Path) -> None:
    home = home_of(ids.PLAIN)
    broken = "if '--version' not in sys.argv: sys.exit('ERROR: [twitch:vod] 1: Unable to extract something')"
    ytdlp_wheel(packages, "2099.1.2", code=broken)

    done = vodkeep(home, "tools", "upgrade", "--vod", ids.PLAIN, **installer_env(packages))
    assert done.returncode == 1
    assert "Unable to extract something" in done.stderr
    assert "stays in force." in done.stderr
    assert home.archive(ids.PLAIN).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param([], "No VOD is known, so no more was tried than whether it starts", id="nothing known"),
        pytest.param(["--vod", ids.SUB_ONLY], "None of the known VODs can be had", id="for subscribers"),
    ],
)
def test_what_could_not_be_tried_is_said(home_of: HomeOf, packages: Path, arguments: list[str], words: str) -> None:
    renamed_ytdlp_wheel(packages, "2099.1.2")
    done = vodkeep(home_of(ids.SUB_ONLY), "tools", "upgrade", *arguments, **installer_env(packages))
    assert done.returncode == 0, done
    assert words in done.stdout


def test_with_twitch_away_nothing_is_changed(home_of: HomeOf, packages: Path) -> None:
    home = home_of(ids.PLAIN)
    renamed_ytdlp_wheel(packages, "2099.1.2")
    away = "--proxy http://127.0.0.1:9"
    done = vodkeep(home, "tools", "upgrade", "--vod", ids.PLAIN, **installer_env(packages), YTDLP_ARGS=away)
    assert done.returncode == 1
    assert "Twitch cannot be reached" in done.stderr
    assert "2099" not in vodkeep(home, "tools", "list").stdout


@pytest.mark.cold_start
def test_a_program_of_ones_own_that_is_not_there_is_told(home_of: HomeOf) -> None:
    done = vodkeep(home_of(ids.PLAIN), "tools", "list", YTDLP_PATH="/nowhere/yt-dlp")
    assert done.returncode == 1
    assert "does not work" in done.stdout
    assert "/nowhere/yt-dlp" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(["--version", "newest"], 1, "is not a version of yt-dlp", id="version"),
        pytest.param(["--vod", "https://example.org/1"], 2, "is not a Twitch video", id="vod"),
        pytest.param(["--version", "2099.9.9"], 1, "cannot be installed", id="no such version"),
    ],
)
def test_mistakes_are_one_sentence(
    home_of: HomeOf, packages: Path, arguments: list[str], code: int, words: str
) -> None:
    done = vodkeep(home_of(ids.PLAIN), "tools", "upgrade", *arguments, **installer_env(packages))
    assert done.returncode == code
    assert done.stderr.count(words) == 1
    assert "Traceback" not in done.stderr
