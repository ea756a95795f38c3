"""Retention on real folders and databases: what goes is what was recorded, and it can be had back."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from sqlalchemy import URL

from support.clock import START, FakeClock
from support.kept_items import DURATION_MS, KeptItems, everything_below
from vodkeep import retention_command
from vodkeep.capture.workfolder import WorkFolder
from vodkeep.db.engine import Database
from vodkeep.db.events import EventLog
from vodkeep.errors import DatabaseUnavailable, RequestRefused
from vodkeep.keep import trash
from vodkeep.keep.library import Library
from vodkeep.keep.manifest import load_manifest
from vodkeep.keep.retention import Limits, Policy
from vodkeep.pipeline.archive import Archivist
from vodkeep.pipeline.model import Asked, Asker, QueueItem
from vodkeep.pipeline.recheck import Verdict, check, plan_one
from vodkeep.pipeline.retention import Retention
from vodkeep.pipeline.retention_store import RetentionStore
from vodkeep.pipeline.stages import CapturedItem
from vodkeep.pipeline.store import QueueStore
from vodkeep.settings import load_settings
from vodkeep.telemetry.log import get_logger

pytestmark = pytest.mark.anyio

OLD = Policy(Limits(keep_days=30))
BY_ME = Asked(Asker.CLI, "corr-1")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "archive"
    path.mkdir()
    return path


@pytest.fixture
def kept(database: Database, library: Path) -> KeptItems:
    return KeptItems(database, library)


def retention_of(kept: KeptItems, clock: FakeClock, policy: Policy = OLD) -> Retention:
    return Retention(kept.database, kept.library, policy, clock, get_logger("retention"), interval=timedelta(hours=6))


def events_of(kept: KeptItems, video_id: str) -> list[tuple[str | None, str | None]]:
    with kept.database.unit_of_work(write=False) as unit:
        found = EventLog(unit.connection).of_item(video_id)
        return [(event.code, event.asked_by) for event in found if event.kind == "retention"]


async def test_a_video_goes_waits_and_is_removed(kept: KeptItems, clock: FakeClock) -> None:
    old, young = kept.add("1"), kept.add("2", days_old=3)
    kept.add("3", published=False)
    kept.add("4", protected=1)
    kept.add("5", download_state="failed", processed=0, processing_error="no")
    (old / "notes.txt").write_text("mine")
    before = everything_below(kept.library)
    retention = retention_of(kept, clock)

    planned = await retention.plan()
    assert [each.item.video_id for each in planned.going] == ["1"]
    assert everything_below(kept.library) == before
    report = await retention.run()
    assert report.plan == planned
    assert [(each.entry.twitch_vod_id, each.note) for each in report.moved] == [("1", "")]
    after = everything_below(kept.library)
    gone = str(kept.video("1").relative_to(kept.library))
    assert before.keys() - after.keys() == {gone}
    (entry,) = kept.entries("1")
    assert entry["state"] == "trashed"
    assert after[f"{entry['trash']}/video.mp4"] == before[gone]
    manifest = load_manifest(old)
    assert manifest is not None
    assert manifest.let_go is not None
    assert (manifest.file("video.mp4"), manifest.let_go.trash) == (None, entry["trash"])
    assert kept.row("1")["let_go_at"] == START
    assert events_of(kept, "1") == [("let_go", None)]

    # The time for an undo is over, and still nothing is removed that YouTube was not asked about since.
    clock.jump(7 * 86400 + 1)
    assert (await retention.run()).removed == ()
    kept.checked("1", clock.now())
    report = await retention.run()
    assert [each.twitch_vod_id for each in report.removed] == ["1"]
    assert not (kept.library / entry["trash"]).exists()
    manifest = load_manifest(old)
    assert manifest is not None
    assert manifest.let_go is not None
    assert manifest.let_go.trash is None
    assert events_of(kept, "1") == [("let_go", None), ("removed", None)]
    assert {path.name for path in old.iterdir()} == {"manifest.json", "thumbnail.jpg", "notes.txt"}
    assert kept.video("2").parent == young
    assert kept.video("2").exists()
    with pytest.raises(RequestRefused):
        await retention.undo("1", BY_ME)


async def test_an_undo_brings_it_back_and_protects_it(kept: KeptItems, clock: FakeClock) -> None:
    kept.add("1")
    before = everything_below(kept.library)
    retention = retention_of(kept, clock)
    await retention.run()
    await retention.undo("1", BY_ME)
    assert everything_below(kept.library) == before
    row = kept.row("1")
    assert (row["let_go_at"], row["protected"], row["generation"]) == (None, 1, 2)
    assert events_of(kept, "1") == [("let_go", None), ("restored", "cli")]
    assert (await retention.run()).plan.going == ()


async def test_what_youtube_loses_is_brought_back(kept: KeptItems, clock: FakeClock) -> None:
    kept.add("1")
    before = everything_below(kept.library)
    retention = retention_of(kept, clock)
    await retention.run()
    kept.publish("1", state="vanished", reason_code="vanished")
    report = await retention.run()
    assert [each.twitch_vod_id for each in report.restored] == ["1"]
    assert everything_below(kept.library) == before
    assert kept.row("1")["protected"] == 0


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"protected": 1}, id="protected"),
        pytest.param({"generation": 5}, id="another run has had it"),
        pytest.param({"processed": 0, "processing_error": None}, id="asked for again"),
        pytest.param({"downloaded_path": "otter/elsewhere/video.mp4"}, id="moved"),
    ],
)
async def test_what_changed_since_the_plan_stays(
    kept: KeptItems, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    kept.add("1")
    record = RetentionStore.record

    def record_and_change(store: RetentionStore, *arguments: Any) -> Any:
        entries = record(store, *arguments)
        store._connection.execute(vods_update().values(change))
        return entries

    monkeypatch.setattr(RetentionStore, "record", record_and_change)
    report = await retention_of(kept, clock).run()
    assert [each.note != "" for each in report.moved] == [True]
    assert kept.video("1").exists()
    assert [each["state"] for each in kept.entries("1")] == ["dropped"]
    assert kept.row("1")["let_go_at"] is None


def vods_update() -> Any:
    from vodkeep.db.tables import vods

    return vods.update().where(vods.c.twitch_vod_id == "1")


@dataclass(frozen=True)
class Oddity:
    """An item with something about it that may speak against letting its video go."""

    days_old: float
    values: tuple[tuple[str, Any], ...]  # of its row
    published: bool
    part: tuple[tuple[str, Any], ...]  # of its row in publications
    on_disk: str  # what is odd about its folder


_ODD_ROWS: list[dict[str, Any]] = [
    {},
    {},
    {"protected": 1},
    {"download_state": "uploading", "processed": 0},
    {"processed": 0, "processing_error": None},
    {"downloaded_path": "../outside/video.mp4"},
    {"downloaded_path": "/etc/passwd"},
    {"downloaded_path": "otter/../../outside/video.mp4"},
    {"downloaded_path": ".work/1/video.mp4"},
    {"downloaded_path": "video.mp4"},
    {"downloaded_path": "otter/A broadcast [1]/manifest.json"},
    {"downloaded_path": "otter/A broadcast [1]/video.mp4"},
    {"downloaded_path": "link/A broadcast [2]/video.mp4"},
    {"download_bytes": -5},
]
_ODD_PARTS: list[dict[str, Any]] = [
    {},
    {},
    {"state": "uploaded"},
    {"state": "superseded"},
    {"reason_code": "vanished"},
    {"youtube_duration_ms": None},
    {"youtube_duration_ms": DURATION_MS + 2001},
    {"checked_at": None},
    {"checked_at": START - timedelta(days=40)},
    {"parts": 2},
    {"start_ms": 5000},
    {"checksum": "blake3:" + "0" * 64},
    {"end_ms": DURATION_MS - 20_000, "youtube_duration_ms": DURATION_MS - 20_000},
]
_ODD_FOLDERS = [
    "",
    "",
    "notes beside it",
    "a link for a folder",
    "a link for a video",
    "a folder for a video",
    "no manifest",
    "no words in its manifest",
    "a link for a manifest",
    "another item's manifest",
    "more bytes",
    "nothing at all",
    "the trash is a link",
]

_rows = st.sampled_from(_ODD_ROWS).map(lambda values: tuple(values.items()))
_parts = st.sampled_from(_ODD_PARTS).map(lambda values: tuple(values.items()))
_folders = st.sampled_from(_ODD_FOLDERS)
# Mostly one thing at a time, or nothing would ever go.
oddities = st.one_of(
    st.builds(Oddity, st.just(100.0), st.just(()), st.just(True), st.just(()), _folders),
    st.builds(Oddity, st.just(100.0), _rows, st.just(True), st.just(()), st.just("")),
    st.builds(Oddity, st.just(100.0), st.just(()), st.just(True), _parts, st.just("")),
    st.builds(Oddity, st.sampled_from([3.0, 31.0, 100.0]), _rows, st.booleans(), _parts, _folders),
)


def make_odd(kept: KeptItems, video_id: str, oddity: Oddity, outside: Path) -> None:
    folder = kept.add(
        video_id,
        days_old=oddity.days_old,
        published=oddity.published,
        part=dict(oddity.part),
        **dict(oddity.values),
    )
    video, manifest = folder / "video.mp4", folder / "manifest.json"
    match oddity.on_disk:
        case "notes beside it":
            (folder / "notes.txt").write_text("mine")
        case "a link for a folder":
            shutil.move(folder, outside / video_id)
            folder.symlink_to(outside / video_id)
        case "a link for a video":
            shutil.move(video, outside / f"{video_id}.mp4")
            video.symlink_to(outside / f"{video_id}.mp4")
        case "a folder for a video":
            video.unlink()
            video.mkdir()
        case "no manifest":
            manifest.unlink()
        case "no words in its manifest":
            manifest.write_text("{}")
        case "a link for a manifest":
            shutil.move(manifest, outside / f"{video_id}.json")
            manifest.symlink_to(outside / f"{video_id}.json")
        case "another item's manifest":
            manifest.write_text(manifest.read_text().replace(f'"video_id": "{video_id}"', '"video_id": "9"'))
        case "more bytes":
            video.write_bytes(video.read_bytes() + b"more")
        case "nothing at all":
            shutil.rmtree(folder)
        case "the trash is a link":
            if not (kept.library / ".trash").is_symlink():
                (kept.library / ".trash").symlink_to(outside)


@pytest.fixture
def sqlite_kept(migrated_sqlite_file: Path, tmp_path: Path) -> Iterator[Callable[[], KeptItems]]:
    """Makes an empty archive with an empty database, again and again."""
    made: list[Database] = []

    def make() -> KeptItems:
        home = tmp_path / str(len(made))
        (home / "archive").mkdir(parents=True)
        (home / "outside").mkdir()
        (home / "archive" / "link").symlink_to(home / "outside")
        shutil.copyfile(migrated_sqlite_file, home / "vodkeep.db")
        made.append(Database(URL.create("sqlite", database=str(home / "vodkeep.db"))))
        return KeptItems(made[-1], home / "archive")

    yield make
    for database in made:
        database.dispose()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    several=st.lists(oddities, min_size=1, max_size=4),
    policy=st.sampled_from(
        [
            OLD,
            Policy(Limits(keep_count=1)),
            Policy(Limits(keep_days=30, keep_bytes=20), only_copy=True),
            Policy(Limits(keep_days=30), channels={"otter": Limits()}),
            Policy(),
        ]
    ),
    failure=st.sampled_from(["", "", "", "publications cannot be read", "publications read as nothing"]),
)
def test_nothing_goes_but_what_the_dry_run_names(
    sqlite_kept: Callable[[], KeptItems], several: list[Oddity], policy: Policy, failure: str
) -> None:
    """Whatever the rows and the folders say, and whichever question fails."""
    kept = sqlite_kept()
    home = kept.library.parent
    for number, oddity in enumerate(several, 1):
        make_odd(kept, str(number), oddity, home / "outside")
    before = everything_below(home)
    retention = retention_of(kept, FakeClock(), policy)

    def fail(*_: Any) -> Any:
        if failure == "publications cannot be read":
            raise DatabaseUnavailable("It is away.")
        return {}

    async def plan_and_run() -> tuple[list[str], dict[str, bytes | str], list[str]]:
        planned = await retention.plan()
        untouched = everything_below(home)
        report = await retention.run()
        gone = [each.entry.path for each in report.moved if not each.note]
        return [each.item.path for each in planned.going], untouched, gone

    with pytest.MonkeyPatch.context() as patched:
        if failure:
            patched.setattr(RetentionStore, "_parts", fail)
        try:
            planned, untouched, gone = anyio.run(plan_and_run)
        except DatabaseUnavailable:
            assert failure
            assert files_of(everything_below(home)) == files_of(before)
            return
    after = everything_below(home)
    assert files_of(untouched) == files_of(before)
    assert gone == planned
    lost = before.keys() - after.keys()
    assert lost == {f"archive/{path}" for path in gone}
    manifests = {f"{path.rpartition('/')[0]}/manifest.json" for path in lost}
    kept_as_it_was = {name for name in files_of(before) if name not in lost | manifests}
    assert {name for name in kept_as_it_was if after[name] != before[name]} == set()
    came = {after[name] for name in files_of(after) if name not in before}
    assert came == {before[name] for name in lost}
    if failure and not policy.only_copy:
        assert gone == []


def files_of(found: dict[str, bytes | str]) -> dict[str, bytes | str]:
    """All but the database's own files."""
    return {name: content for name, content in found.items() if not name.startswith("vodkeep.db")}


