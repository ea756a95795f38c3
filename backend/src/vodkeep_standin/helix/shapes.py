"""How Helix writes times, durations and cursors."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC without fractions."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def duration(seconds: float) -> str:
    """``3h8m33s``; leading units that are zero are left out, inner ones are not: ``1h0m5s``."""
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{left}s"
    return f"{minutes}m{left}s" if minutes else f"{left}s"


def cursor(offset: int) -> str:
    """Helix's cursors are base64 of a small JSON document with an offset; clients must not look inside."""
    return base64.b64encode(json.dumps({"b": None, "a": {"Offset": offset}}, separators=(",", ":")).encode()).decode()


def cursor_offset(text: str) -> int:
    """The offset inside a cursor. Raises ``ValueError`` for anything that is not one of ours."""
    try:
        offset = json.loads(base64.b64decode(text, validate=True))["a"]["Offset"]
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise ValueError("not a cursor") from error
    if not isinstance(offset, int) or offset < 0:
        raise ValueError("not a cursor")
    return offset
