"""Accounts: what is connected, whether it can be used, and whether its tokens are encrypted."""

from __future__ import annotations

from vodkeep.accounts.model import ConnectionPhase, Provider
from vodkeep.accounts.service import Accounts
from vodkeep.checks.model import Found, State, in_thread
from vodkeep.db import migrate
from vodkeep.db.engine import Database
from vodkeep.settings import Settings


async def look_at_accounts(settings: Settings, database: Database, accounts: Accounts) -> Found:
    """How the stored connections stand; no provider is asked."""
    if database.is_sqlite and not await in_thread(database.path.exists):
        return Found(State.SKIPPED, "There is no database yet, and so no connected account.")
    if await in_thread(lambda: migrate.current(database)) != migrate.head():
        return Found(State.SKIPPED, "The database is not up to date; the service brings it up to date at its start.")
    states = await accounts.states()
    for each in states:
        if each.phase is ConnectionPhase.UNREADABLE:
            return Found(State.FAIL, each.reason, each.remedy)
    for each in states:
        if each.phase in (ConnectionPhase.REFUSED, ConnectionPhase.EXPIRED):
            return Found(State.FAIL, each.reason, each.remedy)
    if settings.uploads.enabled and not any(each.provider is Provider.YOUTUBE for each in states):
        missing = accounts.missing(Provider.YOUTUBE)
        what = f"Set {', '.join(missing)}, and then connect it" if missing else "Connect it"
        return Found(State.FAIL, "Uploads are on, and no YouTube account is connected.", f"{what} on the page.")
    plain = [each for each in states if not each.encrypted]
    if plain:
        return Found(
            State.WARN,
            f"{len(plain)} of {len(states)} connected accounts have their tokens stored as plain text.",
            "Set ENCRYPTION_KEY (openssl rand -base64 32), and run vodkeep tokens migrate.",
        )
    if any(each.key == "old" for each in states):
        return Found(
            State.WARN, "Tokens are encrypted with ENCRYPTION_KEY_OLD.", "Run vodkeep tokens migrate, then remove it."
        )
    for each in states:
        if each.phase is ConnectionPhase.FAILING:
            return Found(State.WARN, each.reason, each.remedy or "It is tried again by itself.")
    if not states:
        return Found(State.SKIPPED, "No account is connected.")
    return Found(State.OK, f"Connected: {', '.join(dict.fromkeys(each.provider.label for each in states))}.")
