"""``vodkeep queue`` and ``vodkeep status``: how things stand, from the database, with or without a service."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import anyio
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vodkeep import __version__
from vodkeep.chat.database import chat_database
from vodkeep.clock import Clock
from vodkeep.opening import need_kept_database
from vodkeep.pipeline.model import RUNNING, DownloadState
from vodkeep.pipeline.store import ItemSummary, QueueStore
from vodkeep.printing import print_table, say
from vodkeep.settings import Settings
from vodkeep.web.reading import DatabaseStatusReader, upload_rules_of
from vodkeep.web.schema import ChannelStatus, Status, retry_config_of, status_of

_S = DownloadState

_STYLES = {
    _S.FAILED: "yellow",
    _S.PARKED: "bold red",
    _S.CANCELED: "dim",
    _S.DOWNLOADING: "cyan",
    _S.VERIFYING: "cyan",
    _S.UPLOADING: "cyan",
    _S.DONE: "green",
}
_BREAKERS = {"closed": "green", "open": "bold red", "half_open": "yellow"}


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """Which items of the queue are wanted."""

    states: Sequence[DownloadState] = ()  # none: all that are not processed
    channel: str | None = None  # a login
    limit: int = 50
    as_json: bool = False


async def show_queue(settings: Settings, clock: Clock, options: QueueOptions, console: Console) -> int:
    """Print the items in the order in which they are taken."""
    database = await need_kept_database(settings)
    try:
        # One more than is shown tells whether there are more.
        items = await database.run(
            lambda unit: QueueStore(unit.connection).load_list(
                states=options.states, channel=options.channel and options.channel.lower(), limit=options.limit + 1
            ),
            write=False,
        )
    finally:
        database.dispose()
    shown, has_more = items[: options.limit], len(items) > options.limit
    if options.as_json:
        told = {"items": [_as_object(item) for item in shown], "more": has_more}
        console.print_json(json.dumps(told, ensure_ascii=False))
    elif not shown:
        say(console, "There is nothing in the queue.")
    else:
        print_table(console, _as_table(shown, clock.now()))
        if has_more:
            say(console, f"There are more; --limit {2 * options.limit} shows them.")
    return 0


async def show_status(settings: Settings, clock: Clock, console: Console, *, as_json: bool) -> int:
    """Print what ``/status`` says; without rate and phase, which only the process that downloads knows."""
    database = await need_kept_database(settings)
    chat = chat_database(database)
    try:
        # An archive of before has none, and looking must not make one.
        there = chat if not chat.is_sqlite or await anyio.Path(chat.path).exists() else None
        figures = await DatabaseStatusReader(
            database, settings.twitch.channels, there, upload_rules_of(settings.uploads, clock)
        ).figures()
    finally:
        chat.dispose()
        database.dispose()
    status = status_of(figures, {}, retry_config_of(settings.pipeline), __version__)
    if as_json:
        console.print_json(status.model_dump_json())
        return 0
    say(console, _sentence(status, clock.now()))
    if status.channels:
        print_table(console, _channel_table(status.channels))
    for sentence in _disk_sentences(status):
        say(console, sentence)
    if status.uploads.held_until is not None:
        say(console, f"The daily limit lets the next upload through at {status.uploads.held_until:%Y-%m-%d %H:%M} UTC.")
    elif status.uploads.reason is not None:
        say(console, f"Nothing is uploaded: {status.uploads.reason}")
    say(console, _chat_sentence(status))
    for live in status.chat.live:
        say(console, f"Chat of {live.channel} into {live.id}: {live.messages} messages.")
    for item in status.active:
        share = "" if item.progress.percent is None else f", {item.progress.percent} %"
        say(console, f"{item.id} of {item.channel}: {item.state}{share}, attempt {item.attempt}.")
    return 0


def _as_table(items: Sequence[ItemSummary], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("Id", "Channel", "State"):
        table.add_column(name, no_wrap=True)
    table.add_column("Priority", justify="right", no_wrap=True)
    table.add_column("Failed", justify="right", no_wrap=True)
    table.add_column("Due", no_wrap=True)
    table.add_column("Broadcast", no_wrap=True)
    table.add_column("Title, cause", overflow="fold")
    for item in items:
        # Text, because what Twitch and errors say could be taken for markup.
        about = Text(item.title)
        if item.processing_error is not None:
            about.append(f"\n{item.processing_error}", style="italic")
        table.add_row(
            Text(item.twitch_vod_id),
            Text(item.channel),
            Text(item.download_state, style=_STYLES.get(item.download_state, "")),
            str(item.priority),
            str(item.download_retries),
            _due(item, now),
            "" if item.date is None else f"{item.date:%Y-%m-%d %H:%M}",
            about,
        )
    return table


def _due(item: ItemSummary, now: datetime) -> str:
    if item.download_state not in (_S.PENDING, _S.WAITING, _S.FAILED) and item.processing_error is not None:
        return ""  # It waits for a person.
    if item.processed or item.download_state in RUNNING:
        return ""
    if item.not_before is None or item.not_before <= now:
        return "now"
    return f"{item.not_before:%Y-%m-%d %H:%M:%S}"


def _sentence(status: Status, now: datetime) -> str:
    counts = (
        f"{status.pending} in the queue, {status.errored} with errors, {status.canceled} canceled,"
        f" {status.processed} kept, {status.incomplete} of them with holes."
    )
    if status.last_process_run is None:
        return f"{counts} No service has worked on it yet."
    ago_s = max(0, round((now - status.last_process_run).total_seconds()))
    return f"{counts} A service looked {ago_s} s ago."


def _disk_sentences(status: Status) -> list[str]:
    told = []
    if status.disk is not None:
        until = (
            "" if status.disk.full_at is None else f", and it is full on {status.disk.full_at:%Y-%m-%d} as things go"
        )
        told.append(f"Disk: {status.disk.free_bytes / 1e9:.1f} GB are free{until}.")
    if status.disk_shortage is not None:
        told.append(f"Captures wait for disk space. {status.disk_shortage.remedy}")
    if status.retention.trash_items:
        told.append(f"{status.retention.trash_items} videos are in the trash.")
    if status.retention.publications_in_trouble:
        told.append(f"YouTube has trouble with {status.retention.publications_in_trouble} publications.")
    return told


def _chat_sentence(status: Status) -> str:
    chat = status.chat
    if not chat.enabled:
        return f"Chat is not recorded. {chat.reason} {chat.remedy}"
    told = [f"Chat: in {chat.joined} of {chat.channels} channels, {len(chat.live)} live."]
    if status.unmatched:
        told.append(f"{status.unmatched} streams have no VOD.")
    if chat.login_failure is not None:
        told.append(f"The login of {chat.login_failure.account} fails: {chat.login_failure.reason}.")
    if chat.problem is not None:
        told.append(f"Nothing is stored at present: {chat.problem}")
    return " ".join(told)


def _channel_table(channels: Sequence[ChannelStatus]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Channel", no_wrap=True)
    for name in ("Queue", "Errors", "Canceled", "Kept"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Breaker", no_wrap=True)
    for channel in channels:
        breaker = channel.breaker
        until = "" if breaker.open_until is None else f" until {breaker.open_until:%Y-%m-%d %H:%M:%S}"
        table.add_row(
            Text(channel.login),
            str(channel.pending),
            str(channel.errored),
            str(channel.canceled),
            str(channel.processed),
            Text(f"{breaker.state}{until}", style=_BREAKERS[breaker.state]),
        )
    return table


def _as_object(item: ItemSummary) -> dict[str, object]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(item).items()}
