"""Mangles the bytes of a chat connection and sees what the readers make of them.

What must hold, however they are mangled and cut: nothing raises, and soon. Where the stream is cut into chunks makes no
difference. Every line that was not touched is read as before, whatever stands beside it. A message has an id, no NUL,
text that can be written down, ranges of emotes that lie inside it; and where its text is not what came, the bytes that
came are kept.

    python -m support.chat_fuzz --minutes 10 --seed 1
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

from vodkeep.chat.conversation import Conversation, JoinBudget
from vodkeep.chat.irc import LONGEST_LINE_BYTES, Splitter, last_parameter_of, parse_line
from vodkeep.chat.model import ChatMessage
from vodkeep.chat.twitch_lines import message_of

LONGEST_S = 0.5  # of processor time for a stream of less than 200 kB
RECEIVED_MS = 1_795_000_000_000

TAGS = (
    "badge-info=subscriber/14;badges=moderator/1,subscriber/12;color=#1E90FF;display-name=Kai;emotes=25:0-4/1902:6-10;"
    "first-msg=0;id={id};room-id=1337;tmi-sent-ts=1795000000123;user-id=1001"
)
ORIGINALS = tuple(
    line.encode()
    for line in (
        f"@{TAGS} :kai!kai@kai.tmi.twitch.tv PRIVMSG #kai :Kappa Keepo and words",
        f"@{TAGS} :kai!kai@kai.tmi.twitch.tv PRIVMSG #kai :\x01ACTION 日本 👍🏽 waves\x01",
        f"@{TAGS};reply-parent-msg-body=a\\sb\\:\\\\;reply-parent-msg-id=p-1 :a!a@a PRIVMSG #kai :@b ünïcödé",
        f"@{TAGS};login=ann;msg-id=resub;msg-param-months=14;system-msg=A\\sb! :tmi.twitch.tv USERNOTICE #kai :hi",
        f"@{TAGS};login=ann;msg-id=raid;msg-param-viewerCount=77 :tmi.twitch.tv USERNOTICE #kai",
        "@ban-duration=600;id={id};target-user-id=9;tmi-sent-ts=1795000000123 :tmi.twitch.tv CLEARCHAT #kai :bob",
        "@id={id};login=bob;target-msg-id=m-1;tmi-sent-ts=1795000000123 :tmi.twitch.tv CLEARMSG #kai :bad words",
        "@id={id};msg-id=slow_on :tmi.twitch.tv NOTICE #kai :This room is now in slow mode.",
        "@emote-only=0;followers-only=-1;id={id};r9k=0;slow=10;subs-only=0 :tmi.twitch.tv ROOMSTATE #kai",
    )
)
PIECES = (
    b"", b" ", b"  ", b":", b" :", b"@", b";", b"=", b";;", b"\\", b"\\s", b"\\\\", b"\\:", b"\0", b"\r", b"\n",
    b"\xff", b"\xc3", b"\xf0\x9f\x91", b"\xed\xa0\x80", "\u2028".encode(), "\ufeff".encode(), "\U000e0000".encode(),
    b"\x01", b"\x01ACTION", b"#", b"*", b"emotes=0:0-0", b"emotes=25:0-99999999999999999999/:/,-,", b"25:4-0,0-0,0-4",
    b"tmi-sent-ts=" + b"9" * 5000, b"bits=-1", b"ban-duration=1e9", "bits=٣".encode(), b"x" * LONGEST_LINE_BYTES,
    b"PRIVMSG", b"\r\n",
    b"NOTICE * :Login authentication failed", b"PING", b"RECONNECT", b"JOIN #kai", b"001", b"366 x #kai",
)  # fmt: skip

Mangle = Callable[[bytes, random.Random], bytes]


class BrokenPromise(AssertionError):
    """A reader did something it must not do."""


def change_bytes(line: bytes, chance: random.Random) -> bytes:
    changed = bytearray(line)
    for _ in range(chance.choice((1, 1, 2, 8))):
        if changed:
            changed[chance.randrange(len(changed))] = chance.choice((chance.randrange(256), *b":@; =\\#,-/!\0\r\n\xff"))
    return bytes(changed)


def insert_piece(line: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(line) + 1)
    return line[:at] + chance.choice(PIECES) + line[at:]


def cut_out(line: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(line) + 1)
    return line[:at] + line[at + chance.randrange(1, 80) :]


def repeat(line: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(line) + 1)
    return line[:at] + line[at : at + 20] * chance.choice((2, 3, 50)) + line[at:]


def cross(line: bytes, chance: random.Random) -> bytes:
    """The beginning of one and the end of another."""
    other = chance.choice(ORIGINALS)
    return line[: chance.randrange(len(line) + 1)] + other[chance.randrange(len(other)) :]


def rubbish(line: bytes, chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice((1, 5, 50, 500)))


MANGLES: tuple[Mangle, ...] = (change_bytes, change_bytes, insert_piece, insert_piece, cut_out, repeat, cross, rubbish)


def original(number: int, chance: random.Random) -> bytes:
    """A good line that no other is like."""
    return chance.choice(ORIGINALS).replace(b"{id}", b"good-%d" % number)


def mangled(number: int, chance: random.Random) -> bytes:
    """A line that was good; may hold line ends now, but no id of a good line."""
    line = chance.choice(ORIGINALS).replace(b"{id}", b"bad-%d" % number)
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        line = chance.choice(MANGLES)(line, chance)
    return line


def stream_of(chance: random.Random) -> tuple[bytes, list[bytes]]:
    """Good and mangled lines in one stream, and the good ones."""
    good: list[bytes] = []
    parts: list[bytes] = []
    for number in range(chance.randrange(2, 12)):
        if chance.random() < 0.5:
            good.append(original(number, chance))
            parts.append(good[-1])
        else:
            parts.append(mangled(number, chance))
        parts.append(chance.choice((b"\r\n", b"\r\n", b"\n")))
    return b"".join(parts), good


def split(stream: bytes, chance: random.Random) -> tuple[list[bytes], int]:
    """The lines of the stream, cut by chance."""
    splitter = Splitter()
    lines: list[bytes] = []
    at = 0
    while at < len(stream):
        size = chance.choice((1, 2, 3, 17, 100, 1000, 65536))
        lines += splitter.feed(stream[at : at + size])
        at += size
    return lines, splitter.dropped


def check_message(message: ChatMessage, raw: bytes) -> None:
    """Everything a message promises."""
    if not message.msg_id or message.sent_ms <= 0 or not message.channel:
        raise BrokenPromise("a message without an id, a time or a channel")
    if "\0" in repr(message):
        raise BrokenPromise("a NUL got through")
    if message.chatter is not None and not 0 <= message.chatter.key() < 2**63:
        raise BrokenPromise("a key that does not fit")
    came = bytes.fromhex(str(message.extra["body_hex"])) if "body_hex" in message.extra else message.body.encode()
    if message.body and came not in raw:
        raise BrokenPromise("a text that nobody sent")
    if "body_hex" in message.extra and came != last_parameter_of(raw):
        raise BrokenPromise("bytes beside the text that are not those that came")
    taken: set[int] = set()
    for group in filter(None, message.emotes.split("/")):
        _, _, ranges = group.partition(":")
        for span in ranges.split(","):
            first, last = map(int, span.split("-"))
            places = set(range(first, last + 1))
            if not places or last >= len(message.body) or places & taken:
                raise BrokenPromise(f"a range that cannot be: {message.emotes}")
            taken |= places


def check(stream: bytes, good: Sequence[bytes], chance: random.Random) -> Counter[str]:
    """Read the stream in every way there is. Raises ``BrokenPromise``."""
    begun_s = time.thread_time()
    whole = Splitter()
    lines = whole.feed(stream)
    if (lines, whole.dropped) != split(stream, chance):
        raise BrokenPromise("the lines depend on where the stream is cut")
    found = [line for line in lines if line in good]
    if found != list(good):
        raise BrokenPromise("a good line was lost, or is not where it was")
    counts: Counter[str] = Counter({"lines": len(lines), "too long": whole.dropped})
    for raw in lines:
        line = parse_line(raw)
        if line is None:
            counts["no command"] += 1
            continue
        if line.raw != raw or not line.command or "" in line.tags:
            raise BrokenPromise("parts that cannot be")
        message = message_of(line, RECEIVED_MS)
        if message is None:
            counts["not of a channel"] += 1
            continue
        check_message(message, raw)
        if message != message_of(line, RECEIVED_MS):
            raise BrokenPromise("the same line is another message the second time")
        counts["messages"] += 1
        counts["texts that were not UTF-8"] += "body_hex" in message.extra
    talk = Conversation("justinfan1", None, JoinBudget())
    talk.begin(0.0)
    talk.want({"kai"}, 0.0)
    chat = talk.receive(lines, 1.0)
    if [line for line in chat if line in good] != list(good):
        raise BrokenPromise("the conversation kept a good line for itself")
    talk.tick(2.0)
    talk.take_events()
    if talk.take_bytes().count(b"\r\n") > 4 + len(lines):
        raise BrokenPromise("more was answered than asked")
    took_s = time.thread_time() - begun_s
    if took_s > LONGEST_S and len(stream) < 200_000:
        raise BrokenPromise(f"{took_s:.1f} s for {len(stream)} bytes")
    return counts


def hunt(seed: int, *, minutes: float | None = None, streams: int | None = None) -> Counter[str]:
    """Check streams for so long or so many; counts what was met. Raises ``BrokenPromise`` naming the stream."""
    counts: Counter[str] = Counter()
    ends_s = None if minutes is None else time.monotonic() + 60 * minutes
    number = 0
    while (streams is None or number < streams) and (ends_s is None or time.monotonic() < ends_s):
        chance = random.Random(f"{seed}/{number}")
        stream, good = stream_of(chance)
        try:
            counts += check(stream, good, chance)
        except Exception as error:
            raise BrokenPromise(f"seed {seed}, stream {number}: {error}") from error
        counts["streams"] += 1
        number += 1
    return counts


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m support.chat_fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args(arguments)
    counts = hunt(wanted.seed, minutes=wanted.minutes)
    sys.stdout.write(", ".join(f"{count} {name}" for name, count in counts.most_common()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
