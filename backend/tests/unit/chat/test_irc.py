from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vodkeep.chat.irc import LONGEST_LINE_BYTES, Splitter, command_of, decode, last_parameter_of, parse_line, unescape

# After the public vectors of https://github.com/ircdocs/parser-tests (msg-split, CC0), read 2026-11-23.
PUBLIC: list[tuple[str, dict[str, str], str, str, list[str]]] = [
    ("foo bar baz asdf", {}, "", "FOO", ["bar", "baz", "asdf"]),
    (":coolguy foo bar baz asdf", {}, "coolguy", "FOO", ["bar", "baz", "asdf"]),
    ("foo bar baz :asdf quux", {}, "", "FOO", ["bar", "baz", "asdf quux"]),
    ("foo bar baz :", {}, "", "FOO", ["bar", "baz", ""]),
    ("foo bar baz ::asdf", {}, "", "FOO", ["bar", "baz", ":asdf"]),
    (":coolguy foo bar baz :asdf quux", {}, "coolguy", "FOO", ["bar", "baz", "asdf quux"]),
    (":coolguy foo bar baz :  asdf quux ", {}, "coolguy", "FOO", ["bar", "baz", "  asdf quux "]),
    (":coolguy PRIVMSG bar :lol :) ", {}, "coolguy", "PRIVMSG", ["bar", "lol :) "]),
    (":coolguy foo bar baz :", {}, "coolguy", "FOO", ["bar", "baz", ""]),
    (":coolguy foo bar baz :  ", {}, "coolguy", "FOO", ["bar", "baz", "  "]),
    ("@a=b;c=32;k;rt=ql7 foo", {"a": "b", "c": "32", "k": "", "rt": "ql7"}, "", "FOO", []),
    (r"@a=b\\and\nk;c=72\s45;d=gh\:764 foo", {"a": "b\\and\nk", "c": "72 45", "d": "gh;764"}, "", "FOO", []),
    ("@c;h=;a=b :quux ab cd", {"c": "", "h": "", "a": "b"}, "quux", "AB", ["cd"]),
    (":src JOIN #chan", {}, "src", "JOIN", ["#chan"]),
    (":src JOIN :#chan", {}, "src", "JOIN", ["#chan"]),
    (":src AWAY", {}, "src", "AWAY", []),
    (":src AWAY ", {}, "src", "AWAY", []),
    (":cool\tguy foo bar baz", {}, "cool\tguy", "FOO", ["bar", "baz"]),
    (
        ":c!ag@net\x035w\x03ork.admin PRIVMSG foo :bar baz",
        {},
        "c!ag@net\x035w\x03ork.admin",
        "PRIVMSG",
        ["foo", "bar baz"],
    ),
    (
        ":c!~ag@n\x02et\x0305w\x0fork PRIVMSG foo :bar baz",
        {},
        "c!~ag@n\x02et\x0305w\x0fork",
        "PRIVMSG",
        ["foo", "bar baz"],
    ),
    (
        "@tag1=value1;tag2;vendor1/tag3=value2;vendor2/tag4= :irc.example.com COMMAND param1 param2 :param3 param3",
        {"tag1": "value1", "tag2": "", "vendor1/tag3": "value2", "vendor2/tag4": ""},
        "irc.example.com",
        "COMMAND",
        ["param1", "param2", "param3 param3"],
    ),
    (":irc.example.com COMMAND p1 p2 :p3 p3", {}, "irc.example.com", "COMMAND", ["p1", "p2", "p3 p3"]),
    ("@t1=v1;t2;v2/t4 COMMAND p1 :p3 p3", {"t1": "v1", "t2": "", "v2/t4": ""}, "", "COMMAND", ["p1", "p3 p3"]),
    ("COMMAND", {}, "", "COMMAND", []),
    (r"@foo=\\\\\:\\s\s\r\n COMMAND", {"foo": "\\\\;\\s \r\n"}, "", "COMMAND", []),
    (":gravel 432  #momo :Erroneous Nickname: Illegal", {}, "gravel", "432", ["#momo", "Erroneous Nickname: Illegal"]),
    (":gravel MODE #tckk +n ", {}, "gravel", "MODE", ["#tckk", "+n"]),
    (":services MODE #foo-bar +o foobar  ", {}, "services", "MODE", ["#foo-bar", "+o", "foobar"]),
    (r"@tag1=value\\ntest COMMAND", {"tag1": "value\\ntest"}, "", "COMMAND", []),
    (r"@tag1=value\1 COMMAND", {"tag1": "value1"}, "", "COMMAND", []),
    ("@tag1=value1\\ COMMAND", {"tag1": "value1"}, "", "COMMAND", []),
    ("@tag1=1;tag2=3;tag3=4;tag1=5 COMMAND", {"tag1": "5", "tag2": "3", "tag3": "4"}, "", "COMMAND", []),
    ("@tag2=3;tag1=5;vendor/tag2=8 COMMAND", {"tag1": "5", "tag2": "3", "vendor/tag2": "8"}, "", "COMMAND", []),
    (":SomeOp MODE #channel :+i", {}, "SomeOp", "MODE", ["#channel", "+i"]),
    (
        ":SomeOp MODE #channel +oo SomeUser :AnotherUser",
        {},
        "SomeOp",
        "MODE",
        ["#channel", "+oo", "SomeUser", "AnotherUser"],
    ),
]


