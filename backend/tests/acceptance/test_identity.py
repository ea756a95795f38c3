"""A disk that is not mounted, or another archive's, is noticed before anything is done to it."""

from __future__ import annotations

import json
from pathlib import Path

from support.commands import vodkeep
from support.home import Home, HomeOf, check_kept
from vodkeep.pipeline.identity import MARK_NAME
from vodkeep_standin.scenario import ids


def keep(home: Home) -> None:
    service = home.start()
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    assert service.terminate() == 0


def check_refused(home: Home, words: str) -> None:
    """Neither the service nor a command works with this folder, and the doctor says why."""
    before = sorted(home.data_dir.rglob("*"))
    service = home.spawn()
    assert service.wait_for_exit() == 2, service.output()
    assert "Traceback" not in service.output()
    assert words in service.output()
    for arguments in (["archive", ids.PLAIN], ["verify", "--all"], ["verify", ids.PLAIN, "--repair"]):
        told = vodkeep(home, *arguments)
        assert (told.returncode, words in told.stderr) == (2, True), (arguments, told.stdout, told.stderr)
    told = vodkeep(home, "doctor", "--json")
    assert told.returncode == 1
    (check,) = [check for check in json.loads(told.stdout)["checks"] if check["name"] == "archive"]
    assert check["state"] == "fail"
    assert words in check["sentence"]
    assert [path for path in sorted(home.data_dir.rglob("*")) if path not in before] == []


def test_a_disk_that_is_not_mounted_is_no_empty_archive(home_of: HomeOf, dsn: str | None, tmp_path: Path) -> None:
    home = home_of(ids.PLAIN, dsn=dsn or f"sqlite:///{tmp_path / 'elsewhere.db'}")
    keep(home)
    mounted = home.data_dir.rename(home.root / "mounted")
    home.data_dir.mkdir()

    check_refused(home, "is its disk mounted?")
    assert home.vod(ids.PLAIN)["processed"] == 1

    home.data_dir.rmdir()
    mounted.rename(home.data_dir)
    service = home.start()
    service.wait_for("started")
    assert vodkeep(home, "verify", "--all").returncode == 0
    check_kept(home, ids.PLAIN)


def test_the_disk_of_another_archive_is_refused(home_of: HomeOf, tmp_path: Path) -> None:
    home = home_of(ids.PLAIN, dsn=f"sqlite:///{tmp_path / 'elsewhere.db'}")
    keep(home)
    (home.data_dir / MARK_NAME).write_text("12345678-1234-4234-8234-123456789abc\n")
    check_refused(home, "belongs to another archive than the database")
