"""Many channels over several connections, kept up without end.

A *seat* is room for as many channels as one connection may have. It holds a *link* all the time: when one breaks there
is another after a pause, and when Twitch asks for a new one, that joins first and the old one is closed after it. Lines
that come over both are told apart by their ids, which is the sink's work.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import anyio
import anyio.abc
import anyio.to_thread

from vodkeep.chat.client import Address, Link, Sink, Wake
from vodkeep.chat.conversation import (
    MOST_CHANNELS,
    Conversation,
    Event,
    JoinBudget,
    Joined,
    JoinRefused,
    Left,
    LoginRefused,
    ReconnectAsked,
    Welcomed,
)
from vodkeep.chat.logins import CredentialsSource, LoginFailure, Logins
from vodkeep.chat.presence import Presence
from vodkeep.clock import Clock
from vodkeep.errors import NetworkError
from vodkeep.telemetry.log import Logger

BACKOFF_BASE_S = 1.0
BACKOFF_CAP_S = 30.0
# A connection that lasted so long was a good one, and the next begins without a history.
GOOD_AFTER_S = 60.0
# The old connection stays until the new one is in all its channels, but no longer than this...
JOINING_PATIENCE_S = 90.0
# ...and then a little, because what was said just before the new one joined may still be on its way.
LINGER_S = 5.0
# How often a connection that had to be anonymous looks whether there are usable credentials.
LOGIN_LOOK_S = 15.0
_FAREWELL_S = 5.0


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """One connection, for people."""

    channels: tuple[str, ...]
    """Logins that it is there for."""
    joined: tuple[str, ...]
    """Those that Twitch confirmed."""
    refused: dict[str, str]
    """Channels Twitch does not let us into, with its reason."""
    account: str | None
    """Who reads; ``None`` is nobody (anonymous)."""
    connected: bool
    login_failure: LoginFailure | None
    """Why the account cannot be used; the same for all connections."""
    failure: str | None
    """Why the last connection ended, while there is no other."""
    retry_at: datetime | None
    """When the next one is tried."""


class Connections:
    """The connections of this process to Twitch's chat."""

    def __init__(
        self,
        sink: Sink,
        address: str,
        credentials: CredentialsSource,
        clock: Clock,
        rng: random.Random,
        log: Logger,
    ) -> None:
        """``address`` is ``ircs://host:port`` or ``irc://host:port``."""
        self._log = log.bind(component="chat_recorder")
        self._logins = Logins(credentials, clock, self._log)
        self._clock = clock
        self._wanted: frozenset[str] = frozenset()
        self._seats: list[_Seat] = []
        self._wake = Wake(clock)
        self._shared = _Shared(
            sink, Address.of(address), self._logins, clock, rng, self._log, JoinBudget(), Presence(sink)
        )

    @property
    def login_failure(self) -> LoginFailure | None:
        """Why the account cannot be used; chat is read anonymously meanwhile."""
        return self._logins.failure

    def set_channels(self, logins: frozenset[str]) -> None:
        """Be in these channels (lower case) and no others; may be called before and while it runs."""
        self._wanted = logins
        self._wake.call()

    def states(self) -> list[ConnectionState]:
        """What each connection is doing."""
        return [seat.state() for seat in self._seats]

    async def run(self) -> None:
        """Hold the connections until cancelled. Only bugs and a sink that raises end it otherwise."""
        if self._shared.address.tls:
            # Reading the machine's certificates takes tens of milliseconds.
            self._shared.tls = await anyio.to_thread.run_sync(ssl.create_default_context)
        async with anyio.create_task_group() as tasks:
            while True:
                for seat in self._assign():
                    tasks.start_soon(seat.run)
                await self._wake.wait(3600.0)

    def _assign(self) -> list[_Seat]:
        """Give every wanted channel a place; the new seats are to be started."""
        kept = [seat.channels & self._wanted for seat in self._seats]
        homeless = sorted(self._wanted - frozenset().union(*kept))
        started = []
        for seat, channels in zip(self._seats, kept, strict=True):
            room = MOST_CHANNELS - len(channels)
            seat.set_channels(channels | frozenset(homeless[:room]))
            homeless = homeless[room:]
        while homeless:
            started.append(_Seat(self._shared, frozenset(homeless[:MOST_CHANNELS])))
            homeless = homeless[MOST_CHANNELS:]
        # A seat without channels ends by itself; it is never given others.
        self._seats = [seat for seat in self._seats if seat.channels] + started
        return started


