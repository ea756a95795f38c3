"""Upgrading yt-dlp beside the installed one, with real installers, packages and children."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from support.clock import FakeClock
from support.wheels import ytdlp_wheel
from vodkeep.capture import tools
from vodkeep.capture.resolve import find_ytdlp
from vodkeep.capture.tools import Origin, ToolCommand, ToolRejected, ToolShelf, Upgrade, tool_version
from vodkeep.errors import PermanentError, TransientError

pytestmark = pytest.mark.anyio

INSTALLED = find_ytdlp(None, Path("/nonexistent"))


async def accept(command: ToolCommand) -> str:
    return f"tried {await tool_version(command)}"


def start(*argv: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(argv, stdin=subprocess.PIPE, env=environment)


class Shelf(ToolShelf):
    """A shelf with the arguments that every test gives."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self.said: list[str] = []
        self.clock = FakeClock()

    async def install(self, version: str | None = None, *, trial: tools.Trial = accept) -> Upgrade:
        return await self.upgrade(version, installed=INSTALLED, trial=trial, clock=self.clock, say=self.said.append)

    async def back(self) -> Upgrade:
        return await self.rollback(installed=INSTALLED, clock=self.clock)

    async def in_force(self) -> str:
        return await tool_version(self.current() or INSTALLED)

    def folders(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir() if path.is_dir())


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "data with spaces")


