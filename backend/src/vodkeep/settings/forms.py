"""The forms a variable's value can have: how each is read from text, shown again, and what people are told.

A reader returns the typed value or raises ``ValueError`` with the rest of a sentence that begins with the variable
and its value: ``VOD_PROCESS_INTERVAL is "5 minutes" but`` + ``must be a duration such as 30s, 5m, 6h or 1h30m``.
"""

from __future__ import annotations

import base64
import binascii
import re
import shlex
import string
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, TypeVar
from urllib.parse import SplitResult, urlsplit

from pydantic import GetCoreSchemaHandler, SecretStr
from pydantic_core import CoreSchema, core_schema

from vodkeep.durations import format_duration, parse_duration
from vodkeep.quality import Quality, parse_quality
from vodkeep.settings.dsn import MASK, mask_address, parse_dsn

FOLDER_PLACEHOLDERS = ("channel", "date", "year", "title", "id")
VIDEO_PLACEHOLDERS = ("title", "channel", "name", "date", "time", "id")
DESCRIPTION_PLACEHOLDERS = (*VIDEO_PLACEHOLDERS, "description", "chapters", "provenance", "url", "duration", "parts")

_LARGEST_COUNT = 1_000_000

T = TypeVar("T")


class HttpAddress(NamedTuple):
    """Where the web server listens; an empty host means every interface, port 0 any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ChannelRetention(NamedTuple):
    """The limits of one channel; without any, nothing of it goes."""

    login: str
    keep_days: int | None
    keep_count: int | None
    keep_bytes: int | None

    def __str__(self) -> str:
        limits = {"days": self.keep_days, "count": self.keep_count}
        words = [f"{kind}:{limit}" for kind, limit in limits.items() if limit is not None]
        words += [] if self.keep_bytes is None else [f"bytes:{_show_size(self.keep_bytes)}"]
        return f"{self.login}={' '.join(words) or 'keep'}"


def _show(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "1" if value else "0"
        case timedelta():
            return format_duration(value)
        case SecretStr():
            return MASK
        case HttpAddress():
            return str(value)
        case tuple():
            return ",".join(map(str, value))
        case _:
            return str(value)


@dataclass(frozen=True, slots=True)
class Form:
    """One form of value; stands in the annotation of a settings field."""

    unit: str  # what the value counts or is, in a word or two for the documentation
    read: Callable[[str], object]
    show: Callable[[Any], str] = _show  # the typed value as text, secrets masked
    mask: Callable[[str], str] = str  # raw text as it may appear in a sentence
    lines: bool = False  # whether it may have more than one line

    def __get_pydantic_core_schema__(self, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read text first; a value that already has its type passes."""
        return core_schema.no_info_before_validator_function(
            lambda value: self.read(value) if isinstance(value, str) else value, handler(source)
        )


# --- durations, counts, switches -------------------------------------------------------------------------


def _duration(smallest: timedelta) -> Callable[[str], timedelta]:
    def read(text: str) -> timedelta:
        value = parse_duration(text)
        if value < smallest:
            raise ValueError(f"must be a duration of at least {format_duration(smallest)}")
        return value

    return read


def _count(smallest: int, largest: int = _LARGEST_COUNT) -> Callable[[str], int]:
    def read(text: str) -> int:
        # Ten digits are more than enough; int() alone would also take "1_000", " 5" and the digits of other scripts.
        if not re.fullmatch(r"-?[0-9]{1,10}", text) or not smallest <= int(text) <= largest:
            raise ValueError(f"must be a whole number from {smallest} to {largest}")
        return int(text)

    return read


def _limit(text: str) -> int | None:
    """Zero switches a limit off, as in the reference service."""
    return _count(0)(text) or None


_SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _switch(text: str) -> bool:
    try:
        return _SWITCH[text.lower()]
    except KeyError:
        raise ValueError("must be 1 or 0 (true, yes and on; false, no and off work as well)") from None


_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([KMG]i?B?|[kmg]i?b?|B)?(?:/s)?")
_RATE_POWER = {"K": 1, "M": 2, "G": 3}
_SLOWEST_RATE = 10_000  # bytes/s; a plain "10" or "500" is a forgotten unit, not a wish
_FASTEST_RATE = 10**12


