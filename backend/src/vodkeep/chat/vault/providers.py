"""Asks each provider for its sets; the only place that knows their addresses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from vodkeep.chat.vault import answers
from vodkeep.chat.vault.client import VaultClient
from vodkeep.chat.vault.model import GLOBAL, Kind, Provider, SetAnswer, SetKey
from vodkeep.errors import ServerError

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Of a set; 7TV spends about 2.5 KB on an emote."""


class Helix(Protocol):
    """Twitch's own sets, which need an application's credentials."""

    async def chat_document(self, what: Literal["emotes", "badges"], broadcaster_id: str | None) -> bytes:
        """The body of Helix's answer about global (None) or a channel's sets. Raises `VodkeepError`."""
        ...


@dataclass(frozen=True, slots=True)
class Addresses:
    """Base addresses, without a slash at the end."""

    helix_api: str
    twitch_cdn: str
    bttv_api: str
    bttv_cdn: str
    ffz_api: str
    seventv_api: str


def sets_of(channel_id: str) -> Iterator[SetKey]:
    """Every set that holds in a channel; with `GLOBAL`, those that hold in all."""
    for provider in Provider:
        yield SetKey(provider, Kind.EMOTE, channel_id)
    yield SetKey(Provider.TWITCH, Kind.BADGE, channel_id)


class Providers:
    """What they say now."""

    def __init__(self, client: VaultClient, helix: Helix, addresses: Addresses) -> None:
        self._client = client
        self._helix = helix
        self._addresses = addresses

    def twitch_emote_url(self, ref: str) -> str:
        """Where the image of an emote of Twitch is."""
        return answers.twitch_emote_url(self._addresses.twitch_cdn, ref)

    async def fetch_set(self, key: SetKey) -> SetAnswer:
        """What a provider says about a set; a channel it does not know has none. Raises `VodkeepError`."""
        at = self._addresses
        channel = key.channel_id
        if key.provider is Provider.TWITCH:
            return await self._fetch_helix(key)
        if key.provider is Provider.BTTV:
            if channel == GLOBAL:
                return answers.bttv_global(await self._get(f"{at.bttv_api}/cached/emotes/global"), at.bttv_cdn)
            found = await self._find(f"{at.bttv_api}/cached/users/twitch/{channel}")
            return SetAnswer(()) if found is None else answers.bttv_channel(found, at.bttv_cdn)
        if key.provider is Provider.FFZ:
            if channel == GLOBAL:
                return answers.ffz_global(await self._get(f"{at.ffz_api}/set/global"), at.ffz_api)
            found = await self._find(f"{at.ffz_api}/room/id/{channel}")
            return SetAnswer(()) if found is None else answers.ffz_channel(found, at.ffz_api)
        if channel == GLOBAL:
            return answers.seventv_global(await self._get(f"{at.seventv_api}/emote-sets/global"), at.seventv_api)
        found = await self._find(f"{at.seventv_api}/users/twitch/{channel}")
        return SetAnswer(()) if found is None else answers.seventv_channel(found, at.seventv_api)

    async def _fetch_helix(self, key: SetKey) -> SetAnswer:
        broadcaster_id = key.channel_id or None
        if key.kind is Kind.EMOTE:
            body = await self._helix.chat_document("emotes", broadcaster_id)
            return answers.twitch_emotes(body, self._addresses.twitch_cdn)
        body = await self._helix.chat_document("badges", broadcaster_id)
        return answers.twitch_badges(body, self._addresses.helix_api)

    async def _find(self, url: str) -> bytes | None:
        """The body, or None if the provider itself says that it knows no such channel.

        A 404 counts only as JSON: a page in HTML is a proxy's or a wrong base address, and says nothing about a set.
        """
        answer = await self._client.fetch(url, max_bytes=MAX_ANSWER_BYTES)
        if answer.status == 200:
            return answer.body
        if answer.is_json and answer.body.lstrip()[:1] == b"{":
            return None
        raise ServerError(f"{url} answers with HTTP 404 and without a word about it.")

    async def _get(self, url: str) -> bytes:
        answer = await self._client.fetch(url, max_bytes=MAX_ANSWER_BYTES)
        if answer.status != 200:
            raise ServerError(f"{url} answers with HTTP {answer.status}.")
        return answer.body
