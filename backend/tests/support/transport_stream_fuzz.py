"""Mangles transport stream segments and sees what the reader makes of them.

What must hold, however a segment is mangled: the reader answers soon, with samples or with one of its two errors; if
with samples, they are those that a plain reader finds in the same bytes, in growing time. A packet that is missing from
the middle, doubled, or out of place is noticed, or makes no difference.

    python -m support.transport_stream_fuzz --minutes 10 --seed 1 SEGMENT.ts...
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from support.transport_packets import AUDIO_PID, VIDEO_PID, packet, read_plainly, small_segment
from vodkeep.capture.samples import SegmentDamagedError, SegmentSamples, UnsupportedMediaError
from vodkeep.capture.transport_stream import read_transport_stream

PACKET = 188
LONGEST_S = 5.0  # of processor time for segments of less than 1 MB; the usual is a few milliseconds


class BrokenPromise(AssertionError):
    """The reader did something it must not do."""


@dataclass(frozen=True, slots=True)
class Original:
    """A healthy segment."""

    name: str
    body: bytes
    video_pid: int | None
    audio_pid: int | None

    @property
    def packets(self) -> list[bytes]:
        return [self.body[at : at + PACKET] for at in range(0, len(self.body), PACKET)]

    def is_media(self, raw: bytes) -> bool:
        """Whether it is a packet of picture or sound with payload."""
        return bool(raw[3] & 0x10) and (raw[1] & 0x1F) << 8 | raw[2] in (self.video_pid, self.audio_pid)


Mangle = Callable[[Original, list[bytes], random.Random], list[bytes]]


def flip_bits(original: Original, packets: list[bytes], chance: random.Random) -> list[bytes]:
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        index = chance.randrange(len(packets))
        raw = bytearray(packets[index])
        if raw:
            raw[chance.randrange(min(len(raw), chance.choice((4, 30, PACKET))))] ^= 1 << chance.randrange(8)
        packets[index] = bytes(raw)
    return packets


def write_bytes(original: Original, packets: list[bytes], chance: random.Random) -> list[bytes]:
    """A stretch becomes noise, or zeros, or what looks like structure."""
    body = bytearray(b"".join(packets))
    size = chance.choice((1, 2, 4, 20, 200, 3000))
    at = chance.randrange(len(body))
    if chance.random() < 0.5:
        at = at // PACKET * PACKET + chance.choice((0, 1, 3, 4, 5, 12, 18))
    filling = chance.choice((chance.randbytes(size), bytes(size), b"\xff" * size, b"\0\0\1" * size, b"\x47" * size))[
        :size
    ]
    body[at : at + size] = filling
    return [bytes(body)]


def cut_bytes(original: Original, packets: list[bytes], chance: random.Random) -> list[bytes]:
    body = b"".join(packets)
    at = chance.randrange(len(body))
    match chance.randrange(3):
        case 0:
            return [body[:at]]
        case 1:
            return [body[at:]]
        case _:
            return [body[:at], body[at + chance.randrange(1, 4 * PACKET) :]]


def insert_bytes(original: Original, packets: list[bytes], chance: random.Random) -> list[bytes]:
    body = b"".join(packets)
    at = chance.randrange(len(body) + 1)
    return [body[:at], chance.randbytes(chance.choice((1, 47, PACKET, 3 * PACKET))), body[at:]]


def drop_packets(original: Original, packets: list[bytes], chance: random.Random) -> list[bytes]:
    at = chance.randrange(len(packets))
    return packets[:at] + packets[at + chance.choice((1, 1, 2, 15, 16, 17)) :]


def repeat_packets(original: Original, packets: list[bytes], chance: random.Random) -> list[bytes]:
    at = chance.randrange(len(packets))
    return packets[:at] + packets[at : at + 1] * chance.choice((2, 2, 3, 17)) + packets[at + 1 :]


def move_packets(original: Original, packets: list[bytes], chance: random.Random) -> list[bytes]:
    first, second = chance.randrange(len(packets)), chance.randrange(len(packets))
    if chance.random() < 0.7:
        second = min(first + 1, len(packets) - 1)
    packets[first], packets[second] = packets[second], packets[first]
    return packets


def insert_packets(original: Original, packets: list[bytes], chance: random.Random) -> list[bytes]:
    pid = chance.choice((0x1FFF, original.video_pid or 0, original.audio_pid or 0, 0, chance.randrange(1 << 13)))
    extra = packet(
        pid,
        chance.randbytes(chance.choice((0, 1, 100, 183, 184))),
        chance.randrange(16),
        start=chance.random() < 0.5,
        flags=chance.choice((0, 0, 0, 0x80)),
    )
    at = chance.randrange(len(packets) + 1)
    return [*packets[:at], extra, *packets[at:]]


def refill_packets(original: Original, packets: list[bytes], chance: random.Random) -> list[bytes]:
    """Spread the payload of a packet over two: the same stream, cut elsewhere. Counters behind it are raised."""
    at = chance.randrange(len(packets))
    raw = packets[at]
    if len(raw) != PACKET or raw[3] & 0x30 != 0x10 or not original.is_media(raw):
        return packets
    cut = chance.randrange(1, PACKET - 4)
    pid, counter = (raw[1] & 0x1F) << 8 | raw[2], raw[3] & 15
    spread = [
        packet(pid, raw[4 : 4 + cut], counter, start=bool(raw[1] & 0x40)),
        packet(pid, raw[4 + cut :], counter + 1),
    ]
    behind = []
    for other in packets[at + 1 :]:
        if len(other) == PACKET and (other[1] & 0x1F) << 8 | other[2] == pid:
            behind.append(other[:3] + bytes((other[3] & 0xF0 | (other[3] + 1) & 15,)) + other[4:])
        else:
            behind.append(other)
    return [*packets[:at], *spread, *behind]


MANGLES: tuple[Mangle, ...] = (
    flip_bits,
    flip_bits,
    write_bytes,
    cut_bytes,
    insert_bytes,
    drop_packets,
    repeat_packets,
    move_packets,
    insert_packets,
    refill_packets,
)


def mangle(original: Original, chance: random.Random) -> tuple[str, bytes]:
    """What was done, and what came out."""
    packets = original.packets
    done: list[str] = []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        change = chance.choice(MANGLES)
        done.append(change.__name__)
        body = b"".join(change(original, packets, chance))
        packets = [body[at : at + PACKET] for at in range(0, len(body), PACKET)]
        if not packets:
            break
    return "+".join(done), b"".join(packets)


def read(original: Original, body: bytes) -> SegmentSamples | None:
    """Samples, or nothing if they were refused. Raises `BrokenPromise`."""
    begun = time.thread_time()
    try:
        segment = read_transport_stream(body)
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
        _check_samples(original, body, segment)
    return segment


def _check_samples(original: Original, body: bytes, segment: SegmentSamples) -> None:
    plain = dict(zip(("video", "audio"), read_plainly(body, original.video_pid, original.audio_pid), strict=True))
    for track in segment.tracks:
        lengths = {len(track.sizes), len(track.dts), len(track.cts), len(track.sync)}
        if len(lengths) != 1 or not track.count or int(track.sizes.sum()) != len(track.payload):
            raise BrokenPromise("the sample tables contradict each other")
        if (np.diff(track.dts) <= 0).any() or (track.cts < 0).any() or track.tail <= 0 or int(track.dts[0]) < 0:
            raise BrokenPromise("times do not grow")
        samples = plain[track.format.kind].samples
        if [len(sample) for sample in samples] != track.sizes.tolist() or b"".join(samples) != track.payload:
            raise BrokenPromise(f"other samples of {track.format.kind} than are in the segment")


def check_missing_packets(original: Original, chance: random.Random) -> None:
    """Packets missing from the middle of a stream are noticed. Raises `BrokenPromise`."""
    packets = original.packets
    media = [index for index, raw in enumerate(packets) if original.is_media(raw)]
    pids = {index: packets[index][1:3] for index in media}
    edges = set()
    for pid in {(high & 0x1F, low) for high, low in pids.values()}:
        mine = [index for index in media if (pids[index][0] & 0x1F, pids[index][1]) == pid]
        edges |= {mine[0], mine[-1]}
    index = chance.choice([index for index in media if index not in edges])
    if read(original, b"".join(packets[:index] + packets[index + 1 :])) is not None:
        raise BrokenPromise(f"packet {index} of {original.name} is missing and nobody noticed")


def small() -> Original:
    return Original("made by hand", small_segment(pictures=6, frame_size=200).body, VIDEO_PID, AUDIO_PID)


def load(path: Path) -> Original:
    """A segment as ffmpeg makes it: picture first, then sound."""
    body = path.read_bytes()
    kinds = [track.format.kind for track in read_transport_stream(body).tracks]
    pids = [VIDEO_PID + index for index in range(len(kinds))]
    numbers = dict(zip(kinds, pids, strict=True))
    original = Original(path.name, body, numbers.get("video"), numbers.get("audio"))
    if read(original, body) is None:
        raise ValueError(f"{path} is not healthy")
    return original


def hunt(originals: Sequence[Original], numbers: Iterable[int]) -> Counter[str]:
    """Mangle once for each number; counts the answers. Raises `BrokenPromise` with a note to repeat it."""
    answers: Counter[str] = Counter()
    for number in numbers:
        chance = random.Random(number)
        original = chance.choice(originals)
        done = "one packet missing"
        try:
            if chance.random() < 0.1:
                check_missing_packets(original, chance)
                answers["missing packet noticed"] += 1
                continue
            done, body = mangle(original, chance)
            segment = read(original, body)
        except BrokenPromise as broken:
            broken.add_note(f"number {number}: {done} of {original.name}")
            raise
        answers["refused" if segment is None else "same bytes" if body == original.body else "read"] += 1
    return answers


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("segments", type=Path, nargs="*")
    wanted = parser.parse_args()
    originals = [small(), *map(load, wanted.segments)]
    end = time.monotonic() + 60 * wanted.minutes
    numbers = itertools.takewhile(lambda _: time.monotonic() < end, itertools.count(wanted.seed))
    for answer, times in hunt(originals, numbers).most_common():
        sys.stdout.write(f"{times:9d} {answer}\n")


if __name__ == "__main__":
    main()
