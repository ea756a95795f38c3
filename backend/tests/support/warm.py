"""Processes of the program that are forked off one which has imported it already.

A process that starts from nothing computes for a second only to import what it needs, and the tests start hundreds.
So each test process has one *nursery*: a process that has imported all of ``vodkeep`` and does nothing else. What is
forked off it is a process like any other, with an environment, a folder, streams and an exit code of its own, and does
what ``python -m MODULE`` does. It ends with the nursery, and that with the test process.

What a fork cannot show, that the program imports what it needs, is for the tests marked ``cold_start``.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, Protocol

_ROOM = "-" * 32_768
"""How long the command line and the environment of a process may be together, in bytes.

The system shows them where the first program of the process had its own, so the nursery's must be as long.
"""

_START_LIMIT_S = 60.0
_REQUEST_BYTES = 131_072
_PR_SET_PDEATHSIG = 1

# What the program imports only when it is needed, of other people's.
_LATE: tuple[str, ...] = ()


class WarmProcess:
    """A process out of the nursery; of ``subprocess.Popen``, the part that the tests use."""

    def __init__(self, pid: int, handle: int, ended: int, stdout: IO[str] | None) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._handle = handle  # a pidfd: no other process can be meant by it, also when the number is given out again
        self._ended = ended  # the nursery writes the exit code into the other end

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended; raises `subprocess.TimeoutExpired` after so many seconds."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        """``kill -9``."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def _look(self, timeout_s: float | None) -> int | None:
        if self.returncode is None:
            waiting = select.poll()
            waiting.register(self._ended, select.POLLIN)
            if not waiting.poll(None if timeout_s is None else 1000 * timeout_s):
                return None
            told = os.read(self._ended, 16)
            assert told, "the nursery has ended"
            os.close(self._ended)
            os.close(self._handle)
            self.returncode = int(told)
        return self.returncode


class Process(Protocol):
    """A process of either kind: out of the nursery, or started from nothing."""

    @property
    def pid(self) -> int: ...
    @property
    def stdout(self) -> IO[str] | None: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def kill(self) -> None: ...
    def terminate(self) -> None: ...


def start(
    module: str,
    *arguments: str,
    env: Mapping[str, str],
    cwd: Path,
    cold: bool = False,
    stdin: int | IO[Any] = subprocess.DEVNULL,
    stdout: int | IO[Any] = subprocess.DEVNULL,
    stderr: int | IO[Any] = subprocess.DEVNULL,
) -> Process:
    """Start ``python -m MODULE ARGUMENTS``, from nothing if it is to be ``cold``.

    A stream is a file or its number, ``DEVNULL`` or, for ``stdout``, ``PIPE`` and, for ``stderr``, ``STDOUT``.
    """
    if cold:
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.Popen(command, env=dict(env), cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, text=True)
    return _nursery().start(_Request(module, arguments, dict(env), str(cwd)), stdin, stdout, stderr)


def run(
    module: str, *arguments: str, env: Mapping[str, str], cwd: Path, timeout_s: float, cold: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m MODULE ARGUMENTS`` to its end; when it is late, it is killed.

    Raises `subprocess.TimeoutExpired`.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = start(module, *arguments, env=env, cwd=cwd, cold=cold, stdout=out, stderr=err)
        try:
            code = process.wait(timeout_s)
        finally:
            process.kill()
            process.wait()
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode())
    return subprocess.CompletedProcess([module, *arguments], code, *said)


@dataclass(frozen=True, slots=True)
class _Request:
    module: str
    arguments: tuple[str, ...]
    env: dict[str, str]
    cwd: str


