"""Helix without a network: requests as values, answers turned into model objects or into our errors.

``client.py`` sends what is prepared here and hands back an :class:`Answer`. Decoding is lenient where Twitch is
(unknown fields, nulls in optional fields) and careful where a mistake would lose something: an answer that cannot
be read is a :class:`~vodkeep.errors.ServerError`, never an empty list, and one unreadable entry is reported beside
the good ones instead of taking the page with it.

Source of the shapes: https://dev.twitch.tv/docs/api/reference/ (Get Users, Get Videos, Get Streams) and
https://dev.twitch.tv/docs/authentication/getting-tokens-oauth/#client-credentials-grant-flow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Annotated, Literal, TypeVar

import msgspec

from vodkeep.catalog.model import (
    BroadcasterId,
    Channel,
    Stream,
    StreamId,
    Video,
    VodId,
    is_login,
    parse_twitch_duration,
)
from vodkeep.errors import CredentialsError, PermanentError, RateLimited, ServerError, VodkeepError

BATCH_SIZE = 100
"""Helix takes at most this many ids and logins in one request, and lists at most this many entries."""

INVALID_CURSOR = "invalid_cursor"
"""``code`` of the PermanentError for a cursor that Helix no longer accepts."""

_CREDENTIALS_REMEDY = (
    "Check TWITCH_CLIENT_ID and TWITCH_CLIENT_SECRET against the application at https://dev.twitch.tv/console."
)


@dataclass(frozen=True, slots=True)
class Request:
    """What to send. The fields that carry secrets stay out of ``repr``."""

    method: str
    path: str  # below the base URL, with its leading slash
    query: tuple[tuple[str, str], ...] = ()
    form: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole and within the size limit."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An entry of a list that could not be read; the rest of the list is fine."""

    id: str | None  # as Twitch gave it, if that much was readable
    reason: str


@dataclass(frozen=True, slots=True)
class VideoPage:
    """One page of a channel's videos, newest first."""

    videos: tuple[Video, ...]
    cursor: str | None  # where the next page starts; None on the last page
    unreadable: tuple[Unreadable, ...] = ()
    remarks: tuple[Unreadable, ...] = ()  # entries kept although one of their fields made no sense


@dataclass(frozen=True, slots=True)
class LiveStreams:
    """Who is live among those asked for.

    A channel that is missing here is offline only if ``unreadable`` is empty: an entry that could not be read may
    be its stream.
    """

    streams: tuple[Stream, ...]
    unreadable: tuple[Unreadable, ...] = ()


# --- requests -----------------------------------------------------------------------------------------------


def token_request(client_id: str, client_secret: str) -> Request:
    """Ask for an app access token (client credentials grant)."""
    form = (("client_id", client_id), ("client_secret", client_secret), ("grant_type", "client_credentials"))
    return Request("POST", "/token", form=form)


def user_requests(logins: Iterable[str] = (), ids: Iterable[BroadcasterId] = ()) -> Iterator[Request]:
    """Requests for accounts by login and id, 100 to each; texts that cannot be a login or id are left out."""
    for batch in _batches([*_pairs("id", ids), *_pairs("login", logins)]):
        yield Request("GET", "/users", batch)


def stream_requests(logins: Iterable[str] = (), ids: Iterable[BroadcasterId] = ()) -> Iterator[Request]:
    """Requests for live streams by login and id, 100 to each, all answered in one page."""
    for batch in _batches([*_pairs("user_id", ids), *_pairs("user_login", logins)]):
        # Without `first` Helix lists 20, and everybody else would look offline.
        yield Request("GET", "/streams", (*batch, ("first", str(BATCH_SIZE))))


def video_page_request(broadcaster_id: BroadcasterId, after: str | None = None) -> Request:
    """The page of a channel's recordings that starts after the cursor ``after``, newest first."""
    query = (("user_id", broadcaster_id), ("type", "archive"), ("sort", "time"), ("first", str(BATCH_SIZE)))
    return Request("GET", "/videos", query if after is None else (*query, ("after", after)))


def video_request(video_id: VodId) -> Request:
    """One video by its id."""
    return Request("GET", "/videos", (("id", video_id),))


def chat_request(what: Literal["emotes", "badges"], broadcaster_id: BroadcasterId | None) -> Request:
    """The emotes or badges of a channel, or with None the global ones. They come in one page."""
    if broadcaster_id is None:
        return Request("GET", f"/chat/{what}/global")
    return Request("GET", f"/chat/{what}", (("broadcaster_id", broadcaster_id),))


_ID = re.compile(r"[0-9]{1,20}")


def _pairs(name: str, values: Iterable[str]) -> list[tuple[str, str]]:
    """Query pairs, each value once, in the order given; one impossible value would fail the whole request."""
    possible = (value for value in values if (is_login(value) if "login" in name else _ID.fullmatch(value)))
    return [(name, value) for value in dict.fromkeys(possible)]


