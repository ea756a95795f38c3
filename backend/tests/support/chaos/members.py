"""The processes of the service: each member is one place where a process runs, dies and is started again."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from support.chaos.evidence import Life, Line
from support.chaos.plan import Kind
from support.service import ServiceProcess

AGENT = "chaos-life-"
"""What yt-dlp calls itself, with the number of the life: so the pretended Twitch can tell whose links are used."""

_SCRAPE_LIMIT_S = 3.0
_STOP_LIMIT_S = 40.0


def _now() -> datetime:
    return datetime.now(UTC)


class Member:
    """One place where a process of the service runs."""

    def __init__(self, number: int, env: Mapping[str, str], cwd: Path, arguments: tuple[str, ...]) -> None:
        self.number = number
        self.lives: list[Life] = []
        self.back_at: float | None = None  # by the monotonic clock, when it is down on purpose
        self._env = dict(env)
        self._cwd = cwd
        self._arguments = arguments
        self._process: ServiceProcess | None = None
        self._frozen_since: datetime | None = None

    def has_role(self, role: str) -> bool:
        """Whether it has this role; a process that is told nothing has all."""
        told = dict(zip(self._arguments, self._arguments[1:], strict=False)).get("--roles")
        return told is None or role in told.split(",")

    @property
    def life(self) -> Life:
        """The present life, or the last one."""
        return self.lives[-1]

    @property
    def is_up(self) -> bool:
        """Whether its process lives; it may be frozen."""
        return self._process is not None

    @property
    def is_frozen(self) -> bool:
        """Whether its process is stopped by a signal."""
        return self._frozen_since is not None

    @property
    def url(self) -> str | None:
        """Where its pages are, once it listens."""
        listening = self._process.lines("listening") if self._process is not None else []
        return str(listening[-1]["url"]) if listening else None

    def start(self, number: int) -> None:
        """Start life ``number``."""
        arguments = f"{self._env['YTDLP_ARGS']} {shlex.join(['--user-agent', f'{AGENT}{number}'])}"
        process = ServiceProcess({**self._env, "YTDLP_ARGS": arguments}, self._cwd, *self._arguments)
        self._process = process
        self.back_at = None
        self.lives.append(Life(number, self.number, self.has_role("work"), self.has_role("watch"), process.pid, _now()))

    def kill(self, back_in_s: float) -> None:
        """``kill -9``."""
        assert self._process is not None
        self.life.by = Kind.KILL
        self._process.kill()
        self._end(back_in_s)

    def terminate(self, back_in_s: float) -> None:
        """SIGTERM; it has to end by itself, and `supervise` sees when it has."""
        assert self._process is not None
        self.life.by = Kind.TERMINATE
        self._back_in_s = back_in_s
        self._give_up_at = time.monotonic() + _STOP_LIMIT_S
        os.kill(self._process.pid, signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        self._frozen_since = _now()

    def thaw(self) -> None:
        """SIGCONT; harmless when it is not frozen, or has died meanwhile."""
        if self._frozen_since is None:
            return
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGCONT)
        self._note_frozen()

    def supervise(self) -> None:
        """Look whether it has ended: by itself, or as it was asked to."""
        process = self._process
        if process is None:
            return
        stopping = self.life.by is Kind.TERMINATE
        if process.is_running():
            if stopping and time.monotonic() > self._give_up_at:
                process.kill()
                self.life.exit_code = -int(signal.SIGKILL)
                self._end(self._back_in_s)
            return
        self.life.exit_code = process.wait_for_exit()
        # As a supervisor does it: not at once, or a process that cannot start would be started a hundred times.
        self._end(self._back_in_s if stopping else 1.0)

    def read_counters(self) -> None:
        """Ask for the metrics, if there is anybody to ask; whoever does not answer is left in peace."""
        url = self.url
        if url is None or self.is_frozen:
            return
        with suppress(OSError, urllib.error.URLError, ValueError):
            answer = urllib.request.urlopen(f"{url}/metrics", timeout=_SCRAPE_LIMIT_S)
            with answer:
                text = answer.read().decode()
            self.life.counters_at = _now()
            self.life.counters = {
                (sample.name, sample.labels["channel"]): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if "le" not in sample.labels
            }

    def collect(self) -> None:
        """Put what the process said so far into its life."""
        if self._process is not None:
            self._take_log(self._process, self.life)

    def close(self) -> None:
        """End it at the end of the test, in an orderly way if it can."""
        self.thaw()
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_LIMIT_S
        while self._process.is_running() and time.monotonic() < deadline:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait_for_exit(timeout_s=_STOP_LIMIT_S)
        self.life.exit_code = self._process.wait_for_exit()
        self._end(None)

    def _end(self, back_in_s: float | None) -> None:
        assert self._process is not None
        process, self._process = self._process, None
        self.life.ended = _now()
        self._note_frozen()
        self._take_log(process, self.life)
        process.close()
        self.back_at = None if back_in_s is None else time.monotonic() + back_in_s

    def _note_frozen(self) -> None:
        if self._frozen_since is not None:
            self.life.frozen.append((self._frozen_since, _now()))
            self._frozen_since = None

    def _take_log(self, process: ServiceProcess, life: Life) -> None:
        life.raw = process.output()
        life.lines = [
            Line(datetime.fromisoformat(str(line["time"])), str(line["msg"]), line)
            for line in process.lines(lambda line: "time" in line)
        ]
