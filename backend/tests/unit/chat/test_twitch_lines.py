from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vodkeep.chat.irc import parse_line
from vodkeep.chat.model import ChatMessage, Chatter, Kind
from vodkeep.chat.twitch_lines import message_of, valid_emotes

RECEIVED_MS = 1_795_000_000_999
TAGS = (
    "@badge-info=subscriber/14;badges=moderator/1,subscriber/12;color=#1E90FF;display-name=Kai;emotes={emotes};"
    "id=b34ccfc7-4977-403a-8a94-33c6bac34fb8;room-id=1337;tmi-sent-ts=1795000000123;user-id=1001{more} "
    ":kai!kai@kai.tmi.twitch.tv PRIVMSG #Channel :{body}"
)


def read(raw: str | bytes, received_ms: int = RECEIVED_MS) -> ChatMessage:
    line = parse_line(raw.encode() if isinstance(raw, str) else raw)
    assert line is not None
    message = message_of(line, received_ms)
    assert message is not None
    return message


def said(body: str = "hi", *, emotes: str = "", more: str = "") -> ChatMessage:
    return read(TAGS.format(body=body, emotes=emotes, more=more))


def test_a_message_with_all_its_parts() -> None:
    assert said("Kappa hello", emotes="25:0-4") == ChatMessage(
        channel="channel",
        kind=Kind.MESSAGE,
        sent_ms=1_795_000_000_123,
        chatter=Chatter("1001", "kai", "Kai", "#1E90FF", "moderator/1,subscriber/12"),
        body="Kappa hello",
        emotes="25:0-4",
        msg_id="b34ccfc7-4977-403a-8a94-33c6bac34fb8",
        reply_to=None,
        extra={},
    )


def test_a_message_without_any_tags_is_kept() -> None:
    message = read(":kai!kai@kai.tmi.twitch.tv PRIVMSG #channel :hi there")
    assert (message.body, message.sent_ms, message.chatter) == (
        "hi there",
        RECEIVED_MS,
        Chatter("", "kai", "kai", "", ""),
    )
    assert len(message.msg_id) == 36


def test_an_action_is_its_text_and_emotes_count_from_there() -> None:
    message = said("\x01ACTION Kappa waves\x01", emotes="25:0-4")
    assert (message.kind, message.body, message.emotes) == (Kind.ACTION, "Kappa waves", "25:0-4")


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ("\x01ACTION waves", Kind.ACTION, "waves"),
        ("\x01ACTION \x01", Kind.ACTION, ""),
        ("\x01ACTION\x01", Kind.ACTION, ""),
        ("\x01ACTION  two  spaces \x01", Kind.ACTION, " two  spaces "),
        ("\x01ACTIONS waves\x01", Kind.MESSAGE, "\x01ACTIONS waves\x01"),
        ("\x01VERSION\x01", Kind.MESSAGE, "\x01VERSION\x01"),
        ("ACTION waves", Kind.MESSAGE, "ACTION waves"),
    ],
)
def test_what_is_an_action(body: str, kind: Kind, text: str) -> None:
    message = said(body)
    assert (message.kind, message.body) == (kind, text)


@pytest.mark.parametrize(
    "body", ["  leading", "trailing  ", "", " ", ":)", "a\tb", "\u200d\u2066", "👩‍👩‍👧‍👦", "é e\u0301"]
)
def test_what_was_said_is_kept_to_the_byte(body: str) -> None:
    assert said(body).body.encode() == body.encode()


def test_bytes_that_are_no_characters_are_kept_beside_the_text() -> None:
    message = read(b"@id=x :kai!kai@kai PRIVMSG #channel :caf\xc3 ol\xe9")
    assert message.body == "caf\ufffd ol\ufffd"
    assert bytes.fromhex(str(message.extra["body_hex"])) == b"caf\xc3 ol\xe9"


@pytest.mark.parametrize("raw", [b"PRIVMSG #kai caf\xe9", b"PRIVMSG #kai caf\xe9  ", b"PRIVMSG #kai no :caf\xe9"])
def test_a_text_is_the_last_parameter_however_it_is_written(raw: bytes) -> None:
    message = read(raw)
    assert (message.body, message.extra) == ("caf\ufffd", {"body_hex": b"caf\xe9".hex()})


