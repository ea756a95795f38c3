"""The vault's way out: GET only, to few hosts, bounded in time and size, with nothing of ours in the request."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from vodkeep import __version__
from vodkeep.chat.vault.addresses import AllowedAddresses, RefusedAddress
from vodkeep.errors import NetworkError, PermanentError, RateLimited, ServerError

MAX_HOPS = 3
"""Redirects followed; each is checked like the address itself."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Times in seconds."""

    total_s: float = 30.0  # one address with all its redirects
    connect_s: float = 8.0
    read_s: float = 10.0  # silence on the connection
    at_once: int = 8  # connections in all
    at_once_per_host: int = 4


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer, whole. ``status`` is 200 or 404."""

    status: int
    body: bytes
    is_json: bool  # what its header says


class VaultClient:
    """Fetches what `AllowedAddresses` lets through, in a session of its own without cookies, proxies or credentials."""

    def __init__(self, session: aiohttp.ClientSession, allowed: AllowedAddresses, limits: FetchLimits) -> None:
        self._session = session
        self._allowed = allowed
        self.limits = limits

    async def fetch(self, url: str, *, max_bytes: int) -> Fetched:
        """The answer of an address. Raises `PermanentError` (``refused_address``, ``too_large``, ``request_refused``),
        `RateLimited`, `NetworkError` or `ServerError`.
        """  # fmt: skip
        timeout = aiohttp.ClientTimeout(
            total=self.limits.total_s,
            connect=self.limits.connect_s,
            sock_connect=self.limits.connect_s,
            sock_read=self.limits.read_s,
        )
        try:
            url = self._allowed.check(url)
            for _ in range(MAX_HOPS + 1):
                async with self._session.get(url, timeout=timeout, allow_redirects=False) as response:
                    if response.status not in _REDIRECTS:
                        return await _answer(response, max_bytes)
                    url = self._allowed.check_redirect(url, response.headers.get("Location", ""))
        except RefusedAddress as error:
            raise PermanentError(f"{url} is not asked: {error}.", code="refused_address") from error
        except TimeoutError as error:
            # aiohttp's time limits are TimeoutErrors and, some of them, ClientErrors as well.
            raise NetworkError(f"{url} does not answer in time.") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NetworkError(f"{url} cannot be had: {type(error).__name__}: {str(error)[:160]}.") from error
        raise ServerError(f"{url} leads on and on.")


async def _answer(response: aiohttp.ClientResponse, max_bytes: int) -> Fetched:
    url, status = response.url, response.status
    if status == 429:
        asked = response.headers.get("Retry-After", "")
        raise RateLimited(
            f"{url} asks us to slow down.",
            delay_s=float(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 7 else None,
        )
    if status in (400, 401, 403, 405, 410, 451):
        raise PermanentError(f"{url} is refused: HTTP {status}.", code="request_refused")
    if status not in (200, 404):
        raise ServerError(f"{url} answers with HTTP {status}.")
    # We ask for none; what is packed all the same could be anything once unpacked.
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ServerError(f"{url} answers with a packed body.")
    body = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > max_bytes:
            response.close()
            raise PermanentError(f"{url} has more than {max_bytes} bytes.", code="too_large")
    return Fetched(status, bytes(body), response.content_type == "application/json")


@asynccontextmanager
async def open_vault_client(
    allowed: AllowedAddresses, *, limits: FetchLimits | None = None, resolver: AbstractResolver | None = None
) -> AsyncIterator[VaultClient]:
    """A client, closed at the end of the block. Without a ``resolver`` the system looks names up."""
    limits = limits or FetchLimits()
    connector = aiohttp.TCPConnector(
        limit=limits.at_once,
        limit_per_host=limits.at_once_per_host,
        resolver=_CheckedResolver(allowed, resolver or aiohttp.ThreadedResolver()),
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"vodkeep/{__version__}", "Accept-Encoding": "identity"},
        auto_decompress=False,
        trust_env=False,
    ) as session:
        yield VaultClient(session, allowed, limits)


class _CheckedResolver(AbstractResolver):
    """Looks names up and refuses what must not be connected to; the connection is made to what was checked here."""

    def __init__(self, allowed: AllowedAddresses, resolver: AbstractResolver) -> None:
        self._allowed = allowed
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host. Raises `RefusedAddress` if any of them is refused, and OSError."""
        found = await self._resolver.resolve(host, port, family)
        for address in found:
            self._allowed.check_resolved(host, port, address["host"])
        return found

    async def close(self) -> None:
        """Let go of what the resolver holds."""
        await self._resolver.close()
