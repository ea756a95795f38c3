"""Verifying again what is in the library: long after the capture, and while the service runs.

An item may be replaced under our eyes, by a capture that this very check asked for. So whatever looks wrong is judged
only if the item's row is still the one that was there before the files were read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path, PurePosixPath

import anyio.to_thread

from vodkeep.capture.model import PacketCounts
from vodkeep.capture.service import VIDEO_NAME
from vodkeep.capture.verify import FileFacts, VerificationError, read_facts, sample_decode, spread_positions
from vodkeep.db.engine import UnitOfWork
from vodkeep.db.events import EventLog
from vodkeep.errors import RequestRefused, UnknownItem
from vodkeep.keep.fixity import FileProblem, check_file, check_files, check_size, compare_checksum, find_folders
from vodkeep.keep.library import load_manifest_quietly
from vodkeep.keep.manifest import CHAT_NAME, MANIFEST_NAME, FileEntry, Manifest, ManifestError, load_manifest
from vodkeep.pipeline.action_store import ActionStore
from vodkeep.pipeline.model import RUNNING, Asked, DownloadState, QueueItem
from vodkeep.rate import RateLimiter

# One segment of Twitch; the playlist's own durations are rounded, and packets are counted exactly anyway.
_TOLERANCE_MS = 10_500
_POSITIONS = 8
_READ_AT_ONCE = 8 << 20  # bytes; more than any piece that files are read in
_EVENT_KIND = "verify"
FETCHED = "It is fetched again as far as Twitch still offers it."
_DENIED = "It may not be read, which fetching it again does not mend."
_LET_GO = "Its video was let go, so nothing of it is fetched again."
_VIDEO_IS_WHOLE = "Its video is as it was captured, so it is not fetched again."


class Verdict(StrEnum):
    """What is known of an item after looking at its files."""

    FINE = "fine"
    DAMAGED = "damaged"  # something is not as the manifest says
    MISSING = "missing"  # the row names a folder, and there is no item in it
    NOT_KEPT = "not kept"  # nothing was captured yet, or there is no such item
    BUSY = "busy"  # being captured at this moment


@dataclass(frozen=True, slots=True)
class Subject:
    """An item to look at: a row, a folder, or both."""

    video_id: str
    row: QueueItem | None
    folder: PurePosixPath | None  # relative to the library
    manifest: Manifest | None = None  # None when it cannot be read

    @property
    def size_bytes(self) -> int:
        """How much there is to read."""
        return sum(entry.size_bytes for entry in self.manifest.files) if self.manifest is not None else 0


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one item."""

    subject: Subject
    verdict: Verdict
    problems: tuple[str, ...] = ()  # sentences without their full stop
    notes: tuple[str, ...] = ()  # worth knowing, and no damage
    not_mended: str = ""  # why fetching it again would not help, as a sentence; empty when it would
    only_chat: bool = False  # nothing but the file of its chat is damaged, which the database can mend

    @property
    def is_bad(self) -> bool:
        """Whether the item is not in the library as it should be."""
        return self.verdict in (Verdict.DAMAGED, Verdict.MISSING, Verdict.NOT_KEPT)


def plan_all(rows: Iterable[QueueItem], library: Path) -> list[Subject]:
    """Everything there is to look at: the items of ``rows`` that name a folder, and the folders that no row names.

    Blocking: reads every manifest in the library.
    """
    found = {path: load_manifest_quietly(library / path) for path in find_folders(library)}
    subjects, named = [], set()
    for row in rows:
        folder = folder_of(row)
        named.add(folder)
        subjects.append(Subject(row.twitch_vod_id, row, folder, found.get(folder) if folder is not None else None))
    for path, manifest in found.items():
        if path not in named:
            subjects.append(Subject(manifest.video_id if manifest is not None else str(path), None, path, manifest))
    return subjects


def plan_one(video_id: str, row: QueueItem | None, library: Path) -> Subject:
    """One item; its folder is looked for when the row names none. Blocking."""
    if row is not None and row.downloaded_path is not None:
        folder = folder_of(row)
        manifest = load_manifest_quietly(library / folder) if folder is not None else None
        return Subject(video_id, row, folder, manifest)
    for path in find_folders(library):
        manifest = load_manifest_quietly(library / path)
        if manifest is not None and manifest.video_id == video_id:
            return Subject(video_id, None, path, manifest)
    return Subject(video_id, row, None)


def is_unplugged(subjects: Sequence[Subject], library: Path) -> bool:
    """Whether several items are named and not one of their folders is there: a disk that is not mounted, probably."""
    folders = [each.folder for each in subjects if each.row is not None and each.folder is not None]
    return len(folders) > 1 and not any((library / folder).exists() for folder in folders)


