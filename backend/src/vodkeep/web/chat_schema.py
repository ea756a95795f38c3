"""The JSON of chat. Messages are written by the database (:mod:`vodkeep.chat.message_json`); these describe them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from vodkeep.chat.message_json import KIND_NAMES, SOURCE_NAMES
from vodkeep.chat.search import Hit, Hits
from vodkeep.chat.search_words import snippet

_KINDS: dict[str, Any] = {"enum": list(KIND_NAMES.values())}
_SOURCES: dict[str, Any] = {"enum": list(SOURCE_NAMES.values())}


class ChatMessageJson(BaseModel):
    """A message; what is not there has its ordinary value."""

    id: str = Field(description="Twitch's id without dashes, or a digest of it; the same in `reply_to`.")
    offset_ms: int = Field(description="On the broadcast's timeline; below 0 before the picture begins.")
    chatter: str | None = Field(description="Who said it, a key of `chatters`; null where nobody speaks.")
    body: str
    kind: str = Field(default="message", json_schema_extra=_KINDS)
    source: str = Field(
        default="live",
        description="Where it came from: our own connection, the VOD's comments, a file.",
        json_schema_extra=_SOURCES,
    )
    emotes: str | None = Field(
        default=None, description="`25:0-4,12-16/1902:6-10`: code points of `body`, both ends included."
    )
    reply_to: str | None = Field(default=None, description="The message that this one answers.")
    extra: dict[str, Any] | None = Field(default=None, description="Bits, subscriptions, replies and so on.")
    removed: bool = Field(default=False, description="As moderated only: a moderator took it away, `body` is empty.")


class ChatterJson(BaseModel):
    """A person as they looked when they said something."""

    user_id: str = Field(description="Empty where only the name is known.")
    login: str
    name: str
    color: str = Field(description="`#RRGGBB` or empty.")
    badges: str = Field(description="`broadcaster/1,subscriber/12`.")


class ChatWindow(BaseModel):
    """Messages in the order of time, with those who said them."""

    messages: list[ChatMessageJson]
    chatters: dict[str, ChatterJson]
    next: str | None = Field(description="The `cursor` of what follows; null at the end.")


class ChatHistogram(BaseModel):
    """How busy a chat was."""

    bucket_ms: int
    buckets: list[tuple[int, int]] = Field(description="Start (ms on the timeline) and messages; none without any.")


class ChatHit(BaseModel):
    """A message that was found."""

    vod_id: str | None = Field(description="The broadcast; null for a stream that became none.")
    title: str | None
    channel: str
    offset_ms: int | None = Field(description="Where to jump to, on the broadcast's timeline.")
    sent_at: datetime
    kind: str = Field(json_schema_extra=_KINDS)
    user_id: str
    login: str
    name: str
    color: str
    snippet: str = Field(description="The message, or the part of a long one around what was found.")


class ChatHits(BaseModel):
    """A page of what was found."""

    items: list[ChatHit]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")
    complete: bool = Field(description="False: the newest messages, or an import, are not in the index yet.")


def hits_of(hits: Hits, terms: tuple[str, ...], titles: dict[str, str]) -> ChatHits:
    """The answer to a search."""
    return ChatHits(
        items=[_hit(hit, terms, titles) for hit in hits.hits],
        next=hits.following,
        complete=hits.complete,
    )


def _hit(hit: Hit, terms: tuple[str, ...], titles: dict[str, str]) -> ChatHit:
    return ChatHit(
        vod_id=hit.vod_id,
        title=None if hit.vod_id is None else titles.get(hit.vod_id),
        channel=hit.channel,
        offset_ms=hit.offset_ms,
        sent_at=datetime.fromtimestamp(hit.sent_ms / 1000, UTC),
        kind=KIND_NAMES[hit.kind],
        user_id=hit.user_id,
        login=hit.login,
        name=hit.display_name,
        color=hit.color,
        snippet=snippet(hit.body, terms),
    )
