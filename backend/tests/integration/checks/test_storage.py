"""The checks of the disk, on real folders."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from vodkeep.checks.model import CheckResult, State, run_checks
from vodkeep.checks.storage import storage_checks
from vodkeep.telemetry.log import get_logger

pytestmark = pytest.mark.anyio


async def look(data_dir: Path) -> dict[str, CheckResult]:
    return {result.name: result for result in await run_checks(storage_checks(data_dir), get_logger("test"))}


async def test_a_folder_in_order(tmp_path: Path) -> None:
    (tmp_path / "chan").mkdir()
    (tmp_path / ".work").mkdir()
    found = await look(tmp_path)
    assert found["data_dir"].state is State.OK
    assert found["one_file_system"].state is State.OK
    assert "GB are free" in found["space"].sentence
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".work", "chan"]


async def test_looking_makes_no_folder(tmp_path: Path) -> None:
    found = await look(tmp_path / "deep" / "data")
    assert found["data_dir"].state is State.WARN
    assert found["one_file_system"].state is State.SKIPPED
    assert "GB are free" in found["space"].sentence
    assert list(tmp_path.iterdir()) == []


async def test_something_else_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    found = await look(tmp_path / "data")
    assert found["data_dir"].state is State.FAIL
    assert "something else stands there" in found["data_dir"].sentence


async def test_a_channel_on_another_disk_is_told(tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("This machine has no second file system to try it with.")
    other = elsewhere / f"vodkeep-test-{os.getpid()}"
    other.mkdir()
    try:
        (tmp_path / "chan").symlink_to(other)
        found = (await look(tmp_path))["one_file_system"]
        assert found.state is State.FAIL
        assert "chan in DATA_DIR lies on another file system" in found.sentence
        assert list(other.iterdir()) == []
        assert [path.name for path in tmp_path.iterdir()] == ["chan"]
    finally:
        shutil.rmtree(other)


@pytest.mark.parametrize(("free", "state"), [(100 * 10**9, State.OK), (20 * 10**9, State.WARN), (10**8, State.FAIL)])
async def test_space_is_judged_by_what_a_broadcast_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: State
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=free, total=10**12)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert (await look(tmp_path))["space"].state is state
