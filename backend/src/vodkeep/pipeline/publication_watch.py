"""Asks YouTube what became of what was uploaded, and again when it had long been fine.

Fifty videos are one question, which costs one point of the quota; so what is due within the next minutes is asked
about together. What is wrong with a video is told on its item, whose video on the disk then stays, or comes back from
the trash.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio.to_thread
from sqlalchemy import select, update

from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.events import EventLog
from vodkeep.db.tables import vods
from vodkeep.errors import CredentialsError, LimitReached, TransientError, VodkeepError
from vodkeep.keep.additions import change_manifest
from vodkeep.keep.manifest import Manifest, ManifestError, PublicationEntry
from vodkeep.pipeline.publication_verdict import Verdict, judge
from vodkeep.pipeline.recheck import folder_of
from vodkeep.pipeline.store import QueueStore
from vodkeep.publish.model import VideoStatus
from vodkeep.publish.publication import ON_YOUTUBE, Publication, PublicationState
from vodkeep.publish.store import PublicationStore
from vodkeep.telemetry.log import Logger

LEASE = "publication-watch"
"""The lease of the process that asks."""

EVENT_KIND = "publication"
ERROR_PREFIX = "youtube_"
"""Before the codes of what is wrong with a publication, in ``vods.error_code``."""

AT_ONCE = 50
"""Videos of one question; YouTube takes no more (developers.google.com/youtube/v3/docs/videos/list, ``id``)."""

# What is due so soon is asked about with the rest.
_TOGETHER = timedelta(minutes=10)
_MOST_AT_ONCE = 10 * AT_ONCE
_LONGEST_WAIT_S = 300.0
_TROUBLE_WAIT_S = 600.0
_LOGIN_WAIT_S = 3600.0


class Looks(Protocol):
    """YouTube, by the account of one or several channels."""

    async def look(self, video_ids: Sequence[str]) -> Mapping[str, VideoStatus]:
        """What YouTube says of these videos; one it does not have is absent. Every failure raises."""
        ...


class PublicationWatch:
    """One process at a time does this."""

    def __init__(
        self,
        database: Database,
        library: Path,
        youtube_of: Callable[[str], Awaitable[Looks]],
        clock: Clock,
        log: Logger,
        *,
        proven_after: timedelta,
        restore: Callable[[], Awaitable[object]],
    ) -> None:
        """``youtube_of`` gives the account of a channel, the same object for channels that share one. ``restore``
        brings back from the trash what YouTube does not hold any more.
        """
        self._database = database
        self._library = library
        self._youtube_of = youtube_of
        self._clock = clock
        self._log = log
        self._proven_after = proven_after
        self._restore = restore

    async def run_forever(self) -> None:
        """Ask whenever something is due."""
        while True:
            try:
                wait_s = await self.look()
            except VodkeepError as error:
                wait_s = self._patience_s(error)
                self._log.warning(
                    "publications are not checked", code=error.code, error=str(error), wait_s=round(wait_s)
                )
            except Exception:  # noqa: BLE001 - one turn ends here
                self._log.exception("checking publications ended in a bug")
                wait_s = _TROUBLE_WAIT_S
            await self._clock.sleep(wait_s)

    async def look(self) -> float:
        """Ask about everything that is due; returns in how many seconds to look again.

        Raises what ``Looks`` raises and `DatabaseUnavailable`; what was answered by then is kept. An account that is
        refused is told at the end, when the others were asked.
        """
        now = self._clock.now()
        due = await self._database.run(partial(_load_due, now=now), write=False)
        troubled = False
        accounts, refused = await self._by_account(due)
        for youtube, several in accounts:
            try:
                for first in range(0, len(several), AT_ONCE):
                    batch = several[first : first + AT_ONCE]
                    answers = await youtube.look([str(each.youtube_id) for each in batch])
                    troubled |= await self._take_in(batch, answers)
            except CredentialsError as error:
                refused = error
        if troubled:
            await self._restore()
        if refused is not None:
            raise refused
        following = await self._database.run(
            lambda unit: PublicationStore(unit.connection).next_check_at(), write=False
        )
        if following is None:
            return _LONGEST_WAIT_S
        return min(max(1.0, (following - self._clock.now()).total_seconds()), _LONGEST_WAIT_S)

    async def _by_account(
        self, due: Iterable[tuple[str, Publication]]
    ) -> tuple[list[tuple[Looks, list[Publication]]], CredentialsError | None]:
        """Who is asked about what, and why one of the channels has nobody who could be."""
        accounts: dict[int, tuple[Looks, list[Publication]]] = {}
        of_channel: dict[str, Looks | None] = {}
        refused: CredentialsError | None = None
        for channel, publication in due:
            if channel not in of_channel:
                try:
                    of_channel[channel] = await self._youtube_of(channel)
                except CredentialsError as error:
                    of_channel[channel], refused = None, error
            youtube = of_channel[channel]
            if youtube is not None:
                accounts.setdefault(id(youtube), (youtube, []))[1].append(publication)
        return list(accounts.values()), refused

    async def _take_in(self, batch: Sequence[Publication], answers: Mapping[str, VideoStatus]) -> bool:
        """Write down what the answers mean; whether something is wrong with a video."""
        now = self._clock.now()

        def work(unit: UnitOfWork) -> list[tuple[Publication, Verdict]]:
            told = []
            store = PublicationStore(unit.connection)
            for before in batch:
                found = store.find(before.id)
                if found is None or found.state not in ON_YOUTUBE or found.youtube_id != before.youtube_id:
                    continue  # Published anew meanwhile.
                verdict = judge(found, answers.get(str(found.youtube_id)), now, self._proven_after)
                _save(unit, found, verdict, now)
                told.append((found, verdict))
            unit.commit()
            return told

        told = await self._database.run(work)
        for publication, verdict in told:
            self._tell(publication, verdict)
            if verdict.state is not publication.state:
                await self._describe(publication.twitch_vod_id)
        return any(verdict.reason_code is not None for _, verdict in told)

    def _tell(self, publication: Publication, verdict: Verdict) -> None:
        vod_id = publication.twitch_vod_id
        if verdict.reason_code is not None and verdict.reason_code != publication.reason_code:
            self._log.warning(
                "publication in trouble",
                vod_id=vod_id,
                code=verdict.reason_code,
                error=verdict.reason,
                remedy=verdict.remedy,
            )
        elif verdict.state is PublicationState.PROCESSED and publication.state is not verdict.state:
            self._log.info("publication processed", vod_id=vod_id)

    async def _describe(self, vod_id: str) -> None:
        """Let the item's manifest say how its publications stand; a folder that cannot be had is told elsewhere."""

        def read(unit: UnitOfWork) -> tuple[list[Publication], Path | None]:
            item = QueueStore(unit.connection).find(vod_id)
            folder = None if item is None else folder_of(item)
            return PublicationStore(unit.connection).of_item(vod_id), None if folder is None else self._library / folder

        several, folder = await self._database.run(read, write=False)
        if folder is None:
            return
        states = {(each.round, each.part): each for each in several}

        def change(manifest: Manifest) -> Manifest:
            entries = tuple(_entry(entry, states.get((entry.round, entry.part))) for entry in manifest.publications)
            return replace(manifest, publications=entries)

        try:
            await anyio.to_thread.run_sync(change_manifest, folder, change)
        except (ManifestError, VodkeepError, OSError) as error:
            self._log.warning("the manifest does not say so", vod_id=vod_id, error=str(error))

    def _patience_s(self, error: VodkeepError) -> float:
        if isinstance(error, LimitReached):
            return max(1.0, (error.until - self._clock.now()).total_seconds())
        if isinstance(error, TransientError) and error.delay_s is not None:
            return error.delay_s
        # Nothing but a person can mend that, and it is told elsewhere.
        return _LOGIN_WAIT_S if isinstance(error, CredentialsError) else _TROUBLE_WAIT_S


