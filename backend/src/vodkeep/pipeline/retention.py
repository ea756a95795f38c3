"""Retention at work: nothing goes that was not written down before, and checked again right before it goes.

One run decides (`vodkeep.keep.retention`), looks at the files, and records what goes. Each entry is then taken by
itself: under the lock of the item's work folder, which keeps captures out, everything is looked at once more, the row
says that the video is let go, and one rename moves it into the trash. It stays there for the time of an undo, and is
removed for good only when YouTube has shown its copy again after that.

A process can die at any instant: the entry says how far it was, and the next run goes on from where the video really
is. What dry runs print is the plan of this same code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TypeVar

import anyio.to_thread

from vodkeep.capture.workfolder import ItemBusyError, WorkFolder
from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.errors import ArchiveAway, DatabaseUnavailable, RequestRefused, SettingsError, VodkeepError
from vodkeep.keep import trash
from vodkeep.keep.manifest import FileEntry, LetGoEntry, Manifest
from vodkeep.keep.retention import (
    EntryState,
    Judged,
    Limits,
    Plan,
    Policy,
    PublishedPart,
    plan_retention,
    why_unproven,
)
from vodkeep.keep.trash import Place, Refused, Video, new_trash_folder, place_of
from vodkeep.pipeline.identity import MOUNT_IT, find_archive_problem
from vodkeep.pipeline.model import Asked
from vodkeep.pipeline.retention_store import Changed, Entry, RetentionStore
from vodkeep.pipeline.store import QueueStore
from vodkeep.settings.model import RetentionSettings
from vodkeep.telemetry.log import Logger, get_logger

T = TypeVar("T")

LEASE = "retention"
"""The lease of the process that does this on schedule."""

# The playlist's own durations are rounded; what a publication leaves out beyond that is missing from it.
_TOLERANCE_MS = 10_500

_S = EntryState


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of one entry of a plan."""

    entry: Entry
    note: str = ""  # why it was left alone; empty when it is in the trash


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did."""

    plan: Plan
    moved: tuple[Moved, ...] = ()
    removed: tuple[Entry, ...] = ()
    restored: tuple[Entry, ...] = ()


class Retention:
    """One for each process; several at once do no harm."""

    def __init__(
        self,
        database: Database,
        library: Path,
        policy: Policy,
        clock: Clock,
        log: Logger,
        *,
        interval: timedelta,
        dry_run: bool = False,
    ) -> None:
        self._database = database
        self._library = library
        self._policy = policy
        self._clock = clock
        self._log = log
        self._interval_s = interval.total_seconds()
        self._dry_run = dry_run

    async def run_forever(self) -> None:
        """Look at the archive every interval; with ``dry_run`` only tell what would go."""
        while True:
            try:
                if self._dry_run:
                    for each in (await self.plan()).going:
                        self._log.info("video would go", vod_id=each.item.video_id, reason=each.reason)
                else:
                    await self.run()
            except VodkeepError as error:
                self._log.warning("retention waits", code=error.code, error=str(error), remedy=error.remedy)
            except Exception:  # noqa: BLE001 - one turn ends here
                self._log.exception("retention ended in a bug")
            await self._clock.sleep(self._interval_s)

    @property
    def trash_window(self) -> timedelta:
        """How long a video lies in the trash at least."""
        return self._policy.trash_window

    async def entries(self, *, limit: int) -> list[Entry]:
        """The latest decisions, newest first. Raises `DatabaseUnavailable`."""
        return await self._database.run(
            lambda unit: RetentionStore(unit.connection).load_entries(limit=limit), write=False
        )

    async def plan(self) -> Plan:
        """What a run would let go at this moment; changes nothing.

        Raises `DatabaseUnavailable`, and `ArchiveAway` while the disk of the library is not mounted.
        """
        if self._policy.is_empty:
            return Plan((), ())
        items = await self._database.run(lambda unit: RetentionStore(unit.connection).load_items(), write=False)
        plan = plan_retention(items, self._policy, self._clock.now())
        return await anyio.to_thread.run_sync(self._look_at_files, plan)

    async def run(self, asked: Asked | None = None) -> Report:
        """Let go of what the rules say, remove what has been in the trash for long enough, go on with what was cut off.

        Raises `DatabaseUnavailable` and `ArchiveAway`; what was decided by then is recorded, and the next run goes on.
        """
        plan = await self.plan()
        now = self._clock.now()

        def record(unit: UnitOfWork) -> list[Entry]:
            entries = RetentionStore(unit.connection).record(plan, now, asked)
            unit.commit()
            return entries

        entries = await self._database.run(record)
        await self._go_on()
        moved = tuple([await self._in_thread(self._move, entry) for entry in entries])
        restored = await self.restore_unproven()
        return Report(plan, moved, await self._clear_trash(), restored)

    async def undo(self, video_id: str, asked: Asked) -> Entry:
        """Bring the video of an item back from the trash, and protect it; raises `RequestRefused`."""
        entry = await self._in_thread(self._find_in_trash, video_id)
        if entry is None or entry.state not in (_S.TRASHED, _S.RESTORING):
            raise RequestRefused(
                f"No video of item {video_id} is in the trash.",
                remedy="`vodkeep retention list` shows what is. What was removed for good can only be fetched anew.",
            )
        note = await self._in_thread(self._restore, entry, "Asked for.", asked)
        if note:
            raise RequestRefused(f"The video of item {video_id} stays in the trash. {note}")
        after = await self._database.run(lambda unit: RetentionStore(unit.connection).find(entry.id), write=False)
        assert after is not None
        return after

    async def restore_unproven(self) -> tuple[Entry, ...]:
        """Bring back from the trash what YouTube does not hold any more; returns what is back."""
        if self._policy.only_copy:
            return ()
        now = self._clock.now()

        def find(unit: UnitOfWork) -> list[tuple[Entry, str]]:
            store = RetentionStore(unit.connection)
            trashed = store.load_entries((_S.TRASHED,))
            reasons = [why_unproven(store.load_parts(each.twitch_vod_id), self._policy, now) for each in trashed]
            return [(each, reason) for each, reason in zip(trashed, reasons, strict=True) if reason is not None]

        restored = []
        for entry, reason in await self._database.run(find, write=False):
            if not await self._in_thread(self._restore, entry, reason, None):
                restored.append(entry)
        return tuple(restored)

    # --- planning ----------------------------------------------------------------------------------------------------

    def _look_at_files(self, plan: Plan) -> Plan:
        """The plan without what could not be moved; blocking."""
        self._require_archive()
        going, staying = [], list(plan.staying)
        for each in plan.going:
            try:
                place = place_of(self._library, each.item.path, each.item.video_id)
                self._check_copy(each.item.parts, trash.examine(place))
            except Refused as refusal:
                staying.append(Judged(each.item, str(refusal)))
            except OSError as error:
                staying.append(Judged(each.item, f"Its folder cannot be looked at ({error.strerror})."))
            else:
                going.append(each)
        return Plan(tuple(going), tuple(staying))

    def _check_copy(self, parts: Sequence[PublishedPart] | None, video: Video) -> None:
        """Refuse when what is on YouTube is not all of this very video."""
        if self._policy.only_copy:
            return
        reason = _why_no_copy(parts or (), video.manifest, video.file)
        if reason is not None:
            raise Refused(reason)

    # --- one entry; these block ---------------------------------------------------------------------------------------

    def _move(self, entry: Entry) -> Moved:
        """Move one video into the trash, if everything is as it was when that was planned."""
        now = self._clock.now()
        folder = new_trash_folder(entry.twitch_vod_id)
        begun = False

        def confirm(video: Video) -> None:
            nonlocal begun
            self._require_archive()
            with self._database.unit_of_work() as unit:
                store = RetentionStore(unit.connection)
                self._check_copy(store.load_parts(entry.twitch_vod_id), video)
                store.begin_move(entry, str(folder), self._policy, now)
                unit.commit()
            begun = True

        def describe(file: FileEntry) -> LetGoEntry:
            return LetGoEntry(now, entry.reason, file, str(folder))

        try:
            place = place_of(self._library, entry.path, entry.twitch_vod_id)
            with WorkFolder(self._library, entry.twitch_vod_id).hold():
                try:
                    trash.move_to_trash(place, folder, describe, confirm=confirm)
                except (Refused, VodkeepError, OSError):
                    if begun:
                        with suppress(Refused, VodkeepError, OSError):
                            self._settle(place, folder, entry)
                    raise
                self._write(lambda store: store.finish_move(entry, now))
        except DatabaseUnavailable:
            raise
        except (Refused, Changed, VodkeepError, OSError) as error:
            self._log.info("video stays", vod_id=entry.twitch_vod_id, reason=str(error))
            if not begun:
                self._leave(entry, str(error))
            return Moved(entry, str(error))
        self._log.info(
            "video let go", vod_id=entry.twitch_vod_id, path=entry.path, bytes=entry.size_bytes, reason=entry.reason
        )
        return Moved(entry)

    def _settle(self, place: Place, folder: PurePosixPath, entry: Entry) -> None:
        """Go on with a move that was cut off, from where the video is; under the lock of its work folder."""
        now = self._clock.now()
        self._require_archive()
        moving = self._read(lambda store: store.find(entry.id))
        if moving is None or moving.state is not _S.MOVING:
            return
        where = trash.find(place, folder)
        if not where.in_trash and not where.in_folder:
            raise Refused("Its video is neither in its folder nor in the trash.")
        if where.in_trash:
            self._write(lambda store: store.finish_move(moving, now))
            self._log.info("video let go", vod_id=entry.twitch_vod_id, path=entry.path, bytes=entry.size_bytes)
            return
        try:
            trash.forget_move(place, folder)
        except Refused as refusal:
            self._log.debug("nothing to take back", vod_id=entry.twitch_vod_id, reason=str(refusal))
        self._write(lambda store: store.abandon_move(moving, now, "It was cut off before anything moved."))

    def _find_in_trash(self, video_id: str) -> Entry | None:
        """The decision about an item's video that is open; made again from its manifest if a rescan lost it."""
        entry = self._read(lambda store: store.find_open(video_id))
        with self._database.unit_of_work(write=False) as unit:
            item = QueueStore(unit.connection).find(video_id)
        if entry is not None or item is None or item.downloaded_path is None:
            return entry
        try:
            gone = trash.read_let_go(place_of(self._library, item.downloaded_path, video_id))
        except (Refused, OSError):
            return None
        if gone is None:
            return None
        self._write(lambda store: store.adopt(item, gone, self._clock.now()))
        return self._read(lambda store: store.find_open(video_id))

    def _restore(self, entry: Entry, reason: str, asked: Asked | None) -> str:
        """Bring a video back; returns why it stays in the trash, empty when it is back."""
        now = self._clock.now()
        assert entry.trash is not None
        folder = PurePosixPath(entry.trash)
        try:
            self._require_archive()
            place = place_of(self._library, entry.path, entry.twitch_vod_id)
            with WorkFolder(self._library, entry.twitch_vod_id).hold():
                try:
                    trash.move_back(
                        place, folder, confirm=lambda: self._write(lambda store: store.begin_restore(entry, now, asked))
                    )
                except Refused:
                    state = self._read(lambda store: store.find(entry.id))
                    where = trash.find(place, folder)
                    if state is None or state.state is not _S.RESTORING or where.in_trash or not where.in_folder:
                        raise
                self._write(lambda store: store.finish_restore(entry, now, asked, reason))
        except DatabaseUnavailable:
            raise
        except ItemBusyError:
            return "Something works on the item at this moment."
        except (Refused, Changed, VodkeepError, OSError) as error:
            self._log.warning("video stays in the trash", vod_id=entry.twitch_vod_id, reason=str(error))
            if not isinstance(error, Changed):
                self._note(entry, str(error))
            return str(error)
        self._log.info("video restored", vod_id=entry.twitch_vod_id, path=entry.path, reason=reason)
        return ""

    def _remove(self, entry: Entry) -> bool:
        """Remove a video from the trash for good, if nothing speaks against it; whether it is gone."""
        now = self._clock.now()
        assert entry.trash is not None
        try:
            self._require_archive()
            place = place_of(self._library, entry.path, entry.twitch_vod_id)
            if entry.state is _S.TRASHED:
                reason = self._read(lambda store: store.why_not_removed(entry, self._policy, now))
                if reason is not None:
                    if entry.moved_at is not None and now >= entry.moved_at + self._policy.trash_window:
                        self._write(lambda store: store.ask_again(entry, now))
                    return False
                self._write(lambda store: store.begin_removal(entry, self._policy, now))
            whole = trash.remove_for_good(place, PurePosixPath(entry.trash))
            self._write(lambda store: store.finish_removal(entry, now))
        except DatabaseUnavailable:
            raise
        except (Refused, Changed, VodkeepError, OSError) as error:
            self._log.warning("video stays in the trash", vod_id=entry.twitch_vod_id, reason=str(error))
            return False
        if not whole:
            self._log.warning("the trash holds what is not ours", vod_id=entry.twitch_vod_id, folder=entry.trash)
        self._log.info("video removed", vod_id=entry.twitch_vod_id, bytes=entry.size_bytes, reason=entry.reason)
        return True

    # --- all entries --------------------------------------------------------------------------------------------------

    async def _go_on(self) -> None:
        """Go on with what a process that died had begun."""
        begun = await self._database.run(
            lambda unit: RetentionStore(unit.connection).load_entries((_S.MOVING, _S.RESTORING, _S.REMOVING)),
            write=False,
        )
        for entry in begun:
            match entry.state:
                case EntryState.MOVING:
                    await self._in_thread(self._go_on_moving, entry)
                case EntryState.RESTORING:
                    await self._in_thread(self._restore, entry, "It was cut off.", None)
                case _:
                    await self._in_thread(self._remove, entry)

    def _go_on_moving(self, entry: Entry) -> None:
        assert entry.trash is not None
        try:
            place = place_of(self._library, entry.path, entry.twitch_vod_id)
            with WorkFolder(self._library, entry.twitch_vod_id).hold():
                self._settle(place, PurePosixPath(entry.trash), entry)
        except DatabaseUnavailable:
            raise
        except (Refused, Changed, VodkeepError, OSError) as error:
            self._log.warning("a move waits", vod_id=entry.twitch_vod_id, reason=str(error))

    async def _clear_trash(self) -> tuple[Entry, ...]:
        trashed = await self._database.run(
            lambda unit: RetentionStore(unit.connection).load_entries((_S.TRASHED,)), write=False
        )
        now = self._clock.now()
        old = [each for each in trashed if each.moved_at and each.moved_at + self._policy.trash_window <= now]
        return tuple([each for each in old if await self._in_thread(self._remove, each)])

    # --- the database, from a thread ----------------------------------------------------------------------------------

    def _require_archive(self) -> None:
        """Return if the library is there; a disk that is not mounted looks as if everything had gone."""
        try:
            problem = find_archive_problem(self._database, self._library)
        except SettingsError as error:
            raise ArchiveAway(str(error), remedy=MOUNT_IT) from error
        if problem is not None:
            raise ArchiveAway(problem, remedy=MOUNT_IT)

    def _leave(self, entry: Entry, note: str) -> None:
        try:
            self._write(lambda store: store.abandon_move(entry, self._clock.now(), note))
        except Changed:
            self._log.debug("another process went on", vod_id=entry.twitch_vod_id)

    def _note(self, entry: Entry, note: str) -> None:
        try:
            self._write(lambda store: store.keep_in_trash(entry, self._clock.now(), note))
        except Changed:
            self._log.debug("another process went on", vod_id=entry.twitch_vod_id)

    def _write(self, work: Callable[[RetentionStore], None]) -> None:
        with self._database.unit_of_work() as unit:
            work(RetentionStore(unit.connection))
            unit.commit()

    def _read(self, question: Callable[[RetentionStore], T]) -> T:
        with self._database.unit_of_work(write=False) as unit:
            return question(RetentionStore(unit.connection))

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        """One entry is a matter of milliseconds; a thread is not cut off half way."""
        return await anyio.to_thread.run_sync(work, *arguments)