@pytest.mark.parametrize(("text", "tags", "source", "command", "params"), PUBLIC, ids=[case[0][:40] for case in PUBLIC])
def test_public_vectors(text: str, tags: dict[str, str], source: str, command: str, params: list[str]) -> None:
    line = parse_line(text.encode())
    assert line is not None
    assert (line.tags, line.source, line.command, line.params) == (tags, source, command, params)
    assert line.raw == text.encode()


HARD: list[tuple[str, bytes, dict[str, str], str, list[str]]] = [
    ("a value with equal signs", b"@a=b=c==;d=e X", {"a": "b=c==", "d": "e"}, "X", []),
    ("as many equal signs as tags, in the wrong ones", b"@a;b=c=d X", {"a": "", "b": "c=d"}, "X", []),
    ("empty tags between semicolons", b"@;;a=1;; X", {"a": "1"}, "X", []),
    ("a value without a key", b"@=x;a=1 X", {"a": "1"}, "X", []),
    ("no tags behind the sign", b"@ X y", {}, "X", ["y"]),
    ("several spaces everywhere", b"@a=1   :src   X   y   :z  z", {"a": "1"}, "X", ["y", "z  z"]),
    ("spaces in front", b"  X y", {}, "X", ["y"]),
    ("a lone backslash before a semicolon", b"@a=x\\;b=2 X", {"a": "x", "b": "2"}, "X", []),
    ("a plus sign in front of the key", b"@+draft/reply=1 X", {"+draft/reply": "1"}, "X", []),
    ("half a character", b"X y :caf\xc3", {}, "X", ["y", "caf\ufffd"]),
    ("bytes that are no characters in a tag", b"@a=\xff\xfe;b=2 X", {"a": "\ufffd\ufffd", "b": "2"}, "X", []),
    ("NUL", b"X y :a\0b", {}, "X", ["y", "a\ufffdb"]),
    ("a no-break space is no space", "X y\u00a0z :a".encode(), {}, "X", ["y\u00a0z", "a"]),
    ("other line ends are text", "X y :a\u2028b\x0bc\x85".encode(), {}, "X", ["y", "a\u2028b\x0bc\x85"]),
    ("a lone CR is text", b"X y :a\rb", {}, "X", ["y", "a\rb"]),
    ("a colon inside a parameter", b"X a:b c :d", {}, "X", ["a:b", "c", "d"]),
    ("lower case", b"privmsg #a :b", {}, "PRIVMSG", ["#a", "b"]),
    ("combined emoji", "X :👩‍👩‍👧‍👦 🏳️‍🌈".encode(), {}, "X", ["👩‍👩‍👧‍👦 🏳️‍🌈"]),
    ("the space that Twitch clients append", "X :again \U000e0000".encode(), {}, "X", ["again \U000e0000"]),
]


@pytest.mark.parametrize(
    ("raw", "tags", "command", "params"), [case[1:] for case in HARD], ids=[case[0] for case in HARD]
)
def test_hard_lines(raw: bytes, tags: dict[str, str], command: str, params: list[str]) -> None:
    line = parse_line(raw)
    assert line is not None
    assert (line.tags, line.command, line.params) == (tags, command, params)


@pytest.mark.parametrize(
    "raw", [b"", b" ", b"   ", b"@a=b", b"@a=b ", b":src", b":src ", b"@a=b :src", b"@a=b :src  ", b"@"]
)
def test_what_has_no_command_is_no_line(raw: bytes) -> None:
    assert parse_line(raw) is None


def test_sixteen_kilobytes_of_tags_are_read() -> None:
    tags = {f"key-{number}": "v" * 100 for number in range(150)}
    section = ";".join(f"{key}={value}" for key, value in tags.items()).encode()
    assert len(section) > 16_000
    raw = b"@" + section + b" :src PRIVMSG #kai :hello"
    assert Splitter().feed(raw + b"\r\n") == [raw]
    line = parse_line(raw)
    assert line is not None
    assert line.tags == tags


anything = st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode(errors="replace"))
wordy = st.lists(
    st.sampled_from(
        [b"@", b"a=b", b";", b"=", b"\\", b"\\s", b" ", b"  ", b":", b" :", b"X", b"#kai", b"\xc3", b"\0", b"\r"]
    ),
    max_size=20,
).map(b"".join)