def parse_rate(text: str) -> int:
    """Bytes per second from ``500K``, ``10MB``, ``1.5MB/s`` (decimal) or ``2MiB`` (binary).

    Raises ``ValueError`` for less than 10 KB/s, and for ``Mb``, which means bits to half of its readers.
    """
    found = _RATE.fullmatch(text)
    if found is None:
        raise ValueError("must be a rate in bytes per second such as 500K, 10MB or 2MiB")
    amount, unit = found.group(1), found.group(2) or ""
    factor: int = (1024 if "i" in unit else 1000) ** _RATE_POWER.get(unit[:1].upper(), 0)
    whole, _, fraction = amount.partition(".")
    parts: int = 10 ** len(fraction)
    rate = int(whole) * factor + int(fraction or "0") * factor // parts
    if not _SLOWEST_RATE <= rate <= _FASTEST_RATE:
        raise ValueError("must be a rate between 10K and 1000G bytes per second; write the unit, as in 10MB")
    return rate


def _retention_rules(text: str) -> tuple[ChannelRetention, ...]:
    rules: dict[str, ChannelRetention] = {}
    for item in _items(text):
        name, equals, words = item.partition("=")
        if not equals or not words.strip():
            raise ValueError('must be channels with their limits, such as "somebody=keep,another=days:30 count:10"')
        try:
            rule = _retention_rule(parse_login(name.strip()), words.split())
        except ValueError as error:
            raise ValueError(f'has "{item}" in it, which {error}') from error
        if rules.setdefault(rule.login, rule) != rule:
            raise ValueError(f"must name the limits of {rule.login} once")
    return tuple(rules.values())


def _retention_rule(login: str, words: list[str]) -> ChannelRetention:
    if words == ["keep"]:
        return ChannelRetention(login, None, None, None)
    readers: dict[str, Callable[[str], int]] = {"days": _count(1), "count": _count(1), "bytes": parse_size}
    limits: dict[str, int] = {}
    for word in words:
        kind, _, value = word.partition(":")
        if kind not in readers or kind in limits:
            raise ValueError("must have keep, or each of days:, count: and bytes: at most once")
        limits[kind] = readers[kind](value)
    return ChannelRetention(login, limits.get("days"), limits.get("count"), limits.get("bytes"))


def _show_retention_rules(rules: tuple[ChannelRetention, ...]) -> str:
    return ",".join(map(str, rules))