def build_retention(settings: RetentionSettings, database: Database, library: Path, clock: Clock) -> Retention:
    """What lets videos go from the disk, as the operator wants it."""
    return Retention(
        database,
        library,
        policy_of(settings),
        clock,
        get_logger("retention"),
        interval=settings.interval,
        dry_run=settings.dry_run,
    )


def policy_of(settings: RetentionSettings) -> Policy:
    """The operator's wishes as the rules read them."""
    return Policy(
        limits=Limits(settings.keep_days, settings.keep_count, settings.keep_bytes),
        channels={
            each.login: Limits(each.keep_days, each.keep_count, each.keep_bytes) for each in settings.channel_rules
        },
        only_copy=settings.only_copy,
        proven_after=settings.proven_after,
        trash_window=settings.trash_window,
    )


def _why_no_copy(parts: Sequence[PublishedPart], manifest: Manifest, file: FileEntry) -> str | None:
    """Why what is on YouTube is not all of this file, as far as its manifest tells; None when it is."""
    if len(parts) == 1:
        sent = parts[0]
        same_kind = sent.checksum.partition(":")[0] == file.algorithm
        if sent.size_bytes != file.size_bytes or (same_kind and sent.checksum != file.checksum):
            return "What is on YouTube was made of another file than the one in the folder."
    present = [stretch for stretch in manifest.ledger if stretch.source != "missing"]
    length_ms = present[-1].end_ms - present[0].start_ms if present else manifest.duration_ms
    if max((part.end_ms for part in parts), default=0) < length_ms - _TOLERANCE_MS:
        return "What is on YouTube is shorter than the video in the folder."
    return None
