"""Query parameters that several resources share."""

from __future__ import annotations

from vodkeep_standin.helix.shapes import cursor_offset
from vodkeep_standin.serving.call import Call

MAX_IDS = 100


class BadParameter(ValueError):
    """Status 400; the text becomes the message."""


def values(call: Call, name: str) -> list[str]:
    """All values of a repeatable parameter, at most 100. Raises ``BadParameter``."""
    found = [value for value in call.query.getall(name, []) if value]
    if len(found) > MAX_IDS:
        raise BadParameter(f'The parameter "{name}" has too many values: the limit is {MAX_IDS}')
    return found


def page(call: Call) -> tuple[int, int]:
    """Offset and page size from ``after`` and ``first`` (default 20, at most 100). Raises ``BadParameter``."""
    text = call.query.get("first", "20")
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise BadParameter('The parameter "first" was malformed: the value must be between 1 and 100')
    try:
        offset = cursor_offset(call.query["after"]) if call.query.get("after") else 0
    except ValueError as error:
        raise BadParameter("The value of the after query parameter is not valid") from error
    return offset, int(text)