def test_nul_becomes_a_replacement_character() -> None:
    message = read(b"@id=x;display-name=K\0i :kai!kai@kai PRIVMSG #channel :a\0b")
    assert message.body == "a\ufffdb"
    assert message.extra == {"body_hex": "610062"}
    assert message.chatter is not None
    assert message.chatter.display_name == "K\ufffdi"


def test_a_replacement_character_that_was_typed_is_just_text() -> None:
    assert said("a\ufffdb").extra == {}


@pytest.mark.parametrize(
    ("emotes", "text", "kept"),
    [
        ("25:0-4,12-16/1902:6-10", "Kappa Keepo Kappa", "25:0-4,12-16/1902:6-10"),
        ("emotesv2_abc:0-3", "PogU", "emotesv2_abc:0-3"),
        ("25_SG:0-4", "Kappa", "25_SG:0-4"),
        ("25:2-6", "👍 Kappa", "25:2-6"),  # code points, neither bytes nor UTF-16
        ("25:3-7", "👍 Kappa", ""),
        ("25:0-5", "Kappa", ""),
        ("25:4-0", "Kappa", ""),
        ("25:0-4,5-9", "Kappa", "25:0-4"),
        ("25:0-4/1902:99-100", "Kappa", "25:0-4"),
        ("25:0-4/1902:2-6/3:6-6", "Kappa hi", "25:0-4/3:6-6"),  # the second overlaps
        ("1:6-7/2:0-1/3:1-2", "aa bb cc", "1:6-7/2:0-1"),
        ("25:", "Kappa", ""),
        ("25", "Kappa", ""),
        (":0-4", "Kappa", ""),
        ("25:-1-4", "Kappa", ""),
        ("25:0-4-5", "Kappa", ""),
        ("25:0", "Kappa", ""),
        ("25:a-b", "Kappa", ""),
        ("25:٠-٤", "Kappa", ""),  # digits, but not those
        ("25:+0-4", "Kappa", ""),
        ("25: 0-4", "Kappa", ""),
        (f"25:0-{'9' * 5000}", "Kappa", ""),
        ("..x:0-4", "Kappa", ""),
        ("<img>:0-4", "Kappa", ""),
        ("///25:0-4//", "Kappa", "25:0-4"),
        ("25:0-4", "", ""),
    ],
)
def test_only_ranges_inside_the_text_are_kept(emotes: str, text: str, kept: str) -> None:
    assert valid_emotes(emotes, len(text)) == kept
    message = said(text, emotes=emotes.replace(" ", r"\s"))
    assert (message.emotes, message.body) == (kept, text)


@given(st.text(st.sampled_from("0123456789-,:/a_ \u0663"), max_size=60), st.integers(0, 30))
@example("1:0-0,2-2/2:1-1", 3)
def test_ranges_never_leave_the_text_nor_each_other(emotes: str, length: int) -> None:
    kept = valid_emotes(emotes, length)
    taken: set[int] = set()
    for group in filter(None, kept.split("/")):
        emote, ranges = group.split(":")
        assert emote
        for span in ranges.split(","):
            start, end = map(int, span.split("-"))
            places = set(range(start, end + 1))
            assert places
            assert max(places) < length
            assert not places & taken
            taken |= places
    assert valid_emotes(kept, length) == kept


def test_a_reply_knows_what_it_answers_and_its_thread() -> None:
    message = said(
        "@Ann sure",
        more=(
            r";reply-parent-msg-id=p-1;reply-parent-user-id=7;reply-parent-user-login=ann;reply-parent-display-name=Ann;"
            r"reply-parent-msg-body=shall\swe\:\sgo?;reply-thread-parent-msg-id=t-1;reply-thread-parent-user-login=bob"
        ),
    )
    assert message.reply_to == "p-1"
    assert message.extra == {
        "reply_user_id": "7",
        "reply_login": "ann",
        "reply_name": "Ann",
        "reply_body": "shall we; go?",
        "thread_id": "t-1",
        "thread_login": "bob",
    }


def test_bits_first_message_and_reward() -> None:
    message = said(more=";bits=100;first-msg=1;returning-chatter=1;custom-reward-id=r-1;msg-id=highlighted-message")
    assert message.extra == {
        "bits": 100,
        "first": True,
        "returning": True,
        "reward_id": "r-1",
        "type": "highlighted-message",
    }


def test_what_is_not_so_is_not_there() -> None:
    assert said(more=";bits=many;first-msg=0;returning-chatter=0;custom-reward-id=").extra == {}


