"""A process that works for a fleet, for tests that kill, freeze and stop one.

``python -m support.fleet_worker DSN NAME FOLDER SLOTS`` runs the real engine and the real runner around a capture that
does nothing but keep a program running until the test lets it end. What happens is told as files in ``FOLDER``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
from sqlalchemy import make_url

from support.engines import Crew, announce, build_capture_runner
from support.warm import Process, start
from vodkeep.capture.model import Phase, Progress
from vodkeep.child import run_child
from vodkeep.db.engine import Database
from vodkeep.errors import DatabaseUnavailable
from vodkeep.pipeline.model import QueueItem
from vodkeep.pipeline.stages import CapturedItem
from vodkeep.telemetry.log import configure_logging

_LOOK_S = 0.02
_ALIVE_FOR = timedelta(seconds=6)


class FolderCapture:
    """A capture whose course is told and steered by files: ``begun-ITEM-NAME``, ``finish-ITEM``, ``placed-...``."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name

    async def capture(
        self,
        item: QueueItem,
        *,
        on_progress: Callable[[Progress], None],
        report_phase: Callable[[Phase], None],
        confirm: Callable[[], None],
        accept_holes: bool,
    ) -> CapturedItem:
        item_id = item.twitch_vod_id
        self._tell("begun", item_id)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(run_child, ["sleep", "600"], deadline_s=None))
                while not (self._folder / f"finish-{item_id}").exists():  # noqa: ASYNC110 - told by another process
                    await anyio.sleep(_LOOK_S)
                tasks.cancel_scope.cancel()
            await anyio.to_thread.run_sync(confirm)
            self._tell("placed", item_id)
        except anyio.get_cancelled_exc_class():
            self._tell("canceled", item_id)
            raise
        finally:
            self._tell("ended", item_id)
        return CapturedItem(f"/library/{item_id}.mp4", 1000, 3_600_000, 1.0)

    async def tidy(self, item_id: str) -> None:
        """Nothing is left behind."""

    def _tell(self, what: str, item_id: str) -> None:
        (self._folder / f"{what}-{item_id}-{self._name}").touch()


async def work(dsn: str, name: str, folder: Path, slots: int) -> None:
    """Work until SIGTERM."""
    database = Database(make_url(dsn))
    crew = Crew(
        "fleet", database, slots=slots, holder=name, runner=build_capture_runner(database, FolderCapture(folder, name))
    )

    async def stay_announced() -> None:
        while True:
            try:
                await anyio.to_thread.run_sync(announce, database, name, slots, _ALIVE_FOR)
            except DatabaseUnavailable:
                continue
            await anyio.sleep(2)

    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks, crew.engine:
            tasks.start_soon(stay_announced)
            (folder / f"ready-{name}").touch()
            async for _ in signals:
                break
            tasks.cancel_scope.cancel()
    database.dispose()


@dataclass(frozen=True, slots=True)
class Member:
    """A worker process as a test sees it."""

    name: str
    process: Process
    folder: Path

    def kill(self) -> None:
        """Like a machine that loses its power."""
        self.process.kill()
        self.process.wait(10)

    def freeze(self) -> None:
        """Stop its clock; only `thaw` starts it again."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """End it in an orderly way and return its exit code."""
        self.process.terminate()
        return self.process.wait(30)

    def log(self) -> str:
        return (self.folder / f"log-{self.name}").read_text()


@contextmanager
def member(dsn: str, name: str, folder: Path, slots: int = 1) -> Iterator[Member]:
    """A worker process for the time of the block."""
    arguments = ("support.fleet_worker", dsn, name, str(folder), str(slots))
    with (folder / f"log-{name}").open("wb") as log:
        process = start(*arguments, env=os.environ, cwd=folder, stdout=log, stderr=log)
    try:
        yield Member(name, process, folder)
    finally:
        process.kill()
        process.wait(10)


if __name__ == "__main__":
    configure_logging("debug")
    anyio.run(work, sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
