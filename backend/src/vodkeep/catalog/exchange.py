"""One HTTP exchange with Twitch over the shared aiohttp session: bounded in time and size, our errors only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from vodkeep import __version__
from vodkeep.catalog.helix import Answer, Request
from vodkeep.catalog.retrying import RetryLimits
from vodkeep.errors import NetworkError, ServerError


@asynccontextmanager
async def open_session() -> AsyncIterator[aiohttp.ClientSession]:
    """The session that every Helix call shares; closed at the end of the block.

    Proxies and ``.netrc`` of the environment are ignored: the addresses we talk to are settings.
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
    session: aiohttp.ClientSession, base_url: str, request: Request, *, limits: RetryLimits, timeout_s: float
) -> Answer:
    """Send one request and read its whole answer within ``timeout_s`` seconds.

    aiohttp repeats a GET by itself, once, when a kept-alive connection turns out to be gone; everything else is the
    caller's to repeat. Redirects are not followed, so that a secret never travels to an address that is not in the
    settings. Raises NetworkError when no whole answer arrives, ServerError when it is larger than
    ``limits.max_body_bytes``.
    """
    timeout = aiohttp.ClientTimeout(
        total=timeout_s, connect=limits.connect_s, sock_connect=limits.connect_s, sock_read=limits.read_s
    )
    url = base_url.rstrip("/") + request.path
    try:
        async with session.request(
            request.method,
            url,
            params=request.query,
            data=dict(request.form) or None,
            headers=dict(request.headers),
            timeout=timeout,
            allow_redirects=False,
        ) as response:
            body = await _read(response, limits.max_body_bytes, url)
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, headers, body)
    except TimeoutError as error:
        # aiohttp's time limits are TimeoutErrors and, some of them, ClientErrors as well.
        raise NetworkError(f"Twitch does not answer in time ({url}).") from error
    except (aiohttp.ClientError, OSError) as error:
        raise NetworkError(f"Twitch cannot be reached ({url}): {_why(error)}.") from error


async def _read(response: aiohttp.ClientResponse, max_bytes: int, url: str) -> bytes:
    """The body, decompressed, as long as it stays within the limit."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > max_bytes:
            response.close()
            raise ServerError(f"Twitch answers with more than {max_bytes} bytes ({url}).")
    return bytes(body)


def _why(error: BaseException) -> str:
    """The kind of failure and its text, cut; some of aiohttp's errors have no text."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__