@given(anything | wordy)
def test_nothing_that_arrives_raises(raw: bytes) -> None:
    line = parse_line(raw)
    command_of(raw)
    last_parameter_of(raw)
    if line is not None:
        assert line.command
        assert " " not in line.command
        assert "" not in line.tags
        assert "\0" not in "".join([line.source, line.command, *line.params, *line.tags, *line.tags.values()])


@given(anything | wordy)
def test_the_short_ways_to_a_part_agree_with_the_whole(raw: bytes) -> None:
    line = parse_line(raw)
    if line is None:
        return
    assert decode(command_of(raw)).upper() == line.command
    if line.params:
        assert decode(last_parameter_of(raw)) == line.params[-1]


keys = st.from_regex(r"\A\+?([a-z.]{1,8}/)?[A-Za-z0-9-]{1,20}\Z")
values = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
words = st.from_regex(r"\A[^ :\0\r\n][^ \0\r\n]{0,15}\Z").filter(lambda word: word.isprintable())
trailings = st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]), max_size=60)
ESCAPED = {";": r"\:", " ": r"\s", "\\": r"\\", "\r": r"\r", "\n": r"\n"}


@given(st.dictionaries(keys, values, max_size=8), words, st.lists(words, max_size=4), trailings)
def test_what_is_written_by_the_rules_is_read_back(
    tags: dict[str, str], source: str, params: list[str], trailing: str
) -> None:
    section = ";".join(f"{key}={''.join(ESCAPED.get(c, c) for c in value)}" for key, value in tags.items())
    text = (f"@{section} " if tags else "") + f":{source} PRIVMSG " + "".join(f"{word} " for word in params)
    line = parse_line(f"{text}:{trailing}".encode())
    assert line is not None
    assert (line.tags, line.source, line.command, line.params) == (tags, source, "PRIVMSG", [*params, trailing])


@given(st.text(st.sampled_from("\\s:rnx"), max_size=30))
def test_escapes_are_read_one_character_at_a_time(text: str) -> None:
    meant, rest = "", iter(text)
    for character in rest:
        if character == "\\":
            character = {":": ";", "s": " ", "r": "\r", "n": "\n"}.get(following := next(rest, ""), following)
        meant += character
    assert unescape(text) == meant


def cut(stream: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


def fed(splitter: Splitter, chunks: Sequence[bytes]) -> list[bytes]:
    return [line for chunk in chunks for line in splitter.feed(chunk)]


lines = st.lists(
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1, max_size=20).map(
        str.encode
    )
    | st.integers(LONGEST_LINE_BYTES - 2, LONGEST_LINE_BYTES + 2).map(lambda size: b"x" * size),
    max_size=12,
)


@given(
    lines,
    st.lists(st.sampled_from([b"\r\n", b"\n"]), min_size=12, max_size=12),
    st.lists(st.integers(0, 10**6), max_size=30),
)
def test_where_the_stream_is_cut_makes_no_difference(sent: list[bytes], ends: list[bytes], places: list[int]) -> None:
    stream = b"".join(line + end for line, end in zip(sent, ends, strict=False))
    whole, parts = Splitter(), Splitter()
    found = fed(parts, cut(stream, places))
    assert found == fed(whole, [stream])
    assert parts.dropped == whole.dropped
    short = [line for line in sent if len(line) <= LONGEST_LINE_BYTES - 1]
    assert [line for line in found if len(line) <= LONGEST_LINE_BYTES - 1] == short
    assert len(found) + whole.dropped == len(sent)


def test_every_cut_inside_a_character_is_harmless() -> None:
    stream = "@a=ü :src PRIVMSG #kai :日本 👍🏽\r\n".encode() * 2
    for place in range(len(stream) + 1):
        assert fed(Splitter(), [stream[:place], stream[place:]]) == [stream[: len(stream) // 2 - 2]] * 2
    assert len(fed(Splitter(), [stream[place : place + 1] for place in range(len(stream))])) == 2


def test_an_endless_line_takes_no_memory_and_the_next_one_is_read() -> None:
    splitter = Splitter()
    for _ in range(100):
        assert splitter.feed(b"x" * 10_000) == []
        assert len(splitter._unfinished) <= LONGEST_LINE_BYTES
    assert splitter.feed(b"x\r\nPING :a\r\n") == [b"PING :a"]
    assert splitter.dropped == 1


def test_the_lines_around_one_that_is_too_long_are_kept() -> None:
    splitter = Splitter()
    assert splitter.feed(b"A\n" + b"x" * (LONGEST_LINE_BYTES + 1) + b"\nB\n") == [b"A", b"B"]
    assert splitter.dropped == 1


def test_empty_lines_are_left_out_and_not_counted() -> None:
    splitter = Splitter()
    assert splitter.feed(b"\r\n\n\r\r\nA\r\n\n") == [b"A"]
    assert splitter.dropped == 0
