"""The words of the vault: providers, sets, what a code meant, and what an image is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Provider(StrEnum):
    """Who defines emotes and badges."""

    TWITCH = "twitch"
    BTTV = "bttv"
    FFZ = "ffz"
    SEVENTV = "7tv"


class Kind(StrEnum):
    """What a set holds."""

    EMOTE = "emote"
    BADGE = "badge"


GLOBAL = ""
"""In the place of a channel id: a set that holds in every channel."""


@dataclass(frozen=True, slots=True)
class SetKey:
    """One set of a provider: global, or a channel's own."""

    provider: Provider
    kind: Kind
    channel_id: str = GLOBAL  # a broadcaster id


@dataclass(frozen=True, slots=True)
class Entry:
    """What one code means in one set."""

    code: str  # what is typed ("Kappa"); of a badge "<set>/<version>" ("subscriber/12")
    ref: str  # the provider's id of it; emote ranges name Twitch's
    url: str  # where its image is
    zero_width: bool = False  # drawn over the emote before it
    title: str = ""  # of a badge, what it says when pointed at


@dataclass(frozen=True, slots=True)
class SetAnswer:
    """What a provider says about a set."""

    entries: tuple[Entry, ...]
    whole: bool = True  # False: some of it could not be read or was too much, so what is absent here may still exist


class ImageType(StrEnum):
    """The types that are kept, by their media type. No SVG: it can carry scripts."""

    PNG = "image/png"
    GIF = "image/gif"
    WEBP = "image/webp"
    AVIF = "image/avif"
    JPEG = "image/jpeg"

    @property
    def extension(self) -> str:
        """Of the file, without a dot."""
        return {ImageType.JPEG: "jpg"}.get(self, self.value.removeprefix("image/"))


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the bytes of an image say."""

    type: ImageType
    width: int  # px
    height: int  # px
    animated: bool


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image in the vault."""

    hash: str  # BLAKE3 of the bytes, 64 hex digits
    facts: ImageFacts
    size_bytes: int

    @property
    def file_name(self) -> str:
        """Its place below the vault's folder: ``ab/abcd….webp``."""
        return f"{self.hash[:2]}/{self.hash}.{self.facts.type.extension}"


@dataclass(frozen=True, slots=True)
class Span:
    """An entry and when it held. Times in Unix milliseconds."""

    set: SetKey
    entry: Entry
    valid_from_ms: int
    valid_to_ms: int | None  # exclusive; None: still
