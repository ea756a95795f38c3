"""Watches which channels are live, and has the chat of every stream recorded and tied to its VOD.

Each channel is watched by one process at a time, the one that has its lease (``chat:<login>``). That process is joined
to the channel's chat all the time, live or not, since live status is known some seconds late. What is known of a
channel is in the database: a session that was being recorded goes on after a restart, found by the id of its stream,
and a placeholder without a VOD is looked after for as long as it is one. So there is nothing to lose by dying.

Three things go on side by side: *polling* asks Twitch in batches spread over the interval and lets
``vodkeep.chat.live`` decide what has happened; *recording* is told of it; *reconciling* waits for the VODs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

import anyio

from vodkeep.chat.live import Began, Change, LiveStream, Sight, Silence, Watched, batches, look, sights
from vodkeep.chat.model import Source
from vodkeep.chat.reconcile import LOOK_EVERY, Step, next_look, step
from vodkeep.chat.sessions import Session, SessionStore, base_of
from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.leases import Lease
from vodkeep.errors import DatabaseUnavailable, TransientError, VodkeepError
from vodkeep.pipeline.placeholder_store import PlaceholderStore
from vodkeep.pipeline.reconcile import OpenStream, Reconciler, Twitch
from vodkeep.pipeline.recorder_plan import IntoVod
from vodkeep.pipeline.running import Bell
from vodkeep.pipeline.service import Owner
from vodkeep.pipeline.shares import ChannelShares
from vodkeep.telemetry.correlation import bind_corr
from vodkeep.telemetry.log import Logger

_T = TypeVar("_T")

CHAT_PREFIX = "chat:"
"""The lease of the process that records a channel's chat is this and the login."""

# After something went wrong that nobody foresaw, or while the database is away.
_PAUSE_S = 5.0

# What is still to be written at the end has this long; the journal has it in any case.
_FAREWELL_S = 5.0


class Recorder(Protocol):
    """What is told whose chat is kept, and where; ``vodkeep.chat.recording`` is one."""

    async def begin(self, channel: str, session: Session) -> None:
        """From now on the channel's messages go there, with those of the last minutes that belong to it."""
        ...

    async def end(self, channel: str, at_ms: int) -> None:
        """The stream is over since then (Unix ms): write what there is, and end the session. Nothing without one."""
        ...

    async def release(self, channel: str) -> None:
        """Another process goes on: write what there is, and leave the session as it is. Does nothing without one."""
        ...


class Joins(Protocol):
    """What is told which chats to be in; ``vodkeep.chat.connections`` is one."""

    def set_channels(self, logins: frozenset[str]) -> None:
        """Be in these and in no other."""
        ...


class LiveMetrics(Protocol):
    """What is counted here; ``channel`` is a login."""

    def chat_recording(self, channel: str, is_live: bool) -> None:
        """Whether the chat of a stream is being recorded."""
        ...

    def chat_stream_began(self, channel: str) -> None:
        """A stream began, or was met for the first time."""
        ...


@dataclass(frozen=True, slots=True)
class WatchPolicy:
    """How often and how long."""

    poll_interval: timedelta
    reconcile_delay: timedelta
    reconcile_window: timedelta
    gather_s: float = 1.0  # so long channels that come to us one by one are collected, to be asked about together


@dataclass(slots=True)
class _Held:
    """A channel that is ours to watch."""

    watched: Watched
    polled: bool = False
    beginning: str | None = None  # the id of a stream whose beginning is being written down
    session: Session | None = None  # of the stream that runs


