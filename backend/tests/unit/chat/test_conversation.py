from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.chat.conversation import (
    MOST_CHANNELS,
    Conversation,
    Credentials,
    JoinBudget,
    Joined,
    JoinRefused,
    Left,
    LoginRefused,
    ReconnectAsked,
    Welcomed,
)

WELCOME = b":tmi.twitch.tv 001 justinfan7 :Welcome, GLHF!"


def confirmed(channel: str, nick: str = "justinfan7") -> bytes:
    return f":{nick}!{nick}@{nick}.tmi.twitch.tv JOIN #{channel}".encode()


def begun(token: str | None = None, nick: str = "justinfan7") -> Conversation:
    conversation = Conversation(nick, token, JoinBudget())
    conversation.begin(0.0)
    return conversation


def welcomed(*channels: str, budget: JoinBudget | None = None) -> Conversation:
    conversation = Conversation("justinfan7", None, budget or JoinBudget())
    conversation.begin(0.0)
    conversation.want(channels, 0.0)
    conversation.receive([WELCOME], 0.0)
    conversation.take_bytes()
    conversation.take_events()
    return conversation


def sent(conversation: Conversation, now_s: float) -> list[str]:
    conversation.tick(now_s)
    return conversation.take_bytes().decode().splitlines()


def test_without_a_token_it_logs_in_as_nobody() -> None:
    assert begun().take_bytes() == b"CAP REQ :twitch.tv/tags twitch.tv/commands\r\nNICK justinfan7\r\n"


@pytest.mark.parametrize("token", ["abc", "oauth:abc"])
def test_a_token_goes_before_the_name(token: str) -> None:
    lines = begun(token, "KeepBot").take_bytes().decode().splitlines()
    assert lines[1:] == ["PASS oauth:abc", "NICK keepbot"]


def test_a_line_break_in_a_token_is_no_line() -> None:
    assert begun("abc\r\nPRIVMSG #x :hi").take_bytes().count(b"\r\n") == 3


def test_credentials_do_not_show_their_token() -> None:
    assert "abc" not in repr(Credentials("bot", "abc"))


def test_nothing_is_joined_before_the_welcome() -> None:
    conversation = begun()
    conversation.take_bytes()
    conversation.want({"kai"}, 0.0)
    assert sent(conversation, 1.0) == []
    conversation.receive([WELCOME], 1.0)
    assert conversation.take_events() == [Welcomed()]
    assert sent(conversation, 1.0) == ["JOIN #kai"]


def test_joined_is_what_twitch_confirmed_for_us() -> None:
    conversation = welcomed("kai", "ann")
    conversation.tick(0.0)
    conversation.receive([confirmed("kai", "somebody"), b":x 353 justinfan7 = #kai :justinfan7"], 1.0)
    assert conversation.take_events() == []
    conversation.receive([confirmed("kai"), b":justinfan7.tmi.twitch.tv 366 justinfan7 #kai :End of /NAMES list"], 1.0)
    assert conversation.take_events() == [Joined("kai")]
    assert conversation.joined == {"kai"}
    assert not conversation.complete
    conversation.receive([b":justinfan7.tmi.twitch.tv 366 justinfan7 #ann :End of /NAMES list"], 1.0)
    assert conversation.complete


def test_the_name_of_the_account_is_what_twitch_says() -> None:
    conversation = begun("abc", "spelled-wrong")
    conversation.want({"kai"}, 0.0)
    conversation.receive([b":tmi.twitch.tv 001 keepbot :Welcome, GLHF!", confirmed("kai", "keepbot")], 0.0)
    assert conversation.joined == {"kai"}


def test_joins_keep_to_what_twitch_allows() -> None:
    conversation = welcomed(*(f"c{number}" for number in range(50)))
    assert len(sent(conversation, 0.0)) == 20
    assert sent(conversation, 5.0) == []
    assert conversation.due_s(5.0) == 10.5
    assert len(sent(conversation, 10.5)) == 20


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 2)), max_size=80))
def test_connections_together_never_join_faster_than_allowed(steps: list[tuple[float, int]]) -> None:
    budget = JoinBudget()
    talks = [welcomed(*(f"c{talk}-{number}" for number in range(60)), budget=budget) for talk in range(3)]
    now_s, times = 0.0, []
    for step_s, talk in steps:
        now_s += step_s
        times += [now_s for line in sent(talks[talk], now_s) if line.startswith("JOIN")]
        talks[talk].busy(now_s)
    assert all(later - earlier >= 10.0 for earlier, later in zip(times, times[20:], strict=False))


def test_a_join_without_an_answer_is_repeated_ever_more_rarely() -> None:
    conversation = welcomed("kai")
    tries = []
    for second in range(1000):
        conversation.busy(second)
        tries += [second for line in sent(conversation, second) if line == "JOIN #kai"]
    assert tries == [0, 10, 40, 160, 460, 760]


def test_channels_without_an_answer_do_not_hold_up_new_ones() -> None:
    conversation = welcomed(*(f"gone{number}" for number in range(40)))
    assert len(sent(conversation, 0.0)) == 20
    conversation.want({f"gone{number}" for number in range(40)} | {"kai"}, 1.0)
    conversation.busy(10.5)
    assert "JOIN #kai" in sent(conversation, 10.5) + sent(conversation, 21.0)


def test_what_is_no_longer_wanted_is_left() -> None:
    conversation = welcomed("kai", "ann")
    conversation.tick(0.0)
    conversation.receive([confirmed("kai"), confirmed("ann")], 0.0)
    conversation.take_events()
    conversation.take_bytes()
    conversation.want({"ann"}, 1.0)
    assert conversation.take_bytes() == b"PART #kai\r\n"
    assert conversation.take_events() == [Left("kai", "no longer wanted")]
    conversation.receive([confirmed("kai"), b":justinfan7!justinfan7@x PART #kai"], 1.0)
    assert conversation.take_events() == []
    assert conversation.joined == {"ann"}


