"""The pretended chat, as a plain TLS client sees it."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise

import pytest
import urllib3

from support.standin import StandinFactory
from vodkeep.chat.irc import Line, parse_line
from vodkeep_standin.scenario import ids
from vodkeep_standin.scenario.model import Channel, Scenario
from vodkeep_standin.server import Standin


class Client:
    """Reads line by line; every wait has an end."""

    def __init__(self, standin: Standin, nick: str = "justinfan1", password: str | None = None) -> None:
        context = ssl.create_default_context(cafile=standin.ca_path)
        plain = socket.create_connection(("127.0.0.1", standin.irc.port), timeout=60)
        self.socket = context.wrap_socket(plain, server_hostname="127.0.0.1")
        self._file = self.socket.makefile("rb")
        self.send("CAP REQ :twitch.tv/tags twitch.tv/commands")
        if password is not None:
            self.send(f"PASS {password}")
        self.send(f"NICK {nick}")

    def send(self, text: str) -> None:
        self.socket.sendall(text.encode() + b"\r\n")

    def line(self) -> Line:
        """The next line. Raises ``EOFError`` at the end of the connection."""
        raw = self._file.readline()
        if not raw:
            raise EOFError
        found = parse_line(raw.rstrip(b"\r\n"))
        assert found is not None
        return found

    def until(self, command: str) -> list[Line]:
        """The lines up to one of this command, that included."""
        lines = [self.line()]
        while lines[-1].command != command:
            lines.append(self.line())
        return lines

    def joined(self, channel: str) -> Client:
        self.until("376")
        self.send(f"JOIN #{channel}")
        self.until("ROOMSTATE")
        return self

    def close(self) -> None:
        self._file.close()
        self.socket.close()


Connect = Callable[..., Client]


@pytest.fixture
def twitch(standin_of: StandinFactory) -> Standin:
    return standin_of(Scenario.of("chat", [Channel("1", "kai", "Kai"), Channel("2", "ann", "Ann")]), speed=0)


@pytest.fixture
def connect(twitch: Standin) -> Iterator[Connect]:
    with ExitStack() as stack:

        def build(**options: str) -> Client:
            client = Client(twitch, **options)
            stack.callback(client.close)
            return client

        yield build


def test_its_address_is_in_the_environment_of_a_service(twitch: Standin) -> None:
    assert twitch.env()["TWITCH_IRC_URL"] == f"ircs://127.0.0.1:{twitch.irc.port}"


def test_anybody_may_come_in_and_join(connect: Connect) -> None:
    client = connect()
    assert client.until("001")[-1].params == ["justinfan1", "Welcome, GLHF!"]
    client.until("376")
    client.send("JOIN #kai")
    assert [line.command for line in client.until("ROOMSTATE")] == ["JOIN", "353", "366", "ROOMSTATE"]
    client.send("PING :there")
    assert client.line().params == ["tmi.twitch.tv", "there"]
    client.send("PART #kai")
    assert client.line().command == "PART"


def test_an_account_comes_in_with_its_token(twitch: Standin, connect: Connect) -> None:
    client = connect(nick="whatever", password=f"oauth:{twitch.scenario.chat_token}")
    assert client.until("001")[-1].params[0] == "keepbot"


@pytest.mark.parametrize(
    ("password", "words"),
    [("oauth:wrong", "Login authentication failed"), ("no-prefix", "Improperly formatted auth"), (None, "Improperly")],
)
def test_a_wrong_token_is_refused_and_the_connection_closed(
    twitch: Standin, connect: Connect, password: str | None, words: str
) -> None:
    client = connect(nick="keepbot", password=password)
    notice = client.until("NOTICE")[-1]
    assert notice.params[0] == "*"
    assert notice.params[1].startswith(words)
    with pytest.raises(EOFError):
        client.line()
    assert [login.refusal for login in twitch.irc.logins] == [notice.params[1]]


def test_a_channel_that_does_not_exist_is_not_answered(connect: Connect) -> None:
    client = connect()
    client.until("376")
    client.send("JOIN #nobody")
    client.send("PING :next")
    assert client.line().command == "PONG"


def test_joins_beyond_twenty_in_ten_seconds_are_not_answered(twitch: Standin, connect: Connect) -> None:
    client = connect()
    client.until("376")
    for _ in range(21):
        client.send("JOIN #kai")
    client.send("PING :end")
    assert sum(line.command == "JOIN" for line in client.until("PONG")) == 20
    assert len(twitch.irc.joins) == 21


def test_what_is_said_reaches_those_in_the_channel_and_is_noted(twitch: Standin, connect: Connect) -> None:
    inside = connect().joined("kai")
    outside = connect(nick="justinfan2").joined("ann")
    said = twitch.irc.say("kai", "hello there", bits=100)
    line = inside.line()
    assert (line.command, line.params, line.tags["id"], line.tags["bits"]) == (
        "PRIVMSG",
        ["#kai", "hello there"],
        said,
        "100",
    )
    outside.send("PING :x")
    assert outside.line().command == "PONG"
    assert [(sent.channel, sent.id, sent.receivers) for sent in twitch.irc.sent] == [("kai", said, 1)]
    twitch.irc.say("ann", "missed")
    assert twitch.world.said["ann"][0][1].text == "missed"


def heard(twitch: Standin, client: Client, seconds: float, channel: str = "kai") -> list[Line]:
    """The lines of so much time."""
    twitch.advance(seconds)
    marker = twitch.irc.say(channel, "marker")
    lines = []
    while (line := client.line()).tags.get("id") != marker:
        lines.append(line)
    return lines


def test_a_live_channel_has_a_believable_chat(twitch: Standin, connect: Connect) -> None:
    twitch.world.start_stream("kai", stream_id="77")
    client = connect().joined("kai")
    lines = [line for _ in range(60) for line in heard(twitch, client, 10)]
    said = [line for line in lines if line.command in ("PRIVMSG", "USERNOTICE")]
    assert 800 < len(said) < 1000
    assert len({line.tags["id"] for line in said}) == len(said)
    times = [int(line.tags["tmi-sent-ts"]) for line in said]
    behind = sum(later < earlier for earlier, later in pairwise(times))
    assert 0.05 < behind / len(said) < 0.25
    assert {line.command for line in lines} == {"PRIVMSG", "USERNOTICE", "CLEARCHAT", "CLEARMSG"}
    assert {line.tags.get("msg-id") for line in lines} >= {"resub", "raid", "announcement"}
    assert any("reply-parent-msg-id" in line.tags for line in said)
    assert any(line.tags.get("emotes") for line in said)
    assert any(line.tags.get("bits") for line in said)


def test_who_comes_late_or_was_away_is_not_told_what_was_said(twitch: Standin, connect: Connect) -> None:
    twitch.world.start_stream("kai")
    twitch.advance(100)
    client = connect().joined("kai")
    assert len(heard(twitch, client, 0)) == 0
    client.send("PART #kai")
    client.until("PART")
    twitch.advance(100)
    client.send("JOIN #kai")
    client.until("ROOMSTATE")
    assert len(heard(twitch, client, 0)) == 0


def test_a_recording_is_accompanied_by_what_its_comments_will_say(standin_of: StandinFactory) -> None:
    twitch = standin_of("test", speed=0)
    video = twitch.world.live_video(twitch.scenario.channels[ids.CHANNEL])
    assert video is not None
    client = Client(twitch).joined(ids.CHANNEL)
    said = {line.tags.get("id") for line in heard(twitch, client, 6, ids.CHANNEL)} - {None}
    client.close()
    twitch.advance(8)  # A recording ends with its last whole segment.
    twitch.finish(video.id)
    script = twitch.world.chat_script(video)
    assert len(said) > 2
    assert said <= {script.line(number).id for number in range(len(script))}


def test_everybody_is_asked_for_another_connection(twitch: Standin, connect: Connect) -> None:
    client = connect()
    client.until("376")
    assert twitch.irc.reconnect() == 1
    assert client.line().command == "RECONNECT"


def test_connections_end_in_both_ways(twitch: Standin, connect: Connect) -> None:
    orderly, broken = connect(), connect()
    orderly.until("376")
    broken.until("376")
    twitch.irc.cut()
    with pytest.raises(EOFError):
        orderly.line()
    third = connect()
    third.until("376")
    twitch.irc.reset()
    with pytest.raises((ConnectionResetError, ssl.SSLError, EOFError)):
        third.line()


def test_a_half_open_connection_takes_and_gives_nothing(twitch: Standin, connect: Connect) -> None:
    client = connect().joined("kai")
    twitch.irc.freeze()
    twitch.irc.say("kai", "nobody hears this")
    client.send("PING :x")
    client.socket.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.socket.recv(1)
    assert twitch.irc.sent == []
    assert connect(nick="justinfan2").joined("kai")
    twitch.irc.reset()


def test_a_client_that_takes_nothing_is_put_out(twitch: Standin, connect: Connect) -> None:
    twitch.irc.most_waiting_bytes = 1_000_000
    connect().joined("kai")
    ids = twitch.irc.burst("kai", 30_000)
    assert 0 < len(twitch.irc.sent) < len(ids)


def test_lines_may_end_in_a_bare_line_feed_and_come_in_pieces(twitch: Standin, connect: Connect) -> None:
    client = connect().joined("kai")
    twitch.irc.bare_lf = True
    twitch.irc.piece_bytes = 3
    said = twitch.irc.say("kai", "日本")
    raw = b""
    while not raw.endswith(b"\n"):
        raw += client.socket.recv(1)
    assert said.encode() in raw
    assert raw.endswith("日本\n".encode())


def test_control_over_http(twitch: Standin, connect: Connect, http: urllib3.PoolManager) -> None:
    client = connect().joined("kai")

    def post(path: str, **members: object) -> tuple[int, dict[str, object]]:
        answer = http.request("POST", f"{twitch.http_url}/control/irc{path}", body=json.dumps(members).encode())
        return answer.status, json.loads(answer.data or b"{}")

    status, said = post("/say", channel="kai", text="hello")
    assert status == 201
    assert client.line().tags["id"] == said["id"]
    assert len(post("/burst", channel="kai", count=3)[1]["ids"]) == 3  # type: ignore[arg-type]
    assert post("/clear", channel="kai", user=3, seconds=10)[0] == 204
    assert post("/raw", line="@x=1 :a NOTICE #kai :hey", channel="kai")[1] == {"receivers": 1}
    assert [line.command for line in client.until("NOTICE")] == ["PRIVMSG"] * 3 + ["CLEARCHAT", "NOTICE"]
    assert post("/ping")[1] == {"clients": 1}
    assert client.line().command == "PING"
    assert post("", refuse_tokens="Login unsuccessful", suspended=["ann"])[0] == 204
    assert (twitch.irc.refuse_tokens, twitch.irc.suspended) == ("Login unsuccessful", {"ann"})
    assert post("", unheard_of=1)[0] == 400
    assert post("/say", channel="nobody", text="x")[0] == 400
    assert post("/dance")[0] == 404
    shown = json.loads(http.request("GET", f"{twitch.http_url}/control/irc").data)
    assert shown["clients"] == [{"nick": "justinfan1", "channels": ["kai"], "frozen": False}]
    sent = json.loads(http.request("GET", f"{twitch.http_url}/control/irc/sent?channel=kai").data)["sent"]
    assert sent[0]["id"] == said["id"]
    assert re.match("@.* PRIVMSG #kai :hello", sent[0]["line"])
