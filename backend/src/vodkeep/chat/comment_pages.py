"""A VOD's own chat, as the web player reads it: what is asked, what is answered, and the way through the pages.

Twitch replays the chat beside a VOD as *comments*, in pages of a few dozen, over the persisted query
``VideoCommentsByOffsetOrCursor`` of its GQL. There is no documentation; what is relied on here was observed by others
with public VODs (July 2026) and is what TwitchDownloader and RechatTool have used for years:

- ``contentOffsetSeconds`` gives a page that begins well before that second and goes on behind it; offsets are whole
  seconds. Behind the end of the VOD it is answered with a ``service error``.
- The cursor of the last edge gives the page that follows. Clients that are not a browser are refused it at times with
  ``failed integrity check``; offsets are never refused.
- ``video: null`` without errors is a VOD that is gone, ``comments: null`` without errors a chat that is not offered;
  both with errors are faults of the moment.

Nothing here does any I/O: :func:`question` and :func:`read_page` make and read the bodies, :class:`RangeReader` decides
what to ask next and how far the chat is known without a gap.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from vodkeep.chat.model import ChatMessage, Chatter, Kind, Source
from vodkeep.chat.picture_time import Pauses, to_clock
from vodkeep.errors import CredentialsError, PermanentError, RateLimited, ServerError, TransientError

OPERATION = "VideoCommentsByOffsetOrCursor"
_QUERY_HASH = "b70a3591ff0f4e0313d126c6a1502d79a1c02baebb288227c582044aa76adf6a"

NOT_OFFERED = "chat_not_offered"
DELETED = "deleted"

# Of how many comments it is remembered that they were seen; a page overlaps the one before by a few dozen.
_REMEMBERED = 4000
# How often the same question is asked again, and how many seconds are stepped over, before a circle is told.
_PATIENCE = 3
_MOST_STEPS = 5
# `createdAt` is when it was said; in highlights and uploads that has nothing to do with the place in the video.
_BELIEVABLE_MS = 60_000
_LONGEST_DELAY_S = 3600.0


class CursorRefused(TransientError):
    """Twitch wants the token of its integrity check for a request with a cursor; offsets go on."""

    code = "integrity"


class ServiceFault(ServerError):
    """GQL reported an error of its own inside a reply of status 200."""


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment."""

    id: str
    offset_s: int  # into the video, whole seconds
    created_ms: int | None  # Unix milliseconds; None when the time makes no sense
    chatter: Chatter
    body: str
    emotes: str  # as `ChatMessage.emotes`


@dataclass(frozen=True, slots=True)
class Page:
    """One page of comments, in order."""

    comments: Sequence[Comment]
    has_next: bool
    cursor: str | None  # leads to the next page


@dataclass(frozen=True, slots=True)
class Ask:
    """The next question: by cursor, or by offset where there is none."""

    offset_s: int
    cursor: str | None = None
    is_probe: bool = False  # whether it only confirms that the chat has ended


@dataclass(frozen=True, slots=True)
class Taken:
    """What a page brought."""

    comments: Sequence[Comment]  # those not seen before, within the range
    known_to_ms: int  # up to here the range is known, but for `holes`
    holes: Sequence[tuple[int, int]] = ()  # new ones: start and end in ms


def question(video_id: str, ask: Ask) -> bytes:
    """The body of the request."""
    where = {"cursor": ask.cursor} if ask.cursor is not None else {"contentOffsetSeconds": ask.offset_s}
    return msgspec.json.encode(
        {
            "operationName": OPERATION,
            "variables": {"videoID": video_id, **where},
            "extensions": {"persistedQuery": {"version": 1, "sha256Hash": _QUERY_HASH}},
        }
    )


def read_page(status: int, headers: Mapping[str, str], body: bytes) -> Page:
    """Read an answer; ``headers`` have lower-case names.

    Raises `CursorRefused`, `RateLimited`, `CredentialsError`, `ServerError` (`ServiceFault` for what GQL itself
    reports), and `PermanentError` when the video is gone (`DELETED`) or its chat not offered (`NOT_OFFERED`).
    """
    _check_status(status, headers)
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except msgspec.DecodeError as error:
        raise ServerError("Twitch's comments are not what they used to be: " + str(error)[:160]) from error
    if answer.errors:
        _raise_fault(answer)
    if answer.data is None:
        raise ServerError("Twitch answered the question for a VOD's comments with nothing.")
    video = answer.data.video
    if video is None:
        raise PermanentError("The VOD is no longer on Twitch, and its chat with it.", code=DELETED)
    if video.comments is None:
        raise PermanentError("Twitch does not offer the chat of this VOD.", code=NOT_OFFERED)
    edges = [edge for edge in video.comments.edges if edge.node is not None]
    cursor = video.comments.edges[-1].cursor if video.comments.edges else None
    comments = [_comment(edge.node) for edge in edges if edge.node is not None]
    return Page(comments, video.comments.pageInfo.hasNextPage, cursor or None)


