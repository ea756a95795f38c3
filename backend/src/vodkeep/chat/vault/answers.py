"""What the providers' answers say, as entries. Each is read on its own: one that cannot be read costs only itself.

Sources, read in November 2026: https://dev.twitch.tv/docs/api/reference/#get-global-emotes (and channel emotes,
and both kinds of badges), https://betterttv.com/developers/api, https://api.frankerfacez.com/docs/, https://7tv.io/docs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from vodkeep.chat.vault.addresses import MAX_LENGTH
from vodkeep.chat.vault.model import Entry, SetAnswer
from vodkeep.errors import ServerError

MAX_ENTRIES = 3000
"""Of one set; 7TV, the most generous, has 1000 in a channel's."""

_WANTED_SCALES = ("3", "4", "2", "1")
"""Three times the size of the text is sharp on every screen; where there is none, the next larger."""

_Code = Annotated[str, Meta(pattern=r"^[^\s\x00-\x1f\x7f]{1,100}$")]
_Ref = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class _TwitchEmote(Struct):
    id: _Ref
    name: _Code


class _BadgeVersion(Struct):
    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    image_url_4x: str | None = None
    image_url_2x: str | None = None
    title: str | None = None


class _BadgeSet(Struct):
    set_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    versions: list[Raw]


class _HelixList(Struct):
    data: list[Raw]


class _BttvEmote(Struct):
    id: _Ref
    code: _Code


class _BttvUser(Struct):
    channel_emotes: list[Raw] = msgspec.field(name="channelEmotes")
    shared_emotes: list[Raw] = msgspec.field(name="sharedEmotes")


class _FfzEmote(Struct):
    id: int
    name: _Code
    urls: dict[str, str | None]
    animated: dict[str, str | None] | None = None
    modifier: bool = False


class _FfzSet(Struct):
    emoticons: list[Raw]


class _FfzGlobal(Struct):
    default_sets: list[int]
    sets: dict[str, _FfzSet]


class _FfzRoom(Struct):
    sets: dict[str, _FfzSet]


class _SevenTvFile(Struct):
    name: str


class _SevenTvHost(Struct):
    url: str
    files: list[_SevenTvFile]


class _SevenTvData(Struct):
    host: _SevenTvHost
    flags: int = 0


class _SevenTvEmote(Struct):
    id: _Ref
    name: _Code
    data: _SevenTvData
    flags: int = 0


class _SevenTvSet(Struct):
    # A set without emotes leaves the list out.
    emotes: list[Raw] | UnsetType | None = UNSET


class _SevenTvUser(Struct):
    emote_set: _SevenTvSet | UnsetType | None


def twitch_emote_url(cdn_url: str, ref: str) -> str:
    """Where the image of a Twitch emote is, moving if it moves, for a dark background."""
    return f"{cdn_url}/emoticons/v2/{ref}/default/dark/3.0"


def twitch_emotes(body: bytes, cdn_url: str) -> SetAnswer:
    """Helix: global or channel emotes. Raises `ServerError`, as all of these, when the answer cannot be read."""

    def entry(raw: Raw) -> list[Entry]:
        emote = msgspec.json.decode(raw, type=_TwitchEmote)
        return [Entry(emote.name, emote.id, twitch_emote_url(cdn_url, emote.id))]

    return _answer(_decode(body, _HelixList).data, entry)


def twitch_badges(body: bytes, api_url: str) -> SetAnswer:
    """Helix: global or channel badges."""

    def entries(raw: Raw) -> list[Entry]:
        badges = msgspec.json.decode(raw, type=_BadgeSet)
        return [_badge(badges.set_id, version, api_url) for version in badges.versions]

    return _answer(_decode(body, _HelixList).data, entries)


def _badge(set_id: str, raw: Raw, api_url: str) -> Entry:
    version = msgspec.json.decode(raw, type=_BadgeVersion)
    code = f"{set_id}/{version.id}"
    url = _absolute(version.image_url_4x or version.image_url_2x or "", api_url)
    title = "".join(c if c.isprintable() else " " for c in version.title or "")
    return Entry(code, code, url, title=title[:200])


def bttv_global(body: bytes, cdn_url: str) -> SetAnswer:
    """BTTV: the emotes that hold everywhere."""
    return _answer(_decode(body, list[Raw]), lambda raw: [_bttv(raw, cdn_url)])


def bttv_channel(body: bytes, cdn_url: str) -> SetAnswer:
    """BTTV: a channel's own emotes and those it shares with others."""
    user = _decode(body, _BttvUser)
    return _answer([*user.channel_emotes, *user.shared_emotes], lambda raw: [_bttv(raw, cdn_url)])


