"""``vodkeep chat export``, ``import`` and ``erase``; a service may run on the same archive meanwhile."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio.to_thread
from rich.console import Console

from vodkeep.catalog.model import item_id_from
from vodkeep.chat.database import CHAT, chat_database
from vodkeep.chat.forms import Form
from vodkeep.clock import Clock
from vodkeep.db import migrate
from vodkeep.errors import RequestRefused, SettingsError
from vodkeep.opening import need_kept_database
from vodkeep.pipeline.chat_library import ChatLibrary, Erasure
from vodkeep.printing import say
from vodkeep.settings import Settings

T = TypeVar("T")

_NEW = ".new"


@dataclass(frozen=True, slots=True)
class EraseOptions:
    """What the command line asks for."""

    user: str  # id or login
    dry_run: bool = False
    as_json: bool = False


async def export_chat(settings: Settings, item: str, form: Form, output: Path | None, console: Console) -> int:
    """Write an item's chat into ``output``, whole or not at all, or to standard output; returns the exit code."""
    item_id = _id_of(item)
    async with _open(settings) as library:

        def write() -> None:
            export = library.export(item_id, form)
            if output is None:
                for piece in export.pieces:
                    sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
                return
            new = output.with_name(f"{output.name}{_NEW}")
            try:
                with new.open("wb") as file:
                    for piece in export.pieces:
                        file.write(piece)
                    file.flush()
                    os.fsync(file.fileno())
                new.replace(output)
            except OSError as error:
                raise RequestRefused(f"{output} cannot be written: {error.strerror or error}.") from error
            finally:
                new.unlink(missing_ok=True)

        await _in_thread(write)
    if output is not None:
        say(console, f"The chat of {item_id} is in {output}.")
    return 0


async def import_chat(settings: Settings, item: str, path: Path, console: Console) -> int:
    """Bring a file's messages into an item's chat; returns the exit code."""
    item_id = _id_of(item)
    async with _open(settings) as library:
        brought = await _in_thread(partial(library.import_file, item_id, path))
    say(console, f"{path} holds {brought.found} messages; {brought.added} of them are new in the chat of {item_id}.")
    if not brought.in_folder:
        say(console, "The item has no folder yet; they go there with its picture.")
    return 0


async def erase_person(settings: Settings, clock: Clock, options: EraseOptions, console: Console) -> int:
    """Remove a person from every chat; returns the exit code, 1 when something could not be looked into."""
    now_ms = round(clock.now().timestamp() * 1000)
    async with _open(settings) as library:
        done = await _in_thread(partial(library.erase, options.user, now_ms, dry_run=options.dry_run))
    if options.as_json:
        console.print_json(json.dumps(_as_object(done, options)))
    else:
        _tell(done, options, console)
    return 1 if done.unreadable or not done.is_purged else 0


def _tell(done: Erasure, options: EraseOptions, console: Console) -> None:
    tally, person = done.tally, done.person
    nothing = not (tally.messages or tally.quotations or tally.files or tally.journal_lines)
    if nothing:
        say(console, f"Nothing of {options.user} is kept.")
    else:
        names = ", ".join(sorted({*person.user_ids, *person.logins}))
        verb = "would be erased" if options.dry_run else "are erased"
        say(
            console,
            f"{tally.messages} messages of {names} and {tally.quotations} quotations in {tally.sessions} chats"
            f" {verb}, also in {tally.files} files and {tally.journal_lines} lines of journals.",
        )
    if not options.dry_run:
        say(console, "What they said until now does not come in again. Copies made elsewhere, backups too, are yours.")
    for path in done.unreadable:
        say(console, f"{path} cannot be read: look into it by hand, or reprocess its item and erase again.")
    if not done.is_purged:
        say(
            console,
            "The file of the chat database could not be written anew, so that words may still stand in unused parts of"
            " it: see that its disk has room for another copy, and run this again.",
        )


def _as_object(done: Erasure, options: EraseOptions) -> dict[str, object]:
    tally = done.tally
    return {
        "user": options.user,
        "dry_run": options.dry_run,
        "messages": tally.messages,
        "quotations": tally.quotations,
        "chats": tally.sessions,
        "files": tally.files,
        "journal_lines": tally.journal_lines,
        "unreadable": list(done.unreadable),
        "purged": done.is_purged,
    }


def _id_of(item: str) -> str:
    try:
        return item_id_from(item)
    except ValueError as error:
        raise SettingsError([str(error)]) from error


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[ChatLibrary]:
    """The chats of the archive; raises `SettingsError` when there is none that this version works with."""
    database = await need_kept_database(settings)
    chat = chat_database(database)
    try:
        kept = not chat.is_sqlite or await anyio.Path(chat.path).exists()
        revision = await anyio.to_thread.run_sync(migrate.current, chat, CHAT) if kept else None
        if revision != migrate.head(CHAT):
            raise SettingsError(
                [f"The chats in {chat.address} are not as this version needs them: start the service once."]
            )
        yield ChatLibrary(database, chat, settings.storage.data_dir)
    finally:
        chat.dispose()
        database.dispose()


async def _in_thread(work: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(work)
