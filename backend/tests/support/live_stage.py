"""The live watch on a stage: a scripted Twitch, a recorder that writes its calls down, real databases, a fake clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import anyio
from sqlalchemy import select

from support.clock import FakeClock
from vodkeep.catalog.helix import LiveStreams, Unreadable, VideoPage
from vodkeep.catalog.model import BroadcasterId, Channel, Stream, StreamId, Video, VodId
from vodkeep.chat.sessions import Session, SessionStore
from vodkeep.chat.tables import chat_session
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.leases import Lease
from vodkeep.db.tables import vods
from vodkeep.errors import VodkeepError
from vodkeep.pipeline.live_watch import LiveWatch, WatchPolicy
from vodkeep.pipeline.reconcile import Reconciler
from vodkeep.pipeline.recorder_plan import IntoVod
from vodkeep.telemetry.log import get_logger
from vodkeep.telemetry.metrics import Metrics

POLL_S = 30.0


class ScriptedTwitch:
    """Answers what a test told it to, and counts what it was asked."""

    def __init__(self, clock: FakeClock) -> None:
        self.live: dict[str, Stream] = {}
        self.videos: dict[str, list[Video]] = {}
        self.failure: VodkeepError | None = None
        self.videos_failure: VodkeepError | None = None
        self.unreadable = False
        self.asked: list[tuple[str, ...]] = []
        self.listed: list[str] = []
        self._clock = clock

    def go_live(self, login: str, stream_id: str, *, started_at: datetime | None = None, title: str = "hello") -> None:
        at = started_at or self._clock.now()
        self.live[login] = Stream(StreamId(stream_id), BroadcasterId(f"id-{login}"), login, login.title(), title, at)

    def publish(
        self, login: str, vod_id: str, stream_id: str | None, created_at: datetime, *, kind: str = "archive"
    ) -> None:
        video = Video(
            VodId(vod_id),
            BroadcasterId(f"id-{login}"),
            created_at,
            login,
            None if stream_id is None else StreamId(stream_id),
            f"VOD {vod_id}",
            "",
            timedelta(minutes=30),
            kind=kind,
        )
        self.videos.setdefault(login, []).insert(0, video)

    async def streams(self, logins: Iterable[str] = ()) -> LiveStreams:
        asked = tuple(sorted(logins))
        self.asked.append(asked)
        if self.failure is not None:
            raise self.failure
        found = tuple(stream for login, stream in self.live.items() if login in asked)
        return LiveStreams(found, (Unreadable(None, "nonsense"),) if self.unreadable else ())

    async def users(self, logins: Iterable[str] = ()) -> tuple[Channel, ...]:
        return tuple(Channel(BroadcasterId(f"id-{login}"), login, login.title()) for login in logins)

    async def video_page(self, broadcaster_id: BroadcasterId) -> VideoPage:
        if self.videos_failure is not None:
            raise self.videos_failure
        login = broadcaster_id.removeprefix("id-")
        self.listed.append(login)
        return VideoPage(tuple(self.videos.get(login, [])), None)


class NotingRecorder:
    """Writes down what it is told, and which chats it is to be in."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.sessions: dict[str, Session] = {}
        self.joined: frozenset[str] = frozenset()

    async def begin(self, channel: str, session: Session) -> None:
        self.told.append(f"begin {channel} {session.stream_id}")
        self.sessions[channel] = session

    async def end(self, channel: str, at_ms: int) -> None:
        self.told.append(f"end {channel}")
        self.sessions.pop(channel, None)

    async def release(self, channel: str) -> None:
        if self.sessions.pop(channel, None) is not None:
            self.told.append(f"release {channel}")

    def set_channels(self, logins: frozenset[str]) -> None:
        self.joined = logins


class OnlyOwner:
    """Everything is this process's."""

    holder = "me"

    async def keep(
        self,
        name: str,
        work: Callable[[], Awaitable[object]],
        *,
        wanted: Callable[[Collection[Lease]], bool] = lambda _: True,
    ) -> None:
        assert wanted([])
        await work()

    def holds(self, name: str) -> bool:
        return True

    async def confirm(self, name: str) -> None:
        return