def _batches(pairs: list[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], ...]]:
    rest = iter(pairs)
    while batch := tuple(islice(rest, BATCH_SIZE)):
        yield batch


# --- answers: status and headers ----------------------------------------------------------------------------


def failure_of(answer: Answer, *, now: datetime, hide: Sequence[str] = ()) -> VodkeepError | None:
    """The error an answer stands for, or None for 200. ``hide`` are secrets that must not be repeated."""
    if answer.status == 200:
        return None
    if answer.status == 401:
        return token_refusal_of(answer, hide=hide)
    said = f"HTTP {answer.status} {cut_short(answer.body, hide)}".rstrip()
    if answer.status == 429:
        return RateLimited(f"Twitch asks us to slow down: {said}.", delay_s=wait_until_reset_s(answer.headers, now=now))
    if answer.status in (400, 403, 405, 410, 413, 414, 422):
        return PermanentError(f"Twitch refuses the request: {said}.", code="request_refused")
    # A redirect or a 404 of a whole endpoint is a wrong base URL or a proxy's page: nothing about a video.
    return ServerError(f"Twitch answers with an error: {said}.", delay_s=_retry_after_s(answer.headers))


def token_refusal_of(answer: Answer, *, hide: Sequence[str]) -> CredentialsError:
    """The error a 401 of Helix stands for."""
    said = f"HTTP {answer.status} {cut_short(answer.body, hide)}".rstrip()
    return CredentialsError(f"Twitch refuses our access token: {said}.", remedy=_CREDENTIALS_REMEDY)


def token_failure_of(answer: Answer, *, now: datetime, hide: Sequence[str]) -> VodkeepError | None:
    """The same for the token endpoint, which answers a bad client id with 400 and a bad secret with 403."""
    if answer.status in (400, 401, 403):
        said = f"HTTP {answer.status} {cut_short(answer.body, hide)}".rstrip()
        return CredentialsError(f"Twitch refuses the client id or client secret: {said}.", remedy=_CREDENTIALS_REMEDY)
    return failure_of(answer, now=now, hide=hide)


def server_time(headers: Mapping[str, str], *, now: datetime) -> datetime:
    """The other side's clock, so that a wrong clock here or there does not turn a reset into an hour's wait."""
    try:
        stated = parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError):
        return now
    return stated.replace(tzinfo=UTC) if stated.tzinfo is None else stated


