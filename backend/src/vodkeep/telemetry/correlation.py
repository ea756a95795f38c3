"""Correlation ids: one id follows a request or a job through every log line, event and child process.

The id lives in a context variable, so tasks started inside :func:`bind_corr` and worker threads entered
through ``anyio.to_thread.run_sync`` inherit it without passing it along.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_corr: ContextVar[str | None] = ContextVar("vodkeep_corr", default=None)

# What a client may send in X-Correlation-ID: short and harmless in a log, a header and a file name.
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)


def current_corr() -> str | None:
    """The id of the request or job under way, or ``None`` outside of both."""
    return _corr.get()


def new_corr() -> str:
    """A fresh id: 16 hexadecimal digits from the system's random source."""
    return secrets.token_hex(8)


def accept_corr(offered: str | None) -> str:
    """``offered`` if it is 1 to 128 characters of ``A-Za-z0-9._-``, else a fresh id."""
    if offered is not None and _ACCEPTABLE.fullmatch(offered):
        return offered
    return new_corr()


@contextmanager
def bind_corr(corr: str | None = None) -> Iterator[str]:
    """Make ``corr`` (a fresh id when ``None``) the current id inside the block and yield it."""
    bound = corr if corr is not None else new_corr()
    token = _corr.set(bound)
    try:
        yield bound
    finally:
        _corr.reset(token)
