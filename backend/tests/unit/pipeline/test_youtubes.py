"""Which account YouTube is asked with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from vodkeep.accounts.keeper import TokenKeeper
from vodkeep.accounts.model import Provider
from vodkeep.pipeline.youtubes import YouTubes
from vodkeep.publish.calls import TokenSource
from vodkeep.publish.client import YouTube


class Keeper:
    """Knows which accounts are connected, and has a token for each."""

    async def states(self) -> list[Any]:
        own = SimpleNamespace(provider=Provider.YOUTUBE, channel="otter")
        return [own, SimpleNamespace(provider=Provider.TWITCH, channel="beaver")]

    async def access_token(self, provider: Provider, channel: str = "", *, rejected: str | None = None) -> str:
        return f"{provider} {channel} {rejected}"


@pytest.mark.anyio
async def test_a_channel_is_asked_about_with_its_own_account_else_with_that_of_all() -> None:
    sources: list[TokenSource] = []

    def build(source: TokenSource) -> YouTube:
        sources.append(source)
        return cast("YouTube", object())

    youtubes = YouTubes(cast("TokenKeeper", Keeper()), build)
    own, others, more = [await youtubes.of(channel) for channel in ("otter", "beaver", "vole")]
    assert own is not others
    assert others is more, "what shares an account is asked about together"
    assert [await source.access_token(rejected="a") for source in sources] == ["youtube otter a", "youtube  a"]
