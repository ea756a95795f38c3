"""Runs one command and measures all of it: the process, its threads, its children and theirs.

``python supervise.py`` reads a specification as JSON from standard input and prints the measurement as JSON. It is a
process of its own, and a small one, for two reasons: the kernel adds the usage of everything that ended to the
process that reaped it, so what this process finds under "children" is the command's tree and nothing else; and a
child shows the memory of the process it was forked from as its own peak, so that process must be small.

What is counted, and how:

- *wall*: from the start of the command to its end, on the monotonic clock. The end is noticed through a pidfd, not by
  polling.
- *CPU*: ``getrusage(RUSAGE_CHILDREN)`` after everything was reaped. This process declares itself the reaper of orphans
  (``PR_SET_CHILD_SUBREAPER``), so grandchildren whose parent did not wait for them count as well.
- *written*: ``write_bytes`` of ``/proc/self/io``, to which the kernel adds that of every reaped child. It counts the
  bytes of file pages made dirty, that is what goes to the disk; bytes written to pipes and sockets are not in it.
  Bytes written again before the page went to disk count once. (It stays 0 on tmpfs, which has no disk.)
- *memory*: the resident sets of all processes of the tree added up, every 50 ms; their proportional sets (shared pages
  divided among their users) every 250 ms; and the largest resident set of any single process as the kernel kept it.
- *disk*: the blocks allocated to all files below a folder, every 50 ms. Temporary files are counted too, because the
  command gets a folder in there as ``TMPDIR``.

Standard library only; started with ``-I -S``.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SAMPLE_S = 0.05
_LOOK_FOR_CHILDREN_S = 0.1
_PSS_S = 0.25
# What a command may still leave behind after its own end, such as a helper that is just exiting.
_STRAGGLERS_S = 5.0
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Tree:
    """The living descendants of this process."""

    def __init__(self) -> None:
        self.pids: list[int] = []

    def look(self) -> None:
        """Find all descendants, by everybody's parent (the kernel need not keep lists of children)."""
        children: dict[int, list[int]] = {}
        for name in os.listdir("/proc"):  # noqa: PTH208 - twenty times a second, beside what is measured
            if name.isdigit():
                stat = read(f"/proc/{name}/stat")
                # The name in parentheses may hold anything, parentheses too: the last one ends it.
                fields = stat[stat.rfind(b")") + 2 :].split()
                if len(fields) > 1 and fields[0] != b"Z":
                    children.setdefault(int(fields[1]), []).append(int(name))
        found: list[int] = []
        parents = [os.getpid()]
        while parents:
            offspring = children.get(parents.pop(), [])
            found += offspring
            parents += offspring
        self.pids = found

    def resident_bytes(self) -> int:
        """The resident sets added up; pages that two processes share count twice."""
        total = 0
        for pid in self.pids:
            fields = read(f"/proc/{pid}/statm").split()
            total += int(fields[1]) * _PAGE_BYTES if fields else 0
        return total

    def proportional_bytes(self) -> int:
        """The resident sets added up, each shared page divided among those who have it."""
        total = 0
        for pid in self.pids:
            for line in read(f"/proc/{pid}/smaps_rollup").splitlines():
                if line.startswith(b"Pss:"):
                    total += int(line.split()[1]) * 1024
                    break
        return total

    def kill(self) -> None:
        """End every descendant, also those that are born meanwhile; the caller reaps them."""
        for _ in range(5):
            self.look()
            if not self.pids:
                return
            for pid in self.pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)


def read(path: str) -> bytes:
    """The content of a file in /proc; empty when its process is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 8192)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def allocated_bytes(folder: str) -> int:
    """The disk space of all files below ``folder``; a file with several names counts once."""
    total = 0
    seen: set[int] = set()
    folders = [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                            continue
                        stat = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    if stat.st_nlink > 1:
                        if stat.st_ino in seen:
                            continue
                        seen.add(stat.st_ino)
                    total += stat.st_blocks * 512
        except OSError:
            continue
    return total


def reap() -> bool:
    """Take in everything that ended; whether anything is left."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True