def test_a_message_of_another_room_in_a_shared_chat() -> None:
    assert said(more=";source-room-id=42;source-id=s-1").extra == {"source_room_id": "42", "source_id": "s-1"}


@pytest.mark.parametrize("color", ["red", "#12345", "#12345g", "#1E90FF;", '#1E90FF"', "#1E90FF\u00a0"])
def test_a_color_that_is_none_is_left_out(color: str) -> None:
    chatter = read(f"@color={color.replace(';', chr(92) + ':')} :kai!kai@kai PRIVMSG #c :x").chatter
    assert chatter is not None
    assert chatter.color == ""


@pytest.mark.parametrize(("name", "shown"), [("", "kai"), (r"Kai\s", "Kai"), ("カイ", "カイ")])
def test_the_name_that_is_shown(name: str, shown: str) -> None:
    chatter = read(f"@display-name={name} :kai!kai@kai PRIVMSG #c :x").chatter
    assert chatter is not None
    assert (chatter.login, chatter.display_name) == ("kai", shown)


@pytest.mark.parametrize("time", ["", "soon", "-5", "1e9", "9" * 400, "٣", "0"])
def test_a_time_that_is_none_is_when_it_was_received(time: str) -> None:
    assert read(f"@tmi-sent-ts={time} :kai!kai@kai PRIVMSG #c :x").sent_ms == RECEIVED_MS


def test_a_subscription_with_words() -> None:
    message = read(
        r"@badges=subscriber/12;color=#008000;display-name=Ann;emotes=25:0-4;id=u-1;login=ann;msg-id=resub;"
        r"msg-param-cumulative-months=14;msg-param-sub-plan=1000;msg-param-sub-plan-name=Tier\s1;room-id=1337;"
        r"system-msg=Ann\ssubscribed\sfor\s14\smonths!;tmi-sent-ts=1795000000123;user-id=7 "
        ":tmi.twitch.tv USERNOTICE #channel :Kappa 14 months"
    )
    assert message == ChatMessage(
        channel="channel",
        kind=Kind.USER_NOTICE,
        sent_ms=1_795_000_000_123,
        chatter=Chatter("7", "ann", "Ann", "#008000", "subscriber/12"),
        body="Kappa 14 months",
        emotes="25:0-4",
        msg_id="u-1",
        reply_to=None,
        extra={
            "type": "resub",
            "system": "Ann subscribed for 14 months!",
            "params": {"cumulative-months": "14", "sub-plan": "1000", "sub-plan-name": "Tier 1"},
        },
    )


@pytest.mark.parametrize(
    ("type_", "params"),
    [
        ("raid", {"displayName": "Ann", "login": "ann", "viewerCount": "1234"}),
        ("subgift", {"recipient-id": "9", "recipient-user-name": "bob", "gift-months": "1"}),
        ("submysterygift", {"mass-gift-count": "20"}),
        ("bitsbadgetier", {"threshold": "10000"}),
        ("announcement", {"color": "PURPLE"}),
        ("viewermilestone", {"category": "watch-streak", "value": "15"}),
        ("a-kind-of-tomorrow", {"x": "y"}),
    ],
)
def test_every_user_notice_keeps_its_type_and_parameters(type_: str, params: dict[str, str]) -> None:
    tags = "".join(f";msg-param-{key}={value}" for key, value in params.items())
    message = read(f"@id=u;login=ann;user-id=7;msg-id={type_}{tags} :tmi.twitch.tv USERNOTICE #channel")
    assert (message.kind, message.body) == (Kind.USER_NOTICE, "")
    assert message.extra == {"type": type_, "params": params}


def test_a_user_notice_of_nobody_has_no_chatter() -> None:
    assert read("@id=u;msg-id=x :tmi.twitch.tv USERNOTICE #channel").chatter is None


def test_a_timeout() -> None:
    message = read(
        "@ban-duration=600;room-id=1337;target-user-id=9;tmi-sent-ts=1795000000123 "
        ":tmi.twitch.tv CLEARCHAT #channel :Bob"
    )
    assert (message.kind, message.sent_ms, message.chatter, message.body) == (
        Kind.CLEAR_USER,
        1_795_000_000_123,
        None,
        "",
    )
    assert message.extra == {"target_user_id": "9", "target_login": "bob", "seconds": 600}


