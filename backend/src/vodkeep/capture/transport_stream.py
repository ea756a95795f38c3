"""Reads MPEG transport stream segments (ISO/IEC 13818-1) into the samples of an MP4.

How the parts work together: the packet headers of the whole segment are looked at together, as arrays. The tables
(`program_tables`) say which PIDs carry picture and sound. The payloads of each of the two are put in a row,
which leaves gaps where other headers were (`gapped`); `h264` and `aac` split what remains into samples. Nothing is
decoded and nothing is repaired: a segment with a packet missing or a header broken is refused as a whole, because it
can be fetched again.

What cannot be noticed here is damage inside the coded picture and sound, and what is missing at the edges of the
segment: whole PES packets and the end of the last picture, because their number and its length are stated nowhere.
Whoever fetches compares the length of the body.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vodkeep.capture.aac import OVERLAP_S, read_adts
from vodkeep.capture.gapped import GappedStream
from vodkeep.capture.h264 import TIMESCALE, read_byte_stream
from vodkeep.capture.program_tables import (
    AAC,
    H264,
    Stream,
    parse_program_association,
    parse_program_map,
    read_sections,
)
from vodkeep.capture.samples import SegmentDamagedError, SegmentSamples, TrackSamples, UnsupportedMediaError

_PACKET = 188  # bytes, section 2.4.3.2
_HEADER = 4
_PAYLOAD = _PACKET - _HEADER
_SYNC_BYTE = 0x47
# Bits of a header read as one number.
_ERROR, _STARTS, _PID = 0x80_0000, 0x40_0000, 0x1F_FF00
_SCRAMBLED, _ADAPTATION, _FILLED = 0xC0, 0x20, 0x10
_ASSOCIATION_PID = 0
_CLOCK_BITS = 33
_PES_HEADER = 9  # bytes before the optional fields, section 2.4.3.6
_PES_FIELDS = 19  # with PTS and DTS
# Streams whose PES packets have no such header: program stream map and directory, padding, private_stream_2, ECM,
# EMM, DSM-CC and type E of H.222.1 (section 2.4.3.7).
_BARE_STREAM_IDS = frozenset({0xBC, 0xFF, 0xBE, 0xBF, 0xF0, 0xF1, 0xF2, 0xF8})
# From decoding to showing. No decoder keeps pictures for longer (16 at most, Rec. ITU-T H.264 section A.3.1), and what
# would be shown before it is decoded looks like a delay of a whole turn of the clock.
_LONGEST_DELAY = 16 * TIMESCALE
# For a single picture that says nothing about its duration.
_USUAL_FRAME = TIMESCALE // 30


def read_transport_stream(body: bytes | memoryview) -> SegmentSamples:
    """Take the samples out of one segment.

    Times are those of the segment, in ticks of each track's timescale, unwrapped: never negative, and continuing
    beyond 2**33 / 90000 s if the clock wraps within the segment.

    Raises `SegmentDamagedError` if the bytes are not a whole, healthy segment, and `UnsupportedMediaError` if they hold
    something else than at most one H.264 and at most one AAC stream, or one that cannot be cut out of the segment
    alone. A flipped bit can make a segment look unsupported, so fetch it twice before believing that.
    """
    packets = _Packets(body)
    video_pid, audio_pid = _choose(packets, _streams(packets))
    video = _read_elementary(packets, video_pid, "picture") if video_pid is not None else None
    audio = _read_elementary(packets, audio_pid, "sound") if audio_pid is not None else None
    present = [stream for stream in (video, audio) if stream is not None]
    if not present:
        raise SegmentDamagedError("it holds neither picture nor sound")
    base = present[0].origin
    if min(stream.unwrap(base) for stream in present) < 0:
        for stream in present:
            stream.delay(1 << _CLOCK_BITS)
    tracks: list[TrackSamples] = []
    if video is not None:
        tracks.append(_video(video))
    if audio is not None:
        pts = np.where(audio.timed, audio.pts, -1)
        tracks.append(read_adts(memoryview(audio.stream.joined()), audio.starts, pts))
    return SegmentSamples(tuple(tracks))


class _Packets:
    """The transport stream packets of a segment (section 2.4.3.2).

    Raises `SegmentDamagedError` if there are none, or one is not whole or says that it is damaged.
    """

    def __init__(self, body: bytes | memoryview) -> None:
        if not body:
            raise SegmentDamagedError("it is empty")
        if body[0] != _SYNC_BYTE:
            raise SegmentDamagedError("it does not begin like a transport stream")
        if len(body) % _PACKET:
            raise SegmentDamagedError(f"it ends inside a transport stream packet ({len(body)} bytes)")
        # The packets' headers as numbers. 188 is a multiple of four, so this is a plain array with a wide step.
        self.head = np.frombuffer(body, ">u4")[:: _PACKET // 4].astype(np.uint32)
        lost = np.count_nonzero(self.head >> 24 != _SYNC_BYTE)
        if lost:
            raise SegmentDamagedError(f"{lost} of {len(self.head)} transport stream packets lost their sync byte")
        if (self.head & _ERROR).any():
            raise SegmentDamagedError("some of its transport stream packets are marked as damaged")
        self.flags = self.head.astype(np.uint8)  # the last byte of each header
        self.octets = np.frombuffer(body, np.uint8).reshape(-1, _PACKET)
        # One item per packet: a packet's payload is copied as a whole.
        self._payloads = np.frombuffer(body, [("header", f"V{_HEADER}"), ("payload", f"V{_PAYLOAD}")])["payload"]

    def rows(self, pid: int) -> NDArray[np.int64]:
        """Indices of the packets of this PID."""
        return np.flatnonzero(self.head & _PID == pid << 8)

    def adaptation_fields(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many bytes of each packet the adaptation field takes, 184 where there is no payload (section 2.4.3.5)."""
        control = self.flags[rows] & (_ADAPTATION | _FILLED)
        if not control.all():
            raise SegmentDamagedError("some of its transport stream packets have neither payload nor adaptation field")
        lengths = np.zeros(len(rows), np.int64)
        extended = np.flatnonzero(control & _ADAPTATION)
        alone = control[extended] == _ADAPTATION
        stated = self.octets[rows[extended], _HEADER].astype(np.int64)
        if (stated > np.where(alone, 183, 182)).any():
            raise SegmentDamagedError("an adaptation field is longer than its packet")
        lengths[extended] = np.where(alone, _PAYLOAD, stated + 1)
        return lengths

    def may_jump(self, row: int) -> bool:
        """discontinuity_indicator (section 2.4.3.5)."""
        packet = self.octets[row]
        return bool(packet[3] & _ADAPTATION and packet[4] and packet[5] & 0x80)

    def repeats(self, before: int, row: int) -> bool:
        """Whether one packet repeats the other; only the clock reference may differ (section 2.4.3.3)."""
        one, other = self.octets[before], self.octets[row]
        differs = one != other
        if one[3] & _ADAPTATION and one[4] >= 7 and one[5] & 0x10:
            differs[6:12] = False
        return not differs.any()

    def payloads(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Everything behind the packets' headers, 184 bytes for each; a copy."""
        return self._payloads[rows].view(np.uint8)

    def pairs(self, pid: int) -> list[tuple[bool, bytes]]:
        """payload_unit_start_indicator and payload of each packet."""
        rows = self.rows(pid)
        return [
            (bool(self.head[row] & _STARTS), self.octets[row, _HEADER + skip :].tobytes())
            for row, skip in zip(rows.tolist(), self.adaptation_fields(rows).tolist(), strict=True)
            if skip < _PAYLOAD
        ]


def _streams(packets: _Packets) -> list[Stream]:
    """The streams that the segment's tables name. Tables are held to their checksums, not to their counters."""
    maps = parse_program_association(read_sections(packets.pairs(_ASSOCIATION_PID)))
    if not maps:
        raise SegmentDamagedError("it has no program association table")
    streams = [stream for pid in maps for stream in parse_program_map(read_sections(packets.pairs(pid)))]
    if not streams:
        raise SegmentDamagedError("it has no program map")
    return streams


def _choose(packets: _Packets, streams: list[Stream]) -> tuple[int | None, int | None]:
    """PIDs of picture and sound. Announced streams without a packet count for nothing."""
    alive = [stream for stream in streams if len(packets.rows(stream.pid))]
    others = sorted({stream.other_media for stream in alive if stream.other_media is not None})
    if others:
        raise UnsupportedMediaError(f"{', '.join(others)} in a transport stream")
    chosen: list[int | None] = []
    for stream_type, name in ((H264, "pictures"), (AAC, "sound")):
        pids = {stream.pid for stream in alive if stream.stream_type == stream_type}
        if len(pids) > 1:
            raise UnsupportedMediaError(f"{len(pids)} streams of {name} in a segment")
        chosen.append(pids.pop() if pids else None)
    video, audio = chosen
    if video is not None and video == audio:
        raise SegmentDamagedError("its program map gives picture and sound the same PID")
    return video, audio


@dataclass(slots=True, eq=False)
class _Elementary:
    """The payload of one PID's PES packets."""

    stream: GappedStream
    starts: NDArray[np.int64]  # where in the stream each PES packet's payload begins
    timed: NDArray[np.bool_]  # which PES packets have a time
    pts: NDArray[np.int64]  # 90 kHz
    dts: NDArray[np.int64]  # equal to pts where the packet has none

    @property
    def origin(self) -> int:
        """The first decoding time."""
        return int(self.dts[self.timed.argmax()])

    def unwrap(self, base: int) -> int:
        """Put all times within half a turn of the clock around ``base``; returns the least."""
        half, turn = 1 << _CLOCK_BITS - 1, 1 << _CLOCK_BITS
        delay = (self.pts - self.dts) % turn
        if delay.max() > _LONGEST_DELAY:
            raise SegmentDamagedError("some of it would be shown before it is decoded, or long after")
        self.dts = base + (self.dts - base + half) % turn - half
        self.pts = self.dts + delay
        return int(self.dts[self.timed].min(initial=base))

    def delay(self, ticks: int) -> None:
        """Move all times."""
        self.dts += ticks
        self.pts += ticks


def _read_elementary(packets: _Packets, pid: int, name: str) -> _Elementary:
    """Join the PES packets of one PID (section 2.4.3.6)."""
    rows, skip = _continuous(packets, pid, name)
    starting = packets.head[rows] & _STARTS != 0
    if not len(rows) or not starting[0]:
        # Segments are cut where PES packets begin, so the packet with the beginning is missing. (libavformat drops
        # such bytes without a word.)
        raise SegmentDamagedError(f"its {name} begins inside a PES packet")
    flat = packets.payloads(rows)
    starts = np.flatnonzero(starting)
    fields = np.flatnonzero(skip)
    stream = GappedStream(flat, fields * _PAYLOAD, skip[fields])
    begins = stream.offsets(starts * _PAYLOAD + skip[starts])
    sizes = np.diff(begins, append=len(stream))
    if (sizes < _PES_HEADER).any():
        raise SegmentDamagedError(f"a PES packet of its {name} is shorter than its header")
    octets = _first_bytes(stream, begins)
    header = _PES_HEADER + octets[:, _PES_HEADER - 1].astype(np.int64)
    if (header > sizes).any():
        raise SegmentDamagedError(f"a PES packet of its {name} is shorter than its header")
    timed, pts, dts = _pes_headers(octets, sizes, header, name)
    skip[starts] += header
    if (skip[starts] > _PAYLOAD).any():
        # A header that goes on in the next packet.
        stream = GappedStream(np.frombuffer(stream.joined(), np.uint8), begins, header)
    else:
        gaps = np.flatnonzero(skip)
        stream = GappedStream(flat, gaps * _PAYLOAD, skip[gaps])
    return _Elementary(stream, begins - np.cumsum(header) + header, timed, pts, dts)


def _first_bytes(stream: GappedStream, begins: NDArray[np.int64]) -> NDArray[np.uint8]:
    """As many bytes of each PES packet as a header with both times has; what is behind the stream's end is anything."""
    places = stream.places(begins)
    wanted: NDArray[np.int64] = places[:, None] + np.arange(_PES_FIELDS)
    if (places % _PAYLOAD + _PES_FIELDS > _PAYLOAD).any():  # Nearly always each lies in one packet.
        wanted = stream.places(np.minimum(begins[:, None] + np.arange(_PES_FIELDS), len(stream) - 1))
    return stream.octets[wanted]


def _continuous(packets: _Packets, pid: int, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the packets with payload and the sizes of their adaptation fields; looks at the continuity counters.

    Section 2.4.3.3: the counter goes up with each packet that has a payload and stays with one that has none; a
    packet may be sent twice.
    """
    rows = packets.rows(pid)
    flags = packets.flags[rows]
    if (flags & _SCRAMBLED).any():
        raise UnsupportedMediaError(f"scrambled {name}")
    skip = packets.adaptation_fields(rows)
    counted = (flags & _FILLED) >> 4
    unexpected = np.flatnonzero((flags[1:] - flags[:-1]) & 0x0F != counted[1:]) + 1
    filled = counted.astype(np.bool_)
    repeated = -1
    for index in unexpected.tolist():
        before, row = int(rows[index - 1]), int(rows[index])
        if packets.repeats(before, row) and repeated != index - 1:
            repeated = index
            filled[index] = False
        elif packets.repeats(before, row) or not packets.may_jump(row):
            raise SegmentDamagedError(f"transport stream packets of its {name} are missing")
    if filled.all():
        return rows, skip
    return rows[filled], skip[filled]


def _pes_headers(
    octets: NDArray[np.uint8], sizes: NDArray[np.int64], header: NDArray[np.int64], name: str
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Which of these PES headers have a time, PTS, and DTS; DTS is like PTS where there is none (section 2.4.3.7)."""
    if (octets[:, :3] != (0, 0, 1)).any() or (octets[:, 6] & 0xC0 != 0x80).any():
        raise SegmentDamagedError(f"a PES packet of its {name} has a broken header")
    if _BARE_STREAM_IDS & set(octets[:, 3].tolist()):
        raise SegmentDamagedError(f"a PES packet of its {name} carries something else")
    if (octets[:, 6] & 0x30).any():
        raise UnsupportedMediaError(f"scrambled {name}")
    stated = octets[:, 4].astype(np.int64) << 8 | octets[:, 5]
    if ((stated > 0) & (stated + 6 != sizes)).any():
        raise SegmentDamagedError(f"a PES packet of its {name} is not as long as it says")
    which = octets[:, 7] >> 6
    if (which == 1).any() or (header < _PES_HEADER + np.array((0, 0, 5, 10))[which]).any():
        raise SegmentDamagedError(f"a PES packet of its {name} has a broken header")
    timed, twice = which >= 2, which == 3
    pts, pts_marked = _clock(octets[:, 9:14])
    dts, dts_marked = _clock(octets[:, 14:19])
    if not (pts_marked | ~timed).all() or not (dts_marked | ~twice).all():
        raise SegmentDamagedError(f"a PES packet of its {name} has a broken time")
    pts[~timed] = 0
    return timed, pts, np.where(twice, dts, pts)


def _clock(octets: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """33 bits in five bytes, and whether the marker bits between them are there (section 2.4.3.6)."""
    marked = octets[:, 0] & octets[:, 2] & octets[:, 4] & 1 != 0
    first, second, third, fourth, fifth = octets.T.astype(np.int64)
    return (first >> 1 & 7) << 30 | second << 22 | third >> 1 << 15 | fourth << 7 | fifth >> 1, marked


def _video(video: _Elementary) -> TrackSamples:
    """The picture's samples. A PES packet without a time continues the one before.

    Decoding times have to grow: one that does not, but is at most `OVERLAP_S` late, is moved to one tick behind the
    time before it, and its picture is not shown before that.
    """
    if not video.timed[0]:
        raise SegmentDamagedError("its picture has no time")
    pts, dts = video.pts[video.timed], video.dts[video.timed]
    pictures = read_byte_stream(video.stream, video.starts[video.timed])
    steps = np.diff(dts)
    if (steps <= 0).any():
        order = np.arange(len(dts))
        moved = np.maximum.accumulate(dts - order) + order
        if (moved - dts).max() > OVERLAP_S * TIMESCALE:
            raise SegmentDamagedError("its picture goes back in time")
        dts, pts = moved, np.maximum(pts, moved)
        steps = np.diff(dts)
    tail = int(np.median(steps)) if len(steps) else pictures.parameters.ticks_per_frame or _USUAL_FRAME
    return TrackSamples(
        format=pictures.format,
        sizes=pictures.sizes,
        dts=dts,
        cts=(pts - dts).astype(np.int32),
        sync=pictures.sync,
        tail=tail,
        payload=pictures.payload,
    )
