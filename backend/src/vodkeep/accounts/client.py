"""One exchange with a token service: bounded in time and size, redirects refused, our errors only."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from vodkeep import __version__
from vodkeep.accounts.oauth import Answer
from vodkeep.errors import NetworkError, ServerError

EXCHANGE_LIMIT_S = 15.0
"""Shorter than a stop of the service takes, since a renewal under way is not interrupted."""

_LARGEST_BODY = 64 * 1024


class TokenService:
    """The token services of all providers.

    Each exchange has a session of its own: there is about one in an hour, and a kept connection would be cold anyway.
    """

    async def post(self, address: str, form: Mapping[str, str]) -> Answer:
        """Send a form. Raises NetworkError without a whole answer, ServerError for one that is too large."""
        return await self._send("POST", address, data=dict(form))

    async def validate(self, address: str, token: str) -> Answer:
        """Ask Twitch whose a token is."""
        return await self._send("GET", address, headers={"Authorization": f"OAuth {token}"})

    async def _send(
        self,
        method: str,
        address: str,
        *,
        data: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        # The address is ours, from the settings; what a form holds is in no sentence.
        timeout = aiohttp.ClientTimeout(total=EXCHANGE_LIMIT_S, sock_connect=10.0)
        try:
            async with (
                # Proxies and .netrc of the environment are ignored: the addresses are settings.
                aiohttp.ClientSession(
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers={"User-Agent": f"vodkeep/{__version__}", "Accept": "application/json"},
                    trust_env=False,
                ) as session,
                session.request(
                    method, address, data=data, headers=headers, timeout=timeout, allow_redirects=False
                ) as response,
            ):
                body = await response.content.read(_LARGEST_BODY + 1)
                while len(body) <= _LARGEST_BODY and (more := await response.content.read(_LARGEST_BODY)):
                    body += more
                if len(body) > _LARGEST_BODY:
                    response.close()
                    raise ServerError(f"The token service answers with more than {_LARGEST_BODY} bytes ({address}).")
                return Answer(response.status, body, _seconds(response.headers.get("Retry-After", "")))
        except TimeoutError as error:
            raise NetworkError(f"The token service does not answer in time ({address}).") from error
        except (aiohttp.ClientError, OSError) as error:
            raise NetworkError(f"The token service cannot be reached ({address}): {type(error).__name__}.") from error


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdecimal() and len(text) <= 6 else None
