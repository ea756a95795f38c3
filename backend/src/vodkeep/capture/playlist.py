"""Media playlists: text in, values out (RFC 8216, with the marks Twitch adds).

Twitch names a segment whose sound it removed ``<n>-muted.ts`` and, in playlists of VODs with such parts, often lists
``<n>-unmuted.ts``, which exists only for some of them (observed on public playlists, 2024 to 2026).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from urllib.parse import urljoin, urlsplit

from vodkeep.capture.model import ByteRange, InitSection, MediaPlaylist, Segment

# 48 h of 2 s segments is 86,400; anything far beyond is not a playlist we were meant to hold in memory.
MAX_SEGMENTS = 200_000
MAX_LINE_CHARS = 16_384
# No segment lasts an hour; a larger number is nonsense that would break sums and progress.
_MAX_SEGMENT_SECONDS = 3_600

# It begins where a name begins and nowhere within: a long name without a value would be tried from each letter on.
_ATTRIBUTE = re.compile(r'(?<![A-Z0-9-])([A-Z0-9-]+)=("[^"\r\n]*"|[^",\s][^,]*)(?:,|$)')
_MUTED = re.compile(r"-(?:un)?muted(?=\.[a-z0-9]+$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DATE_ZONE = re.compile(r"([+-]\d{2})(\d{2})$")


class PlaylistError(ValueError):
    """The text is not a media playlist we can trust; the message says what is wrong and on which line."""


def parse_media_playlist(text: str, base_url: str) -> MediaPlaylist:
    """Read a media playlist; relative URIs are resolved against ``base_url``.

    Unknown tags are ignored (RFC 8216 section 6.3.1). Raises `PlaylistError` for anything that would make the
    timeline a guess: a missing header, a multivariant playlist, broken durations, encrypted segments, a URI scheme
    other than http and https.
    """
    lines = _lines(text)
    if next(lines, (0, ""))[1] != "#EXTM3U":
        raise PlaylistError("the text does not begin with #EXTM3U")
    return _Reader(base_url).read(lines)


def muted_alternatives(segment: Segment) -> tuple[str, ...]:
    """The URIs to try for ``segment``, best first: with sound where the playlist offers it, else muted."""
    uri, _, query = segment.uri.partition("?")
    if not uri.rsplit("/", 1)[-1].partition("-")[2].startswith("unmuted."):
        return (segment.uri,)
    muted = uri[: uri.rindex("-unmuted.")] + "-muted." + uri.rsplit(".", 1)[-1]
    return (segment.uri, muted + (f"?{query}" if query else ""))


def is_muted_name(name: str) -> bool:
    """Whether a segment of this name has lost its sound, as far as its name tells."""
    match = _MUTED.search(name)
    return match is not None and match.group() == "-muted"


def plain_name(name: str) -> str:
    """The name of a segment without the mark that tells of its sound: the same before and after muting."""
    return _MUTED.sub("", name)


def write_media_playlist(playlist: MediaPlaylist) -> str:
    """The text of ``playlist``, with absolute addresses; `parse_media_playlist` makes the same of it.

    Segments without an init section must not come behind such with one: no tag takes one back.
    """
    first = playlist.segments[0].media_sequence if playlist.segments else 0
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{playlist.version}", f"#EXT-X-TARGETDURATION:{playlist.target_duration_s}"]
    lines.append(f"#EXT-X-MEDIA-SEQUENCE:{first}")
    init: InitSection | None = None
    for segment in playlist.segments:
        if segment.discontinuity:
            lines.append("#EXT-X-DISCONTINUITY")
        if segment.init is not None and segment.init != init:
            init = segment.init
            part = f',BYTERANGE="{_range_text(init.byte_range)}"' if init.byte_range is not None else ""
            lines.append(f'#EXT-X-MAP:URI="{init.uri}"{part}')
        if segment.program_date_time is not None:
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{segment.program_date_time.isoformat()}")
        if segment.byte_range is not None:
            lines.append(f"#EXT-X-BYTERANGE:{_range_text(segment.byte_range)}")
        if segment.gap:
            lines.append("#EXT-X-GAP")
        whole_s, rest_us = divmod(segment.duration_us, 1_000_000)
        lines += [f"#EXTINF:{whole_s}.{rest_us:06d},", segment.uri]
    if playlist.ended:
        lines.append("#EXT-X-ENDLIST")
    return "\n".join([*lines, ""])


def _range_text(byte_range: ByteRange) -> str:
    return f"{byte_range.length}@{byte_range.offset}"


def _lines(text: str) -> Iterator[tuple[int, str]]:
    # RFC 8216 section 4.1: lines end in LF or CRLF; a BOM must not be there, but a stray one harms nobody.
    # str.splitlines() would also split at form feeds and Unicode separators inside a URI or a title.
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = raw.removesuffix("\r").strip(" \t")
        if len(line) > MAX_LINE_CHARS:
            raise PlaylistError(f"line {number} is longer than {MAX_LINE_CHARS} characters")
        if line:
            yield number, line


class _Reader:
    """Collects tags until the URI line that they apply to."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._segments: list[Segment] = []
        self._first_sequence = 0
        self._target_duration_s: int | None = None
        self._version = 1
        self._ended = False
        self._clock_us = 0
        self._init: InitSection | None = None
        self._range_ends: dict[str, int] = {}
        self._forget_segment_tags()

    def _forget_segment_tags(self) -> None:
        self._duration_us: int | None = None
        self._discontinuity = False
        self._date: datetime | None = None
        self._range: tuple[int, int | None] | None = None
        self._gap = False

    def read(self, lines: Iterator[tuple[int, str]]) -> MediaPlaylist:
        for number, line in lines:
            try:
                if not line.startswith("#"):
                    self._uri(line)
                elif line.startswith("#EXT"):
                    self._tag(line)
            except (ValueError, ArithmeticError) as error:
                raise PlaylistError(f"line {number}: {error}") from error
        if self._target_duration_s is None:
            raise PlaylistError("there is no EXT-X-TARGETDURATION, so this is not a media playlist")
        return MediaPlaylist(tuple(self._segments), self._target_duration_s, self._ended, self._version)

    def _tag(self, line: str) -> None:
        name, _, value = line.partition(":")
        match name:
            case "#EXTINF":
                self._duration_us = _seconds_to_us(value.partition(",")[0])
            case "#EXT-X-BYTERANGE":
                self._range = _parse_range(value)
            case "#EXT-X-DISCONTINUITY":
                self._discontinuity = True
            case "#EXT-X-PROGRAM-DATE-TIME":
                self._date = _parse_date(value)
            case "#EXT-X-GAP":
                self._gap = True
            case "#EXT-X-MAP":
                self._init = self._parse_map(value)
            case "#EXT-X-KEY":
                if _attributes(value).get("METHOD") != "NONE":
                    raise ValueError("the segments are encrypted")
            case "#EXT-X-ENDLIST":
                self._ended = True
            case "#EXT-X-TARGETDURATION":
                self._target_duration_s = _whole_number(value, "EXT-X-TARGETDURATION")
            case "#EXT-X-MEDIA-SEQUENCE":
                if self._segments:
                    raise ValueError("EXT-X-MEDIA-SEQUENCE stands behind the first segment")
                self._first_sequence = _whole_number(value, "EXT-X-MEDIA-SEQUENCE")
            case "#EXT-X-VERSION":
                self._version = _whole_number(value, "EXT-X-VERSION")
            case "#EXT-X-STREAM-INF" | "#EXT-X-I-FRAME-STREAM-INF":
                raise ValueError("this is a multivariant playlist, not a media playlist")
            case _:
                pass

    def _uri(self, line: str) -> None:
        if self._duration_us is None:
            raise ValueError("a segment has no EXTINF")
        if len(self._segments) >= MAX_SEGMENTS:
            raise ValueError(f"there are more than {MAX_SEGMENTS} segments")
        uri = _absolute(self._base_url, line)
        index = len(self._segments)
        segment = Segment(
            index=index,
            media_sequence=self._first_sequence + index,
            uri=uri,
            start_us=self._clock_us,
            duration_us=self._duration_us,
            # Before the very first segment there is nothing to be discontinuous with.
            discontinuity=self._discontinuity and index > 0,
            program_date_time=self._date,
            init=self._init,
            byte_range=self._byte_range(uri),
            muted=_MUTED.search(uri.split("?", 1)[0]) is not None,
            gap=self._gap,
        )
        self._segments.append(segment)
        self._clock_us = segment.end_us
        self._forget_segment_tags()

    def _byte_range(self, uri: str) -> ByteRange | None:
        if self._range is None:
            return None
        length, offset = self._range
        if offset is None:  # RFC 8216 section 4.3.2.2: it begins where the one before it in the same resource ended
            if uri not in self._range_ends:
                raise ValueError("EXT-X-BYTERANGE without an offset follows no other range of the same resource")
            offset = self._range_ends[uri]
        self._range_ends[uri] = offset + length
        return ByteRange(length, offset)

    def _parse_map(self, value: str) -> InitSection:
        attributes = _attributes(value)
        if not attributes.get("URI"):
            raise ValueError("EXT-X-MAP has no URI")
        uri = _absolute(self._base_url, attributes["URI"])
        if "BYTERANGE" not in attributes:
            return InitSection(uri)
        length, offset = _parse_range(attributes["BYTERANGE"])
        return InitSection(uri, ByteRange(length, offset or 0))