class LiveStage:
    """One process that watches ``channels``; ``running`` is its life, and another can follow it."""

    def __init__(
        self, database: Database, chat: Database, clock: FakeClock, *channels: str, gather_s: float = 0.0
    ) -> None:
        self.database = database
        self.chat = chat
        self.clock = clock
        self.channels = channels or ("one",)
        self.gather_s = gather_s
        self.twitch = ScriptedTwitch(clock)
        self.recorder = NotingRecorder()
        self.metrics = Metrics()
        self.woken = 0
        self._sleepers = 2
        self.reconciler = self._reconciler()
        self.watch: LiveWatch

    def _reconciler(self) -> Reconciler:
        return Reconciler(
            self.database,
            self.chat,
            self.twitch,
            self.clock,
            get_logger("chat_recorder"),
            self.metrics,
            window=timedelta(minutes=15),
            wake_planner=self._wake,
        )

    @asynccontextmanager
    async def running(self, into_vod: IntoVod | None = None) -> AsyncIterator[None]:
        """A process until it is canceled; in the databases a kill leaves the same."""
        self.recorder.sessions.clear()
        self.watch = LiveWatch(
            database=self.database,
            chat=self.chat,
            helix=self.twitch,
            recorder=self.recorder,
            joins=self.recorder,
            reconciler=self.reconciler,
            owner=OnlyOwner(),
            clock=self.clock,
            log=get_logger("chat_recorder"),
            metrics=self.metrics,
            channels=self.channels,
            policy=WatchPolicy(
                timedelta(seconds=POLL_S), timedelta(minutes=1), timedelta(minutes=15), gather_s=self.gather_s
            ),
            into_vod=into_vod,
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.watch.run)
            # With a channel to ask about, polling sleeps; reconciling always does.
            self._sleepers = 1 + bool(set(self.channels) - {into_vod.channel if into_vod is not None else ""})
            await self.idle()
            yield
            tasks.cancel_scope.cancel()

    def _wake(self) -> None:
        self.woken += 1

    async def idle(self) -> None:
        """Wait until polling and reconciling sleep again."""
        for _ in range(3):
            await self.clock.advance(0)
            await self.clock.until_sleeping(self._sleepers)

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait, in real time, for what the databases' threads bring about."""
        with anyio.fail_after(60):
            while not happened():  # noqa: ASYNC110 - what is waited for tells nobody
                await anyio.sleep(0.005)

    async def polls(self, count: int = 1) -> None:
        """Let so many intervals pass."""
        for _ in range(count):
            await self.clock.advance(POLL_S)
            await self.idle()

    async def minutes(self, count: float) -> None:
        await self.polls(round(count * 60 / POLL_S))

    # --- what is in the databases ------------------------------------------------------------------------------------

    def items(self) -> dict[str, str]:
        """State of each item, by id."""
        with self.database.unit_of_work(write=False) as unit:
            rows = unit.connection.execute(select(vods.c.twitch_vod_id, vods.c.download_state).order_by(vods.c.id))
            return {row[0]: row[1] for row in rows}

    def item(self, item_id: str) -> dict[str, Any]:
        with self.database.unit_of_work(write=False) as unit:
            query = select(vods).where(vods.c.twitch_vod_id == item_id)
            return dict(unit.connection.execute(query).mappings().one())

    def session(self, stream_id: str, channel: str = "one") -> Session:
        with self.chat.unit_of_work(write=False) as unit:
            found = SessionStore(unit.connection).by_stream(channel, stream_id)
        assert found is not None
        return found

    def sessions(self) -> list[tuple[str | None, str | None, str]]:
        """Stream, item and state of each session."""
        with self.chat.unit_of_work(write=False) as unit:
            query = select(chat_session.c.stream_id, chat_session.c.vod_id, chat_session.c.state)
            return [tuple(row) for row in unit.connection.execute(query.order_by(chat_session.c.id))]

    def change(self, work: Callable[[UnitOfWork], object], database: Database | None = None) -> None:
        with (database or self.database).unit_of_work() as unit:
            work(unit)
            unit.commit()
