"""Ties streams and their VODs together: two become one item, and the chat finds its place on the picture.

The chat and the items are two databases (on SQLite), so it takes two transactions, and a kill can come between them.
First the chat is given to the VOD, then the placeholder becomes it. Whoever finds the chat given away already goes on
from there, in whichever order processes die and begin: each step done twice is done once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from vodkeep.catalog.helix import LiveStreams, VideoPage
from vodkeep.catalog.model import BroadcasterId, Channel, Video
from vodkeep.chat.reconcile import Placeholder, Recording, match
from vodkeep.chat.sessions import ENDED, Session, SessionStore
from vodkeep.clock import Clock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.durations import format_duration
from vodkeep.errors import VodkeepError
from vodkeep.pipeline.placeholder_store import NO_VOD, Found, LiveItem, PlaceholderStore
from vodkeep.placeholder import is_placeholder
from vodkeep.telemetry.log import Logger

_REMEDY = (
    "Nothing is lost: it becomes the VOD when one turns up. If the channel does publish its VODs, check"
    " TWITCH_CLIENT_ID and TWITCH_CLIENT_SECRET, or raise VOD_RECONCILE_WINDOW."
)


class Twitch(Protocol):
    """What is asked of Twitch about streams and their VODs; ``vodkeep.catalog.client.HelixClient`` answers."""

    async def streams(self, logins: Iterable[str] = ()) -> LiveStreams:
        """Who is live among those asked for."""
        ...

    async def users(self, logins: Iterable[str] = ()) -> tuple[Channel, ...]:
        """The accounts of these logins."""
        ...

    async def video_page(self, broadcaster_id: BroadcasterId) -> VideoPage:
        """The newest recordings of a channel, up to 100."""
        ...


class ReconcileMetrics(Protocol):
    """What is counted here; ``channel`` is a login."""

    def chat_stream_reconciled(self, channel: str) -> None:
        """A stream was tied to its VOD."""
        ...

    def chat_stream_unmatched(self, channel: str) -> None:
        """The VOD of a stream was not found in time."""
        ...


@dataclass(frozen=True, slots=True)
class OpenStream:
    """A placeholder whose VOD is looked for, with its chat."""

    item: LiveItem
    session: Session | None  # None: nothing was recorded of it, for the service died too soon

    @property
    def ended_at(self) -> datetime | None:
        """When the stream ended; ``None`` while its chat is recorded."""
        session = self.session
        if session is None:
            return self.item.date
        if session.state != ENDED:
            return None
        return _moment(session.ended_ms or session.last_ms or session.start_ms)


class Reconciler:
    """Finds the VODs of streams; safe to be at work in several processes, and to be killed anywhere.

    Methods raise ``DatabaseUnavailable`` and, where they ask Twitch, what the Helix client raises.
    """

    def __init__(
        self,
        database: Database,
        chat: Database,
        helix: Twitch,
        clock: Clock,
        log: Logger,
        metrics: ReconcileMetrics,
        *,
        window: timedelta,
        wake_planner: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._chat = chat
        self._helix = helix
        self._clock = clock
        self._log = log
        self._metrics = metrics
        self._window = window
        self._wake_planner = wake_planner

    async def open_streams(self, channels: Collection[str]) -> list[OpenStream]:
        """The streams of these channels whose VODs are looked for, oldest first."""
        items = await self._database.run(lambda unit: PlaceholderStore(unit.connection).open(channels), write=False)
        if not items:
            return []

        def sessions(unit: UnitOfWork) -> list[Session | None]:
            store = SessionStore(unit.connection)
            return [None if each.stream_id is None else store.by_stream(each.channel, each.stream_id) for each in items]

        found = await self._chat.run(sessions, write=False)
        return [OpenStream(item, session) for item, session in zip(items, found, strict=True)]

    async def catalogued(self, channel: str) -> None:
        """The catalog has looked at the channel: tie what it knows now to what had no VOD. Asks nobody."""
        found = await self._database.run(lambda unit: PlaceholderStore(unit.connection).with_vod(channel), write=False)
        for each in found:
            await self._join(channel, each)

    async def reconcile_listed(self, channel: str, streams: Sequence[OpenStream]) -> set[str]:
        """Read the channel's newest VODs from Twitch and tie ``streams`` to theirs; the ids of those that have one."""
        channel_id = next(
            (each.session.channel_id for each in streams if each.session is not None and each.session.channel_id), None
        )
        if channel_id is None:
            accounts = await self._helix.users(logins=[channel])
            if not accounts:
                return set()
            channel_id = accounts[0].id
        page = await self._helix.video_page(BroadcasterId(channel_id))
        videos = {str(video.id): video for video in page.videos if video.kind == "archive"}
        taken = await self._chat.run(
            lambda unit: SessionStore(unit.connection).with_stream(channel, videos), write=False
        )
        by_item = {each.item.item_id: each for each in streams}
        found = match(
            [_placeholder(each) for each in streams],
            [Recording(vod_id, video.created_at, video.stream_id) for vod_id, video in videos.items()],
            taken=taken,
        )
        for item_id, recording in found.items():
            await self._reconcile(by_item[item_id], videos[recording.vod_id])
        return set(found)

    async def give_up(self, stream: OpenStream) -> None:
        """No VOD was there in time; the item stays as it is, with its chat, until one turns up after all."""
        sentence = f"Twitch published no VOD of this stream within {format_duration(self._window)} of its end."
        now = self._clock.now()
        session = stream.session
        if session is not None and session.vod_id != stream.item.item_id and stream.item.date is not None:
            # It was given to a VOD that is gone before it had become an item.
            await self._give_back(session, stream.item.item_id, stream.item.date)

        def work(unit: UnitOfWork) -> bool:
            news = PlaceholderStore(unit.connection).give_up(stream.item, sentence=sentence, remedy=_REMEDY, now=now)
            unit.commit()
            return news

        if await self._database.run(work):
            self._metrics.chat_stream_unmatched(stream.item.channel)
            self._log.warning(
                "no vod found for stream",
                channel=stream.item.channel,
                vod_id=stream.item.item_id,
                code=NO_VOD,
                reason=sentence,
                remedy=_REMEDY,
            )

    async def note_trouble(self, streams: Sequence[OpenStream], error: VodkeepError) -> None:
        """The time to find the VODs is over and Twitch cannot be asked; tell people, and go on trying."""
        sentence = f"Its VOD cannot be looked for: {error}"
        now = self._clock.now()

        def work(unit: UnitOfWork) -> list[LiveItem]:
            store = PlaceholderStore(unit.connection)
            news = [
                each.item
                for each in streams
                if store.note_trouble(each.item, code=error.code, sentence=sentence, remedy=error.remedy, now=now)
            ]
            unit.commit()
            return news

        for item in await self._database.run(work):
            self._log.warning(
                "vod of stream cannot be looked for",
                channel=item.channel,
                vod_id=item.item_id,
                code=error.code,
                reason=str(error),
                remedy=error.remedy,
            )

    async def _reconcile(self, stream: OpenStream, video: Video) -> None:
        item = stream.item
        if item.stream_id is not None:
            await self._give_chat(item.channel, item.stream_id, video.id, video.created_at)
        now = self._clock.now()

        def work(unit: UnitOfWork) -> bool:
            changed = PlaceholderStore(unit.connection).become(item.item_id, video, now)
            unit.commit()
            return changed

        if await self._database.run(work):
            self._told(item.channel, item.item_id, video.id)

    async def _join(self, channel: str, found: Found) -> None:
        placeholder, vod = found.placeholder, found.vod
        started_at = vod.date or placeholder.date
        if started_at is not None and placeholder.stream_id is not None:
            await self._give_chat(channel, placeholder.stream_id, vod.item_id, started_at)
        now = self._clock.now()

        def work(unit: UnitOfWork) -> bool:
            joined = PlaceholderStore(unit.connection).join(placeholder.item_id, vod.item_id, now)
            unit.commit()
            return joined

        if await self._database.run(work):
            self._told(channel, placeholder.item_id, vod.item_id)

    async def _give_chat(self, channel: str, stream_id: str, vod_id: str, started_at: datetime) -> None:
        start_ms = _milliseconds(started_at)

        def work(unit: UnitOfWork) -> None:
            store = SessionStore(unit.connection)
            session = store.by_stream(channel, stream_id)
            # Once it is there, its place may be known better than the VOD's date tells.
            if session is not None and session.vod_id != vod_id:
                store.link(session.id, vod_id, session.base_ms - start_ms)
            unit.commit()

        await self._chat.run(work)

    async def _give_back(self, session: Session, item_id: str, started_at: datetime) -> None:
        def work(unit: UnitOfWork) -> None:
            SessionStore(unit.connection).link(session.id, item_id, session.base_ms - _milliseconds(started_at))
            unit.commit()

        await self._chat.run(work)

    def _told(self, channel: str, item_id: str, vod_id: str) -> None:
        self._metrics.chat_stream_reconciled(channel)
        self._log.info("stream reconciled", channel=channel, vod_id=vod_id, placeholder=item_id)
        self._wake_planner()


def _placeholder(stream: OpenStream) -> Placeholder:
    item, session = stream.item, stream.session
    linked = session.vod_id if session is not None else None
    started_at = item.date or (_moment(session.start_ms) if session is not None else datetime.min.replace(tzinfo=UTC))
    return Placeholder(
        item.item_id,
        started_at,
        item.stream_id,
        linked if linked is not None and not is_placeholder(linked) else None,
    )


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _moment(unix_ms: int) -> datetime:
    return datetime.fromtimestamp(unix_ms / 1000, UTC)
