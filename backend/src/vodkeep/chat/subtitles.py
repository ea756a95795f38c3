"""A chat for reading and for players: plain text, WebVTT and ASS. One way only; names and words, no pictures."""

from __future__ import annotations

import heapq
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from vodkeep.chat.model import Kind
from vodkeep.chat.walk import Placed

SHOWN_MS = 8_000
"""How long a message stays on the screen."""

LINES = 6
"""How many messages are on the screen at most."""

_SAID = frozenset({Kind.MESSAGE, Kind.ACTION, Kind.USER_NOTICE})


@dataclass(frozen=True, slots=True)
class _Spoken:
    offset_ms: int
    name: str
    text: str
    color: str  # "#RRGGBB" or empty
    is_action: bool


def _spoken(messages: Iterator[Placed]) -> Iterator[_Spoken]:
    for placed in messages:
        message = placed.message
        if message.kind not in _SAID:
            continue
        who = message.chatter
        name = (who.display_name or who.login) if who is not None else ""
        text = message.body or str(message.extra.get("system") or "")
        if text or name:
            yield _Spoken(
                placed.offset_ms,
                _one_line(name),
                _one_line(text),
                who.color if who is not None else "",
                message.kind is Kind.ACTION,
            )


def write_text(messages: Iterator[Placed]) -> Iterator[bytes]:
    """``[1:02:03] Name: words``, a line each."""
    for each in _spoken(messages):
        between = " " if each.is_action else ": "
        sign = "-" if each.offset_ms < 0 else ""
        yield f"[{sign}{_clock(abs(each.offset_ms))}] {each.name}{between}{each.text}\n".encode()


def write_webvtt(messages: Iterator[Placed]) -> Iterator[bytes]:
    """Cues of the latest messages, each as long as nothing changes (https://www.w3.org/TR/webvtt1/, 2019)."""
    yield b"WEBVTT\n\n"
    for start_ms, end_ms, shown in _screens(_spoken(messages)):
        lines = "\n".join(f"<v {_vtt(each.name)}>{_vtt(each.name)}: {_vtt(each.text)}</v>" for each in shown)
        yield f"{_precise(start_ms)} --> {_precise(end_ms)} line:0 align:start\n{lines}\n\n".encode()


_ASS_HEAD = """[Script Info]
ScriptType: v4.00+
PlayResX: 1920
PlayResY: 1080
WrapStyle: 0

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Chat,Arial,36,&H00FFFFFF,&H00FFFFFF,&H00000000,&H80000000,0,0,0,0,100,100,0,0,1,2,0,7,24,1300,24,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def write_ass(messages: Iterator[Placed]) -> Iterator[bytes]:
    """Advanced SubStation Alpha: the latest messages in the upper left, names in their colours."""
    yield _ASS_HEAD.encode()
    for start_ms, end_ms, shown in _screens(_spoken(messages)):
        text = "\\N".join(f"{_ass_color(each.color)}{_ass(each.name)}{{\\r}}: {_ass(each.text)}" for each in shown)
        yield f"Dialogue: 0,{_hundredths(start_ms)},{_hundredths(end_ms)},Chat,,0,0,0,,{text}\n".encode()


def _screens(messages: Iterator[_Spoken]) -> Iterator[tuple[int, int, tuple[_Spoken, ...]]]:
    """What is on the screen, and from when to when; nothing before the picture begins."""
    shown: deque[_Spoken] = deque(maxlen=LINES)
    since_ms = 0
    for each in messages:
        if each.offset_ms < 0:
            continue
        yield from _until(shown, since_ms, each.offset_ms)
        while shown and shown[0].offset_ms + SHOWN_MS <= each.offset_ms:
            shown.popleft()
        shown.append(each)
        since_ms = each.offset_ms
    if shown:
        yield from _until(shown, since_ms, shown[-1].offset_ms + SHOWN_MS)


def _until(shown: deque[_Spoken], since_ms: int, until_ms: int) -> Iterator[tuple[int, int, tuple[_Spoken, ...]]]:
    """The screens between two messages: one after the other disappears."""
    left = list(shown)
    ends = [each.offset_ms + SHOWN_MS for each in left]
    heapq.heapify(ends)
    while left and since_ms < until_ms:
        end_ms = min(ends[0], until_ms)
        if end_ms > since_ms:
            yield since_ms, end_ms, tuple(left)
        since_ms = end_ms
        while ends and ends[0] <= since_ms:
            heapq.heappop(ends)
        left = [each for each in left if each.offset_ms + SHOWN_MS > since_ms]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _vtt(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _ass(text: str) -> str:
    """A backslash and braces would be commands."""
    return text.replace("\\", "\u29f5").replace("{", "\uff5b").replace("}", "\uff5d")


def _ass_color(color: str) -> str:
    found = re.fullmatch(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", color)
    return f"{{\\c&H{found[3]}{found[2]}{found[1]}&}}".upper().replace("\\C", "\\c") if found else ""


def _clock(offset_ms: int) -> str:
    seconds = offset_ms // 1000
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _precise(offset_ms: int) -> str:
    seconds, rest = divmod(offset_ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:03d}"


def _hundredths(offset_ms: int) -> str:
    seconds, rest = divmod(offset_ms, 1000)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest // 10:02d}"
