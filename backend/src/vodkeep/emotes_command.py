"""``vodkeep emotes tidy``: the images of the emote vault that nothing shows any more, named, and removed if told so."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import anyio
from rich.console import Console

from vodkeep.chat.database import chat_database
from vodkeep.chat.vault.files import ImageFiles
from vodkeep.chat.vault.tidying import TidyPlan, carry_out, plan_tidying
from vodkeep.db.engine import Database
from vodkeep.opening import need_kept_database
from vodkeep.printing import say
from vodkeep.settings import Settings

_UNFINISHED_AFTER = timedelta(hours=1)
"""A file that no row knows may belong to a fetch at work; none takes so long."""


async def tidy_emotes(settings: Settings, console: Console, *, remove: bool, as_json: bool) -> int:
    """Print what could go and, with ``remove``, let it go. Works with or without a service."""
    database = await need_kept_database(settings)
    chat = chat_database(database)
    try:
        plan, removed = await _tidy(chat, settings.storage.data_dir, remove=remove)
    finally:
        chat.dispose()
        database.dispose()
    paths = [*(f"{image.file_name}" for image in plan.unreferenced), *(path.name for path in plan.strays)]
    if as_json:
        document = {"found": paths, "size_bytes": plan.size_bytes, "removed": removed}
        say(console, json.dumps(document, ensure_ascii=False))
        return 0
    for path in paths:
        say(console, path)
    if not paths:
        say(console, "Every image of the vault is in use.")
    elif remove:
        say(console, "1 file removed." if removed == 1 else f"{removed} files removed.")
    else:
        unused = "1 file is" if len(paths) == 1 else f"{len(paths)} files are"
        say(console, f"{unused} not in use; --remove removes what is listed here.")
    return 0


async def _tidy(chat: Database, data_dir: Path, *, remove: bool) -> tuple[TidyPlan, int]:
    if chat.is_sqlite and not await anyio.Path(chat.path).exists():
        return TidyPlan((), ()), 0
    files = ImageFiles(data_dir)
    plan = await plan_tidying(chat, files, older_than_s=_UNFINISHED_AFTER.total_seconds())
    return plan, await carry_out(plan, chat, files) if remove else 0
