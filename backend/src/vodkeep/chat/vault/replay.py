"""What replay asks of the vault: only the database and the disk, so that it works with the network off."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path

import anyio.to_thread

from vodkeep.chat.vault.files import ImageFiles
from vodkeep.chat.vault.manifest import EmoteManifest, Usage, manifest_of
from vodkeep.chat.vault.model import GLOBAL, StoredImage
from vodkeep.chat.vault.store import EmoteStore, Said
from vodkeep.chat.vault.view import ItemEmotes, view_of
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.telemetry.log import Logger

_READ_AT_ONCE = 5000  # messages


class EmoteReplay:
    """Emotes and badges of kept broadcasts."""

    def __init__(self, database: Database, files: ImageFiles, log: Logger) -> None:
        """``database`` is chat's."""
        self._database = database
        self._files = files
        self._log = log

    async def of_item(self, vod_id: str, channel_id: str | None, start: datetime, end: datetime) -> ItemEmotes:
        """What chat of a broadcast looked like. Without ``channel_id``, its sessions say whose it is.

        Raises `DatabaseUnavailable`.
        """
        start_ms, end_ms = _ms(start), _ms(end)

        def load(unit: UnitOfWork) -> ItemEmotes:
            store = EmoteStore(unit.connection)
            sessions = store.sessions_of(vod_id)
            own = channel_id or next((session.channel_id for session in sessions if session.channel_id), GLOBAL)
            known = store.spans(own, start_ms, end_ms)
            view = view_of(known.firsts, known.spans, start_ms=start_ms, end_ms=end_ms)
            used = store.used([session.id for session in sessions])
            urls = {span.entry.url for span in known.spans} | {entry.url for entry in used.values()}
            return ItemEmotes(view, used, store.images(urls))

        return await self._database.run(load, write=False)

    async def load_image(self, image_hash: str) -> tuple[StoredImage, bytes] | None:
        """An image of the vault; None if there is none, or its file is gone, which then is fetched again."""
        image = await self._database.run(lambda unit: EmoteStore(unit.connection).image(image_hash), write=False)
        if image is None:
            return None
        data = await anyio.to_thread.run_sync(self._files.load, image)
        if data is None:
            self._log.error("emote image lost", hash=image_hash, path=str(self._files.path(image)))
            await self._database.run(partial(_want_again, image_hash=image_hash))
            return None
        return image, data

    async def manifest(self, *, vod_id: str, channel_id: str | None, start: datetime, end: datetime) -> EmoteManifest:
        """``emotes.json`` of an item: what the codes and badges of its messages looked like.

        Reads all messages of the item, piece by piece. Raises `DatabaseUnavailable`.
        """
        emotes = await self.of_item(vod_id, channel_id, start, end)
        usage = Usage(emotes)
        sessions = await self._database.run(lambda unit: EmoteStore(unit.connection).sessions_of(vod_id), write=False)
        for session in sessions:
            after_id = (session.id << 32) - 1
            while True:
                said = await self._database.run(
                    partial(_said_after, session_id=session.id, after_id=after_id), write=False
                )
                if not said:
                    break
                await anyio.to_thread.run_sync(_note, usage, said)
                after_id = said[-1].id
        return manifest_of(vod_id, channel_id, start, end, emotes, usage)

    async def write_manifest(
        self,
        folder: Path,
        *,
        vod_id: str,
        channel_id: str | None,
        start: datetime,
        end: datetime,
        with_images: bool = False,
    ) -> tuple[str, ...]:
        """Write ``emotes.json`` into a folder, and the images it names beside it if wanted.

        Returns the names of the files, relative to ``folder``; what was there before is replaced. Raises OSError and
        `DatabaseUnavailable`.
        """
        manifest = await self.manifest(vod_id=vod_id, channel_id=channel_id, start=start, end=end)
        images = manifest.images if with_images else ()
        return await anyio.to_thread.run_sync(self._files.write_beside, folder, manifest.body, images)


def _said_after(unit: UnitOfWork, session_id: int, after_id: int) -> list[Said]:
    return EmoteStore(unit.connection).said_after(session_id, after_id, _READ_AT_ONCE)


def _note(usage: Usage, said: list[Said]) -> None:
    for message in said:
        usage.saw(message.body, message.badges)


def _want_again(unit: UnitOfWork, image_hash: str) -> None:
    EmoteStore(unit.connection).want_again(image_hash)
    unit.commit()


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