def test_a_channel_given_up_before_the_answer_is_left_too() -> None:
    conversation = welcomed("kai")
    conversation.tick(0.0)
    conversation.take_bytes()
    conversation.want(set(), 0.0)
    assert conversation.take_bytes() == b"PART #kai\r\n"


def test_put_out_of_a_channel_it_comes_back() -> None:
    conversation = welcomed("kai")
    conversation.tick(0.0)
    conversation.receive([confirmed("kai")], 0.0)
    conversation.receive([b":justinfan7!justinfan7@x PART #kai"], 5.0)
    assert conversation.take_events()[-1] == Left("kai", "Twitch put us out of the channel")
    conversation.take_bytes()
    assert sent(conversation, 15.0) == ["JOIN #kai"]


def test_a_suspended_channel_is_refused_and_tried_again_after_minutes() -> None:
    conversation = welcomed("kai")
    conversation.tick(0.0)
    conversation.take_bytes()
    notice = b"@msg-id=msg_channel_suspended :tmi.twitch.tv NOTICE #kai :This channel has been suspended."
    assert conversation.receive([notice], 0.0) == [notice]
    assert conversation.take_events() == [JoinRefused("kai", "This channel has been suspended.")]
    assert conversation.refused == {"kai": "This channel has been suspended."}
    assert conversation.complete
    conversation.busy(299.0)
    assert sent(conversation, 299.0) == []
    assert sent(conversation, 300.0) == ["JOIN #kai"]


def test_other_notices_of_a_channel_refuse_nothing() -> None:
    conversation = welcomed("kai")
    conversation.receive([b"@msg-id=slow_on :tmi.twitch.tv NOTICE #kai :This room is now in slow mode."], 0.0)
    assert conversation.take_events() == []


@pytest.mark.parametrize("text", ["Login authentication failed", "Improperly formatted auth", "Login unsuccessful"])
def test_a_refused_login_is_one_event_with_twitchs_words(text: str) -> None:
    conversation = begun("abc")
    assert conversation.receive([f":tmi.twitch.tv NOTICE * :{text}".encode()], 0.5)
    assert conversation.take_events() == [LoginRefused(text)]
    assert conversation.failure == f"Twitch refused the login: {text}"


def test_ping_is_answered_in_the_same_words() -> None:
    conversation = welcomed()
    conversation.receive([b"PING :tmi.twitch.tv"], 0.0)
    assert conversation.take_bytes() == b"PONG :tmi.twitch.tv\r\n"


def test_reconnect_is_told() -> None:
    conversation = welcomed()
    conversation.receive([b":tmi.twitch.tv RECONNECT"], 0.0)
    assert conversation.take_events() == [ReconnectAsked()]


def test_a_half_open_connection_is_found_after_twenty_seconds() -> None:
    conversation = welcomed()
    assert conversation.due_s(0.0) == 15.0
    assert sent(conversation, 14.9) == []
    assert sent(conversation, 15.0) == ["PING :vodkeep-1"]
    assert conversation.due_s(15.0) == 20.0
    assert sent(conversation, 19.9) == []
    assert conversation.failure is None
    conversation.tick(20.0)
    assert conversation.failure == "Twitch fell silent"


def test_anything_that_arrives_is_a_sign_of_life() -> None:
    conversation = welcomed()
    conversation.tick(15.0)
    conversation.receive([b":tmi.twitch.tv PONG tmi.twitch.tv :vodkeep-1"], 19.0)
    conversation.tick(20.0)
    assert conversation.failure is None
    assert conversation.heard_s == 19.0
    conversation.receive([], 33.0)  # a part of a line
    conversation.tick(34.0)
    assert conversation.due_s(34.0) == 48.0


def test_silence_while_we_do_not_read_is_our_own() -> None:
    conversation = welcomed()
    conversation.tick(15.0)
    conversation.busy(19.0)
    conversation.tick(30.0)
    assert conversation.failure is None


def test_a_login_without_an_answer_fails() -> None:
    conversation = begun()
    assert conversation.due_s(0.0) == 10.0
    conversation.receive([b":tmi.twitch.tv CAP * ACK :twitch.tv/tags"], 5.0)
    conversation.tick(10.0)
    assert conversation.failure == "Twitch did not answer the login in time"


def test_chat_is_handed_on_untouched_and_in_order() -> None:
    conversation = welcomed("kai")
    chat = [
        b"@id=1 :a!a@a PRIVMSG #kai :PING :x",
        b"@id=2 :tmi.twitch.tv USERNOTICE #kai",
        b"@tmi-sent-ts=1 :tmi.twitch.tv CLEARCHAT #kai",
        b"@x=1 :tmi.twitch.tv ROOMSTATE #kai",
    ]
    own = [b"PING :x", b":tmi.twitch.tv 002 justinfan7 :x", b"@a=1 :tmi.twitch.tv USERSTATE #kai", b":a!a@a JOIN #kai"]
    mixed = [line for pair in zip(chat, own, strict=True) for line in pair]
    assert conversation.receive(mixed, 0.0) == chat
    assert conversation.take_bytes() == b"PONG :x\r\n"


def test_more_channels_than_a_connection_may_have_are_refused() -> None:
    with pytest.raises(ValueError, match="91 channels"):
        begun().want({f"c{number}" for number in range(MOST_CHANNELS + 1)}, 0.0)


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_line_raises(lines: list[bytes]) -> None:
    welcomed("kai").receive(lines, 0.0)
