"""Keeps secrets out of everything that is logged.

Three nets, because each alone has holes: fields are masked by their name, known values are masked wherever
they appear (also percent-encoded, quoted or inside a traceback), and a few shapes that always carry a
credential (``Authorization`` values, ``token=`` in an address, a password before ``@``) are masked by
pattern.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from math import isfinite
from urllib.parse import quote, quote_plus

MASK = "***"

# Shorter values would blot out ordinary words and digits; settings refuse such credentials anyway.
_SHORTEST_VALUE = 4
_DEEPEST = 8
_LONGEST_TEXT = 16_384  # characters; a foreign body in an error is cut, not carried whole

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET_WORDS = frozenset(
    {
        "token",
        "tokens",
        "secret",
        "secrets",
        "password",
        "passwd",
        "authorization",
        "cookie",
        "credentials",
        "apikey",
    }
)
_SECRET_PAIRS = frozenset(
    {("api", "key"), ("encryption", "key"), ("private", "key"), ("client", "key"), ("set", "cookie")}
)

_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    # token=..., sig=... in an address or a form body: Twitch's playback tokens and OAuth requests.
    (
        re.compile(
            r"(?i)(?<![a-z_-])([a-z_-]*token|[a-z_-]*secret|[a-z_-]*password|passwd|sig|nauthsig|nauth)"
            r"(=|%3D)([^&\s\"'<>]+)"
        ),
        rf"\1\2{MASK}",
    ),
    # "access_token": "..." in a JSON body that ended up in an error.
    (
        re.compile(
            r"(?i)([\"'](?:access_token|refresh_token|token|client_secret|password|authorization|signature)[\"']\s*:\s*)"
            r"(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')"
        ),
        rf'\1"{MASK}"',
    ),
    # The look-ahead asks for a digit or mixed case: "OAuth application" is prose.
    (
        re.compile(
            r"\b((?i:bearer|basic|oauth))\s+(?=\S{0,200}[0-9]|\S{0,99}[a-z]\S{0,99}[A-Z])[A-Za-z0-9+/._~=-]{8,}"
        ),
        rf"\1 {MASK}",
    ),
    (re.compile(r"(?i)\boauth:[a-z0-9]{8,}"), f"oauth:{MASK}"),
    (re.compile(r"(?<![a-zA-Z0-9+.-])([a-zA-Z][a-zA-Z0-9+.-]*://[^\s/:@]*):[^\s/@]+@"), rf"\1:{MASK}@"),
)


class SecretMask:
    """Known secret values and how to blot them out of text."""

    def __init__(self) -> None:
        self._values: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None

    def add(self, values: Iterable[object]) -> None:
        """Mask ``values`` from now on: ``str`` or pydantic's ``SecretStr``; ``None`` is skipped."""
        known = set(self._values)
        for value in values:
            text = _reveal(value)
            if len(text) >= _SHORTEST_VALUE:
                known.update(_spellings(text))
        self._values = frozenset(known)
        # Longest first, so that a value that contains another one is masked whole.
        ordered = sorted(known, key=lambda value: (-len(value), value))
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def clear(self) -> None:
        """Forget every value."""
        self._values, self._pattern = frozenset(), None

    def text(self, text: str) -> str:
        """``text`` without known values and credential shapes, cut to a bounded length."""
        # Cut far above the limit first: it bounds the work, and what a cut tears apart is dropped below.
        text = _shortened(text, 4 * _LONGEST_TEXT)
        if self._pattern is not None:
            text = self._pattern.sub(MASK, text)
        for shape, replacement in _SHAPES:
            text = shape.sub(replacement, text)
        return _shortened(text, _LONGEST_TEXT)

    def field(self, name: str, value: object) -> object:
        """``value`` of the field ``name`` as something JSON can carry, masked where it must be."""
        if value is not None and not isinstance(value, bool) and is_secret_name(name):
            return MASK
        return self.plain(value)

    def plain(self, value: object, depth: int = 0) -> object:
        """``value`` in JSON's types: times as RFC 3339, durations as seconds, the unknown as masked text."""
        match value:
            case None | bool() | int():
                return value if not isinstance(value, Enum) else self.plain(value.value, depth)
            case float():
                return value if isfinite(value) else str(value)
            case Enum():
                return self.plain(value.value, depth)
            case str():
                return self.text(value)
            case datetime():
                return rfc3339(value)
            case timedelta():
                return value.total_seconds()
            case bytes() | bytearray():
                return self.text(value.decode("utf-8", "backslashreplace"))
        if depth >= _DEEPEST:
            return self.text(str(value))
        if is_dataclass(value) and not isinstance(value, type):
            value = asdict(value)
        if isinstance(value, Mapping):
            return {
                self.text(str(key)): MASK
                if item is not None and not isinstance(item, bool) and is_secret_name(str(key))
                else self.plain(item, depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple | set | frozenset):
            return [self.plain(item, depth + 1) for item in value]
        if callable(getattr(value, "get_secret_value", None)):
            return MASK
        return self.text(str(value))


def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a credential: ``client_secret``, ``adminPassword``.

    The last word decides, so ``token_tail`` (the masked end of a token, fit to print) stays readable.
    """
    words = tuple(word.lower() for word in _WORDS.findall(name))
    return bool(words) and (words[-1] in _SECRET_WORDS or words[-2:] in _SECRET_PAIRS)


def tail_of(secret: object, length: int = 4) -> str:
    """The end of a secret for a log line (``***c3f1``); a secret too short to show any of gives the mask."""
    text = _reveal(secret)
    return f"{MASK}{text[-length:]}" if len(text) >= 4 * length else MASK


def rfc3339(moment: datetime) -> str:
    """An aware datetime as ``2026-11-23T14:37:00.123Z``; a naive one is taken as UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shortened(text: str, limit: int) -> str:
    """Both ends of a long text, which say most: what it is, and what a traceback ends with."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} ...({len(text) - limit} characters left out)... {text[-half:]}"


def _reveal(value: object) -> str:
    if value is None:
        return ""
    reveal = getattr(value, "get_secret_value", None)
    return str(reveal()) if callable(reveal) else str(value)


def _spellings(secret: str) -> set[str]:
    """How a value may be written by those who quote it: percent-encoded, JSON, ``repr``, Base64."""
    raw = secret.encode("utf-8", "surrogatepass")
    spellings = {
        secret,
        quote(raw),
        quote(raw, safe=""),
        quote_plus(raw),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
    }
    if len(raw) >= 2 * _SHORTEST_VALUE:
        spellings.add(base64.b64encode(raw).decode("ascii"))
    return spellings