def _load_due(unit: UnitOfWork, now: datetime) -> list[tuple[str, Publication]]:
    """What to ask about with the channel of each, if anything is due at all."""
    store = PublicationStore(unit.connection)
    first = store.next_check_at()
    if first is None or first > now:
        return []
    due = [each for each in store.load_due_checks(now + _TOGETHER, limit=_MOST_AT_ONCE) if each.youtube_id]
    ids = {each.twitch_vod_id for each in due}
    query = select(vods.c.twitch_vod_id, vods.c.channel).where(vods.c.twitch_vod_id.in_(ids))
    channels = {row.twitch_vod_id: row.channel for row in unit.connection.execute(query)} if ids else {}
    return [(channels.get(each.twitch_vod_id, ""), each) for each in due]


def _save(unit: UnitOfWork, before: Publication, verdict: Verdict, now: datetime) -> None:
    PublicationStore(unit.connection).save_check(
        before.id,
        now,
        state=verdict.state,
        next_check_at=verdict.next_check_at,
        youtube_duration_ms=verdict.youtube_duration_ms,
        reason=verdict.reason,
        reason_code=verdict.reason_code,
    )
    processed = verdict.state is PublicationState.PROCESSED and before.state is not PublicationState.PROCESSED
    if verdict.reason_code == before.reason_code and not processed:
        return
    sentence = verdict.reason or ("YouTube has processed it, and it is whole." if processed else "It is fine again.")
    EventLog(unit.connection).append(
        before.twitch_vod_id,
        at=now,
        kind=EVENT_KIND,
        code=verdict.reason_code or "processed",
        sentence=sentence,
        remedy=verdict.remedy,
    )
    _mark_item(unit, before.twitch_vod_id, now)


def _mark_item(unit: UnitOfWork, vod_id: str, now: datetime) -> None:
    """Show on a finished item what is wrong with its publication, or nothing any more."""
    current = PublicationStore(unit.connection).current(vod_id)
    trouble = next((each for each in current if each.reason_code is not None), None)
    is_ours = vods.c.error_code.is_(None) | vods.c.error_code.startswith(ERROR_PREFIX, autoescape=True)
    unit.connection.execute(
        update(vods)
        .where(vods.c.twitch_vod_id == vod_id, vods.c.processed == 1, vods.c.download_state == "done", is_ours)
        .values(
            processing_error=None if trouble is None else trouble.reason,
            error_code=None if trouble is None else f"{ERROR_PREFIX}{trouble.reason_code}",
            updated_at=now,
        )
    )


def _entry(entry: PublicationEntry, publication: Publication | None) -> PublicationEntry:
    if publication is None:
        return entry
    return replace(entry, state=publication.state, processed_at=publication.processed_at)