def test_a_ban_has_no_end() -> None:
    assert read("@target-user-id=9 :tmi.twitch.tv CLEARCHAT #channel :bob").extra == {
        "target_user_id": "9",
        "target_login": "bob",
    }


@pytest.mark.parametrize("end", ["", " :"])
def test_the_whole_chat_is_cleared(end: str) -> None:
    message = read(f"@room-id=1337;tmi-sent-ts=1795000000123 :tmi.twitch.tv CLEARCHAT #channel{end}")
    assert (message.kind, message.extra) == (Kind.CLEAR_CHAT, {})


def test_a_deleted_message() -> None:
    message = read(
        "@login=bob;room-id=;target-msg-id=m-1;tmi-sent-ts=1795000000123 :tmi.twitch.tv CLEARMSG #channel :bad words"
    )
    assert (message.kind, message.body) == (Kind.CLEAR_MESSAGE, "")
    assert message.extra == {"target_msg_id": "m-1", "target_login": "bob", "text": "bad words"}


def test_a_word_of_twitch() -> None:
    message = read("@msg-id=slow_on :tmi.twitch.tv NOTICE #channel :This room is now in slow mode.")
    assert (message.kind, message.body, message.extra) == (
        Kind.NOTICE,
        "This room is now in slow mode.",
        {"type": "slow_on"},
    )


def test_the_modes_of_a_room() -> None:
    message = read(
        "@emote-only=0;followers-only=-1;r9k=0;room-id=1;slow=10;subs-only=x :tmi.twitch.tv ROOMSTATE #channel"
    )
    assert message.kind is Kind.ROOM_STATE
    assert message.extra == {"modes": {"emote_only": 0, "followers_only": -1, "r9k": 0, "slow": 10}}


CLEARED = "@target-user-id=9;tmi-sent-ts=17950000001{} :tmi.twitch.tv CLEARCHAT #channel :bob"


def test_the_same_event_over_two_connections_is_one() -> None:
    assert read(CLEARED.format("23"), 1).msg_id == read(CLEARED.format("23"), 2).msg_id
    assert read(CLEARED.format("23"), 1).msg_id != read(CLEARED.format("24"), 1).msg_id


def test_the_same_words_twice_without_an_id_are_two() -> None:
    raw = ":kai!kai@kai PRIVMSG #channel :hi"
    assert read(raw, 1).msg_id != read(raw, 2).msg_id
    with_time = "@tmi-sent-ts=1795000000123 " + raw
    assert read(with_time, 1).msg_id == read(with_time, 2).msg_id


@pytest.mark.parametrize(
    "raw",
    [
        "PING :tmi.twitch.tv",
        ":tmi.twitch.tv 001 justinfan1 :Welcome, GLHF!",
        ":tmi.twitch.tv NOTICE * :Login authentication failed",
        "PRIVMSG",
        "PRIVMSG #",
        "PRIVMSG kai :whispered",
        "@id=1 :kai!kai@kai WHISPER me :psst",
        ":kai!kai@kai JOIN #channel",
    ],
)
def test_what_is_no_message_of_a_channel(raw: str) -> None:
    line = parse_line(raw.encode())
    assert line is not None
    assert message_of(line, RECEIVED_MS) is None


COMMANDS = [b"PRIVMSG", b"USERNOTICE", b"CLEARCHAT", b"CLEARMSG", b"NOTICE", b"ROOMSTATE"]
KEYS = [
    b"id",
    b"tmi-sent-ts",
    b"emotes",
    b"bits",
    b"ban-duration",
    b"slow",
    b"login",
    b"msg-param-x",
    b"user-id",
    b"color",
]


@given(
    st.sampled_from(COMMANDS),
    st.dictionaries(st.sampled_from(KEYS), st.binary(max_size=20) | st.from_regex(rb"[0-9:,/-]{0,12}", fullmatch=True)),
    st.binary(max_size=60),
)
def test_no_line_raises_and_none_with_a_channel_is_lost(command: bytes, tags: dict[bytes, bytes], body: bytes) -> None:
    section = b";".join(key + b"=" + value.replace(b" ", b"") for key, value in tags.items())
    line = parse_line(b"@" + section + b" :kai!kai@kai " + command + b" #channel :" + body)
    assert line is not None
    message = message_of(line, RECEIVED_MS)
    assert message is not None
    assert message.msg_id
    assert message.sent_ms > 0
    assert "\0" not in repr(message)
    message.body.encode()
    if message.chatter is not None:
        message.chatter.key()
