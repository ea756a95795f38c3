"""Program association and program map tables: which PIDs of a transport stream carry what (ISO/IEC 13818-1 2.4.4)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from vodkeep.capture.samples import SegmentDamagedError

H264 = 0x1B
AAC = 0x0F

# Sound and pictures that we do not read ourselves, by stream_type (table 2-34, and what others took for themselves).
OTHER_MEDIA = {
    0x01: "MPEG-1 video",
    0x02: "MPEG-2 video",
    0x03: "MPEG-1 audio",
    0x04: "MPEG-2 audio",
    0x10: "MPEG-4 part 2 video",
    0x11: "AAC in LATM",
    0x1C: "MPEG-4 audio without a transport syntax",
    0x1F: "scalable H.264",
    0x20: "multiview H.264",
    0x21: "JPEG 2000 video",
    0x24: "HEVC",
    0x25: "HEVC temporal layers",
    0x2D: "MPEG-H audio",
    0x2E: "MPEG-H audio",
    0x33: "VVC",
    0x42: "AVS video",
    0x80: "LPCM audio",
    0x81: "AC-3",
    0x82: "DTS",
    0x83: "TrueHD",
    0x84: "E-AC-3",
    0x85: "DTS-HD",
    0x87: "E-AC-3",
    0xCF: "encrypted AAC",
    0xC1: "encrypted AC-3",
    0xC2: "encrypted E-AC-3",
    0xD1: "Dirac video",
    0xD2: "AVS2 video",
    0xD4: "AVS3 video",
    0xDB: "encrypted H.264",
    0xEA: "VC-1 video",
}

# Private PES data is media when a descriptor says so: by format_identifier of a registration descriptor (section
# 2.6.8), or by the descriptor itself (ETSI EN 300 468 annex D).
_PRIVATE = 0x06
_REGISTRATION = 0x05
_FORMATS = {
    b"AC-3": "AC-3",
    b"EAC3": "E-AC-3",
    b"AV01": "AV1",
    b"HEVC": "HEVC",
    b"Opus": "Opus",
    b"BSSD": "SMPTE 302M audio",
    b"DTS1": "DTS",
    b"DTS2": "DTS",
    b"DTS3": "DTS",
    b"VC-1": "VC-1 video",
    b"drac": "Dirac video",
}
_DESCRIPTORS = {0x6A: "AC-3", 0x7A: "E-AC-3", 0x7B: "DTS", 0x7C: "AAC in LATM"}

_PROGRAM_ASSOCIATION, _PROGRAM_MAP = 0, 2  # table_id
_STUFFING = 0xFF  # behind the last section of a packet
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class Stream:
    """One elementary stream of a program."""

    pid: int
    stream_type: int
    other_media: str | None  # what it is called, if it is media that we do not read


def read_sections(packets: Iterable[tuple[bool, bytes]]) -> list[bytes]:
    """The distinct sections of tables in the packets of one PID, in order of appearance.

    ``packets`` are pairs of payload_unit_start_indicator and payload. Raises `SegmentDamagedError` if a checksum is
    wrong.
    """
    sections: dict[bytes, None] = {}
    seen: set[bytes] = set()  # payloads, because tables are repeated ten times a second
    begun = b""
    for starts, payload in packets:
        if not starts:
            if begun:
                begun = _take_sections(begun + payload, sections)
            continue
        if not begun and payload in seen:
            continue
        if not payload or payload[0] >= len(payload):
            raise SegmentDamagedError("a table of its program points outside its packet")
        first = 1 + payload[0]
        if begun:
            _take_sections(begun + payload[1:first], sections)
        begun = _take_sections(payload[first:], sections)
        if not begun:
            seen.add(payload)
    # Private sections of the short form have no checksum, and nothing for us (section 2.4.4.10).
    tables = [section for section in sections if section[1] & 0x80]
    if not all(map(_is_intact, tables)):
        raise SegmentDamagedError("a table of its program has a wrong checksum")
    return tables


def _take_sections(rest: bytes, sections: dict[bytes, None]) -> bytes:
    """Move whole sections from ``rest`` to ``sections``; returns the start of one that goes on in the next packet."""
    while rest and rest[0] != _STUFFING:
        size = 3 + ((rest[1] & 0x0F) << 8 | rest[2]) if len(rest) >= 3 else 3
        if len(rest) < size or len(rest) < 3:
            return rest
        sections[rest[:size]] = None
        rest = rest[size:]
    return b""


def _is_intact(section: bytes) -> bool:
    """CRC-32 of annex A, which runs through the bits from the other end than zlib's."""
    return zlib.crc32(section.translate(_REVERSED)) == 0xFFFFFFFF


def parse_program_association(sections: Iterable[bytes]) -> list[int]:
    """The PIDs of the program maps, without repetitions (section 2.4.4.3)."""
    pids: dict[int, None] = {}
    for section in _current(sections, _PROGRAM_ASSOCIATION):
        for at in range(8, len(section) - 7, 4):
            number, pid = section[at] << 8 | section[at + 1], (section[at + 2] & 0x1F) << 8 | section[at + 3]
            if number:  # Program 0 is the network's own table.
                pids[pid] = None
    return list(pids)


def parse_program_map(sections: Iterable[bytes]) -> list[Stream]:
    """The streams of the programs described, without repetitions (section 2.4.4.8).

    Raises `SegmentDamagedError` if lengths contradict each other.
    """
    streams: dict[Stream, None] = {}
    for section in _current(sections, _PROGRAM_MAP):
        end = len(section) - 4
        at = 12 + ((section[10] & 0x0F) << 8 | section[11]) if len(section) >= 16 else end + 1
        while at + 5 <= end:
            stream_type, pid = section[at], (section[at + 1] & 0x1F) << 8 | section[at + 2]
            descriptors = at + 5
            at = descriptors + ((section[at + 3] & 0x0F) << 8 | section[at + 4])
            streams[Stream(pid, stream_type, _other_media(stream_type, section[descriptors:at]))] = None
        if at != end:
            raise SegmentDamagedError("its program map contradicts itself")
    return list(streams)


def _current(sections: Iterable[bytes], table_id: int) -> Iterable[bytes]:
    """Sections of this table that apply already (current_next_indicator, section 2.4.4.5)."""
    return (section for section in sections if len(section) >= 12 and section[0] == table_id and section[5] & 1)


def _other_media(stream_type: int, descriptors: bytes) -> str | None:
    if stream_type != _PRIVATE:
        return OTHER_MEDIA.get(stream_type)
    while len(descriptors) >= 2:
        tag, body = descriptors[0], descriptors[2 : 2 + descriptors[1]]
        if tag == _REGISTRATION and body[:4] in _FORMATS:
            return _FORMATS[body[:4]]
        if tag in _DESCRIPTORS:
            return _DESCRIPTORS[tag]
        descriptors = descriptors[2 + descriptors[1] :]
    return None
