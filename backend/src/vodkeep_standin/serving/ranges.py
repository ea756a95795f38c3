"""HTTP byte ranges, RFC 9110 section 14: one range; several are answered with the whole body."""

from __future__ import annotations

import re

from vodkeep_standin.serving.call import FileBody, Reply

_RANGE = re.compile(r"bytes=(\d*)-(\d*)\s*$")


class RangeNotSatisfiable(ValueError):
    """The range lies outside the body: status 416."""


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """First byte and number of bytes asked for, or ``None`` when the header asks for nothing we serve.

    Raises ``RangeNotSatisfiable``.
    """
    matched = _RANGE.match(header)
    if matched is None or matched.groups() == ("", ""):
        return None
    first, last = matched.groups()
    if first == "":
        length = min(int(last), size)
        if length == 0:
            raise RangeNotSatisfiable(header)
        return size - length, length
    start = int(first)
    end = min(int(last), size - 1) if last else size - 1
    if last and int(last) < start:
        return None
    if start >= size:
        raise RangeNotSatisfiable(header)
    return start, end - start + 1


def apply_range(reply: Reply, header: str | None) -> Reply:
    """Cut a whole reply down to the range asked for."""
    reply.headers["Accept-Ranges"] = "bytes"
    if not header:
        return reply
    size = reply.size
    try:
        wanted = parse_range(header, size)
    except RangeNotSatisfiable:
        return Reply(416, b"", {"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"})
    if wanted is None:
        return reply
    start, length = wanted
    reply.status = 206
    reply.headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
    if isinstance(reply.body, FileBody):
        reply.body = FileBody(reply.body.path, reply.body.offset + start, length)
    else:
        reply.body = reply.body[start : start + length]
    return reply
