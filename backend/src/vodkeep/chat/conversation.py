"""What is said between us and Twitch over one IRC connection, without I/O.

Who holds the socket feeds lines to ``receive``, calls ``tick`` when ``due_s`` has come and after every change, sends
what ``take_bytes`` returns, and acts on what ``take_events`` returns. Times are seconds of one monotonic clock.

    begin -> CAP, PASS, NICK -> 001 -> JOINs as the budget allows -> chat, PINGs in both directions
                             -> NOTICE: login refused

After https://dev.twitch.tv/docs/chat/irc (read 2026-11-23): 20 JOINs in 10 s, fewer than 100 channels on a connection,
and a join that fails is often not answered at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from vodkeep.chat.irc import command_of, parse_line
from vodkeep.chat.twitch_lines import CHAT_COMMANDS

MOST_CHANNELS = 90
"""On one connection; Twitch allows fewer than 100."""

JOINS = 20
# Half a second more than Twitch's 10 s, because what was sent late may arrive with what was sent after it.
JOINS_WINDOW_S = 10.5

LOGIN_DEADLINE_S = 10.0
IDLE_BEFORE_PING_S = 15.0
PONG_DEADLINE_S = 5.0

# Waits for the answer to a JOIN before the next try; the last one for ever. A channel that does not exist gives none.
_PATIENCE_S = (10.0, 30.0, 120.0, 300.0)
_REFUSED_AGAIN_S = 300.0

_LOGIN_REFUSALS = ("login authentication failed", "login unsuccessful", "improperly formatted auth", "invalid nick")
_JOIN_REFUSALS = frozenset(
    {"msg_banned", "msg_channel_blocked", "msg_channel_suspended", "msg_room_not_found", "tos_ban"}
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A Twitch account that reads chat."""

    login: str
    token: str = field(repr=False)
    """A user access token, with or without ``oauth:`` in front."""


@dataclass(frozen=True, slots=True)
class Welcomed:
    """Twitch took the login."""


@dataclass(frozen=True, slots=True)
class LoginRefused:
    """Twitch did not take the login; the connection is of no more use."""

    reason: str
    """Twitch's words."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Twitch confirmed that we are in the channel."""

    channel: str


@dataclass(frozen=True, slots=True)
class Left:
    """We are no longer in the channel, on our wish or not."""

    channel: str
    reason: str


@dataclass(frozen=True, slots=True)
class JoinRefused:
    """Twitch does not let us into the channel; tried again later."""

    channel: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReconnectAsked:
    """Twitch will close this connection soon and asks for another."""


Event = Welcomed | LoginRefused | Joined | Left | JoinRefused | ReconnectAsked


class JoinBudget:
    """How many JOINs this process may send now; all its connections share one."""

    def __init__(self, joins: int = JOINS, window_s: float = JOINS_WINDOW_S) -> None:
        self._joins = joins
        self._window_s = window_s
        self._sent: deque[float] = deque()

    def take(self, now_s: float) -> bool:
        """Whether one more may be sent; if so, it counts."""
        if self.wait_s(now_s) > 0:
            return False
        self._sent.append(now_s)
        return True

    def wait_s(self, now_s: float) -> float:
        """Seconds until one may be sent; 0 when it may be now."""
        while self._sent and self._sent[0] + self._window_s <= now_s:
            self._sent.popleft()
        return 0.0 if len(self._sent) < self._joins else self._sent[0] + self._window_s - now_s


@dataclass(slots=True)
class _Attempt:
    """A channel that is wanted and not joined."""

    due_s: float  # the next JOIN
    tries: int = 0


