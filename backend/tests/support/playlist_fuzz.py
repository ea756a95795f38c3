"""Mangles media playlists and sees what the reader, and those who work with what it read, make of them.

What must hold, however a playlist is mangled: the reader answers soon, with a playlist or with a `PlaylistError` that
has a word to say. What it read is a timeline without gaps or overlaps, numbered in a row, of http addresses. Written
down and read again it is the same. Together with what an earlier attempt saw it is a timeline again, in which nothing
that is on offer now is missing.

    python -m support.playlist_fuzz --minutes 10 --seed 1
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from vodkeep.capture.model import FetchedSegment, MediaPlaylist, PacketCounts, Segment
from vodkeep.capture.plan import is_good_enough, match_fetched, merge_playlists, renumbered
from vodkeep.capture.playlist import (
    MAX_SEGMENTS,
    PlaylistError,
    muted_alternatives,
    parse_media_playlist,
    plain_name,
    write_media_playlist,
)

LONGEST_S = 0.5  # of processor time for texts of less than 1 MB; the usual is a few milliseconds
BASE = "https://edge.example/abc_channel_1/chunked/index-dvr.m3u8?sig=1&token=2"


class BrokenPromise(AssertionError):
    """The reader did something it must not do."""


def _transport_stream() -> str:
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:10", "#ID3-EQUIV-TDTG:2026-11-01T10:00:00"]
    lines += ["#EXT-X-PLAYLIST-TYPE:EVENT", "#EXT-X-MEDIA-SEQUENCE:0", "#EXT-X-TWITCH-ELAPSED-SECS:0.000"]
    lines += ["#EXT-X-TWITCH-TOTAL-SECS:235.433"]
    for number in range(24):
        if number in (7, 15):
            lines += ["#EXT-X-DISCONTINUITY", f"#EXT-X-PROGRAM-DATE-TIME:2026-11-01T10:0{number % 10}:00.5Z"]
        if number == 11:
            lines.append("#EXT-X-GAP")
        mark = {4: "-muted", 5: "-unmuted"}.get(number, "")
        lines += [f"#EXTINF:{10 if number < 23 else 5.433:.3f},", f"{number}{mark}.ts"]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def _fragments() -> str:
    lines = ["#EXTM3U", "#EXT-X-VERSION:6", "#EXT-X-TARGETDURATION:2", "#EXT-X-MEDIA-SEQUENCE:17"]
    for number in range(12):
        if number in (0, 8):
            lines += ["#EXT-X-DISCONTINUITY"] * (number > 0)
            lines.append(f'#EXT-X-MAP:URI="init-{number}.mp4"' + (',BYTERANGE="720@0"' if number else ""))
        lines += ["#EXT-X-PROGRAM-DATE-TIME:2026-11-01T10:00:00.123+0200"] * (number == 3)
        lines += ["#EXTINF:2.000,a title, with a comma", f"#EXT-X-BYTERANGE:{1000 + number}@{5000 * number}"]
        lines.append("https://other.example/all.m4s" if number % 5 else f"{number}.m4s?x=1")
    return "\r\n".join([*lines, "#EXT-X-ENDLIST", ""])


def _long() -> str:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2"]
    for number in range(700):
        lines += ["#EXTINF:2.002,", f"{number}.ts"]
    return "\n".join([*lines, "#EXT-X-ENDLIST"])


ORIGINALS = {"transport stream": _transport_stream(), "fragments": _fragments(), "long": _long()}

NUMBERS = (
    "0", "-0", "+1", "-1", "1e9", "1e999999999", "1E-999999999", "NaN", "sNaN", "Infinity", "0x10", "1_000", "١٢", "²",
    "9" * 30, "9" * 5000, "00000000000000000010", "3600", "3600.000001", "0.0000001", ".5", "5.", "", " ", "1 2",
    "10,5",
)  # fmt: skip
LINES = (
    "#EXTM3U", "#EXT-X-ENDLIST", "#EXT-X-DISCONTINUITY", "#EXT-X-GAP", "#EXTINF", "#EXTINF:", "#EXTINF:1,", "#",
    "#EXT-X-KEY:METHOD=NONE", "#EXT-X-KEY:METHOD=AES-128,URI=\"k\"", "#EXT-X-KEY:", "#EXT-X-MAP:",
    "#EXT-X-BYTERANGE:1", "#EXT-X-MAP:URI=\"\"", "#EXT-X-MAP:URI=\"x\",BYTERANGE=\"1\"",
    "#EXT-X-MAP:URI=x,BYTERANGE=5@7", "#EXT-X-BYTERANGE:@", "#EXT-X-BYTERANGE:1@2@3", "#EXT-X-BYTERANGE:0@0",
    "#EXT-X-MEDIA-SEQUENCE:5", "#EXT-X-TARGETDURATION:3", "0.ts", "../x.ts", "//other/x.ts", "http:///x", "http://[",
    "http://[::1]/a.ts", "http://a:b/c", "http://a:99999/x", "https:x", "?x", "a b.ts", "file:///etc/passwd",
    "HTTP://EDGE/x.ts", "http://user:pw@host/1.ts", "x\\y.ts", "x%2e.ts", "ю.ts", "-muted.ts", "1-muted-muted.ts",
    "1-unmuted-muted.ts", "-unmuted.ts", "1-unmuted.", "x-unmuted.ts/", "x-unmuted.ts?a/b-muted.ts",
    "1-unmuted.ts#-muted.ts", "#EXT-X-STREAM-INF:BANDWIDTH=1", "#EXT-X-PROGRAM-DATE-TIME:9999-12-31T23:59:59-23:59",
    "#EXT-X-PROGRAM-DATE-TIME:0001-01-01T00:00:00+14:00", "#EXT-X-PROGRAM-DATE-TIME:2026-W01-1", "\ufeff", "\x0c",
    "\x85", "\u2028", "#EXT-X-MAP:" + "A=" * 8000, "#EXT-X-MAP:" + 'A="' * 5000, "#EXT-X-KEY:" + "A" * 16000,
    "#EXT-X-MAP:" + 'A="' + "B=" * 8000,
    "#EXTINF:1," + "x" * 16370,
)  # fmt: skip

Mangle = Callable[[str, random.Random], str]


def change_characters(text: str, chance: random.Random) -> str:
    characters = list(text)
    for _ in range(chance.choice((1, 1, 2, 8, 40))):
        at = chance.randrange(len(characters))
        characters[at] = chance.choice(("", chr(chance.randrange(1, 0x250)), chance.choice(':,"@#\n\r \t\0=-.0:/?%')))
    return "".join(characters)


def cut(text: str, chance: random.Random) -> str:
    at = chance.randrange(len(text))
    return chance.choice((text[:at], text[at:], text[:at] + text[at + chance.randrange(1, 200) :]))


def change_number(text: str, chance: random.Random) -> str:
    found = list(re.finditer(r"\d+(\.\d+)?", text))
    if not found:
        return text
    one = chance.choice(found)
    return text[: one.start()] + chance.choice(NUMBERS) + text[one.end() :]


def insert_line(text: str, chance: random.Random) -> str:
    lines = text.split("\n")
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(LINES))
    return "\n".join(lines)


def drop_lines(text: str, chance: random.Random) -> str:
    lines = text.split("\n")
    at = chance.randrange(len(lines))
    return "\n".join(lines[:at] + lines[at + chance.choice((1, 1, 2, 5)) :])


def repeat_lines(text: str, chance: random.Random) -> str:
    lines = text.split("\n")
    at, many = chance.randrange(len(lines)), chance.choice((1, 2, 2, 6))
    return "\n".join(lines[:at] + lines[at : at + many] * chance.choice((2, 2, 3)) + lines[at + many :])


def move_lines(text: str, chance: random.Random) -> str:
    lines = text.split("\n")
    at, to = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines.insert(to, lines.pop(at))
    return "\n".join(lines)


def join_others(text: str, chance: random.Random) -> str:
    """The beginning of one and the end of another."""
    other = chance.choice(list(ORIGINALS.values()))
    return text[: chance.randrange(len(text))] + other[chance.randrange(len(other)) :]


MANGLES: tuple[Mangle, ...] = (
    change_characters, cut, change_number, change_number, insert_line, insert_line, drop_lines, drop_lines,
    repeat_lines, move_lines, join_others,
)  # fmt: skip


def mangle(text: str, chance: random.Random) -> tuple[str, str]:
    """What was done, and what came out."""
    done: list[str] = []
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        change = chance.choice(MANGLES)
        done.append(change.__name__)
        text = change(text, chance)
        if not text:
            break
    return "+".join(done), text


def read(text: str) -> MediaPlaylist | None:
    """What was read, or nothing if it was refused. Raises `BrokenPromise`."""
    begun = time.thread_time()
    try:
        playlist = parse_media_playlist(text, BASE)
    except PlaylistError as error:
        if not str(error):
            raise BrokenPromise("an error without a word") from error
        playlist = None
    except Exception as error:
        raise BrokenPromise(f"{type(error).__name__}: {error}") from error
    took = time.thread_time() - begun
    if took > LONGEST_S:
        raise BrokenPromise(f"took {took:.1f} s")
    if playlist is not None:
        check_timeline(playlist)
        check_addresses(playlist)
        check_again(playlist)
    return playlist


def check_timeline(playlist: MediaPlaylist) -> None:
    """Segments follow each other, in numbers and in time. Raises `BrokenPromise`."""
    if len(playlist.segments) > MAX_SEGMENTS:
        raise BrokenPromise("more segments than may be")
    clock_us = 0
    first = playlist.segments[0].media_sequence if playlist.segments else 0
    for index, segment in enumerate(playlist.segments):
        if (segment.index, segment.media_sequence, segment.start_us) != (index, first + index, clock_us):
            raise BrokenPromise(f"segment {index} is out of place: {segment}")
        if not 0 <= segment.duration_us <= 3_600_000_000:
            raise BrokenPromise(f"segment {index} lasts {segment.duration_us} us")
        clock_us = segment.end_us
    if playlist.duration_us != clock_us:
        raise BrokenPromise("the whole is not the sum of its parts")


def check_addresses(playlist: MediaPlaylist) -> None:
    """Whatever would be asked for lies at a web server. Raises `BrokenPromise`."""
    for segment in playlist.segments:
        uris = [*muted_alternatives(segment), *([segment.init.uri] if segment.init is not None else [])]
        for uri in uris:
            parts = urlsplit(uri)
            if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\x00-\x1f\x7f]", uri):
                raise BrokenPromise(f"{uri!r} is no address")
            _ = parts.port  # Raises for what is no port.
        if "/" in segment.name or "?" in segment.name:
            raise BrokenPromise(f"{segment.name!r} is no name")
        for one in (segment.byte_range, segment.init.byte_range if segment.init is not None else None):
            if one is not None and (one.length <= 0 or one.offset < 0):
                raise BrokenPromise(f"{one} is no range")


def check_again(playlist: MediaPlaylist) -> None:
    """Written down and read again it is the same. Raises `BrokenPromise`."""
    text = write_media_playlist(playlist)
    try:
        again = parse_media_playlist(text, "https://elsewhere.example/")
    except PlaylistError as error:
        raise BrokenPromise(f"what we wrote ourselves cannot be read: {error}") from error
    if again.segments != playlist.segments:
        different = next(pair for pair in zip(playlist.segments, again.segments, strict=True) if pair[0] != pair[1])
        raise BrokenPromise(f"written and read again it is another: {different}")
    if (again.ended, again.target_duration_s) != (playlist.ended, playlist.target_duration_s):
        raise BrokenPromise("written and read again its head is another")


def check_together(earlier: MediaPlaylist, now: MediaPlaylist) -> str:
    """What an attempt plans that finds what another one left; says what came out. Raises `BrokenPromise`."""
    merged = merge_playlists(earlier, now)
    check_timeline(merged)
    if merged.segments:
        check_again(merged)
    offered = Counter((segment.uri, segment.byte_range, segment.gap) for segment in now.segments)
    if offered - Counter((segment.uri, segment.byte_range, segment.gap) for segment in merged.segments):
        raise BrokenPromise("something that is on offer is missing in the plan")
    for segment in renumbered(now, merged).segments:
        if _at(merged, segment.media_sequence).uri != segment.uri:
            raise BrokenPromise("a number leads to another segment")
    fetched = [
        FetchedSegment(segment.media_sequence, segment.name, 1, PacketCounts(1, 1), muted=segment.muted)
        for segment in earlier.segments
    ]
    for number, one in match_fetched(merged, fetched).items():
        segment = _at(merged, number)
        if plain_name(segment.name) != plain_name(one.name):
            raise BrokenPromise("a segment is taken for another")
        is_good_enough(segment, one)
    return "joined" if len(merged.segments) > len(now.segments) else "planned"


def _at(playlist: MediaPlaylist, media_sequence: int) -> Segment:
    return playlist.segments[media_sequence - playlist.segments[0].media_sequence]


def hunt(numbers: Iterable[int]) -> Counter[str]:
    """Mangle once for each number; counts the answers. Raises `BrokenPromise` with a note to repeat it."""
    answers: Counter[str] = Counter()
    originals = {name: (text, parse_media_playlist(text, BASE)) for name, text in ORIGINALS.items()}
    for number in numbers:
        chance = random.Random(number)
        # The long one takes long to write and read again.
        name = chance.choices(list(originals), (10, 10, 1))[0]
        text, original = originals[name]
        done, mangled = mangle(text, chance)
        try:
            playlist = read(mangled)
            if playlist is not None:
                answers[check_together(original, playlist)] += 1
                check_together(playlist, original)
        except BrokenPromise as broken:
            broken.add_note(f"number {number}: {done} of {name}")
            raise
        except Exception as error:
            raise BrokenPromise(f"number {number}: {done} of {name}: {type(error).__name__}: {error}") from error
        answers["refused" if playlist is None else "read"] += 1
    return answers


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    end = time.monotonic() + 60 * wanted.minutes
    numbers = itertools.takewhile(lambda _: time.monotonic() < end, itertools.count(wanted.seed))
    for answer, times in hunt(numbers).most_common():
        sys.stdout.write(f"{times:9d} {answer}\n")


if __name__ == "__main__":
    main()
