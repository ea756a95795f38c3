"""``vodkeep tools``: which external programs are used, and a newer yt-dlp without a newer Vodkeep."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vodkeep.capture.client import TwitchGql
from vodkeep.capture.resolve import YtDlpResolver, find_installed_ytdlp, find_ytdlp
from vodkeep.capture.tools import ToolCommand, ToolEntry, ToolShelf, find_ffmpeg, list_tools
from vodkeep.catalog.exchange import open_session
from vodkeep.catalog.model import video_id_from
from vodkeep.clock import Clock
from vodkeep.errors import PermanentError, SettingsError, VodkeepError
from vodkeep.opening import open_kept_database, prepare_data_dir
from vodkeep.pipeline.model import DownloadState
from vodkeep.pipeline.store import QueueStore
from vodkeep.printing import print_table, say
from vodkeep.settings import Settings
from vodkeep.telemetry.log import get_logger

# What a tool that works says of VODs like that: nothing can be learnt from them.
_NO_FAULT_OF_THE_TOOL = frozenset({"sub_only", "deleted", "geo_blocked", "login_needed"})
_TRIED_VODS = 3
_LOOKED_AT = 20


async def show_tools(settings: Settings, console: Console, *, as_json: bool) -> int:
    """List the programs; returns the exit code, 0 when all that are used work."""
    data_dir = settings.storage.data_dir
    entries = await list_tools(
        ytdlp=find_ytdlp(settings.tools.ytdlp_path, data_dir),
        other_ytdlps=[*ToolShelf(data_dir).copies(), find_installed_ytdlp()],
        ffmpeg=find_ffmpeg(settings.tools.ffmpeg_path),
    )
    if as_json:
        console.print_json(json.dumps({"tools": [asdict(entry) for entry in entries]}, ensure_ascii=False))
    else:
        print_table(console, _as_table(entries))
    return 0 if all(entry.version is not None for entry in entries if entry.in_force) else 1


async def upgrade_tools(
    settings: Settings, clock: Clock, console: Console, *, version: str | None, vod: str | None
) -> int:
    """Install, try and use a newer yt-dlp; returns the exit code, 0 when it or something as new is in force.

    Raises `ToolRejected` when the old one stays in force, and `SettingsError` for a ``vod`` that is none.
    """
    try:
        given = video_id_from(vod) if vod is not None else None
    except ValueError as error:
        raise SettingsError([str(error)]) from error
    prepare_data_dir(settings)
    tell = partial(say, console)
    candidates = [given] if given is not None else await _recent_vods(settings)
    async with open_session() as session:
        existence = TwitchGql(session, settings.twitch.gql_url, settings.twitch.gql_client_id or "")

        async def trial(command: ToolCommand) -> str:
            resolver = YtDlpResolver(
                program=lambda: command, args=settings.tools.ytdlp_args, existence=existence, log=get_logger("tools")
            )
            return await _try_out(resolver, candidates)

        done = await ToolShelf(settings.storage.data_dir).upgrade(
            version, installed=find_installed_ytdlp(), trial=trial, clock=clock, say=tell
        )
    tell(done.sentence)
    _tell_of_own_program(settings, tell)
    return 0


async def roll_back_tools(settings: Settings, clock: Clock, console: Console) -> int:
    """Use the yt-dlp from before the last upgrade again; returns the exit code."""
    prepare_data_dir(settings)
    tell = partial(say, console)
    shelf = ToolShelf(settings.storage.data_dir)
    tell((await shelf.rollback(installed=find_installed_ytdlp(), clock=clock, say=tell)).sentence)
    _tell_of_own_program(settings, tell)
    return 0


async def _try_out(resolver: YtDlpResolver, candidates: Sequence[str]) -> str:
    """Have the new yt-dlp describe a VOD; raises what it raises, unless the VOD itself is the reason."""
    for video_id in candidates:
        try:
            resolved = await resolver.resolve(video_id)
        except PermanentError as error:
            if error.code not in _NO_FAULT_OF_THE_TOOL:
                raise
        else:
            return f"It finds VOD {video_id} ({resolved.title or 'without a title'})."
    known = "None of the known VODs can be had" if candidates else "No VOD is known"
    return f"{known}, so no more was tried than whether it starts; --vod names one to try it with."


async def _recent_vods(settings: Settings) -> list[str]:
    """Ids of broadcasts that could still be on Twitch, newest first; none when the database cannot be asked."""
    try:
        database = await open_kept_database(settings)
        if database is None:
            return []
        try:
            items = await database.run(
                lambda unit: QueueStore(unit.connection).load_recent(limit=_LOOKED_AT), write=False
            )
        finally:
            database.dispose()
    except VodkeepError:
        return []
    return [
        item.twitch_vod_id
        for item in items
        if item.twitch_vod_id.isdecimal()
        and item.error_code not in _NO_FAULT_OF_THE_TOOL
        and item.download_state is not DownloadState.WAITING
    ][:_TRIED_VODS]


def _tell_of_own_program(settings: Settings, tell: Callable[[str], None]) -> None:
    if settings.tools.ytdlp_path is not None:
        tell(f"YTDLP_PATH is set, so {settings.tools.ytdlp_path} is used all the same.")


def _as_table(entries: Sequence[ToolEntry]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("Program", "Version", "In use", "From", "Path"):
        table.add_column(column, no_wrap=column != "Path", overflow="fold")
    for entry in entries:
        version = Text(entry.version) if entry.version is not None else Text("does not work", style="bold red")
        used = Text("yes", style="green") if entry.in_force else Text("no", style="dim")
        table.add_row(Text(entry.name), version, used, Text(entry.origin), Text(entry.problem or entry.path))
    return table
