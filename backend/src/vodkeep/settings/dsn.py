"""The database address: read, judged, and shown without its password."""

from __future__ import annotations

import re

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

MASK = "********"
EXPECTED = "must be a database address such as postgres://user:password@host:5432/name or sqlite:///path/to/file.db"
_ENCODE = "must have its password percent-encoded: @ is %40, / is %2F, ? is %3F, : is %3A"

_POSTGRES = frozenset({"postgres", "postgresql", "postgresql+psycopg"})
_SQLITE = frozenset({"sqlite", "sqlite+pysqlite"})
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# libpq's own names (password, sslpassword) and what people write instead, in a query or in "key=value" form.
_PASSWORD_FIELD = re.compile(r"(?i)(?:pass\w*|pwd|secret|token)\s*=\s*('[^']*'|\"[^\"]*\"|[^&\s]+)")


def parse_dsn(text: str) -> URL:
    """The SQLAlchemy address ``text`` stands for, with the driver chosen.

    Raises ``ValueError`` with the rest of a sentence ("must ..."), which never contains the password.
    """
    scheme, separator, _ = text.partition("://")
    if not separator:
        raise ValueError(EXPECTED)
    if scheme.lower() not in _POSTGRES | _SQLITE:
        raise ValueError(f"must begin with postgres://, postgresql:// or sqlite:///, not {scheme}://")
    authority, _, path = re.sub(r"[/?]", "\n", text.partition("://")[2], count=1).partition("\n")
    port = _port_text(authority)
    if port is not None and not _is_port(port):
        if "@" in path and "@" not in authority:
            raise ValueError(_ENCODE)
        raise ValueError("must have a port between 1 and 65535")
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise ValueError(EXPECTED) from error
    return _sqlite(url) if scheme.lower() in _SQLITE else _postgres(url)


def _postgres(url: URL) -> URL:
    # SQLAlchemy takes the first @ as the end of the password, so the rest of a raw one would become the host.
    if "@" in (url.host or "") or "@" in (url.database or ""):
        raise ValueError(_ENCODE)
    if not url.host and "host" not in url.query:
        raise ValueError("must name a host, as in postgres://user:password@host:5432/name")
    if not url.database:
        raise ValueError("must end with the name of the database, as in postgres://user:password@host:5432/name")
    return url.set(drivername="postgresql+psycopg")


def _sqlite(url: URL) -> URL:
    if url.host or url.username or url.port:
        raise ValueError(
            "must have three slashes before a relative path (sqlite:///data/vodkeep.db) and four before an absolute one"
        )
    if not url.database or url.database == ":memory:":
        raise ValueError("must name a file, as in sqlite:///data/vodkeep.db; an archive cannot live in memory")
    return url.set(drivername="sqlite")


def _port_text(authority: str) -> str | None:
    """What stands where the port belongs, if anything does."""
    host = authority.rpartition("@")[2]
    host = host.rpartition("]")[2] if "[" in host else host
    return host.rpartition(":")[2] or None if ":" in host else None


def _is_port(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,5}", text) is not None and 1 <= int(text) <= 65535


def mask_address(text: str) -> str:
    """``text`` with every password in it replaced, whether or not it is a well-formed address.

    Hidden are what stands between the first colon and the *last* ``@`` after the scheme (a raw password may hold
    anything in between) and the values of fields such as ``password=``; spans that overlap are hidden as one.
    """
    start = found.end() if (found := _SCHEME.match(text)) else 0
    spans = [match.span(1) for match in _PASSWORD_FIELD.finditer(text)]
    at, colon = text.rfind("@"), text.find(":", start)
    if start <= colon < at:
        spans.append((colon + 1, at))
    shown, position = "", 0
    for begin, end in _merged(spans):
        shown += text[position:begin] + MASK
        position = end
    return shown + text[position:]


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged
