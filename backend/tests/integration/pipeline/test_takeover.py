"""Real processes on one PostgreSQL: one is killed or stopped, another takes over, and never two at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import URL

PATIENCE_S = 60.0
# Ten, where nothing else runs.
TAKEOVER_LIMIT_S = 20.0

pytestmark = pytest.mark.postgres


class Holder:
    """One process that wants the lease; what it said, and when we heard it."""

    def __init__(self, url: URL, name: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.lease_holder", url.render_as_string(hide_password=False), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self._words: list[tuple[str, float]] = []
        self._heard = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._heard:
                self._words.append((line.strip(), time.monotonic()))
                self._heard.notify_all()

    def words(self, after: int = 0) -> list[str]:
        """What it said after the first ``after`` words."""
        with self._heard:
            return [word for word, _ in self._words[after:]]

    def wait_for(self, word: str, count: int = 1) -> float:
        """When it had said ``word`` for the ``count``-th time."""
        until = time.monotonic() + PATIENCE_S
        with self._heard:
            while True:
                times = [at for said, at in self._words if said == word]
                if len(times) >= count:
                    return times[count - 1]
                if not self._heard.wait(until - time.monotonic()):
                    pytest.fail(f"never said {word!r}, only {[said for said, _ in self._words]}")

    def send(self, number: signal.Signals) -> float:
        """Send a signal; returns when."""
        self._process.send_signal(number)
        return time.monotonic()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def database_kind() -> str:
    """SQLite has one process only."""
    return "postgres"


@pytest.fixture
def holders(database_url: URL) -> Iterator[tuple[Holder, Holder]]:
    """Two processes, of which the first has the lease."""
    with ExitStack() as stack:
        first = Holder(database_url, "first")
        stack.callback(first.close)
        first.wait_for("step")
        second = Holder(database_url, "second")
        stack.callback(second.close)
        second.wait_for("asking")
        yield first, second


def test_when_the_holder_is_killed_another_takes_over(holders: tuple[Holder, Holder]) -> None:
    first, second = holders
    assert second.words() == ["asking"]

    killed_at = first.send(signal.SIGKILL)

    assert second.wait_for("begun") - killed_at < TAKEOVER_LIMIT_S


def test_a_holder_that_was_stopped_does_nothing_more_when_it_goes_on(holders: tuple[Holder, Holder]) -> None:
    first, second = holders
    stopped_at = first.send(signal.SIGSTOP)
    assert second.wait_for("begun") - stopped_at < TAKEOVER_LIMIT_S
    before = len(first.words())

    first.send(signal.SIGCONT)
    first.wait_for("canceled")

    assert first.words(after=before) == ["canceled"]
    second.wait_for("step", second.words().count("step") + 50)
    assert first.words(after=before) == ["canceled"]
    assert "canceled" not in second.words()
