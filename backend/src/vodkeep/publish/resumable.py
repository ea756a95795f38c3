"""Resumable uploads without a network: which headers a request carries, and what an answer means.

Source: https://developers.google.com/youtube/v3/guides/using_resumable_upload_protocol, read in November 2026. What the
page leaves open, as Google's servers do it: an answer 308 without ``Range`` means that nothing is kept; of a request
that broke, whole units of 256 KiB are kept, which may be less than was sent; a session that has ended answers with the
video; one that is unknown or a week old answers 404 or 410.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

UNIT_BYTES = 256 * 1024
"""Every chunk but the last is a multiple of this."""

_KEPT = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")


def begin_headers(size_bytes: int, content_type: str) -> dict[str, str]:
    """What beginning a session says about the file."""
    return {
        "Content-Type": "application/json; charset=UTF-8",
        "X-Upload-Content-Length": str(size_bytes),
        "X-Upload-Content-Type": content_type,
    }


def question_headers(size_bytes: int) -> dict[str, str]:
    """Headers of the empty request that asks how much is kept."""
    return {"Content-Length": "0", "Content-Range": f"bytes */{size_bytes}"}


def chunk_headers(start: int, end: int, size_bytes: int, content_type: str) -> dict[str, str]:
    """Headers of a request with the bytes from ``start`` up to ``end``, which is not part of it."""
    return {
        "Content-Length": str(end - start),
        "Content-Range": f"bytes {start}-{end - 1}/{size_bytes}",
        "Content-Type": content_type,
    }


def chunk_end(start: int, size_bytes: int, chunk_bytes: int) -> int:
    """Where a chunk ends that begins at ``start``: whole units, or the end of the file."""
    units = max(1, chunk_bytes // UNIT_BYTES)
    return min(size_bytes, start + units * UNIT_BYTES)


def kept_bytes(headers: Mapping[str, str], size_bytes: int) -> int | None:
    """How many bytes a 308 says are kept; None when it makes no sense. ``headers`` have names in lower case."""
    stated = headers.get("range")
    if stated is None:
        return 0
    found = _KEPT.fullmatch(stated.strip())
    if found is None or int(found[1]) >= size_bytes:
        return None
    return int(found[1]) + 1


def is_trusted(session_uri: str, api_url: str) -> bool:
    """Whether a session's address may be sent a token: it is on the host of the API, or one of Google's over TLS."""
    try:
        session, api = urlsplit(session_uri), urlsplit(api_url)
        host = session.hostname or ""
        same = (session.scheme, host, session.port) == (api.scheme, api.hostname, api.port)
    except ValueError:
        return False
    return same or (session.scheme == "https" and session.port in (None, 443) and host.endswith(".googleapis.com"))