class _Killed(BaseException):
    """Ends everything at once, like a signal nobody can catch."""


# Where a process can die: before and after everything that changes a disk or a database.
_POINTS: list[tuple[object, str]] = [
    (RetentionStore, "record"),
    (RetentionStore, "begin_move"),
    (trash, "_make_folder"),
    (trash, "_save"),
    (os, "rename"),
    (RetentionStore, "finish_move"),
    (RetentionStore, "begin_restore"),
    (RetentionStore, "finish_restore"),
    (trash, "_drop_folder"),
    (RetentionStore, "begin_removal"),
    (os, "unlink"),
    (RetentionStore, "finish_removal"),
]


def die_at(number: int) -> Callable[[], bool]:
    """Tell at the call with this number that it is the one."""
    calls = 0

    def is_it() -> bool:
        nonlocal calls
        calls += 1
        return calls == number

    return is_it


async def test_killed_anywhere_the_next_run_goes_on(kept: KeptItems, clock: FakeClock, tmp_path: Path) -> None:
    """One item through its whole life, with a kill before each step and after each, and a run after it."""
    aside = tmp_path / "aside"
    steps = 0
    for number in range(1, 200):
        video_id = f"{1000 + number}"
        kept.add(video_id)
        content = kept.video(video_id).read_bytes()
        retention = retention_of(kept, clock)
        with pytest.MonkeyPatch.context() as patched:
            is_it = die_at(number)
            for owner, name in _POINTS:
                patched.setattr(owner, name, dying(getattr(owner, name), is_it))
            died = False
            for life in (live_once(kept, retention, video_id), live_twice(kept, retention, video_id)):
                try:
                    await life
                except _Killed:
                    died = True
        assert_one_copy(kept, video_id, content)
        await retention.run()
        assert_one_copy(kept, video_id, content)
        (entry,) = kept.entries(video_id)[-1:]
        assert entry["state"] in ("trashed", "restored", "dropped", "removed")
        let_go = kept.row(video_id)["let_go_at"] is not None
        assert let_go is (entry["state"] in ("trashed", "removed"))
        steps += died
        shutil.move(kept.folder(video_id), aside / video_id)
        forget(kept, video_id)
        if not died:
            break
    assert steps >= 2 * 10


