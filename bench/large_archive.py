"""How long a look at the queue and ``/status`` take with a large archive, and what an idle service costs.

``python -m bench.large_archive --items 100000 --unprocessed 40000 --channels 1000``

A database of each kind is filled as years of work leave it. The planner looks at the queue and a client asks the web
for ``/status`` over a socket, again and again. Then the real service runs for a while with nothing to do; its
discovery, which is a matter of Twitch's answers, finds nothing and costs nothing here.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import anyio
import anyio.to_thread
from sqlalchemy import Connection, insert, text

from support.postgres import PostgresServer, find_binaries, fresh_database
from vodkeep.bootstrap import open_service, run_service
from vodkeep.catalog.service import DiscoverResult
from vodkeep.chat.database import CHAT, chat_database
from vodkeep.clock import SystemClock
from vodkeep.db.engine import Database
from vodkeep.db.migrate import upgrade
from vodkeep.db.tables import channels, events, kv, vods
from vodkeep.pipeline.circuits import Circuits
from vodkeep.pipeline.due import UploadLimits
from vodkeep.pipeline.metrics import NoMetrics
from vodkeep.pipeline.model import Job, QueueItem, Stage
from vodkeep.pipeline.planner import Planner
from vodkeep.settings import load_settings
from vodkeep.telemetry.log import configure_logging, get_logger
from vodkeep.web.server import serve

_ROWS_AT_ONCE = 5_000
_AVERAGES = ("avg_download_ms", "avg_upload_ms", "avg_total_ms")


@dataclass(frozen=True, slots=True)
class Size:
    """What the archive is made of."""

    items: int
    unprocessed: int
    channels: int

    @property
    def logins(self) -> list[str]:
        """The channels' names."""
        return [f"channel{number}" for number in range(self.channels)]


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds of several runs."""

    runs_ms: Sequence[float]

    def __str__(self) -> str:
        fastest, slowest = min(self.runs_ms), max(self.runs_ms)
        return f"{statistics.median(self.runs_ms):7.1f} ms   ({fastest:.1f} to {slowest:.1f})"


# --- the archive -----------------------------------------------------------------------------------------------------


def fill(database: Database, size: Size, now: datetime) -> None:
    """Years of work: most of it done, the rest in every state there is, with its events."""
    rng = random.Random(7)
    upgrade(database)
    chat = chat_database(database)
    upgrade(chat, CHAT)
    chat.dispose()
    with database.unit_of_work() as unit:
        _add_channels(unit.connection, size, now, rng)
        for first in range(0, size.items, _ROWS_AT_ONCE):
            rows = [_row(number, size, now, rng) for number in range(first, min(size.items, first + _ROWS_AT_ONCE))]
            unit.connection.execute(insert(vods), rows)
            unit.connection.execute(insert(events), [move for row in rows for move in _moves(row)])
        unit.commit()
    with database.unit_of_work() as unit:
        unit.connection.execute(text("ANALYZE"))
        unit.commit()


def _add_channels(connection: Connection, size: Size, now: datetime, rng: random.Random) -> None:
    known = [
        {
            "login": login,
            "broadcaster_id": login.removeprefix("channel"),
            "display_name": login.title(),
            "vod_days": rng.choice((7, 14, 60)),
            "backfill_done_at": now,
        }
        for login in size.logins
    ]
    facts = [
        {"channel": login, "key": key, "value": str(rng.randrange(10_000_000))}
        for login in (*size.logins, "")
        for key in (*_AVERAGES, "job_vod_discover_last", "job_vod_catalog_last")
    ]
    connection.execute(insert(channels), known)
    connection.execute(insert(kv), facts)


def _row(number: int, size: Size, now: datetime, rng: random.Random) -> dict[str, object]:
    date = now - timedelta(days=rng.random() * 1000)
    done = number >= size.unprocessed
    state = "done" if done else rng.choices(("pending", "failed", "parked", "canceled", "waiting"), (80, 9, 6, 3, 2))[0]
    waits = state in ("failed", "waiting")
    return {
        "twitch_vod_id": str(2_000_000_000 + number),
        "channel": rng.choice(size.logins),
        "title": "A broadcast with a title of ordinary length",
        "description": "What it is about. " * 10,
        "date": date,
        "duration_seconds": rng.randrange(600, 40_000),
        "processed": int(done),
        "download_state": state,
        "processing_error": "It did not work." if state in ("failed", "parked", "canceled") else None,
        "not_before": now + timedelta(days=1, seconds=rng.randrange(100_000)) if waits else None,
        "priority": rng.choices((0, 1, -1), (90, 5, 5))[0],
        "back_catalogue": int(rng.random() < 0.7),
        "downloaded_path": "channel/folder/video.mp4" if done else None,
        "completeness": rng.choices((1.0, 0.99), (95, 5))[0] if done else None,
        "created_at": date,
        "updated_at": date,
    }


def _moves(row: Mapping[str, object]) -> Iterator[dict[str, object]]:
    states = ("pending", "downloading", "verifying", "downloaded", "uploading", "done")
    for source, target in pairwise(states if row["processed"] else states[:2]):
        yield {
            "twitch_vod_id": row["twitch_vod_id"],
            "at": row["created_at"],
            "kind": "state",
            "from_state": source,
            "to_state": target,
        }


# --- what is measured ------------------------------------------------------------------------------------------------


class _Idle:
    """An engine that has free slots and starts nothing, so that every look finds the same."""

    def __init__(self, slots: int) -> None:
        self._slots = {Stage.CAPTURE: slots, Stage.PUBLISH: 1}

    async def slots(self) -> Mapping[Stage, int]:
        """As many as wanted."""
        return self._slots

    async def start(self, stage: Stage, item: QueueItem, *, probe: bool = False) -> bool:
        """Refuse."""
        return False

    async def cancel(self, item_id: str) -> bool:
        """Nothing runs."""
        return True

    async def running(self) -> list[Job]:
        """Nothing."""
        return []


async def measure_planning(database: Database, size: Size, slots: int, runs: int) -> Spread:
    """A whole look at the queue, from the engine's slots to the items that would be started."""
    log = get_logger("vod_process")
    planner = Planner(
        database=database,
        engine=_Idle(slots),
        circuits=Circuits(log=log, metrics=NoMetrics()),
        clock=SystemClock(),
        log=log,
        channels=size.logins,
        publishes=True,
        upload_limits=UploadLimits(10, 10),
    )
    await planner.plan()  # Builds the statements.
    return Spread([await _timed(planner.plan) for _ in range(runs)])