def io_counters() -> dict[str, int]:
    """What this process and all it has reaped read and wrote so far."""
    lines = (line.split(b":") for line in read("/proc/self/io").splitlines())
    return {name.decode(): int(value) for name, value in lines}


def busy_s() -> float:
    """CPU seconds that the whole machine has spent working since it started, time taken by its host included."""
    fields = [int(field) for field in read("/proc/stat").split(b"\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S


def measure(spec: dict[str, object]) -> dict[str, object]:
    """Run the command of ``spec`` and measure it.

    ``command`` (list), ``cwd``, ``env`` (mapping), ``watch`` (folder), ``log`` (file), ``patience_s`` (number).
    """
    command, cwd, env = spec["command"], spec["cwd"], spec["env"]
    watch, log, patience_s = spec["watch"], spec["log"], spec["patience_s"]
    assert isinstance(command, list) and isinstance(cwd, str) and isinstance(env, dict)  # noqa: PT018
    assert isinstance(watch, str) and isinstance(log, str) and isinstance(patience_s, int | float)  # noqa: PT018
    kernel = ctypes.CDLL(None, use_errno=True)
    if kernel.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) or kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")

    tree = Tree()
    peaks = {"rss": 0, "pss": 0, "disk": 0}
    os.chdir(cwd)
    log_to = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    no_input = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, no_input, 0), (os.POSIX_SPAWN_DUP2, log_to, 1), (os.POSIX_SPAWN_DUP2, log_to, 2)]

    io_before, busy_before = io_counters(), busy_s()
    started = time.monotonic()
    pid = os.posix_spawnp(command[0], command, env, file_actions=actions, setsid=True)
    ended = select.poll()
    handle = os.pidfd_open(pid)
    ended.register(handle, select.POLLIN)
    next_sample = next_look = next_pss = started
    gave_up = False
    while True:
        now = time.monotonic()
        if ended.poll(max(0.0, (next_sample - now) * 1000)):
            break
        now = time.monotonic()
        if now - started > patience_s:
            gave_up = True
            break
        if now >= next_look:
            tree.look()
            next_look = now + _LOOK_FOR_CHILDREN_S
        peaks["rss"] = max(peaks["rss"], tree.resident_bytes())
        if now >= next_pss:
            peaks["pss"] = max(peaks["pss"], tree.proportional_bytes())
            next_pss = now + _PSS_S
        peaks["disk"] = max(peaks["disk"], allocated_bytes(watch))
        next_sample = max(next_sample + _SAMPLE_S, now)
    wall_s = time.monotonic() - started
    busy_after = busy_s()

    if gave_up:
        tree.kill()
    _, status = os.waitpid(pid, 0)
    deadline = time.monotonic() + _STRAGGLERS_S
    while reap():
        if time.monotonic() > deadline:
            tree.kill()
        time.sleep(0.01)
    peaks["disk"] = max(peaks["disk"], allocated_bytes(watch))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = resource.getrusage(resource.RUSAGE_SELF)
    io_after = io_counters()
    io = {name: io_after[name] - io_before[name] for name in io_after}
    return {
        "exit_code": os.waitstatus_to_exitcode(status),
        "gave_up": gave_up,
        "wall_s": wall_s,
        "cpu_user_s": used.ru_utime,
        "cpu_system_s": used.ru_stime,
        "written_bytes": io["write_bytes"],
        "write_calls_bytes": io["wchar"],
        "disk_peak_bytes": peaks["disk"],
        "rss_peak_bytes": max(peaks["rss"], used.ru_maxrss * 1024),
        "pss_peak_bytes": peaks["pss"],
        "rss_largest_process_bytes": used.ru_maxrss * 1024,
        "machine_busy_s": busy_after - busy_before,
        "sampler_cpu_s": own.ru_utime + own.ru_stime,
    }


def main() -> None:
    """Measure what standard input asks for; whoever stops us stops the command as well."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    spec = json.load(sys.stdin)
    try:
        measured = measure(spec)
    except BaseException:
        # Asked twice, as by a terminal and by our parent, the second time must not cut this off.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        Tree().kill()
        raise
    json.dump(measured, sys.stdout)


if __name__ == "__main__":
    main()
