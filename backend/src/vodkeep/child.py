"""External programs: each in its own process group, under a deadline and a stall watchdog, never outliving us.

On Linux the kernel kills the program when we die (``PR_SET_PDEATHSIG``, set by util-linux's ``setpriv`` before it
becomes the program, so no Python code runs between fork and exec). That signal follows the *thread* that started the
program, therefore children are started from the event loop's thread, which lives as long as the process. It is no
help to a child whose parent was killed before it asked for the signal; so, once it has asked, it looks whether its
parent is still the process that started it.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.abc import ByteReceiveStream, Process

from vodkeep.errors import PermanentError, TransientError

# Enough for the JSON of a 48 h broadcast with thousands of chapters and storyboards.
MAX_STDOUT_BYTES = 64 * 1024 * 1024
_MAX_STDERR_BYTES = 64 * 1024
_TERMINATE_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class ChildResult:
    """How a program ended."""

    returncode: int  # negative: the signal that ended it
    stdout: bytes  # all of it
    stderr: str  # its last 64 KiB


class ChildTimeout(TransientError):
    """The program passed its deadline or fell silent; its whole process group was ended."""

    code = "tool_timeout"


async def run_child(
    argv: Sequence[str],
    *,
    deadline_s: float | None,
    stall_s: float | None = None,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> ChildResult:
    """Run ``argv`` to its end and return what it said.

    ``deadline_s`` bounds the whole run, ``stall_s`` the silence on both pipes; ``on_line`` is called with each complete
    line of stdout (then stdout is not collected). ``env`` replaces the environment. Cancelling ends the process group
    within about a second. Raises `ChildTimeout`, and `PermanentError` (code ``tool_missing``) when there is no such
    program.
    """
    program = Path(argv[0]).name
    try:
        # A matter of milliseconds; canceled half way, asyncio would leave the process and its pipes to nobody.
        with anyio.CancelScope(shield=True):
            process = await anyio.open_process(
                [*_die_with_parent(), *argv], stdin=None, env=env, start_new_session=True, cwd=None
            )
    except (FileNotFoundError, PermissionError) as error:
        raise PermanentError(
            f"The program {argv[0]!r} cannot be started: {error.strerror}.",
            code="tool_missing",
            remedy="Install it or correct its path in the settings.",
        ) from error
    pipes = _Pipes(on_line)
    try:
        with anyio.move_on_after(deadline_s) as deadline:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(pipes.drain_stdout, process.stdout, tasks.cancel_scope)
                tasks.start_soon(pipes.drain_stderr, process.stderr)
                if stall_s is not None:
                    tasks.start_soon(_watch_for_silence, pipes, stall_s, tasks.cancel_scope)
                await process.wait()
                pipes.ended = True
                if stall_s is not None:
                    pipes.wake_watchdog()
        if deadline.cancelled_caught:
            raise ChildTimeout(f"{program} did not finish within {deadline_s:g} s and was ended.")
        if pipes.flooded:
            raise TransientError(
                f"{program} wrote more than {MAX_STDOUT_BYTES} bytes and was ended.", code="tool_failed"
            )
        if pipes.stalled:
            raise ChildTimeout(f"{program} said nothing for {stall_s:g} s and was ended.")
    finally:
        with anyio.CancelScope(shield=True):
            await _end_group(process)
    assert process.returncode is not None
    # setpriv reports a program that it cannot execute with the shell's codes.
    if process.returncode == 127 and b"failed to execute" in pipes.stderr:
        raise PermanentError(
            f"The program {argv[0]!r} cannot be started: it was not found.",
            code="tool_missing",
            remedy="Install it or correct its path in the settings.",
        )
    return ChildResult(process.returncode, bytes(pipes.stdout), pipes.stderr.decode("utf-8", "replace"))


class _Pipes:
    """What a child wrote so far."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.stalled = False
        self.flooded = False
        self.ended = False
        self._on_line = on_line
        self._spoke = anyio.Event()

    def wake_watchdog(self) -> None:
        self._spoke.set()

    async def wait_for_output(self) -> None:
        await self._spoke.wait()
        self._spoke = anyio.Event()

    async def drain_stdout(self, stream: ByteReceiveStream | None, scope: anyio.CancelScope) -> None:
        if stream is None:
            return
        pending = b""
        async for chunk in stream:
            self._spoke.set()
            if self._on_line is None:
                self.stdout += chunk
                if len(self.stdout) > MAX_STDOUT_BYTES:
                    self.flooded = True
                    scope.cancel()
                continue
            *lines, pending = (pending + chunk).split(b"\n")
            pending = pending[-MAX_STDOUT_BYTES:]
            for line in lines:
                self._on_line(line.decode("utf-8", "replace").rstrip("\r"))

    async def drain_stderr(self, stream: ByteReceiveStream | None) -> None:
        if stream is None:
            return
        async for chunk in stream:
            self._spoke.set()
            self.stderr += chunk
            del self.stderr[:-_MAX_STDERR_BYTES]


async def _watch_for_silence(pipes: _Pipes, stall_s: float, scope: anyio.CancelScope) -> None:
    while not pipes.ended:
        with anyio.move_on_after(stall_s) as silence:
            await pipes.wait_for_output()
        if silence.cancelled_caught:
            pipes.stalled = True
            scope.cancel()
            return


async def _end_group(process: Process) -> None:
    """End whatever is left of the group: first politely, then not."""
    if process.returncode is None:
        _signal_group(process.pid, signal.SIGTERM)
        with anyio.move_on_after(_TERMINATE_GRACE_S):
            await process.wait()
    # The leader may be gone while its children are not.
    _signal_group(process.pid, signal.SIGKILL)
    await process.wait()
    await process.aclose()


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def _die_with_parent() -> list[str]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return []
    # An orphan has another parent, in each pid namespace. The second setpriv changes nothing: it becomes the program,
    # and says what it always says of one that it cannot execute.
    still_ours = '[ "$PPID" = "$0" ] && exec "$@"'
    return [setpriv, "--pdeathsig", "KILL", "--", "/bin/sh", "-c", still_ours, str(os.getpid()), setpriv, "--"]
