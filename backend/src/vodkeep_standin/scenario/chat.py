"""What people say beside a broadcast: the same lines for the IRC that sends them and the comments that replay them.

A :class:`ChatScript` is made from the scenario's seed and the id of the stream, so that a line has the same id, author
and moment wherever it is met. A line is made when it is asked for: half a million of them cost a few megabytes.
"""

from __future__ import annotations

import math
import random
import uuid
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

DENSE = 400
"""How many lines more a dense second has."""


@dataclass(frozen=True, slots=True)
class VideoChat:
    """The chat of one video."""

    per_second: float = 1.5
    """How many lines there are a second on average; 0 is an empty chat."""
    disabled: bool = False
    """The broadcaster does not offer the chat with the video; Twitch then has ``comments: null``."""
    dense_second: int | None = None
    """In this second of the video far more is said than a page of comments holds."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """Somebody in the chat."""

    id: str
    login: str
    display_name: str
    color: str
    badges: tuple[tuple[str, str], ...] = ()
    """Set and version."""


@dataclass(frozen=True, slots=True)
class ChatLine:
    """Something that was said."""

    id: str
    """A UUID, as IRC's tag ``id`` and the comment's ``id`` have it."""
    offset_ms: int
    """After the start of the broadcast."""
    speaker: Speaker
    fragments: tuple[tuple[str, str | None], ...] = field(default=())
    """Text, and the id of the emote that it stands for."""

    @property
    def text(self) -> str:
        """The whole line."""
        return "".join(text for text, _ in self.fragments)

    @property
    def emotes(self) -> str:
        """IRC's tag ``emotes``: ``25:0-4/1902:6-10``, in code points."""
        places: dict[str, list[str]] = {}
        position = 0
        for text, emote in self.fragments:
            if emote is not None:
                places.setdefault(emote, []).append(f"{position}-{position + len(text) - 1}")
            position += len(text)
        return "/".join(f"{emote}:{','.join(found)}" for emote, found in places.items())


_NAMES = ("moss", "pixel", "lantern", "otter", "quill", "ember", "north", "velvet", "tofu", "comet", "brine", "hazel")
_ENDS = ("", "_tv", "42", "xd", "fan", "_99", "plays", "bird")
_COLORS = ("#FF4500", "#1E90FF", "#8A2BE2", "#00FF7F", "#DAA520", "", "#FF69B4")
_BADGES: tuple[tuple[tuple[str, str], ...], ...] = (
    (),
    (),
    (("subscriber", "12"),),
    (("subscriber", "0"), ("premium", "1")),
    (("moderator", "1"),),
    (("vip", "1"), ("subscriber", "24")),
)
_EMOTES = (("Kappa", "25"), ("PogChamp", "305954156"), ("LUL", "425618"), ("NotLikeThis", "58765"), ("<3", "9"))
_LINES = (
    "hello from the back row",
    "what a save",
    "again? AGAIN?",
    "gg",
    "is this the blind run",
    "first time here, love the vibes",
    "volume is fine for me",
    "naïve question: why left?",
    "今日もおつかれさまです",
    "🎉🎉🎉",
    "the 🦦 strikes back",
    "one more try and then bed",
    "<b>not bold</b> & proud",
    "clip it!",
)


def speaker_at(number: int) -> Speaker:
    """One of the regulars, the same for the same number."""
    name = f"{_NAMES[number % len(_NAMES)]}{_ENDS[number // len(_NAMES) % len(_ENDS)]}"
    display_name = "モス" if number % 31 == 7 else name.capitalize()
    return Speaker(
        id=str(90_000_000 + number),
        login=f"{name}{number}",
        display_name=display_name,
        color=_COLORS[number % len(_COLORS)],
        badges=_BADGES[number % len(_BADGES)],
    )


class ChatScript:
    """Everything that is said during one broadcast, in order."""

    def __init__(self, chat: VideoChat, *, stream: str, seed: int, duration_s: float) -> None:
        self._name = f"{seed}/{stream}"
        chance = random.Random(self._name)
        self._offsets = array("q")
        # Second by second, so that a broadcast that has gone on says nothing else about its beginning.
        for second in range(math.ceil(duration_s)):
            count = int(chat.per_second) + (chance.random() < chat.per_second % 1)
            if second == chat.dense_second:
                count += DENSE
            self._offsets.extend(sorted(second * 1000 + chance.randrange(1000) for _ in range(count)))

    def __len__(self) -> int:
        return len(self._offsets)

    def index_at(self, offset_ms: int) -> int:
        """The number of the first line at or after ``offset_ms``."""
        return bisect_left(self._offsets, offset_ms)

    def line(self, index: int) -> ChatLine:
        """The line with this number."""
        chance = random.Random(f"{self._name}/{index}")
        fragments: list[tuple[str, str | None]] = [(chance.choice(_LINES), None)]
        if chance.random() < 0.35:
            name, emote = chance.choice(_EMOTES)
            fragments += [(" ", None), (name, emote)]
        return ChatLine(
            id=str(uuid.UUID(int=chance.getrandbits(128), version=4)),
            offset_ms=self._offsets[index],
            speaker=speaker_at(chance.randrange(200)),
            fragments=tuple(fragments),
        )

    def between(self, start_ms: int, end_ms: int) -> Iterator[ChatLine]:
        """The lines from ``start_ms`` until before ``end_ms``."""
        for index in range(self.index_at(start_ms), self.index_at(end_ms)):
            yield self.line(index)
