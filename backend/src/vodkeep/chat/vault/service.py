"""The vault: snapshots of sets, and the job that fetches images.

Nothing here holds up the recording of chat. The job reads from the tables what is being recorded, so that it needs no
word from the recorder and takes up after a crash where it stopped; a provider that is away costs its own sets a later
try and nothing else.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from vodkeep.chat.vault.client import VaultClient
from vodkeep.chat.vault.files import ImageFiles, hash_of
from vodkeep.chat.vault.images import CutShort, NotAnImage, inspect
from vodkeep.chat.vault.model import GLOBAL, SetAnswer, SetKey, StoredImage
from vodkeep.chat.vault.providers import Providers, sets_of
from vodkeep.chat.vault.ranges import emotes_in
from vodkeep.chat.vault.replay import EmoteReplay
from vodkeep.chat.vault.retrying import retry_after_s
from vodkeep.chat.vault.store import Asset, EmoteStore, ScanTask
from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.errors import DatabaseUnavailable, PermanentError, ServerError, TransientError, VodkeepError
from vodkeep.telemetry.log import Logger

_ROUND = 200  # images of one round, and sessions looked at
_SCANNED_AT_ONCE = 5000  # messages
_FAILURES_PER_HOST = 4  # in a row, after which the rest of a round is left to the next


@dataclass(frozen=True, slots=True)
class VaultLimits:
    """How much, how often and how long."""

    image_bytes: int = 4 * 1024 * 1024  # one image; the largest of 7TV have about 2 MB
    set_bytes: int = 512 * 1024 * 1024  # all images of one set together
    used_per_session: int = 10_000  # different emotes of Twitch
    at_once_per_host: int = 4
    snapshot_s: float = 60.0  # all sets of a channel
    every: timedelta = timedelta(hours=1)  # while a channel is live
    retry: timedelta = timedelta(minutes=5)  # sets of a provider that is away
    prepare_s: float = 120.0  # one item
    young: timedelta = timedelta(minutes=30)  # since ten minutes before a stream began
    poll_s: float = 5.0


@dataclass(frozen=True, slots=True)
class SnapshotReport:
    """What a snapshot found."""

    seen: tuple[SetKey, ...]
    failed: Mapping[SetKey, str] = field(default_factory=dict)  # and why


class Vault:
    """Emotes and badges."""

    def __init__(
        self,
        database: Database,
        files: ImageFiles,
        client: VaultClient,
        providers: Providers,
        clock: Clock,
        rng: random.Random,
        log: Logger,
        limits: VaultLimits | None = None,
    ) -> None:
        """``database`` is chat's."""
        self._database = database
        self._files = files
        self._client = client
        self._providers = providers
        self._clock = clock
        self._rng = rng
        self._log = log
        self._limits = limits or VaultLimits()
        self._retry_at: dict[SetKey, float] = {}  # monotonic

    # --- snapshots --------------------------------------------------------------------------------------

    async def snapshot(self, channel_id: str, at: datetime) -> SnapshotReport:
        """Write down what the global sets and a channel's own are, as of ``at``; bounded in time.

        Global sets that were seen within the hour are left out. A provider that fails is logged and reported, never
        raised. Raises `DatabaseUnavailable`.
        """
        keys = await self._due_sets(channel_id, fresh=(channel_id,))
        return await self._see(keys, _ms(at))

    async def ensure_snapshot(self, channel_id: str, start: datetime) -> None:
        """See those sets now that were not seen since a broadcast began, at ``start``. As `snapshot`.

        A provider that was away a moment ago is not asked again.
        """
        keys = [*sets_of(GLOBAL), *sets_of(channel_id)]
        checked = await self._database.run(lambda unit: EmoteStore(unit.connection).checked(keys), write=False)
        now = self._clock.monotonic()
        old = [key for key in keys if checked.get(key, 0) < _ms(start) and self._retry_at.get(key, now) <= now]
        await self._see(old, _ms(self._clock.now()))

    async def _due_sets(self, channel_id: str, fresh: Collection[str] = ()) -> list[SetKey]:
        """The sets that hold in a channel and were not seen within the hour, or belong to ``fresh``."""
        keys = [*sets_of(GLOBAL), *sets_of(channel_id)]
        checked = await self._database.run(lambda unit: EmoteStore(unit.connection).checked(keys), write=False)
        old_ms = _ms(self._clock.now() - self._limits.every)
        return [key for key in keys if key.channel_id in fresh or checked.get(key, 0) <= old_ms]

    async def _see(self, keys: Iterable[SetKey], at_ms: int) -> SnapshotReport:
        seen: list[SetKey] = []
        failed: dict[SetKey, str] = {}
        away: list[DatabaseUnavailable] = []

        async def see(key: SetKey) -> None:
            try:
                answer = await self._providers.fetch_set(key)
                await self._record(key, answer, at_ms)
            except DatabaseUnavailable as error:
                away.append(error)
            except VodkeepError as error:
                failed[key] = str(error)
            else:
                seen.append(key)

        wanted = list(keys)
        with anyio.move_on_after(self._limits.snapshot_s):
            async with anyio.create_task_group() as tasks:
                for key in wanted:
                    tasks.start_soon(see, key)
        for key in wanted:
            if key not in seen and key not in failed:
                failed[key] = "There was no answer in time."
        now = self._clock.monotonic()
        for key in seen:
            if self._retry_at.pop(key, None) is not None:
                self._log.info("emote set seen again", provider=key.provider.value, kind=key.kind.value,
                               channel_id=key.channel_id)  # fmt: skip
        for key, reason in failed.items():
            known = key in self._retry_at
            self._retry_at[key] = now + self._limits.retry.total_seconds()
            say = self._log.debug if known else self._log.warning
            say("emote set not seen", provider=key.provider.value, kind=key.kind.value,
                              channel_id=key.channel_id, reason=reason)  # fmt: skip
        if away:
            raise away[0]
        return SnapshotReport(tuple(seen), failed)

    async def _record(self, key: SetKey, answer: SetAnswer, at_ms: int) -> None:
        def record(unit: UnitOfWork) -> tuple[int, int, bool]:
            changes = EmoteStore(unit.connection).record(key, answer, at_ms)
            unit.commit()
            return len(changes.begin), len(changes.end), changes.empty_ms is not None

        begun, ended, doubted = await self._database.run(record)
        if begun or ended or doubted:
            self._log.info("emote set changed", provider=key.provider.value, kind=key.kind.value,
                           channel_id=key.channel_id, begun=begun, ended=ended, doubted=doubted)  # fmt: skip

    # --- the job ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep what is being recorded; until canceled. One process at a time does it."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._repeat, self.see_recorded)
            tasks.start_soon(self._repeat, self.scan_messages)
            tasks.start_soon(self._repeat, self.fetch_wanted)

    async def _repeat(self, work: Callable[[], Awaitable[bool]]) -> None:
        """Do ``work`` again and again: at once while it says that there is more, else after a while."""
        away = False
        while True:
            more = False
            try:
                more = await work()
                away = False
            except DatabaseUnavailable as error:
                if not away:
                    self._log.warning("the emote vault waits for the database", error=str(error))
                away = True
            except OSError as error:
                self._log.error("emote image not written", error=str(error))
            except Exception:  # noqa: BLE001 - the task ends here, and says so in the log
                # Whatever is wrong with emotes, messages are recorded.
                self._log.exception("the emote vault stumbled")
            await self._clock.sleep(0.0 if more else self._limits.poll_s)

    async def see_recorded(self) -> bool:
        """Take the snapshots that are due of all channels being recorded; returns False."""
        recorded = await self._database.run(lambda unit: EmoteStore(unit.connection).recorded(), write=False)
        for channel in recorded:
            keys = await self._due_sets(channel.channel_id)
            now = self._clock.monotonic()
            keys = [key for key in keys if self._retry_at.get(key, now) <= now]
            if not keys:
                continue
            checked = await self._database.run(
                lambda unit, keys=keys: EmoteStore(unit.connection).checked(keys),  # type: ignore[misc]
                write=False,
            )
            now_ms = _ms(self._clock.now())
            # The first look at a young stream counts from its beginning.
            young = now_ms - channel.base_ms < self._limits.young.total_seconds() * 1000
            new = [key for key in keys if young and key.channel_id and checked.get(key, 0) < channel.base_ms]
            await self._see(new, channel.base_ms)
            await self._see([key for key in keys if key not in new], now_ms)
        return False

    async def scan_messages(self) -> bool:
        """Look a part of the new messages through for Twitch's emotes; returns whether there are more."""
        tasks = await self._database.run(lambda unit: EmoteStore(unit.connection).scans(_ROUND), write=False)
        more = False
        for task in tasks:
            more |= await self._scan(task)
        return more

    async def _scan(self, task: ScanTask) -> bool:
        messages = await self._database.run(
            lambda unit: EmoteStore(unit.connection).messages_after(task, _SCANNED_AT_ONCE), write=False
        )
        if not messages and not task.ended:
            return False
        more = len(messages) == _SCANNED_AT_ONCE
        used = await anyio.to_thread.run_sync(self._used_in, messages)

        def save(unit: UnitOfWork) -> None:
            store = EmoteStore(unit.connection)
            store.use(task.session_id, used, at_most=self._limits.used_per_session)
            store.seen_upto(task, messages[-1][0] if messages else task.after_id, done=not more)
            unit.commit()

        await self._database.run(save)
        return more

    def _used_in(self, messages: Iterable[tuple[int, str | None, str]]) -> dict[str, tuple[str, str]]:
        """What was typed and the image's address, by the id of each emote in these messages."""
        used: dict[str, tuple[str, str]] = {}
        for _, ranges, body in messages:
            for ref, code in emotes_in(ranges, body).items() if ranges else ():
                used.setdefault(ref, (code, self._providers.twitch_emote_url(ref)))
        return used

    async def fetch_wanted(self) -> bool:
        """Fetch one round of images that are due; returns whether there may be more."""
        now_ms = _ms(self._clock.now())
        due = await self._database.run(
            lambda unit: EmoteStore(unit.connection).due(now_ms, limit=_ROUND, max_set_bytes=self._limits.set_bytes),
            write=False,
        )
        by_host: dict[str, list[Asset]] = defaultdict(list)
        for asset in due:
            by_host[urlsplit(asset.url).netloc].append(asset)
        kept = 0
        stopped: list[DatabaseUnavailable | OSError] = []

        async def fetch_some(queue: list[Asset], failures: list[int]) -> None:
            nonlocal kept
            while queue and failures[0] < _FAILURES_PER_HOST and not stopped:
                try:
                    is_well = await self._fetch(queue.pop(0))
                except (DatabaseUnavailable, OSError) as error:
                    # Nothing of the round could be written down; out of a task group this would leave in a group.
                    stopped.append(error)
                    return
                if is_well:
                    failures[0] = 0
                    kept += 1
                else:
                    failures[0] += 1

        async with anyio.create_task_group() as tasks:
            for queue in by_host.values():
                failures = [0]  # in a row, of all who work on this host
                for _ in range(min(self._limits.at_once_per_host, len(queue))):
                    tasks.start_soon(fetch_some, queue, failures)
        if kept:
            self._log.info("emote images kept", count=kept)
        if stopped:
            raise stopped[0]
        # Where everything failed, the rest waits like those that did.
        return len(due) == _ROUND and kept > 0

    async def _fetch(self, asset: Asset) -> bool:
        """Fetch one image and write down how that went; returns whether its host is well."""
        try:
            image, data = await self._download(asset.url)
        except VodkeepError as error:
            wait_s = retry_after_s(error, asset.attempts, self._rng)
            retry_ms = None if wait_s is None else _ms(self._clock.now()) + int(wait_s * 1000)
            self._log.info("emote image not kept", url=asset.url, code=error.code, reason=str(error))

            def fail(unit: UnitOfWork, reason: str = str(error)) -> None:
                EmoteStore(unit.connection).fail(asset.id, reason, retry_ms=retry_ms)
                unit.commit()

            await self._database.run(fail)
            return not isinstance(error, TransientError)
        await anyio.to_thread.run_sync(self._files.save, image, data)

        def keep(unit: UnitOfWork) -> None:
            EmoteStore(unit.connection).keep(asset.id, image, _ms(self._clock.now()))
            unit.commit()

        await self._database.run(keep)
        return True

    async def _download(self, url: str) -> tuple[StoredImage, bytes]:
        """An image that may be kept. Raises `VodkeepError`."""
        answer = await self._client.fetch(url, max_bytes=self._limits.image_bytes)
        if answer.status != 200:
            raise PermanentError(f"{url} is not there: HTTP {answer.status}.", code="not_found")
        try:
            facts = await anyio.to_thread.run_sync(inspect, answer.body)
        except CutShort as error:
            raise ServerError(f"{url} is damaged: {error}.") from error
        except NotAnImage as error:
            raise PermanentError(f"{url} is no image: {error}.", code="no_image") from error
        return StoredImage(hash_of(answer.body), facts, len(answer.body)), answer.body

    # --- one item ---------------------------------------------------------------------------------------

    async def prepare_item(self, vod_id: str, channel_id: str | None, start: datetime) -> None:
        """See to it that the emotes of an item whose chat is complete are known, and fetched as far as they can be.

        For who writes the item's folder, also after messages were added. Bounded in time; what cannot be had is left
        to the job. Raises `DatabaseUnavailable`, and OSError when an image cannot be written.
        """
        with anyio.move_on_after(self._limits.prepare_s):
            if channel_id is not None:
                await self.ensure_snapshot(channel_id, start)
            sessions = await self._database.run(partial(_begin_scan_again, vod_id=vod_id))
            while True:
                tasks = await self._database.run(
                    lambda unit: EmoteStore(unit.connection).scans(_ROUND, sessions), write=False
                )
                if not [await self._scan(task) for task in tasks if task.ended]:
                    break
            while await self.fetch_wanted():
                pass


class ItemKeeper:
    """Makes what an item's folder says about its emotes."""

    def __init__(self, vault: Vault, replay: EmoteReplay, log: Logger) -> None:
        self._vault = vault
        self._replay = replay
        self._log = log

    async def manifest(self, *, vod_id: str, channel_id: str | None, start: datetime, end: datetime) -> bytes:
        """``emotes.json``, after what was missing has been fetched as far as it can be within two minutes.

        Raises `DatabaseUnavailable`.
        """
        try:
            await self._vault.prepare_item(vod_id, channel_id, start)
        except OSError as error:
            self._log.error("emote image not written", error=str(error))
        return (await self._replay.manifest(vod_id=vod_id, channel_id=channel_id, start=start, end=end)).body


def _begin_scan_again(unit: UnitOfWork, vod_id: str) -> list[int]:
    store = EmoteStore(unit.connection)
    sessions = [session.id for session in store.sessions_of(vod_id)]
    store.scan_again(sessions)
    unit.commit()
    return sessions


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
