"""``vodkeep cancel``, ``retry``, ``reprocess``, ``priority``, ``skip-upload``, ``describe``, ``circuit reset``.

They do what the API does, with the same functions, in the database: it does not matter whether a service works on it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rich.console import Console

from vodkeep.capture.workfolder import WorkFolder
from vodkeep.catalog.model import item_id_from
from vodkeep.clock import Clock
from vodkeep.errors import RequestRefused
from vodkeep.opening import need_kept_database
from vodkeep.pipeline.actions import Actions, wait_until_free
from vodkeep.pipeline.model import Asked, Asker, QueueItem
from vodkeep.printing import say
from vodkeep.settings import Settings
from vodkeep.telemetry.correlation import new_corr
from vodkeep.telemetry.log import get_logger


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request that was not refused."""

    item: QueueItem  # as it is afterwards
    sentence: str  # what is so now, to follow its id; no full stop
    holds: bool = True  # whether all of what was asked for is so already


Request = Callable[[Actions, str, Asked], Awaitable[Outcome]]


async def cancel(actions: Actions, item_id: str, asked: Asked) -> Outcome:
    """Stop the item, and wait for the end of its run."""
    canceled = await actions.cancel(item_id, asked)
    sentence = "is canceled" if canceled.ended else "is canceled, and its run has not ended yet"
    return Outcome(canceled.item, sentence, canceled.ended)


async def retry(actions: Actions, item_id: str, asked: Asked) -> Outcome:
    """Make an item due that is not done."""
    return Outcome(await actions.retry(item_id, asked), "is due now")


async def reprocess(actions: Actions, item_id: str, asked: Asked, *, fresh: bool, republish: bool = False) -> Outcome:
    """Make any item due."""
    item = await actions.reprocess(item_id, asked, fresh=fresh, republish=republish)
    return Outcome(item, "is due now, to be fetched anew" if item.fresh else "is due now")


async def set_priority(actions: Actions, item_id: str, asked: Asked, *, priority: int) -> Outcome:
    """Let the item go before or after others."""
    item = await actions.adjust(item_id, asked, priority=priority)
    return Outcome(item, f"has priority {item.priority}")


async def set_skip_upload(actions: Actions, item_id: str, asked: Asked, *, skip: bool) -> Outcome:
    """Have the item published or not."""
    item = await actions.adjust(item_id, asked, skip_upload=skip)
    return Outcome(item, "is not to be published" if item.skip_upload else "may be published")


async def set_description(actions: Actions, item_id: str, asked: Asked, *, text: str) -> Outcome:
    """Give the item a description of its own, or, with nothing, Twitch's."""
    item = await actions.adjust(item_id, asked, description=text)
    return Outcome(item, "has a description of its own" if text.strip() else "has the description of Twitch")


async def set_protected(actions: Actions, item_id: str, asked: Asked, *, protected: bool) -> Outcome:
    """Have retention leave the item's video alone, or not."""
    item = await actions.adjust(item_id, asked, protected=protected)
    return Outcome(item, "is protected" if item.protected else "is not protected")


async def ask(
    settings: Settings, clock: Clock, addresses: Sequence[str], request: Request, console: Console, *, as_json: bool
) -> int:
    """Ask the same of several items, by id or address; the exit code is 0 when it holds of each.

    One that is refused does not keep the others from it. Raises `SettingsError` when there is no database to ask, and
    `DatabaseUnavailable`.
    """
    asked = Asked(Asker.CLI, new_corr())
    told: list[dict[str, object]] = []
    holds = True
    async with _open_actions(settings, clock) as actions:
        for item_id in dict.fromkeys(item_id_from(address) for address in addresses):
            try:
                outcome = await request(actions, item_id, asked)
            except RequestRefused as error:
                holds = False
                told.append({"id": item_id, "done": False, "code": error.code, **_reason(error)})
                if not as_json:
                    sys.stderr.write(f"{error} {error.remedy}".rstrip() + "\n")
                continue
            holds &= outcome.holds
            told.append(_as_object(outcome))
            if not as_json:
                say(console, f"{item_id} {outcome.sentence}.")
    if as_json:
        console.print_json(json.dumps({"corr": asked.corr, "items": told}, ensure_ascii=False))
    return 0 if holds else 1


async def reset_circuit(
    settings: Settings, clock: Clock, channel: str | None, console: Console, *, as_json: bool
) -> int:
    """Close the breaker of a channel, or all."""
    asked = Asked(Asker.CLI, new_corr())
    async with _open_actions(settings, clock) as actions:
        closed = await actions.reset_circuit(asked, channel and channel.lower())
    if as_json:
        console.print_json(json.dumps({"corr": asked.corr, "closed": closed}))
    elif closed:
        say(console, f"Closed: {', '.join(closed)}.")
    else:
        say(console, "No breaker was open.")
    return 0


@asynccontextmanager
async def _open_actions(settings: Settings, clock: Clock) -> AsyncIterator[Actions]:
    async def stop(item_id: str) -> bool:
        # The run sees by its row that it is canceled, wherever it is; only its end remains to be seen.
        return await wait_until_free(WorkFolder(settings.storage.data_dir, item_id), clock)

    database = await need_kept_database(settings)
    try:
        yield Actions(database, clock, get_logger("vod_process"), stop=stop, wake=lambda: None)
    finally:
        database.dispose()


def _as_object(outcome: Outcome) -> dict[str, object]:
    item = outcome.item
    return {
        "id": item.twitch_vod_id,
        "done": outcome.holds,
        "state": str(item.download_state),
        "priority": item.priority,
        "skip_upload": item.skip_upload,
        "detail": f"It {outcome.sentence}.",
    }


def _reason(error: RequestRefused) -> dict[str, object]:
    return {"detail": str(error), "remedy": error.remedy}
