"""The programs that Vodkeep calls: where they are, and newer yt-dlps beside the installed one.

Twitch changes more often than Vodkeep is released, so yt-dlp can be upgraded by itself. `ToolShelf.upgrade` installs a
copy into a folder of its own below ``DATA_DIR/.tools``, tries it, and only then writes its name into the file
``current``, with one rename. Whoever resolves a VOD reads that file anew each time, so a running service uses the new
copy from its next VOD on, and a kill at any instant leaves either the old copy or the new one in force.

::

    .tools/lock                  held (flock) by whoever changes something here
    .tools/current               JSON: the folders that were in force, the last of them is; and which yt-dlp was
                                 installed then, because a newer one that comes with Vodkeep puts copies out of force
    .tools/yt-dlp-2026.11.20/    a copy, with the launcher that runs it
    .tools/staging-.../          a copy that is being installed or tried; of no value when nobody holds the lock
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import anyio.to_thread
import av
import imageio_ffmpeg

from vodkeep.child import run_child
from vodkeep.clock import Clock
from vodkeep.disk import FOLDER_MODE, disk_errors, sync
from vodkeep.errors import PermanentError, TransientError, VodkeepError

TOOLS_DIR_NAME = ".tools"

_CURRENT_NAME = "current"
_LOCK_NAME = "lock"
_LAUNCHER_NAME = "launch.py"
_STAGING_PREFIX = "staging-"
_COPY_PREFIX = "yt-dlp-"
# The copy before the one in force is what a rollback goes back to.
_REMEMBERED = 2

_INSTALL_DEADLINE_S = 600.0
# A cold start of yt-dlp on a slow disk takes seconds.
_VERSION_DEADLINE_S = 60.0
_LOCK_POLL_S = 0.2

_VERSION = re.compile(r"\d[0-9A-Za-z.]{0,60}")
_COPY = re.compile(rf"{_COPY_PREFIX}\d[0-9A-Za-z.-]*")
_PASSWORD = re.compile(r"(://)[^/@\s]+@")

# The folder of a script comes first on Python's search path, so this copy is used and not the installed one.
_LAUNCHER = '''\
"""Runs the yt-dlp of this folder. Written by Vodkeep."""

import contextlib
import fcntl
import sys

running = open(__file__, "rb")
with contextlib.suppress(OSError):
    # Held as long as this runs: a copy that is in use is not removed.
    fcntl.flock(running, fcntl.LOCK_SH)

from yt_dlp import main

sys.exit(main())
'''


class Origin(StrEnum):
    """Where a program comes from."""

    SETTING = "setting"  # YTDLP_PATH or FFMPEG_PATH names it
    UPGRADE = "upgraded copy"
    INSTALLED = "installed with Vodkeep"
    PATH = "PATH"


@dataclass(frozen=True, slots=True)
class ToolCommand:
    """How a program is started."""

    argv: tuple[str, ...]  # what stands before the program's own arguments
    origin: Origin

    @property
    def path(self) -> str:
        """The file that makes the difference: the program, or the launcher that an interpreter runs."""
        return self.argv[-1]


@dataclass(frozen=True, slots=True)
class Upgrade:
    """How an upgrade or a rollback ended."""

    changed: bool
    version: str  # in force now
    sentence: str


class ToolRejected(TransientError):
    """A new yt-dlp could not be installed or did not stand its trial; the old one stays in force."""

    code = "tool_rejected"


Trial = Callable[[ToolCommand], Awaitable[str]]
"""Uses a new yt-dlp for real; returns a sentence on what was tried, raises a `VodkeepError` when it is no good."""


class ToolShelf:
    """The yt-dlps below ``DATA_DIR/.tools``."""

    def __init__(self, data_dir: Path, installed_version: Callable[[], str | None] | None = None) -> None:
        self.root = data_dir.absolute() / TOOLS_DIR_NAME
        self._installed_version = installed_version or installed_ytdlp_version

    def current(self) -> ToolCommand | None:
        """The copy in force; None when that is the one installed with Vodkeep (or none is whole any more)."""
        for name in reversed(self._history()):
            command = self._command(self.root / name)
            if Path(command.path).is_file():
                return command
        return None

    def copies(self) -> list[ToolCommand]:
        """All whole copies that lie here, in force or not."""
        return [self._command(path.parent) for path in sorted(self.root.glob(f"{_COPY_PREFIX}*/{_LAUNCHER_NAME}"))]

    async def upgrade(
        self,
        version: str | None,
        *,
        installed: ToolCommand,
        trial: Trial,
        clock: Clock,
        say: Callable[[str], None] = lambda _: None,
    ) -> Upgrade:
        """Install yt-dlp ``version`` (None: the newest there is), try it, and put it in force.

        ``installed`` is the yt-dlp that counts while no copy is in force. ``say`` is told each step. Two upgrades at
        once take turns. Raises `ToolRejected` when the old one stays in force, and `PermanentError`
        when there is nothing to install with (``tool_missing``) or ``version`` is none (``tool_version``).
        """
        if version is not None and not _VERSION.fullmatch(version):
            raise PermanentError(
                f"{version[:80]!r} is not a version of yt-dlp, such as 2026.10.26.", code="tool_version"
            )
        installer = _find_installer()
        async with self._turn(clock, say):
            old = await self._version_in_force(installed)
            staging = Path(tempfile.mkdtemp(prefix=_STAGING_PREFIX, dir=self.root))
            try:
                say("Installing yt-dlp" + (f" {version} ..." if version else " ..."))
                await self._install(installer, staging, version)
                new = await tool_version(self._command(staging))
                if not _VERSION.fullmatch(new):
                    raise TransientError(f"The new yt-dlp calls its version {new[:80]!r}.", code="tool_failed")
                if old is not None and same_version(new, old):
                    return Upgrade(False, old, f"yt-dlp {old} is in force already; nothing was changed.")
                if version is None and old is not None and _version_key(new) < _version_key(old):
                    return Upgrade(False, old, f"There is nothing newer than yt-dlp {old}; nothing was changed.")
                say(f"Trying yt-dlp {new} ...")
                say(await trial(self._command(staging)))
                await anyio.to_thread.run_sync(self._put_in_force, staging, new)
            except VodkeepError as error:
                raise ToolRejected(
                    f"{str(error).rstrip('.')}. {f'yt-dlp {old}' if old else 'What was there'} stays in force.",
                    remedy=error.remedy,
                ) from error
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._tidy)
            return Upgrade(True, new, f"yt-dlp {new} is in force now" + (f", before it was {old}." if old else "."))

    async def rollback(
        self, *, installed: ToolCommand, clock: Clock, say: Callable[[str], None] = lambda _: None
    ) -> Upgrade:
        """Put the yt-dlp in force that was before the last upgrade; not an error when there was none."""
        async with self._turn(clock, say):
            old = await self._version_in_force(installed)
            history = self._history()
            if not history:
                return Upgrade(False, old or "", f"No upgraded copy is in force; it is yt-dlp {old} as installed.")
            await anyio.to_thread.run_sync(self._write_history, history[:-1])
            new = await self._version_in_force(installed)
            return Upgrade(True, new or "", f"yt-dlp {new} is in force again, before it was {old}.")

    # --- how it is done ------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self, clock: Clock, say: Callable[[str], None]) -> AsyncIterator[None]:
        """Be the only one who changes something here; the kernel's lock ends with its holder."""
        with disk_errors(self.root):
            self.root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            descriptor = os.open(self.root / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            told = False
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not told:
                        say("Another upgrade is at work; waiting for it to end ...")
                        told = True
                    await clock.sleep(_LOCK_POLL_S)
            await anyio.to_thread.run_sync(self._tidy)
            yield
        finally:
            os.close(descriptor)

    async def _version_in_force(self, installed: ToolCommand) -> str | None:
        """The version in force, None when it does not even say that: the reason to upgrade, not a hindrance."""
        try:
            return await tool_version(self.current() or installed)
        except VodkeepError:
            return None

    async def _install(self, installer: Sequence[str], folder: Path, version: str | None) -> None:
        requirement = f"yt-dlp=={version}" if version else "yt-dlp"
        result = await run_child([*installer, "--target", str(folder), requirement], deadline_s=_INSTALL_DEADLINE_S)
        if result.returncode != 0:
            raise TransientError(
                f"{requirement} cannot be installed: {_last_error(result.stderr)}",
                code="tool_failed",
                remedy="Check that there is such a version, and where this machine installs packages from.",
            )
        with disk_errors(folder):
            (folder / _LAUNCHER_NAME).write_text(_LAUNCHER, "utf-8")

    def _put_in_force(self, staging: Path, version: str) -> None:
        """Make the copy durable, then name it in ``current``."""
        with disk_errors(self.root):
            # A power cut would leave thousands of small files empty; one call is cheaper than a sync of each.
            os.sync()
            target = self._free_folder(version)
            staging.chmod(FOLDER_MODE)
            staging.rename(target)
            sync(self.root)
            self._write_history((*self._history(), target.name)[-_REMEMBERED:])

    def _free_folder(self, version: str) -> Path:
        """A name for a copy; one of the same version may still be there because somebody runs it."""
        folder, number = self.root / f"{_COPY_PREFIX}{version}", 1
        while folder.exists():
            number += 1
            folder = self.root / f"{_COPY_PREFIX}{version}-{number}"
        return folder

    def _history(self) -> tuple[str, ...]:
        """The names in ``current``; none when it cannot be read, or an update of Vodkeep brought a newer yt-dlp."""
        try:
            note = json.loads((self.root / _CURRENT_NAME).read_text("utf-8"))
        except (OSError, ValueError):
            return ()
        copies = note.get("copies") if isinstance(note, dict) else None
        if not isinstance(copies, list):
            return ()
        names = tuple(name for name in copies if isinstance(name, str) and _COPY.fullmatch(name))
        installed = self._installed_version()
        if names and installed is not None and installed != note.get("beside"):
            copied = names[-1].removeprefix(_COPY_PREFIX).split("-")[0]
            if _version_key(installed) > _version_key(copied):
                return ()
        return names

    def _write_history(self, names: Sequence[str]) -> None:
        note = {"copies": list(names), "beside": self._installed_version()}
        with disk_errors(self.root):
            fresh = self.root / f"{_CURRENT_NAME}.new"
            fresh.write_text(json.dumps(note) + "\n", "utf-8")
            sync(fresh)
            fresh.replace(self.root / _CURRENT_NAME)
            sync(self.root)

    def _tidy(self) -> None:
        """Remove what cut-off upgrades left and copies that nothing goes back to, unless somebody runs them."""
        remembered = self._history()
        for folder in self.root.iterdir():
            is_copy = folder.name.startswith(_COPY_PREFIX)
            if folder.name.startswith(_STAGING_PREFIX) or (
                is_copy and folder.name not in remembered and not _is_running(folder / _LAUNCHER_NAME)
            ):
                shutil.rmtree(folder, ignore_errors=True)

    @staticmethod
    def _command(folder: Path) -> ToolCommand:
        return ToolCommand((sys.executable, str(folder / _LAUNCHER_NAME)), Origin.UPGRADE)


def installed_ytdlp_version() -> str | None:
    """The version of the yt-dlp that lies beside our own code; None when there is none."""
    try:
        return importlib.metadata.version("yt-dlp")
    except importlib.metadata.PackageNotFoundError:
        return None


async def tool_version(command: ToolCommand, flag: str = "--version") -> str:
    """What the program says to ``flag``, its first line; raises `TransientError` or `PermanentError` if it does not."""
    result = await run_child([*command.argv, flag], deadline_s=_VERSION_DEADLINE_S)
    said = result.stdout.decode("utf-8", "replace").strip().splitlines()
    if result.returncode != 0 or not said:
        reason = (result.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise TransientError(
            f"{command.path} does not work: {reason[:200]}",
            code="tool_failed",
            remedy="Install it anew, or name another one in the settings.",
        )
    return said[0].strip()[:200]


@dataclass(frozen=True, slots=True)
class ToolEntry:
    """A program as lists show it."""

    name: str
    version: str | None  # None: it does not work
    path: str
    origin: str
    in_force: bool
    problem: str = ""


async def list_tools(
    *, ytdlp: ToolCommand, other_ytdlps: Sequence[ToolCommand], ffmpeg: ToolCommand | None
) -> list[ToolEntry]:
    """The programs and their versions: ``ytdlp`` in force, the others that could be, ffmpeg, and the libav in PyAV."""
    asked: list[tuple[str, ToolCommand, bool]] = [("yt-dlp", ytdlp, True)]
    asked += [("yt-dlp", command, False) for command in other_ytdlps if command != ytdlp]
    if ffmpeg is not None:
        asked.append(("ffmpeg", ffmpeg, True))
    entries: list[ToolEntry | None] = [None] * len(asked)

    async def ask(number: int, name: str, command: ToolCommand, in_force: bool) -> None:
        version, problem = None, ""
        try:
            version = await (ffmpeg_version(command) if name == "ffmpeg" else tool_version(command))
        except VodkeepError as error:
            problem = str(error)
        entries[number] = ToolEntry(name, version, command.path, str(command.origin), in_force, problem)

    async with anyio.create_task_group() as tasks:
        for number, each in enumerate(asked):
            tasks.start_soon(ask, number, *each)
    listed = [entry for entry in entries if entry is not None]
    if ffmpeg is None:
        listed.append(ToolEntry("ffmpeg", None, "", "", in_force=True, problem="There is no ffmpeg."))
    libav = f"{av.__version__} (libavformat {'.'.join(map(str, av.library_versions['libavformat']))})"
    return [*listed, ToolEntry("PyAV", libav, str(Path(av.__file__).parent), str(Origin.INSTALLED), in_force=True)]


def find_ffmpeg(path: str | None) -> ToolCommand | None:
    """The ffmpeg that is used, ``path`` being FFMPEG_PATH; None when there is none."""
    if path is not None:
        return ToolCommand((path,), Origin.SETTING)
    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        return None
    bundled = Path(program).is_relative_to(Path(imageio_ffmpeg.__file__).parent)
    return ToolCommand((program,), Origin.INSTALLED if bundled else Origin.PATH)


async def ffmpeg_version(command: ToolCommand) -> str:
    """The version of ffmpeg; the whole first line when it is written in another way. Raises as `tool_version` does."""
    line = await tool_version(command, "-version")
    found = re.match(r"ffmpeg version (\S+)", line)
    return found[1] if found else line


def same_version(one: str, other: str) -> bool:
    """Whether two spellings name one version: yt-dlp writes 2026.03.03 where its package says 2026.3.3."""
    return _version_key(one) == _version_key(other)


def _version_key(version: str) -> tuple[tuple[int, str], ...]:
    """Orders versions: numbers by value, and everything else before any number, as ``dev`` stands before a release."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"[.-]", version))


def _find_installer() -> list[str]:
    """The command that installs packages, without folder and package; the user's own configuration of it counts.

    Raises `PermanentError` (``tool_missing``) when there is none.
    """
    if importlib.util.find_spec("pip") is not None:
        return [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
            "--no-user",
        ]
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise PermanentError(
            "There is neither pip nor uv to install with.",
            code="tool_missing",
            remedy="Install pip beside Vodkeep, or download yt-dlp yourself and name it in YTDLP_PATH.",
        )
    return [uv, "pip", "install", "--quiet", "--no-progress", "--python", sys.executable]


def _last_error(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    said = (errors or lines or ["the installer gave no reason"])[-1]
    return _PASSWORD.sub(r"\1***@", said)[:300]


def _is_running(launcher: Path) -> bool:
    """Whether a process runs this copy; it holds the launcher."""
    with suppress(FileNotFoundError), launcher.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