def folder_of(row: QueueItem) -> PurePosixPath | None:
    """The folder that the row names, relative to the library; None when it names none or one outside."""
    if row.downloaded_path is None:
        return None
    folder = PurePosixPath(row.downloaded_path).parent
    return None if folder.is_absolute() or ".." in folder.parts or not folder.parts else folder


def check(subject: Subject, library: Path, *, deep: bool, on_bytes: Callable[[int], None]) -> Finding:
    """Look at the files of an item; blocking. What ``on_bytes`` raises ends it."""
    row, folder = subject.row, subject.folder
    if row is not None and row.download_state in RUNNING:
        return Finding(subject, Verdict.BUSY, notes=("it is being captured at this moment",))
    if folder is None:
        return Finding(subject, Verdict.NOT_KEPT, (_why_not_kept(subject),))
    try:
        manifest = load_manifest(library / folder)
    except ManifestError as error:
        denied = _DENIED if isinstance(error.__cause__, PermissionError) else ""
        return Finding(subject, Verdict.DAMAGED, (f"{MANIFEST_NAME}: {error}",), not_mended=denied)
    if manifest is None:
        there = (library / folder).is_dir()
        sentence = f"{MANIFEST_NAME} is missing" if there else f"there is no folder {folder}"
        return Finding(subject, Verdict.DAMAGED if there else Verdict.MISSING, (sentence,))
    if manifest.video_id != subject.video_id:
        return Finding(subject, Verdict.DAMAGED, (f"the folder holds VOD {manifest.video_id}",))
    problems = check_files(library / folder, manifest, on_bytes, but=VIDEO_NAME if deep else None)
    of_film: list[str] = []
    if deep and (video := manifest.file(VIDEO_NAME)) is not None:
        of_video, of_film = _check_video(library / folder, video, manifest, on_bytes)
        problems = (*of_video, *problems)
    if manifest.chat is not None and manifest.file(CHAT_NAME) is None:
        # Its writer was cut off between taking the old file out of the manifest and entering the new one.
        problems = (*problems, FileProblem(CHAT_NAME, "is not in the manifest, which tells of a chat"))
    said = [*(f"{problem.name} {problem.sentence}" for problem in problems), *of_film]
    not_mended, notes = "", []
    if manifest.let_go is not None:
        where = "for good" if manifest.let_go.trash is None else f"into {manifest.let_go.trash}"
        notes.append(f"its video was let go {where} on {manifest.let_go.at:%Y-%m-%d}")
    elif manifest.file(VIDEO_NAME) is None:
        said.append("the manifest names no video")
    if any(problem.denied for problem in problems):
        not_mended = _DENIED
    elif manifest.let_go is not None:
        not_mended = _LET_GO
    elif manifest.file(VIDEO_NAME) is not None and all(problem.name != VIDEO_NAME for problem in problems):
        not_mended = _VIDEO_IS_WHOLE
    if row is None:
        notes.append("the database does not know this folder")
    if manifest.completeness < 1.0:
        notes.append(f"{manifest.completeness:.2%} of the broadcast was captured")
    names = {problem.name for problem in problems if not problem.denied}
    only_chat = names == {CHAT_NAME} and len(said) == 1
    return Finding(subject, Verdict.DAMAGED if said else Verdict.FINE, tuple(said), tuple(notes), not_mended, only_chat)


async def look(
    subject: Subject,
    library: Path,
    *,
    deep: bool = False,
    on_bytes: Callable[[int], None] = lambda _: None,
    rate: RateLimiter | None = None,
) -> Finding:
    """`check` in a thread that ends soon after nobody waits for it any more, and reads no faster than ``rate``."""
    ended = threading.Event()

    def tell(size: int) -> None:
        # The thread would otherwise read a film to its end after everybody has gone. What is told in one great piece
        # was not read: its file is missing, or has another size.
        if ended.wait(rate.take(size) if rate is not None and size <= _READ_AT_ONCE else 0.0):
            raise _Ended
        on_bytes(size)

    try:
        return await anyio.to_thread.run_sync(
            partial(check, subject, library, deep=deep, on_bytes=tell), abandon_on_cancel=True
        )
    finally:
        ended.set()


class _Ended(Exception):
    """Nobody waits for the result any more."""


def reconsider(finding: Finding, now: QueueItem | None) -> Finding:
    """A bad finding in the light of the row as it is after the files were read."""
    before = finding.subject.row
    if not finding.is_bad or before is None or now is None:
        return finding
    if now.generation != before.generation or now.download_state in RUNNING:
        return replace(finding, verdict=Verdict.BUSY, problems=(), notes=("it was captured anew meanwhile",))
    if now.stage is not before.stage:
        return replace(finding, verdict=Verdict.BUSY, problems=(), notes=("its chat was written meanwhile",))
    return finding