@dataclass(slots=True)
class _Shared:
    """What all seats use."""

    sink: Sink
    address: Address
    logins: Logins
    clock: Clock
    rng: random.Random
    log: Logger
    budget: JoinBudget
    presence: Presence
    tls: ssl.SSLContext | None = None

    def now_ms(self) -> int:
        return int(self.clock.now().timestamp() * 1000)


class _Held:
    """A link, and what its seat has to know of it."""

    def __init__(self, shared: _Shared, channels: frozenset[str], changed: Callable[[], None]) -> None:
        self.link: Link | None = None
        self.account: str | None = None
        self.ended = False
        self.closing = False
        self.failure: str | None = None
        self.refused_login = False
        self.judged = False
        self._replace = False
        self.began_s = shared.clock.monotonic()
        self._shared = shared
        self._channels = channels
        self._changed = changed

    @property
    def conversation(self) -> Conversation | None:
        return self.link.conversation if self.link is not None else None

    @property
    def over(self) -> bool:
        """Whether another link is needed."""
        return self.ended or self._replace

    @property
    def welcomed(self) -> bool:
        return self.conversation is not None and self.conversation.welcomed and not self.ended

    @property
    def joined(self) -> frozenset[str]:
        return self.conversation.joined if self.conversation is not None and not self.ended else frozenset()

    @property
    def complete(self) -> bool:
        return self.conversation is not None and self.conversation.complete

    def want(self, channels: frozenset[str]) -> None:
        self._channels = channels
        if self.link is not None:
            self.link.want(channels)

    def close(self) -> None:
        self.closing = True
        if self.link is not None:
            self.link.close()

    async def run(self) -> None:
        """Log in and hold the link to its end, then say of every channel when it was last received."""
        shared = self._shared
        try:
            async with shared.logins.turn() as turn:
                credentials = turn.credentials
                nick, token = f"justinfan{shared.rng.randrange(10_000, 99_999_999)}", None
                if credentials is not None:
                    nick, token, self.account = credentials.login, credentials.token, credentials.login
                conversation = Conversation(nick, token, shared.budget)

                async def happened(event: Event, at_ms: int) -> None:
                    match event:
                        case Welcomed():
                            if credentials is not None:
                                shared.logins.accepted()
                            turn.over()
                        case LoginRefused(reason):
                            if credentials is not None:
                                self.refused_login = True
                                shared.logins.refused(credentials, reason)
                        case Joined(channel):
                            await shared.presence.joined(channel, self, at_ms)
                        case Left(channel, reason):
                            await shared.presence.left(channel, self, at_ms, reason)
                        case JoinRefused(channel, reason):
                            shared.log.warning("chat channel refused", channel=channel, reason=reason)
                        case ReconnectAsked():
                            self._replace = True
                    self._changed()

                self.link = Link(
                    shared.address,
                    conversation,
                    tls=shared.tls,
                    sink=shared.sink,
                    clock=shared.clock,
                    on_event=happened,
                )
                self.want(self._channels)
                if not self.closing:
                    await self.link.run()
        except NetworkError as error:
            self.failure = str(error)
        finally:
            await self._take_leave()
            self.ended = True
            self._changed()

    async def _take_leave(self) -> None:
        if self.link is None:
            return
        joined = sorted(self.link.conversation.joined)
        # A broken link is known to have worked until something last came over it, and no longer.
        at_ms = self.link.heard_ms if self.failure is not None else self._shared.now_ms()
        with anyio.move_on_after(_FAREWELL_S, shield=True):
            for channel in joined:
                await self._shared.presence.left(channel, self, at_ms, self.failure or "the connection was closed")


