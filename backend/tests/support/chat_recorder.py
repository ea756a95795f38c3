"""A process that records chat, for tests that kill it: ``python -m support.chat_recorder DATA_DIR PORT CA SESSION``.

It reads lines from the port over TLS, and answers with how many of them are safe. When the other side ends the
connection it stores what is left, of earlier processes too, and ends. ``CHAT_URL`` is the database.
"""

from __future__ import annotations

import os
import secrets
import ssl
import sys
from pathlib import Path

import anyio
from sqlalchemy import make_url

from support.chat_messages import START_MS
from vodkeep.chat.irc import Splitter
from vodkeep.chat.recording import Recording
from vodkeep.chat.sessions import SessionStore
from vodkeep.clock import SystemClock
from vodkeep.db.engine import Database
from vodkeep.errors import DatabaseUnavailable
from vodkeep.telemetry.log import configure_logging, get_logger
from vodkeep.telemetry.metrics import Metrics


async def main(data_dir: Path, port: int, certificate: Path, session_id: int) -> None:
    """Record until the other side has no more to say."""
    database = Database(make_url(os.environ["CHAT_URL"]))
    clock, name = SystemClock(), f"{os.getpid()}-{secrets.token_hex(4)}"
    async with Recording(database, data_dir, name, clock, get_logger("chat_recorder"), Metrics()) as recording:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(begin, database, recording, session_id)
            context = ssl.create_default_context(cafile=str(certificate))
            async with await anyio.connect_tcp(
                "127.0.0.1", port, ssl_context=context, tls_standard_compatible=False
            ) as stream:
                splitter = Splitter()
                async for chunk in stream:
                    lines = splitter.feed(chunk)
                    if lines:
                        await recording.lines(lines, START_MS)
                        await stream.send(b"%d\n" % len(lines))
        while recording.state().spool_bytes or recording.state().database_problem:  # noqa: ASYNC110
            await anyio.sleep(0.05)
    database.dispose()


async def begin(database: Database, recording: Recording, session_id: int) -> None:
    """Begin to record the session as soon as the database says what it is."""
    while True:
        try:
            session = await database.run(lambda unit: SessionStore(unit.connection).get(session_id), write=False)
        except DatabaseUnavailable:
            await anyio.sleep(0.1)
            continue
        assert session is not None
        await recording.begin(session.channel, session)
        return


if __name__ == "__main__":
    configure_logging("error", "text")
    anyio.run(main, Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
