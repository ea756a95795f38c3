"""``vodkeep tokens list``, ``connect``, ``disconnect`` and ``migrate``.

They work in the database, whether or not a service works on it, and never print a token.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vodkeep.accounts.model import Provider
from vodkeep.accounts.resealing import Resealing, Step, reseal
from vodkeep.accounts.service import BegunDevice, DevicePhase
from vodkeep.accounts.setup import build_accounts, vault_of
from vodkeep.clock import Clock
from vodkeep.opening import need_kept_database
from vodkeep.printing import print_table, say
from vodkeep.settings import Settings
from vodkeep.web.accounts import Account, account_of

_STEPS = {
    Step.ENCRYPT: ("would be encrypted", "is encrypted now"),
    Step.REKEY: ("would be encrypted with the current key", "is encrypted with the current key now"),
    Step.KEEP: ("is encrypted with the current key", "is encrypted with the current key"),
    Step.UNREADABLE: ("cannot be read", "cannot be read and stays as it is"),
}


async def list_accounts(settings: Settings, clock: Clock, console: Console, *, as_json: bool) -> int:
    """Print every connection without its secrets; the exit code is 1 when one needs a person."""
    database = await need_kept_database(settings)
    try:
        found = [account_of(state) for state in await build_accounts(settings, database, clock).states()]
    finally:
        database.dispose()
    if as_json:
        console.print_json(json.dumps({"accounts": [each.model_dump(mode="json") for each in found]}))
    elif not found:
        say(console, "No account is connected.")
    else:
        print_table(console, _as_table(found))
        for each in found:
            if each.reason or each.remedy:
                say(console, f"{_name(each.provider, each.channel)}: {each.reason} {each.remedy}".rstrip())
    return 1 if any(each.state in ("refused", "expired", "unreadable") for each in found) else 0


async def connect(settings: Settings, clock: Clock, provider: Provider, console: Console) -> int:
    """Connect an account with a code that is typed on any device; waits until it was, or has ended."""
    database = await need_kept_database(settings)
    try:
        accounts = build_accounts(settings, database, clock)
        begun: BegunDevice = await accounts.begin_device(provider)
        say(console, f"Open {begun.address} and enter {begun.user_code}; waiting until {_time(begun.expires_at)}.")
        wait_s = begun.interval_s
        while True:
            await clock.sleep(wait_s)
            stands = await accounts.poll_device(provider, begun.name)
            if stands.phase is DevicePhase.CONNECTED:
                say(console, f"The {provider.label} account {stands.account} is connected.")
                return 0
            wait_s = stands.wait_s
    finally:
        database.dispose()


async def disconnect(settings: Settings, clock: Clock, provider: Provider, channel: str, console: Console) -> int:
    """End a connection; the exit code is 1 when the provider could not be told."""
    database = await need_kept_database(settings)
    try:
        ended = await build_accounts(settings, database, clock).disconnect(provider, channel.lower())
    finally:
        database.dispose()
    say(console, f"{_name(provider, channel)} is disconnected; its tokens are forgotten.")
    if ended.warning:
        sys.stderr.write(f"{ended.warning} {ended.remedy}\n")
        return 1
    return 0


async def migrate_tokens(settings: Settings, console: Console, *, dry_run: bool, as_json: bool) -> int:
    """Encrypt what is plain text or encrypted with the old key; the exit code is 1 when something cannot be read."""
    database = await need_kept_database(settings)
    try:
        rows = await reseal(database, vault_of(settings), dry_run=dry_run)
    finally:
        database.dispose()
    if as_json:
        console.print_json(json.dumps({"dry_run": dry_run, "tokens": [_as_object(row) for row in rows]}))
    elif not rows:
        say(console, "No token is stored.")
    else:
        for row in rows:
            say(console, f"{_name(row.provider, row.channel)} {_STEPS[row.step][not dry_run]}. {row.reason}".rstrip())
    return 1 if any(row.step is Step.UNREADABLE for row in rows) else 0


def _as_table(found: list[Account]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("Provider", "Channel", "State", "Encrypted", "Ends", "Rights"):
        table.add_column(title, overflow="fold")
    for each in found:
        table.add_row(
            Text(each.provider),
            Text(each.channel or "all"),
            Text(each.state),
            Text({"none": "no", "current": "yes"}.get(each.key, f"with the {each.key} key")),
            Text("" if each.expires_at is None else _time(each.expires_at)),
            Text(" ".join(each.scopes)),
        )
    return table


def _as_object(row: Resealing) -> dict[str, object]:
    return {"provider": str(row.provider), "channel": row.channel, "step": str(row.step), "reason": row.reason}


def _name(provider: str, channel: str) -> str:
    return f"{Provider(provider).label} ({channel or 'all channels'})"


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
