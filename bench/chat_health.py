"""How long ``/healthz`` takes while 5,000 messages of chat come at once.

``python -m bench.chat_health --bursts 20``

The real service records the chat of a live channel of the stand-in, which says 5,000 messages at once, again and again.
A process of its own asks for ``/healthz`` all the time, over one connection, the next right after each answer. What was
asked between a burst's first message and the moment when its last one is in the database counts as asked during it;
what was asked before the first burst is told beside it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import make_url, text

from support.postgres import PostgresServer, find_binaries, fresh_database
from support.service import ServiceProcess, service_env, wait_until
from support.standin import hosted_standin
from vodkeep.chat.database import chat_database
from vodkeep.db.engine import Database
from vodkeep_standin.scenario.model import Channel, Scenario
from vodkeep_standin.server import Standin

_LOGIN = "kai"
_QUIET_S = 5.0
_LOOK_S = 0.02
_STORED_LIMIT_S = 60.0

Sample = tuple[float, float]
"""When ``/healthz`` was asked for, seconds of the machine's monotonic clock, and how many seconds it took."""


def ask(url: str) -> list[Sample]:
    """Ask until standard input ends."""
    ended = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    where = urlsplit(url)
    assert where.hostname is not None
    samples = []
    with closing(http.client.HTTPConnection(where.hostname, where.port, timeout=30)) as connection:
        while not ended.is_set():
            begun = time.monotonic()
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            answer.read()
            samples.append((begun, time.monotonic() - begun))
            if answer.status != http.HTTPStatus.OK:
                raise RuntimeError(f"/healthz answered {answer.status}")
    return samples


def measure(kind: str, dsn: str, folder: Path, bursts: int, messages: int) -> None:
    """Print what is found on one database."""
    with ExitStack() as stack:
        scenario = Scenario.of("health", [Channel("1", _LOGIN, "Kai")])
        standin = stack.enter_context(hosted_standin(scenario, speed=1))
        env = service_env(
            folder / kind,
            {
                **standin.env(),
                "DB_DSN": dsn,
                "CHAT_AUTO_START": "1",
                "CHAT_AUTO_POLL_INTERVAL": "1s",
                "RATE_LIMIT_ENABLED": "0",
            },
        )
        service = ServiceProcess(env, folder)
        stack.callback(service.close)
        service.wait_until_listening()
        service.wait_for("started")
        wait_until(
            lambda: service.get_json("/status")["chat"]["joined"] == 1,
            "the recorder is in the chat",
        )
        standin.start_stream(_LOGIN)
        service.wait_for("chat recording began")
        asking = subprocess.Popen(
            [sys.executable, "-m", "bench.chat_health", "--ask", service.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(asking.kill)
        time.sleep(_QUIET_S)
        main_database = Database(make_url(dsn))
        stack.callback(main_database.dispose)
        chat = chat_database(main_database)
        stack.callback(chat.dispose)
        spans = [_burst(standin, chat, messages) for _ in range(bursts)]
        samples: list[Sample] = json.loads(asking.communicate("")[0])
    quiet = [took for begun, took in samples if begun < spans[0][0]]
    during = [took for begun, took in samples if any(first <= begun < last for first, last in spans)]
    seconds = sorted(last - first for first, last in spans)
    _say(f"{kind}: {bursts} bursts of {messages} messages, stored after {seconds[len(seconds) // 2]:.2f} s (median)")
    _say(f"  quiet    {_spread(quiet)}")
    _say(f"  burst    {_spread(during)}   (target: p99 below 250 ms)")


def _burst(standin: Standin, chat: Database, messages: int) -> tuple[float, float]:
    """Say so much at once; returns when that began, and when all of it was stored."""
    before = _stored(chat)
    begun = time.monotonic()
    standin.irc.burst(_LOGIN, messages)
    while _stored(chat) < before + messages:
        if time.monotonic() > begun + _STORED_LIMIT_S:
            raise TimeoutError("the burst was not stored")
        time.sleep(_LOOK_S)
    return begun, time.monotonic()


def _stored(chat: Database) -> int:
    with chat.unit_of_work(write=False) as unit:
        return int(unit.connection.execute(text("SELECT coalesce(sum(messages), 0) FROM chat_session")).scalar_one())


def _spread(seconds: Sequence[float]) -> str:
    ordered = sorted(1000 * each for each in seconds)
    p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99))
    return f"p50 {p50:6.1f} ms   p99 {p99:6.1f} ms   max {ordered[-1]:6.1f} ms   of {len(ordered)} answers"


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bursts", type=int, default=20)
    parser.add_argument("--messages", type=int, default=5_000)
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask is not None:
        _say(json.dumps(ask(options.ask)))
        return
    with (
        tempfile.TemporaryDirectory(prefix="vodkeep-bench-") as name,
        ExitStack() as stack,
    ):
        folder = Path(name)
        for kind in options.databases.split(","):
            (folder / kind).mkdir()
            if kind == "sqlite":
                dsn = f"sqlite:///{folder / kind / 'vodkeep.db'}"
            else:
                server = PostgresServer(find_binaries())
                stack.callback(server.close)
                server.start()
                dsn = server.dsn(stack.enter_context(fresh_database(server)))
            measure(kind, dsn, folder, options.bursts, options.messages)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