_BTTV_ZERO_WIDTH = frozenset(
    {"SoSnowy", "IceCold", "SantaHat", "TopHat", "ReinDeer", "CandyCane", "cvHazmat", "cvMask"}
)
"""BTTV does not say which emotes are drawn over others; these are."""


def _bttv(raw: Raw, cdn_url: str) -> Entry:
    emote = msgspec.json.decode(raw, type=_BttvEmote)
    return Entry(emote.code, emote.id, f"{cdn_url}/emote/{emote.id}/3x", emote.code in _BTTV_ZERO_WIDTH)


def ffz_global(body: bytes, api_url: str) -> SetAnswer:
    """FFZ: the sets that everybody has; others in the answer belong to single people."""
    answer = _decode(body, _FfzGlobal)
    sets = [answer.sets[str(number)] for number in answer.default_sets if str(number) in answer.sets]
    return _ffz_sets(sets, api_url)


def ffz_channel(body: bytes, api_url: str) -> SetAnswer:
    """FFZ: the set of a room."""
    return _ffz_sets(_decode(body, _FfzRoom).sets.values(), api_url)


def _ffz_sets(sets: Iterable[_FfzSet], api_url: str) -> SetAnswer:
    return _answer([raw for each in sets for raw in each.emoticons], lambda raw: [_ffz(raw, api_url)])


def _ffz(raw: Raw, api_url: str) -> Entry:
    emote = msgspec.json.decode(raw, type=_FfzEmote)
    urls = emote.animated or emote.urls
    url = next((url for scale in _WANTED_SCALES if (url := urls.get(scale))), "")
    return Entry(emote.name, str(emote.id), _absolute(url, api_url), emote.modifier)


_SEVENTV_ZERO_WIDTH = 1  # in a set's entry
_SEVENTV_DATA_ZERO_WIDTH = 256  # in the emote itself


def seventv_global(body: bytes, api_url: str) -> SetAnswer:
    """7TV: the global set."""
    return _seventv_set(_decode(body, _SevenTvSet), api_url)


def seventv_channel(body: bytes, api_url: str) -> SetAnswer:
    """7TV: the set that a channel uses; it may use none."""
    used = _decode(body, _SevenTvUser).emote_set
    return SetAnswer(()) if used is None or used is UNSET else _seventv_set(used, api_url)


def _seventv_set(emotes: _SevenTvSet, api_url: str) -> SetAnswer:
    return _answer(emotes.emotes or (), lambda raw: [_seventv(raw, api_url)])


def _seventv(raw: Raw, api_url: str) -> Entry:
    emote = msgspec.json.decode(raw, type=_SevenTvEmote)
    names = [file.name for file in emote.data.host.files if re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", file.name)]
    # WebP moves in every browser and player; AVIF is smaller, and not everything draws it.
    wanted = [f"{scale}x.{form}" for form in ("webp", "gif", "png", "avif") for scale in _WANTED_SCALES]
    name = next((name for name in wanted if name in names), None)
    if name is None:
        raise msgspec.ValidationError("it has no image that is kept")
    zero_width = bool(emote.flags & _SEVENTV_ZERO_WIDTH or emote.data.flags & _SEVENTV_DATA_ZERO_WIDTH)
    return Entry(emote.name, emote.id, _absolute(f"{emote.data.host.url.rstrip('/')}/{name}", api_url), zero_width)


_T = TypeVar("_T")


def _decode(body: bytes, shape: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ServerError(f"The answer cannot be read: {str(error)[:160]}.") from error


def _answer(entries: Sequence[Raw], read: Callable[[Raw], list[Entry]]) -> SetAnswer:
    """The entries that can be read, each code once; raises `ServerError` when there are some and none can."""
    found: dict[str, Entry] = {}
    whole = True
    for entry in _read_each(entries, read):
        if entry is None or (len(found) >= MAX_ENTRIES and entry.code not in found):
            whole = False
        else:
            found.setdefault(entry.code, entry)
    if entries and not found:
        raise ServerError("The answer lists emotes, and none of them can be read.")
    return SetAnswer(tuple(found.values()), whole)


def _read_each(entries: Sequence[Raw], read: Callable[[Raw], list[Entry]]) -> Iterator[Entry | None]:
    """Each entry, and None for each that cannot be read."""
    for raw in entries:
        try:
            yield from read(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            yield None


def _absolute(url: str, api_url: str) -> str:
    """The address with its scheme, which FFZ and 7TV leave out. Whether it may be asked is looked at when it is."""
    url = f"{api_url.partition(':')[0]}:{url}" if url.startswith("//") else url
    if not url or len(url) > MAX_LENGTH or not url.isascii() or not url.isprintable():
        raise msgspec.ValidationError("it has no address")
    return url
