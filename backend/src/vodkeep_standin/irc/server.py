"""The pretended chat: its clients, what is said in it, and what a test can do to it.

Everything runs on the loop that serves it. The methods that a test calls may be called from any thread; they have had
their effect on this side when they return.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from vodkeep_standin.irc import lines as wire
from vodkeep_standin.irc.program import Program
from vodkeep_standin.irc.session import Session
from vodkeep_standin.scenario.chat import ChatLine, speaker_at
from vodkeep_standin.scenario.model import Channel
from vodkeep_standin.serving.delivery import reset_connection
from vodkeep_standin.world import World

T = TypeVar("T")

_ROUND_S = 0.05
_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A message or event that at least one client was sent."""

    channel: str
    id: str
    """The tag ``id``; empty for events without one."""
    line: str
    receivers: int
    """To how many connections."""


@dataclass(frozen=True, slots=True)
class Login:
    """A try to log in."""

    at_s: float
    """Seconds of the machine's monotonic clock."""
    nick: str
    refusal: str | None


@dataclass(frozen=True, slots=True)
class JoinTry:
    """A JOIN as it came, whether or not it was answered."""

    at_s: float
    connection: int
    channel: str


class IrcServer:
    """Twitch's chat on loopback."""

    def __init__(self, world: World) -> None:
        self.port = 0
        self.account = world.scenario.chat_account
        """Login of the account that ``chat_token`` of the scenario belongs to."""
        self.sessions: list[Session] = []
        self.sent: list[Sent] = []
        """Everything that reached a connection's socket, in order."""
        self.logins: list[Login] = []
        self.joins: list[JoinTry] = []
        # Faults, for connections that are there and those to come.
        self.refuse_logins: str | None = None
        """Twitch's words with which every login is refused, anonymous ones too."""
        self.refuse_tokens: str | None = None
        """The same for logins with a token."""
        self.joins_allowed = 20
        """In 10 s on a connection; what is more is not answered."""
        self.join_delay_s = 0.0
        self.suspended: set[str] = set()
        self.piece_bytes = 0
        """Write so many bytes at a time, a millisecond apart; 0 writes all at once."""
        self.bare_lf = False
        self.most_waiting_bytes = 16 * 1024 * 1024
        """What may wait to be taken by a client before it is put out."""
        self._world = world
        self._chance = random.Random(f"irc/{world.scenario.seed}")
        self._program = Program(world)
        self._thread = threading.get_ident()
        self._loop = asyncio.get_running_loop()
        self._listener: asyncio.Server | None = None
        self._rounds: asyncio.Task[None] | None = None
        self._bursts: set[asyncio.Task[None]] = set()
        self._serials: dict[Session, int] = {}

    @property
    def url(self) -> str:
        """Its address, as ``TWITCH_IRC_URL`` takes it."""
        return f"ircs://127.0.0.1:{self.port}"

    async def start(self, tls: ssl.SSLContext, address: str, port: int = 0) -> None:
        """Listen. Raises OSError when the port is taken."""
        self._listener = await self._loop.create_server(lambda: Session(self), address, port, ssl=tls, backlog=512)
        self.port = int(self._listener.sockets[0].getsockname()[1])
        self._rounds = asyncio.create_task(self._run_program())

    async def close(self) -> None:
        """End everything without farewells."""
        for task in [self._rounds, *self._bursts]:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
        for session in list(self.sessions):
            if session.transport is not None:
                session.transport.abort()

    # What is said -----------------------------------------------------------------------------------------

    def say(self, channel: str, text: str, **tags: str | int) -> str:
        """Somebody says something now; returns its id. Keyword ``first_msg`` becomes the tag ``first-msg``."""
        more = {name.replace("_", "-"): value for name, value in tags.items()}
        return self._do(lambda: self._say(channel, text, more))

    def burst(self, channel: str, count: int, per_second: float | None = None) -> list[str]:
        """``count`` messages at once, or at a rate from now on; returns their ids, in order."""
        ids = self._do(lambda: [wire.fresh_id(self._chance) for _ in range(count)])
        if per_second is None:
            self._do(lambda: [self._say(channel, f"burst {number}", {}, id_) for number, id_ in enumerate(ids)])
        else:
            self._do(lambda: self._start_burst(channel, ids, per_second))
        return ids

    def event(self, line: str | bytes, channel: str | None = None) -> int:
        """A raw line, whatever it is, to those in the channel or to everybody; returns to how many."""
        return self._do(lambda: self._publish(line, channel))

    def clear(self, channel: str, user: int | None = None, seconds: int | None = None) -> None:
        """A moderator clears the chat, or what ``speaker_at(user)`` said, for some seconds or for good."""
        speaker = None if user is None else speaker_at(user)
        self.event(wire.cleared(speaker, self._known(channel), self._now_ms(), seconds), channel)

    def catch_up(self) -> None:
        """Say what the program has until now, and not only at its next round."""
        self._do(self._round)

    # What goes wrong --------------------------------------------------------------------------------------

    def reconnect(self) -> int:
        """Ask every client for a new connection; returns how many there are."""
        return self.event(":tmi.twitch.tv RECONNECT")

    def cut(self) -> int:
        """Close every connection in an orderly way."""
        return self._do(lambda: self._each(lambda session: session.cut()))

    def reset(self) -> int:
        """Break every connection (RST)."""
        return self._do(lambda: self._each(lambda session: reset_connection(session.transport)))

    def freeze(self) -> int:
        """Make every connection half-open: it stays, and nothing comes or is read any more. New ones are well."""
        return self._do(lambda: self._each(lambda session: setattr(session, "frozen", True)))

    def ping(self, text: str = "tmi.twitch.tv") -> int:
        """PING everybody; the answers are in ``session.pongs``."""
        return self.event(f"PING :{text}")

    # What sessions ask ------------------------------------------------------------------------------------

    def refusal_of(self, nick: str, password: str | None) -> str | None:
        """Why a login is refused, in Twitch's words."""
        if self.refuse_logins is not None:
            return self.refuse_logins
        if nick.startswith("justinfan") and nick[9:].isdecimal():
            return None
        if self.refuse_tokens is not None:
            return self.refuse_tokens
        if password is None or not password.startswith("oauth:"):
            return "Improperly formatted auth"
        return None if password == f"oauth:{self._world.scenario.chat_token}" else "Login authentication failed"

    def note_login(self, nick: str, refusal: str | None) -> None:
        """Remember a try to log in."""
        self.logins.append(Login(time.monotonic(), nick, refusal))

    def note_join(self, session: Session, channel: str, at_s: float) -> None:
        """Remember a JOIN."""
        self.joins.append(JoinTry(at_s, self._serials.setdefault(session, len(self._serials)), channel))

    def channel(self, login: str) -> Channel | None:
        """The channel of this login."""
        return self._world.scenario.channels.get(login)

    def room_state(self, channel: Channel) -> str:
        """What a client is told after joining."""
        return wire.room_state(channel)

    # ------------------------------------------------------------------------------------------------------

    async def _run_program(self) -> None:
        while True:
            self._round()
            await asyncio.sleep(_ROUND_S)

    def _round(self) -> None:
        listened = {channel for session in self.sessions for channel in session.channels}
        for channel, written, id_ in self._program.due(listened):
            for line in written:
                self._publish(line, channel.login, id_ if f"id={id_};" in line else "")

    def _start_burst(self, channel: str, ids: Sequence[str], per_second: float) -> None:
        async def run() -> None:
            began_s = self._loop.time()
            done = 0
            while done < len(ids):
                until = min(len(ids), int((self._loop.time() - began_s) * per_second) + 1)
                for number in range(done, until):
                    self._say(channel, f"burst {number}", {}, ids[number])
                done = until
                await asyncio.sleep(0.01)

        task = asyncio.create_task(run())
        self._bursts.add(task)
        task.add_done_callback(self._bursts.discard)

    def _say(self, login: str, text: str, more: dict[str, str | int], id_: str | None = None) -> str:
        channel = self._known(login)
        now = self._world.clock.now()
        speaker = speaker_at(self._chance.randrange(200))
        line = ChatLine(id_ or wire.fresh_id(self._chance), 0, speaker, ((text, None),))
        # The comments of the channel's videos have it too.
        self._world.said.setdefault(login, []).append((now, line))
        self._publish(wire.said(line, channel, self._now_ms(), more=more), login, line.id)
        return line.id

    def _publish(self, line: str | bytes, channel: str | None, id_: str = "") -> int:
        receivers = sum(
            session.send(line)
            for session in list(self.sessions)
            if session.welcomed and (channel is None or channel in session.channels)
        )
        if receivers and channel is not None:
            text = line if isinstance(line, str) else line.decode(errors="backslashreplace")
            self.sent.append(Sent(channel, id_, text, receivers))
        return receivers

    def _each(self, act: Callable[[Session], object]) -> int:
        sessions = list(self.sessions)
        for session in sessions:
            act(session)
        return len(sessions)

    def _known(self, login: str) -> Channel:
        channel = self.channel(login)
        if channel is None:
            raise KeyError(f"no channel {login!r}")
        return channel

    def _now_ms(self) -> int:
        return int(self._world.clock.now().timestamp() * 1000)

    def _do(self, act: Callable[[], T]) -> T:
        if threading.get_ident() == self._thread:
            return act()
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(act())
            except Exception as error:  # noqa: BLE001 - it is the caller's, in the other thread
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result(_PATIENCE_S)

    def summary(self) -> dict[str, object]:
        """Clients, their channels and how much was sent, for control over HTTP."""
        messages: dict[str, int] = defaultdict(int)
        for sent in self.sent:
            messages[sent.channel] += 1
        return {
            "clients": [
                {"nick": session.nick, "channels": sorted(session.channels), "frozen": session.frozen}
                for session in self.sessions
            ],
            "logins": len(self.logins),
            "joins": len(self.joins),
            "sent": dict(messages),
        }
