"""``vodkeep retention``: what may go from the disk, letting it go, and having it back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vodkeep.catalog.model import item_id_from
from vodkeep.clock import Clock
from vodkeep.errors import SettingsError
from vodkeep.keep.retention import Judged
from vodkeep.opening import need_kept_database
from vodkeep.pipeline.identity import find_archive_problem
from vodkeep.pipeline.model import Asked, Asker
from vodkeep.pipeline.retention import Retention, build_retention
from vodkeep.printing import print_table, say
from vodkeep.settings import Settings
from vodkeep.telemetry.correlation import new_corr


async def show_plan(settings: Settings, clock: Clock, console: Console, *, as_json: bool) -> int:
    """Print what a run would let go, and why the rest stays; changes nothing."""
    async with _open(settings, clock) as retention:
        plan = await retention.plan()
    if as_json:
        told = {"going": _as_objects(plan.going), "staying": _as_objects(plan.staying)}
        console.print_json(json.dumps(told, ensure_ascii=False))
        return 0
    if not plan.going and not plan.staying:
        say(
            console,
            "No limit is set, so nothing goes: RETENTION_KEEP_DAYS, RETENTION_KEEP_COUNT, RETENTION_KEEP_BYTES.",
        )
        return 0
    _print(console, plan.going)
    for each in plan.staying:
        say(console, f"stays  {each.item.video_id}  {each.reason}")
    say(console, _summary([each.item.size_bytes for each in plan.going], "would go", len(plan.staying)))
    return 0


async def run(settings: Settings, clock: Clock, console: Console, *, as_json: bool) -> int:
    """Let go of what the plan says; with RETENTION_DRY_RUN only print that. 1 when something of it had to stay."""
    if settings.retention.dry_run:
        say(console, "RETENTION_DRY_RUN is on: nothing is touched.")
        return await show_plan(settings, clock, console, as_json=as_json)
    async with _open(settings, clock) as retention:
        report = await retention.run(Asked(Asker.CLI, new_corr()))
    left = {each.entry.twitch_vod_id: each.note for each in report.moved if each.note}
    gone = [each for each in report.plan.going if each.item.video_id not in left]
    if as_json:
        told = {
            "going": _as_objects(gone),
            "left": left,
            "removed": [each.twitch_vod_id for each in report.removed],
            "restored": [each.twitch_vod_id for each in report.restored],
        }
        console.print_json(json.dumps(told, ensure_ascii=False))
    else:
        _print(console, gone)
        for video_id, note in left.items():
            say(console, f"stays  {video_id}  {note}")
        for entry in report.restored:
            say(console, f"is back  {entry.twitch_vod_id}")
        for entry in report.removed:
            say(console, f"removed for good  {entry.twitch_vod_id}")
        say(console, _summary([each.item.size_bytes for each in gone], "went into the trash", len(report.plan.staying)))
    return 1 if left else 0


async def undo(settings: Settings, clock: Clock, address: str, console: Console) -> int:
    """Bring a video back from the trash and protect it; raises `RequestRefused`."""
    video_id = item_id_from(address)
    async with _open(settings, clock) as retention:
        await retention.undo(video_id, Asked(Asker.CLI, new_corr()))
    say(console, f"The video of {video_id} is back in its folder, and protected.")
    return 0


async def show_entries(settings: Settings, clock: Clock, console: Console, *, limit: int, as_json: bool) -> int:
    """Print the latest decisions and how far they are, newest first."""
    async with _open(settings, clock) as retention:
        entries = await retention.entries(limit=limit)
        window = retention.trash_window
    if as_json:
        told = [
            {
                "id": each.twitch_vod_id,
                "state": each.state,
                "size_bytes": each.size_bytes,
                "reason": each.reason,
                "note": each.note,
                "decided_at": each.created_at.isoformat(),
                "trashed_at": None if each.moved_at is None else each.moved_at.isoformat(),
                "removable_at": None if each.moved_at is None else (each.moved_at + window).isoformat(),
            }
            for each in entries
        ]
        console.print_json(json.dumps({"items": told}, ensure_ascii=False))
        return 0
    if not entries:
        say(console, "Nothing was ever let go.")
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("Id", "State", "Decided", "Undo until"):
        table.add_column(name, no_wrap=True)
    table.add_column("Why", overflow="fold")
    for each in entries:
        until = "" if each.moved_at is None else f"{each.moved_at + window:%Y-%m-%d %H:%M}"
        reason = Text(" ".join(filter(None, (each.reason, each.note))))
        table.add_row(each.twitch_vod_id, each.state, f"{each.created_at:%Y-%m-%d %H:%M}", until, reason)
    print_table(console, table)
    return 0


@asynccontextmanager
async def _open(settings: Settings, clock: Clock) -> AsyncIterator[Retention]:
    database = await need_kept_database(settings)
    try:
        problem = find_archive_problem(database, settings.storage.data_dir)
        if problem is not None:
            raise SettingsError([problem])
        yield build_retention(settings.retention, database, settings.storage.data_dir, clock)
    finally:
        database.dispose()


def _print(console: Console, going: Sequence[Judged]) -> None:
    for each in going:
        say(console, f"goes  {each.item.video_id}  {each.item.size_bytes / 1e9:.2f} GB  {each.reason}")


def _summary(sizes: Sequence[int], words: str, staying: int) -> str:
    return (
        f"{len(sizes)} {'video' if len(sizes) == 1 else 'videos'} {words}, {sum(sizes) / 1e9:.2f} GB; {staying} stay."
    )


def _as_objects(several: Sequence[Judged]) -> list[dict[str, object]]:
    return [
        {
            "id": each.item.video_id,
            "channel": each.item.channel,
            "path": each.item.path,
            "size_bytes": each.item.size_bytes,
            "reason": each.reason,
        }
        for each in several
    ]
