"""Takes ``emotes.json`` of an item back into the tables, as far as it goes: what its messages used, and no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from vodkeep.chat.vault.files import ImageFiles, is_hash
from vodkeep.chat.vault.manifest import FORMAT
from vodkeep.chat.vault.model import (
    GLOBAL,
    Entry,
    ImageFacts,
    ImageType,
    Kind,
    Provider,
    SetAnswer,
    SetKey,
    StoredImage,
)
from vodkeep.chat.vault.store import EmoteStore


class UnreadableEmotes(ValueError):
    """The file is not what the vault writes."""


def take_in_emotes(connection: Connection, body: bytes, vod_id: str, start_ms: int, files: ImageFiles) -> None:
    """Enter what the file says; the caller commits. Which set a code was of is not told: it is taken for the channel's.

    Broadcasts are to come in the order of their time, so that a code that changed its meaning is known with both.
    Raises `UnreadableEmotes`, and then nothing was written.
    """
    try:
        told: dict[str, Any] = json.loads(body)
        if told["format"] != FORMAT:
            raise UnreadableEmotes("it has another format")
        channel_id = str(told["channel_id"] or GLOBAL)
        twitch = {str(ref): (str(each["code"]), str(each["source"])) for ref, each in told["twitch"].items()}
        starting = [*_read(told["codes"], Kind.EMOTE), *_read(told["badges"], Kind.BADGE)]
        later = [
            (_ms(change["at"]), *next(_read({change["code"]: change["emote"]}, Kind.EMOTE)))
            for change in told["changes"]
            if change["emote"] is not None
        ]
        described = [
            *told["twitch"].values(),
            *told["codes"].values(),
            *told["badges"].values(),
            *(change["emote"] for change in told["changes"] if change["emote"] is not None),
        ]
        images = {str(each["source"]): _image(each["image"]) for each in described if each.get("image")}
    except UnreadableEmotes:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableEmotes(str(error)) from error
    store = EmoteStore(connection)
    sessions = store.sessions_of(vod_id)
    if sessions and twitch:
        store.use(sessions[0].id, twitch, at_most=len(twitch))
    for provider, kind in sorted({(provider, kind) for provider, kind, _ in starting}):
        entries = tuple(entry for each, what, entry in starting if (each, what) == (provider, kind))
        store.record(SetKey(provider, kind, channel_id), SetAnswer(entries, whole=False), start_ms)
    for at_ms, provider, kind, entry in sorted(later, key=lambda change: change[0]):
        store.record(SetKey(provider, kind, channel_id), SetAnswer((entry,), whole=False), at_ms)
    kept = {url: image for url, image in images.items() if files.path(image).is_file()}
    for url, asset_id in store.want(kept).items():
        store.keep(asset_id, kept[url], start_ms)


def _read(told: dict[str, Any], kind: Kind) -> Iterator[tuple[Provider, Kind, Entry]]:
    for code, each in told.items():
        entry = Entry(
            str(code),
            str(each["id"]),
            str(each["source"]),
            zero_width=bool(each.get("zero_width")),
            title=str(each.get("title") or ""),
        )
        yield Provider(each["provider"]), kind, entry


def _image(told: dict[str, Any]) -> StoredImage:
    if not is_hash(told["blake3"]):
        raise UnreadableEmotes("an image has no hash")
    facts = ImageFacts(ImageType(told["media_type"]), int(told["width"]), int(told["height"]), bool(told["animated"]))
    return StoredImage(told["blake3"], facts, int(told["size_bytes"]))


def _ms(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)