class Conversation:
    """One IRC connection: logs in, stays in the channels that are wanted, notices when the other side is gone."""

    def __init__(self, nick: str, token: str | None, budget: JoinBudget) -> None:
        """``token`` ``None`` reads anonymously; then ``nick`` is ``justinfan`` and digits."""
        self.nick = nick.lower()
        self.welcomed = False
        self.failure: str | None = None
        """Why the connection is of no more use, once it is so."""
        self.heard_s = 0.0
        """When something last came from the other side."""
        self._token = token
        self._budget = budget
        self._began_s = 0.0
        self._pinged_s: float | None = None
        self._wanted: set[str] = set()
        self._joined: set[str] = set()
        self._attempts: dict[str, _Attempt] = {}
        self._refused: dict[str, str] = {}
        self._outgoing: list[bytes] = []
        self._events: list[Event] = []
        self._pings = 0

    @property
    def joined(self) -> frozenset[str]:
        """Channels that Twitch confirmed."""
        return frozenset(self._joined)

    @property
    def complete(self) -> bool:
        """Whether every wanted channel is joined or was refused."""
        return self.welcomed and self._wanted <= self._joined | self._refused.keys()

    @property
    def refused(self) -> dict[str, str]:
        """Channels that Twitch does not let us into, with its reason."""
        return dict(self._refused)

    def begin(self, now_s: float) -> None:
        """The connection is open: ask for tags and events, and log in."""
        self._began_s = self.heard_s = now_s
        self._send("CAP REQ :twitch.tv/tags twitch.tv/commands")
        if self._token is not None:
            self._send(f"PASS oauth:{self._token.removeprefix('oauth:')}")
        self._send(f"NICK {self.nick}")

    def want(self, channels: Collection[str], now_s: float) -> None:
        """Be in these channels (logins, lower case) and no others; at most ``MOST_CHANNELS``."""
        if len(channels) > MOST_CHANNELS:
            raise ValueError(f"{len(channels)} channels are too many for one connection")
        wanted = set(channels)
        for channel in sorted(self._wanted - wanted):
            asked = self._attempts.pop(channel, None)
            self._refused.pop(channel, None)
            if channel in self._joined or (asked is not None and asked.tries):
                self._send(f"PART #{channel}")
            if channel in self._joined:
                self._joined.discard(channel)
                self._events.append(Left(channel, "no longer wanted"))
        for channel in sorted(wanted - self._wanted):
            self._attempts[channel] = _Attempt(now_s)
        self._wanted = wanted

    def receive(self, lines: Iterable[bytes], now_s: float) -> list[bytes]:
        """Take lines from the other side; returns those that are chat, in their order."""
        self.heard_s = now_s
        self._pinged_s = None
        chat = []
        for line in lines:
            command = command_of(line)
            if command in CHAT_COMMANDS:
                chat.append(line)
                if command != b"NOTICE":
                    continue
            self._act(line, now_s)
        return chat

    def busy(self, now_s: float) -> None:
        """We are not reading, because what was read is still being stored; silence meanwhile is our own."""
        self.heard_s = now_s
        self._pinged_s = None

    def tick(self, now_s: float) -> None:
        """Do what is due: JOINs, a PING, finding out that the other side is gone."""
        if self.failure is not None:
            return
        if not self.welcomed:
            if now_s >= self._began_s + LOGIN_DEADLINE_S:
                self.failure = "Twitch did not answer the login in time"
            return
        for channel, attempt in sorted(self._attempts.items(), key=lambda entry: (entry[1].due_s, entry[0])):
            if attempt.due_s > now_s or not self._budget.take(now_s):
                break
            attempt.due_s = now_s + _PATIENCE_S[min(attempt.tries, len(_PATIENCE_S) - 1)]
            attempt.tries += 1
            self._send(f"JOIN #{channel}")
        if self._pinged_s is not None:
            if now_s >= self._pinged_s + PONG_DEADLINE_S:
                self.failure = "Twitch fell silent"
        elif now_s >= self.heard_s + IDLE_BEFORE_PING_S:
            self._pinged_s = now_s
            self._pings += 1
            self._send(f"PING :vodkeep-{self._pings}")

    def due_s(self, now_s: float) -> float:
        """When ``tick`` has something to do next."""
        if not self.welcomed:
            return self._began_s + LOGIN_DEADLINE_S
        due_s = self.heard_s + IDLE_BEFORE_PING_S if self._pinged_s is None else self._pinged_s + PONG_DEADLINE_S
        if self._attempts:
            first_s = min(attempt.due_s for attempt in self._attempts.values())
            due_s = min(due_s, max(first_s, now_s + self._budget.wait_s(now_s)))
        return due_s

    def take_bytes(self) -> bytes:
        """What must be sent now; empty when there is nothing."""
        if not self._outgoing:
            return b""
        outgoing = b"".join(self._outgoing)
        self._outgoing.clear()
        return outgoing

    def take_events(self) -> list[Event]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    def _send(self, text: str) -> None:
        # Names and tokens come from settings; a line break in one must not become a line of its own.
        self._outgoing.append(text.replace("\r", "").replace("\n", "").encode() + b"\r\n")

    def _act(self, raw: bytes, now_s: float) -> None:
        line = parse_line(raw)
        if line is None:
            return
        params = line.params
        match line.command:
            case "PING":
                self._send("PONG :" + (params[-1] if params else "tmi.twitch.tv"))
            case "001":
                if params:
                    self.nick = params[0].lower()
                if not self.welcomed:
                    self.welcomed = True
                    self._events.append(Welcomed())
            case "JOIN" if params and line.source.partition("!")[0].lower() == self.nick:
                self._confirm(params[0])
            case "366" if len(params) > 1:
                self._confirm(params[1])
            case "PART" if params and line.source.partition("!")[0].lower() == self.nick:
                self._put_out(params[0], now_s)
            case "RECONNECT":
                self._events.append(ReconnectAsked())
            case "NOTICE" if len(params) > 1:
                self._heed(line.tags.get("msg-id", ""), params[0], params[1], now_s)
            case _:
                pass

    def _confirm(self, name: str) -> None:
        channel = name.removeprefix("#").lower()
        # What is no longer wanted was parted from after the JOIN, so this answer is an old one.
        if channel in self._wanted and channel not in self._joined:
            self._attempts.pop(channel, None)
            self._refused.pop(channel, None)
            self._joined.add(channel)
            self._events.append(Joined(channel))

    def _put_out(self, name: str, now_s: float) -> None:
        channel = name.removeprefix("#").lower()
        if channel in self._joined:
            self._joined.discard(channel)
            self._attempts[channel] = _Attempt(now_s + _PATIENCE_S[0], tries=1)
            self._events.append(Left(channel, "Twitch put us out of the channel"))

    def _heed(self, notice: str, target: str, text: str, now_s: float) -> None:
        if target == "*":
            if text.lower().startswith(_LOGIN_REFUSALS):
                self.failure = f"Twitch refused the login: {text[:200]}"
                self._events.append(LoginRefused(text[:200]))
            return
        channel = target.removeprefix("#").lower()
        if notice not in _JOIN_REFUSALS or channel not in self._wanted:
            return
        if channel in self._joined:
            self._joined.discard(channel)
            self._events.append(Left(channel, text[:200]))
        if channel not in self._refused:
            self._events.append(JoinRefused(channel, text[:200]))
        self._refused[channel] = text[:200]
        self._attempts[channel] = _Attempt(now_s + _REFUSED_AGAIN_S, tries=1)
