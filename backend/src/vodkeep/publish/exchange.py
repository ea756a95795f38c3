"""One HTTP exchange with YouTube: bounded in time and size, our errors only, and no address in any of them.

The address of an upload session is a capability: who has it can write into the upload. So errors name what was being
done instead of where.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from yarl import URL

from vodkeep import __version__
from vodkeep.errors import NetworkError, ServerError

_MAX_BODY_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole and within the size limit."""

    status: int
    headers: Mapping[str, str] = field(repr=False)  # names in lower case; may hold a session's address
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long parts of an exchange may take, in seconds."""

    connect_s: float = 30.0
    answer_s: float = 60.0  # from the end of a small request to the end of its answer
    stall_s: float = 60.0  # an upload of which the line takes nothing
    finish_s: float = 600.0  # from the last byte of a chunk to the answer; YouTube takes its time over large files


@asynccontextmanager
async def open_session() -> AsyncIterator[aiohttp.ClientSession]:
    """The session that all calls to YouTube share; closed at the end of the block.

    Proxies and ``.netrc`` of the environment are ignored, as for Twitch.
    """
    connector = aiohttp.TCPConnector(limit=16, keepalive_timeout=30.0)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"vodkeep/{__version__}", "Accept": "application/json"},
        trust_env=False,
    ) as session:
        yield session


async def exchange(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    doing: str,
    headers: Mapping[str, str],
    limits: Limits,
    query: Mapping[str, str] | None = None,
    content: bytes | AsyncIterator[bytes] | None = None,
) -> Answer:
    """Send one request and read its whole answer; redirects are not followed. ``doing`` stands in errors.

    ``content`` that is an iterator is sent as it comes, and watched by the caller: only connecting and, once all is
    sent, silence are limited here. Raises NetworkError when no whole answer arrives, ServerError when it is too large.
    """
    streamed = content is not None and not isinstance(content, bytes)
    timeout = aiohttp.ClientTimeout(
        total=None if streamed else limits.connect_s + limits.answer_s,
        connect=limits.connect_s,
        sock_connect=limits.connect_s,
        sock_read=limits.finish_s if streamed else limits.answer_s,
    )
    address = URL(url, encoded=True)
    try:
        async with session.request(
            method,
            address.with_query(dict(query)) if query is not None else address,
            headers=dict(headers),
            data=content,
            timeout=timeout,
            allow_redirects=False,
        ) as response:
            transport = response.connection.transport if response.connection is not None else None
            body = bytearray()
            async for part in response.content.iter_chunked(64 * 1024):
                body += part
                if len(body) > _MAX_BODY_BYTES:
                    response.close()
                    raise ServerError(f"YouTube's answer is far too long ({doing}).")
            if streamed and transport is not None and transport.get_write_buffer_size() > 0:
                # It answered before it had read everything; an orderly end would wait until it has.
                transport.abort()
            return Answer(response.status, {name.lower(): text for name, text in response.headers.items()}, bytes(body))
    except TimeoutError:
        raise NetworkError(f"YouTube does not answer in time ({doing}).") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # Some of aiohttp's errors have the address in their text, so neither that nor the chain is kept.
        raise NetworkError(f"YouTube cannot be reached ({doing}): {type(error).__name__}.") from None
