"""``/api/v1/vods/{vod_id}/chat/emotes`` and ``/api/v1/emotes``: what chat looked like, from the vault alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from vodkeep.chat.vault.files import is_hash
from vodkeep.chat.vault.model import Kind, Provider, StoredImage
from vodkeep.chat.vault.replay import EmoteReplay
from vodkeep.chat.vault.view import ItemEmotes, Meaning
from vodkeep.clock import Clock
from vodkeep.web.answers import answer_json
from vodkeep.web.media import is_vod_id
from vodkeep.web.problems import ProblemError, documented
from vodkeep.web.ranges import etag_matches
from vodkeep.web.reading import StatusReader, StoredVod
from vodkeep.web.routing import new_router, readable

# An address is the hash of what is behind it: it never changes. Private, because it is behind the login.
_FOR_EVER = "private, max-age=31536000, immutable"
# Were it ever taken for a page, it could do nothing.
_NO_PAGE = "default-src 'none'; sandbox"


class EmoteImage(BaseModel):
    """An emote or a badge as it is drawn."""

    provider: Provider
    id: str = Field(description="The provider's id.")
    code: str = Field(description='What is typed; of a badge "<set>/<version>".')
    url: str | None = Field(description="Where its image is; null while the vault does not have it (yet).")
    width: int | None = Field(default=None, description="Pixels; the images have up to three times the size of text.")
    height: int | None = None
    animated: bool = False
    size_bytes: int | None = None
    zero_width: bool = Field(default=False, description="Drawn over the emote before it.")
    title: str = Field(default="", description="Of a badge.")


class EmoteChange(BaseModel):
    """A code that means something else from then on."""

    offset_ms: int = Field(description="From the start of the broadcast.")
    code: str
    emote: EmoteImage | None = Field(description="null: nothing any more.")


class EmoteSet(BaseModel):
    """How well a set is known."""

    provider: Provider
    kind: Kind
    channel: bool = Field(description="The channel's own; else it holds everywhere.")
    as_of: datetime = Field(description="The start of the broadcast, or when the set was first seen.")
    exact: bool = Field(description="Seen when the broadcast was over at the latest; else it is shown as found later.")


class VodEmotes(BaseModel):
    """What chat of a broadcast looked like."""

    vod_id: str
    twitch: dict[str, EmoteImage] = Field(description="Twitch's emotes by the id that messages name.")
    codes: dict[str, EmoteImage] = Field(description="Third parties' emotes by the word in the text, at the start.")
    changes: list[EmoteChange] = Field(description="Words that meant something else later, in order of time.")
    badges: dict[str, EmoteImage] = Field(description='Badges by "<set>/<version>".')
    sets: list[EmoteSet]


def emote_routes(reader: StatusReader, replay: EmoteReplay, clock: Clock) -> APIRouter:
    """The routes of emotes and badges."""
    router = new_router(prefix="/api/v1", tags=["chat"])

    @readable(router, "/vods/{vod_id}/chat/emotes", response_model=VodEmotes, responses=documented(401, 404, 503))
    async def list_emotes(request: Request, vod_id: str) -> Response:
        """The emotes and badges of one broadcast, as they were when it ran."""
        found = await reader.find_vod(vod_id) if is_vod_id(vod_id) else None
        if found is None:
            raise ProblemError(404, "unknown_vod", "There is no broadcast with this id.")
        start, end = _times(found[0], clock.now())
        channel_id = await reader.broadcaster_id(found[0].channel)
        return answer_json(request, _shown(vod_id, start, await replay.of_item(vod_id, channel_id, start, end)))

    @readable(
        router,
        "/emotes/{image_hash}",
        response_class=Response,
        responses={200: {"content": {"image/*": {}}, "description": "The image."}, **documented(401, 404, 503)},
    )
    async def find_image(request: Request, image_hash: str) -> Response:
        """One image of the vault by its hash; it never changes."""
        if not is_hash(image_hash):
            raise ProblemError(404, "unknown_emote", "There is no such image.")
        headers = {"etag": f'"{image_hash}"', "cache-control": _FOR_EVER, "content-security-policy": _NO_PAGE}
        offered = request.headers.get("if-none-match")
        if offered is not None and etag_matches(offered, headers["etag"]):
            return Response(status_code=304, headers=headers)
        loaded = await replay.load_image(image_hash)
        if loaded is None:
            raise ProblemError(404, "unknown_emote", "There is no such image.")
        image, data = loaded
        return Response(data, media_type=image.facts.type.value, headers=headers)

    return router


def _times(vod: StoredVod, now: datetime) -> tuple[datetime, datetime]:
    """Start and end of a broadcast; one that still runs ends now."""
    start = vod.date or vod.created_at
    return start, now if vod.duration_seconds is None else start + timedelta(seconds=vod.duration_seconds)


def _shown(vod_id: str, start: datetime, emotes: ItemEmotes) -> VodEmotes:
    view, images = emotes.view, emotes.images
    start_ms = int(start.timestamp() * 1000)
    used = {ref: Meaning(Provider.TWITCH, entry) for ref, entry in emotes.used.items()}
    return VodEmotes(
        vod_id=vod_id,
        twitch={ref: _image(meaning, images) for ref, meaning in sorted({**view.twitch, **used}.items())},
        codes={code: _image(meaning, images) for code, meaning in sorted(view.codes.items())},
        changes=[
            EmoteChange(
                offset_ms=change.at_ms - start_ms,
                code=change.code,
                emote=None if change.meaning is None else _image(change.meaning, images),
            )
            for change in view.changes
        ],
        badges={code: _image(meaning, images) for code, meaning in sorted(view.badges.items())},
        sets=[
            EmoteSet(
                provider=seen.key.provider,
                kind=seen.key.kind,
                channel=bool(seen.key.channel_id),
                as_of=datetime.fromtimestamp(seen.as_of_ms / 1000, UTC),
                exact=seen.exact,
            )
            for seen in view.sets
        ],
    )


def _image(meaning: Meaning, images: Mapping[str, StoredImage]) -> EmoteImage:
    entry = meaning.entry
    shown = EmoteImage(
        provider=meaning.provider,
        id=entry.ref,
        code=entry.code,
        url=None,
        zero_width=entry.zero_width,
        title=entry.title,
    )
    image = images.get(entry.url)
    if image is None:
        return shown
    return shown.model_copy(
        update={
            "url": f"/api/v1/emotes/{image.hash}",
            "width": image.facts.width,
            "height": image.facts.height,
            "animated": image.facts.animated,
            "size_bytes": image.size_bytes,
        }
    )
