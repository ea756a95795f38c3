"""Mangles fragmented MP4 segments and their initialization sections and sees what the reader makes of them.

What must hold, however they are mangled: the reader answers soon, with samples or with one of its two errors; if with
samples, their tables agree, time goes on, and each of them stands in the segment, inside of its media data. A
segment whose end is missing is refused.

    python -m support.fragment_fuzz --minutes 10 --seed 1
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from support.mp4_media import make_fragments
from vodkeep.capture.fragment import read_fragment, read_init
from vodkeep.capture.samples import SegmentDamagedError, SegmentSamples, UnsupportedMediaError

LONGEST_S = 5.0  # of processor time for segments of less than 1 MB; the usual is a few milliseconds
CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"mvex", b"moof", b"traf", b"edts"})
NUMBERS = (0, 1, 7, 8, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)


class BrokenPromise(AssertionError):
    """The reader did something it must not do."""


@dataclass(frozen=True, slots=True)
class Original:
    """A healthy segment and its initialization section."""

    name: str
    init: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Where a box stands."""

    kind: bytes
    start: int
    end: int
    parents: tuple[int, ...]  # where those begin that it is in; their sizes follow from its own


def boxes(data: bytes, start: int = 0, end: int | None = None, parents: tuple[int, ...] = ()) -> Iterator[Place]:
    """Every box that can be found, those inside of others too."""
    stop = len(data) if end is None else end
    while start + 8 <= stop:
        size = int.from_bytes(data[start : start + 4], "big")
        if not 8 <= size <= stop - start:
            return
        kind = data[start + 4 : start + 8]
        yield Place(kind, start, start + size, parents)
        if kind in CONTAINERS:
            yield from boxes(data, start + 8, start + size, (*parents, start))
        start += size


def resized(data: bytes, place: Place, replacement: bytes) -> bytes:
    """Something else in the place of a box; the boxes around it say their new size."""
    changed = bytearray(data[: place.start] + replacement + data[place.end :])
    for parent in place.parents:
        size = int.from_bytes(data[parent : parent + 4], "big") + len(replacement) - (place.end - place.start)
        changed[parent : parent + 4] = (size & 0xFFFF_FFFF).to_bytes(4, "big")
    return bytes(changed)


Mangle = Callable[[bytes, random.Random], bytes]


