"""The real service as a child process, observed through its log and its HTTP face."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

LogLine = dict[str, Any]

STARTUP_S = 60.0


class ServiceProcess:
    """One run of ``vodkeep run``."""

    def __init__(self, env: Mapping[str, str], cwd: Path) -> None:
        self.lines: list[LogLine] = []
        self.raw: list[str] = []
        self._fresh: queue.Queue[LogLine | None] = queue.Queue()
        self.url = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vodkeep", "run"],
            env=dict(env),
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            self.raw.append(raw)
            try:
                line = json.loads(raw)
            except ValueError:
                line = {"msg": raw.rstrip("\n"), "unstructured": True}
            self.lines.append(line)
            self._fresh.put(line)
        self._fresh.put(None)

    def wait_for(self, wanted: str | Callable[[LogLine], bool], *, timeout_s: float = 60.0, **fields: object) -> LogLine:
        """The next log line with this message (or for which the function is true) and these fields."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self._fresh.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"no log line {wanted!r} {fields} within {timeout_s} s:\n{self.tail()}")
            if line is None:
                pytest.fail(f"the service ended before the log line {wanted!r} {fields}:\n{self.tail()}")
            fits = wanted(line) if callable(wanted) else line.get("msg") == wanted
            if fits and all(line.get(name) == value for name, value in fields.items()):
                return line

    def wait_until_listening(self) -> None:
        self.url = str(self.wait_for("listening", timeout_s=STARTUP_S)["url"])

    def tail(self) -> str:
        return "".join(self.raw[-60:])

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes, Mapping[str, str]]:
        """GET a path; returns status, body and headers, for errors too."""
        request = urllib.request.Request(self.url + path, headers=dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, response.read(), response.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), error.headers

    def get_json(self, path: str) -> Any:
        status, body, _ = self.get(path)
        assert status == 200, (status, body[:500])
        return json.loads(body)

    def vod(self, vod_id: str) -> Any:
        return self.get_json(f"/api/v1/vods/{vod_id}")

    def kill(self) -> None:
        """``kill -9``, as a power cut would."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def terminate(self, timeout_s: float = 30.0) -> int:
        """SIGTERM; returns the exit code."""
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"the service did not end within {timeout_s} s of SIGTERM:\n{self.tail()}")
        self._reader.join()
        return code

    def wait_for_exit(self, timeout_s: float = STARTUP_S) -> int:
        code = self._process.wait(timeout_s)
        self._reader.join()
        return code

    def is_running(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        if self.is_running():
            self.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()


StartService = Callable[..., ServiceProcess]


def service_env(data_dir: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a service under test: nothing of the developer's own settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "DATA_DIR": str(data_dir),
        "HTTP_ADDR": "127.0.0.1:0",
        "LOG_FORMAT": "json",
        "VOD_PROCESS_INTERVAL": "1s",
        "DOWNLOAD_BACKOFF_BASE": "100ms",
        "PROCESSING_RETRY_COOLDOWN": "500ms",
        **extra,
    }


@contextmanager
def running_services(cwd: Path) -> Iterator[Callable[[Mapping[str, str]], ServiceProcess]]:
    """Start services; whatever still runs at the end of the block is killed."""
    started: list[ServiceProcess] = []

    def start(env: Mapping[str, str]) -> ServiceProcess:
        service = ServiceProcess(env, cwd)
        started.append(service)
        return service

    try:
        yield start
    finally:
        for service in started:
            service.close()


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = 30.0) -> None:
    """Look until ``condition`` holds, for state that announces itself nowhere."""
    deadline = time.monotonic() + timeout_s
    waiting = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {timeout_s} s")
        waiting.wait(0.05)
