"""``vodkeep scrub``: read what is due now, without waiting for the service's own turn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import anyio.to_thread
from rich.console import Console

from vodkeep.catalog.model import item_id_from
from vodkeep.chat.database import chat_database
from vodkeep.clock import Clock
from vodkeep.opening import need_kept_database
from vodkeep.pipeline.identity import ArchiveMark
from vodkeep.pipeline.model import Asked, Asker
from vodkeep.pipeline.recheck import Verdict
from vodkeep.pipeline.scrub import Checked, Scrubber
from vodkeep.printing import say
from vodkeep.settings import Settings
from vodkeep.telemetry.correlation import new_corr
from vodkeep.telemetry.log import get_logger


@dataclass(frozen=True, slots=True)
class ScrubOptions:
    """What the command line asks for."""

    addresses: Sequence[str] = ()  # items, by id or address; none: what is due, or everything
    everything: bool = False
    full_speed: bool = False
    as_json: bool = False


async def scrub(settings: Settings, clock: Clock, console: Console, options: ScrubOptions) -> int:
    """Read the items named, else every item that is due or each once; returns 1 when one is not as it should be.

    Stopped, it goes on with the next item when it is called again. Raises `DatabaseUnavailable` and `ArchiveAway`.
    """
    database = await need_kept_database(settings)
    chat = chat_database(database)
    mark = ArchiveMark(settings.storage.data_dir)
    scrubber = Scrubber(
        database=database,
        chat=chat,
        library=settings.storage.data_dir,
        clock=clock,
        log=get_logger("scrub"),
        interval=settings.scrub.interval or timedelta(days=30),
        rate_bytes_s=None if options.full_speed else settings.scrub.rate,
        require_archive=mark.require,
        repairs=settings.scrub.repair,
    )
    told: list[Checked] = []
    try:
        await anyio.to_thread.run_sync(mark.claim, database, clock.now())
        ids = [item_id_from(address) for address in options.addresses]
        if not ids:
            ids = await (scrubber.everything() if options.everything else scrubber.due())
        for video_id in ids:
            checked = await scrubber.check(video_id, asked=Asked(Asker.CLI, new_corr()))
            told.append(checked)
            if not options.as_json:
                _print(console, checked)
    finally:
        chat.dispose()
        database.dispose()
    bad = sum(each.finding.is_bad for each in told)
    if options.as_json:
        counts = {str(verdict): sum(each.finding.verdict is verdict for each in told) for verdict in Verdict}
        console.print_json(json.dumps({"items": [_as_object(each) for each in told], "counts": counts}))
    else:
        say(console, f"{len(told)} {'item was' if len(told) == 1 else 'items were'} read, {bad} of them damaged.")
    return 1 if bad else 0


def _print(console: Console, checked: Checked) -> None:
    for sentence in (*checked.finding.problems, *([checked.done] if checked.done else [])):
        say(console, f"{checked.finding.subject.video_id}: {sentence}")


def _as_object(checked: Checked) -> dict[str, object]:
    finding = checked.finding
    return {
        "id": finding.subject.video_id,
        "path": None if finding.subject.folder is None else str(finding.subject.folder),
        "verdict": str(finding.verdict),
        "problems": list(finding.problems),
        "notes": list(finding.notes),
        "repair": checked.done or None,
    }