def _show_rate(rate: int | None) -> str:
    if rate is None:
        return ""
    for prefix, factor in (("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if rate % factor == 0:
            return f"{rate // factor}{prefix}B"
    return f"{rate}B"


_SIZE = re.compile(r"([0-9]{1,6})([KMGT]i?B)")
_SIZE_POWER = {**_RATE_POWER, "T": 4}


def parse_size(text: str) -> int:
    """Bytes from ``256GB`` (decimal) or ``64MiB`` (binary); raises ``ValueError`` for none and without a unit."""
    found = _SIZE.fullmatch(text)
    if found is None or not int(found.group(1)):
        raise ValueError("must be a size in bytes such as 256GB, 500MB or 64MiB")
    unit = found.group(2)
    factor: int = (1024 if "i" in unit else 1000) ** _SIZE_POWER[unit[0]]
    return int(found.group(1)) * factor


def _chunk_size(text: str) -> int:
    """YouTube takes chunks in steps of 256 KiB; larger than 1 GiB would be no chunk any more."""
    size = parse_size(text)
    if size % (256 * 1024) or size > 1024**3:
        raise ValueError("must be a multiple of 256KiB, and at most 1GiB, such as 8MiB or 32MiB")
    return size


def _show_size(size: int) -> str:
    for prefix, power in reversed(_SIZE_POWER.items()):
        for infix, base in (("", 1000), ("i", 1024)):
            if size % base**power == 0:
                return f"{size // base**power}{prefix}{infix}B"
    return f"{size}B"


def _choice(*words: str, also: dict[str, str] | None = None) -> Callable[[str], str]:
    known = {word: word for word in words} | (also or {})

    def read(text: str) -> str:
        try:
            return known[text.lower()]
        except KeyError:
            raise ValueError(f"must be one of {', '.join(words)}") from None

    return read


# --- names and addresses ---------------------------------------------------------------------------------

_TWITCH_PAGE = re.compile(r"(?i)(?:https?://)?(?:www\.|m\.)?twitch\.tv/([^/?#]+)(?:[/?#].*)?")
# Twitch asks new names to have 4 to 25 characters, but shorter ones from before that rule are alive ("xqc").
_LOGIN = re.compile(r"[a-z0-9_]{1,25}")
# What stands in the place of a login in addresses that are not a channel's.
_NO_CHANNEL = frozenset({"directory", "downloads", "p", "search", "settings", "subscriptions", "videos", "wallet"})


def parse_login(text: str) -> str:
    """A Twitch login in lower case; ``#name``, ``@name`` and the address of a channel's page are understood."""
    page = _TWITCH_PAGE.fullmatch(text)
    login = (page.group(1) if page else text.removeprefix("#").removeprefix("@")).lower()
    if page and login in _NO_CHANNEL:
        raise ValueError("must be a Twitch login or the address of a channel's page, which this address is not")
    if not _LOGIN.fullmatch(login):
        hint = "; several belong into TWITCH_CHANNELS" if re.search(r"[,;\s]", text) else ""
        raise ValueError(f"must be a Twitch login (1 to 25 of a-z, 0-9 and _){hint}")
    return login


def _logins(text: str) -> tuple[str, ...]:
    logins: list[str] = []
    for item in _items(text):
        try:
            logins.append(parse_login(item))
        except ValueError as error:
            raise ValueError(
                f'must be Twitch logins (1 to 25 of a-z, 0-9 and _) with commas between, which "{item}" is not'
            ) from error
    return tuple(dict.fromkeys(logins))


def _by_channel(read: Callable[[str], T], what: str, example: str) -> Callable[[str], tuple[tuple[str, T], ...]]:
    """A reader of ``login=value`` with commas between; ``what`` is a value in a word, such as "quality"."""

    def read_all(text: str) -> tuple[tuple[str, T], ...]:
        found: dict[str, T] = {}
        for item in _items(text):
            name, equals, rest = item.partition("=")
            if not equals:
                raise ValueError(f'must be channels with a {what} each, such as "{example}"')
            try:
                login, value = parse_login(name.strip()), read(rest.strip())
            except ValueError as error:
                raise ValueError(f'has "{item}" in it, which {error}') from error
            if found.setdefault(login, value) != value:
                raise ValueError(f"must name one {what} for {login}, not {found[login]} and {value}")
        return tuple(found.items())

    return read_all


def _show_by_channel(value: tuple[tuple[str, object], ...]) -> str:
    return ",".join(f"{login}={each}" for login, each in value)


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.split(r"[,\s]+", text.strip(", ")))


_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


def _split_web_url(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        usable = url.scheme in ("http", "https") and url.hostname is not None and url.port != 0
    except ValueError:  # a port out of range, brackets that do not match
        usable = False
    else:
        usable = usable and (":" in (url.hostname or "") or _HOST.fullmatch(url.hostname or "") is not None)
    if not usable or re.search(r"\s", text):
        raise ValueError("must be a web address such as https://host or http://host:8080/path")
    if "@" in url.netloc:
        raise ValueError("must be a web address without a user name and password")
    return url


def _web_url(text: str) -> str:
    """A base address; a slash at its end is dropped, so that paths can be appended."""
    url = _split_web_url(text)
    if url.query or url.fragment or "?" in text or "#" in text:
        raise ValueError("must be a web address without ? and #")
    return text.rstrip("/")


def _chat_url(text: str) -> str:
    """A scheme, a host and a port; nothing of a chat's address stands behind the port."""
    expected = "must be a chat address such as ircs://irc.chat.twitch.tv:6697"
    found = re.fullmatch(r"(ircs?)://([^/?#@\s]+)", text)
    if found is None:
        raise ValueError(expected)
    address = _listen_address_of(found[2], expected)
    if not address.host or not address.port:
        raise ValueError(f"{expected}, with a host and a port")
    return f"{found[1]}://{address}"


def _redirect_url(text: str) -> str:
    _split_web_url(text)
    return text


def _origins(text: str) -> tuple[str, ...]:
    origins = []
    for item in _items(text):
        try:
            origins.append(item if item == "*" else _origin(item))
        except ValueError as error:
            raise ValueError(
                "must be * or origins such as https://vods.example.org with commas between, "
                f'which "{mask_address(item)}" is not'
            ) from error
    return tuple(dict.fromkeys(origins))


def _origin(text: str) -> str:
    """An origin as browsers send it (RFC 6454, section 6.2): lower case, nothing after the port."""
    url = _split_web_url(text)
    if text.partition("://")[2].rstrip("/") != url.netloc:
        raise ValueError("must be an origin")
    return f"{url.scheme}://{url.netloc.lower()}"


def _listen_address(text: str) -> HttpAddress:
    expected = "must be host:port or :port, such as 127.0.0.1:8080, [::1]:8080 or :8080 (every interface)"
    return _listen_address_of(text, expected)


def _listen_address_of(text: str, expected: str) -> HttpAddress:
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"{expected}, with a port from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            IPv6Address(host)
        except ValueError:
            raise ValueError(expected) from None
    elif host == "*":
        host = ""
    elif host and not _HOST.fullmatch(host):
        raise ValueError(expected)
    return HttpAddress(host, int(port))


# --- files, programs, secrets ----------------------------------------------------------------------------


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError("must be a path; the user after ~ is not known on this machine") from None


def _check_placeholders(text: str, placeholders: tuple[str, ...]) -> list[str]:
    """The placeholders in a template; raises ``ValueError`` for one that is not known, or is not used as it is."""
    known = ", ".join(f"{{{name}}}" for name in placeholders)
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError:
        raise ValueError(f"must have its braces in pairs; known are {known}") from None
    names = [name for _, name, _, _ in parts if name is not None]
    if unknown := [name for name in names if name not in placeholders]:
        raise ValueError(f"must use only the placeholders {known}, not {{{unknown[0]}}}")
    if any(form or conversion for _, _, form, conversion in parts):
        raise ValueError(f"must use the placeholders as they are ({known}), without : or ! inside the braces")
    return names


def _video_template(text: str) -> str:
    _check_placeholders(text, VIDEO_PLACEHOLDERS)
    return text


def _description_template(text: str) -> str:
    """A line ends with a real line end or with the two characters that stand for one."""
    lines = text.replace("\\n", "\n")
    _check_placeholders(lines, DESCRIPTION_PLACEHOLDERS)
    return lines


def _tag_templates(text: str) -> tuple[str, ...]:
    return tuple(_video_template(tag) for tag in _items(text))


def _folder_template(text: str) -> str:
    names = _check_placeholders(text, FOLDER_PLACEHOLDERS)
    if "id" not in names:
        raise ValueError("must contain {id}, or two broadcasts of one name and day would share a folder")
    path = PurePosixPath(text)
    if path.is_absolute() or "\\" in text or {".", ".."} & set(text.split("/")) or "" in text.split("/"):
        raise ValueError("must be a relative path below DATA_DIR, without . or .. or empty parts or backslashes")
    if text.split("/", 1)[0] in (".work", ".trash"):
        raise ValueError("must not begin with .work or .trash, where unfinished work and what was let go is kept")
    if len(text.encode()) > 200:
        raise ValueError("must have at most 200 bytes")
    return text


def _arguments(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError:
        raise ValueError("must be arguments as a shell takes them, with every quote closed") from None


_SECRET_OPTION = re.compile(
    r"(?i)(?P<option>(?:--[a-z-]*(?:password|twofactor)|--add-headers?|--username|-p|-u|-2)(?:=|\s+))"
    r"(?P<value>'[^']*'|\"[^\"]*\"|\S+)"
)


def _mask_arguments(text: str) -> str:
    """Arguments without the values of options that carry credentials, and without passwords in addresses."""
    hidden = _SECRET_OPTION.sub(lambda found: found["option"] + MASK, text)
    return " ".join(mask_address(word) if "://" in word else word for word in hidden.split(" "))


def _secret(shortest: int) -> Callable[[str], SecretStr]:
    def read(text: str) -> SecretStr:
        if len(text) < shortest:
            raise ValueError(f"must have at least {shortest} characters")
        return SecretStr(text)

    return read


def _chat_token(text: str) -> SecretStr:
    token = text.removeprefix("oauth:")
    if not re.fullmatch(r"[A-Za-z0-9]{4,200}", token):
        raise ValueError("must be a Twitch token of letters and digits, with or without oauth: before it")
    return SecretStr(token)


def _identifier(text: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]{1,200}", text):
        raise ValueError("must be one word without spaces")
    return text


def _vod_id(text: str) -> str:
    """Twitch's id of a video: digits, and nothing of its address."""
    if not re.fullmatch(r"[0-9]{1,20}", text):
        raise ValueError("must be the id of a Twitch VOD, such as 2345678901 (the digits of its address)")
    return text


def _moment(text: str) -> datetime:
    """A moment as RFC 3339 writes it; raises `ValueError` without a time zone, which would be a guess."""
    expected = "must be a time with its zone, such as 2026-11-23T14:37:00Z or 2026-11-23T15:37:00+01:00"
    if not re.fullmatch(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?([Zz]|[+-]\d\d:\d\d)", text, re.ASCII):
        raise ValueError(expected)
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(expected) from None


def _show_moment(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat().replace("+00:00", "Z")


def _user_name(text: str) -> str:
    if ":" in _identifier(text):
        raise ValueError("must not contain a colon, which ends the name in HTTP Basic authentication")
    return text


_PLAYLIST_PAGE = re.compile(r"(?i)(?:https?://)?(?:www\.|m\.|music\.)?youtube\.com/\S*[?&]list=([^&#\s]+)\S*")


def _playlist(text: str) -> str:
    """YouTube's id of a playlist, also out of the address of its page."""
    page = _PLAYLIST_PAGE.fullmatch(text)
    playlist = page.group(1) if page else text
    if not re.fullmatch(r"[A-Za-z0-9_-]{10,64}", playlist):
        raise ValueError("must be the id of a playlist of YouTube, such as PLabcdefghijklm, or the address of its page")
    return playlist


def _category(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text):
        raise ValueError("must be the number of a category of YouTube, such as 20 (Gaming) or 22 (People & Blogs)")
    return text


def _language(text: str) -> str:
    """A language as BCP 47 writes it (RFC 5646, section 2.1), as far as YouTube knows them."""
    if not re.fullmatch(r"[A-Za-z]{2,3}(?:-[A-Za-z]{4})?(?:-(?:[A-Za-z]{2}|[0-9]{3}))?", text):
        raise ValueError("must be a language such as en, de or pt-BR")
    return text


def _program(text: str) -> str:
    """A name is looked up in ``PATH`` later; a path may begin with ``~``."""
    return str(_path(text)) if "/" in text else text


def decode_key(text: str) -> bytes:
    """The 32 bytes of an AES-256 key, from 64 hex digits or from base64 (either alphabet, padding optional).

    Raises ``ValueError`` with the rest of a sentence that tells the length found, never the key.
    """
    expected = "must be a key of 32 bytes, written as base64 or as 64 hex digits"
    if re.fullmatch(r"[0-9A-Fa-f]{64}", text):
        return bytes.fromhex(text)
    body = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        key = base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(expected) from None
    if len(key) != 32:
        raise ValueError(f"{expected}; this one has {len(key)} bytes")
    return key


def _key(text: str) -> SecretStr:
    decode_key(text)
    return SecretStr(text)


def _dsn(text: str) -> SecretStr:
    parse_dsn(text)
    return SecretStr(text)


def _hide(_: str) -> str:
    return MASK


# --- the types that fields use ---------------------------------------------------------------------------

Interval = Annotated[timedelta, Form("duration", _duration(timedelta(milliseconds=10)))]
Delay = Annotated[timedelta, Form("duration", _duration(timedelta(0)))]
Count = Annotated[int, Form("count", _count(1))]
CountOrNone = Annotated[int, Form("count", _count(0))]
Downloads = Annotated[int, Form("1 to 64", _count(1, 64))]
Connections = Annotated[int, Form("1 to 32", _count(1, 32))]
Limit = Annotated[int | None, Form("count", _limit)]
Days = Annotated[int | None, Form("days", _limit)]
Switch = Annotated[bool, Form("1 or 0", _switch)]
Rate = Annotated[int | None, Form("bytes per second", parse_rate, show=_show_rate)]
OptionalSize = Annotated[
    int | None,
    Form(
        "bytes",
        lambda text: None if text == "0" else parse_size(text),
        show=lambda size: "" if size is None else _show_size(size),
    ),
]
RetentionRules = Annotated[
    tuple[ChannelRetention, ...], Form("login=limits, commas between", _retention_rules, show=_show_retention_rules)
]
Wish = Annotated[Quality, Form("quality", parse_quality)]
ChannelWishes = Annotated[
    tuple[tuple[str, Quality], ...],
    Form(
        "login=quality, commas between",
        _by_channel(parse_quality, "quality", "somebody=audio,another=720p60"),
        show=_show_by_channel,
    ),
]
Login = Annotated[str | None, Form("login", parse_login)]
Logins = Annotated[tuple[str, ...], Form("logins, commas between", _logins)]
WebUrl = Annotated[str, Form("web address", _web_url, mask=mask_address)]
OptionalWebUrl = Annotated[str | None, Form("web address", _web_url, mask=mask_address)]
ChatUrl = Annotated[str, Form("chat address", _chat_url, mask=mask_address)]
VodId = Annotated[str | None, Form("VOD id", _vod_id)]
Moment = Annotated[datetime | None, Form("time", _moment, show=_show_moment)]
RedirectUrl = Annotated[str | None, Form("web address", _redirect_url, mask=mask_address)]
Origins = Annotated[tuple[str, ...], Form("origins, commas between", _origins, mask=mask_address)]
Scopes = Annotated[tuple[str, ...], Form("addresses, spaces between", _words, show=" ".join)]
Listen = Annotated[HttpAddress, Form("host:port", _listen_address)]
Folder = Annotated[Path, Form("path", _path)]
FolderTemplate = Annotated[str, Form("template", _folder_template)]
VideoTemplate = Annotated[str, Form("template", _video_template)]
DescriptionTemplate = Annotated[
    str,
    Form("template", _description_template, show=lambda value: value.replace("\n", "\\n"), lines=True),
]
TagTemplates = Annotated[tuple[str, ...], Form("templates, commas between", _tag_templates)]
Playlist = Annotated[str | None, Form("playlist", _playlist)]
ChannelPlaylists = Annotated[
    tuple[tuple[str, str], ...],
    Form(
        "login=playlist, commas between",
        _by_channel(_playlist, "playlist", "somebody=PLabcdefghijklm"),
        show=_show_by_channel,
    ),
]
_read_privacy = _choice("private", "unlisted", "public")
Privacy = Annotated[Literal["private", "unlisted", "public"], Form("private, unlisted or public", _read_privacy)]
ChannelPrivacies = Annotated[
    tuple[tuple[str, Literal["private", "unlisted", "public"]], ...],
    Form(
        "login=privacy, commas between",
        _by_channel(_read_privacy, "privacy", "somebody=unlisted"),
        show=_show_by_channel,
    ),
]
Category = Annotated[str, Form("number", _category)]
ChannelCategories = Annotated[
    tuple[tuple[str, str], ...],
    Form("login=number, commas between", _by_channel(_category, "category", "somebody=22"), show=_show_by_channel),
]
Language = Annotated[str | None, Form("language", _language)]
Size = Annotated[int, Form("bytes", parse_size, show=_show_size)]
ChunkSize = Annotated[int, Form("bytes", _chunk_size, show=_show_size)]
Program = Annotated[str | None, Form("path or name", _program)]
Arguments = Annotated[
    tuple[str, ...],
    Form("arguments", _arguments, show=lambda value: _mask_arguments(shlex.join(value)), mask=_mask_arguments),
]
Identifier = Annotated[str | None, Form("text", _identifier)]
UserName = Annotated[str | None, Form("text", _user_name)]
Secret = Annotated[SecretStr | None, Form("secret", _secret(4), mask=_hide)]
AdminSecret = Annotated[SecretStr | None, Form("secret, 8 characters or more", _secret(8), mask=_hide)]
ChatToken = Annotated[SecretStr | None, Form("secret", _chat_token, mask=_hide)]
EncryptionKey = Annotated[SecretStr | None, Form("32 bytes, base64 or hex", _key, mask=_hide)]
Dsn = Annotated[
    SecretStr | None,
    Form(
        "database address",
        _dsn,
        show=lambda value: mask_address(value.get_secret_value()) if value is not None else "",
        mask=mask_address,
    ),
]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"],
    Form("level", _choice("debug", "info", "warning", "error", also={"warn": "warning"})),
]
LogFormat = Annotated[Literal["text", "json"], Form("text or json", _choice("text", "json"))]
Ownership = Annotated[Literal["self", "authorized"] | None, Form("self or authorized", _choice("self", "authorized"))]