class _Seat:
    """Room for the channels of one connection."""

    def __init__(self, shared: _Shared, channels: frozenset[str]) -> None:
        self.channels = channels
        self._shared = shared
        self._wake = Wake(shared.clock)
        self._serving: _Held | None = None
        self._joining: _Held | None = None
        self._failure: str | None = None
        self._retry_at: datetime | None = None
        self._failures = 0
        self._better_login = False

    def set_channels(self, channels: frozenset[str]) -> None:
        if channels != self.channels:
            self.channels = channels
            for held in (self._serving, self._joining):
                if held is not None:
                    held.want(channels)
            self._wake.call()

    def state(self) -> ConnectionState:
        held = self._serving or self._joining
        conversation = held.conversation if held is not None else None
        return ConnectionState(
            channels=tuple(sorted(self.channels)),
            joined=tuple(sorted(self._joined())),
            refused=conversation.refused if conversation is not None else {},
            account=held.account if held is not None else None,
            connected=held is not None and held.welcomed,
            login_failure=self._shared.logins.failure,
            failure=self._failure,
            retry_at=self._retry_at,
        )

    async def run(self) -> None:
        """Hold links until there are no channels left."""
        async with anyio.create_task_group() as tasks:
            while self.channels:
                serving = self._serving
                if serving is None or serving.over or self._better_login:
                    if serving is not None and serving.over:
                        self._judge(serving)
                    await self._pause()
                    await self._open(tasks)
                else:
                    await self._serve(serving)
            tasks.cancel_scope.cancel()

    def _judge(self, held: _Held) -> None:
        """Count a link that is over, once: a bad one makes the next wait, and so does one that was soon over."""
        good = self._shared.clock.monotonic() - held.began_s >= GOOD_AFTER_S
        if good and not held.judged:
            self._failures = 0
        if not held.judged and (held.ended or not good):
            self._failures += 1
            self._failure = held.failure or "Twitch asks for another connection"
        held.judged = True
        if held.ended:
            self._serving = None

    async def _open(self, tasks: anyio.abc.TaskGroup) -> None:
        """One try to have a new link, beside the one that serves, if there is one."""
        self._better_login = False
        predecessor = self._serving
        held = self._joining = _Held(self._shared, self.channels, self._wake.call)
        tasks.start_soon(held.run)
        await self._wait(JOINING_PATIENCE_S, lambda: held.ended or _can_take_over(held, predecessor))
        if predecessor is not None and not held.ended:
            await self._wait(LINGER_S, lambda: held.ended or predecessor.ended)
        self._joining = None
        if not self.channels:
            return
        if held.ended or not held.welcomed:
            held.close()
            # With a refused login the next link is an anonymous one and need not wait.
            if not held.refused_login:
                self._failures += 1
                self._failure = held.failure
            return
        if predecessor is not None:
            predecessor.close()
        self._serving = held
        self._failure = None
        account = held.account or "anonymous"
        self._shared.log.info("chat connected", account=account, channel_count=len(self.channels))

    async def _serve(self, held: _Held) -> None:
        """As long as the link is good and nobody asks for another."""
        await self._wait(LOGIN_LOOK_S, lambda: held.over)
        logins = self._shared.logins
        if held.account is None and logins.failure is not None and not held.over:
            self._better_login = await logins.usable() is not None

    async def _pause(self) -> None:
        """Before the next try, if the last ones failed: doubling, capped, half of it by chance."""
        if not self._failures:
            return
        longest_s = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** min(self._failures - 1, 10))
        wait_s = longest_s * self._shared.rng.uniform(0.5, 1.0)
        self._retry_at = self._shared.clock.now() + timedelta(seconds=wait_s)
        self._shared.log.warning("chat connection lost", error=self._failure, retry_in_s=round(wait_s, 1))
        await self._wait(wait_s, lambda: False)
        self._retry_at = None

    async def _wait(self, seconds: float, until: Callable[[], bool]) -> None:
        """Wait until something holds, the time is over, or there are no channels left."""
        ends_s = self._shared.clock.monotonic() + seconds
        while self.channels and not until():
            left_s = ends_s - self._shared.clock.monotonic()
            if left_s <= 0:
                return
            await self._wake.wait(left_s)

    def _joined(self) -> frozenset[str]:
        return frozenset().union(*(held.joined for held in (self._serving, self._joining) if held is not None))


def _can_take_over(held: _Held, predecessor: _Held | None) -> bool:
    """Whether the new link is in every channel it can be in; at once if nobody waits for it."""
    if predecessor is None or predecessor.ended:
        return held.welcomed
    return held.welcomed and (held.complete or predecessor.joined <= held.joined)
