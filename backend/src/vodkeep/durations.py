"""Durations as operators write them: ``30s``, ``5m``, ``6h``, ``1h30m``, ``500ms``.

The spelling is Go's (https://pkg.go.dev/time#ParseDuration, read 2026-11-23) with less freedom: units go from large
to small, each at most once, and there is no sign, so that a text has one meaning and a slip is noticed.
"""

from __future__ import annotations

import re
from datetime import timedelta

EXAMPLES = "30s, 5m, 6h or 1h30m"

# Ten years. Longer waits are a slip, and adding them to a date could leave the calendar.
LONGEST = timedelta(days=3650)

_MICROSECONDS = {"h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000}

# Digits are spelled out, because \d also means the digits of other scripts. "m" must not eat the "m" of "ms".
_AMOUNT = r"([0-9]{1,15}(?:\.[0-9]{1,6})?)"
_DURATION = re.compile(rf"(?:{_AMOUNT}h)?(?:{_AMOUNT}m(?!s))?(?:{_AMOUNT}s)?(?:{_AMOUNT}ms)?")


def parse_duration(text: str) -> timedelta:
    """The duration ``text`` stands for, exact to the microsecond; a plain ``0`` needs no unit.

    Raises ``ValueError`` with the rest of a sentence ("must be ...") for anything else, and for more than ten years.
    """
    if text == "0":
        return timedelta(0)
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        if re.fullmatch(r"[0-9]{1,15}", text):
            raise ValueError(f"must be a duration with a unit, such as {text}s or {text}m")
        raise ValueError(f"must be a duration such as {EXAMPLES}")
    total = sum(
        _scaled(amount, unit)
        for amount, unit in zip(found.groups(), _MICROSECONDS.values(), strict=True)
        if amount is not None
    )
    if total > LONGEST // timedelta(microseconds=1):
        raise ValueError(f"must be a duration of at most {format_duration(LONGEST)}")
    return timedelta(microseconds=total)


def _scaled(amount: str, unit: int) -> int:
    """``amount`` units in microseconds, in whole numbers because floats would round ``0.1s``."""
    whole, _, fraction = amount.partition(".")
    parts: int = 10 ** len(fraction)
    return int(whole) * unit + int(fraction or "0") * unit // parts


def format_duration(duration: timedelta) -> str:
    """The shortest text that ``parse_duration`` reads back as the same duration; ``0s`` for nothing.

    Raises ``ValueError`` for a negative duration, which has no spelling here.
    """
    rest = duration // timedelta(microseconds=1)
    if rest < 0:
        raise ValueError(f"negative duration {duration!r}")
    parts = []
    for unit in ("h", "m", "s"):
        amount, rest = divmod(rest, _MICROSECONDS[unit])
        if amount:
            parts.append(f"{amount}{unit}")
    milliseconds, microseconds = divmod(rest, 1000)
    if microseconds:
        parts.append(f"{milliseconds}.{microseconds:03}".rstrip("0") + "ms")
    elif milliseconds:
        parts.append(f"{milliseconds}ms")
    return "".join(parts) or "0s"