@pytest.mark.parametrize("installer", ["pip", "uv"])
async def test_the_newest_is_installed_tried_and_used(
    shelf: Shelf, wheels: Path, installer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if installer == "uv":
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    ytdlp_wheel(wheels, "2030.1.2")
    ytdlp_wheel(wheels, "2030.3.4")

    done = await shelf.install()

    assert (done.changed, done.version) == (True, "2030.3.4")
    assert "tried 2030.3.4" in shelf.said
    found = find_ytdlp(None, shelf.root.parent)
    assert found.origin is Origin.UPGRADE
    assert await tool_version(found) == "2030.3.4"
    assert shelf.folders() == ["yt-dlp-2030.3.4"]


async def test_a_program_of_ones_own_comes_first(shelf: Shelf, wheels: Path) -> None:
    ytdlp_wheel(wheels, "2030.1.2")
    await shelf.install()

    assert find_ytdlp("/my/yt-dlp", shelf.root.parent) == ToolCommand(("/my/yt-dlp",), Origin.SETTING)


async def test_a_copy_that_fails_its_trial_changes_nothing(shelf: Shelf, wheels: Path) -> None:
    ytdlp_wheel(wheels, "2030.1.2")
    ytdlp_wheel(wheels, "2030.3.4")
    await shelf.install("2030.1.2")

    async def refuse(_: ToolCommand) -> str:
        raise TransientError("It cannot read VODs.", code="tool_failed")

    with pytest.raises(ToolRejected, match=r"It cannot read VODs\. yt-dlp 2030\.1\.2 stays in force"):
        await shelf.install(trial=refuse)
    assert await shelf.in_force() == "2030.1.2"
    assert shelf.folders() == ["yt-dlp-2030.1.2"]


async def test_a_copy_that_does_not_start_changes_nothing(shelf: Shelf, wheels: Path) -> None:
    ytdlp_wheel(wheels, "2030.3.4", code="raise SystemExit('no such module: sqlite9')")

    with pytest.raises(ToolRejected, match="no such module: sqlite9"):
        await shelf.install()
    assert shelf.current() is None
    assert shelf.folders() == []


async def test_a_version_that_there_is_not_changes_nothing(shelf: Shelf, wheels: Path) -> None:
    ytdlp_wheel(wheels, "2030.3.4")

    with pytest.raises(ToolRejected, match=r"yt-dlp==2031\.1\.1 cannot be installed: ERROR: No matching distribution"):
        await shelf.install("2031.1.1")
    assert shelf.folders() == []


@pytest.mark.parametrize("version", ["", "--pre", "../../etc", "1 2", "latest"])
async def test_what_is_no_version_is_never_given_to_the_installer(shelf: Shelf, version: str) -> None:
    with pytest.raises(PermanentError, match="is not a version"):
        await shelf.install(version)


async def test_without_an_installer_one_is_asked_for(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(PermanentError, match="neither pip nor uv"):
        await shelf.install()


async def test_an_older_version_comes_only_when_asked_for(shelf: Shelf, wheels: Path) -> None:
    ytdlp_wheel(wheels, "2020.1.2")

    kept = await shelf.install()
    assert (kept.changed, kept.version) == (False, await tool_version(INSTALLED))
    assert "nothing newer" in kept.sentence

    assert (await shelf.install("2020.1.2")).version == "2020.1.2"
    again = await shelf.install("2020.01.02")
    assert not again.changed
    assert shelf.folders() == ["yt-dlp-2020.1.2"]


async def test_rolling_back_goes_one_step_at_a_time(shelf: Shelf, wheels: Path) -> None:
    for version in ("2030.1.1", "2030.1.2", "2030.1.3"):
        ytdlp_wheel(wheels, version)
        await shelf.install(version)
    # The first could not be gone back to any more.
    assert shelf.folders() == ["yt-dlp-2030.1.2", "yt-dlp-2030.1.3"]

    assert (await shelf.back()).version == "2030.1.2"
    assert (await shelf.back()).version == await tool_version(INSTALLED)
    last = await shelf.back()
    assert not last.changed
    assert shelf.current() is None


async def test_a_copy_somebody_runs_is_not_removed(shelf: Shelf, wheels: Path, tmp_path: Path) -> None:
    """A download by an older copy may take hours, and Python reads modules late."""
    started = tmp_path / "started"
    os.mkfifo(started)
    ytdlp_wheel(
        wheels, "2030.1.1", code=f"if 'hang' in sys.argv: open({str(started)!r}, 'w').close(); sys.stdin.read()"
    )
    for version in ("2030.1.2", "2030.1.3", "2030.1.4"):
        ytdlp_wheel(wheels, version)
    await shelf.install("2030.1.1")
    command = shelf.current()
    assert command is not None
    with start(*command.argv, "hang") as running:
        await anyio.to_thread.run_sync(started.read_bytes)
        await shelf.install("2030.1.2")
        await shelf.install("2030.1.3")
        assert "yt-dlp-2030.1.1" in shelf.folders()
        running.communicate()
        assert running.returncode == 0
    await shelf.install("2030.1.4")
    assert shelf.folders() == ["yt-dlp-2030.1.3", "yt-dlp-2030.1.4"]


async def test_two_upgrades_take_turns(shelf: Shelf, wheels: Path) -> None:
    ytdlp_wheel(wheels, "2030.1.1")
    other = Shelf(shelf.root.parent)
    trying, go_on = anyio.Event(), anyio.Event()

    async def slow(command: ToolCommand) -> str:
        trying.set()
        await go_on.wait()
        return await accept(command)

    async def second() -> None:
        assert not (await other.install()).changed

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: shelf.install(trial=slow))
        await trying.wait()
        tasks.start_soon(second)
        await other.clock.until_sleeping()
        assert other.said == ["Another upgrade is at work; waiting for it to end ..."]
        assert shelf.current() is None
        go_on.set()
        while other.clock.sleeping:
            await other.clock.advance(1)
            await anyio.lowlevel.checkpoint()
    assert await shelf.in_force() == "2030.1.1"
    assert shelf.folders() == ["yt-dlp-2030.1.1"]


UPGRADE = """
import sys
from pathlib import Path
import anyio
from vodkeep.capture.resolve import find_installed_ytdlp
from vodkeep.capture.tools import ToolShelf, tool_version
from vodkeep.clock import SystemClock

async def main():
    installed = find_installed_ytdlp()
    await ToolShelf(Path(sys.argv[1])).upgrade(None, installed=installed, trial=tool_version, clock=SystemClock())

anyio.run(main)
"""


async def test_kill_9_half_way_leaves_the_old_one_in_force(shelf: Shelf, wheels: Path, tmp_path: Path) -> None:
    ytdlp_wheel(wheels, "2030.1.1")
    await shelf.install()
    started = tmp_path / "started"
    os.mkfifo(started)
    # The new copy hangs at its first trial, and tells who it is.
    hang = f"import os, signal; open({str(started)!r}, 'w').write(str(os.getpid())); signal.pause()"
    hanging = ytdlp_wheel(wheels, "2030.1.2", code=hang)

    with start(sys.executable, "-c", UPGRADE, str(shelf.root.parent)) as upgrade:
        child = int(await anyio.to_thread.run_sync(started.read_text))
        upgrade.send_signal(signal.SIGKILL)
        upgrade.wait()

    assert await shelf.in_force() == "2030.1.1"
    assert len(shelf.folders()) == 2
    with anyio.fail_after(60):
        while Path(f"/proc/{child}").exists() and "State:\tZ" not in Path(f"/proc/{child}/status").read_text():
            await anyio.lowlevel.checkpoint()
    hanging.unlink()
    ytdlp_wheel(wheels, "2030.1.3")
    assert (await shelf.install()).version == "2030.1.3"
    assert shelf.folders() == ["yt-dlp-2030.1.1", "yt-dlp-2030.1.3"]


@pytest.mark.parametrize("content", ["", "null", '["../../bin"]', '["yt-dlp-2030.1.1"]', "[1]", "\x00"], ids=repr)
async def test_a_spoilt_note_means_the_installed_one(shelf: Shelf, content: str) -> None:
    shelf.root.mkdir(parents=True)
    (shelf.root / "current").write_text(content)

    assert shelf.current() is None
    assert find_ytdlp(None, shelf.root.parent) == INSTALLED


async def test_the_copy_before_is_used_when_the_one_in_force_is_gone(shelf: Shelf, wheels: Path) -> None:
    for version in ("2030.1.1", "2030.1.2"):
        ytdlp_wheel(wheels, version)
        await shelf.install(version)
    (shelf.root / "yt-dlp-2030.1.2" / "launch.py").unlink()

    assert await shelf.in_force() == "2030.1.1"
    note = json.loads((shelf.root / "current").read_text())
    assert note["copies"] == ["yt-dlp-2030.1.1", "yt-dlp-2030.1.2"]


async def test_a_newer_one_that_comes_with_vodkeep_puts_copies_out_of_force(shelf: Shelf, wheels: Path) -> None:
    """Else the copy in the data folder would hide every later update."""
    ytdlp_wheel(wheels, "2030.1.1")
    await shelf.install()
    data_dir = shelf.root.parent

    assert ToolShelf(data_dir, lambda: "2029.12.31").current() is not None
    assert ToolShelf(data_dir, lambda: None).current() is not None
    assert ToolShelf(data_dir, lambda: "2030.02.01").current() is None


async def test_an_older_one_that_was_asked_for_stays_in_force(shelf: Shelf, wheels: Path) -> None:
    ytdlp_wheel(wheels, "2020.1.1")
    await shelf.install("2020.1.1")
    assert await shelf.in_force() == "2020.1.1"