def repair(unit: UnitOfWork, finding: Finding, now: datetime, asked: Asked, *, kind: str = _EVENT_KIND) -> str:
    """Make a damaged or missing item due again, with an event of that ``kind``; returns a sentence on what was done.

    The caller commits. The folder stays as it is until a new capture lies verified in its place. Nothing is fetched for
    an item whose video is whole: what Twitch offers today may hold less (muted parts).
    """
    item_id = finding.subject.video_id
    if finding.verdict not in (Verdict.DAMAGED, Verdict.MISSING):
        return "Nothing is to be repaired."
    if finding.subject.row is None:
        return "The database does not know this folder, so nothing is fetched again; `vodkeep archive` does that."
    if finding.not_mended:
        return finding.not_mended
    try:
        item = ActionStore(unit.connection).reprocess(item_id, now, asked)
    except UnknownItem:
        return "The database does not know it any more."
    except RequestRefused:
        return "It is being captured at this moment."
    EventLog(unit.connection).append(
        item_id,
        at=now,
        kind=kind,
        to_state=DownloadState.PENDING,
        code=str(finding.verdict),
        sentence=f"Found {finding.verdict} when it was verified: {'; '.join(finding.problems)}."[:1000],
        remedy=FETCHED,
        corr=asked.corr,
        asked_by=asked.by,
    )
    return f"It is due again and is fetched as soon as a service works on the queue (now {item.download_state})."


# --- how it is done ------------------------------------------------------------------------------------------------


def _why_not_kept(subject: Subject) -> str:
    if subject.row is None:
        return f"there is no item {subject.video_id}"
    if subject.row.downloaded_path is not None:
        return f"the database names a place outside the library: {subject.row.downloaded_path[:200]}"
    return f"nothing of it is in the library yet (it is {subject.row.download_state})"


def _check_video(
    folder: Path, entry: FileEntry, manifest: Manifest, on_bytes: Callable[[int], None]
) -> tuple[list[FileProblem], list[str]]:
    """The file of the video and its packets against the manifest, read once, and a look at some pictures.

    Returns what is wrong with the file, and what is wrong with the film in it, as sentences.
    """
    problem = check_size(folder, entry)
    if problem is not None:
        on_bytes(entry.size_bytes)
        return [problem], []
    told = 0

    def tell(size: int) -> None:
        nonlocal told
        told += size
        on_bytes(size)

    video = folder / entry.name
    try:
        facts = read_facts(video, algorithm=entry.algorithm, on_bytes=tell)
        problem = compare_checksum(entry, facts.checksum)
        of_film = compare(facts, manifest)
        failed = sample_decode(video, spread_positions(facts.duration_us, _POSITIONS))
        if failed:
            of_film.append(f"{failed} frames at {_POSITIONS} places cannot be decoded")
    except VerificationError as error:
        # It was not read to its end; whether it is as it was captured decides whether it is fetched again.
        problem = check_file(folder, entry, lambda _: None)
        of_film = [str(error).rstrip(".")]
    on_bytes(max(0, entry.size_bytes - told))
    return [problem] if problem is not None else [], of_film


def compare(facts: FileFacts, manifest: Manifest) -> list[str]:
    """What a file holds against what its manifest says; sentences without their full stop, none when they agree."""
    problems = []
    expected = PacketCounts(
        sum(stream.packets for stream in manifest.streams if stream.kind == "video"),
        sum(stream.packets for stream in manifest.streams if stream.kind == "audio"),
    )
    for kind, has, says in (
        ("video", facts.packets.video, expected.video),
        ("audio", facts.packets.audio, expected.audio),
    ):
        if has != says:
            problems.append(f"{VIDEO_NAME} holds {has} {kind} packets, and the manifest says {says}")
    if not facts.in_order:
        problems.append(f"the timestamps of {VIDEO_NAME} run backwards")
    if abs(facts.promised_us - facts.ends_us) > _TOLERANCE_MS * 1000:
        problems.append(
            f"the index of {VIDEO_NAME} promises {facts.promised_us / 1e6:.1f} s, and its packets end after"
            f" {facts.ends_us / 1e6:.1f} s"
        )
    present = [stretch for stretch in manifest.ledger if stretch.source != "missing"]
    says_ms = present[-1].end_ms - present[0].start_ms if present else manifest.duration_ms
    if abs(facts.duration_us / 1000 - says_ms) > _TOLERANCE_MS:
        problems.append(
            f"{VIDEO_NAME} lasts {facts.duration_us / 1e6:.1f} s, and the manifest says {says_ms / 1000:.1f} s"
        )
    return problems
