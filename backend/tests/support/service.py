"""The real service as a child process, observed through its log and its HTTP face."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.warm import start

LogLine = dict[str, Any]
Wanted = str | Callable[[LogLine], bool]

STARTUP_S = 60.0


class ServiceProcess:
    """One run of ``vodkeep run``, with ``arguments`` behind it."""

    def __init__(self, env: Mapping[str, str], cwd: Path, *arguments: str, cold: bool = False) -> None:
        self.raw: list[str] = []
        self.url = ""
        self._lines: list[LogLine] = []
        self._changed = threading.Condition()
        self._ended = False
        self._process = start(
            *("vodkeep", "run", *arguments),
            env=env,
            cwd=cwd,
            cold=cold,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            try:
                line = json.loads(raw)
            except ValueError:
                line = None
            if not isinstance(line, dict):
                line = {"msg": raw.rstrip("\n"), "unstructured": True}
            with self._changed:
                self.raw.append(raw)
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    # The log ----------------------------------------------------------------------------------------------

    def lines(self, wanted: Wanted, *, after: int = 0, **fields: object) -> list[LogLine]:
        """The lines so far with this message (or for which the function is true) and these fields."""
        with self._changed:
            return [line for line in self._lines[after:] if _fits(line, wanted, fields)]

    def mark(self) -> int:
        """How many lines there are; ``after`` of the other methods."""
        with self._changed:
            return len(self._lines)

    def wait_for(
        self, wanted: Wanted, *, after: int = 0, count: int = 1, timeout_s: float = 60.0, **fields: object
    ) -> LogLine:
        """The ``count``-th such line, from the start of the process or ``after`` a mark."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                found = [line for line in self._lines[after:] if _fits(line, wanted, fields)]
                if len(found) >= count:
                    return found[count - 1]
                if self._ended:
                    pytest.fail(f"the service ended before the log line {wanted!r} {fields}:\n{self.tail()}")
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    pytest.fail(f"no log line {wanted!r} {fields} within {timeout_s} s:\n{self.tail()}")

    def wait_until_listening(self) -> ServiceProcess:
        self.url = str(self.wait_for("listening", timeout_s=STARTUP_S)["url"])
        return self

    def output(self) -> str:
        """Everything it printed so far."""
        with self._changed:
            return "".join(self.raw)

    def tail(self) -> str:
        return "".join(self.raw[-80:])

    # The web ----------------------------------------------------------------------------------------------

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes, Mapping[str, str]]:
        """GET a path; returns status, body and headers, for errors too."""
        request = urllib.request.Request(self.url + path, headers=dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.read(), dict(response.headers)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), dict(error.headers)

    def send(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Send JSON, or nothing; returns status and the JSON that comes back, for errors too."""
        request = urllib.request.Request(
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **(headers or {})},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def get_json(self, path: str) -> Any:
        status, body, _ = self.get(path)
        assert status == 200, (status, body[:500])
        return json.loads(body)

    def vod(self, vod_id: str) -> Any:
        return self.get_json(f"/api/v1/vods/{vod_id}")

    def metrics(self) -> dict[tuple[str, str], float]:
        """Every sample of ``/metrics`` without buckets, by name and channel."""
        status, body, _ = self.get("/metrics")
        assert status == 200
        return {
            (sample.name, sample.labels["channel"]): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
            if "le" not in sample.labels
        }

    # The process ------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """``kill -9``, as a power cut would."""
        self._process.kill()
        self._process.wait()
        self._reader.join(10)

    def terminate(self, timeout_s: float = 30.0) -> int:
        """SIGTERM; returns the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait_for_exit(timeout_s)

    def wait_for_exit(self, timeout_s: float = STARTUP_S) -> int:
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"the service did not end within {timeout_s} s:\n{self.tail()}")
        self._reader.join(10)
        return code

    def is_running(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        if self.is_running():
            self.kill()
        # An orphan may hold the other end; then the reader still waits in it.
        if not self._reader.is_alive():
            assert self._process.stdout is not None
            self._process.stdout.close()


def _fits(line: LogLine, wanted: Wanted, fields: Mapping[str, object]) -> bool:
    named = wanted(line) if callable(wanted) else line.get("msg") == wanted
    return bool(named) and all(line.get(name) == value for name, value in fields.items())


def service_env(data_dir: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program under test: nothing of the developer's own settings."""
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


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = 60.0, every_s: float = 0.05) -> None:
    """Look until ``condition`` holds, for state that announces itself nowhere."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {timeout_s} s")
        pause.wait(every_s)