class _Nursery:
    """Where the others come from, as the test process sees it."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._one_at_a_time = threading.Lock()
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        with theirs:
            # It ends when the channel is closed, which also the end of this process does.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "support.warm", str(theirs.fileno()), _ROOM],
                # One thread, since no other survives a fork.
                env={**kept, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1", "ROOM": _ROOM},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._channel.settimeout(_START_LIMIT_S)
        atexit.register(self._close)

    def _close(self) -> None:
        self._channel.close()
        self._process.wait()

    def start(self, request: _Request, *streams: int | IO[Any]) -> WarmProcess:
        """One more process."""
        ended, tell = os.pipe()
        only_here = [tell]
        stdout: IO[str] | None = None
        try:
            numbers: list[int] = []
            for stream in streams:
                if stream == subprocess.STDOUT:
                    numbers.append(numbers[1])
                elif stream == subprocess.PIPE:
                    ours, theirs = os.pipe()
                    stdout = os.fdopen(ours)
                    only_here.append(theirs)
                    numbers.append(theirs)
                elif stream == subprocess.DEVNULL:
                    only_here.append(os.open(os.devnull, os.O_RDWR))
                    numbers.append(only_here[-1])
                else:
                    numbers.append(stream if isinstance(stream, int) else stream.fileno())
            message = [request.module, request.arguments, request.env, request.cwd]
            with self._one_at_a_time:
                socket.send_fds(self._channel, [json.dumps(message).encode()], [*numbers, tell])
                answer, (handle,), _, _ = socket.recv_fds(self._channel, 64, 1)
        finally:
            for number in only_here:
                os.close(number)
        return WarmProcess(int(answer), handle, ended, stdout)


@cache
def _nursery() -> _Nursery:
    """The one of this test process, from the first start on."""
    return _Nursery()


# In the nursery itself ----------------------------------------------------------------------------------------


def _main(channel: socket.socket) -> None:
    """Fork off what is asked for, until the channel is closed; in a child, be what was asked for."""
    _import_everything()
    # What is there stays: a collection would write to all of it, and so copy it for each process.
    gc.collect()
    gc.freeze()
    children: dict[int, tuple[int, int]] = {}  # process id and where to tell its end, by pidfd
    while True:
        readable, _, _ = select.select([channel.fileno(), *children], [], [])
        for handle in children.keys() & set(readable):
            pid, tell = children.pop(handle)
            _, status = os.waitpid(pid, 0)
            os.write(tell, b"%d" % os.waitstatus_to_exitcode(status))
            os.close(tell)
            os.close(handle)
        if channel.fileno() not in readable:
            continue
        message, descriptors, _, _ = socket.recv_fds(channel, _REQUEST_BYTES, 4)
        if not message:
            return
        *streams, tell = descriptors
        module, arguments, env, cwd = json.loads(message)
        dressed, tell_dressed = os.pipe()
        pid = os.fork()
        if pid == 0:
            channel.close()
            for number in (dressed, tell, *children, *(told for _, told in children.values())):
                os.close(number)
            _become(_Request(module, tuple(arguments), env, cwd), streams)
            os.close(tell_dressed)
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            return
        handle = os.pidfd_open(pid)
        os.close(tell_dressed)
        os.read(dressed, 1)
        for number in (dressed, *streams):
            os.close(number)
        children[handle] = (pid, tell)
        socket.send_fds(channel, [b"%d" % pid], [handle])


def _import_everything() -> None:
    import vodkeep

    for module in pkgutil.walk_packages(vodkeep.__path__, "vodkeep."):
        if "__main__" not in module.name and ".migrations." not in module.name:
            importlib.import_module(module.name)
    for name in _LATE:
        importlib.import_module(name)


def _become(request: _Request, streams: Sequence[int]) -> None:
    """Put on what tells one process from another."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for stream in set(streams):
        os.close(stream)
    os.chdir(request.cwd)
    os.environ.clear()
    os.environ.update(request.env)
    time.tzset()
    # Shells have what they put into the background ignore it, and that would be inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [request.module, *request.arguments]
    _show([sys.executable, "-m", request.module, *request.arguments], request.env)


def _show(command: Sequence[str], env: Mapping[str, str]) -> None:
    """Have the system show this command line and this environment, as `support.home` looks at them.

    It reads them where the process had them at its start (proc(5), fields 48 to 51 of ``stat``).
    """
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    arguments_at, arguments_end, env_at, env_end = (int(field) for field in fields[45:49])
    words = b"".join(os.fsencode(word) + b"\0" for word in command)
    pairs = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in env.items())
    if len(words) > arguments_end - arguments_at or len(pairs) > env_end - env_at:
        raise ValueError("there is no room for so long a command line or environment")
    ctypes.memmove(arguments_at, words.ljust(arguments_end - arguments_at, b"\0"), arguments_end - arguments_at)
    ctypes.memmove(env_at, pairs.ljust(env_end - env_at, b"\0"), env_end - env_at)


if __name__ == "__main__":
    _main(socket.socket(fileno=int(sys.argv[1])))
