"""``vodkeep doctor``: what a person is told about an installation."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from support.commands import vodkeep
from support.home import Home, HomeOf
from vodkeep_standin.scenario import ids

SECRET = "wrong-secret-wrong-secret-wrong"


def diagnosed(home: Home, **extra: str) -> tuple[int, dict[str, Any]]:
    """Exit code and checks by name."""
    done = vodkeep(home, "doctor", "--json", **extra)
    assert "Traceback" not in done.stderr, done
    return done.returncode, {check["name"]: check for check in json.loads(done.stdout)["checks"]}


@pytest.mark.cold_start
def test_an_installation_at_work_is_in_order(home_of: HomeOf, dsn: str | None) -> None:
    home = home_of(ids.PLAIN, dsn=dsn)
    home.start().wait_for("vod processed", vod_id=ids.PLAIN)
    code, checks = diagnosed(home)
    failed = {name: check for name, check in checks.items() if check["state"] == "fail"}
    assert (code, failed) == (0, {})
    for name in ("database", "data_dir", "one_file_system", "yt_dlp", "ffmpeg", "helix", "credentials", "gql", "clock"):
        assert checks[name]["state"] == "ok", checks[name]
    assert checks["library"]["sentence"] == "The videos of all 1 kept items are there."
    assert checks["streamlink"]["state"] == "skipped"
    assert checks["chat"]["state"] == "skipped"
    assert "CHAT_AUTO_START=1" in checks["chat"]["fix"]
    assert diagnosed(home, CHAT_AUTO_START="1")[1]["chat"]["state"] == "ok"


def test_what_is_wrong_is_told_with_what_to_do_and_without_secrets(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    assert home.archive(ids.PLAIN).returncode == 0
    shutil.rmtree(home.folder(ids.PLAIN))
    (home.data_dir / ".work" / "12345").mkdir(parents=True)
    wrong = {"TWITCH_CLIENT_SECRET": SECRET, "YTDLP_PATH": "/nowhere/yt-dlp", "ADMIN_TOKEN": "hunter2-hunter2"}

    code, checks = diagnosed(home, **wrong)
    assert code == 1
    states = {name: check["state"] for name, check in checks.items()}
    assert states["credentials"] == states["yt_dlp"] == states["library"] == "fail"
    assert states["leftovers"] == "warn"
    assert states["database"] == states["helix"] == "ok"
    for name in ("credentials", "yt_dlp", "library", "leftovers"):
        assert checks[name]["fix"], checks[name]

    shown = vodkeep(home, "doctor", **wrong)
    assert shown.returncode == 1
    assert f"3 of {len(checks)} checks failed." in shown.stdout
    assert "vodkeep verify --all --repair" in shown.stdout
    assert SECRET not in shown.stdout + shown.stderr
    assert "hunter2" not in shown.stdout + shown.stderr


def test_before_the_first_start_nothing_is_made(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    code, checks = diagnosed(home)
    assert code == 0
    assert checks["data_dir"]["state"] == checks["database"]["state"] == "warn"
    assert not home.data_dir.exists()


def test_a_database_server_that_is_away_is_told_within_bounds(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    code, checks = diagnosed(home, DB_DSN="postgres://vodkeep:hunter2-hunter2@127.0.0.1:9/vodkeep")
    assert code == 1
    assert checks["database"]["state"] == "fail"
    assert "hunter2" not in json.dumps(checks)