def wait_until_reset_s(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Seconds until the rate limit resets (``Ratelimit-Reset``, Unix seconds), or None if it is not said.

    Source: https://dev.twitch.tv/docs/api/guide/#twitch-rate-limits.
    """
    reset = _number(headers.get("ratelimit-reset"))
    if reset is None:
        return _retry_after_s(headers)
    return max(0.0, reset - server_time(headers, now=now).timestamp())


def remaining_points(headers: Mapping[str, str]) -> int | None:
    """How many requests are left before the reset (``Ratelimit-Remaining``), if it is said."""
    remaining = _number(headers.get("ratelimit-remaining"))
    return None if remaining is None else int(remaining)


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    return _number(headers.get("retry-after"))


def _number(text: str | None) -> float | None:
    """A non-negative whole number of at most 12 digits."""
    return float(text) if text is not None and re.fullmatch(r"[0-9]{1,12}", text, re.ASCII) else None


def cut_short(body: bytes, hide: Sequence[str] = (), limit: int = 160) -> str:
    """A foreign body for a log line or an error: one line, no control characters, no secrets, cut."""
    text = body[: 16 * 1024].decode("utf-8", "replace")
    for secret in hide:
        if secret:
            text = text.replace(secret, "***")
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


# --- answers: bodies ----------------------------------------------------------------------------------------


class _Pagination(msgspec.Struct):
    cursor: str | msgspec.UnsetType | None = msgspec.UNSET


class _Envelope(msgspec.Struct):
    data: list[msgspec.Raw]
    pagination: _Pagination | msgspec.UnsetType | None = msgspec.UNSET


class _TokenBody(msgspec.Struct):
    access_token: Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,4096}$")]
    expires_in: Annotated[int, msgspec.Meta(ge=0)] | None = None


class _ErrorBody(msgspec.Struct):
    status: int
    error: str = ""
    message: str = ""


_IdText = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,20}$")]
_When = Annotated[datetime, msgspec.Meta(tz=True)]


class _UserEntry(msgspec.Struct):
    id: _IdText
    login: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_]{1,25}$")]
    display_name: str | None = None
    profile_image_url: str | None = None


class _VideoEntry(msgspec.Struct):
    id: _IdText
    user_id: _IdText
    created_at: _When
    user_login: str | None = None
    stream_id: str | None = None
    title: str | None = None
    description: str | None = None
    duration: str | None = None
    thumbnail_url: str | None = None
    type: str | None = None


class _StreamEntry(msgspec.Struct):
    id: _IdText
    user_id: _IdText
    user_login: str
    started_at: _When
    user_name: str | None = None
    title: str | None = None


class _OnlyId(msgspec.Struct):
    id: str | int | None = None


@dataclass(frozen=True, slots=True)
class AppToken:
    """An app access token; never printed whole."""

    value: str = field(repr=False)
    lifetime: timedelta | None  # None if Twitch did not say

    @property
    def tail(self) -> str:
        """The last four characters, enough to tell two tokens apart in a log."""
        return f"…{self.value[-4:]}" if len(self.value) >= 16 else "…"


def app_token_from(answer: Answer, *, now: datetime, hide: Sequence[str]) -> AppToken:
    """The token in an answer of the token endpoint. Raises what :func:`token_failure_of` says."""
    failure = token_failure_of(answer, now=now, hide=hide)
    if failure is not None:
        raise failure
    try:
        body = msgspec.json.decode(answer.body, type=_TokenBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # The body may hold a token, so nothing of it is repeated, the decoder's words included.
        raise ServerError("Twitch's token endpoint answers without a readable token.") from error
    lifetime = None if body.expires_in is None else timedelta(seconds=min(body.expires_in, 10**8))
    return AppToken(body.access_token, lifetime)


def body_from(answer: Answer, *, now: datetime, hide: Sequence[str] = ()) -> bytes:
    """The body of a 200 answer, for who reads it. Raises what `failure_of` says."""
    failure = failure_of(answer, now=now, hide=hide)
    if failure is not None:
        raise failure
    return answer.body


def channels_from(answer: Answer, *, now: datetime, hide: Sequence[str] = ()) -> tuple[Channel, ...]:
    """The accounts of a Get Users answer; an entry that cannot be read fails the answer."""
    entries, unreadable, _ = _entries(answer, _UserEntry, now=now, hide=hide)
    if unreadable:
        raise ServerError(f"Twitch lists an account we cannot read: {unreadable[0].reason}.")
    return tuple(
        Channel(
            id=BroadcasterId(entry.id),
            login=entry.login,
            display_name=_text(entry.display_name) or entry.login,
            profile_image_url=_text(entry.profile_image_url) or None,
        )
        for entry in entries
    )


def live_streams_from(answer: Answer, *, now: datetime, hide: Sequence[str] = ()) -> LiveStreams:
    """The streams of a Get Streams answer."""
    entries, unreadable, _ = _entries(answer, _StreamEntry, now=now, hide=hide)
    streams = tuple(
        Stream(
            id=StreamId(entry.id),
            broadcaster_id=BroadcasterId(entry.user_id),
            broadcaster_login=_text(entry.user_login) or "",
            display_name=_text(entry.user_name) or entry.user_login,
            title=_text(entry.title) or "",
            started_at=entry.started_at.astimezone(UTC),
        )
        for entry in entries
    )
    return LiveStreams(streams, unreadable)


def video_page_from(
    answer: Answer, broadcaster_id: BroadcasterId, *, after: str | None, now: datetime, hide: Sequence[str] = ()
) -> VideoPage:
    """One page of a channel's videos.

    Raises PermanentError with code ``invalid_cursor`` if Helix refuses ``after``, and ServerError if nothing on
    the page can be read or if the page does not say whether another one follows.
    """
    if answer.status == 400 and after is not None:
        raise PermanentError(
            f"Twitch no longer accepts the place where the list was left: {cut_short(answer.body, hide)}.",
            code=INVALID_CURSOR,
        )
    entries, unreadable, envelope = _entries(answer, _VideoEntry, now=now, hide=hide)
    cursor = _next_cursor(envelope)
    if cursor is not None and cursor == after:
        raise ServerError("Twitch's list of videos points back at the page just read.")
    videos: dict[VodId, Video] = {}
    refused = list(unreadable)
    remarks: list[Unreadable] = []
    for entry in entries:
        if entry.user_id != broadcaster_id:
            refused.append(Unreadable(entry.id, f"it belongs to the broadcaster {entry.user_id}"))
            continue
        video, remark = _video(entry)
        if video is None:
            refused.append(remark or Unreadable(entry.id, "it cannot be read"))
            continue
        if remark is not None:
            remarks.append(remark)
        videos[video.id] = video
    if refused and not videos:
        raise ServerError(f"Twitch lists videos and none can be read; the first: {refused[0].reason}.")
    return VideoPage(tuple(videos.values()), cursor, tuple(refused), tuple(remarks))


def video_from(answer: Answer, *, now: datetime, hide: Sequence[str] = ()) -> Video | None:
    """The one video of a Get Videos answer by id, or None if Helix itself says that there is none.

    A 404 counts only with Helix's own error body: any other is a proxy or a wrong base URL, and must not make a
    video look deleted.
    """
    if answer.status == 404:
        try:
            stated = msgspec.json.decode(answer.body, type=_ErrorBody).status
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            stated = 0
        if stated == 404:
            return None
    entries, unreadable, _ = _entries(answer, _VideoEntry, now=now, hide=hide)
    if unreadable:
        raise ServerError(f"Twitch describes a video in a way we cannot read: {unreadable[0].reason}.")
    if not entries:
        return None
    video, remark = _video(entries[0])
    if video is None:
        reason = remark.reason if remark is not None else "unknown"
        raise ServerError(f"Twitch describes a video in a way we cannot read: {reason}.")
    return video


_EARLIEST = datetime(2007, 1, 1, tzinfo=UTC)  # Justin.tv opened in 2007; Go's zero time is in year 1.


def _video(entry: _VideoEntry) -> tuple[Video | None, Unreadable | None]:
    """The video, and what was odd about it; no video at all when it has no time to be filed under."""
    if entry.created_at < _EARLIEST:
        return None, Unreadable(entry.id, f"created_at is {entry.created_at.isoformat()}")
    duration, remark = None, None
    if entry.duration is not None:
        try:
            duration = parse_twitch_duration(entry.duration)
        except ValueError as error:
            remark = Unreadable(entry.id, str(error))
    video = Video(
        id=VodId(entry.id),
        broadcaster_id=BroadcasterId(entry.user_id),
        broadcaster_login=_text(entry.user_login),
        created_at=entry.created_at.astimezone(UTC),
        stream_id=StreamId(entry.stream_id) if entry.stream_id and _ID.fullmatch(entry.stream_id) else None,
        title=_text(entry.title),
        description=_text(entry.description),
        duration=duration,
        thumbnail_url=_text(entry.thumbnail_url) or None,
        kind=_text(entry.type) or "archive",
    )
    return video, remark


def _text(value: str | None) -> str | None:
    """Text that every database can hold: PostgreSQL refuses NUL."""
    return None if value is None else value.replace("\x00", "\ufffd")


_Entry = TypeVar("_Entry", bound=msgspec.Struct)


def _entries(
    answer: Answer, entry_type: type[_Entry], *, now: datetime, hide: Sequence[str]
) -> tuple[list[_Entry], tuple[Unreadable, ...], _Envelope]:
    """The entries of a 200 answer, each read on its own."""
    failure = failure_of(answer, now=now, hide=hide)
    if failure is not None:
        raise failure
    envelope = _envelope(answer.body)
    entries: list[_Entry] = []
    unreadable: list[Unreadable] = []
    for raw in envelope.data:
        try:
            entries.append(msgspec.json.decode(raw, type=entry_type))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            unreadable.append(Unreadable(_id_in(raw), cut_short(str(error).encode("utf-8", "replace"))))
    return entries, tuple(unreadable), envelope


def _envelope(body: bytes) -> _Envelope:
    try:
        try:
            return msgspec.json.decode(body, type=_Envelope)
        except msgspec.ValidationError:
            raise
        except (msgspec.DecodeError, UnicodeDecodeError):
            # One title with half a surrogate pair or a broken byte makes the strict decoder refuse the whole page.
            return msgspec.json.decode(_mended(body), type=_Envelope)
    except (ValueError, RecursionError) as error:
        reason = cut_short(str(error).encode("utf-8", "replace"))
        raise ServerError(f"Twitch answers with a body we cannot read: {reason}.") from error


def _mended(body: bytes) -> bytes:
    """The same JSON with every character that is not one replaced. Raises ValueError if it is not JSON."""
    return json.dumps(json.loads(body.decode("utf-8", "replace")), ensure_ascii=False).encode("utf-8", "replace")


def _id_in(raw: msgspec.Raw) -> str | None:
    try:
        stated = msgspec.json.decode(raw, type=_OnlyId).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if stated is None else cut_short(str(stated).encode("utf-8", "replace"), limit=40)


def _next_cursor(envelope: _Envelope) -> str | None:
    """Where the next page starts, or None on the last page.

    "The object is empty if there are no more pages left" (Get Videos). Where the object or the cursor is null or
    missing on a *full* page, nothing says that the list ends here, and taking it for the end would lose the rest.
    """
    pagination = envelope.pagination
    if isinstance(pagination, _Pagination):
        if isinstance(pagination.cursor, str):
            return pagination.cursor or None
        stated = pagination.cursor is msgspec.UNSET
    else:
        stated = False
    if not stated and len(envelope.data) >= BATCH_SIZE:
        raise ServerError("Twitch sends a full page of videos without saying whether another one follows.")
    return None
