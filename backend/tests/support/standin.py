"""The stand-in as a fixture.

It runs on an event loop in a thread of its own, so tests may block (child processes, plain sockets) or run their own
loop. Media comes from the machine's cache and is built on first use.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3
from anyio.from_thread import start_blocking_portal

from vodkeep.capture.resolve import TWITCH_FIRST
from vodkeep_standin.scenario.model import Scenario
from vodkeep_standin.server import Standin, running_standin

StandinFactory = Callable[..., Standin]


@contextmanager
def hosted_standin(scenario: Scenario | str = "test", **options: Any) -> Iterator[Standin]:
    """``running_standin`` on a loop in another thread."""
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(running_standin(scenario, **options)) as standin,
    ):
        yield standin


@pytest.fixture
def standin_of() -> Iterator[StandinFactory]:
    """Starts stand-ins: ``standin_of("catalog:250", speed=0)``; all end with the test."""
    with ExitStack() as stack:
        yield lambda scenario="test", **options: stack.enter_context(hosted_standin(scenario, **options))


@pytest.fixture
def standin(standin_of: StandinFactory) -> Standin:
    """The ``test`` scenario; its clock stands still, so recordings grow only by ``standin.advance``."""
    return standin_of("test", speed=0)


@pytest.fixture
def http() -> Iterator[urllib3.PoolManager]:
    """A plain HTTP client that neither retries nor waits for ever."""
    with urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=30, read=60)) as pool:
        yield pool


def run_ytdlp(
    standin: Standin, *arguments: str, cwd: Path | None = None, timeout_s: float = 90.0
) -> subprocess.CompletedProcess[str]:
    """Unmodified yt-dlp as a child process that can reach nothing but the stand-in.

    Name resolution of everything else would fail the test through ``standin.refused``.
    """
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(cwd or standin.ca_path.parent),
        "SSL_CERT_FILE": str(standin.ca_path),
        "PYTHONUTF8": "1",
    }
    program = Path(sys.executable).with_name("yt-dlp")
    return subprocess.run(
        [str(program), "--ignore-config", "--no-cache-dir", *TWITCH_FIRST, *standin.ytdlp_args(), *arguments],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
