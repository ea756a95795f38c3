"""Which emotes and badges exist. Plain lists and dictionaries, so that a test changes a set while it is served."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from uuid import NAMESPACE_URL, uuid5

Form = Literal["png", "apng", "gif", "webp", "awebp", "avif"]
"""What the image is; ``apng`` and ``awebp`` move, and so does every ``gif``."""

GLOBAL = ""
"""In the place of a channel id."""


@dataclass(frozen=True, slots=True)
class Emote:
    """An emote of any provider."""

    id: str
    code: str
    form: Form = "png"
    zero_width: bool = False

    @property
    def animated(self) -> bool:
        """Whether it moves."""
        return self.form in ("apng", "gif", "awebp")


@dataclass(frozen=True, slots=True)
class Badge:
    """One version of a badge; ``image`` is the UUID in its address."""

    set_id: str
    version: str
    title: str
    image: str


@dataclass(slots=True)
class EmoteCatalog:
    """Sets by channel id, the global one under ``GLOBAL``. A channel that is missing is unknown to the provider."""

    twitch: dict[str, list[Emote]] = field(default_factory=dict)
    bttv: dict[str, list[Emote]] = field(default_factory=dict)
    ffz: dict[str, list[Emote]] = field(default_factory=dict)
    seventv: dict[str, list[Emote]] = field(default_factory=dict)
    badges: dict[str, list[Badge]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    """Ids of images that their host answers with 404."""

    def form_of(self, emote_id: str) -> Form:
        """What the image of an emote is; those that no set lists are PNGs."""
        sets = (self.twitch, self.bttv, self.ffz, self.seventv)
        listed = (emote for provider in sets for emotes in provider.values() for emote in emotes)
        return next((emote.form for emote in listed if emote.id == emote_id), "png")


def builtin_emotes(channel_ids: list[str]) -> EmoteCatalog:
    """A few of everything; each channel has its own under the same codes."""
    catalog = EmoteCatalog(
        twitch={
            GLOBAL: [Emote("25", "Kappa"), Emote("1902", "Keepo"), Emote("354", "4Head"), Emote("86", "BibleThump")]
        },
        bttv={GLOBAL: [Emote("54fa8f1401e468494b85b537", ":tf:"), Emote("5e76d338d6581c3724c0f0b2", "monkaS", "gif")]},
        ffz={GLOBAL: [Emote("27081", "ZreknarF"), Emote("128054", "OMEGALUL", "awebp")]},
        seventv={
            GLOBAL: [
                Emote("01GAM8EFQ00004MXFXAJYKA859", "EZ", "webp"),
                Emote("01GB4EQ6500000G93PH6KSQ6Q1", "RainTime", "awebp", zero_width=True),
                Emote("01GB9W8JN80004CKF2H1TWA99H", "YEAHBUT7TV", "avif"),
            ]
        },
        badges={
            GLOBAL: [
                Badge("broadcaster", "1", "Broadcaster", _uuid("broadcaster")),
                Badge("moderator", "1", "Moderator", _uuid("moderator")),
                Badge("vip", "1", "VIP", _uuid("vip")),
                Badge("subscriber", "0", "Subscriber", _uuid("subscriber")),
                Badge("premium", "1", "Prime Gaming", _uuid("premium")),
            ]
        },
    )
    for number, channel_id in enumerate(channel_ids, start=1):
        catalog.twitch[channel_id] = [
            Emote(f"30{number}0001", f"lumen{number}Wave"),
            Emote(f"emotesv2_{number:032x}", f"lumen{number}Dance", "gif"),
        ]
        catalog.bttv[channel_id] = [Emote(f"5f0{number:021x}", "catJAM", "gif"), Emote(f"5f1{number:021x}", "Clap")]
        catalog.ffz[channel_id] = [Emote(f"4500{number:02d}", "LULW"), Emote(f"4501{number:02d}", "Pog", "awebp")]
        catalog.seventv[channel_id] = [Emote(f"01F{number:023d}", "peepoHappy", "webp")]
        catalog.badges[channel_id] = [
            Badge("subscriber", months, f"{months}-Month Subscriber", _uuid(f"{channel_id} subscriber {months}"))
            for months in ("0", "3", "6", "12")
        ]
    return catalog


def _uuid(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"https://badges.invalid/{name}"))
