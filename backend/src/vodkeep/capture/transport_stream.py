"""Reads MPEG transport stream segments (ISO/IEC 13818-1) into the samples of an MP4.

How the parts work together: the packet headers of the whole segment are looked at together, as arrays. The tables
(`program_tables`) say which PIDs carry picture and sound. The payloads of each of the two are joined, with the PES
headers taken out and remembered; `h264` and `aac` split what remains into samples. Nothing is decoded and nothing is
repaired: a segment with a packet missing or a header broken is refused as a whole, because it can be fetched again.

What cannot be noticed here is damage inside the coded picture and sound, and packets missing at the end of the segment
if they belong to a picture: its length is stated nowhere. Whoever fetches compares the length of the body.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vodkeep.capture.aac import read_adts
from vodkeep.capture.h264 import TIMESCALE, read_byte_stream
from vodkeep.capture.probe import SegmentDamagedError, check_transport_stream
from vodkeep.capture.program_tables import (
    AAC,
    H264,
    Stream,
    parse_program_association,
    parse_program_map,
    read_sections,
)
from vodkeep.capture.samples import SegmentSamples, TrackSamples, UnsupportedMediaError

_PACKET = 188  # bytes, section 2.4.3.2
_HEADER = 4
_PAYLOAD = _PACKET - _HEADER
_ASSOCIATION_PID = 0
_CLOCK_BITS = 33
_PES_HEADER = 9  # bytes before the optional fields, section 2.4.3.6
_PES_FIELDS = 19  # with PTS and DTS
# Streams whose PES packets have no such header: program stream map and directory, padding, private_stream_2, ECM,
# EMM, DSM-CC and type E of H.222.1 (section 2.4.3.7).
_BARE_STREAM_IDS = (0xBC, 0xFF, 0xBE, 0xBF, 0xF0, 0xF1, 0xF2, 0xF8)
# Decoding times this close to each other, or going back this little, come from rounding and are moved apart.
_TINY_STEP = TIMESCALE // 1000
# For a single picture that says nothing about its duration.
_USUAL_FRAME = TIMESCALE // 30


def read_transport_stream(body: bytes) -> SegmentSamples:
    """Take the samples out of one segment.

    Times are those of the segment, in ticks of each track's timescale, unwrapped: never negative, and continuing
    beyond 2**33 / 90000 s if the clock wraps within the segment.

    Raises `SegmentDamagedError` if the bytes are not a whole, healthy segment, and `UnsupportedMediaError` if they hold
    something else than at most one H.264 and at most one AAC stream, or one that cannot be cut out of the segment
    alone. A flipped bit can make a segment look unsupported, so fetch it twice before believing that.
    """
    if not body:
        raise SegmentDamagedError("it is empty")
    check_transport_stream(body)
    packets = _Packets(body)
    video_pid, audio_pid = _choose(packets, _streams(packets))
    video = _read_elementary(packets, video_pid, "picture") if video_pid is not None else None
    audio = _read_elementary(packets, audio_pid, "sound") if audio_pid is not None else None
    first = video or audio
    if first is None:
        raise SegmentDamagedError("it holds neither picture nor sound")
    base = first.origin
    tracks: list[TrackSamples] = []
    earliest = min(stream.unwrap(base) for stream in (video, audio) if stream is not None)
    for stream in (video, audio):
        if stream is not None and earliest < 0:
            stream.delay(1 << _CLOCK_BITS)
    if video is not None:
        tracks.append(_video(video))
    if audio is not None:
        tracks.append(read_adts(memoryview(audio.data), audio.starts, audio.pts))
    return SegmentSamples(tuple(tracks))


class _Packets:
    """The transport stream packets of a segment. Raises `SegmentDamagedError` if one says that it is damaged."""

    def __init__(self, body: bytes) -> None:
        self.octets = np.frombuffer(body, np.uint8).reshape(-1, _PACKET)
        # A copy, because the headers lie 188 bytes apart and are looked at several times.
        head = self.octets[:, :6].copy()
        self.flags = head[:, 3]
        self.pid = (head[:, 1].astype(np.uint16) & 0x1F) << 8 | head[:, 2]
        self.starts = head[:, 1] & 0x40 != 0
        self._adaptation = head[:, 4:6]
        if (head[:, 1] & 0x80).any():
            raise SegmentDamagedError("some of its transport stream packets are marked as damaged")

    def rows(self, pid: int) -> NDArray[np.int64]:
        """Indices of the packets of this PID."""
        return np.flatnonzero(self.pid == pid)

    def payload_offsets(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the payload begins in each packet; 188 where there is none (section 2.4.3.3)."""
        control = self.flags[rows] & 0x30
        if not control.all():
            raise SegmentDamagedError("some of its transport stream packets have neither payload nor adaptation field")
        offsets = np.full(len(rows), _HEADER, np.int64)
        extended = np.flatnonzero(control & 0x20)
        if len(extended):
            # Section 2.4.3.5: up to 183 bytes long alone, up to 182 before a payload.
            length = self._adaptation[rows[extended], 0].astype(np.int64)
            alone = control[extended] == 0x20
            if (length > np.where(alone, 183, 182)).any():
                raise SegmentDamagedError("an adaptation field is longer than its packet")
            offsets[extended] = np.where(alone, _PACKET, _HEADER + 1 + length)
        return offsets

    def may_jump(self, row: int) -> bool:
        """discontinuity_indicator (section 2.4.3.5)."""
        return bool(self.flags[row] & 0x20 and self._adaptation[row, 0] and self._adaptation[row, 1] & 0x80)

    def pairs(self, pid: int) -> list[tuple[bool, bytes]]:
        """payload_unit_start_indicator and payload of each packet."""
        rows = self.rows(pid)
        offsets = self.payload_offsets(rows)
        return [
            (bool(self.starts[row]), self.octets[row, offset:].tobytes())
            for row, offset in zip(rows.tolist(), offsets.tolist(), strict=True)
            if offset < _PACKET
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
    present = np.flatnonzero(np.bincount(packets.pid, minlength=1 << 13))
    alive = [stream for stream in streams if stream.pid in present]
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

    data: bytearray
    starts: NDArray[np.int64]  # where in `data` each PES packet's payload begins
    pts: NDArray[np.int64]  # 90 kHz; -1: none
    dts: NDArray[np.int64]  # equal to pts where the packet has none

    @property
    def origin(self) -> int:
        """The first decoding time."""
        timed = self.dts[self.pts >= 0]
        return int(timed[0]) if len(timed) else 0

    def unwrap(self, base: int) -> int:
        """Put all times within half a turn of the clock around ``base``; returns the least."""
        half, turn = 1 << _CLOCK_BITS - 1, 1 << _CLOCK_BITS
        timed = self.pts >= 0
        if not timed.any():
            return base
        dts = base + (self.dts - base + half) % turn - half
        # A picture is shown when it is decoded or later.
        pts = dts + (self.pts - self.dts) % turn
        if (pts - dts)[timed].max() >= half:
            raise SegmentDamagedError("some of it would be shown before it is decoded")
        self.dts, self.pts = np.where(timed, dts, self.dts), np.where(timed, pts, self.pts)
        return int(dts[timed].min())

    def delay(self, ticks: int) -> None:
        """Move all times."""
        timed = self.pts >= 0
        self.dts, self.pts = self.dts + timed * ticks, self.pts + timed * ticks


def _read_elementary(packets: _Packets, pid: int, name: str) -> _Elementary:
    """Join the PES packets of one PID (section 2.4.3.6)."""
    rows, offsets = _continuous(packets, pid, name)
    if not len(rows):
        raise SegmentDamagedError(f"its {name} has no payload")
    starts = np.flatnonzero(packets.starts[rows])
    if not len(starts) or starts[0] != 0:
        # Segments are cut where PES packets begin, so the packet with the beginning is missing. (libavformat drops
        # such bytes without a word.)
        raise SegmentDamagedError(f"its {name} begins inside a PES packet")
    flat = packets.octets[rows, _HEADER:].reshape(-1)
    skip = offsets - _HEADER
    length = _PAYLOAD - skip
    sizes = np.add.reduceat(length, starts)
    if (sizes < _PES_HEADER).any():
        raise SegmentDamagedError(f"a PES packet of its {name} is shorter than its header")
    places = starts * _PAYLOAD + skip[starts]
    room = length[starts]
    header = _PES_HEADER + flat[np.minimum(places + _PES_HEADER - 1, len(flat) - 1)].astype(np.int64)
    if ((room < _PES_HEADER) | (room < header)).any():
        # A header that goes on in the next packet: take the adaptation fields out first.
        flat = np.frombuffer(_without(flat, np.arange(len(rows)) * _PAYLOAD, skip), np.uint8)
        places = np.cumsum(sizes) - sizes
        header = _PES_HEADER + flat[places + _PES_HEADER - 1].astype(np.int64)
        pts, dts = _pes_headers(flat, places, sizes, header, name)
        data = _without(flat, places, header)
    else:
        pts, dts = _pes_headers(flat, places, sizes, header, name)
        skip[starts] += header
        data = _without(flat, np.arange(len(rows)) * _PAYLOAD, skip)
    sizes = sizes - header
    return _Elementary(data, np.cumsum(sizes) - sizes, pts, dts)


def _continuous(packets: _Packets, pid: int, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and payload offsets of the packets with payload, after a look at the continuity counters.

    Section 2.4.3.3: the counter goes up with each packet that has a payload and stays with one that has none; a
    packet may be sent twice.
    """
    rows = packets.rows(pid)
    if (packets.flags[rows] & 0xC0).any():
        raise UnsupportedMediaError(f"scrambled {name}")
    offsets = packets.payload_offsets(rows)
    filled = offsets < _PACKET
    counter = packets.flags[rows] & 0x0F
    step = (counter[1:] - counter[:-1]) & 0x0F
    unexpected = np.flatnonzero(step != filled[1:]) + 1
    if len(unexpected):
        repeated = -1
        for index in unexpected.tolist():
            row, before = int(rows[index]), int(rows[index - 1])
            if packets.may_jump(row):
                continue
            same = filled[index] and filled[index - 1] and counter[index] == counter[index - 1]
            if not same or repeated == index - 1 or not _same_packet(packets.octets[before], packets.octets[row]):
                raise SegmentDamagedError(f"transport stream packets of its {name} are missing")
            repeated = index
            filled[index] = False
    if filled.all():
        return rows, offsets
    return rows[filled], offsets[filled]


def _same_packet(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether one packet repeats the other; only the clock reference may differ (section 2.4.3.3)."""
    differs = one != other
    if one[3] & 0x20 and one[4] >= 7 and one[5] & 0x10:
        differs[6:12] = False
    return not differs.any()


def _without(flat: NDArray[np.uint8], places: NDArray[np.int64], skip: NDArray[np.int64]) -> bytearray:
    """``flat`` without ``skip`` bytes at each of ``places``, which are in ascending order and do not overlap."""
    cut = np.flatnonzero(skip)
    begins = places[cut] + skip[cut]
    ends = np.append(places[cut[1:]], len(flat))
    view = flat.data
    pieces = [view[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
    if len(cut) and places[cut[0]] > 0:
        pieces.insert(0, view[: int(places[cut[0]])])
    return bytearray().join(pieces)


def _pes_headers(
    flat: NDArray[np.uint8],
    places: NDArray[np.int64],
    sizes: NDArray[np.int64],
    header: NDArray[np.int64],
    name: str,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """PTS and DTS of the PES packets at ``places``; PTS -1 where there is none, DTS like PTS where there is none."""
    # Behind a header at the very end there may be less than the optional fields take; then they are not read.
    fields = flat[np.minimum(places[:, None] + np.arange(_PES_FIELDS), len(flat) - 1)].astype(np.int64)
    if (fields[:, :3] != (0, 0, 1)).any() or (fields[:, 6] & 0xC0 != 0x80).any():
        raise SegmentDamagedError(f"a PES packet of its {name} has a broken header")
    if np.isin(fields[:, 3], _BARE_STREAM_IDS).any():
        raise SegmentDamagedError(f"a PES packet of its {name} carries something else")
    if (fields[:, 6] & 0x30).any():
        raise UnsupportedMediaError(f"scrambled {name}")
    stated = fields[:, 4] << 8 | fields[:, 5]
    if ((stated > 0) & (stated + 6 != sizes)).any():
        raise SegmentDamagedError(f"a PES packet of its {name} is not as long as it says")
    times = fields[:, 7] >> 6
    if (header > sizes).any() or (times == 1).any() or (header < _PES_HEADER + np.array((0, 0, 5, 10))[times]).any():
        raise SegmentDamagedError(f"a PES packet of its {name} has a broken header")
    has_pts, has_dts = times >= 2, times == 3
    # Bit 0 of the first, third and fifth byte of each time.
    if (fields[has_pts, 9] & fields[has_pts, 11] & fields[has_pts, 13] & 1 == 0).any() or (
        fields[has_dts, 14] & fields[has_dts, 16] & fields[has_dts, 18] & 1 == 0
    ).any():
        raise SegmentDamagedError(f"a PES packet of its {name} has a broken time")
    pts = np.where(has_pts, _clock(fields[:, 9:14]), -1)
    return pts, np.where(has_dts, _clock(fields[:, 14:19]), pts)


def _clock(fields: NDArray[np.int64]) -> NDArray[np.int64]:
    """33 bits in five bytes, section 2.4.3.6."""
    top, middle, bottom = (
        fields[:, 0] >> 1 & 7,
        fields[:, 1] << 7 | fields[:, 2] >> 1,
        fields[:, 3] << 7 | fields[:, 4] >> 1,
    )
    return top << 30 | middle << 15 | bottom


def _video(stream: _Elementary) -> TrackSamples:
    """The picture's samples. A PES packet without a time continues the one before."""
    timed = stream.pts >= 0
    if not timed[0]:
        raise SegmentDamagedError("its picture has no time")
    starts, pts, dts = stream.starts, stream.pts, stream.dts
    if not timed.all():
        starts, pts, dts = starts[timed], pts[timed], dts[timed]
    pictures = read_byte_stream(stream.data, starts)
    steps = np.diff(dts)
    if (steps <= 0).any():
        order = np.arange(len(dts))
        moved = np.maximum.accumulate(dts - order) + order
        if (moved - dts).max() > _TINY_STEP:
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