def message_of(comment: Comment, *, channel: str, start_ms: int, pauses: Pauses = ()) -> ChatMessage:
    """The comment as a message of ``channel``, whose picture began at ``start_ms`` (Unix milliseconds)."""
    replayed_ms = start_ms + to_clock(comment.offset_s * 1000, pauses)
    said_ms = comment.created_ms
    if said_ms is None or abs(said_ms - replayed_ms) > _BELIEVABLE_MS:
        said_ms = replayed_ms
    return ChatMessage(
        channel=channel,
        kind=Kind.MESSAGE,
        sent_ms=said_ms,
        chatter=comment.chatter,
        body=comment.body,
        emotes=comment.emotes,
        msg_id=comment.id,
        reply_to=None,
        extra={},
        source=Source.VOD,
    )


class RangeReader:
    """The way through the pages of one stretch of a video's chat.

    ``ask`` is the next question until ``is_done``; each answer goes to `take`, a refusal to `refuse_cursor`. Times are
    milliseconds into the video; the stretch is widened to whole seconds.
    """

    def __init__(self, start_ms: int, end_ms: int, *, by_cursor: bool = True) -> None:
        self._start_s = start_ms // 1000
        self._end_s = -(-end_ms // 1000)
        self._reached_s = self._start_s  # everything before this second is known, but for holes
        self._by_cursor = by_cursor
        self._seen: deque[str] = deque()
        self._known: set[str] = set()
        self._strikes = self._steps = 0
        self.is_done = self._end_s <= self._start_s
        self.ask = Ask(self._start_s)

    def refuse_cursor(self) -> None:
        """Go on by offset, for good."""
        self._by_cursor = False
        self.ask = Ask(self._reached_s)

    def end_unconfirmed(self) -> None:
        """The question that was to confirm the end cannot be answered; what was claimed is believed."""
        assert self.ask.is_probe
        self.is_done = True

    def take(self, page: Page) -> Taken:
        """Take in the answer to ``ask``; raises `ServerError` when the answers lead in a circle."""
        before = len(self._known)
        fresh = [comment for comment in page.comments if comment.id not in self._known]
        wanted = [comment for comment in fresh if self._start_s <= comment.offset_s < self._end_s]
        overlaps = len(fresh) < len(page.comments) or before == 0
        last_s = max((comment.offset_s for comment in page.comments), default=self._reached_s)
        if self.ask.is_probe:
            if any(comment.offset_s >= self._reached_s for comment in wanted):
                # The end was claimed too early. What the probe brought is read again in its turn.
                self._strike("The end of a VOD's chat was claimed too early, again and again.")
                self.ask = Ask(self._reached_s)
            else:
                self.is_done = True
            return Taken((), self._known_to_ms())
        holes: list[tuple[int, int]] = []
        if page.comments and self.ask.cursor is None and not overlaps and self.ask.offset_s > self._reached_s:
            # More is said in a second than a page holds, and without a cursor nothing leads to the rest of it.
            holes.append((self._reached_s * 1000, self.ask.offset_s * 1000))
        self._remember(fresh)
        if last_s >= self._end_s:
            self.is_done = True
        elif not page.has_next:
            self._reached_s = max(self._reached_s, last_s)
            # One more question tells an end from a page that was lost.
            self.ask = Ask(self._end_s - 1, is_probe=True)
        elif not fresh:
            self._go_round()
        else:
            self._strikes = self._steps = 0
            self._reached_s = max(self._reached_s, self.ask.offset_s, last_s) if holes else max(self._reached_s, last_s)
            cursor = page.cursor if self._by_cursor else None
            self.ask = Ask(self._reached_s, cursor)
        return Taken(wanted, self._known_to_ms(), holes)

    def _go_round(self) -> None:
        """A page that brought nothing: ask again, then by offset, then for the next second."""
        self._strikes += 1
        if self._strikes < _PATIENCE:
            return
        self._strikes = 0
        if self.ask.cursor is not None:
            self.refuse_cursor()
            return
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise ServerError("Twitch answers with the same page of comments again and again.")
        self.ask = Ask(self.ask.offset_s + 1)
        if self.ask.offset_s >= self._end_s:
            self.ask = Ask(self._end_s - 1, is_probe=True)

    def _strike(self, sentence: str) -> None:
        self._strikes += 1
        if self._strikes > _PATIENCE:
            raise ServerError(sentence)

    def _known_to_ms(self) -> int:
        return (self._end_s if self.is_done else self._reached_s) * 1000

    def _remember(self, comments: Sequence[Comment]) -> None:
        for comment in comments:
            self._seen.append(comment.id)
            self._known.add(comment.id)
        while len(self._seen) > _REMEMBERED:
            self._known.discard(self._seen.popleft())


# --- the shape of an answer ------------------------------------------------------------------------------------------


class _Emote(msgspec.Struct):
    emoteID: str | None = None  # noqa: N815 - GQL's name


class _Fragment(msgspec.Struct):
    text: str | None = None
    emote: _Emote | None = None


class _Badge(msgspec.Struct):
    setID: str = ""  # noqa: N815 - GQL's name
    version: str = ""


class _Message(msgspec.Struct):
    fragments: list[_Fragment] | None = None
    userBadges: list[_Badge | None] | None = None  # noqa: N815 - GQL's name
    userColor: str | None = None  # noqa: N815 - GQL's name


class _Commenter(msgspec.Struct):
    id: str
    login: str = ""
    displayName: str = ""  # noqa: N815 - GQL's name


class _Node(msgspec.Struct):
    id: str
    contentOffsetSeconds: int  # noqa: N815 - GQL's name
    createdAt: str | None = None  # noqa: N815 - GQL's name
    commenter: _Commenter | None = None
    message: _Message | None = None


class _Edge(msgspec.Struct):
    node: _Node | None = None
    cursor: str | None = None


class _PageInfo(msgspec.Struct):
    hasNextPage: bool  # noqa: N815 - GQL's name


class _Comments(msgspec.Struct):
    edges: list[_Edge]
    pageInfo: _PageInfo  # noqa: N815 - GQL's name


class _Video(msgspec.Struct):
    comments: _Comments | None = None


class _Data(msgspec.Struct):
    video: _Video | None


class _Fault(msgspec.Struct):
    message: str = ""


class _Answer(msgspec.Struct):
    data: _Data | None = None
    errors: list[_Fault] | None = None
    extensions: dict[str, Any] | None = None


def _check_status(status: int, headers: Mapping[str, str]) -> None:
    if status == 200:
        return
    if status == 429:
        raise RateLimited("Twitch's GQL asks us to slow down.", delay_s=_delay_s(headers.get("retry-after", "")))
    if status in (401, 403):
        raise CredentialsError(
            f"Twitch's GQL refuses our client id (status {status}).",
            remedy="Remove TWITCH_GQL_CLIENT_ID, or update Vodkeep.",
        )
    raise ServerError(f"Twitch's GQL answered with status {status}.")


def _delay_s(text: str) -> float | None:
    return min(float(text), _LONGEST_DELAY_S) if re.fullmatch(r"\d{1,6}", text) else None


def _raise_fault(answer: _Answer) -> None:
    messages = "; ".join(fault.message for fault in answer.errors or ())[:200]
    challenge = (answer.extensions or {}).get("challenge")
    if challenge is not None or "integrity" in messages.lower():
        raise CursorRefused("Twitch wants the token of its integrity check.")
    if "PersistedQueryNotFound" in messages:
        raise PermanentError(
            "Twitch no longer knows the query for a VOD's chat.", code="chat_query_unknown", remedy="Update Vodkeep."
        )
    raise ServiceFault(f"Twitch's GQL reported an error of its own: {messages or 'without a word'}.")


def _comment(node: _Node) -> Comment:
    message = node.message or _Message()
    body, emotes = _text_of(message.fragments or [])
    badges = ",".join(
        f"{badge.setID}/{badge.version}" for badge in message.userBadges or () if badge is not None and badge.setID
    )
    who = node.commenter or _Commenter("")  # An account that is gone.
    chatter = Chatter(
        user_id=_clean(who.id),
        login=_clean(who.login).lower(),
        display_name=_clean(who.displayName),
        color=_clean(message.userColor or ""),
        badges=_clean(badges),
    )
    return Comment(_clean(node.id), node.contentOffsetSeconds, _unix_ms(node.createdAt), chatter, body, emotes)


def _text_of(fragments: Sequence[_Fragment]) -> tuple[str, str]:
    """The body, and the places of emotes in it as IRC writes them."""
    parts: list[str] = []
    places: dict[str, list[str]] = {}
    position = 0
    for fragment in fragments:
        text = _clean(fragment.text or "")
        emote = fragment.emote.emoteID if fragment.emote is not None else None
        if text and emote and re.fullmatch(r"[\w-]+", emote):
            places.setdefault(emote, []).append(f"{position}-{position + len(text) - 1}")
        parts.append(text)
        position += len(text)
    return "".join(parts), "/".join(f"{emote}:{','.join(found)}" for emote, found in places.items())


def _clean(text: str) -> str:
    """Neither NUL nor half a character: PostgreSQL stores neither."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


def _unix_ms(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else round(moment.timestamp() * 1000)