def _absolute(base_url: str, reference: str) -> str:
    if _CONTROL.search(reference):
        raise ValueError(f"{reference[:80]!r} is not an address")
    uri = urljoin(base_url, reference)
    parts = urlsplit(uri)
    # Looking at the port is what finds out that it is none.
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError(f"{reference[:80]!r} is not an http address")
    return uri


def _attributes(value: str) -> dict[str, str]:
    """An attribute list (RFC 8216 section 4.2), quotes taken off."""
    return {name: text.strip('"') for name, text in _ATTRIBUTE.findall(value)}


def _seconds_to_us(text: str) -> int:
    try:
        seconds = Decimal(text.strip())
    except InvalidOperation:
        raise ValueError(f"EXTINF {text[:40]!r} is not a number of seconds") from None
    if not seconds.is_finite() or not 0 <= seconds <= _MAX_SEGMENT_SECONDS:
        raise ValueError(f"EXTINF {text[:40]!r} is outside 0 to {_MAX_SEGMENT_SECONDS} seconds")
    return int((seconds * 1_000_000).to_integral_value())


def _whole_number(text: str, tag: str) -> int:
    text = text.strip()
    # int() would also take signs, underscores and digits of other scripts.
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise ValueError(f"{tag} {text[:40]!r} is not a whole number")
    return int(text)


def _parse_range(text: str) -> tuple[int, int | None]:
    length, at, offset = text.partition("@")
    size = _whole_number(length, "BYTERANGE")
    if not size:
        raise ValueError("BYTERANGE is a range of no bytes")
    return size, _whole_number(offset, "BYTERANGE") if at else None


def _parse_date(text: str) -> datetime | None:
    """An ISO 8601 instant; a date we cannot read is left out, because the timeline does not rest on it."""
    try:
        date = datetime.fromisoformat(_DATE_ZONE.sub(r"\1:\2", text.strip()))
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
