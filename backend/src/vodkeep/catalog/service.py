"""Keeps the catalog complete: new videos with every cycle, the whole list every few hours.

*Discovery* reads a channel's newest page and goes on while pages hold something new. *Backfill* reads the whole list,
page by page; the rows of a page and the place where the next one starts are saved in one transaction, so a pass that
breaks off goes on where it was, after a restart too. Each finds what the other missed: discovery that meets a page
of nothing but new videos asks for a backfill in the same transaction, and a backfill reads everything anew.

A video that is gone from Twitch's list stays in the database; nothing here ever removes a row.

Keys written to ``kv``, all under the channel's login: ``job_vod_discover_last`` (last discovery that succeeded),
``job_vod_catalog_last`` (last backfill that reached the end; also without a channel, for the latest of all) and
``vod_catalog_backfill_seen`` (videos the backfill under way has passed, for ``VOD_CATALOG_MAX``).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from vodkeep.catalog.client import HelixClient
from vodkeep.catalog.helix import INVALID_CURSOR, VideoPage
from vodkeep.catalog.limits import CatalogLimits, backfill_is_due, take
from vodkeep.catalog.model import BroadcasterId, Channel, ChannelState, VodId, is_login
from vodkeep.catalog.store import CatalogStore
from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.kv import KvStore
from vodkeep.errors import DatabaseUnavailable, PermanentError, TransientError, VodkeepError
from vodkeep.telemetry.correlation import bind_corr, current_corr
from vodkeep.telemetry.log import Logger

DISCOVERY_PAGES = 5
"""Discovery reads at most this many pages (500 videos) of a channel; the rest is for backfill."""

DISCOVERY_KEY = "job_vod_discover_last"
BACKFILL_KEY = "job_vod_catalog_last"
SEEN_KEY = "vod_catalog_backfill_seen"

_LOOK_S = 60.0  # how often backfill looks for channels that are due
_RETRY_BASE_S, _RETRY_CAP_S = 30.0, 900.0  # after a failed pass, doubling
_UNKNOWN_BASE_S, _UNKNOWN_CAP_S = 300.0, 3600.0  # after Twitch said it knows no such channel, doubling


@dataclass(frozen=True, slots=True)
class DiscoverResult:
    """What one discovery found."""

    new: int = 0
    refreshed: int = 0
    new_ids: tuple[VodId, ...] = ()


@dataclass(frozen=True, slots=True)
class BackfillResult:
    """What one pass over the whole list found."""

    new: int = 0
    refreshed: int = 0
    pages: int = 0
    complete: bool = False  # False only for a channel that Twitch does not know


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """What the catalog knows about a configured channel, for the status page."""

    login: str
    state: ChannelState = ChannelState.UNCHECKED
    sentence: str = ""  # for a person; empty while all is well
    checked_at: datetime | None = None  # UTC


@dataclass(slots=True)
class _Unknown:
    """A channel that Twitch does not know: when to ask again."""

    tries: int = 0
    next_try: float = 0.0  # monotonic


class CatalogService:
    """The catalog of the configured channels.

    ``discover`` and ``backfill`` raise what :class:`~vodkeep.catalog.client.HelixClient` and
    :class:`~vodkeep.db.engine.Database` raise; what was saved before stays saved. A channel that Twitch does not know
    is a state and not an error.
    """

    def __init__(
        self,
        database: Database,
        helix: HelixClient,
        clock: Clock,
        *,
        channels: Sequence[str],
        limits: CatalogLimits,
        backfill_interval: timedelta,
        rng: random.Random,
        log: Logger,
    ) -> None:
        """``channels`` are logins in lower case."""
        self._database = database
        self._helix = helix
        self._clock = clock
        self._channels = tuple(dict.fromkeys(channels))
        self._limits = limits
        self._backfill_interval = backfill_interval
        self._rng = rng
        self._log = log.bind(component="vod_catalog")
        self._status = {login: ChannelStatus(login) for login in self._channels}
        self._unknown: dict[str, _Unknown] = {}

    def statuses(self) -> tuple[ChannelStatus, ...]:
        """The state of every configured channel, in the order of the settings."""
        return tuple(self._status.values())

    async def discover(self, login: str) -> DiscoverResult:
        """Read the channel's newest videos, until a page holds nothing new."""
        channel = await self._channel(login)
        if channel is None:
            return DiscoverResult()
        new: list[VodId] = []
        refreshed, seen, after = 0, 0, None
        for _ in range(DISCOVERY_PAGES):
            page = await self._helix.video_page(channel, after)
            found, changed, last = await self._save_discovered(login, page, seen)
            new += found
            refreshed += changed
            if last or not found:
                break
            seen += len(page.videos)
            after = page.cursor
        if new:
            self._log.info("vods discovered", channel=login, new=len(new), refreshed=refreshed)
        return DiscoverResult(len(new), refreshed, tuple(new))

    async def backfill(self, login: str) -> BackfillResult:
        """Read the channel's whole list within the limits, going on where the last pass broke off."""
        channel = await self._channel(login)
        if channel is None or await self._resolve(login, channel) is None:
            return BackfillResult()
        cursor, seen = await self._database.run(lambda unit: _place(unit, login), write=False)
        try:
            result = await self._run_backfill(login, channel, cursor, seen)
        except PermanentError as error:
            if error.code != INVALID_CURSOR:
                raise
            result = None
        if result is None or (cursor is not None and result.pages == 0):
            # A place in the list does not live for ever. Everything found before is saved; start again.
            self._log.info("vod backfill starts again from the top", channel=login)
            await self._database.run(lambda unit: self._start_over(unit, login))
            result = await self._run_backfill(login, channel, None, 0)
        self._log.info(
            "vod backfill complete",
            channel=login,
            new=result.new,
            refreshed=result.refreshed,
            pages=result.pages,
            resumed=cursor is not None,
        )
        return result

    async def run_backfill_forever(self) -> None:
        """Back-fill every channel that is due, until canceled.

        One channel after the other. A failure is logged and that channel waits, longer each time; the others go on.
        """
        failures: dict[str, int] = {}
        retry_at: dict[str, float] = {}
        while True:
            for login in await self._due_for_backfill():
                if self._clock.monotonic() < retry_at.get(login, 0.0):
                    continue
                error = await self._try_backfill(login)
                if error is None:
                    failures.pop(login, None)
                    continue
                failures[login] = failures.get(login, 0) + 1
                wait_s = _backoff(failures[login], _RETRY_BASE_S, _RETRY_CAP_S, self._rng)
                if isinstance(error, TransientError) and error.delay_s is not None:
                    wait_s = max(wait_s, error.delay_s)
                retry_at[login] = self._clock.monotonic() + wait_s
                self._log.warning(
                    "vod backfill failed", channel=login, error=str(error), code=error.code, retry_s=round(wait_s)
                )
            await self._clock.sleep(_LOOK_S)

    async def _due_for_backfill(self) -> list[str]:
        """The channels whose list should be read; one question for all of them, which may be a thousand."""
        try:
            known = await self._database.run(lambda unit: CatalogStore(unit.connection).channels(), write=False)
        except DatabaseUnavailable as error:
            self._log.debug("vod backfill waits", reason=str(error))
            return []
        now = self._clock.now()
        return [
            login
            for login in self._channels
            if (channel := known.get(login)) is None
            or backfill_is_due(
                cursor=channel.backfill_cursor,
                done_at=channel.backfill_done_at,
                interval=self._backfill_interval,
                now=now,
            )
        ]

    async def _try_backfill(self, login: str) -> VodkeepError | None:
        """Run a pass; returns how it failed, if it did."""
        with bind_corr():
            try:
                await self.backfill(login)
            except VodkeepError as error:
                return error
            except Exception:  # noqa: BLE001 - a pass ends here; a bug in one must not end the others
                self._log.exception("vod backfill broke", channel=login)
                return VodkeepError("The backfill met a bug; the log has its traceback.", code="bug")
            return None

    async def _run_backfill(self, login: str, channel: BroadcasterId, cursor: str | None, seen: int) -> BackfillResult:
        """One pass from ``cursor`` on. A resumed pass that finds nothing at all reports no pages."""
        result = BackfillResult()
        async with aclosing(self._helix.videos(channel, after=cursor)) as pages:
            async for page in pages:
                if cursor is not None and result.pages == 0 and not page.videos and page.cursor is None:
                    return result
                result, ended = await self._save_backfilled(login, page, seen, result)
                if ended:
                    break
                seen += len(page.videos)
        return replace(result, complete=True)

    async def _save_discovered(self, login: str, page: VideoPage, seen: int) -> tuple[tuple[VodId, ...], int, bool]:
        """Save a page; returns the new ids, how many were refreshed, and whether it is the last to look at."""
        now, corr = self._clock.now(), current_corr()
        taken = take(page.videos, seen=seen, limits=self._limits, now=now)
        last = taken.ended or page.cursor is None

        def work(unit: UnitOfWork) -> tuple[tuple[VodId, ...], int, bool]:
            store = CatalogStore(unit.connection)
            saved = store.save_videos(login, taken.videos, now=now, corr=corr)
            store.note_lifetime(login, page.videos, is_end=page.cursor is None and not page.unreadable, now=now)
            if not last and taken.videos and len(saved.new) == len(taken.videos):
                # Should the next page never be read, only the whole list can tell what lies below.
                store.ask_for_backfill(login, now=now)
            KvStore(unit.connection).set(DISCOVERY_KEY, _stamp(now), now, channel=login)
            unit.commit()
            return saved.new, len(saved.refreshed), last

        return await self._database.run(work)

    async def _save_backfilled(
        self, login: str, page: VideoPage, seen: int, so_far: BackfillResult
    ) -> tuple[BackfillResult, bool]:
        """Save a page and the place of the next one together; returns the sum so far and whether this was the last."""
        now, corr = self._clock.now(), current_corr()
        taken = take(page.videos, seen=seen, limits=self._limits, now=now)
        last = taken.ended or page.cursor is None

        def work(unit: UnitOfWork) -> BackfillResult:
            store, facts = CatalogStore(unit.connection), KvStore(unit.connection)
            saved = store.save_videos(login, taken.videos, now=now, corr=corr)
            store.note_lifetime(login, page.videos, is_end=page.cursor is None and not page.unreadable, now=now)
            if last:
                store.save_backfill(login, cursor=None, now=now, done_at=now)
                facts.delete(SEEN_KEY, channel=login)
                for channel in (login, ""):
                    facts.set(BACKFILL_KEY, _stamp(now), now, channel=channel)
            else:
                store.save_backfill(login, cursor=page.cursor, now=now)
                facts.set(SEEN_KEY, str(seen + len(page.videos)), now, channel=login)
            unit.commit()
            return replace(
                so_far,
                new=so_far.new + len(saved.new),
                refreshed=so_far.refreshed + len(saved.refreshed),
                pages=so_far.pages + 1,
            )

        return await self._database.run(work), last

    def _start_over(self, unit: UnitOfWork, login: str) -> None:
        CatalogStore(unit.connection).save_backfill(login, cursor=None, now=self._clock.now())
        KvStore(unit.connection).delete(SEEN_KEY, channel=login)
        unit.commit()

    async def _channel(self, login: str) -> BroadcasterId | None:
        """The broadcaster behind a login, from the database or from Twitch; None while Twitch knows no such channel."""
        unknown = self._unknown.get(login)
        if unknown is not None and self._clock.monotonic() < unknown.next_try:
            return None
        known = await self._database.run(lambda unit: CatalogStore(unit.connection).channel(login), write=False)
        if known is not None and known.broadcaster_id is not None and unknown is None:
            if self._status_of(login).state is ChannelState.UNCHECKED:
                self._found(login)
            return known.broadcaster_id
        return await self._resolve(login, None if known is None else known.broadcaster_id)

    async def _resolve(self, login: str, broadcaster_id: BroadcasterId | None) -> BroadcasterId | None:
        """Ask Twitch about the channel, by its id where we know it, for a login can be given to somebody else."""
        if broadcaster_id is not None:
            accounts = await self._helix.users(ids=[broadcaster_id])
            sentence = f"The account behind {login!r} is closed, banned or gone from Twitch."
        else:
            accounts = await self._helix.users(logins=[login]) if is_login(login) else ()
            sentence = f"Twitch knows no channel named {login!r}."
        if not accounts:
            self._not_found(login, sentence)
            return None
        account, now = accounts[0], self._clock.now()

        def work(unit: UnitOfWork) -> tuple[str | None, int]:
            adopted = self._adopt(CatalogStore(unit.connection), login, account, now)
            unit.commit()
            return adopted

        double, moved = await self._database.run(work)
        if double is not None:
            self._not_found(login, f"{login!r} is the channel already kept as {double!r}; configure it once.")
            return None
        if moved:
            self._log.info("twitch channel renamed", channel=login, vods=moved)
        self._found(login, account)
        return account.id

    def _adopt(self, store: CatalogStore, login: str, account: Channel, now: datetime) -> tuple[str | None, int]:
        """Keep ``account`` under ``login``, with everything kept under a login that is no longer configured.

        Returns the other configured login if the account is kept under that one, and how many videos were moved.
        """
        moved = 0
        mine = store.channel(login)
        if mine is None or mine.broadcaster_id is None:
            # Discovery and backfill may ask at the same moment: the row can be ours since we looked a line above.
            others = [other.login for other in store.channels_of(account.id) if other.login != login]
            double = next((other for other in others if other in self._channels), None)
            if double is not None:
                return double, 0
            moved = sum(store.rename_channel(other, login, now=now) for other in others)
        store.save_channel(login, account, now=now)
        return None, moved

    def _found(self, login: str, account: Channel | None = None) -> None:
        sentence = ""
        if account is not None and account.login != login:
            sentence = (
                f"The channel is now called {account.login!r} on Twitch; its broadcasts are still kept under {login!r}."
            )
            if sentence != self._status_of(login).sentence:
                self._log.warning("twitch channel has a new login", channel=login, login=account.login)
        self._unknown.pop(login, None)
        self._status[login] = ChannelStatus(login, ChannelState.FOUND, sentence, self._clock.now())

    def _not_found(self, login: str, sentence: str) -> None:
        unknown = self._unknown.setdefault(login, _Unknown())
        unknown.tries += 1
        wait_s = _backoff(unknown.tries, _UNKNOWN_BASE_S, _UNKNOWN_CAP_S, self._rng)
        unknown.next_try = self._clock.monotonic() + wait_s
        if self._status_of(login).sentence != sentence:
            self._log.warning("twitch channel unknown", channel=login, reason=sentence, retry_s=round(wait_s))
        self._status[login] = ChannelStatus(login, ChannelState.UNKNOWN, sentence, self._clock.now())

    def _status_of(self, login: str) -> ChannelStatus:
        return self._status.get(login, ChannelStatus(login))


def _place(unit: UnitOfWork, login: str) -> tuple[str | None, int]:
    """Where the interrupted pass goes on and how many videos it has passed; (None, 0) for a new one."""
    known = CatalogStore(unit.connection).channel(login)
    if known is None or known.backfill_cursor is None:
        return None, 0
    seen = KvStore(unit.connection).get(SEEN_KEY, channel=login) or ""
    return known.backfill_cursor, int(seen) if seen.isdecimal() else 0


def _backoff(tries: int, base_s: float, cap_s: float, rng: random.Random) -> float:
    """Twice as long each time up to the cap; half of it is chance, so that channels do not move in step."""
    full = min(cap_s, base_s * 2.0 ** min(tries - 1, 16))
    return full / 2 + rng.uniform(0.0, full / 2)


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
