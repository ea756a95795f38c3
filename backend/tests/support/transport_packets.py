"""Transport stream segments made by hand, and a plain reader that checks nothing: one packet after the other."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

PAT_PID, PMT_PID, VIDEO_PID, AUDIO_PID = 0, 0x1000, 0x100, 0x101
H264, AAC = 0x1B, 0x0F
# Of a 320x180 stream by x264, High profile, level 1.3, square pixels, 30 frames a second.
SPS = bytes.fromhex("6764000dacd941419f9f0110000003001000000303c0f1429960")
PPS = bytes.fromhex("68ebe3cb22c0")
DELIMITER = b"\x09\xf0"


def checksum(section: bytes) -> int:
    """CRC-32 of ISO/IEC 13818-1 annex A, bit by bit."""
    register = 0xFFFFFFFF
    for byte in section:
        for bit in range(7, -1, -1):
            carry = (register >> 31) ^ (byte >> bit & 1)
            register = (register << 1) & 0xFFFFFFFF ^ (0x04C11DB7 if carry else 0)
    return register


def section(table_id: int, body: bytes, *, number: int = 1, current: bool = True) -> bytes:
    rest = number.to_bytes(2, "big") + bytes((0xC0 | current, 0, 0)) + body
    head = bytes((table_id,)) + (0xB000 | len(rest) + 4).to_bytes(2, "big") + rest
    return head + checksum(head).to_bytes(4, "big")


def association(maps: dict[int, int]) -> bytes:
    """A program association section, by program number."""
    body = b"".join(number.to_bytes(2, "big") + (0xE000 | pid).to_bytes(2, "big") for number, pid in maps.items())
    return section(0, body)


def program_map(streams: list[tuple[int, int, bytes]], *, current: bool = True, descriptors: bytes = b"") -> bytes:
    """A program map section; streams are type, PID and descriptors."""
    body = (0xE000 | VIDEO_PID).to_bytes(2, "big") + (0xF000 | len(descriptors)).to_bytes(2, "big") + descriptors
    for kind, pid, described in streams:
        body += bytes((kind,)) + (0xE000 | pid).to_bytes(2, "big") + (0xF000 | len(described)).to_bytes(2, "big")
        body += described
    return section(2, body, current=current)


def clock(prefix: int, value: int) -> bytes:
    value %= 1 << 33
    return bytes(
        (
            prefix << 4 | value >> 30 << 1 | 1,
            value >> 22 & 0xFF,
            value >> 15 << 1 & 0xFE | 1,
            value >> 7 & 0xFF,
            value << 1 & 0xFE | 1,
        )
    )


def pes(
    payload: bytes,
    pts: int | None = None,
    dts: int | None = None,
    *,
    stream_id: int = 0xE0,
    stated: bool = False,
    stuffing: int = 0,
) -> bytes:
    """A PES packet; ``stated`` writes its length."""
    times = b""
    if pts is not None:
        times = clock(2, pts) if dts is None else clock(3, pts) + clock(1, dts)
    flags = (pts is not None) << 7 | (dts is not None) << 6
    rest = bytes((0x80, flags, len(times) + stuffing)) + times + b"\xff" * stuffing + payload
    return b"\x00\x00\x01" + bytes((stream_id,)) + (len(rest) if stated else 0).to_bytes(2, "big") + rest


def packet(
    pid: int, payload: bytes, counter: int, *, start: bool = False, adaptation: bytes | None = None, flags: int = 0
) -> bytes:
    """One packet; an adaptation field fills what the payload leaves. ``flags`` are scrambling control bits."""
    room = 184 - len(payload)
    head = bytes((0x47, start << 6 | pid >> 8, pid & 0xFF))
    if not room and adaptation is None:
        return head + bytes((flags | 0x10 | counter & 15,)) + payload
    control = 0x30 if payload else 0x20
    inside = b"" if room == 1 else ((adaptation or b"\x00").ljust(room - 1, b"\xff"))
    assert len(inside) == room - 1, "the adaptation field does not fit"
    return head + bytes((flags | control | counter & 15, room - 1)) + inside + payload


@dataclass(slots=True)
class SegmentBuilder:
    """Packets in a row, with their continuity counters."""

    packets: list[bytes] = field(default_factory=list)
    counters: dict[int, int] = field(default_factory=dict)

    def add(self, pid: int, unit: bytes, *, first: bytes | None = None, room: int = 184) -> SegmentBuilder:
        """A PES packet, or a section with its pointer. ``first`` is the first packet's adaptation field.

        ``room`` is how much payload each packet takes at most.
        """
        start = True
        while unit or start:
            most = min(room, 184 - len(first) - 1 if first is not None and start else 184)
            self.put(pid, unit[:most], start=start, adaptation=first if start else None)
            unit, start = unit[most:], False
        return self

    def put(self, pid: int, payload: bytes, *, start: bool = False, adaptation: bytes | None = None) -> None:
        counter = self.counters.get(pid, -1) + bool(payload)
        self.counters[pid] = counter
        self.packets.append(packet(pid, payload, counter, start=start, adaptation=adaptation))

    def tables(self, streams: list[tuple[int, int, bytes]] | None = None) -> SegmentBuilder:
        self.add(PAT_PID, b"\x00" + association({1: PMT_PID}))
        wanted = [(H264, VIDEO_PID, b""), (AAC, AUDIO_PID, b"")] if streams is None else streams
        return self.add(PMT_PID, b"\x00" + program_map(wanted))

    @property
    def body(self) -> bytes:
        return b"".join(self.packets)


def adts(
    payload: bytes, *, profile: int = 1, rate: int = 3, channels: int = 2, checked: bool = False, blocks: int = 0
) -> bytes:
    """A frame of sound: AAC LC, 48 kHz, stereo unless said otherwise."""
    size = len(payload) + (9 if checked else 7)
    bits = 0xFFF << 44 | (not checked) << 40 | profile << 38 | rate << 34 | channels << 30
    bits |= size << 13 | 0x7FF << 2 | blocks
    return bits.to_bytes(7, "big") + (b"\xcc\xcc" if checked else b"") + payload


def picture(
    *slices: bytes, idr: bool = False, parameters: tuple[bytes, ...] = (), code: bytes = b"\x00\x00\x00\x01"
) -> bytes:
    """An access unit in byte stream format. The first slice begins the picture, the others go on in it."""
    units = [DELIMITER, *parameters]
    for index, body in enumerate(slices):
        units.append((b"\x65" if idr else b"\x41") + (b"\x88" if index == 0 else b"\x48") + body)
    return b"".join(code + unit for unit in units)


def key_picture(*slices: bytes) -> bytes:
    return picture(*slices, idr=True, parameters=(SPS, PPS))


def small_segment(pictures: int = 4, frames: int = 6, *, start: int = 90_000, frame_size: int = 60) -> SegmentBuilder:
    """Picture at 30 frames a second and sound, two frames to a PES packet."""
    builder = SegmentBuilder().tables()
    for index in range(pictures):
        unit = key_picture(b"\xaa" * 500) if index == 0 else picture(bytes((0x80 + index,)) * (100 + 50 * index))
        builder.add(VIDEO_PID, pes(unit, start + 3000 * index), first=b"\x10" + bytes(6))
    for index in range(0, frames, 2):
        sound = b"".join(adts(bytes((0x20 + index + more,)) * frame_size) for more in range(2))
        builder.add(AUDIO_PID, pes(sound, start + 1920 * index, stream_id=0xC0, stated=True))
    return builder


@dataclass(slots=True)
class PlainTrack:
    """What the plain reader found."""

    samples: list[bytes] = field(default_factory=list)
    pts: list[int | None] = field(default_factory=list)  # of PES packets, as they stand there
    dts: list[int | None] = field(default_factory=list)


def read_plainly(body: bytes, video_pid: int | None, audio_pid: int | None) -> tuple[PlainTrack, PlainTrack]:
    """Samples by the book, for healthy segments of one picture per PES packet."""
    video, audio = PlainTrack(), PlainTrack()
    if video_pid is not None:
        for unit in _pes_payloads(body, video_pid, video):
            units = [part.rstrip(b"\0") for part in re.split(b"\0\0\1", unit)[1:]]
            video.samples.append(b"".join(len(part).to_bytes(4, "big") + part for part in units))
    if audio_pid is not None:
        stream = b"".join(_pes_payloads(body, audio_pid, audio))
        at = 0
        while at < len(stream):
            size = int.from_bytes(stream[at + 3 : at + 6], "big") >> 5 & 0x1FFF
            audio.samples.append(stream[at + (7 if stream[at + 1] & 1 else 9) : at + size])
            at += size
    return video, audio


def _pes_payloads(body: bytes, pid: int, track: PlainTrack) -> list[bytes]:
    units: list[bytes] = []
    before = b""
    for at in range(0, len(body), 188):
        raw = body[at : at + 188]
        if (raw[1] & 0x1F) << 8 | raw[2] != pid or not raw[3] & 0x10:
            continue
        if raw[:4] == before:  # sent twice
            before = b""
            continue
        before = raw[:4]
        payload = raw[5 + raw[4] :] if raw[3] & 0x20 else raw[4:]
        if raw[1] & 0x40:
            units.append(b"")
        units[-1] += payload
    payloads: list[bytes] = []
    for unit in units:
        if unit[7] & 0x80 or pid == AUDIO_PID or not payloads:
            payloads.append(unit[9 + unit[8] :])
            track.pts.append(_time(unit[9:14]) if unit[7] & 0x80 else None)
            track.dts.append(_time(unit[14:19]) if unit[7] & 0x40 else track.pts[-1])
        else:
            payloads[-1] += unit[9 + unit[8] :]
    return payloads


def _time(raw: bytes) -> int:
    bits = int.from_bytes(raw, "big")
    return (bits >> 33 & 7) << 30 | (bits >> 17 & 0x7FFF) << 15 | bits >> 1 & 0x7FFF
