"""HTTP byte ranges and conditions (RFC 9110 sections 13 and 14), without any I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# A player asks for one range, a download tool for a few; more are an attempt to make us work (section 14.2).
MOST_RANGES = 16

_UNIT = re.compile(r"bytes[ \t]*=[ \t]*(.*)", re.ASCII | re.IGNORECASE)
# ASCII digits only; int() also takes "+1", "1_0" and the digits of other scripts.
_SPEC = re.compile(r"([0-9]*)-([0-9]*)", re.ASCII)
_MOST_DIGITS = 19


class NotSatisfiable(Exception):
    """None of the ranges touches the content: answer 416 (section 15.5.17)."""


@dataclass(frozen=True, slots=True)
class ByteSpan:
    """Bytes ``first`` to ``last``, both included."""

    first: int
    last: int


def parse_range(header: str, size: int) -> list[ByteSpan] | None:
    """The spans that a ``Range`` header asks for within ``size`` bytes, as asked, in order.

    ``None`` means: ignore the header and send everything. That is what the RFC wants for other units and for
    anything malformed. Spans outside the content are dropped; raises :class:`NotSatisfiable` when none is left.
    """
    unit = _UNIT.fullmatch(header.strip())
    if unit is None:
        return None
    specs = [part.strip(" \t") for part in unit[1].split(",")]
    specs = [spec for spec in specs if spec]  # Empty list elements are allowed (section 5.6.1.2).
    if not specs or len(specs) > MOST_RANGES:
        return None
    spans = []
    for spec in specs:
        match = _SPEC.fullmatch(spec)
        if match is None or max(len(match[1]), len(match[2])) > _MOST_DIGITS:
            return None
        first, last = match[1], match[2]
        if not first and not last:
            return None
        if not first:
            length = min(int(last), size)
            span = ByteSpan(size - length, size - 1)
        else:
            span = ByteSpan(int(first), min(int(last), size - 1) if last else size - 1)
            if last and int(last) < int(first):
                return None
        if span.first <= span.last:
            spans.append(span)
    if not spans:
        raise NotSatisfiable(f"none of the ranges lies within {size} bytes")
    return spans


def format_range(spans: list[ByteSpan]) -> str:
    """The spans as a ``Range`` header."""
    return "bytes=" + ", ".join(f"{span.first}-{span.last}" for span in spans)


def etag_matches(header: str, etag: str) -> bool:
    """Whether an ``If-None-Match`` value names ``etag``; compared weakly, ``*`` names every one."""
    if header.strip() == "*":
        return True
    wanted = etag.removeprefix("W/")
    return any(each.removeprefix("W/") == wanted for each in re.findall(r'(?:W/)?"[^"]*"', header))


def is_unmodified_since(header: str, modified: datetime) -> bool:
    """Whether ``If-Modified-Since`` holds a valid date at or after ``modified`` (whole seconds, section 8.8.2)."""
    since = _http_date(header)
    return since is not None and modified.replace(microsecond=0) <= since


def range_still_applies(if_range: str, etag: str, modified: datetime) -> bool:
    """Whether an ``If-Range`` value names exactly what we would send, so that a part of it fits (section 13.1.5)."""
    value = if_range.strip()
    if value.startswith(('"', "W/")):
        return value == etag and not value.startswith("W/")
    return _http_date(value) == modified.replace(microsecond=0)


def _http_date(text: str) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed
