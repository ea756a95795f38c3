"""One client of the pretended chat: logs in, joins, and is sent what is said."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vodkeep_standin.irc.server import IrcServer

JOINS_WINDOW_S = 10.0
MOST_CHANNELS = 100
_LONGEST_LINE_BYTES = 8192
_NOBODY = re.compile(r"justinfan[0-9]+")
_PIECE_INTERVAL_S = 0.001


class Session(asyncio.Protocol):
    """A connection. Faults of the server act on it: it can fall silent, answer late or write in pieces."""

    def __init__(self, server: IrcServer) -> None:
        self.nick = ""
        self.welcomed = False
        self.channels: set[str] = set()
        """Logins of the channels it has joined."""
        self.frozen = False
        """Half-open: nothing is read, nothing is sent, and the connection stays."""
        self.pongs: list[str] = []
        self._server = server
        self._password: str | None = None
        self._transport: asyncio.Transport | None = None
        self._unfinished = b""
        self._pieces: deque[bytes] = deque()
        self._writing: asyncio.TimerHandle | None = None
        self._joins: deque[float] = deque()

    # The connection ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.sessions.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._transport = None
        if self._writing is not None:
            self._writing.cancel()
        if self in self._server.sessions:
            self._server.sessions.remove(self)

    def data_received(self, data: bytes) -> None:
        """Lines of the client."""
        if self.frozen:
            return
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        if len(self._unfinished) > _LONGEST_LINE_BYTES:
            self.cut()
        for line in lines:
            text = line.rstrip(b"\r").decode(errors="replace")
            if text:
                self._obey(text)

    @property
    def transport(self) -> asyncio.Transport | None:
        """What it is connected by; ``None`` when it is gone."""
        return self._transport

    def cut(self) -> None:
        """Close the connection; what was written is sent."""
        if self._transport is not None:
            self._transport.close()

    def send(self, *lines: str | bytes) -> bool:
        """Write lines, with their ends; False if they cannot reach the client."""
        transport = self._transport
        if transport is None or transport.is_closing() or self.frozen:
            return False
        end = b"\n" if self._server.bare_lf else b"\r\n"
        written = b"".join((line if isinstance(line, bytes) else line.encode()) + end for line in lines)
        size = self._server.piece_bytes
        if size or self._pieces:
            # Pieces that were begun keep their place before what comes now.
            size = size or len(written)
            self._pieces.extend(written[start : start + size] for start in range(0, len(written), size))
            if self._writing is None:
                self._write_piece()
        else:
            transport.write(written)
            if transport.get_write_buffer_size() > self._server.most_waiting_bytes:
                # A client that does not keep up is put out, as Twitch does.
                transport.abort()
                return False
        return True

    def _write_piece(self) -> None:
        self._writing = None
        if self._transport is None or self._transport.is_closing() or not self._pieces:
            return
        self._transport.write(self._pieces.popleft())
        if self._pieces:
            self._writing = asyncio.get_running_loop().call_later(_PIECE_INTERVAL_S, self._write_piece)

    # What clients say -------------------------------------------------------------------------------------

    def _obey(self, text: str) -> None:
        command, _, rest = text.partition(" ")
        match command.upper():
            case "CAP" if rest.upper().startswith("REQ"):
                self.send(f":tmi.twitch.tv CAP * ACK :{rest[3:].strip().removeprefix(':')}")
            case "PASS":
                self._password = rest.removeprefix(":")
            case "NICK" if not self.welcomed:
                self._log_in(rest.strip().lower())
            case "PING":
                self.send(f":tmi.twitch.tv PONG tmi.twitch.tv :{rest.removeprefix(':')}")
            case "PONG":
                self.pongs.append(rest.removeprefix(":"))
            case "JOIN" if self.welcomed:
                for name in rest.split(","):
                    self._ask_to_join(name.strip().removeprefix("#").lower())
            case "PART" if self.welcomed:
                for name in rest.split(","):
                    self._part(name.strip().removeprefix("#").lower())
            case "QUIT":
                self.cut()
            case _:
                self.send(f":tmi.twitch.tv 421 {self.nick or 'you'} {command} :Unknown command")

    def _log_in(self, nick: str) -> None:
        refusal = self._server.refusal_of(nick, self._password)
        self._server.note_login(nick, refusal)
        if refusal is not None:
            self.send(f":tmi.twitch.tv NOTICE * :{refusal}")
            self.cut()
            return
        self.nick = nick if _NOBODY.fullmatch(nick) else self._server.account
        self.welcomed = True
        self.send(
            f":tmi.twitch.tv 001 {self.nick} :Welcome, GLHF!",
            f":tmi.twitch.tv 002 {self.nick} :Your host is tmi.twitch.tv",
            f":tmi.twitch.tv 003 {self.nick} :This server is rather new",
            f":tmi.twitch.tv 004 {self.nick} :-",
            f":tmi.twitch.tv 375 {self.nick} :-",
            f":tmi.twitch.tv 372 {self.nick} :You are in a maze of twisty passages, all alike.",
            f":tmi.twitch.tv 376 {self.nick} :>",
        )

    def _ask_to_join(self, login: str) -> None:
        now_s = asyncio.get_running_loop().time()
        self._server.note_join(self, login, now_s)
        while self._joins and self._joins[0] + JOINS_WINDOW_S <= now_s:
            self._joins.popleft()
        self._joins.append(now_s)
        if len(self._joins) > self._server.joins_allowed or len(self.channels) >= MOST_CHANNELS:
            return  # Twitch does not answer these.
        if self._server.join_delay_s:
            asyncio.get_running_loop().call_later(self._server.join_delay_s, self._join, login)
        else:
            self._join(login)

    def _join(self, login: str) -> None:
        channel = self._server.channel(login)
        if channel is None or self.frozen:
            return  # A channel that does not exist is not answered either.
        if login in self._server.suspended:
            self.send(
                f"@msg-id=msg_channel_suspended :tmi.twitch.tv NOTICE #{login} "
                ":This channel does not exist or has been suspended."
            )
            return
        # What was said before is for those who were there; from when the client reads this, everything is for it too.
        self._server.catch_up()
        self.channels.add(login)
        self._server.catch_up()
        self.send(
            f":{self.nick}!{self.nick}@{self.nick}.tmi.twitch.tv JOIN #{login}",
            f":{self.nick}.tmi.twitch.tv 353 {self.nick} = #{login} :{self.nick}",
            f":{self.nick}.tmi.twitch.tv 366 {self.nick} #{login} :End of /NAMES list",
            self._server.room_state(channel),
        )

    def _part(self, login: str) -> None:
        if login in self.channels:
            self.channels.remove(login)
            self.send(f":{self.nick}!{self.nick}@{self.nick}.tmi.twitch.tv PART #{login}")
