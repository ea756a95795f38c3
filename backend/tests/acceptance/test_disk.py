"""A disk that is read-only, full, filling up, or not the one of the temporary files."""

from __future__ import annotations

import os
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from support.home import CHANNEL, Home, HomeOf, check_kept
from support.mounts import Mount, remount
from support.service import ServiceProcess, wait_until
from support.slow import slow_segments
from vodkeep_standin.scenario import ids


def make_read_only(path: Path, stack: ExitStack, mount: Mount) -> None:
    """A folder nobody can write to; permission bits mean nothing to root."""
    if os.geteuid() == 0:
        mount(path, "size=1m,ro")
    else:
        path.mkdir()
        path.chmod(0o500)
        stack.callback(path.chmod, 0o700)


def test_a_read_only_folder_is_told_at_the_start(mount: Mount, home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    with ExitStack() as stack:
        make_read_only(home.data_dir, stack, mount)
        service = home.spawn()
        assert service.wait_for_exit() == 2
        (sentence,) = service.output().splitlines()
        assert sentence.startswith(f'DATA_DIR is "{home.data_dir}"')
        assert "written" in sentence
        done = home.archive(ids.PLAIN)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines() == [sentence]


def test_too_little_space_waits_for_more(mount: Mount, home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    mount(home.data_dir, "size=64m")
    mine = home.data_dir / "somebody-elses-file"
    mine.write_bytes(b"x" * 1_000_000)
    service = home.start()
    told = service.wait_for("captures wait for disk space")
    assert 0 < told["free_bytes"] < told["needed_bytes"]
    # Cycles go by, and nothing is begun that could only fail.
    wait_until(lambda: service.metrics()["vod_processing_cycles_total", CHANNEL] >= 3, "some cycles have run")
    status = service.get_json("/status")
    assert status["disk_shortage"]["needed_bytes"] == told["needed_bytes"]
    row = home.vod(ids.PLAIN)
    assert (row["download_state"], row["error_code"], row["download_retries"]) == ("pending", None, 0)
    assert service.get("/healthz")[0] == 200
    assert home.segment_requests(ids.PLAIN).total() == 0

    remount(home.data_dir, "size=400m")
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    check_kept(home, ids.PLAIN)
    assert mine.stat().st_size == 1_000_000
    wait_until(lambda: service.get_json("/status")["disk_shortage"] is None, "the shortage is over")
    assert len(service.lines("captures wait for disk space")) == 1


@pytest.mark.parametrize("database_beside", [True, False], ids=["database elsewhere", "database on it too"])
def test_the_disk_fills_up_in_the_middle(mount: Mount, home_of: HomeOf, database_beside: bool) -> None:
    home = home_of(ids.PLAIN)
    mount(home.data_dir, "size=200m")
    if database_beside:
        home.dsn = f"sqlite:///{home.root / 'elsewhere.db'}"
    slow_segments(home.standin, 300)
    service = home.start(CAPTURE_CONNECTIONS="2")
    wait_until(lambda: len(home.journal(ids.PLAIN)) >= 4, "segments are proven")
    filler = home.data_dir / "filler"
    fill(filler)
    full = service.mark()
    if database_beside:
        failed = service.wait_for("download failed", after=full, vod_id=ids.PLAIN)
        assert failed["code"] == "disk_full"
        assert home.vod(ids.PLAIN)["download_retries"] == 0
    else:
        told = service.wait_for(lambda line: line["level"] in ("warning", "error"), after=full)
        assert "disk is full" in str(told) or told.get("code") == "disk_full"
    proven = home.journal(ids.PLAIN)
    assert len(proven) >= 4
    assert_goes_on(home, service, filler, proven)


def fill(path: Path) -> None:
    """Take all the space there is."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


def assert_goes_on(home: Home, service: ServiceProcess, filler: Path, proven: dict[str, int]) -> None:
    assert service.is_running()
    filler.unlink()
    since = datetime.now(UTC)
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    check_kept(home, ids.PLAIN)
    again = set(home.segment_requests(ids.PLAIN, since=since)) & set(proven)
    assert again == set(), "proven segments were fetched again"
    wait_until(lambda: home.leftovers() == [], "the work folder is empty")
    assert service.get("/healthz")[0] == 200


def test_temporary_files_may_lie_on_another_file_system(mount: Mount, home_of: HomeOf) -> None:
    """Nothing large goes there either: one megabyte is enough."""
    home = home_of(ids.PLAIN)
    elsewhere = home.root / "tmp"
    mount(elsewhere, "size=1m")
    home.data_dir.mkdir()
    assert elsewhere.stat().st_dev != home.data_dir.stat().st_dev
    service = home.start(TMPDIR=str(elsewhere))
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    check_kept(home, ids.PLAIN)
    assert service.terminate() == 0
    assert list(elsewhere.iterdir()) == []