def dying(real: Callable[..., Any], is_it: Callable[[], bool]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        if is_it():
            raise _Killed
        result = real(*arguments, **options)
        if is_it():
            raise _Killed
        return result

    return call


async def live_once(kept: KeptItems, retention: Retention, video_id: str) -> None:
    await retention.run()
    await retention.undo(video_id, BY_ME)


async def live_twice(kept: KeptItems, retention: Retention, video_id: str) -> None:
    await retention.run()


def assert_one_copy(kept: KeptItems, video_id: str, content: bytes) -> None:
    found = [path for path in kept.library.rglob("video.mp4") if path.read_bytes() == content]
    assert len(found) == 1
    manifest = load_manifest(kept.folder(video_id))
    assert manifest is not None
    if manifest.file("video.mp4") is not None:
        assert found == [kept.video(video_id)], "the manifest promises a video that is not there"


def forget(kept: KeptItems, video_id: str) -> None:
    with kept.database.unit_of_work() as unit:
        for table in ("vods", "publications", "retention_entries"):
            unit.connection.exec_driver_sql(f"DELETE FROM {table} WHERE twitch_vod_id = '{video_id}'")
        unit.commit()
    shutil.rmtree(kept.library / ".trash", ignore_errors=True)


async def test_a_video_in_the_trash_that_the_database_forgot_comes_back_all_the_same(
    kept: KeptItems, clock: FakeClock
) -> None:
    """As after a rescan into a new database."""
    kept.add("1")
    before = everything_below(kept.library)
    retention = retention_of(kept, clock)
    await retention.run()
    with kept.database.unit_of_work() as unit:
        unit.connection.exec_driver_sql("DELETE FROM retention_entries")
        unit.commit()
    await retention.undo("1", BY_ME)
    assert everything_below(kept.library) == before
    assert kept.row("1")["let_go_at"] is None


async def test_what_was_let_go_is_neither_damaged_nor_fetched_again(kept: KeptItems, clock: FakeClock) -> None:
    kept.add("1")
    await retention_of(kept, clock).run()
    with kept.database.unit_of_work(write=False) as unit:
        item = QueueStore(unit.connection).find("1")
    assert item is not None
    finding = check(plan_one("1", item, kept.library), kept.library, deep=True, on_bytes=lambda _: None)
    assert (finding.verdict, finding.problems) == (Verdict.FINE, ())
    assert "let go" in finding.notes[0]

    class Asked(Exception):
        pass

    class Capture:
        def work_folder(self, video_id: str) -> WorkFolder:
            return WorkFolder(kept.library, video_id)

        async def capture(self, *_: Any, **__: Any) -> Any:
            raise Asked

    archivist = Archivist(
        capture=Capture(),  # type: ignore[arg-type]
        library=Library(kept.library, "{channel}/{title} [{id}]"),
        clock=clock,
        log=get_logger("test"),
        require_archive=lambda: None,
    )

    async def archive(item: QueueItem) -> CapturedItem:
        return await archivist.capture(
            item,
            on_progress=lambda _progress: None,
            report_phase=lambda _phase: None,
            confirm=lambda: None,
            accept_holes=False,
        )

    captured = await archive(item)
    assert (captured.let_go, captured.completeness, captured.path) == (True, 1.0, item.downloaded_path)
    with pytest.raises(Asked):
        await archive(replace(item, fresh=True))


async def test_the_commands_plan_run_list_and_undo(
    migrated_sqlite_file: Path, tmp_path: Path, clock: FakeClock
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copyfile(migrated_sqlite_file, home / "vodkeep.db")
    kept = KeptItems(Database(URL.create("sqlite", database=str(home / "vodkeep.db"))), home)
    kept.add("1")
    kept.add("2", days_old=1)
    settings = load_settings({"DATA_DIR": str(home), "RETENTION_KEEP_DAYS": "30"})
    dry = load_settings({"DATA_DIR": str(home), "RETENTION_KEEP_DAYS": "30", "RETENTION_DRY_RUN": "1"})

    async def told(work: Callable[[Console], Awaitable[int]]) -> Any:
        console = Console(file=(printed := io.StringIO()), width=200)
        assert await work(console) == 0
        return json.loads(printed.getvalue()[printed.getvalue().index("{") :])

    plan = await told(lambda console: retention_command.show_plan(settings, clock, console, as_json=True))
    assert [each["id"] for each in plan["going"]] == ["1"]
    assert [each["reason"] for each in plan["staying"]] == ["No limit lets it go."]
    assert await told(lambda console: retention_command.run(dry, clock, console, as_json=True)) == plan
    assert kept.video("1").exists()
    report = await told(lambda console: retention_command.run(settings, clock, console, as_json=True))
    assert report["going"] == plan["going"]
    assert not kept.video("1").exists()
    listed = await told(lambda console: retention_command.show_entries(settings, clock, console, limit=5, as_json=True))
    assert [(each["id"], each["state"]) for each in listed["items"]] == [("1", "trashed")]
    assert await retention_command.undo(settings, clock, "1", Console(file=io.StringIO())) == 0
    assert kept.video("1").exists()
    kept.database.dispose()