async def measure_status(environ: Mapping[str, str], runs: int) -> tuple[Spread, int]:
    """``/status`` over a socket, from the question to the last byte; and how many bytes there are."""
    async with (
        open_service(load_settings(environ, None), SystemClock()) as service,
        anyio.create_task_group() as tasks,
    ):
        listening = await tasks.start(partial(serve, service.app, "127.0.0.1", 0))

        async def ask() -> bytes:
            return await anyio.to_thread.run_sync(_fetch, f"{listening.url}/status")

        length = len(await ask())
        spread = Spread([await _timed(ask) for _ in range(runs)])
        tasks.cancel_scope.cancel()
    return spread, length


def measure_idle(environ: Mapping[str, str], seconds: float) -> float:
    """Per cent of a processor that the service takes in a process of its own."""
    command = [sys.executable, "-m", "bench.large_archive", "--idle-here", str(seconds)]
    done = subprocess.run(command, env={**os.environ, **environ}, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["percent"])


async def _run_idle(seconds: float) -> float:
    """The service in this process; discovery finds nothing. Its start is not counted."""
    async with open_service(load_settings(os.environ, None), SystemClock()) as service:

        async def nothing(login: str) -> DiscoverResult:
            return DiscoverResult()

        service.catalog.discover = nothing  # type: ignore[method-assign]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_service, service)
            await anyio.sleep(15)
            begun, used = time.monotonic(), time.process_time()
            await anyio.sleep(seconds)
            percent = 100 * (time.process_time() - used) / (time.monotonic() - begun)
            tasks.cancel_scope.cancel()
    return percent


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    begun = time.perf_counter()
    await work()
    return 1000 * (time.perf_counter() - begun)


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - our own address
        body: bytes = answer.read()
    return body


# --- both databases --------------------------------------------------------------------------------------------------


@contextmanager
def databases(kinds: Sequence[str], folder: Path) -> Iterator[dict[str, str]]:
    """The ``DB_DSN`` of a new database of each kind, for the time of the block."""
    found: dict[str, str] = {}
    if "sqlite" in kinds:
        found["sqlite"] = f"sqlite:///{folder / 'vodkeep.db'}"
    if "postgresql" not in kinds:
        yield found
        return
    server = PostgresServer(find_binaries())
    try:
        server.start()
        with fresh_database(server) as name:
            yield {**found, "postgresql": server.dsn(name)}
    finally:
        server.close()


def measure(kind: str, dsn: str, size: Size, folder: Path, options: argparse.Namespace) -> None:
    """Fill one database and print what is found."""
    environ = {
        "DB_DSN": dsn,
        "DATA_DIR": str(folder / f"{kind}-data"),
        "TWITCH_CHANNELS": ",".join(size.logins),
        "HTTP_ADDR": "127.0.0.1:0",
        "LOG_LEVEL": "error",
    }
    settings = load_settings(environ, None)
    settings.storage.data_dir.mkdir()
    database = Database(settings.database.url())
    begun = time.monotonic()
    fill(database, size, datetime.now(UTC))
    _say(f"{kind}: {size.items} items, {size.unprocessed} of them unprocessed, {size.channels} channels")
    _say(f"  filled in               {time.monotonic() - begun:7.1f} s")
    for slots in (1, 8):
        _say(f"  planning, {slots} free slots   {anyio.run(measure_planning, database, size, slots, options.runs)}")
    spread, length = anyio.run(measure_status, environ, options.runs)
    _say(f"  /status                 {spread}, {length / 1000:.0f} kB")
    if options.idle_seconds > 0:
        # With nothing due, as on most days; else it would begin to capture.
        with database.unit_of_work() as unit:
            unit.connection.execute(
                text("UPDATE vods SET not_before = '2100-01-01T00:00:00.000000Z' WHERE processed = 0")
            )
            unit.commit()
        _say(f"  idle                    {measure_idle(environ, options.idle_seconds):7.2f} % of a processor")
    database.dispose()


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--unprocessed", type=int, default=40_000)
    parser.add_argument("--channels", type=int, default=1_000)
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--idle-seconds", type=float, default=120, help="0: not measured")
    parser.add_argument("--idle-here", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    configure_logging("error", "text", sys.stderr)
    if options.idle_here is not None:
        _say(json.dumps({"percent": anyio.run(_run_idle, options.idle_here)}))
        return
    size = Size(options.items, options.unprocessed, options.channels)
    with (
        tempfile.TemporaryDirectory(prefix="vodkeep-bench-") as folder,
        databases(options.databases.split(","), Path(folder)) as dsns,
    ):
        for kind, dsn in dsns.items():
            measure(kind, dsn, size, Path(folder), options)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
