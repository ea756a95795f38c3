"""A vault whose providers are the stand-in, on real sockets."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from aiohttp.abc import AbstractResolver
from sqlalchemy import insert, select

from support.clock import FakeClock
from vodkeep.catalog.app_token import AppCredentials
from vodkeep.catalog.client import HelixClient
from vodkeep.catalog.exchange import open_session
from vodkeep.catalog.retrying import RetryLimits
from vodkeep.chat.tables import chat_message, chat_session, emote_asset
from vodkeep.chat.vault.addresses import AllowedAddresses
from vodkeep.chat.vault.client import FetchLimits, VaultClient, open_vault_client
from vodkeep.chat.vault.files import ImageFiles
from vodkeep.chat.vault.providers import Addresses, Providers
from vodkeep.chat.vault.replay import EmoteReplay
from vodkeep.chat.vault.service import Vault, VaultLimits
from vodkeep.chat.vault.view import ItemEmotes
from vodkeep.clock import SystemClock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.telemetry.log import get_logger
from vodkeep_standin.server import Standin

QUICK = RetryLimits(attempts=1, exchange_s=60.0, connect_s=30.0, read_s=30.0)
PATIENT = FetchLimits(total_s=60.0, connect_s=30.0, read_s=30.0)
"""What is not about a provider that is silent must not fail on a machine that is slow."""

IMPATIENT = FetchLimits(total_s=3.0, connect_s=3.0, read_s=1.5)


@dataclass
class VaultHouse:
    """A vault and everything around it."""

    vault: Vault
    replay: EmoteReplay
    database: Database
    files: ImageFiles
    clock: FakeClock
    standin: Standin
    data_dir: Path
    client: VaultClient

    async def fetch_all(self) -> None:
        """Fetch rounds until nothing is due any more."""
        while await self.vault.fetch_wanted():
            pass
        await self.vault.fetch_wanted()

    async def view(self, channel_id: str, *, before: timedelta = timedelta(), vod_id: str = "1") -> ItemEmotes:
        """What chat of a broadcast looked like that ran for an hour until ``before`` now."""
        end = self.clock.now() - before
        return await self.replay.of_item(vod_id, channel_id, end - timedelta(hours=1), end)

    async def states(self) -> dict[str, tuple[str, str]]:
        """State and reason of each address."""

        def ask(unit: UnitOfWork) -> dict[str, tuple[str, str]]:
            query = select(emote_asset.c.url, emote_asset.c.state, emote_asset.c.reason)
            return {url: (state, reason) for url, state, reason in unit.connection.execute(query)}

        return await self.database.run(ask, write=False)

    async def add_session(
        self, channel_id: str | None, *, state: Literal["recording", "ended"] = "recording", vod_id: str = "1"
    ) -> int:
        """A session that began ten minutes ago, now."""

        def add(unit: UnitOfWork) -> int:
            row = {
                "channel": "somebody",
                "channel_id": channel_id,
                "source": 0,
                "base_ms": int(self.clock.now().timestamp() * 1000) - 600_000,
                "vod_id": vod_id,
                "state": state,
            }
            found = unit.connection.execute(insert(chat_session).values(row).returning(chat_session.c.id)).scalar_one()
            unit.commit()
            return int(found)

        return await self.database.run(add)

    async def add_messages(self, session_id: int, *messages: tuple[int, str | None, str]) -> None:
        """Messages: offset in ms, emote ranges, text."""

        def add(unit: UnitOfWork) -> None:
            rows = [
                {"id": session_id << 32 | offset << 4, "kind": 0, "source": 0, "emotes": emotes, "body": body,
                 "msg_id": offset.to_bytes(16, "big")}
                for offset, emotes, body in messages
            ]  # fmt: skip
            unit.connection.execute(insert(chat_message), rows)
            unit.commit()

        await self.database.run(add)

    async def set_state(self, session_id: int, state: str) -> None:
        """End a session, or begin it again."""

        def change(unit: UnitOfWork) -> None:
            unit.connection.execute(chat_session.update().where(chat_session.c.id == session_id).values(state=state))
            unit.commit()

        await self.database.run(change)


def addresses_of(standin: Standin) -> Addresses:
    """The stand-in's."""
    env = standin.env()
    return Addresses(
        helix_api=env["TWITCH_API_URL"],
        twitch_cdn=env["TWITCH_CDN_URL"],
        bttv_api=env["BTTV_API_URL"],
        bttv_cdn=env["BTTV_CDN_URL"],
        ffz_api=env["FFZ_API_URL"],
        seventv_api=env["SEVENTV_API_URL"],
    )


@asynccontextmanager
async def vault_house(
    database: Database,
    standin: Standin,
    clock: FakeClock,
    data_dir: Path,
    limits: VaultLimits | None = None,
    resolver: AbstractResolver | None = None,
) -> AsyncIterator[VaultHouse]:
    """A vault, closed at the end."""
    files = ImageFiles(data_dir)
    allowed = AllowedAddresses([standin.http_url])
    async with open_session() as session, open_vault_client(allowed, limits=PATIENT, resolver=resolver) as client:
        helix = HelixClient(
            session,
            credentials=AppCredentials(standin.scenario.client_id, standin.scenario.client_secret),
            api_url=f"{standin.http_url}/helix",
            auth_url=f"{standin.http_url}/oauth2",
            clock=SystemClock(),
            rng=random.Random(1),
            log=get_logger("test"),
            limits=QUICK,
        )
        vault = Vault(
            database,
            files,
            client,
            Providers(client, helix, addresses_of(standin)),
            clock,
            random.Random(1),
            get_logger("chat_emotes"),
            limits,
        )
        yield VaultHouse(
            vault,
            EmoteReplay(database, files, get_logger("chat_emotes")),
            database,
            files,
            clock,
            standin,
            data_dir,
            client,
        )
