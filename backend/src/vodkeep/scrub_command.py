"""``vodkeep scrub``: read what is due now, without waiting for the service's own turn."""

from __future__ import annotations

from datetime import timedelta

import anyio.to_thread
from rich.console import Console

from vodkeep.chat.database import chat_database
from vodkeep.clock import Clock
from vodkeep.opening import need_kept_database
from vodkeep.pipeline.identity import ArchiveMark
from vodkeep.pipeline.scrub import Scrubber
from vodkeep.printing import say
from vodkeep.settings import Settings
from vodkeep.telemetry.log import get_logger


async def scrub(settings: Settings, clock: Clock, console: Console, *, everything: bool, full_speed: bool) -> int:
    """Read every item that is due, or with ``everything`` each once; returns 1 when damage was found.

    Stopped, it goes on with the next item when it is called again. Raises `DatabaseUnavailable` and `ArchiveAway`.
    """
    database = await need_kept_database(settings)
    chat = chat_database(database)
    mark = ArchiveMark(settings.storage.data_dir)
    began = clock.now()
    bad = count = 0
    try:
        await anyio.to_thread.run_sync(mark.claim, database, began)
        while True:
            scrubber = Scrubber(
                database=database,
                chat=chat,
                library=settings.storage.data_dir,
                clock=clock,
                log=get_logger("scrub"),
                # What was looked at before this command began.
                interval=clock.now() - began if everything else settings.scrub.interval or timedelta(days=30),
                rate_bytes_s=None if full_speed else settings.scrub.rate,
                require_archive=mark.require,
            )
            finding = await scrubber.scrub_next()
            if finding is None:
                break
            count += 1
            bad += finding.is_bad
            for problem in finding.problems:
                say(console, f"{finding.subject.video_id}: {problem}")
    finally:
        chat.dispose()
        database.dispose()
    say(console, f"{count} {'item was' if count == 1 else 'items were'} read, {bad} of them damaged.")
    return 1 if bad else 0