class LiveWatch:
    """One per process; :meth:`run` goes on until canceled."""

    def __init__(
        self,
        *,
        database: Database,
        chat: Database,
        helix: Twitch,
        recorder: Recorder,
        joins: Joins,
        reconciler: Reconciler,
        owner: Owner,
        clock: Clock,
        log: Logger,
        metrics: LiveMetrics,
        channels: tuple[str, ...],
        policy: WatchPolicy,
        into_vod: IntoVod | None = None,
    ) -> None:
        """``channels`` are logins in lower case; that of ``into_vod`` need not be among them."""
        self._database = database
        self._chat = chat
        self._helix = helix
        self._recorder = recorder
        self._joins = joins
        self._reconciler = reconciler
        self._owner = owner
        self._clock = clock
        self._log = log
        self._metrics = metrics
        self._into_vod = into_vod
        self._channels = tuple(login for login in channels if into_vod is None or login != into_vod.channel)
        self._policy = policy
        self._shares = ChannelShares(channels, owner.holder)
        self._held: dict[str, _Held] = {}
        self._joined: set[str] = set()
        self._looked: set[str] = set()  # placeholders whose VODs were looked for in vain
        self._poll_bell = Bell()
        self._reconcile_bell = Bell()
        self._failing = False

    async def run(self) -> None:
        """Watch until canceled; sessions that are being recorded then go on at the next start."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._guarded, "polling live status ended in a bug", self._poll_forever)
            tasks.start_soon(self._guarded, "reconciling ended in a bug", self._reconcile_forever)
            for login in self._channels:
                tasks.start_soon(self._keep, login, partial(self._hold, login))
            if self._into_vod is not None:
                tasks.start_soon(self._keep, self._into_vod.channel, partial(self._hold_for_vod, self._into_vod))

    @property
    def held(self) -> int:
        """How many channels are polled here."""
        return len(self._held)

    def live(self) -> Mapping[str, LiveStream]:
        """The streams that run, of the channels that are ours, by login."""
        return {login: held.watched.stream for login, held in self._held.items() if held.watched.stream is not None}

    # --- channels ----------------------------------------------------------------------------------------------------

    async def _keep(self, login: str, work: Callable[[], Awaitable[None]]) -> None:
        await self._owner.keep(f"{CHAT_PREFIX}{login}", work, wanted=self._wanted(login))

    def _wanted(self, login: str) -> Callable[[Collection[Lease]], bool]:
        if self._into_vod is not None and login == self._into_vod.channel:
            return lambda _: True
        return self._shares.wants(login)

    async def _hold(self, login: str) -> None:
        """Be in the channel's chat and poll it, as long as its lease is ours."""
        self._join(login)
        try:
            self._held[login] = await self._patiently(partial(self._restored, login))
            self._poll_bell.ring()
            self._reconcile_bell.ring()
            await anyio.sleep_forever()
        finally:
            self._held.pop(login, None)
            await self._leave(login)

    async def _hold_for_vod(self, wanted: IntoVod) -> None:
        """Record the channel's chat into one VOD, as long as its lease is ours."""
        self._join(wanted.channel)
        try:
            session = await self._patiently(partial(self._session_for_vod, wanted))
            await self._recorder.begin(wanted.channel, session)
            self._metrics.chat_recording(wanted.channel, True)
            self._log.info("chat is recorded into a vod", channel=wanted.channel, vod_id=wanted.vod_id)
            await anyio.sleep_forever()
        finally:
            await self._leave(wanted.channel)

    def _join(self, login: str) -> None:
        self._joined.add(login)
        self._joins.set_channels(frozenset(self._joined))

    async def _leave(self, login: str) -> None:
        self._joined.discard(login)
        self._joins.set_channels(frozenset(self._joined))
        self._metrics.chat_recording(login, False)
        with anyio.move_on_after(_FAREWELL_S, shield=True):
            await self._recorder.release(login)

    async def _restored(self, login: str) -> _Held:
        """What is known of the channel from before: the stream that was being recorded goes on being so."""
        sessions = await self._chat.run(lambda unit: _recording_of(unit, login), write=False)
        if not sessions:
            return _Held(Watched())
        session = sessions[-1]
        for older in sessions[:-1]:
            await self._chat.run(partial(_end, older, self._now_ms()))
        stream = LiveStream(
            session.stream_id or "", datetime.fromtimestamp(session.start_ms / 1000, UTC), session.channel_id
        )
        await self._recorder.begin(login, session)
        self._metrics.chat_recording(login, True)
        self._log.info("chat recording goes on", channel=login, stream_id=session.stream_id, vod_id=session.vod_id)
        return _Held(Watched(stream), session=session)

    async def _session_for_vod(self, wanted: IntoVod) -> Session:
        """The session for the chat of a VOD, and a row for that where the catalog has none."""
        now, start_ms = self._clock.now(), round(wanted.started_at.timestamp() * 1000)

        def add_row(unit: UnitOfWork) -> None:
            PlaceholderStore(unit.connection).add_vod(
                wanted.channel, wanted.vod_id, started_at=wanted.started_at, now=now
            )
            unit.commit()

        def open_session(unit: UnitOfWork) -> Session:
            store = SessionStore(unit.connection)
            mine = [each for each in store.of_item(wanted.vod_id) if each.source is Source.LIVE]
            session = (
                store.reopen(mine[-1])
                if mine
                else store.open(
                    wanted.channel,
                    base_ms=base_of(start_ms),
                    vod_id=wanted.vod_id,
                    vod_offset_ms=base_of(start_ms) - start_ms,
                )
            )
            unit.commit()
            return session

        await self._database.run(add_row)
        return await self._chat.run(open_session)

    # --- polling -----------------------------------------------------------------------------------------------------

    async def _poll_forever(self) -> None:
        """Ask about every channel once in each interval, batch after batch; at once about one that is new here."""
        interval_s = self._policy.poll_interval.total_seconds()
        while True:
            groups = batches(self._held)
            for group in groups:
                begun = self._clock.monotonic()
                wait_s = await self._poll(group)
                pause_s = max(wait_s, interval_s / len(groups) - (self._clock.monotonic() - begun))
                await self._pause(pause_s)
            if not groups:
                await self._poll_bell.wait()
                await self._clock.sleep(self._policy.gather_s)

    async def _pause(self, seconds: float) -> None:
        """Wait; channels that come meanwhile are asked about in between."""
        until = self._clock.monotonic() + seconds
        while (left_s := until - self._clock.monotonic()) > 0:
            await self._poll_bell.wait_up_to(left_s, self._clock)
            if all(held.polled for held in self._held.values()):
                continue
            await self._clock.sleep(self._policy.gather_s)
            for group in batches([login for login, held in self._held.items() if not held.polled]):
                await self._poll(group)

    async def _poll(self, group: Collection[str]) -> float:
        """Ask about up to 100 channels; returns how long Twitch wants to be left alone, in seconds."""
        with bind_corr():
            try:
                live = await self._helix.streams(logins=group)
            except VodkeepError as error:
                self._note_failure(error)
                seen: Mapping[str, Sight] = dict.fromkeys(group, Silence.UNKNOWN)
                wait_s = error.delay_s if isinstance(error, TransientError) else None
            else:
                self._note_failure(None)
                found = [
                    (
                        stream.broadcaster_login,
                        LiveStream(stream.id, stream.started_at, stream.broadcaster_id, stream.title),
                    )
                    for stream in live.streams
                ]
                seen, wait_s = sights(group, found, complete=not live.unreadable), None
            async with anyio.create_task_group() as tasks:
                for login, sight in seen.items():
                    tasks.start_soon(self._apply, login, sight)
            return wait_s or 0.0

    async def _apply(self, login: str, sight: Sight) -> None:
        """Let a reply change what is known of a channel; what cannot be done now is done after the next reply."""
        held = self._held.get(login)
        if held is None:
            return
        held.polled = True
        after, changes = look(held.watched, sight, self._clock.now())
        try:
            for change in changes:
                await self._do(login, held, change)
                held.watched = Watched(change.stream) if isinstance(change, Began) else Watched()
        except DatabaseUnavailable as error:
            self._log.warning("the database is away", channel=login, error=str(error), remedy=error.remedy)
        else:
            held.watched = after

    async def _do(self, login: str, held: _Held, change: Change) -> None:
        if isinstance(change, Began):
            held.beginning = change.stream.stream_id
            try:
                held.session = await self._begin(login, change.stream)
            finally:
                held.beginning = None
            return
        await self._end(login, held.session, change.stream, change.at)
        held.session = None

    async def _begin(self, login: str, stream: LiveStream) -> Session:
        now = self._clock.now()

        def reopen_session(unit: UnitOfWork) -> None:
            store = SessionStore(unit.connection)
            known = store.by_stream(login, stream.stream_id)
            if known is not None:
                store.reopen(known)
                unit.commit()

        # First of all, for a placeholder whose session has ended is one whose VOD is looked for.
        await self._chat.run(reopen_session)

        def add_item(unit: UnitOfWork) -> tuple[str, datetime]:
            item = PlaceholderStore(unit.connection).add(
                login, stream_id=stream.stream_id, started_at=stream.started_at, title=stream.title, now=now
            )
            unit.commit()
            return item.item_id, item.date or stream.started_at

        item_id, date = await self._database.run(add_item)
        base_ms = base_of(_milliseconds(stream.started_at))

        def open_session(unit: UnitOfWork) -> Session:
            session = SessionStore(unit.connection).open(
                login,
                base_ms=base_ms,
                channel_id=stream.channel_id,
                stream_id=stream.stream_id,
                vod_id=item_id,
                vod_offset_ms=base_ms - _milliseconds(date),
            )
            unit.commit()
            return session

        session = await self._chat.run(open_session)
        await self._recorder.begin(login, session)
        self._metrics.chat_stream_began(login)
        self._metrics.chat_recording(login, True)
        self._log.info("chat recording began", channel=login, stream_id=stream.stream_id, vod_id=session.vod_id)
        return session

    async def _end(self, login: str, session: Session | None, stream: LiveStream, at: datetime) -> None:
        await self._recorder.end(login, _milliseconds(at))
        self._metrics.chat_recording(login, False)
        if session is None:
            return
        session = await self._chat.run(partial(_ended, session, _milliseconds(at)))
        now = self._clock.now()

        def note(unit: UnitOfWork) -> None:
            if session.vod_id is not None:
                PlaceholderStore(unit.connection).note_end(
                    session.vod_id, ended_at=at, title=stream.title, messages=session.messages, now=now
                )
            unit.commit()

        await self._database.run(note)
        self._log.info(
            "chat recording ended",
            channel=login,
            stream_id=stream.stream_id,
            vod_id=session.vod_id,
            messages=session.messages,
        )
        self._reconcile_bell.ring()

    def _note_failure(self, error: VodkeepError | None) -> None:
        """Say once that live status is not known, and once that it is again."""
        if error is not None and not self._failing:
            self._log.warning("live status unknown", code=error.code, error=str(error), remedy=error.remedy)
        elif error is None and self._failing:
            self._log.info("live status is known again")
        self._failing = error is not None

    # --- reconciling -------------------------------------------------------------------------------------------------

    async def _reconcile_forever(self) -> None:
        while True:
            await self._reconcile_bell.wait_up_to(await self._reconcile(), self._clock)

    async def _reconcile(self) -> float:
        """Do what is due for every stream without a VOD; returns the seconds until something may be due again."""
        streams = await self._reconciler.open_streams(self._held)
        self._looked &= {each.item.item_id for each in streams}
        by_channel: dict[str, list[OpenStream]] = {}
        for each in streams:
            if self._step(each) is not Step.WAIT and not self._runs(each):
                by_channel.setdefault(each.item.channel, []).append(each)
        for channel, waiting in by_channel.items():
            if channel in self._held:
                await self._reconcile_channel(channel, waiting)
        now = self._clock.now()
        policy = self._policy
        moments = [
            next_look(ended_at, now, delay=policy.reconcile_delay, window=policy.reconcile_window)
            for each in streams
            if (ended_at := each.ended_at) is not None
        ]
        # An operator may ask for one again at any time, by hand.
        return min([LOOK_EVERY.total_seconds(), *((moment - now).total_seconds() for moment in moments)])

    def _step(self, stream: OpenStream, *, looked: bool | None = None) -> Step:
        return step(
            stream.ended_at,
            self._clock.now(),
            delay=self._policy.reconcile_delay,
            window=self._policy.reconcile_window,
            looked=stream.item.item_id in self._looked if looked is None else looked,
        )

    def _runs(self, stream: OpenStream) -> bool:
        """Whether the stream is live after all; its end then asks for it to be looked at again."""
        held = self._held.get(stream.item.channel)
        running = held.watched.stream.stream_id if held is not None and held.watched.stream is not None else None
        return stream.item.stream_id in (running, held.beginning if held is not None else None)

    async def _reconcile_channel(self, channel: str, streams: list[OpenStream]) -> None:
        with bind_corr():
            try:
                found = await self._reconciler.reconcile_listed(channel, streams)
            except DatabaseUnavailable:
                raise
            except VodkeepError as error:
                late = [each for each in streams if self._step(each, looked=True) is Step.GIVE_UP]
                await self._reconciler.note_trouble(late, error)
                return
            for each in streams:
                if each.item.item_id in found:
                    continue
                self._looked.add(each.item.item_id)
                if self._step(each) is Step.GIVE_UP and not self._runs(each):
                    await self._reconciler.give_up(each)
                    self._looked.discard(each.item.item_id)

    # --- how it is done ----------------------------------------------------------------------------------------------

    async def _guarded(self, complaint: str, work: Callable[[], Awaitable[None]]) -> None:
        """Begin ``work`` anew whenever it fails, after a pause."""
        while True:
            try:
                await work()
            except DatabaseUnavailable as error:
                self._log.warning("the database is away", error=str(error), remedy=error.remedy)
            except Exception:  # noqa: BLE001 - one turn ends here; the next may not meet the bug
                self._log.exception(complaint)
            await self._clock.sleep(_PAUSE_S)

    async def _patiently(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """The result of ``work``, which is tried again while the database is away."""
        while True:
            try:
                return await work()
            except DatabaseUnavailable as error:
                self._log.warning("the database is away", error=str(error), remedy=error.remedy)
                await self._clock.sleep(_PAUSE_S)

    def _now_ms(self) -> int:
        return _milliseconds(self._clock.now())


def _recording_of(unit: UnitOfWork, login: str) -> list[Session]:
    """The sessions of the channel's streams that have not ended, oldest first; more than one only after a kill."""
    return [
        each
        for each in SessionStore(unit.connection).recording()
        if each.channel == login and each.source is Source.LIVE and each.stream_id is not None
    ]


def _end(session: Session, at_ms: int, unit: UnitOfWork) -> None:
    SessionStore(unit.connection).end(session.id, session.last_ms or at_ms)
    unit.commit()


def _ended(session: Session, at_ms: int, unit: UnitOfWork) -> Session:
    """The session as it is, ended if the recorder has not done so."""
    store = SessionStore(unit.connection)
    store.end(session.id, at_ms)
    after = store.get(session.id)
    unit.commit()
    return after if after is not None else replace(session, ended_ms=at_ms)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
