"""``vodkeep doctor``: what is in order, what is not, and what to do about it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import aiohttp
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vodkeep.accounts.setup import build_accounts
from vodkeep.bootstrap import app_credentials
from vodkeep.catalog.exchange import open_session
from vodkeep.checks.accounts import look_at_accounts
from vodkeep.checks.chat import look_at_chat
from vodkeep.checks.database import DatabaseChecks
from vodkeep.checks.model import Check, CheckResult, Found, State, run_checks
from vodkeep.checks.programs import program_checks
from vodkeep.checks.storage import storage_checks
from vodkeep.checks.twitch import TwitchChecks
from vodkeep.clock import Clock
from vodkeep.db.engine import Database
from vodkeep.printing import print_table, say
from vodkeep.settings import Settings
from vodkeep.telemetry.log import get_logger

_STYLES = {State.OK: "green", State.WARN: "yellow", State.FAIL: "bold red", State.SKIPPED: "dim"}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """How the command ended."""

    code: int  # of the process
    hangs: bool  # a thread waits for something that does not come


async def examine(settings: Settings, clock: Clock, console: Console, *, as_json: bool) -> Diagnosis:
    """Run all checks and print what they found; the exit code is 0 when none failed."""
    database = Database(settings.database.url())
    try:
        async with open_session() as session:
            results = await run_checks(build_checks(settings, clock, database, session), get_logger("doctor"))
    finally:
        database.dispose()
    if as_json:
        console.print_json(json.dumps({"checks": [_as_object(result) for result in results]}, ensure_ascii=False))
    else:
        print_table(console, _as_table(results))
        say(console, _summary(results))
    failed = any(result.state is State.FAIL for result in results)
    return Diagnosis(1 if failed else 0, any(result.timed_out for result in results))


def build_checks(settings: Settings, clock: Clock, database: Database, session: aiohttp.ClientSession) -> list[Check]:
    """Every check there is, in the order in which a person would mend things."""

    async def configuration() -> Found:
        if settings.warnings:
            return Found(State.WARN, " ".join(settings.warnings), "vodkeep config shows what takes effect.")
        return Found(State.OK, "All settings can be read.")

    data_dir = settings.storage.data_dir
    twitch = TwitchChecks(session, settings.twitch, app_credentials(settings), clock, get_logger("doctor"))
    return [
        Check("settings", configuration),
        *storage_checks(data_dir),
        *DatabaseChecks(database, data_dir).checks(),
        *program_checks(settings.tools, data_dir, clock),
        *twitch.checks(),
        Check("chat", partial(look_at_chat, settings)),
        Check("accounts", partial(look_at_accounts, settings, database, build_accounts(settings, database, clock))),
    ]


def _as_table(results: Sequence[CheckResult]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Check", no_wrap=True)
    table.add_column("State", no_wrap=True)
    table.add_column("What was found", overflow="fold")
    for result in results:
        told = Text(result.sentence)
        if result.fix and result.state is not State.OK:
            told.append(f"\n{result.fix}", style="italic")
        table.add_row(Text(result.name), Text(result.state, style=_STYLES[result.state]), told)
    return table


def _summary(results: Sequence[CheckResult]) -> str:
    counts = Counter(result.state for result in results)
    if counts[State.FAIL]:
        return f"{counts[State.FAIL]} of {len(results)} checks failed."
    if counts[State.WARN]:
        return f"Nothing failed; {counts[State.WARN]} worth a look."
    return "All is well."


def _as_object(result: CheckResult) -> dict[str, str]:
    return {"name": result.name, "state": str(result.state), "sentence": result.sentence, "fix": result.fix}