def flip_bits(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def bend_structure(data: bytes, chance: random.Random) -> bytes:
    """A number somewhere in the boxes that describe the samples becomes another one."""
    described = [place for place in boxes(data) if place.kind != b"mdat" and place.kind not in CONTAINERS]
    if not described:
        return flip_bits(data, chance)
    place = chance.choice(described)
    at = chance.randrange(place.start, max(place.start + 1, place.end - 3))
    old = int.from_bytes(data[at : at + 4], "big")
    new = chance.choice((*NUMBERS, old + 1, old - 1, old << 8, chance.getrandbits(32), old ^ 1 << chance.randrange(32)))
    return data[:at] + (new & 0xFFFF_FFFF).to_bytes(4, "big") + data[at + 4 :]


def bend_size(data: bytes, chance: random.Random) -> bytes:
    place = chance.choice(list(boxes(data)) or [Place(b"", 0, len(data), ())])
    size = chance.choice((*NUMBERS, place.end - place.start + chance.randrange(-9, 10), len(data)))
    return data[: place.start] + (size & 0xFFFF_FFFF).to_bytes(4, "big") + data[place.start + 4 :]


def drop_box(data: bytes, chance: random.Random) -> bytes:
    found = list(boxes(data))
    return resized(data, chance.choice(found), b"") if found else b""


def repeat_box(data: bytes, chance: random.Random) -> bytes:
    found = list(boxes(data))
    if not found:
        return data
    place = chance.choice(found)
    return resized(data, place, data[place.start : place.end] * chance.choice((2, 2, 3)))


def rename_box(data: bytes, chance: random.Random) -> bytes:
    found = list(boxes(data))
    if not found:
        return data
    place = chance.choice(found)
    kind = chance.choice((*CONTAINERS, b"free", b"senc", b"tfhd", b"trun", b"mdat", chance.randbytes(4)))
    return data[: place.start + 4] + kind + data[place.start + 8 :]


def cut(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    match chance.randrange(3):
        case 0:
            return data[:at]
        case 1:
            return data[at:]
        case _:
            return data[:at] + data[at + chance.randrange(1, 500) :]


def write_bytes(data: bytes, chance: random.Random) -> bytes:
    """A stretch becomes noise or zeros, or something is put in between."""
    at = chance.randrange(len(data))
    size = chance.choice((1, 4, 20, 200, 3000))
    filling = chance.choice((chance.randbytes(size), bytes(size), b"\xff" * size))
    return data[:at] + filling + data[at + (len(filling) if chance.random() < 0.7 else 0) :]


MANGLES: tuple[Mangle, ...] = (
    flip_bits,
    bend_structure,
    bend_structure,
    bend_structure,
    bend_size,
    drop_box,
    repeat_box,
    rename_box,
    cut,
    write_bytes,
)


def mangle(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """What was done, and what came out."""
    done: list[str] = []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if not data:
            break
        change = chance.choice(MANGLES)
        done.append(change.__name__)
        data = change(data, chance)
    return "+".join(done), data


def read(init: bytes, body: bytes) -> SegmentSamples | None:
    """Samples, or nothing if they were refused. Raises `BrokenPromise`."""
    begun = time.thread_time()
    try:
        segment = read_fragment(body, read_init(init))
    except (SegmentDamagedError, UnsupportedMediaError) as error:
        if not str(error):
            raise BrokenPromise("an error without a word") from error
        segment = None
    except Exception as error:
        raise BrokenPromise(f"{type(error).__name__}: {error}") from error
    took = time.thread_time() - begun
    if took > LONGEST_S:
        raise BrokenPromise(f"took {took:.1f} s")
    if segment is not None:
        _check_samples(body, segment)
    return segment


def _check_samples(body: bytes, segment: SegmentSamples) -> None:
    for track in segment.tracks:
        lengths = {len(track.sizes), len(track.dts), len(track.cts), len(track.sync)}
        if len(lengths) != 1 or not track.count or int(track.sizes.sum()) != len(track.payload):
            raise BrokenPromise("the sample tables contradict each other")
        ends_at = int(track.dts[-1]) + track.tail
        if (np.diff(track.dts) < 0).any() or track.tail < 0 or (track.count > 1 and ends_at <= track.dts[0]):
            raise BrokenPromise("time does not go on")
        if len(track.payload) > len(body):
            raise BrokenPromise("more is read than there is")
        at = 0
        for size in track.sizes.tolist()[:50]:
            if bytes(track.payload[at : at + size]) not in body:
                raise BrokenPromise("a sample is not in the segment")
            at += size


def check_missing_end(original: Original, chance: random.Random) -> None:
    """A segment of which the end has not arrived is refused. Raises `BrokenPromise`."""
    missing = chance.choice((1, 2, 8, chance.randrange(1, len(original.body))))
    if read(original.init, original.body[:-missing]) is not None:
        raise BrokenPromise(f"the last {missing} bytes of {original.name} are missing and nobody noticed")


def originals() -> list[Original]:
    """What ffmpeg makes of each codec that comes in fragments."""
    found = []
    for video, audio in (("h264", "aac"), ("av1", "opus"), ("hev1", None), (None, "aac")):
        made = make_fragments(video, audio)
        found.append(Original(f"{video} and {audio}", made.init, made.bodies[1]))
    for original in found:
        if read(original.init, original.body) is None:
            raise ValueError(f"{original.name} is not healthy")
    return found


def hunt(originals: Sequence[Original], numbers: Iterable[int]) -> Counter[str]:
    """Mangle once for each number; counts the answers. Raises `BrokenPromise` with a note to repeat it."""
    answers: Counter[str] = Counter()
    for number in numbers:
        chance = random.Random(number)
        original = chance.choice(originals)
        done, init, body = "the end missing", original.init, original.body
        try:
            if chance.random() < 0.1:
                check_missing_end(original, chance)
                answers["missing end noticed"] += 1
                continue
            if chance.random() < 0.3:
                done, init = mangle(init, chance)
            else:
                done, body = mangle(body, chance)
            segment = read(init, body)
        except BrokenPromise as broken:
            broken.add_note(f"number {number}: {done} of {original.name}")
            raise
        answers["refused" if segment is None else "read"] += 1
    return answers


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    healthy = originals()
    end = time.monotonic() + 60 * wanted.minutes
    numbers = itertools.takewhile(lambda _: time.monotonic() < end, itertools.count(wanted.seed))
    for answer, times in hunt(healthy, numbers).most_common():
        sys.stdout.write(f"{times:9d} {answer}\n")


if __name__ == "__main__":
    main()
