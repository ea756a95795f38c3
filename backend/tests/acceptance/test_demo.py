"""``make demo``, as far as it goes without a person: the real service keeps something of the pretended Twitch and
publishes it."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from support.service import service_env


def test_the_demo_keeps_and_publishes_something(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    done = subprocess.run(
        [sys.executable, "-m", "vodkeep_standin.demo", "--until-kept", "1", "--dir", str(folder)],
        env=service_env(folder, {}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Open  http://127\.0\.0\.1:\d+", done.stdout)
    assert re.search(r"[1-9] kept and published after \d", done.stdout)
    assert "Traceback" not in done.stdout + done.stderr
    assert len(re.findall("chat recording began", done.stdout + done.stderr)) == 2
    with closing(sqlite3.connect(folder / "vodkeep.db")) as database:
        (path, address), *_ = database.execute("SELECT downloaded_path, youtube_url FROM vods WHERE processed=1")
    manifest = json.loads((folder / path).with_name("manifest.json").read_text("utf-8"))
    assert manifest["completeness"] == 1.0
    (publication,) = manifest["publications"]
    assert publication["state"] == "uploaded"
    assert address == f"https://www.youtube.com/watch?v={publication['youtube_id']}"
    # It ends the service with it, and nothing else goes on in its folder.
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            assert f"DATA_DIR={folder}".encode() not in environ.read_bytes().split(b"\0"), environ
        except OSError:
            continue


def test_the_demo_empties_no_folder_but_its_own(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"sun")
    done = subprocess.run(
        [sys.executable, "-m", "vodkeep_standin.demo", "--until-kept", "1", "--dir", str(tmp_path / "photos")],
        env=service_env(tmp_path, {}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "holds something that is not of an earlier demo" in done.stderr
    assert (tmp_path / "photos" / "holiday.jpg").read_bytes() == b"sun"
