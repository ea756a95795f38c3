"""A process that does its work while it has the lease ``planner``, and tells each step on standard output.

``python -m support.lease_holder URL HOLDER``; ends with its standard input.
"""

from __future__ import annotations

import sys

import anyio
import anyio.to_thread
from sqlalchemy import make_url

from vodkeep.clock import SystemClock
from vodkeep.db.engine import Database
from vodkeep.pipeline.ownership import Ownership
from vodkeep.telemetry.log import configure_logging, get_logger


def say(word: str) -> None:
    """One word, one line, at once."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def main(url: str, holder: str) -> None:
    """Work until standard input ends."""
    configure_logging("critical", "text", sys.stderr)
    database = Database(make_url(url))
    clock = SystemClock()
    async with Ownership(database, clock, get_logger("holder"), holder) as ownership:

        async def work() -> None:
            say("begun")
            try:
                while True:
                    await ownership.confirm("planner")
                    say("step")
                    await clock.sleep(0.05)
            finally:
                say("canceled")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ownership.keep, "planner", work)
            say("asking")
            await anyio.to_thread.run_sync(sys.stdin.read)
            tasks.cancel_scope.cancel()
    database.dispose()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
