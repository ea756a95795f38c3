"""``emotes.json`` beside an item's chat: what its codes looked like, readable without this program and its database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from vodkeep.chat.vault.model import Entry, Kind, Provider, StoredImage
from vodkeep.chat.vault.view import ItemEmotes, Meaning

NAME = "emotes.json"
IMAGES = "emotes"
"""The folder beside it, with the images under their hashes, where they were asked for."""

FORMAT = 1


class Usage:
    """Which codes and badges of an item occur in its messages; told of each message."""

    def __init__(self, emotes: ItemEmotes) -> None:
        changed = {change.code for change in emotes.view.changes}
        self._codes = frozenset(emotes.view.codes) | changed
        self._badges = frozenset(emotes.view.badges)
        self.codes: set[str] = set()
        self.badges: set[str] = set()

    def saw(self, body: str, badges: str) -> None:
        """A message with its chatter's badges (``broadcaster/1,subscriber/12``)."""
        self.codes.update(word for word in body.split() if word in self._codes)
        self.badges.update(badge for badge in badges.split(",") if badge in self._badges)


@dataclass(frozen=True, slots=True)
class EmoteManifest:
    """What to write beside the chat."""

    body: bytes
    images: tuple[StoredImage, ...] = field(default=())  # that it names, each once


def manifest_of(
    vod_id: str, channel_id: str | None, start: datetime, end: datetime, emotes: ItemEmotes, usage: Usage | None = None
) -> EmoteManifest:
    """The manifest of an item; of third parties' emotes and badges only those in ``usage``, all without one."""
    images: dict[str, StoredImage] = {}

    def shown(meaning: Meaning, kind: Kind = Kind.EMOTE) -> dict[str, object]:
        entry, image = meaning.entry, emotes.images.get(meaning.entry.url)
        described: dict[str, object] = {"provider": meaning.provider.value, "id": entry.ref, "source": entry.url}
        if kind is Kind.BADGE:
            described["title"] = entry.title
        if entry.zero_width:
            described["zero_width"] = True
        if image is not None:
            images[image.hash] = image
            described["image"] = {
                "file": f"{image.hash}.{image.facts.type.extension}",
                "blake3": image.hash,
                "media_type": image.facts.type.value,
                "width": image.facts.width,
                "height": image.facts.height,
                "animated": image.facts.animated,
                "size_bytes": image.size_bytes,
            }
        return described

    view = emotes.view
    document = {
        "format": FORMAT,
        "vod_id": vod_id,
        "channel_id": channel_id,
        "start": _text(start),
        "end": _text(end),
        "twitch": {ref: {"code": entry.code, **shown(meaning)} for ref, entry, meaning in _twitch(emotes)},
        "codes": {
            code: shown(meaning) for code, meaning in sorted(view.codes.items()) if usage is None or code in usage.codes
        },
        "changes": [
            {
                "at": _text(datetime.fromtimestamp(change.at_ms / 1000, UTC)),
                "code": change.code,
                "emote": None if change.meaning is None else shown(change.meaning),
            }
            for change in view.changes
            if usage is None or change.code in usage.codes
        ],
        "badges": {
            code: shown(meaning, Kind.BADGE)
            for code, meaning in sorted(view.badges.items())
            if usage is None or code in usage.badges
        },
        "sets": [
            {
                "provider": seen.key.provider.value,
                "kind": seen.key.kind.value,
                "channel_id": seen.key.channel_id,
                "as_of": _text(datetime.fromtimestamp(seen.as_of_ms / 1000, UTC)),
                "exact": seen.exact,
            }
            for seen in view.sets
        ],
    }
    body = json.dumps(document, ensure_ascii=False, indent=1).encode("utf-8", "replace") + b"\n"
    return EmoteManifest(body, tuple(images.values()))


def _twitch(emotes: ItemEmotes) -> Iterator[tuple[str, Entry, Meaning]]:
    for ref, entry in emotes.used.items():
        yield ref, entry, Meaning(Provider.TWITCH, entry)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
